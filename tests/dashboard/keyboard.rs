//! Everything can be done without a mouse.

use anyhow::{Context as _, Result, ensure};
use thirtyfour::Key;

use super::page::Page;
use super::scene::Scene;
use crate::support::hosts::Family;

pub(crate) fn alone() -> Result<()> {
    let scene = Scene::new(Family::V4)?;
    let (_program, id, _media) = scene.program()?;
    let page = Page::open(&scene.near.node, &scene.url("/dashboard"))?;
    page.wait(
        "that asks for the token",
        "document.activeElement?.id === 'token'",
    )?;
    page.press(&scene.api.token)?;
    page.press(&Key::Enter.value().to_string())?;
    page.wait(
        "with the client",
        "document.querySelector('.clients tbody a')",
    )?;
    tab_to(&page, "document.activeElement.matches('.clients tbody a')")?;
    let outline = page.run("return getComputedStyle(document.activeElement).outlineStyle")?;
    ensure!(outline == "solid", "where is one? {outline}");
    page.press(&Key::Enter.value().to_string())?;
    page.wait(
        "of the client",
        &format!("location.pathname.endsWith('/{id}')"),
    )?;

    page.wait("with the form", "document.querySelector('#ttl')")?;
    tab_to(&page, "document.activeElement.id === 'ttl'")?;
    page.press("33")?;
    page.press(&Key::Enter.value().to_string())?;
    scene.wait_for(&id, "to have it", |view| view["asked"]["all"]["ttl"] == 33)?;
    page.wait_for_text(".changes li .what", "TTL unset → 33")?;

    // Out of the field, and back to the list, where one was.
    page.press(&Key::Escape.value().to_string())?;
    page.press(&Key::Escape.value().to_string())?;
    page.wait("with the list", "location.pathname === '/dashboard'")?;
    page.wait(
        "where one was",
        "document.activeElement.matches('.clients tbody a')",
    )?;
    page.close()
}

/// Goes on until there.
fn tab_to(page: &Page, is_there: &str) -> Result<()> {
    const FAR: usize = 100;
    for _ in 0..FAR {
        page.press(&Key::Tab.value().to_string())?;
        if page.run(&format!("return {is_there}"))? == true {
            return Ok(());
        }
    }
    let text = page.text("main");
    None.with_context(|| format!("not within {FAR}: {is_there}, {text:?}"))
}
