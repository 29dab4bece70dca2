//! Lines that are slow.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::{Direction, Packet, until};

use super::scene::{PORT, SOON, Scene, headers, set_tos};

/// A packet of 1,250 bytes takes 1 ms at 10 Mbit/s.
const SIZE: usize = 1250;

fn came(packet: &Packet) -> bool {
    packet.direction == Direction::Incoming && packet.udp.is_some()
}

pub(crate) fn bottleneck_drops_its_tail() -> Result<()> {
    const SENT: usize = 100;
    let mut scene = Scene::load("bottleneck")?;
    for (left, right) in scene.wan.pairs() {
        let before = scene.wan.counters();
        let _listener = scene.right(right)?;
        let socket = scene.left(left)?;
        for number in 0..SENT {
            let mut payload = vec![0; SIZE - headers(left)];
            payload[0] = u8::try_from(number)?;
            socket.send_to(&payload, (right, PORT))?;
        }
        let wan = &scene.wan;
        let (delivered, dropped) = until(
            SOON,
            || "each one's end".to_owned(),
            || {
                let now = wan.counters();
                let delivered = now.delivered_right - before.delivered_right;
                let dropped = now.hops[1].queue_full - before.hops[1].queue_full;
                Ok((delivered + dropped == SENT as u64).then_some((delivered, dropped)))
            },
        )?;
        // One on the line and forty in the queue; more if the sender was held up.
        ensure!(
            delivered >= 41 && dropped > 0,
            "{delivered} delivered, {dropped} dropped"
        );
        let delivered = usize::try_from(delivered)?;
        let is_one = |p: &&Packet| came(p) && p.destination.ip() == right;
        let packets = scene
            .far
            .wait_for(SOON, |all| all.iter().filter(is_one).count() == delivered)?;
        let arrived: Vec<_> = packets.iter().filter(is_one).collect();
        ensure!(arrived.iter().map(|p| p.payload[0]).is_sorted());
        let [first, .., last] = &arrived[..] else {
            unreachable!("41 at least");
        };
        let took = last.at.duration_since(first.at)?;
        let by_speed = Duration::from_millis(delivered as u64 - 1);
        // The first may have been late.
        let late = Duration::from_millis(2) + scene.wan.take_lateness();
        ensure!(
            took + late > by_speed,
            "{delivered} in {took:?}, late by {late:?}"
        );
    }
    Ok(())
}

pub(crate) fn priority_overtakes() -> Result<()> {
    for (name, overtakes) in [("bottleneck", false), ("priority", true)] {
        let mut scene = Scene::load(name)?;
        let (left, right) = scene.wan.pairs()[0];
        let _listener = scene.right(right)?;
        let (bulk, voice) = (scene.left(left)?, scene.left(left)?);
        set_tos(&voice, 46 << 2)?;
        for _ in 0..30 {
            bulk.send_to(&[0; SIZE - 28], (right, PORT))?;
        }
        voice.send_to(b"voice", (right, PORT))?;
        let packets = scene
            .far
            .wait_for(SOON, |p| p.iter().filter(|p| came(p)).count() == 31)?;
        let arrived: Vec<_> = packets.iter().filter(|p| came(p)).collect();
        let place = arrived
            .iter()
            .position(|p| &*p.payload == b"voice")
            .context("no voice")?;
        ensure!(
            (place < 20) == overtakes,
            "{name}: voice was number {place} of 31"
        );
    }
    Ok(())
}

pub(crate) fn slow_dscp_is_overtaken() -> Result<()> {
    let mut scene = Scene::load("slow_dscp")?;
    for (left, right) in scene.wan.pairs() {
        let _listener = scene.right(right)?;
        let socket = scene.left(left)?;
        for dscp in [8, 0] {
            set_tos(&socket, dscp << 2)?;
            socket.send_to(&[dscp], (right, PORT))?;
        }
        let is_one = |p: &&Packet| came(p) && p.destination.ip() == right;
        let packets = scene
            .far
            .wait_for(SOON, |all| all.iter().filter(is_one).count() == 2)?;
        let arrived: Vec<_> = packets.iter().filter(is_one).cloned().collect();
        // 3 ms lie between them, unless something has held one up.
        let late = scene.wan.take_lateness();
        ensure!(
            arrived[0].tos == 0 || late > Duration::from_millis(2),
            "{arrived:?}, late by {late:?}"
        );
        for packet in &arrived {
            let sent = scene.near.find(SOON, |p| {
                p.direction == Direction::Outgoing
                    && p.payload == packet.payload
                    && p.destination.ip() == right
            })?;
            let took = packet.at.duration_since(sent.at)?;
            let least = if packet.tos == 0 { 4 } else { 7 };
            ensure!(took >= Duration::from_millis(least), "{packet}: {took:?}");
        }
    }
    Ok(())
}
