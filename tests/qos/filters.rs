//! Marks, and probes that look for them, which a filter of one of the hosts drops.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::Node;
use perpacket_path::{Mark, MarkReport, Observe, QosConfig, Verdict, Visibility};
use perpacket_udp::{Dscp, Ecn, MessageOptions};
use perpacket_webrtc::PacketClass;

use crate::qos::scene::Scene;
use crate::support::hosts::Family;
use crate::support::measured::Way;

/// Makes the host drop what it sends (`output`), or what comes to it (`input`).
pub(crate) fn filter(host: &Node, hook: &str, what: &str) -> Result<()> {
    Ok(host.nft(&format!(
        "table inet lab {{
            chain filter {{
                type filter hook {hook} priority filter;
                {what} drop;
            }}
        }}"
    ))?)
}

fn config(mark: Mark, observe: Observe) -> QosConfig {
    let mut config = QosConfig::default();
    config.marks = vec![mark];
    config.count = 20;
    config.interval = Duration::from_millis(4);
    config.timeout = Duration::from_millis(500);
    config.observe = observe;
    config
}

fn is_dead(mark: &MarkReport) -> bool {
    let verdicts = mark.comparison.as_ref().map(|c| &c.verdicts[..]);
    verdicts == Some(&[Verdict::Dead])
}

/// The kernel refuses to send it (`EPERM`): it is as dead as if a router dropped it, and the other marks are seen.
pub(crate) fn dropped_here(family: Family) -> Result<()> {
    let scene = Scene::new("four_hops", Way::Net, family)?;
    let ip = match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    };
    filter(scene.wan.left(), "output", &format!("{ip} dscp ef"))?;
    let dropped = Mark::from(Dscp::EF);
    let report = scene.run(config(dropped, Observe::Required))?;
    let [reference, ef] = &report.marks[..] else {
        anyhow::bail!("{report:#?}");
    };
    ensure!(reference.rtt.lost == 0, "{reference:#?}");
    ensure!((ef.rtt.sent, ef.rtt.lost) == (20, 20), "{ef:#?}");
    ensure!(is_dead(ef) && report.dead.len() == 1, "{report:#?}");
    let observation = &report.observation;
    ensure!(observation.on_the_way == Visibility::Observed);
    for path in &observation.paths {
        let hops = if path.sent.dscp == Dscp::EF { 0 } else { 4 };
        ensure!(path.seen.len() == hops, "{path:?}");
    }
    Ok(())
}

/// AF41 arrives, and not with ECT(1): what is sent with AF41 keeps it.
pub(crate) fn dead_ecn_field() -> Result<()> {
    let scene = Scene::new("four_hops", Way::Net, Family::V4)?;
    filter(scene.wan.right(), "input", "ip dscp af41 ip ecn ect1")?;
    let session = &scene.measured.session;
    let marked = MessageOptions::NONE.with_dscp(Dscp::AF41);
    session.set_class_options(PacketClass::Dtls, marked)?;
    let both = Mark::new(Dscp::AF41, Ecn::Ect1);
    let report = scene.run_with_fall_back(config(both, Observe::Never))?;
    let [dead] = &report.dead[..] else {
        anyhow::bail!("{report:#?}");
    };
    ensure!(dead.mark == both, "{dead}");
    let alive = report.mark(Dscp::AF41).context("AF41 is in use")?;
    ensure!(alive.rtt.lost == 0, "{alive:#?}");
    ensure!(report.fallen_back.is_empty(), "{report:#?}");
    ensure!(session.options().resolve(PacketClass::Dtls) == marked);
    Ok(())
}

/// Probes with a TTL of their own cannot be sent. What is known of the marks stays, as does the way back.
pub(crate) fn nothing_can_be_seen() -> Result<()> {
    let scene = Scene::new("dead_dscp", Way::Net, Family::V4)?;
    filter(scene.wan.left(), "output", "ip ttl < 31 ip protocol udp")?;
    let session = &scene.measured.session;
    let marked = MessageOptions::NONE.with_dscp(Dscp::EF);
    session.set_class_options(PacketClass::Dtls, marked)?;
    let ef = Mark::from(Dscp::EF);

    let report = scene.run(config(ef, Observe::IfPossible))?;
    ensure!(report.mark(ef).is_some_and(is_dead), "{report:#?}");
    let Visibility::Unavailable { reason } = &report.observation.on_the_way else {
        anyhow::bail!("{report:#?}");
    };
    ensure!(reason.contains("cannot probe the session"), "{reason}");
    ensure!(scene.run(config(ef, Observe::Required)).is_err());

    let report = scene.run_with_fall_back(config(ef, Observe::Required))?;
    let [back] = &report.fallen_back[..] else {
        anyhow::bail!("{report:#?}");
    };
    let dscp = || session.options().resolve(PacketClass::Dtls).dscp;
    ensure!(dscp() == Some(Dscp::CS0));
    back.undo();
    ensure!(dscp() == Some(Dscp::EF));
    Ok(())
}
