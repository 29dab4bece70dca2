//! The path MTU of a session, measured over networks whose MTU is known.

mod support;
mod pmtu {
    pub(crate) mod apply;
    pub(crate) mod scene;
    pub(crate) mod watch;
}

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use perpacket_lab::{Direction, Packet, Test, Willing};
use perpacket_path::{PathMtu, PathMtuConfig, PathMtuReport, Whose};
use perpacket_udp::MessageOptions;
use perpacket_webrtc::{PacketClass, Prober};

use pmtu::apply::large_media_are_not_lost_in_silence;
use pmtu::scene::{NARROW, NEAR, Scene, searched, sent};
use pmtu::watch::{
    a_black_hole_appears, after_an_ice_restart, an_outage_begins_as_a_black_hole,
    checks_that_never_come, ice_restarts, the_peer_is_gone_for_a_while, the_round_trip_rises,
};
use support::connection::DEADLINE;
use support::forged_too_big::Forger;
use support::hosts::Family;
use support::measured::Way;
use support::wire::class_of;

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("a_router_says_so_v4", || a_router_says_so(Family::V4)),
        ("a_router_says_so_v6", || a_router_says_so(Family::V6)),
        ("what_this_host_sends_v4", || {
            what_this_host_sends(Family::V4)
        }),
        ("what_this_host_sends_v6", || {
            what_this_host_sends(Family::V6)
        }),
        ("nobody_says_so_1500_v4", || {
            nobody_says_so(Family::V4, 1500)
        }),
        ("nobody_says_so_1500_v6", || {
            nobody_says_so(Family::V6, 1500)
        }),
        ("nobody_says_so_9000_v4", || {
            nobody_says_so(Family::V4, 9000)
        }),
        ("nobody_says_so_9000_v6", || {
            nobody_says_so(Family::V6, 9000)
        }),
        ("through_a_mux_v4", || through_a_mux(Family::V4)),
        ("through_a_mux_v6", || through_a_mux(Family::V6)),
        ("random_loss", random_loss),
        ("a_black_hole_appears_v4", || {
            a_black_hole_appears(Family::V4)
        }),
        ("a_black_hole_appears_v6", || {
            a_black_hole_appears(Family::V6)
        }),
        ("the_peer_is_gone_for_a_while", the_peer_is_gone_for_a_while),
        (
            "an_outage_begins_as_a_black_hole",
            an_outage_begins_as_a_black_hole,
        ),
        ("the_round_trip_rises", the_round_trip_rises),
        ("checks_that_never_come", checks_that_never_come),
        ("ice_restarts", ice_restarts),
        ("after_an_ice_restart", after_an_ice_restart),
        ("forged_v4", || forged(Family::V4)),
        ("forged_v6", || forged(Family::V6)),
        ("the_peers_own_limit_v4", || the_peers_own_limit(Family::V4)),
        ("the_peers_own_limit_v6", || the_peers_own_limit(Family::V6)),
        ("large_media_are_not_lost_in_silence_v4", || {
            large_media_are_not_lost_in_silence(Family::V4)
        }),
        ("large_media_are_not_lost_in_silence_v6", || {
            large_media_are_not_lost_in_silence(Family::V6)
        }),
        ("it_can_be_stopped", it_can_be_stopped),
    ];
    perpacket_lab::main(tests)
}

/// Path MTU, cap, probes, lost: facts of the search, each packet of which is seen on the wire.
const SILENT: [(usize, usize, usize, usize); 10] = [
    (1500, 1500, 1, 0),
    (1492, 1500, 6, 3),
    (1420, 1500, 6, 4),
    (1400, 1500, 6, 5),
    (1280, 1500, 7, 6),
    (1500, 9000, 6, 5),
    (1492, 9000, 7, 4),
    (1420, 9000, 7, 5),
    (1400, 9000, 7, 6),
    (1280, 9000, 8, 7),
];

