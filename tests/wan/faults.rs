//! Silence, limits, losses, and scenarios that cannot be.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::net::if_::if_nametoindex;
use perpacket_lab::{Direction, Packet, Scenario, Wan, Willing, until};

use super::scene::{PORT, SOON, Scene, set_ttl};

/// Sends one packet for each number, each with its number as payload.
fn send_numbers(socket: &UdpSocket, to: impl std::net::ToSocketAddrs, count: u32) -> Result<()> {
    for number in 0..count {
        socket.send_to(&number.to_be_bytes(), &to)?;
    }
    Ok(())
}

/// The numbers that arrived, once all were either delivered or lost.
fn numbers_that_arrived(scene: &mut Scene, sent: u32) -> Result<Vec<u32>> {
    let wan = &scene.wan;
    let settled =
        || {
            let counters = wan.counters();
            let lost: u64 = counters.hops.iter().map(|hop| hop.lost).sum();
            Ok((counters.delivered_right + lost >= u64::from(sent))
                .then_some(counters.delivered_right))
        };
    let delivered = until(SOON, || "every packet's end".to_owned(), settled)?;
    let is_one = |p: &&Packet| p.direction == Direction::Incoming && p.udp.is_some();
    let packets = scene.far.wait_for(SOON, |packets| {
        packets.iter().filter(is_one).count() as u64 >= delivered
    })?;
    let number = |p: &Packet| Some(u32::from_be_bytes((*p.payload).try_into().ok()?));
    packets
        .iter()
        .filter(is_one)
        .map(number)
        .collect::<Option<_>>()
        .context("other packets")
}

pub(crate) fn silent_hop_says_nothing() -> Result<()> {
    let mut scene = Scene::load("silent_hop")?;
    for (left, right) in scene.wan.pairs() {
        let socket = scene.left(left)?;
        set_ttl(&socket, 3)?;
        socket.send_to(&[3], (right, PORT))?;
        set_ttl(&socket, 4)?;
        let payload = [u8::from(left.is_ipv6()), 4];
        socket.send_to(&payload, (right, PORT))?;
        // What the third would have said would have come before.
        scene.error_about(&payload)?;
    }
    let counters = scene.wan.counters();
    ensure!((counters.hops[2].expired, counters.hops[2].icmp_silent) == (2, 2));
    ensure!(
        counters.hops[2].icmp_sent == 0 && counters.delivered_left == 2,
        "{counters:?}"
    );

    scene
        .wan
        .change(|scenario| scenario.hop_mut(3).icmp = Willing::Answer)?;
    let (left, right) = scene.wan.pairs()[0];
    let socket = scene.left(left)?;
    set_ttl(&socket, 3)?;
    socket.send_to(b"again", (right, PORT))?;
    scene.error_about(b"again")?;
    Ok(())
}

pub(crate) fn icmp_rate_is_limited() -> Result<()> {
    let mut scene = Scene::load("rate_limited")?;
    let (left, right) = scene.wan.pairs()[0];
    let socket = scene.left(left)?;
    set_ttl(&socket, 2)?;
    let began = std::time::Instant::now();
    send_numbers(&socket, (right, PORT), 30)?;
    let wan = &scene.wan;
    let hop = until(
        SOON,
        || "30 expired packets".to_owned(),
        || {
            let hop = wan.counters().hops.swap_remove(1);
            Ok((hop.expired == 30).then_some(hop))
        },
    )?;
    // Three at once, and ten a second.
    let more = began.elapsed().as_millis().div_ceil(100);
    ensure!((3..=3 + more).contains(&hop.icmp_sent.into()), "{hop:?}");
    ensure!(hop.icmp_sent + hop.icmp_limited == 30, "{hop:?}");
    // There is a token again after a tenth of a second.
    let mut probe = 0_u32;
    until(
        SOON,
        || "another answer".to_owned(),
        || {
            probe += 1;
            let sent = socket.send_to(format!("later {probe}").as_bytes(), (right, PORT));
            sent.expect("the host sends");
            Ok((wan.counters().hops[1].icmp_sent > hop.icmp_sent).then_some(()))
        },
    )?;
    scene
        .near
        .wait_for(SOON, |packets| packets.iter().any(|p| p.icmp.is_some()))?;
    Ok(())
}

