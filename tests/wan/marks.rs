//! TOS bytes that change on the way.

use anyhow::{Result, ensure};
use perpacket_lab::{Direction, Mark, Scenario, until};

use super::scene::{PORT, SOON, Scene, quoted, set_tos, set_ttl};

/// What each scenario of RFC 9435 makes of a DSCP.
type Behaviour = (&'static str, fn(u8) -> u8);

const BEHAVIOURS: [Behaviour; 7] = [
    ("remark_bleach_dscp", |_| 0),
    ("remark_bleach_tos_precedence", |dscp| dscp % 8),
    ("remark_bleach_some_tos", |dscp| {
        if dscp >= 48 { dscp } else { dscp % 8 }
    }),
    ("remark_tos", |dscp| 8 + dscp % 8),
    ("remark_bleach_low", |dscp| dscp - dscp % 8),
    ("remark_bleach_some_low", |dscp| {
        if dscp >= 48 { dscp } else { dscp - dscp % 8 }
    }),
    ("remark_dscp", |_| 10),
];

pub(crate) fn remarkings_are_on_the_wire() -> Result<()> {
    for (name, behaviour) in BEHAVIOURS {
        let mut scene = Scene::load(name)?;
        for (left, right) in scene.wan.pairs() {
            let socket = scene.left(left)?;
            let _listener = scene.right(right)?;
            for dscp in 0..64 {
                set_tos(&socket, dscp << 2 | 0b10)?;
                socket.send_to(&[dscp, u8::from(left.is_ipv6())], (right, PORT))?;
            }
            for dscp in 0..64 {
                let packet = scene.arrived(&[dscp, u8::from(left.is_ipv6())])?;
                let expected = behaviour(dscp) << 2 | 0b10;
                ensure!(packet.tos == expected, "{name}: {dscp} became {packet}");
            }
            // The router that does it quotes what came, the next one what it made of that.
            for (ttl, expected) in [(2, 46), (3, behaviour(46))] {
                set_tos(&socket, 46 << 2)?;
                set_ttl(&socket, ttl)?;
                let payload = [ttl, 200, u8::from(left.is_ipv6())];
                socket.send_to(&payload, (right, PORT))?;
                let error = scene.error_about(&payload)?.1;
                ensure!(
                    quoted(&error)?.tos == expected << 2,
                    "{name}: hop {ttl}: {error}"
                );
            }
        }
    }
    Ok(())
}

pub(crate) fn ecn_changes_alone() -> Result<()> {
    let bleached = Scenario::load("ecn_bleach")?;
    let mut congested = bleached.clone();
    congested.hop_mut(2).mark = vec![Mark::MarkCe];
    for (scenario, expected) in [(bleached, [0, 0, 0, 0]), (congested, [0, 3, 3, 3])] {
        let mut scene = Scene::start(scenario)?;
        for (left, right) in scene.wan.pairs() {
            let socket = scene.left(left)?;
            let _listener = scene.right(right)?;
            for (ecn, expected) in (0..).zip(expected) {
                set_tos(&socket, 0xb8 | ecn)?;
                let payload = [ecn, u8::from(left.is_ipv6())];
                socket.send_to(&payload, (right, PORT))?;
                let packet = scene.arrived(&payload)?;
                ensure!(packet.tos == 0xb8 | expected, "{ecn}: {packet}");
            }
        }
    }
    Ok(())
}

pub(crate) fn way_back_has_its_own_marks() -> Result<()> {
    let mut scene = Scene::parse("[[hop]]\nmark_back = [{ map = { from = 46, to = 34 } }]")?;
    for (left, right) in scene.wan.pairs() {
        let (here, there) = (scene.left(left)?, scene.right(right)?);
        for socket in [&here, &there] {
            set_tos(socket, 46 << 2)?;
        }
        here.send_to(b"out", (right, PORT))?;
        let from = there.recv_from(&mut [0; 10])?.1;
        there.send_to(b"back", from)?;
        here.recv(&mut [0; 10])?;
        let came = |p: &perpacket_lab::Packet| {
            p.direction == Direction::Incoming
                && p.udp.is_some()
                && p.source.is_ipv4() == left.is_ipv4()
        };
        ensure!(scene.far.find(SOON, came)?.tos == 46 << 2);
        ensure!(scene.near.find(SOON, came)?.tos == 34 << 2);
    }
    Ok(())
}

pub(crate) fn dead_dscp_is_lost() -> Result<()> {
    let mut scene = Scene::load("dead_dscp")?;
    for (left, right) in scene.wan.pairs() {
        let socket = scene.left(left)?;
        let _listener = scene.right(right)?;
        for dscp in 0..64 {
            set_tos(&socket, dscp << 2)?;
            socket.send_to(&[dscp, u8::from(left.is_ipv6())], (right, PORT))?;
        }
        scene.arrived(&[63, u8::from(left.is_ipv6())])?;
    }
    let wan = &scene.wan;
    until(
        SOON,
        || "126 packets".to_owned(),
        || Ok((wan.counters().delivered_right == 126).then_some(())),
    )?;
    ensure!(scene.wan.counters().hops[1].dead_dscp == 2);
    let far = scene.far.stop()?;
    ensure!(far.packets.iter().all(|p| p.tos != 46 << 2));
    Ok(())
}
