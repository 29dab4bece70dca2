//! A change that cuts the client off is taken back by itself.

use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use perpacket_lab::until;
use perpacket_webrtc::PacketClass;

use super::scene::Scene;
use crate::support::connection::DEADLINE;
use crate::support::hosts::Family;
use crate::support::wire::{class_of, sent_after};

pub(crate) fn ttl() -> Result<()> {
    let mut scene = Scene::new(Family::V4)?;
    let (measured, id) = scene.measured()?;
    scene.wait_for_first_look(&id)?;
    let operator = scene.operator()?;
    operator.click(&format!("a[href='/dashboard/clients/{id}']"))?;
    operator.wait("of the client", "document.querySelector('#ttl')")?;
    // The second router lets nothing on.
    operator.fill("#ttl", "2")?;
    operator.click("section[aria-labelledby=options] form .primary")?;
    operator.wait_for_text(".guard.watching", "it is taken back by itself")?;
    operator.wait_for_text(".guard.reverted", "is undone: no consent for")?;
    let back = SystemTime::now();
    ensure!(
        operator
            .text(".guard")?
            .ends_with("Nothing is set any more.")
    );
    operator.wait(
        "with both changes",
        "document.querySelectorAll('.changes li').length === 2",
    )?;
    operator.wait_for_text(
        ".changes li .what",
        "TTL 2 → unset, taken back by the guard",
    )?;
    operator.wait(
        "with an empty field",
        "document.querySelector('#ttl').value === ''",
    )?;
    operator.picture("taken-back")?;
    // What the router said of them is counted.
    let path = format!("/api/clients/{id}/samples");
    until(
        DEADLINE,
        || "a sample with what the router said".to_owned(),
        || {
            thread::sleep(Duration::from_millis(100));
            let answer = scene.api.get(&path).expect("an answer").json;
            let samples = answer["samples"].as_array().expect("samples");
            let mut counts = samples
                .iter()
                .map(|sample| &sample["icmp"]["time_exceeded"]);
            Ok(counts.any(|count| count.as_u64() > Some(0)).then_some(()))
        },
    )?;

    // The call goes on: pictures go out as before, and the page has noticed at most a pause.
    let from = scene.near.address;
    scene.near.wire.wait_for(DEADLINE, |packets| {
        let media = sent_after(packets, from, back)
            .filter(|packet| class_of(packet) == Some(PacketClass::Srtp) && packet.ttl == 64);
        media.count() > 100
    })?;
    measured.wait(
        "that is connected",
        "document.querySelector('#trouble').hidden && document.querySelector('#progress').hidden",
    )?;
    let frames = measured.run("return document.querySelector('#back').currentTime")?;
    measured.wait(
        "that plays on",
        &format!("document.querySelector('#back').currentTime > {frames}"),
    )?;
    let view = scene.view(&id)?;
    ensure!(
        view["state"] == "connected" && view["ended"].is_null(),
        "{view:#}"
    );
    measured.close()?;
    operator.close()
}
