//! What a watch over the path MTU sees.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use perpacket_lab::Willing;
use perpacket_path::{PathMtuChange, PathMtuConfig, PathMtuWatchConfig};

use super::scene::{NARROW, NEAR, Scene};
use crate::support::hosts::Family;
use crate::support::peer::negotiate;

fn watch_config() -> PathMtuWatchConfig {
    PathMtuWatchConfig {
        raise_interval: Duration::from_secs(3),
        apply: true,
        ..PathMtuWatchConfig::default()
    }
}

/// In a running session; and it goes away again.
pub(crate) fn a_black_hole_appears(family: Family) -> Result<()> {
    let scene = Scene::new(family, 1500, NEAR)?;
    let mut watch = scene.watch(watch_config());
    let first = scene.next_change(&mut watch)?;
    ensure!(first == PathMtuChange::Watching { mtu: 1500 }, "{first:?}");

    scene.narrow(1400, Willing::Silent)?;
    let appeared = Instant::now();
    let noticed = scene.next_change(&mut watch)?;
    let took = appeared.elapsed();
    ensure!(
        noticed == PathMtuChange::BlackHole { mtu: 1500 },
        "{noticed:?}"
    );
    ensure!(took < Duration::from_secs(5), "{took:?}");
    let applied = || scene.measured.session.path_mtu();
    let base = match family {
        Family::V4 => 1200,
        Family::V6 => 1280,
    };
    ensure!(applied() == Some(base), "{:?}", applied());
    let fell = scene.next_change(&mut watch)?;
    let expected = PathMtuChange::Fell {
        from: 1500,
        to: 1400,
    };
    ensure!(fell == expected, "{fell:?}");
    ensure!(applied() == Some(1400), "{:?}", applied());
    eprintln!(
        "noticed after {took:?}, told what is left after {:?}",
        appeared.elapsed()
    );

    scene.narrow(1500, Willing::Silent)?;
    let rose = scene.next_change(&mut watch)?;
    let expected = PathMtuChange::Rose {
        from: 1400,
        to: 1500,
    };
    ensure!(rose == expected, "{rose:?}");

    scene.narrow(1420, Willing::Answer)?;
    let appeared = Instant::now();
    let noticed = scene.next_change(&mut watch)?;
    ensure!(
        noticed == PathMtuChange::BlackHole { mtu: 1500 },
        "{noticed:?}"
    );
    ensure!(appeared.elapsed() < Duration::from_secs(5));
    let fell = scene.next_change(&mut watch)?;
    let expected = PathMtuChange::Fell {
        from: 1500,
        to: 1420,
    };
    ensure!(fell == expected, "{fell:?}");

    watch.stop();
    let left = &scene.measured.left;
    let report = left.block_on(watch.finish())?;
    ensure!(
        (report.falls, report.rises, report.mtu) == (2, 1, Some(1420)),
        "{report:?}"
    );
    scene.finish()
}

/// That is no black hole.
pub(crate) fn the_peer_is_gone_for_a_while() -> Result<()> {
    let scene = Scene::new(Family::V4, 1500, NEAR)?;
    let mut watch = scene.watch(PathMtuWatchConfig {
        mtu: Some(1500),
        interval: Duration::from_millis(300),
        ..PathMtuWatchConfig::default()
    });
    let first = scene.next_change(&mut watch)?;
    ensure!(first == PathMtuChange::Watching { mtu: 1500 }, "{first:?}");
    let lose = |loss| {
        scene
            .wan
            .change(|scenario| scenario.hop_mut(NARROW).link.loss = loss)
    };
    lose(1.0)?;
    let gone = scene.next_change(&mut watch)?;
    ensure!(gone == PathMtuChange::Unreachable, "{gone:?}");
    lose(0.0)?;
    let back = scene.next_change(&mut watch)?;
    ensure!(back == PathMtuChange::Reachable, "{back:?}");
    let same = scene.next_change(&mut watch)?;
    ensure!(same == PathMtuChange::Unchanged { mtu: 1500 }, "{same:?}");
    watch.stop();
    let report = scene.measured.left.block_on(watch.finish())?;
    ensure!((report.falls, report.mtu) == (0, Some(1500)), "{report:?}");
    scene.finish()
}

/// What is applied in a black hole does not stay when it turns into an outage, and the outage ends.
pub(crate) fn an_outage_begins_as_a_black_hole() -> Result<()> {
    let scene = Scene::new(Family::V4, 1500, NEAR)?;
    let mut watch = scene.watch(PathMtuWatchConfig {
        mtu: Some(1500),
        interval: Duration::from_millis(300),
        apply: true,
        search: PathMtuConfig {
            // The search in the black hole takes several of them: it is not over when the outage begins.
            timeout: Some(Duration::from_secs(1)),
            ..PathMtuConfig::default()
        },
        ..PathMtuWatchConfig::default()
    });
    let first = scene.next_change(&mut watch)?;
    ensure!(first == PathMtuChange::Watching { mtu: 1500 }, "{first:?}");
    scene.narrow(1280, Willing::Silent)?;
    let hole = scene.next_change(&mut watch)?;
    ensure!(hole == PathMtuChange::BlackHole { mtu: 1500 }, "{hole:?}");
    let applied = || scene.measured.session.path_mtu();
    ensure!(applied() == Some(1200), "{:?}", applied());
    let lose = |loss| {
        scene
            .wan
            .change(|scenario| scenario.hop_mut(NARROW).link.loss = loss)
    };
    lose(1.0)?;
    let gone = scene.next_change(&mut watch)?;
    ensure!(gone == PathMtuChange::Unreachable, "{gone:?}");
    scene.narrow(1500, Willing::Silent)?;
    lose(0.0)?;
    let back = scene.next_change(&mut watch)?;
    ensure!(back == PathMtuChange::Reachable, "{back:?}");
    let same = scene.next_change(&mut watch)?;
    ensure!(same == PathMtuChange::Unchanged { mtu: 1500 }, "{same:?}");
    ensure!(applied() == Some(1500), "{:?}", applied());
    watch.stop();
    scene.measured.left.block_on(watch.finish())?;
    scene.finish()
}

