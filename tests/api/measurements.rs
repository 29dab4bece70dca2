//! Measurements of a client's path.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::until;
use serde_json::{Value, json};

use super::scene::Scene;
use crate::support::connection::DEADLINE;
use crate::support::hosts::Family;
use crate::whip::client::Offer;

/// Begins one, and returns its path.
fn begin(scene: &Scene, id: &str, body: &Value) -> Result<String> {
    let answer = scene
        .operator
        .post(&format!("/api/clients/{id}/measurements"), body)?;
    let location = answer.header("location").map(str::to_owned);
    let info = answer.is(201)?;
    let location = location?;
    ensure!(
        info["kind"] == body["kind"] && info["state"] == "running",
        "{info}"
    );
    ensure!(
        location.ends_with(info["id"].as_str().context("no name")?),
        "{location}"
    );
    Ok(location)
}

fn result(scene: &Scene, path: &str) -> Result<Value> {
    let mut last = Value::Null;
    let done = until(
        DEADLINE,
        || "the measurement to end".to_owned(),
        || {
            last = scene.operator.get(path).expect("an answer").json;
            std::thread::sleep(Duration::from_millis(20));
            Ok((last["state"] != "running").then(|| last.clone()))
        },
    );
    let done = done.with_context(|| format!("{last:#}"))?;
    ensure!(done["state"] == "done", "{done:#}");
    ensure!(
        done["ended"].is_string() && done["error"] == Value::Null,
        "{done:#}"
    );
    Ok(done)
}

pub(crate) fn all() -> Result<()> {
    let scene = Scene::recorded(Family::V4)?;
    let (_client, id) = scene.client(&Offer::messages())?;
    let hops = scene.hosts.routers() + 1;

    let body = json!({"kind": "trace", "rounds": 2, "interval_ms": 200});
    let trace = result(&scene, &begin(&scene, &id, &body)?)?;
    ensure!(trace["report"]["peer_ttl"] == hops, "{trace:#}");
    let of_hops = trace["events"].as_array().context("no events")?;
    let hop = |ttl: u8| {
        let is_it = move |event: &&Value| event["event"] == "hop" && event["ttl"] == ttl;
        of_hops.iter().filter(is_it).count()
    };
    ensure!((1..=hops).all(|ttl| hop(ttl) == 1), "{trace:#}");
    ensure!(trace["rows"].as_u64() >= Some(u64::from(hops)), "{trace:#}");

    let pmtu = result(
        &scene,
        &begin(&scene, &id, &json!({"kind": "pmtu", "apply": true}))?,
    )?;
    ensure!(pmtu["report"]["mtu"] == 1_500, "{pmtu:#}");
    let qos = json!({"kind": "qos", "marks": ["EF", "ect0"], "count": 10});
    let qos = result(&scene, &begin(&scene, &id, &qos)?)?;
    ensure!(
        qos["report"]["marks"].as_array().map(Vec::len) == Some(3),
        "{qos:#}"
    );
    let ttl = result(&scene, &begin(&scene, &id, &json!({"kind": "ttl"}))?)?;
    ensure!(ttl["report"]["reach"]["ttl"] == hops, "{ttl:#}");

    let view = scene.operator.get(&format!("/api/clients/{id}"))?.is(200)?;
    ensure!(view["trace"]["peer_ttl"] == hops, "{view:#}");
    ensure!(
        view["trace_at"].is_string() && view["path_mtu"]["mtu"] == 1_500,
        "{view:#}"
    );
    let list = scene
        .operator
        .get(&format!("/api/clients/{id}/measurements"))?;
    let list = list.is(200)?;
    let kinds: Vec<_> = list["measurements"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|info| info["kind"].as_str().unwrap_or_default())
        .collect();
    ensure!(kinds == ["ttl", "qos", "pmtu", "trace"], "{kinds:?}");
    Ok(())
}

pub(crate) fn one_of_a_kind() -> Result<()> {
    let scene = Scene::with(Family::V6, |server| server.measurements(2))?;
    let (client, id) = scene.client(&Offer::messages())?;
    let measurements = format!("/api/clients/{id}/measurements");
    let long = json!({"kind": "trace", "rounds": 1000});
    let trace = begin(&scene, &id, &long)?;
    let again = scene.operator.post(&measurements, &long)?;
    again.problem(409, "a trace of this client is running")?;
    let many = json!({"kind": "qos", "count": 1000});
    let qos = begin(&scene, &id, &many)?;
    let third = scene
        .operator
        .post(&measurements, &json!({"kind": "ttl"}))?;
    third.problem(503, "too many measurements")?;

    let stopped = scene.operator.delete(&trace)?.is(200)?;
    ensure!(stopped["state"] == "stopped", "{stopped}");
    let view = scene.operator.get(&trace)?.is(200)?;
    ensure!(view["report"].is_object(), "{view}");
    begin(&scene, &id, &long)?;
    scene
        .operator
        .get(&format!("{measurements}/1"))?
        .problem(404, "no such measurement")?;
    // What runs ends with its client.
    ensure!(client.delete()?.status() == 200);
    let view = scene.wait_for(&id, "to be gone", |view| view["ended"].is_string())?;
    ensure!(
        view["measurements"].as_array().map(Vec::len) == Some(3),
        "{view:#}"
    );
    let _ = qos;
    Ok(())
}

/// Of many only the newest are in memory; the others are there all the same.
pub(crate) fn many() -> Result<()> {
    /// More than are in memory.
    const MANY: usize = 22;
    let scene = Scene::recorded(Family::V4)?;
    let (_client, id) = scene.client(&Offer::messages())?;
    let ttl = json!({"kind": "ttl"});
    let first = begin(&scene, &id, &ttl)?;
    result(&scene, &first)?;
    for _ in 1..MANY {
        result(&scene, &begin(&scene, &id, &ttl)?)?;
    }
    let view = result(&scene, &first)?;
    ensure!(view["report"].is_object(), "{view}");
    // There is nothing to stop any more.
    let info = scene.operator.delete(&first)?.is(200)?;
    ensure!(info["state"] == "done", "{info}");
    let audit = scene.operator.get("/api/audit")?.is(200)?;
    ensure!(
        !audit.to_string().contains("measurement.stopped"),
        "{audit}"
    );
    Ok(())
}
