//! The page of the one who is measured.

use anyhow::{Result, ensure};

use super::scene::Scene;
use crate::support::hosts::Family;

/// It says how the connection is and why, and gives a link to that; when packets get lost, it says so.
pub(crate) fn verdict() -> Result<()> {
    let scene = Scene::new(Family::V4)?;
    let (page, id) = scene.measured()?;
    page.wait(
        "with a verdict",
        "document.querySelector('.answer:is(.good, .fair, .bad)')",
    )?;
    // One on a busy machine may be anything.
    let word = page.text("#answer .verdict")?;
    ensure!(["Good", "Fair", "Bad"].contains(&word.as_str()), "{word}");
    page.wait(
        "with a reason",
        "document.querySelector('#answer li')?.textContent",
    )?;
    scene.wait_for_first_look(&id)?;
    page.wait_for_text("#facts", "1,400 bytes")?;
    page.wait_for_text("#facts", "3 steps")?;
    page.picture("measured")?;

    page.click("#share")?;
    let link = page.wait("with a link", "document.querySelector('#link').value")?;
    let link = link.as_str().unwrap_or_default().to_owned();
    ensure!(
        link.starts_with(&scene.url("/r/")) && !link.contains(&id),
        "{link}"
    );

    scene.lose(&scene.view(&id)?, 30)?;
    page.wait_for_text("#answer .verdict", "Bad")?;
    page.wait(
        "with loss as the reason",
        "/[1-9].*% of packets lost/.test(document.querySelector('#answer li').textContent)",
    )?;
    page.picture("measured-lossy")?;

    page.go_to(&link)?;
    page.wait_for_text("#facts", "1,400 bytes")?;
    ensure!(page.text("#when")?.starts_with("Measured on "));
    let shown = page.text("main")?;
    let told = [scene.far.address.to_string(), id];
    ensure!(!told.iter().any(|it| shown.contains(it)), "{shown}");
    page.picture("shared")?;
    page.close()
}