/// Answers come later than a watch is used to: that is no outage, and a black hole is noticed all the same.
pub(crate) fn the_round_trip_rises() -> Result<()> {
    // A machine that stands still for a second looks like an outage.
    for _ in 0..3 {
        if round_trip_rises()? != PathMtuChange::Unreachable {
            return Ok(());
        }
    }
    bail!("what is later is taken for an outage");
}

/// Returns what was noticed first.
fn round_trip_rises() -> Result<PathMtuChange> {
    /// More than the probes of a check, and those that go after it if it is lost.
    const SOME: usize = 10;
    let mut scene = Scene::new(Family::V4, 1500, NEAR)?;
    let mut watch = scene.watch(PathMtuWatchConfig {
        interval: Duration::from_millis(300),
        ..PathMtuWatchConfig::default()
    });
    let first = scene.next_change(&mut watch)?;
    ensure!(first == PathMtuChange::Watching { mtu: 1500 }, "{first:?}");
    scene.wan.change(|scenario| {
        let link = &mut scenario.hop_mut(NARROW).link;
        link.delay_back_us = Some(link.delay_us);
        link.delay_us = 300_000;
    })?;
    let sent = scene.probes_on_the_wire(|_| true).len();
    let more = scene.probes_on_the_wire(|wire| wire.len() >= sent + SOME);
    ensure!(more.len() >= sent + SOME, "{} checks", more.len() - sent);
    scene.narrow(1400, Willing::Silent)?;
    let hole = scene.next_change(&mut watch)?;
    if hole == PathMtuChange::Unreachable {
        return Ok(hole);
    }
    ensure!(hole == PathMtuChange::BlackHole { mtu: 1500 }, "{hole:?}");
    let fell = scene.next_change(&mut watch)?;
    let expected = PathMtuChange::Fell {
        from: 1500,
        to: 1400,
    };
    ensure!(fell == expected, "{fell:?}");
    watch.stop();
    scene.measured.left.block_on(watch.finish())?;
    scene.finish()?;
    Ok(hole)
}

/// As far apart as can be said.
pub(crate) fn checks_that_never_come() -> Result<()> {
    let scene = Scene::new(Family::V4, 1500, NEAR)?;
    let mut watch = scene.watch(PathMtuWatchConfig {
        interval: Duration::MAX,
        raise_interval: Duration::MAX,
        ..PathMtuWatchConfig::default()
    });
    let first = scene.next_change(&mut watch)?;
    ensure!(first == PathMtuChange::Watching { mtu: 1500 }, "{first:?}");
    watch.stop();
    let report = scene.measured.left.block_on(watch.finish())?;
    ensure!((report.checks, report.mtu) == (0, Some(1500)), "{report:?}");
    scene.finish()
}

/// What the prober knew is history when a measurement begins.
pub(crate) fn after_an_ice_restart() -> Result<()> {
    let scene = Scene::new(Family::V4, 1500, NEAR)?;
    scene.measured.restart_ice()?;
    let report = scene.measure(PathMtuConfig::default())?;
    ensure!(report.mtu == 1500, "{report:#?}");
    scene.measured.restart_ice()?;
    let mut watch = scene.watch(PathMtuWatchConfig::default());
    let first = scene.next_change(&mut watch)?;
    ensure!(first == PathMtuChange::Watching { mtu: 1500 }, "{first:?}");
    drop(watch);
    scene.finish()
}

/// New credentials and a new socket: the watch finds them.
pub(crate) fn ice_restarts() -> Result<()> {
    let scene = Scene::new(Family::V4, 1500, NEAR)?;
    let mut watch = scene.watch(PathMtuWatchConfig {
        interval: Duration::from_millis(300),
        ..PathMtuWatchConfig::default()
    });
    let first = scene.next_change(&mut watch)?;
    ensure!(first == PathMtuChange::Watching { mtu: 1500 }, "{first:?}");
    negotiate(&scene.measured.left, &scene.measured.right, true)?;
    let mut seen = Vec::new();
    while seen.last() != Some(&PathMtuChange::Unchanged { mtu: 1500 }) {
        seen.push(scene.next_change(&mut watch)?);
    }
    let expected = [PathMtuChange::Unreachable, PathMtuChange::Reachable];
    ensure!(seen.starts_with(&expected), "{seen:?}");
    watch.stop();
    let report = scene.measured.left.block_on(watch.finish())?;
    ensure!((report.falls, report.mtu) == (0, Some(1500)), "{report:?}");
    scene.finish()
}
