//! Server-sent events.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::scene::Scene;
use crate::support::hosts::Family;
use crate::whip::client::Offer;

pub(crate) fn all() -> Result<()> {
    let scene = Scene::new(Family::V4)?;
    let mut stream = scene.operator.follow("/api/events", &[])?;
    let hello = stream.next()?.context("nothing")?;
    ensure!(
        hello.name == "hello" && hello.data["server"] == "lab",
        "{hello:?}"
    );
    let (client, id) = scene.client(&Offer::messages())?;
    let came = stream.until(|event| event.name == "client")?;
    ensure!(came.data["id"] == *id, "{came:?}");
    stream.until(|event| event.name == "client" && event.data["state"] == "connected")?;
    let sample = stream
        .until(|event| event.name == "sample" && event.data["sample"]["rtt_ms"].is_number())?;
    ensure!(sample.data["client"] == *id, "{sample:?}");
    ensure!(sample.data["verdict"]["level"].is_string(), "{sample:?}");
    ensure!(sample.data["applied"]["stun"]["ttl"] == 64, "{sample:?}");

    let path = format!("/api/clients/{id}");
    let options = format!("{path}/socket-options");
    scene
        .operator
        .post(&options, &json!({"ttl": 30}))?
        .is(200)?;
    let changed = stream.until(|event| event.name == "options")?;
    ensure!(changed.data["by"] == "token", "{changed:?}");
    ensure!(changed.data["asked"]["all"]["ttl"] == 30, "{changed:?}");
    ensure!(changed.data["guard"]["state"] == "watching", "{changed:?}");
    let audit = stream.until(|event| event.name == "audit")?;
    ensure!(audit.data["action"] == "options.set", "{audit:?}");
    let asker = scene.hosts.sides[0].address.to_string();
    ensure!(audit.data["from"] == *asker, "{audit:?}");

    let trace = json!({"kind": "trace", "rounds": 1});
    scene
        .operator
        .post(&format!("{path}/measurements"), &trace)?
        .is(201)?;
    let begun = stream.until(|event| event.name == "measurement")?;
    ensure!(begun.data["state"] == "running", "{begun:?}");
    let row = stream.until(|event| event.name == "row")?;
    ensure!(row.data["measurement"] == begun.data["id"], "{row:?}");
    ensure!(row.data["event"]["event"].is_string(), "{row:?}");
    stream.until(|event| event.name == "measurement" && event.data["state"] == "done")?;

    ensure!(client.delete()?.status() == 200);
    let ended = stream.until(|event| event.name == "client" && event.data["ended"].is_string())?;
    ensure!(ended.data["state"] == "closed", "{ended:?}");
    Ok(())
}

pub(crate) fn resumed() -> Result<()> {
    let scene = Scene::new(Family::V4)?;
    let mut stream = scene.operator.follow("/api/events", &[])?;
    let (_one, first) = scene.client(&Offer::messages())?;
    let (_two, second) = scene.client(&Offer::messages())?;
    let mut last = 0;
    for _ in 0..10 {
        let event = stream.next()?.context("the end")?;
        let id = event.id.context("no id")?;
        ensure!(
            event.name == "hello" || id == last + 1,
            "{event:?} after {last}"
        );
        last = id;
    }
    drop(stream);
    let place = last.to_string();
    let mut stream = scene
        .operator
        .follow("/api/events", &[("last-event-id", &place)])?;
    ensure!(stream.next()?.context("the end")?.name == "hello");
    for number in 1..=10 {
        let event = stream.next()?.context("the end")?;
        ensure!(event.id == Some(last + number), "{event:?} after {last}");
    }

    let mut of_one = scene
        .operator
        .follow(&format!("/api/events?client={second}"), &[])?;
    ensure!(of_one.next()?.context("the end")?.name == "hello");
    for _ in 0..4 {
        let event = of_one.next()?.context("the end")?;
        ensure!(!event.data.to_string().contains(&first), "{event:?}");
    }
    Ok(())
}