pub(crate) fn losses_have_their_probability_and_repeat() -> Result<()> {
    const SENT: u32 = 2000;
    let run = |seed| -> Result<Vec<u32>> {
        let mut scenario = Scenario::load("lossy")?;
        scenario.seed = seed;
        let mut scene = Scene::start(scenario)?;
        let (left, right) = scene.wan.pairs()[0];
        // Its host would answer, and what is lost on the way back counts too.
        let _listener = scene.right(right)?;
        send_numbers(&scene.left(left)?, (right, PORT), SENT)?;
        numbers_that_arrived(&mut scene, SENT)
    };
    let (one, again, other) = (run(1)?, run(1)?, run(2)?);
    ensure!(
        one == again,
        "{} and {} arrived of the same",
        one.len(),
        again.len()
    );
    ensure!(one != other);
    for arrived in [one, other] {
        // 100 ± 9.7 in the mean.
        ensure!(
            (1850..=1950).contains(&arrived.len()),
            "{} arrived",
            arrived.len()
        );
        ensure!(arrived.is_sorted());
    }
    Ok(())
}

pub(crate) fn every_third_is_lost() -> Result<()> {
    let mut scene = Scene::parse("[[hop]]\nlink = { drop_every = 3, drop_every_back = 0 }")?;
    let (left, right) = scene.wan.pairs()[1];
    let _listener = scene.right(right)?;
    send_numbers(&scene.left(left)?, (right, PORT), 9)?;
    ensure!(numbers_that_arrived(&mut scene, 9)? == [0, 1, 3, 4, 6, 7]);
    ensure!(scene.wan.counters().hops[0].lost == 3);
    Ok(())
}

pub(crate) fn bad_scenarios_are_named() -> Result<()> {
    let table = [
        (
            "[[hop]]\nlink.loss = 1.5",
            "hop 1: link.loss = 1.5: must be a probability",
        ),
        (
            "[[hop]]\n[[hop]]\nmark = [{ remark_dscp = 64 }]",
            "hop 2: mark.remark_dscp = 64",
        ),
        ("[[hop]]\nmtu = 60", "hop 1: mtu = 60: must be at least 68"),
        (
            "[[hop]]\nmpls = [{ label = 1048576 }]",
            "mpls.label = 1048576: must have at most 20 bits",
        ),
        (
            "[[hop]]\nv4 = \"10.0.0.2\"",
            "address = 10.0.0.2: belongs to another",
        ),
        ("[[hop]]\nspeed = 3", "unknown field `speed`"),
        ("[[hop]]\ntoo_big = \"loud\"", "unknown variant `loud`"),
        (
            "[[hop]]\ncount = 255",
            "the number of hops = 255: must be at most 254",
        ),
        ("mtu = 1000", "mtu = 1000: must be at least 1280"),
    ];
    for (toml, expected) in table {
        let error = Scenario::parse(toml).expect_err(toml).to_string();
        ensure!(
            error.contains(expected) && error.starts_with("scenario: "),
            "{error}"
        );
    }
    let missing = Scenario::load("no_such").expect_err("no file").to_string();
    ensure!(missing.contains("scenarios/no_such.toml"), "{missing}");

    let wan = Wan::parse("[[hop]]")?;
    let refused = wan.change(|scenario| scenario.hop_mut(1).link.loss = -1.0);
    ensure!(refused.is_err() && wan.scenario().hops[0].link.loss.abs() < f64::EPSILON);
    Ok(())
}

pub(crate) fn dropped_network_is_gone() -> Result<()> {
    let wan = Wan::load("four_hops")?;
    let left = wan.left().clone();
    let socket = left.run(|| UdpSocket::bind((wan.left_v4(), 0)))?;
    let right = (wan.right_v4(), PORT);
    socket.send_to(b"on its way", right)?;
    let device = || left.run(|| if_nametoindex(Wan::INTERFACE).is_ok());
    ensure!(device());
    drop(wan);
    until(
        Duration::from_secs(5),
        || "the device's end".to_owned(),
        || Ok((!device()).then_some(())),
    )?;
    let error = socket
        .send_to(b"to nowhere", right)
        .expect_err("there is no route");
    ensure!(error.kind() == ErrorKind::NetworkUnreachable, "{error}");
    Ok(())
}