/// Three probes and three round trips, whatever the interface carries.
fn a_router_says_so(family: Family) -> Result<()> {
    let mtus: &[usize] = match family {
        Family::V4 => &[1400, 1454, 1280, 1492, 1201],
        Family::V6 => &[1400, 1454, 1280, 1492],
    };
    for host in [1500, 9000] {
        let mut scene = Scene::new(family, host, Duration::from_millis(20))?;
        let round_trip = scene.wan.rtt();
        for mtu in mtus {
            scene.narrow(*mtu, Willing::Answer)?;
            let config = [PathMtuConfig {
                cap: Some(host.into()),
                ..PathMtuConfig::default()
            }];
            let mut tries = 0;
            let (report, took) = loop {
                let ([report], took) = scene.measure_undisturbed(&config, *mtu)?;
                tries += 1;
                // A machine that is too busy takes longer, without an answer being late.
                if took <= 3 * round_trip || tries == 5 {
                    break (report, took);
                }
            };
            let context = || format!("{mtu} of {host} took {took:?}: {report:#?}");
            ensure!(report.mtu == mtu / 4 * 4 && report.exact, context());
            ensure!(report.upper == Some(mtu + 1) && report.complete, context());
            ensure!(report.cap == usize::from(host), context());
            ensure!(sent(&report).len() <= 3, context());
            ensure!(took <= 3 * round_trip, context());
            let [hint] = report.hints[..] else {
                bail!(context());
            };
            ensure!(hint.from == Some(scene.narrow_router()), context());
            ensure!(
                hint.proved && hint.mtu == u32::try_from(*mtu).ok(),
                context()
            );
            let expected = [host.into(), report.mtu];
            let wire = scene.probes_on_the_wire(|wire| wire.ends_with(&expected));
            ensure!(wire.ends_with(&expected), "{wire:?}, {}", context());
        }
        scene.finish()?;
    }
    Ok(())
}

/// This host's own limit is found without a packet.
fn what_this_host_sends(family: Family) -> Result<()> {
    for host in [1500, 1504, 2000] {
        let mut scene = Scene::new(family, host, NEAR)?;
        let report = scene.measure(PathMtuConfig::default())?;
        let host = usize::from(host);
        let found = (report.mtu, report.exact, report.upper, report.cap);
        ensure!(found == (host, true, None, host), "{report:#?}");
        let wire = scene.probes_on_the_wire(|wire| wire.contains(&host));
        ensure!(wire.iter().max() == Some(&host), "{wire:?}");
        scene.finish()?;
    }
    Ok(())
}

/// As few probes as the table says, each of them seen on the wire; and exact where that is asked for.
fn nobody_says_so(family: Family, host: u16) -> Result<()> {
    let mut scene = Scene::new(family, host, NEAR)?;
    let cap = usize::from(host);
    let rows = SILENT.iter().filter(|(_, of, ..)| *of == cap);
    for (mtu, _, probes, lost) in rows {
        scene.narrow(*mtu, Willing::Silent)?;
        let config = |refine| PathMtuConfig {
            cap: Some(cap),
            refine,
            peer_limit: false,
            ..PathMtuConfig::default()
        };
        let configs = [config(false), config(true)];
        let ([plain, refined], _) = scene.measure_undisturbed(&configs, *mtu)?;
        let context = |report: &_| format!("{mtu} of {cap}: {report:#?}");
        for report in [&plain, &refined] {
            ensure!(report.mtu == *mtu && report.cap == cap, context(report));
        }
        let next = (*mtu < cap).then_some(mtu + 4);
        ensure!(refined.exact && refined.upper == next, context(&refined));
        let asked = searched(&plain);
        let silent = asked.iter().filter(|size| *size > mtu).count();
        ensure!(asked.len() <= *probes && silent <= *lost, context(&plain));

        // Those of both are the last that left the host.
        let mut all = [asked, searched(&refined)].concat();
        all.sort_unstable();
        let last = |wire: &[usize]| {
            let mut last = wire[wire.len().saturating_sub(all.len())..].to_vec();
            last.sort_unstable();
            last
        };
        let wire = last(&scene.probes_on_the_wire(|wire| last(wire) == all));
        ensure!(
            wire == all,
            "{wire:?}, {}, {}",
            context(&plain),
            context(&refined)
        );
    }
    scene.finish()
}

