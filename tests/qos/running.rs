//! When a test begins, and when it ends.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::{Direction, Sniffer, Wan};
use perpacket_path::{MarkReport, Observe, QosConfig, QosEvent, Visibility};

use crate::qos::filters::filter;
use crate::qos::scene::Scene;
use crate::support::connection::DEADLINE;
use crate::support::hosts::Family;
use crate::support::measured::Way;

/// The test finds the session where it is now.
pub(crate) fn after_an_ice_restart() -> Result<()> {
    let scene = Scene::new("four_hops", Way::Net, Family::V4)?;
    scene.measured.restart_ice()?;
    let report = scene.run(crate::config(5))?;
    let answered = |mark: &MarkReport| mark.rtt.received > 0;
    ensure!(report.marks.iter().all(answered), "{report:#?}");
    Ok(())
}

/// There is a report of what was seen until then.
pub(crate) fn stopped() -> Result<()> {
    let scene = Scene::new("four_hops", Way::Net, Family::V4)?;
    let mut config = QosConfig::default();
    config.count = 1000;
    let mut running = scene.start(config);
    let report = scene.measured.left.block_on(async {
        for _ in 0..20 {
            tokio::time::timeout(DEADLINE, running.next())
                .await
                .context("nothing happens")?;
        }
        running.stop();
        anyhow::Ok(running.finish().await?)
    })?;
    let received: u64 = report.marks.iter().map(|mark| mark.rtt.received).sum();
    ensure!((20..1000).contains(&received), "{received}");
    ensure!(
        report.marks.iter().all(|mark| mark.rtt.lost == 0),
        "{report:#?}"
    );
    Ok(())
}

/// The search for the TTL that reaches the peer would take minutes.
pub(crate) fn stopped_while_it_looks() -> Result<()> {
    let scene = Scene::new("four_hops", Way::Net, Family::V4)?;
    // With what is left of the search's TTLs, and not of all others'.
    filter(scene.wan.right(), "input", "ip ttl < 31 ip protocol udp")?;
    let mut wire = Sniffer::on(scene.wan.left(), Wan::INTERFACE)?;
    let mut config = crate::config(20);
    config.observe = Observe::Required;
    config.timeout = Duration::from_mins(5);
    let mut running = scene.start(config);
    wire.find(DEADLINE, |packet| {
        packet.direction == Direction::Outgoing && packet.udp.is_some() && packet.ttl < 31
    })?;
    running.stop();
    let report = scene.measured.left.block_on(async {
        while let Some(event) = tokio::time::timeout(DEADLINE, running.next()).await? {
            ensure!(!matches!(event, QosEvent::Remarked(_)), "{event:?}");
        }
        anyhow::Ok(running.finish().await?)
    })?;
    ensure!(report.marks.iter().all(|mark| mark.rtt.received == 20));
    let stopped = Visibility::Unavailable {
        reason: "the test was stopped".to_owned(),
    };
    ensure!(report.observation.on_the_way == stopped, "{report:#?}");
    Ok(())
}
