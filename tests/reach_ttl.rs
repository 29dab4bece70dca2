//! The smallest TTL that reaches the peer, and whether a change of the path is noticed.

mod support;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use perpacket_lab::{Hop, Sniffer, Test, Wan, Willing};
use perpacket_path::{ReachTtl, ReachTtlConfig, ReachTtlEvent, ReachTtlReport, Running};

use support::connection::{self, DEADLINE};
use support::hosts::Family;
use support::measured::{Measured, Way};
use support::wire::class_of;

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("four_routers_net_v4", || four_routers(Way::Net, Family::V4)),
        ("four_routers_net_v6", || four_routers(Way::Net, Family::V6)),
        ("four_routers_mux_v4", || four_routers(Way::Mux, Family::V4)),
        ("four_routers_mux_v6", || four_routers(Way::Mux, Family::V6)),
        ("losses_change_nothing", losses),
        ("a_new_path_is_noticed_v4", || path_change(Family::V4)),
        ("a_new_path_is_noticed_v6", || path_change(Family::V6)),
        ("a_lost_peer_is_noticed", lost_peer),
        ("an_ice_restart_does_not_end_it", ice_restart),
        ("looks_that_never_come", never_again),
        ("dropping_it_ends_it", dropped),
    ];
    perpacket_lab::main(tests)
}

/// A session from host to host of a network.
struct Scene {
    wan: Wan,
    measured: Measured,
}

impl Scene {
    fn new(scenario: &str, way: Way, family: Family) -> Result<Self> {
        let wan = Wan::load(scenario)?;
        let (near, far) = wan.pairs()[family as usize];
        let measured = Measured::new([wan.left(), wan.right()], [near, far], way)?;
        Ok(Self { wan, measured })
    }

    fn start(&self, config: &ReachTtlConfig) -> Running<ReachTtlEvent, ReachTtlReport> {
        let prober = Arc::clone(&self.measured.prober);
        let test = ReachTtl::new(prober, config.clone());
        self.measured.left.block_on(async { test.start() })
    }

    fn run(&self, config: &ReachTtlConfig) -> Result<ReachTtlReport> {
        let running = self.start(config);
        Ok(self.measured.left.block_on(running.finish())?)
    }

    fn next(&self, running: &mut Running<ReachTtlEvent, ReachTtlReport>) -> Result<ReachTtlEvent> {
        let next = tokio_timeout(running);
        self.measured.left.block_on(next)
    }

    /// The change that comes next, whatever the way back does.
    fn change(
        &self,
        running: &mut Running<ReachTtlEvent, ReachTtlReport>,
    ) -> Result<(Option<u8>, Option<u8>)> {
        loop {
            if let ReachTtlEvent::Changed(change) = self.next(running)? {
                return Ok((change.from, change.to));
            }
        }
    }
}

async fn tokio_timeout(
    running: &mut Running<ReachTtlEvent, ReachTtlReport>,
) -> Result<ReachTtlEvent> {
    tokio::time::timeout(DEADLINE, running.next())
        .await
        .context("nothing happens")?
        .context("it has ended")
}

fn watching() -> ReachTtlConfig {
    let mut config = ReachTtlConfig::default();
    config.watch = Some(Duration::from_millis(50));
    config.timeout = Duration::from_millis(400);
    config
}

fn four_routers(way: Way, family: Family) -> Result<()> {
    let scene = Scene::new("four_hops", way, family)?;
    let report = scene.run(&ReachTtlConfig::default())?;
    let reach = report.reach.context("not reached")?;
    ensure!(reach.ttl == 5, "{reach:?}");
    ensure!(reach.reply_ttl == Some(60), "{reach:?}");
    ensure!(reach.hops_back() == Some(5), "{reach:?}");
    let rtt = reach.rtt.context("no round trip")?;
    ensure!(rtt >= scene.wan.rtt(), "{reach:?}");

    // No router says a word.
    scene.wan.change(|scenario| {
        for hop in &mut scenario.hops {
            hop.icmp = Willing::Silent;
        }
    })?;
    let report = scene.run(&ReachTtlConfig::default())?;
    ensure!(report.reach.map(|reach| reach.ttl) == Some(5), "{report:?}");

    let mut too_near = ReachTtlConfig::default();
    too_near.max_ttl = 4;
    too_near.timeout = Duration::from_millis(200);
    let report = scene.run(&too_near)?;
    ensure!(report.reach.is_none(), "{report:?}");
    Ok(())
}

/// One probe in ten is lost each way.
fn losses() -> Result<()> {
    let scene = Scene::new("four_hops", Way::Net, Family::V4)?;
    scene
        .wan
        .change(|scenario| scenario.hop_mut(3).link.loss = 0.1)?;
    let mut config = ReachTtlConfig::default();
    config.timeout = Duration::from_millis(500);
    config.confirmations = 5;
    for run in 0..10 {
        let report = scene.run(&config)?;
        let ttl = report.reach.map(|reach| reach.ttl);
        ensure!(ttl == Some(5), "run {run}: {report:?}");
    }
    Ok(())
}

