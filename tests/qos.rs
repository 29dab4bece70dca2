//! What the comparison of marks says of networks that do known things to them.

mod qos {
    pub(crate) mod filters;
    pub(crate) mod lies;
    pub(crate) mod load;
    pub(crate) mod reporting;
    pub(crate) mod running;
    pub(crate) mod scene;
}
mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use perpacket_lab::{Bandwidth, Sniffer, Test, Wan, Willing};
use perpacket_path::{
    Behaviour, DscpChange, EcnChange, FallBackLevel, Observe, Phase, QosConfig, QosReport, Verdict,
    Visibility,
};
use perpacket_udp::{Dscp, Ecn, MessageOptions};
use perpacket_webrtc::PacketClass;

use qos::filters;
use qos::lies::Lies;
use qos::load::Load;
use qos::reporting::report_back;
use qos::running;
use qos::scene::Scene;
use support::connection::DEADLINE;
use support::hosts::Family;
use support::measured::Way;
use support::wire::{class_of, sent_after};

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("a_neutral_path_net_v4", || neutral(Way::Net, Family::V4)),
        ("a_neutral_path_net_v6", || neutral(Way::Net, Family::V6)),
        ("a_neutral_path_mux_v4", || neutral(Way::Mux, Family::V4)),
        ("a_neutral_path_mux_v6", || neutral(Way::Mux, Family::V6)),
        ("bleach_dscp", || remarked("remark_bleach_dscp")),
        ("bleach_tos_precedence", || {
            remarked("remark_bleach_tos_precedence")
        }),
        ("bleach_some_tos", || remarked("remark_bleach_some_tos")),
        ("re_mark_tos", || remarked("remark_tos")),
        ("bleach_low", || remarked("remark_bleach_low")),
        ("bleach_some_low", || remarked("remark_bleach_some_low")),
        ("re_mark_dscp", || remarked("remark_dscp")),
        ("bleached_ecn", bleached_ecn),
        ("nothing_is_changed", nothing_is_changed),
        ("forged_quotes_v4", || forged(Family::V4)),
        ("forged_quotes_v6", || forged(Family::V6)),
        ("the_peer_tells_what_routers_do_not", silent_routers),
        (
            "losses_on_the_way_back_are_told_apart",
            lost_on_the_way_back,
        ),
        ("a_slow_mark_v4", || slow_mark(Family::V4)),
        ("a_slow_mark_v6", || slow_mark(Family::V6)),
        ("priority_shows_under_load", priority),
        ("a_dead_mark_v4", || dead_mark(Family::V4)),
        ("a_dead_mark_v6", || dead_mark(Family::V6)),
        ("a_mark_that_this_host_drops_v4", || {
            filters::dropped_here(Family::V4)
        }),
        ("a_mark_that_this_host_drops_v6", || {
            filters::dropped_here(Family::V6)
        }),
        ("a_dead_ecn_field", filters::dead_ecn_field),
        (
            "a_report_survives_that_nothing_can_be_seen",
            filters::nothing_can_be_seen,
        ),
        ("stopped_while_it_looks", running::stopped_while_it_looks),
        ("after_an_ice_restart", running::after_an_ice_restart),
        ("stopped_early", running::stopped),
    ];
    perpacket_lab::main(tests)
}

/// Six marks, as fast as the prober sends.
fn config(count: usize) -> QosConfig {
    let mut config = QosConfig::default();
    config.count = count;
    config.interval = Duration::from_millis(4);
    config.observe = Observe::Never;
    config
}

/// Only what becomes of marks.
fn observing() -> QosConfig {
    let mut config = config(1);
    config.observe = Observe::Required;
    config.timeout = Duration::from_millis(500);
    config
}

