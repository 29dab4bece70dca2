//! What is asked for is what goes out.

use std::time::SystemTime;

use anyhow::{Result, ensure};
use perpacket_udp::MessageOptions;
use serde_json::{Value, json};

use super::scene::Scene;
use crate::support::connection::DEADLINE;
use crate::support::hosts::Family;
use crate::support::wire::{class_of, complies, sent_after};
use crate::whip::client::Offer;

/// Senders that had asked the policy when it was changed, and the answers that waited meanwhile.
const LATE: usize = 4;

pub(crate) fn in_force(family: Family) -> Result<()> {
    let mut scene = Scene::new(family)?;
    let (mut client, id) = scene.client(&Offer::everything())?;
    let (_other, untouched) = scene.client(&Offer::messages())?;
    let _media = client.send_media();
    let path = format!("/api/clients/{id}/socket-options");
    let body = json!({"ttl": 10, "df_bit": true, "dscp": "EF"});
    let answer = scene.operator.post(&path, &body)?.is(200)?;
    let since = SystemTime::now();
    ensure!(
        answer["asked"]["all"] == json!({"ttl": 10, "df_bit": true, "tos": 184}),
        "{answer}"
    );
    ensure!(answer["guard"]["state"] == "watching", "{answer}");

    client.echo("hello")?;
    let view = scene.wait_for(&id, "to be sent to with it", |view| {
        ["stun", "dtls", "srtp"].iter().all(|class| {
            let applied = &view["applied"][class];
            applied["ttl"] == 10 && applied["df_bit"] == true && applied["tos"] == 184
        })
    })?;
    let asked = MessageOptions::NONE
        .with_ttl(10)
        .with_df_bit(true)
        .with_tos(184);
    let remote = view["pair"]["remote"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let side = &mut scene.hosts.sides[1];
    let address = side.address;
    let is_to = move |packet: &&perpacket_lab::Packet| packet.destination.to_string() == remote;
    let packets = side.wire.wait_for(DEADLINE, |packets| {
        sent_after(packets, address, since).filter(&is_to).count() > 200
    })?;
    let mut wrong = 0;
    for packet in sent_after(packets, address, since).filter(&is_to) {
        // The server's own checks with the header from before tell a cut from an outage.
        let is_check = class_of(packet) == Some(perpacket_webrtc::PacketClass::Stun);
        wrong += usize::from(!is_check && !complies(packet, &asked));
    }
    ensure!(wrong <= LATE, "{wrong} packets without what was asked for");

    let other = scene
        .operator
        .get(&format!("/api/clients/{untouched}"))?
        .is(200)?;
    ensure!(other["asked"]["all"]["ttl"] == Value::Null, "{other}");
    ensure!(other["applied"]["stun"]["ttl"] == 64, "{other}");
    Ok(())
}

pub(crate) fn left_and_cleared() -> Result<()> {
    let scene = Scene::new(Family::V4)?;
    let (_client, id) = scene.client(&Offer::messages())?;
    let path = format!("/api/clients/{id}/socket-options");
    let set = |body: Value| scene.operator.post(&path, &body)?.is(200);
    let all = |ttl: Value, df: Value, tos: Value| json!({"ttl": ttl, "df_bit": df, "tos": tos});
    let null = || Value::Null;

    set(json!({"ttl": 10, "tos": 184}))?;
    let now = set(json!({"df_bit": false}))?;
    ensure!(
        now["asked"]["all"] == all(10.into(), false.into(), 184.into()),
        "{now}"
    );
    let now = set(json!({"ttl": null, "ecn": "ect0"}))?;
    ensure!(
        now["asked"]["all"] == all(null(), false.into(), 186.into()),
        "{now}"
    );
    let now = set(json!({"dscp": null}))?;
    ensure!(now["asked"]["all"]["tos"] == 2, "{now}");
    let now = set(json!({"class": "srtp", "ttl": 20}))?;
    ensure!(now["asked"]["classes"]["srtp"]["ttl"] == 20, "{now}");
    ensure!(now["asked"]["all"]["tos"] == 2, "{now}");

    let cleared = scene
        .operator
        .delete(&format!("{path}?class=srtp"))?
        .is(200)?;
    ensure!(
        cleared["asked"]["classes"]["srtp"]["ttl"] == Value::Null,
        "{cleared}"
    );
    ensure!(cleared["asked"]["all"]["tos"] == 2, "{cleared}");
    let cleared = scene.operator.delete(&path)?.is(200)?;
    ensure!(
        cleared["asked"]["all"] == all(null(), null(), null()),
        "{cleared}"
    );
    scene
        .operator
        .delete(&format!("{path}?class=rtp"))?
        .problem(422, "class")?;
    Ok(())
}
