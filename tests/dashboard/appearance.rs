//! Pages on a phone and on a desk, by day and by night.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::page::{DESK, PHONE, Page, Scheme};
use super::scene::Scene;
use crate::support::hosts::Family;

const MEASUREMENTS: [&str; 4] = [
    r#"{"kind": "trace", "rounds": 2}"#,
    r#"{"kind": "pmtu", "refine": true}"#,
    r#"{"kind": "qos", "count": 20, "marks": ["CS0", "EF", "LE"]}"#,
    r#"{"kind": "ttl"}"#,
];

pub(crate) fn everywhere() -> Result<()> {
    let scene = Scene::new(Family::V4)?;
    let page = Page::open(&scene.far.node, &scene.url("/dashboard"))?;
    let fits = |name: &str, selector: &str| fits(&page, name, selector);
    fits("login", "#login-form")?;
    page.fill("#token", &scene.api.token)?;
    page.click("#login-form .primary")?;
    fits("clients-none", ".empty h2")?;

    let (_program, id, _media) = scene.program()?;
    scene.wait_for_first_look(&id)?;
    let path = format!("/api/clients/{id}");
    let options = json!({"dscp": "AF41", "ecn": "ect0", "class": "srtp"});
    scene
        .api
        .post(&format!("{path}/socket-options"), &options)?
        .is(200)?;
    let mut kinds = Vec::new();
    for request in MEASUREMENTS {
        let request = serde_json::from_str(request)?;
        let run = scene
            .api
            .post(&format!("{path}/measurements"), &request)?
            .is(201)?;
        kinds.push(run["kind"].as_str().context("no kind")?.to_owned());
    }
    scene.wait_for(&id, "to be measured", |view| {
        let runs = view["measurements"].as_array();
        runs.is_some_and(|runs| runs.iter().all(|run| run["state"] == "done"))
    })?;
    fits("clients", ".clients tbody a")?;
    page.go_to(&scene.url(&format!("/dashboard/clients/{id}")))?;
    for kind in kinds {
        page.wait_for_text(&format!(".card.{kind} [role=status]"), "done after")?;
    }
    fits("client-all", ".card.qos .forest")?;
    page.click("#to-audit")?;
    fits("audit", ".audit tbody tr")?;
    page.go_to(&scene.url("/dashboard/nowhere"))?;
    fits("nowhere", ".empty h1")?;

    page.go_to(&scene.url("/"))?;
    fits("begin", "#start")?;
    page.click("#start")?;
    page.wait(
        "with a result",
        "document.querySelector('.answer:not(.unknown)')",
    )?;
    fits("result", "#answer")?;
    page.click("#share")?;
    let link = page.wait("with a link", "document.querySelector('#link').value")?;
    fits("result-with-link", "#link")?;
    page.go_to(link.as_str().context("no link")?)?;
    fits("result-shared", "#answer .verdict")?;
    page.close()
}

/// Fails if one has to scroll sideways to see what is there.
fn fits(page: &Page, name: &str, selector: &str) -> Result<()> {
    let there = format!(
        "document.querySelector({})?.checkVisibility()",
        json!(selector)
    );
    page.wait(&format!("with {selector}"), &there)?;
    for (width, scheme) in [
        (PHONE, Scheme::Dark),
        (PHONE, Scheme::Light),
        (DESK, Scheme::Dark),
        (DESK, Scheme::Light),
    ] {
        page.look(width, scheme)?;
        page.picture(&format!("{name}-{width}-{scheme:?}").to_lowercase())?;
        let [needed, there] = ["scrollWidth", "clientWidth"]
            .map(|of| page.run(&format!("return document.documentElement.{of}")));
        let (needed, there) = (needed?, there?);
        ensure!(
            needed == width && there == width,
            "{name}: {needed} of {there} at {width}"
        );
        let background = page.run("return getComputedStyle(document.body).backgroundColor")?;
        let is_dark = background == "rgb(17, 20, 24)";
        ensure!(
            is_dark == matches!(scheme, Scheme::Dark),
            "{name}: {background} is {scheme:?}"
        );
    }
    Ok(())
}