/// Of a hundred runs one may see what is not there; a second one does not see it too.
fn neutral(way: Way, family: Family) -> Result<()> {
    let scene = Scene::new("four_hops", way, family)?;
    let mut seen = Vec::new();
    for seed in 0..4 {
        let mut config = config(40);
        config.seed = Some(seed);
        let report = scene.run(config)?;
        ensure!((report.seed, report.marks.len()) == (seed, 6));
        for mark in &report.marks {
            ensure!((mark.rtt.sent, mark.rtt.lost) == (40, 0), "{mark:?}");
            if let Some(comparison) = &mark.comparison
                && comparison.verdicts != [Verdict::NoMeasurableDifference]
            {
                seen.push(mark.clone());
            }
        }
        ensure!(report.dead.is_empty() && report.fallen_back.is_empty());
        ensure!(report.observation.on_the_way == Visibility::NotAsked);
    }
    ensure!(seen.len() <= 1, "{seen:?}");
    Ok(())
}

/// The behaviour that the scenario has its second router show, seen by quotes, and by quotes and the peer.
fn remarked(scenario: &str) -> Result<()> {
    let behaviour = match scenario {
        "remark_bleach_dscp" => Behaviour::BleachDscp,
        "remark_bleach_tos_precedence" => Behaviour::BleachTosPrecedence,
        "remark_bleach_some_tos" => Behaviour::BleachSomeTos,
        "remark_tos" => Behaviour::RemarkTos,
        "remark_bleach_low" => Behaviour::BleachLow,
        "remark_bleach_some_low" => Behaviour::BleachSomeLow,
        _ => Behaviour::RemarkDscp,
    };
    for family in [Family::V4, Family::V6] {
        let scene = Scene::new(scenario, Way::Net, family)?;
        let named = Some(DscpChange::Named(behaviour));
        let report = scene.run(observing())?;
        placed(&report, named.as_ref(), &[]).with_context(|| format!("{family:?}"))?;
        let reports = report_back(&scene.measured)?;
        let report = scene.run_with_reports(observing(), &reports)?;
        placed(&report, named.as_ref(), &[]).with_context(|| format!("{family:?}, told"))?;
        let observation = &report.observation;
        ensure!(observation.at_the_peer == Visibility::Observed);
        for path in &observation.paths {
            ensure!(path.seen.keys().eq(&[1, 2, 3, 4, 5]), "{path:?}");
        }
    }
    Ok(())
}

/// One change, by the second router, which the third is the first to see.
fn placed(report: &QosReport, dscp: Option<&DscpChange>, ecn: &[EcnChange]) -> Result<()> {
    let observation = &report.observation;
    ensure!(observation.on_the_way == Visibility::Observed);
    ensure!(observation.hops == Some(5), "{observation:?}");
    let [one] = &observation.remarkings[..] else {
        anyhow::bail!("{observation:#?}");
    };
    ensure!((one.from_hop, one.to_hop) == (2, 3), "{one:?}");
    ensure!((one.dscp.as_ref(), &one.ecn[..]) == (dscp, ecn), "{one:?}");
    Ok(())
}

fn bleached_ecn() -> Result<()> {
    let ecn = [Ecn::Ect1, Ecn::Ect0].map(|from| EcnChange::Bleached { from });
    for family in [Family::V4, Family::V6] {
        let scene = Scene::new("ecn_bleach", Way::Net, family)?;
        placed(&scene.run(observing())?, None, &ecn)?;
    }
    Ok(())
}

fn nothing_is_changed() -> Result<()> {
    let scene = Scene::new("four_hops", Way::Mux, Family::V4)?;
    let reports = report_back(&scene.measured)?;
    let report = scene.run_with_reports(observing(), &reports)?;
    ensure!(report.observation.remarkings.is_empty(), "{report:#?}");
    for path in &report.observation.paths {
        ensure!(path.seen.len() == 5, "{path:?}");
        ensure!(
            path.seen.values().all(|tos| *tos == path.sent.tos()),
            "{path:?}"
        );
    }
    Ok(())
}

