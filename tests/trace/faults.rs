//! Paths that change, errors that are forged, and traces that end early.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::{Chain, Hop as Router, Willing};
use perpacket_path::{MeasureError, Trace, TraceConfig, TraceEvent};
use perpacket_udp::IcmpErrorKind;

use super::scene::{Scene, rounds, row, shared};
use super::watch::{Watch, endless, peer_at};
use crate::support::connection::DEADLINE;
use crate::support::forged_icmp::{Forger, Kind};
use crate::support::hosts::Family;
use crate::support::measured::{Measured, Way};

/// A router more, and then one less.
pub(crate) fn path_change(family: Family) -> Result<()> {
    let _shared = shared();
    let scene = Scene::load("four_hops", Way::Net, family)?;
    let mut watch = Watch::start(&scene);
    watch.until(peer_at(5))?;
    watch.rounds(2)?;
    let third = scene.router(3);
    scene.wan.change(|scenario| {
        let mut router = Router::default();
        router.link.delay_us = 3000;
        scenario.hops.insert(2, router);
    })?;
    let new = scene.router(3);
    ensure!(new != third && scene.router(4) == third);
    let change = watch.until(|event| matches!(event, TraceEvent::Changed { ttl: 3, .. }))?;
    let wanted = TraceEvent::Changed {
        ttl: 3,
        from: third,
        to: new,
    };
    ensure!(change == wanted, "{change:?}");
    watch.until(peer_at(6))?;
    watch.rounds(2)?;
    scene.wan.change(|scenario| {
        scenario.hops.remove(2);
    })?;
    watch.until(peer_at(5))?;
    watch.rounds(2)?;
    let report = watch.finish()?;
    ensure!(report.peer_ttl == Some(5), "{report:#?}");
    ensure!(report.hops.len() == 5 && report.interrupted.is_none());
    let addresses = row(&report, 3)?.addresses.iter();
    ensure!(addresses.map(|at| at.address).eq([third, new]));
    ensure!(row(&report, 5)?.peer);
    Ok(())
}

/// A router more, just before the peer, that says nothing.
pub(crate) fn a_silent_router_more(family: Family) -> Result<()> {
    let _shared = shared();
    let scene = Scene::load("four_hops", Way::Net, family)?;
    let config = TraceConfig {
        timeout: Duration::from_millis(300),
        ..endless()
    };
    let mut watch = Watch::with(&scene, config);
    watch.until(peer_at(5))?;
    watch.rounds(2)?;
    scene.wan.change(|scenario| {
        scenario.hops.push(Router {
            icmp: Willing::Silent,
            ..Router::default()
        });
    })?;
    watch.until(peer_at(6))?;
    // What comes from further away than the peer has come.
    watch.rounds(10)?;
    let report = watch.finish()?;
    ensure!(report.peer_ttl == Some(6), "{report:#?}");
    ensure!(report.hops.len() == 6, "{report:#?}");
    let peers = report.hops.iter().filter(|hop| hop.peer);
    ensure!(peers.map(|hop| hop.ttl).eq([6]), "{report:#?}");
    Ok(())
}

/// Errors that know everything but the transaction of a probe.
pub(crate) fn forged_errors(family: Family) -> Result<()> {
    let _shared = shared();
    let scene = Scene::load("four_hops", Way::Net, family)?;
    let prober = &scene.measured.prober;
    let flow = (prober.local(), prober.remote());
    let mut watch = Watch::start(&scene);
    watch.until(peer_at(5))?;
    let stray = prober.stray_icmp();
    let forger = Forger::new(scene.wan.right(), family)?;
    let liar = liar(family);
    // A STUN request, but for its transaction, and one cut off before it.
    let mut request = [0x55; 40];
    request[..8].copy_from_slice(&[0, 1, 0, 20, 0x21, 0x12, 0xa4, 0x42]);
    let mut sent = 0;
    for _ in 0..5 {
        for from in [liar, scene.router(2), scene.far] {
            for kind in Kind::ALL {
                for quote in [&request[..], &[]] {
                    forger.send(kind, from, flow, quote)?;
                    sent += 1;
                }
            }
        }
        watch.rounds(1)?;
    }
    watch.until(|_| prober.stray_icmp() >= stray + sent / 2)?;
    watch.rounds(1)?;
    let report = watch.finish()?;
    ensure!(report.peer_ttl == Some(5), "{report:#?}");
    ensure!(report.hops.len() == 5, "{report:#?}");
    for hop in &report.hops {
        let address = if hop.peer {
            scene.far
        } else {
            scene.router(hop.ttl)
        };
        ensure!(hop.addresses.len() == 1, "{hop:#?}");
        ensure!(hop.address() == Some(address) && hop.proved(), "{hop:#?}");
        ensure!(hop.mtu.is_none() && hop.error.is_none(), "{hop:#?}");
        ensure!(hop.rtt.lost == 0, "{hop:#?}");
    }
    Ok(())
}

fn liar(family: Family) -> IpAddr {
    match family {
        Family::V4 => [198, 51, 100, 66].into(),
        Family::V6 => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x66].into(),
    }
}