fn path_change(family: Family) -> Result<()> {
    let scene = Scene::new("four_hops", Way::Net, family)?;
    let mut running = scene.start(&watching());
    let found = scene.next(&mut running)?;
    let ReachTtlEvent::Found { reach: Some(reach) } = found else {
        bail!("{found:?}");
    };
    ensure!(reach.ttl == 5, "{reach:?}");

    scene
        .wan
        .change(|scenario| scenario.hops.insert(2, Hop::default()))?;
    ensure!(scene.change(&mut running)? == (Some(5), Some(6)));
    let back = scene.next(&mut running)?;
    let ReachTtlEvent::WayBackChanged { from, to } = back else {
        bail!("{back:?}");
    };
    ensure!((from, to) == (Some(60), Some(59)), "{from:?} {to:?}");

    scene
        .wan
        .change(|scenario| drop(scenario.hops.drain(1..3)))?;
    ensure!(scene.change(&mut running)? == (Some(6), Some(4)));

    running.stop();
    let report = scene.measured.left.block_on(running.finish())?;
    ensure!(report.reach.map(|reach| reach.ttl) == Some(4), "{report:?}");
    let changes = report.changes.iter().map(|change| (change.from, change.to));
    ensure!(
        changes.eq([(Some(5), Some(6)), (Some(6), Some(4))]),
        "{report:?}"
    );
    Ok(())
}

fn lost_peer() -> Result<()> {
    let scene = Scene::new("four_hops", Way::Net, Family::V4)?;
    let mut running = scene.start(&watching());
    scene.next(&mut running)?;
    let loss = |loss| scene.wan.change(|scenario| scenario.last_link.loss = loss);
    loss(1.0)?;
    ensure!(scene.change(&mut running)? == (Some(5), None));
    loss(0.0)?;
    ensure!(scene.change(&mut running)? == (None, Some(5)));
    Ok(())
}

/// Between offer and answer the session has no sockets.
fn ice_restart() -> Result<()> {
    let scene = Scene::new("four_hops", Way::Net, Family::V4)?;
    let (left, right) = (&scene.measured.left, &scene.measured.right);
    let mut running = scene.start(&watching());
    scene.next(&mut running)?;
    let offer = left.block_on(connection::offer(&left.connection, true))?;
    ensure!(scene.change(&mut running)? == (Some(5), None));
    let answer = right.block_on(connection::answer(&right.connection, offer))?;
    left.block_on(left.connection.set_remote_description(answer))?;
    ensure!(scene.change(&mut running)? == (None, Some(5)));
    running.stop();
    let report = left.block_on(running.finish())?;
    ensure!(report.reach.map(|reach| reach.ttl) == Some(5), "{report:?}");

    // Nor does it take one that comes later for the end of the session.
    scene.measured.restart_ice()?;
    let report = scene.run(&ReachTtlConfig::default())?;
    ensure!(report.reach.map(|reach| reach.ttl) == Some(5), "{report:?}");
    Ok(())
}

/// As far apart as can be said.
fn never_again() -> Result<()> {
    let scene = Scene::new("four_hops", Way::Net, Family::V4)?;
    let mut config = watching();
    config.watch = Some(Duration::MAX);
    let mut running = scene.start(&config);
    scene.next(&mut running)?;
    running.stop();
    let report = scene.measured.left.block_on(running.finish())?;
    ensure!(report.reach.map(|reach| reach.ttl) == Some(5), "{report:?}");
    Ok(())
}

/// The next thing that leaves after the last probe is not another one.
fn dropped() -> Result<()> {
    let scene = Scene::new("four_hops", Way::Net, Family::V4)?;
    let mut wire = Sniffer::on(scene.wan.left(), Wan::INTERFACE)?;
    let mut config = watching();
    config.options = config.options.with_tos(0x50);
    let mut running = scene.start(&config);
    scene.next(&mut running)?;
    let probes = |wire: &mut Sniffer| wire.packets().iter().filter(|p| p.tos == 0x50).count();
    drop(running);
    // What was just being sent is on the wire before what is sent now.
    scene.measured.left.block_on(tokio::task::yield_now());
    let sent = wire.packets().len();
    let before = probes(&mut wire);
    ensure!(before > 0, "no probe in {sent} packets");
    // ICE checks go on, ten a second: twenty watches' time.
    wire.wait_for(DEADLINE, |packets| {
        let later = packets.iter().skip(sent);
        later.filter(|packet| class_of(packet).is_some()).count() >= 40
    })?;
    ensure!(probes(&mut wire) == before, "it goes on");
    Ok(())
}
