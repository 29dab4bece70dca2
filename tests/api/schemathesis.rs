//! Schemathesis: requests that are made up from the OpenAPI document, some as it says and some as it does not. What is
//! answered has to be as it says, and never that the server is at fault.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use perpacket_lab::Skip;
use serde_json::json;

use super::scene::Scene;
use crate::support::hosts::Family;
use crate::whip::client::Offer;

const INSTALL: &str = "sh tests/schemathesis/install.sh";

pub(crate) fn finds_nothing() -> Result<()> {
    let program = folder().join("venv/bin/st");
    if !program.exists() {
        return Err(Skip(format!("Schemathesis is not installed: {INSTALL}")).into());
    }
    let scene = Scene::recorded_with(Family::V4, |server| server.rate(100_000, 100_000))?;
    let operator = &scene.operator;
    let (client, id) = scene.client(&Offer::everything())?;
    let _media = client.send_media();
    let measurement = operator
        .post(
            &format!("/api/clients/{id}/measurements"),
            &json!({"kind": "ttl"}),
        )?
        .is(201)?;
    let share = operator.send(
        Method::POST,
        &format!("/self/{id}/share"),
        &[],
        String::new(),
    )?;
    let share = share.is(200)?;
    let share = share["url"]
        .as_str()
        .and_then(|url| url.strip_prefix("/r/"));

    // Nothing is to be left where the test runs.
    let scratch = tempfile::tempdir()?;
    let mut command = Command::new(program);
    command
        .arg("--config-file")
        .arg(folder().join("schemathesis.toml"))
        .arg("run")
        .arg(format!("http://{}/api/openapi.json", scene.address))
        .args(["--no-color", "--max-time", "60"])
        .current_dir(scratch.path())
        .env("PERPACKET_TOKEN", &operator.token)
        .env("PERPACKET_CLIENT", &id)
        .env(
            "PERPACKET_MEASUREMENT",
            measurement["id"].as_str().context("no id")?,
        )
        .env("PERPACKET_SHARE", share.context("no name")?)
        .env("NO_PROXY", "*")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = scene.hosts.sides[0].node.run(|| command.output())?;
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    ensure!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let view = scene.operator.get(&format!("/api/clients/{id}"))?.is(200)?;
    ensure!(view["ended"].is_null(), "the client is gone: {view}");
    Ok(())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemathesis")
}
