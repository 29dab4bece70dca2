//! Who answers, when, and with what.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use perpacket_lab::{Hop, WanLink};

use super::scene::{PORT, SOON, Scene, headers, icmp, quoted, set_ttl};

/// How late the quickest of some packets may be on a machine with other things to do.
const SHORTLY: Duration = Duration::from_micros(300);

pub(crate) fn every_hop_answers() -> Result<()> {
    let mut scene = Scene::load("ten_hops")?;
    for (family, (left, right)) in [4, 6].into_iter().zip(scene.wan.pairs()) {
        let socket = scene.left(left)?;
        for hop in 1..=10 {
            set_ttl(&socket, hop)?;
            let payload = [&[hop][..], &[family; 99]].concat();
            socket.send_to(&payload, (right, PORT))?;
            let (sent, error) = scene.error_about(&payload)?;
            let truth = scene.wan.hop(hop.into());
            ensure!(icmp(&error)?.is_time_exceeded(), "{error}");
            ensure!(
                error.source.ip() == truth.address(left),
                "{truth:?}: {error}"
            );
            ensure!(error.ttl == truth.reply_ttl, "{truth:?}: {error}");
            ensure!(error.tos == 0xc0, "{error}");
            let quote = quoted(&error)?;
            ensure!(quote.ttl == 1 && quote.payload == payload[..], "{quote}");
            ensure!(quote.source == sent.source && quote.destination == sent.destination);
            ensure!(quote.ip_total_len == 100 + headers(left), "{quote}");
        }
        set_ttl(&socket, 11)?;
        socket.send_to(&[family; 9], (right, PORT))?;
        ensure!(scene.arrived(&[family; 9])?.ttl == 1);
        let port_unreachable = scene.error_about(&[family; 9])?.1;
        ensure!(
            icmp(&port_unreachable)?.is_port_unreachable(),
            "{port_unreachable}"
        );
        ensure!(port_unreachable.source.ip() == right);
    }
    let counters = scene.wan.counters();
    for (number, hop) in (1..).zip(&counters.hops) {
        ensure!(
            (hop.expired, hop.icmp_sent) == (2, 2),
            "hop {number}: {hop:?}"
        );
        // What was for the hops behind it and for the host; and their answers, with its own.
        let behind = 2 * (10 - number) + 2;
        ensure!(
            (hop.forwarded_out, hop.forwarded_back) == (behind, behind + 2),
            "{hop:?}"
        );
    }
    ensure!((counters.delivered_right, counters.delivered_left) == (2, 22));
    Ok(())
}

/// The kernel's stamps of sending and receiving, against what the scenario says.
pub(crate) fn rtt_is_that_of_the_scenario() -> Result<()> {
    const ROUNDS: u8 = 100;
    let mut scene = Scene::load("ten_hops")?;
    let (left, right) = scene.wan.pairs()[0];
    let socket = scene.left(left)?;
    for ttl in [1, 5, 10, 11] {
        set_ttl(&socket, ttl)?;
        let mut late = Vec::new();
        // One that nothing else has held up, and more only as long as there is none.
        for round in 0..ROUNDS {
            if round >= 20 && late.iter().any(|late| *late < SHORTLY) {
                break;
            }
            let payload = [ttl, round, 7, 7];
            socket.send_to(&payload, (right, PORT))?;
            let (sent, error) = scene.error_about(&payload)?;
            let truth = match ttl {
                11 => scene.wan.rtt(),
                _ => scene.wan.hop(ttl.into()).rtt(),
            };
            let measured = error.at.duration_since(sent.at)?;
            let by = measured.checked_sub(truth);
            late.push(by.with_context(|| format!("{measured:?} is faster than {truth:?}"))?);
        }
        late.sort_unstable();
        println!(
            "TTL {ttl}: late by {:?}, {:?}, {:?} (least, median, worst of {}); deliveries by {:?}",
            late[0],
            late[late.len() / 2],
            late[late.len() - 1],
            late.len(),
            scene.wan.take_lateness(),
        );
        // The median is what this machine lets it be.
        ensure!(late[0] < SHORTLY, "{late:?}");
    }
    Ok(())
}

pub(crate) fn ways_have_their_own_delay() -> Result<()> {
    const ROUNDS: u8 = 30;
    let mut scene = Scene::load("asymmetric")?;
    for (family, (left, right)) in [4, 6].into_iter().zip(scene.wan.pairs()) {
        let (here, there) = (scene.left(left)?, scene.right(right)?);
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS {
            let payload = [family, round];
            here.send_to(&payload, (right, PORT))?;
            let mut buffer = [0; 10];
            let (length, from) = there.recv_from(&mut buffer)?;
            there.send_to(&[&buffer[..length], b"back"].concat(), from)?;
            here.recv(&mut [0; 10])?;
            let back = [&payload[..], b"back"].concat();
            for (payload, times) in [&payload[..], &back].into_iter().zip(&mut times) {
                let wires = [&mut scene.near, &mut scene.far];
                let [one, other] =
                    wires.map(|wire| wire.find(SOON, |p| &*p.payload == payload).map(|p| p.at));
                let (one, other) = (one?, other?);
                times.push(one.max(other).duration_since(one.min(other))?);
            }
        }
        // Four links each, with a jitter of 200 µs each on the way out and 400 µs back.
        for (times, [least, jitter]) in times.iter_mut().zip([[2000, 800], [10_000, 1600]]) {
            let [least, jitter] = [least, jitter].map(Duration::from_micros);
            times.sort_unstable();
            let (quickest, median) = (times[0], times[times.len() / 2]);
            ensure!(
                (least..least + jitter + SHORTLY).contains(&quickest),
                "{times:?}"
            );
            ensure!(median.saturating_sub(quickest) > jitter / 10, "{times:?}");
        }
    }
    Ok(())
}

/// A router that comes in takes a number that is free, and the others keep theirs.
pub(crate) fn path_grows_while_it_runs() -> Result<()> {
    let mut scene = Scene::load("four_hops")?;
    let (left, right) = scene.wan.pairs()[0];
    let socket = scene.left(left)?;
    let before = scene.wan.rtt();
    socket.send_to(b"on its way", (right, PORT))?;
    let link = WanLink {
        delay_us: 7000,
        ..WanLink::default()
    };
    scene.wan.change(|scenario| {
        let hop = Hop {
            link,
            ..Hop::default()
        };
        scenario.hops.insert(2, hop);
    })?;
    scene.arrived(b"on its way")?;
    ensure!(scene.wan.rtt() == before + Duration::from_millis(14));
    for (ttl, expected) in [(2, "10.0.2.1"), (3, "10.0.5.1"), (4, "10.0.3.1")] {
        set_ttl(&socket, ttl)?;
        socket.send_to(&[ttl; 5], (right, PORT))?;
        let (sent, error) = scene.error_about(&[ttl; 5])?;
        let hop = scene.wan.hop(ttl.into());
        ensure!(error.source.ip() == hop.address(left), "{hop:?}: {error}");
        ensure!(hop.v4.to_string() == expected, "{hop:?}");
        ensure!(error.at.duration_since(sent.at)? >= hop.rtt());
    }
    scene.wan.change(|scenario| drop(scenario.hops.remove(0)))?;
    ensure!(scene.wan.hops() == 4 && scene.wan.hop(1).v4.to_string() == "10.0.2.1");
    // What the routers remember has moved with them.
    let counters = scene.wan.counters();
    ensure!(
        counters.hops.iter().map(|hop| hop.expired).eq([1, 1, 1, 0]),
        "{counters:?}"
    );
    Ok(())
}