/// Errors that do not say what they are about, while a silent hop is asked: nobody takes its place.
pub(crate) fn forged_errors_about_a_silent_hop(family: Family) -> Result<()> {
    let _shared = shared();
    let scene = Scene::load("silent_hop", Way::Net, family)?;
    let prober = &scene.measured.prober;
    let flow = (prober.local(), prober.remote());
    let config = TraceConfig {
        timeout: Duration::from_millis(40),
        ..endless()
    };
    let mut watch = Watch::with(&scene, config);
    // After as many it is not asked alone any more.
    watch.rounds(5)?;
    let forger = Forger::new(scene.wan.right(), family)?;
    let lost = |event: &TraceEvent| match event {
        TraceEvent::Hop(hop) if hop.ttl == 3 => hop.rtt.lost,
        _ => 0,
    };
    let mut before = 0;
    watch.until(|event| {
        before = lost(event);
        before > 0
    })?;
    // Until many more of its probes were out meanwhile.
    watch.until(|event| {
        for kind in Kind::ALL {
            let sent = forger.send(kind, liar(family), flow, &[]);
            sent.expect("a raw socket takes all");
        }
        lost(event) > before + 10
    })?;
    let report = watch.finish()?;
    ensure!(report.peer_ttl == Some(6), "{report:#?}");
    for hop in &report.hops {
        ensure!(hop.silent == (hop.ttl == 3), "{hop:#?}");
        ensure!(hop.addresses.iter().all(|at| at.address != liar(family)));
    }
    Ok(())
}

/// A router that refuses to forward says so at the hop where it would have.
pub(crate) fn unreachable(family: Family) -> Result<()> {
    let _shared = shared();
    let chain = Chain::new(3, 1500)?;
    let (near, far) = chain.pairs()[family as usize];
    let nodes = [&chain.left, &chain.right];
    let measured = Measured::new(nodes, [near, far], Way::Net)?;
    let (table, with) = match family {
        Family::V4 => ("ip", "icmp type admin-prohibited"),
        Family::V6 => ("ip6", "icmpv6 type admin-prohibited"),
    };
    chain.routers[1].nft(&format!(
        "table {table} t {{
            chain c {{ type filter hook forward priority 0; udp dport {} reject with {with}; }}
        }}",
        measured.prober.remote().port()
    ))?;
    let trace = Trace::new(Arc::clone(&measured.prober), rounds(2));
    let report = measured.left.block_on(async {
        let running = trace.start();
        tokio::time::timeout(DEADLINE, running.finish()).await
    })??;
    ensure!(report.peer_ttl.is_none() && report.hops.len() == 3);
    let address = |hop: u8| {
        let (v4, v6) = chain.router_seen_from_left(hop);
        if near.is_ipv4() { v4 } else { v6 }
    };
    for (hop, (router, error)) in
        report
            .hops
            .iter()
            .zip([(1, None), (2, None), (2, Some(IcmpErrorKind::Prohibited))])
    {
        ensure!(hop.address() == Some(address(router)), "{hop:#?}");
        ensure!(hop.error == error && hop.proved(), "{hop:#?}");
        ensure!(hop.rtt.received == 2, "{hop:#?}");
    }
    Ok(())
}

/// Where the peer does not answer, the routers do.
pub(crate) fn no_peer() -> Result<()> {
    let _shared = shared();
    let scene = Scene::load("four_hops", Way::Net, Family::V4)?;
    scene.wan.change(|scenario| scenario.last_link.loss = 1.0)?;
    let config = TraceConfig {
        max_ttl: 8,
        timeout: Duration::from_millis(300),
        ..TraceConfig::default()
    };
    let (events, report) = scene.trace(config)?;
    ensure!(report.peer_ttl.is_none() && report.peer().is_none());
    ensure!(report.hops.len() == 4, "{report:#?}");
    for hop in &report.hops {
        ensure!(hop.address() == Some(scene.router(hop.ttl)), "{hop:#?}");
    }
    super::scene::picture(&events)?;
    Ok(())
}

/// Not one more probe leaves.
pub(crate) fn dropping_it_stops_it() -> Result<()> {
    let _shared = shared();
    let mut scene = Scene::load("four_hops", Way::Net, Family::V4)?;
    let mut watch = Watch::start(&scene);
    watch.rounds(3)?;
    drop(watch);
    let dropped = SystemTime::now();
    // ICE goes on every 100 ms.
    let far = scene.far;
    scene.wire.wait_for(DEADLINE, |packets| {
        let later = packets
            .iter()
            .filter(|packet| packet.destination.ip() == far && packet.ttl == 64)
            .filter(|packet| packet.at > dropped);
        later.count() >= 10
    })?;
    let probes = scene.probes();
    ensure!(probes.len() >= 15, "{} probes", probes.len());
    // A task that is aborted ends when a thread has time for it.
    let last = dropped + Duration::from_millis(50);
    let later = probes.iter().filter(|probe| probe.at > last);
    ensure!(later.count() == 0);
    Ok(())
}

/// There is a report of what there was.
pub(crate) fn stopping_it() -> Result<()> {
    let _shared = shared();
    let scene = Scene::load("four_hops", Way::Net, Family::V4)?;
    let mut watch = Watch::start(&scene);
    watch.rounds(3)?;
    let report = watch.finish()?;
    ensure!(report.rounds >= 3 && report.hops.len() == 5, "{report:#?}");
    ensure!(report.peer_ttl == Some(5) && report.interrupted.is_none());
    Ok(())
}

pub(crate) fn wrong_configuration() -> Result<()> {
    let _shared = shared();
    let scene = Scene::load("four_hops", Way::Net, Family::V4)?;
    let right = TraceConfig::default();
    let wrong = [
        TraceConfig {
            max_ttl: 0,
            ..right.clone()
        },
        TraceConfig {
            rounds: Some(0),
            ..right.clone()
        },
        TraceConfig {
            timeout: Duration::ZERO,
            ..right
        },
    ];
    for (config, field) in wrong.into_iter().zip(["max_ttl", "rounds", "timeout"]) {
        let error = scene.trace(config).err().context("it was taken")?;
        let error = error.downcast::<MeasureError>()?;
        ensure!(error.to_string().starts_with(field), "{error}");
    }
    Ok(())
}
