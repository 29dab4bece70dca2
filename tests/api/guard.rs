//! Changes that cut the client off, or are for a while, are taken back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use hyper::header::LOCATION;
use perpacket_lab::until;
use serde_json::{Value, json};
use webrtc::peer_connection::RTCPeerConnection;
use webrtc::peer_connection::configuration::RTCConfiguration;
use webrtc::peer_connection::sdp::session_description::RTCSessionDescription;

use super::scene::Scene;
use crate::support::connection::{self, DEADLINE};
use crate::support::hosts::Family;
use crate::whip::client::Offer;
use crate::whip::http;

fn is_reverted(view: &Value) -> bool {
    view["guard"]["state"] == "reverted"
}

/// The router lets nothing on that has a TTL of 1.
pub(crate) fn cut_off() -> Result<()> {
    let scene = Scene::recorded(Family::V4)?;
    let (mut client, id) = scene.client(&Offer::messages())?;
    let path = format!("/api/clients/{id}/socket-options");
    scene.operator.post(&path, &json!({"tos": 8}))?.is(200)?;
    let begun = Instant::now();
    let answer = scene.operator.post(&path, &json!({"ttl": 1}))?.is(200)?;
    ensure!(answer["guard"]["until"] == Value::Null, "{answer}");
    let view = scene.wait_for(&id, "to be let go", is_reverted)?;
    let took = begun.elapsed();
    println!("taken back after {took:.1?}: {}", view["guard"]);
    ensure!(took < Duration::from_secs(8), "{took:?}");
    let reason = view["guard"]["reason"].as_str().context("no reason")?;
    ensure!(reason.starts_with("no consent for"), "{reason}");
    ensure!(view["asked"]["all"]["ttl"] == Value::Null, "{view}");
    client.echo("still here")?;

    // What the history says comes a moment later.
    let by_guard = || {
        let changes = scene
            .operator
            .get(&format!("/api/clients/{id}/changes"))
            .ok()?;
        let all = changes.json["changes"].as_array()?.clone();
        let mut by_guard = all.into_iter().filter(|change| change["by"] == "guard");
        by_guard.next()
    };
    let taken_back = until(
        DEADLINE,
        || "the change to be taken back in the history".to_owned(),
        || Ok(by_guard()),
    )?;
    ensure!(taken_back["reason"] == reason, "{taken_back:#}");
    ensure!(taken_back["before"]["ttl"] == 1, "{taken_back:#}");
    ensure!(taken_back["after"]["ttl"] == Value::Null, "{taken_back:#}");
    Ok(())
}

/// ICE goes on, and so would the call, in silence.
pub(crate) fn cut_off_media() -> Result<()> {
    let scene = Scene::new(Family::V6)?;
    let (mut client, id) = scene.client(&Offer::messages())?;
    let path = format!("/api/clients/{id}/socket-options");
    let body = json!({"class": "srtp", "ttl": 1});
    scene.operator.post(&path, &body)?.is(200)?;
    let view = scene.wait_for(&id, "to be let go", is_reverted)?;
    let reason = view["guard"]["reason"].as_str().context("no reason")?;
    ensure!(reason.ends_with("with the header of srtp"), "{reason}");
    ensure!(
        view["asked"]["classes"]["srtp"]["ttl"] == Value::Null,
        "{view}"
    );
    client.echo("still here")
}

pub(crate) fn timer() -> Result<()> {
    let scene = Scene::new(Family::V4)?;
    let (_client, id) = scene.client(&Offer::messages())?;
    let path = format!("/api/clients/{id}/socket-options");
    let body = json!({"ttl": 20, "revert_after_s": 2});
    let answer = scene.operator.post(&path, &body)?.is(200)?;
    ensure!(answer["guard"]["until"].is_string(), "{answer}");
    ensure!(answer["asked"]["all"]["ttl"] == 20, "{answer}");
    let view = scene.wait_for(&id, "to be as before", is_reverted)?;
    ensure!(view["guard"]["reason"] == "revert_after_s", "{view}");
    ensure!(view["asked"]["all"]["ttl"] == Value::Null, "{view}");
    let audit = scene.operator.get("/api/audit")?.is(200)?;
    ensure!(audit["audit"][0]["by"] == "timer", "{audit}");
    let token = audit["audit"][1]["by"].as_str().context("nobody")?;
    ensure!(token.starts_with("token:") && token.len() == 10, "{token}");
    Ok(())
}

