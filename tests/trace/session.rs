//! Sessions whose addresses change, and sessions that end, while they are traced.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use perpacket_path::{TraceConfig, TraceEvent};

use super::scene::{Scene, shared};
use super::watch::{Watch, endless, peer_at};
use crate::support::hosts::Family;
use crate::support::measured::Way;
use crate::support::peer::negotiate;

/// Other sockets, and so another 5-tuple: the trace goes over to it.
pub(crate) fn ice_restart(way: Way) -> Result<()> {
    let _shared = shared();
    let scene = Scene::load("four_hops", way, Family::V4)?;
    let before = scene.measured.prober.remote();
    let mut watch = Watch::start(&scene);
    watch.until(peer_at(5))?;
    negotiate(&scene.measured.left, &scene.measured.right, true)?;
    if way == Way::Net {
        let moved = watch.until(|event| matches!(event, TraceEvent::Moved { .. }))?;
        let TraceEvent::Moved { local, remote } = moved else {
            bail!("{moved:?}");
        };
        ensure!(local.ip() == scene.near && remote.ip() == scene.far);
        ensure!(remote != before, "{moved:?}");
    } else {
        watch.rounds(10)?;
    }
    watch.until(peer_at(5))?;
    watch.rounds(3)?;
    let report = watch.finish()?;
    ensure!(report.interrupted.is_none(), "{report:#?}");
    ensure!(report.peer_ttl == Some(5) && report.hops.len() == 5);
    ensure!(report.remote == scene.measured.prober.remote());
    Ok(())
}

/// What the prober knew is history when the trace begins.
pub(crate) fn after_an_ice_restart() -> Result<()> {
    let _shared = shared();
    let scene = Scene::load("four_hops", Way::Net, Family::V4)?;
    let measured = &scene.measured;
    let before = measured.prober.remote();
    measured.restart_ice()?;
    let (_, report) = scene.trace(TraceConfig::default())?;
    ensure!(report.remote != before && report.remote == measured.prober.remote());
    ensure!(report.peer_ttl == Some(5) && report.interrupted.is_none());
    Ok(())
}

/// The peer has never answered: what is known of the routers is known all the same.
pub(crate) fn it_ends() -> Result<()> {
    let _shared = shared();
    let scene = Scene::load("four_hops", Way::Net, Family::V4)?;
    scene.wan.change(|scenario| scenario.last_link.loss = 1.0)?;
    let config = TraceConfig {
        max_ttl: 8,
        timeout: Duration::from_millis(300),
        ..endless()
    };
    let mut watch = Watch::with(&scene, config);
    watch.rounds(2)?;
    let left = &scene.measured.left;
    left.block_on(left.connection.close())?;
    let report = watch.end()?;
    ensure!(report.interrupted.is_some(), "{report:#?}");
    ensure!(report.peer_ttl.is_none() && report.hops.len() == 4);
    for hop in &report.hops {
        ensure!(hop.address() == Some(scene.router(hop.ttl)), "{hop:#?}");
    }
    Ok(())
}

/// As far apart as can be said.
pub(crate) fn rounds_that_never_come() -> Result<()> {
    let _shared = shared();
    let scene = Scene::load("four_hops", Way::Net, Family::V4)?;
    let config = TraceConfig {
        interval: Duration::MAX,
        ..endless()
    };
    let mut watch = Watch::with(&scene, config);
    watch.rounds(1)?;
    let report = watch.finish()?;
    ensure!(report.peer_ttl == Some(5) && report.rounds == 1);
    Ok(())
}