fn through_a_mux(family: Family) -> Result<()> {
    let scene = Scene::with(Way::Mux, family, 1500, NEAR)?;
    for (mtu, too_big) in [(1400, Willing::Answer), (1420, Willing::Silent)] {
        scene.narrow(mtu, too_big)?;
        let config = PathMtuConfig {
            refine: true,
            ..PathMtuConfig::default()
        };
        let ([report], _) = scene.measure_undisturbed(&[config], mtu)?;
        ensure!(report.mtu == mtu && report.exact, "{report:#?}");
        ensure!(report.hints.len() == usize::from(too_big == Willing::Answer));
    }
    scene.finish()
}

/// One packet in twenty is lost on the way out.
fn random_loss() -> Result<()> {
    const ROUNDS: usize = 4;
    const AT_ONCE: usize = 100;
    let scene = Scene::new(Family::V4, 1500, Duration::from_millis(1))?;
    scene.narrow(1400, Willing::Silent)?;
    let left = &scene.measured.left;
    let prober = left.block_on(Prober::new(&scene.measured.session, &left.connection))?;
    let prober = std::sync::Arc::new(prober.with_rate(5000, 200));
    let lose = |loss| {
        scene.wan.change(|scenario| {
            let link = &mut scenario.hop_mut(NARROW + 1).link;
            (link.loss, link.loss_back) = (loss, Some(0.0));
        })
    };
    lose(0.05)?;
    let mut wrong = Vec::new();
    for _ in 0..ROUNDS {
        let reports = left.block_on(async {
            let start = |_| PathMtu::new(prober.clone(), PathMtuConfig::default()).start();
            let running: Vec<_> = (0..AT_ONCE).map(start).collect();
            let mut reports = Vec::new();
            for one in running {
                reports.push(one.finish().await?);
            }
            anyhow::Ok(reports)
        })?;
        wrong.extend(reports.into_iter().filter(|report| report.mtu != 1400));
    }
    let runs = ROUNDS * AT_ONCE;
    ensure!(
        wrong.len() * 200 < runs,
        "{} of {runs}: {wrong:#?}",
        wrong.len()
    );
    lose(0.0)?;
    scene.finish()
}

/// Somebody who knows the session's addresses and ports, but sees none of its packets, says that they are too big.
fn forged(family: Family) -> Result<()> {
    let mut scene = Scene::new(family, 1500, NEAR)?;
    // What leaves DF to the kernel it fragments by any MTU that it is told, with or without a measurement.
    let df = MessageOptions::NONE.with_df_bit(true);
    scene.measured.session.set_options(df)?;
    let near = scene.near;
    let outgoing = move |packet: &Packet| {
        packet.direction == Direction::Outgoing && packet.source.ip() == near
    };
    let media = scene.wire.find(DEADLINE, |packet| {
        outgoing(packet) && class_of(packet) == Some(PacketClass::Dtls)
    })?;
    let check = scene.wire.find(DEADLINE, |packet| {
        outgoing(packet) && class_of(packet) == Some(PacketClass::Stun)
    })?;
    let headers = scene.measured.prober.overhead();
    let quotes = [
        media.raw.to_vec(),
        check.raw.to_vec(),
        // The minimum that a router quotes, which names the flow and nothing else.
        media.raw[..headers].to_vec(),
    ];
    let strays = scene.measured.prober.stray_icmp();
    let forger = Forger::start(scene.wan.right(), near, &quotes)?;
    let is_heard = || Ok((scene.measured.prober.stray_icmp() > strays + 100).then_some(()));
    perpacket_lab::until(DEADLINE, || "forged errors".to_owned(), is_heard)?;

    let rounds = forger.rounds();
    let ([wide], _) = scene.measure_undisturbed(&[PathMtuConfig::default()], 1500)?;
    ensure!(forger.rounds() > rounds, "nothing was forged meanwhile");
    let is_right = |report: &PathMtuReport, mtu| report.mtu == mtu && report.exact;
    ensure!(is_right(&wide, 1500), "{wide:#?}");
    ensure!(sent(&wide).len() == 2, "{wide:#?}");
    ensure!(wide.stray_icmp > 0, "{wide:#?}");

    scene.narrow(1420, Willing::Answer)?;
    let ([narrow], _) = scene.measure_undisturbed(&[PathMtuConfig::default()], 1420)?;
    ensure!(is_right(&narrow, 1420), "{narrow:#?}");
    ensure!(sent(&narrow).len() == 3, "{narrow:#?}");

    scene.narrow(1400, Willing::Silent)?;
    let config = PathMtuConfig {
        refine: true,
        ..PathMtuConfig::default()
    };
    let ([silent], _) = scene.measure_undisturbed(&[config], 1400)?;
    ensure!(is_right(&silent, 1400), "{silent:#?}");

    scene.numbers.go_on(&mut scene.measured.right)?;
    drop(forger);
    let cut = |packet: &&Packet| outgoing(packet) && packet.fragment.is_some();
    let cut = scene.wire.packets().iter().find(cut);
    if let Some(cut) = cut {
        bail!("{cut}");
    }
    scene.finish()
}

