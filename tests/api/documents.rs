//! Pages, the description of the API, and metrics.

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use serde_json::json;

use super::scene::Scene;
use crate::support::hosts::Family;
use crate::whip::client::Offer;

pub(crate) fn pages() -> Result<()> {
    let scene = Scene::new(Family::V4)?;
    let get = |path: &str, headers: &[(&str, &str)]| {
        scene
            .operator
            .send(Method::GET, path, headers, String::new())
    };
    for (path, kind) in [
        ("/", "text/html"),
        ("/dashboard", "text/html"),
        ("/r/0123456789abcdef0123456789abcdef", "text/html"),
        ("/assets/style.css", "text/css"),
        ("/assets/dashboard/main.js", "text/javascript"),
        ("/assets/vendor/uPlot.esm.js", "text/javascript"),
        ("/assets/icon.svg", "image/svg+xml"),
    ] {
        let answer = get(path, &[])?;
        ensure!(answer.status == 200, "{path}: {answer:?}");
        ensure!(answer.header("content-type")?.starts_with(kind), "{path}");
        let policy = answer.header("content-security-policy")?;
        ensure!(
            policy.contains("default-src 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        ensure!(answer.header("x-content-type-options")? == "nosniff");
        if kind == "text/html" {
            let page = answer.text()?.to_lowercase();
            let inline = page
                .split("<script")
                .skip(1)
                .any(|tag| !tag.contains("src="));
            ensure!(
                !inline && !page.contains(" style="),
                "{path} has script or style in it"
            );
            ensure!(
                !page.contains("http://") && !page.contains("https://"),
                "{path}"
            );
        }
        let tag = answer.header("etag")?.to_owned();
        let again = get(path, &[("if-none-match", &tag)])?;
        ensure!(again.status == 304 && again.bytes.is_empty(), "{again:?}");
    }
    get("/assets/../Cargo.toml", &[])?.problem(404, "nothing at")?;
    let health = get("/healthz", &[])?;
    ensure!(health.text()? == "ok");
    Ok(())
}

pub(crate) fn openapi() -> Result<()> {
    let scene = Scene::new(Family::V4)?;
    let document = scene.operator.get("/api/openapi.json")?.is(200)?;
    ensure!(document["openapi"] == "3.1.0", "{}", document["openapi"]);
    let described = [
        ("/api/clients", &["get"][..]),
        ("/api/clients/{id}", &["get"]),
        (
            "/api/clients/{id}/socket-options",
            &["get", "post", "delete"],
        ),
        ("/api/clients/{id}/measurements", &["get", "post"]),
        (
            "/api/clients/{id}/measurements/{measurement}",
            &["get", "delete"],
        ),
        ("/api/clients/{id}/samples", &["get"]),
        ("/api/clients/{id}/changes", &["get"]),
        ("/api/clients/{id}/export", &["get"]),
        ("/api/events", &["get"]),
        ("/api/audit", &["get"]),
        ("/api/server", &["get"]),
        ("/metrics", &["get"]),
        ("/self/{id}", &["get"]),
        ("/self/{id}/events", &["get"]),
        ("/self/{id}/share", &["post"]),
        ("/r/{share}/result", &["get"]),
        ("/healthz", &["get"]),
    ];
    let paths = document["paths"].as_object().context("no paths")?;
    ensure!(paths.len() == described.len(), "{:?}", paths.keys());
    for (path, methods) in described {
        let known = paths[path].as_object().context("no methods")?;
        ensure!(known.len() == methods.len(), "{path}: {:?}", known.keys());
        for method in methods {
            let operation = &document["paths"][path][method];
            ensure!(operation.is_object(), "{method} {path} is not described");
            let public = path.starts_with("/self") || path.starts_with("/r/") || path == "/healthz";
            ensure!(
                operation["security"].is_array() != public,
                "{path} {operation}"
            );
        }
    }
    // Every name that is pointed to is there.
    let text = document.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().context("a name")?;
        let schema = &document["components"]["schemas"][name];
        ensure!(schema.is_object(), "{name} is not described");
    }
    let page = scene.operator.get("/api/docs")?;
    ensure!(page.text()?.contains("/api/clients/{id}/socket-options"));
    Ok(())
}

pub(crate) fn metrics() -> Result<()> {
    let scene = Scene::recorded(Family::V4)?;
    let (mut client, id) = scene.client(&Offer::messages())?;
    client.echo("hello")?;
    scene.wait_for(&id, "to be sampled", |view| {
        view["sample"]["rtt_ms"].is_number()
    })?;
    let options = format!("/api/clients/{id}/socket-options");
    scene
        .operator
        .post(&options, &json!({"ttl": 20}))?
        .is(200)?;
    let answer = scene.operator.get("/metrics")?;
    ensure!(answer.status == 200, "{answer:?}");
    let kind = answer.header("content-type")?;
    ensure!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = answer.text()?;
    for line in [
        "perpacket_clients{state=\"connected\"} 1",
        "perpacket_datagrams_total{class=\"dtls\",direction=\"sent\"} ",
        "perpacket_payload_bytes_total{class=\"stun\",direction=\"received\"} ",
        "perpacket_round_trip_seconds_count ",
        "perpacket_history_recording 1",
        "# EOF",
    ] {
        ensure!(text.contains(line), "{line} is not in\n{text}");
    }
    ensure!(!text.contains(&id), "clients are named");
    Ok(())
}