/// Somewhere on the way: no more can be said.
fn silent_routers() -> Result<()> {
    let scene = Scene::new("remark_bleach_low", Way::Net, Family::V4)?;
    scene.wan.change(|scenario| {
        for hop in &mut scenario.hops {
            hop.icmp = Willing::Silent;
        }
    })?;
    let reports = report_back(&scene.measured)?;
    let report = scene.run_with_reports(observing(), &reports)?;
    let [one] = &report.observation.remarkings[..] else {
        anyhow::bail!("{report:#?}");
    };
    ensure!((one.from_hop, one.to_hop) == (0, 5), "{one:?}");
    ensure!(one.dscp == Some(DscpChange::Named(Behaviour::BleachLow)));
    let unseen = matches!(
        report.observation.on_the_way,
        Visibility::Unavailable { .. }
    );
    ensure!(unseen, "{report:#?}");
    Ok(())
}

/// Somebody says, of packets that have the right addresses, that every mark was gone at the first hop.
fn forged(family: Family) -> Result<()> {
    let scene = Scene::new("four_hops", Way::Net, family)?;
    let lies = Lies::tell(&scene, family)?;
    let report = scene.run(observing())?;
    ensure!(lies.end()? > 100, "there was nothing to believe");
    ensure!(report.observation.on_the_way == Visibility::Observed);
    ensure!(report.observation.remarkings.is_empty(), "{report:#?}");
    ensure!(report.marks.iter().all(|mark| mark.rtt.lost == 0));
    Ok(())
}

fn lost_on_the_way_back() -> Result<()> {
    let scene = Scene::new("four_hops", Way::Net, Family::V6)?;
    let reports = report_back(&scene.measured)?;
    scene
        .wan
        .change(|scenario| scenario.last_link.drop_every_back = Some(7))?;
    let report = scene.run_with_reports(config(20), &reports)?;
    let lost: u64 = report.marks.iter().map(|mark| mark.rtt.lost).sum();
    ensure!(lost > 5, "{lost} lost");
    for mark in &report.marks {
        // The last of all can be told after the last answer.
        let arrived = mark.arrived.context("nothing is told")?;
        ensure!(arrived + 1 >= mark.rtt.sent, "{mark:?}");
    }
    Ok(())
}

/// Three milliseconds more, there: the answers have another mark. A busy machine can hide them for a while, and
/// once in a hundred runs show something else.
fn slow_mark(family: Family) -> Result<()> {
    let scene = Scene::new("slow_dscp", Way::Net, family)?;
    let slow = Dscp::CS1.into();
    let mut config = config(40);
    config.marks.push(slow);
    let (mut found, mut wrong) = (false, Vec::new());
    let start = Instant::now();
    while !found && start.elapsed() < DEADLINE {
        let report = scene.run(config.clone())?;
        for mark in &report.marks[1..] {
            let comparison = mark.comparison.as_ref().context("not compared")?;
            let interval = comparison.rtt_difference_us.context("no interval")?;
            let truth = if mark.mark == slow { 3_000.0 } else { 0.0 };
            // The second router is not alone in what it takes.
            let is_inside = interval.low < truth + 300.0 && interval.high > truth - 300.0;
            match comparison.verdicts[..] {
                [Verdict::Slower { .. }] if mark.mark == slow && is_inside => found = true,
                [Verdict::NoMeasurableDifference] if is_inside => {}
                _ => wrong.push(mark.clone()),
            }
        }
    }
    ensure!(found && wrong.len() <= 1, "{wrong:#?}");
    Ok(())
}