/// webrtc-rs reads at most 8,192 bytes; the path carries more.
fn the_peers_own_limit(family: Family) -> Result<()> {
    let scene = Scene::new(family, 9000, NEAR)?;
    let headers = scene.measured.prober.overhead();
    let limit = 8192 + headers;
    let ([report], _) = scene.measure_undisturbed(&[PathMtuConfig::default()], limit)?;
    ensure!(report.mtu == limit, "{report:#?}");
    ensure!(report.upper == Some(limit + 4), "{report:#?}");
    let found = report.peer_limit.with_context(|| format!("{report:#?}"))?;
    ensure!(
        (found.stun, found.whose) == (8192, Whose::Peer),
        "{report:#?}"
    );
    ensure!(!report.exact, "{report:#?}");

    // Where the path carries less than the peer takes, it is the path; on IPv4 that can be shown.
    scene.narrow(5000, Willing::Silent)?;
    let config = PathMtuConfig {
        refine: true,
        ..PathMtuConfig::default()
    };
    let ([report], _) = scene.measure_undisturbed(&[config], 5000)?;
    ensure!(report.mtu == 5000, "{report:#?}");
    match family {
        Family::V4 => ensure!(report.peer_limit.is_none() && report.exact, "{report:#?}"),
        Family::V6 => {
            let whose = report.peer_limit.map(|limit| limit.whose);
            ensure!(whose == Some(Whose::PeerOrPath), "{report:#?}");
        }
    }
    scene.finish()
}

fn it_can_be_stopped() -> Result<()> {
    let mut scene = Scene::new(Family::V4, 1500, NEAR)?;
    scene.narrow(1280, Willing::Silent)?;
    let prober = scene.measured.prober.clone();
    let left = &scene.measured.left;
    let report = left.block_on(async {
        let mut running = PathMtu::new(prober, PathMtuConfig::default()).start();
        let first = running.next().await;
        running.stop();
        (first, running.finish().await)
    });
    let (first, report) = (report.0.context("nothing")?, report.1?);
    ensure!(first.probe.result.is_answered(), "{first:?}");
    ensure!(!report.complete && !report.exact, "{report:?}");
    // Dropping it ends it too: no further probe leaves.
    let prober = scene.measured.prober.clone();
    left.block_on(async {
        let mut running = PathMtu::new(prober, PathMtuConfig::default()).start();
        running.next().await;
    });
    // What is on its way to the socket still goes.
    let end = SystemTime::now() + Duration::from_millis(50);
    while SystemTime::now() < end + Duration::from_millis(200) {
        scene.numbers.go_on(&mut scene.measured.right)?;
    }
    ensure!(scene.probes_since(end) == 0);
    scene.finish()
}