/// What is gone back to is what worked last, not what was there when the last change was made.
pub(crate) fn replaced() -> Result<()> {
    let scene = Scene::new(Family::V4)?;
    let (mut client, id) = scene.client(&Offer::messages())?;
    let path = format!("/api/clients/{id}/socket-options");
    scene.operator.post(&path, &json!({"ttl": 1}))?.is(200)?;
    scene.operator.post(&path, &json!({"tos": 8}))?.is(200)?;
    let view = scene.wait_for(&id, "to be let go", is_reverted)?;
    ensure!(view["asked"]["all"]["ttl"] == Value::Null, "{view}");
    client.echo("still here")
}

/// Whoever reads the changes in their order sees how each led to the next, whoever made them.
pub(crate) fn two_operators() -> Result<()> {
    const EACH: u8 = 20;
    let scene = Scene::new(Family::V4)?;
    let (_client, id) = scene.client(&Offer::messages())?;
    let path = format!("/api/clients/{id}/socket-options");
    let operator = &scene.operator;
    let change = |field: &'static str, first: u8| -> Result<()> {
        for value in first..first + EACH {
            operator.post(&path, &json!({ field: value }))?.is(200)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| change("ttl", 40));
        change("tos", 0)?;
        other.join().expect("it does not panic")
    })?;
    let changes = operator.get(&format!("/api/clients/{id}/changes"))?;
    let changes = changes.is(200)?;
    let changes = changes["changes"].as_array().context("no changes")?;
    ensure!(changes.len() == 2 * usize::from(EACH), "{changes:#?}");
    for pair in changes.windows(2) {
        ensure!(pair[0]["after"] == pair[1]["before"], "{pair:#?}");
    }
    let now = operator.get(&path)?.is(200)?;
    let all = json!({"ttl": 40 + EACH - 1, "df_bit": null, "tos": EACH - 1});
    ensure!(now["asked"]["all"] == all, "{now}");
    Ok(())
}

/// A client that is connected, and never sets up what carries the data channel that it has offered: webrtc-rs keeps its
/// descriptions locked meanwhile, with the credentials that checks need.
fn half_connected(scene: &Scene) -> Result<(RTCPeerConnection, String)> {
    let side = &scene.hosts.sides[0];
    let (connection, location) = side.runtime.block_on(async {
        let configuration = RTCConfiguration::default();
        let connection = connection::new(side.address, configuration, |_| {}).await?;
        connection.create_data_channel("echo", None).await?;
        let offer = connection::offer(&connection, false).await?;
        let headers = [("content-type", "application/sdp")];
        let post = http::request(scene.address, Method::POST, "/whip", &headers, offer.sdp);
        let created = post.await?;
        let lines = created.body().split_inclusive('\n');
        let answer: String = lines
            .filter(|line| !line.starts_with("a=sctp-port"))
            .collect();
        ensure!(answer.len() < created.body().len(), "{answer}");
        let answer = RTCSessionDescription::answer(answer)?;
        connection.set_remote_description(answer).await?;
        let location = http::header(&created, LOCATION)?.to_owned();
        anyhow::Ok((connection, location))
    })?;
    let id = location.strip_prefix("/whip/").context("another path")?;
    scene.wait_for(id, "to be connected", |view| view["state"] == "connected")?;
    Ok((connection, id.to_owned()))
}

/// Nothing waits for a client that cannot be asked: a change for a while ends in time, and so does the client.
pub(crate) fn cannot_be_asked() -> Result<()> {
    let scene = Scene::new(Family::V4)?;
    let (connection, id) = half_connected(&scene)?;
    let path = format!("/api/clients/{id}");
    let options = format!("{path}/socket-options");
    let body = json!({"ttl": 20, "revert_after_s": 1});
    scene.operator.post(&options, &body)?.is(200)?;
    let view = scene.wait_for(&id, "to be as before", is_reverted)?;
    ensure!(view["guard"]["reason"] == "revert_after_s", "{view}");
    ensure!(view["asked"]["all"]["ttl"] == Value::Null, "{view}");
    scene.wait_for(&id, "to be sampled", |view| view["sample"].is_object())?;
    let measurements = format!("{path}/measurements");
    let refused = scene
        .operator
        .post(&measurements, &json!({"kind": "ttl"}))?;
    refused.problem(409, "does not complete its connection")?;

    let whip = format!("/whip/{id}");
    scene.operator.delete(&whip)?.is(200)?;
    scene.wait_for(&id, "to be gone", |view| view["ended"].is_string())?;
    let side = &scene.hosts.sides[0];
    Ok(side.runtime.block_on(connection.close())?)
}