/// A line of 2 Mbit/s with 40 ms of queue, in which EF goes first, and a fifth more than fits.
fn priority() -> Result<()> {
    let scene = Scene::new("priority", Way::Net, Family::V4)?;
    scene.wan.change(|scenario| {
        scenario.hop_mut(2).bandwidth = Some(Bandwidth {
            bits_per_second: 2_000_000,
            queue_bytes: 10_000,
            priority: Some(Dscp::EF.value()),
        });
    })?;
    let idle = scene.run(config(30))?;
    let load = Load::start(&scene, 2_400_000)?;
    let mut config = config(50);
    config.phase = Phase::Loaded;
    let loaded = scene.run(config)?;
    load.stop()?;

    for mark in &loaded.marks[1..] {
        let comparison = mark.comparison.as_ref().context("not compared")?;
        let faster = comparison
            .verdicts
            .iter()
            .any(|verdict| matches!(verdict, Verdict::Faster { by_us } if *by_us > 10_000.0));
        let slower = comparison
            .verdicts
            .iter()
            .any(|verdict| matches!(verdict, Verdict::Slower { .. } | Verdict::Dead));
        let is_ef = mark.mark == Dscp::EF.into();
        ensure!(faster == is_ef && !slower, "{mark:#?}");
        let interval = comparison.rtt_difference_us.context("no interval")?;
        ensure!((interval.high < 0.0) == is_ef, "{mark:#?}");
    }
    let effects = idle.under_load(&loaded);
    let growth = |dscp: Dscp| {
        let effect = effects.iter().find(|effect| effect.mark == dscp.into());
        effect.and_then(|effect| effect.median_growth_us)
    };
    ensure!(growth(Dscp::CS0) > Some(20_000.0), "{effects:#?}");
    // One packet is on the line already: 1,228 bytes are 5 ms.
    ensure!(growth(Dscp::EF) < Some(10_000.0), "{effects:#?}");
    Ok(())
}

/// The data channel gets a mark that does not arrive, and goes back to none: nothing else of it changes.
fn dead_mark(family: Family) -> Result<()> {
    let mut scene = Scene::new("dead_dscp", Way::Net, family)?;
    let mut wire = Sniffer::on(scene.wan.left(), Wan::INTERFACE)?;
    let near = scene.wan.pairs()[family as usize].0;
    let marked = MessageOptions::NONE
        .with_dscp(Dscp::EF)
        .with_ecn(Ecn::Ect1)
        .with_ttl(60);
    let session = scene.measured.session.clone();
    session.set_class_options(PacketClass::Dtls, marked)?;

    let mut config = config(20);
    config.marks.clear();
    config.timeout = Duration::from_millis(500);
    let advised = scene.run(config.clone())?;
    ensure!(advised.dead.is_empty(), "nobody asked for EF: {advised:#?}");
    config.marks.push(Dscp::EF.into());
    let advised = scene.run(config.clone())?;
    ensure!(advised.fallen_back.is_empty(), "only advice was asked for");
    let [dead] = &advised.dead[..] else {
        anyhow::bail!("{advised:#?}");
    };
    let advice = dead.to_string();
    ensure!(
        advice.contains("EF") && advice.contains("DSCP 0"),
        "{advice}"
    );

    config.marks.clear();
    let report = scene.run_with_fall_back(config)?;
    let ef = report.mark(Dscp::EF).context("EF is in use")?;
    let verdicts = ef.comparison.as_ref().map(|c| &c.verdicts[..]);
    ensure!(verdicts == Some(&[Verdict::Dead]), "{ef:#?}");
    let [back] = &report.fallen_back[..] else {
        anyhow::bail!("{report:#?}");
    };
    ensure!((back.class, back.from) == (PacketClass::Dtls, Dscp::EF));
    ensure!(back.level == FallBackLevel::Session);

    let mut next_dtls = |scene: &mut Scene, tos: u8| -> Result<()> {
        let since = SystemTime::now();
        let message = Bytes::from_static(b"after");
        let left = &scene.measured.left;
        left.block_on(left.channel.get().send(&message))?;
        wire.wait_for(DEADLINE, |packets| {
            let mut sent = sent_after(packets, near, since);
            sent.any(|packet| class_of(packet) == Some(PacketClass::Dtls))
        })?;
        for packet in sent_after(wire.packets(), near, since) {
            if class_of(packet) == Some(PacketClass::Dtls) {
                ensure!((packet.tos, packet.ttl) == (tos, 60), "{packet:?}");
            }
        }
        Ok(())
    };
    next_dtls(&mut scene, 1)?;
    let arrived = {
        let right = &mut scene.measured.right;
        let message = right.channel.message();
        right.runtime.block_on(message)?
    };
    ensure!(arrived == *b"after".as_slice(), "{arrived:?}");
    back.undo();
    next_dtls(&mut scene, Dscp::EF.value() << 2 | 1)
}
