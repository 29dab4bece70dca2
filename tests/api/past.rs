//! What is kept, and how it ends.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use pcap_file::pcap::PcapReader;
use serde_json::json;

use super::scene::Scene;
use crate::support::hosts::Family;
use crate::whip::client::Offer;

pub(crate) fn history() -> Result<()> {
    let scene = Scene::recorded(Family::V4)?;
    let (client, id) = scene.client(&Offer::everything())?;
    let media = client.send_media();
    let path = format!("/api/clients/{id}");
    let options = format!("{path}/socket-options");
    let body = json!({"ttl": 9, "tos": 184, "class": "srtp"});
    scene.operator.post(&options, &body)?.is(200)?;
    scene.wait_for(&id, "to be sent to with it", |view| {
        view["applied"]["srtp"]["ttl"] == 9
    })?;

    let capture = scene.operator.get(&format!("{path}/export?format=pcap"))?;
    let name = capture.header("content-disposition")?.to_owned();
    ensure!(name.contains(&id[..8]) && name.contains(".pcap"), "{name}");
    let mut reader = PcapReader::new(&capture.bytes[..])?;
    let (mut marked, mut packets) = (0, 0);
    while let Some(packet) = reader.next_packet() {
        let packet = packet?;
        packets += 1;
        ensure!(
            packet.data.len() <= 96,
            "{} bytes are kept",
            packet.data.len()
        );
        // Version, TOS and TTL of IPv4.
        let is_ours = packet.data[0] == 0x45 && packet.data[1] == 184 && packet.data[8] == 9;
        marked += u32::from(is_ours);
    }
    ensure!(marked > 0 && packets > 20, "{marked} of {packets}");
    drop(media);

    scene.wait_for(&id, "to be sampled", |view| {
        view["sample"]["rtt_ms"].is_number()
    })?;
    let samples = format!("{path}/samples");
    let begun = Instant::now();
    let known = loop {
        let known = scene.operator.get(&samples)?.is(200)?;
        if known["samples"].as_array().map_or(0, Vec::len) >= 3 {
            break known;
        }
        ensure!(begun.elapsed() < Duration::from_secs(30), "{known}");
        std::thread::sleep(Duration::from_millis(100));
    };
    let first = known["samples"][0]["at"].as_str().context("no time")?;
    let later = scene
        .operator
        .get(&format!("{samples}?to={first}"))?
        .is(200)?;
    ensure!(
        later["samples"].as_array().map(Vec::len) == Some(1),
        "{later}"
    );
    let changes = scene.operator.get(&format!("{path}/changes"))?.is(200)?;
    let change = &changes["changes"][0];
    ensure!(
        change["class"] == "srtp" && change["after"]["ttl"] == 9,
        "{changes}"
    );
    let audit = scene.operator.get("/api/audit?limit=1")?.is(200)?;
    ensure!(audit["audit"][0]["action"] == "options.set", "{audit}");
    ensure!(audit["audit"][0]["client"] == *id, "{audit}");

    ensure!(client.delete()?.status() == 200);
    scene.wait_for(&id, "to be gone", |view| view["ended"].is_string())?;
    let all = scene.operator.get(&format!("{path}/export"))?.is(200)?;
    ensure!(all["client"]["id"] == *id, "{all}");
    ensure!(all["changes"][0]["after"]["tos"] == 184, "{all}");
    let table = scene.operator.get(&format!("{path}/export?format=csv"))?;
    let table = table.text()?.to_owned();
    let mut lines = table.lines();
    ensure!(
        lines
            .next()
            .is_some_and(|line| line.starts_with("at,rtt_ms,")),
        "{table}"
    );
    ensure!(lines.count() >= 3, "{table}");
    let server = scene.operator.get("/api/server")?.is(200)?;
    ensure!(
        server["database"] == "memory" && server["recording"] == true,
        "{server}"
    );
    Ok(())
}

pub(crate) fn without() -> Result<()> {
    let scene = Scene::new(Family::V4)?;
    let (_client, id) = scene.client(&Offer::messages())?;
    let path = format!("/api/clients/{id}");
    let options = format!("{path}/socket-options");
    scene.operator.post(&options, &json!({"ttl": 9}))?.is(200)?;
    scene.wait_for(&id, "to be sampled", |view| view["sample"].is_object())?;
    let samples = scene.operator.get(&format!("{path}/samples"))?.is(200)?;
    ensure!(samples["samples"][0]["at"].is_string(), "{samples}");
    let changes = scene.operator.get(&format!("{path}/changes"))?.is(200)?;
    ensure!(changes["changes"][0]["after"]["ttl"] == 9, "{changes}");
    let audit = scene.operator.get("/api/audit")?.is(200)?;
    ensure!(audit["audit"][0]["action"] == "options.set", "{audit}");
    let server = scene.operator.get("/api/server")?.is(200)?;
    ensure!(
        server["recording"] == false && server["recording_error"].is_string(),
        "{server}"
    );
    Ok(())
}

pub(crate) fn shutdown() -> Result<()> {
    let scene = Scene::recorded(Family::V4)?;
    let mut stream = scene.operator.follow("/api/events", &[])?;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(scene.client(&Offer::messages())?);
    }
    let begun = Instant::now();
    let server = scene.server.clone();
    scene
        .runtime
        .block_on(async move { server.shutdown(Duration::from_secs(5)).await })?;
    let took = begun.elapsed();
    println!("it took {took:.1?}");
    ensure!(took < Duration::from_secs(5), "{took:?}");
    while stream.next()?.is_some() {}
    ensure!(scene.operator.get("/healthz").is_err(), "it still answers");
    Ok(())
}
