//! What is known of each hop.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use perpacket_lab::Direction;
use perpacket_path::{Hop, IcmpExtension, RawStatus, TraceConfig, TraceReport};
use perpacket_webrtc::{Attribution, Clock};

use super::scene::{Scene, alone, picture, rounds, row, shared, transaction};
use crate::support::hosts::Family;
use crate::support::measured::Way;

/// How many rounds make a median.
const ROUNDS: u32 = 15;

/// How far the median of a hop may be from the truth.
const EXACT: Duration = Duration::from_micros(150);

/// How far the times of the peer may be from those between its packets.
const VERY_EXACT: Duration = Duration::from_micros(100);

/// What the first picture may take beyond two round trips to the peer.
const PICTURE: Duration = Duration::from_millis(50);

/// How often it is tried to have a picture, or exact times: another program can have both processors for longer, or
/// one just between two stamps.
const ATTEMPTS: usize = 10;

/// Every hop is the right one, as far away as it is, and known soon.
pub(crate) fn ten(way: Way, family: Family) -> Result<()> {
    let _alone = alone();
    let mut scene = Scene::load("ten_hops", way, family)?;
    // What is wrong of itself is wrong each time; what a machine that is busy makes wrong is another hop each time.
    let mut exact = BTreeSet::new();
    for attempt in 1..=ATTEMPTS {
        let since = SystemTime::now();
        let (_, report) = scene.trace(rounds(ROUNDS))?;
        all_right(&scene, &report)?;
        let mut seen = on_the_interface(&mut scene, since);
        for hop in &report.hops {
            let times = seen.get_mut(&hop.ttl).context("no packets")?;
            match as_far_as_it_is(&scene, hop, times) {
                Ok(()) => drop(exact.insert(hop.ttl)),
                Err(error) => eprintln!("attempt {attempt}: hop {}: {error:#}", hop.ttl),
            }
        }
        if exact.len() == report.hops.len() {
            return in_time(&scene, &report);
        }
    }
    bail!("the times of other hops than {exact:?} were never those on the wire");
}

/// Who is where, and what came back.
fn all_right(scene: &Scene, report: &TraceReport) -> Result<()> {
    ensure!(report.peer_ttl == Some(11), "{report:#?}");
    ensure!(report.hops.len() == 11 && report.rounds == ROUNDS);
    ensure!(report.raw == RawStatus::Off && report.changes.is_empty());
    ensure!(report.interrupted.is_none(), "{report:#?}");
    for hop in &report.hops {
        let rtt = hop.rtt;
        ensure!(hop.proved() && !hop.silent, "{hop:#?}");
        ensure!(hop.clock == Some(Clock::Kernel), "{hop:#?}");
        let all = u64::from(ROUNDS);
        let counts = (rtt.sent, rtt.received, rtt.lost);
        ensure!(counts == (all, all, 0), "{hop:#?}");
        ensure!(hop.path_loss == Some(0.0) && hop.error.is_none());
        ensure!(hop.addresses.len() == 1, "{hop:#?}");
        ensure!(hop.addresses[0].replies == all, "{hop:#?}");
        let (address, way_back) = match hop.ttl {
            11 => (scene.far, 54),
            ttl => (scene.router(ttl), scene.wan.hop(ttl.into()).reply_ttl),
        };
        ensure!(hop.peer == (hop.ttl == 11), "{hop:#?}");
        ensure!(hop.address() == Some(address), "{hop:#?}");
        ensure!(hop.reply_ttl == Some(way_back), "{hop:#?}");
    }
    Ok(())
}

/// Whether the first picture has all rows, and is there within two round trips to the peer, of that time, and some
/// more.
fn in_time(scene: &Scene, report: &TraceReport) -> Result<()> {
    for attempt in 1..=ATTEMPTS {
        let (events, _) = scene.trace(TraceConfig::default())?;
        let (after, first) = picture(&events)?;
        let peer = first.last().context("no peer")?;
        let rtt = peer.rtt.best.context("no peer")?.max(scene.wan.rtt());
        let bar = 2 * rtt + PICTURE;
        let rows = first.iter().map(Hop::address);
        let whole = rows.eq(report.hops.iter().map(Hop::address));
        if whole && after <= bar {
            return Ok(());
        }
        eprintln!("attempt {attempt}: {after:?}, and not {bar:?}, whole: {whole}");
    }
    bail!("no picture was there in time");
}

/// The times are those between packets on the interface, and where the simulated router was on time, its own. The peer
/// is a program, whose own time nobody knows.
fn as_far_as_it_is(scene: &Scene, hop: &Hop, times: &mut [Duration]) -> Result<()> {
    times.sort_unstable();
    ensure!(
        times.len() as u64 == hop.rtt.received,
        "{times:?}\n{hop:#?}"
    );
    let bar = if hop.peer { VERY_EXACT } else { EXACT };
    let middle = times[(times.len() - 1) / 2];
    close(hop.rtt.median, middle, bar)?;
    close(hop.rtt.best, times[0], bar)?;
    if hop.peer {
        return Ok(());
    }
    let truth = scene.wan.hop(hop.ttl.into()).rtt();
    let late = middle.abs_diff(truth);
    if late <= VERY_EXACT {
        close(hop.rtt.median, truth, EXACT)
    } else {
        eprintln!(
            "the machine is busy: router {} was {late:?} late, and is not compared",
            hop.ttl
        );
        Ok(())
    }
}

fn close(seen: Option<Duration>, truth: Duration, bar: Duration) -> Result<()> {
    let seen = seen.context("nothing was measured")?;
    let apart = seen.abs_diff(truth);
    ensure!(apart <= bar, "{seen:?} for {truth:?}, {apart:?} apart");
    Ok(())
}

/// By TTL, the times from a probe to what came back for it, by the kernel's clock.
fn on_the_interface(scene: &mut Scene, since: SystemTime) -> BTreeMap<u8, Vec<Duration>> {
    let far = scene.far;
    let packets = scene.wire.packets().iter();
    let (sent, received): (Vec<_>, Vec<_>) = packets
        .filter(|packet| packet.at >= since)
        .partition(|packet| packet.direction == Direction::Outgoing);
    let to_peer = sent.iter().filter(|packet| packet.destination.ip() == far);
    let mut probes: HashMap<_, _> = to_peer
        .filter_map(|packet| Some((transaction(packet)?, packet)))
        .collect();
    let mut times = BTreeMap::<_, Vec<_>>::new();
    for packet in received {
        let quoted = packet.icmp.as_ref().and_then(|icmp| icmp.quoted.as_deref());
        let id = transaction(quoted.unwrap_or(packet));
        if let Some(probe) = id.and_then(|id| probes.remove(&id))
            && let Ok(time) = packet.at.duration_since(probe.at)
        {
            times.entry(probe.ttl).or_default().push(time);
        }
    }
    times
}

/// It is a row, and nobody waits for it longer than for the others.
pub(crate) fn silent(family: Family) -> Result<()> {
    let _alone = alone();
    let scene = Scene::load("silent_hop", Way::Net, family)?;
    let (_, report) = scene.trace(TraceConfig::default())?;
    ensure!(report.hops.len() == 6, "{report:#?}");
    for hop in &report.hops {
        ensure!(hop.silent == (hop.ttl == 3), "{hop:#?}");
    }
    let silent = row(&report, 3)?;
    ensure!(silent.address().is_none() && silent.attribution.is_none());
    // Once with the others, and once alone.
    ensure!((silent.rtt.sent, silent.rtt.lost) == (2, 2), "{silent:#?}");
    ensure!(silent.path_loss == Some(0.0), "the peer has lost none");
    ensure!(report.peer_ttl == Some(6));
    in_time(&scene, &report)
}

/// A router whose answers do not say what they are about is asked alone, and what it says is not called proved.
pub(crate) fn short_quotes(family: Family) -> Result<()> {
    let _shared = shared();
    let scene = Scene::load("short_quotes", Way::Net, family)?;
    let (_, report) = scene.trace(rounds(3))?;
    ensure!(report.hops.len() == 5, "{report:#?}");
    for hop in &report.hops[..4] {
        ensure!(hop.address() == Some(scene.router(hop.ttl)), "{hop:#?}");
        ensure!(hop.rtt.lost == 0, "{hop:#?}");
        ensure!(hop.rtt.received == 3, "{hop:#?}");
        ensure!(hop.proved() == (hop.ttl > 1), "{hop:#?}");
    }
    let short = row(&report, 1)?;
    ensure!(short.attribution == Some(Attribution::OneInFlight));
    let late = scene.wan.take_lateness();
    close(short.rtt.best, scene.wan.hop(1).rtt(), EXACT + late)
}

/// What routers say of MPLS and of their interfaces.
pub(crate) fn labels(family: Family) -> Result<()> {
    let _shared = shared();
    let scene = Scene::load("mpls", Way::Net, family)?;
    let (_, report) = scene.trace(TraceConfig::default())?;
    let stack = |ttl| {
        let extensions = &row(&report, ttl)?.extensions;
        let labels = extensions.iter().find_map(|extension| match extension {
            IcmpExtension::Mpls { labels } => Some(labels.clone()),
            _ => None,
        });
        anyhow::Ok(labels.unwrap_or_default())
    };
    ensure!(stack(1)?.is_empty() && stack(4)?.is_empty(), "{report:#?}");
    for (ttl, wanted) in [
        (2, &[(16_001, 5, false, 1), (24_005, 0, true, 1)][..]),
        (3, &[(1_048_575, 7, true, 255)]),
    ] {
        let seen = stack(ttl)?;
        let seen = seen
            .iter()
            .map(|label| (label.label, label.traffic_class, label.bottom, label.ttl));
        ensure!(seen.eq(wanted.iter().copied()), "{report:#?}");
    }
    let interface = row(&report, 3)?.extensions.iter();
    let mut name = interface.filter_map(|extension| match extension {
        IcmpExtension::Interface(interface) => interface.name.as_deref(),
        _ => None,
    });
    ensure!(name.next() == Some("et-0/0/7.100"), "{report:#?}");
    Ok(())
}

/// The prober's pace is the only limit.
pub(crate) fn no_pause(family: Family) -> Result<()> {
    const ROUNDS: u32 = 50;
    let _shared = shared();
    let scene = Scene::load("four_hops", Way::Net, family)?;
    let config = TraceConfig {
        interval: Duration::ZERO,
        ..rounds(ROUNDS)
    };
    let (_, report) = scene.trace(config)?;
    ensure!(report.hops.len() == 5 && report.rounds == ROUNDS);
    let received = report.hops.iter().map(|hop| hop.rtt.received);
    ensure!(received.eq([u64::from(ROUNDS); 5]), "{report:#?}");
    Ok(())
}

/// What one router does not answer is no loss of the path's.
pub(crate) fn rate_limited(family: Family) -> Result<()> {
    let _shared = shared();
    let scene = Scene::load("rate_limited", Way::Net, family)?;
    let config = TraceConfig {
        rounds: Some(20),
        interval: Duration::from_millis(50),
        ..TraceConfig::default()
    };
    let (_, report) = scene.trace(config)?;
    ensure!(report.hops.len() == 5, "{report:#?}");
    for hop in &report.hops {
        let lost = hop.rtt.lost;
        ensure!((lost > 0) == (hop.ttl == 2), "{report:#?}");
        ensure!(hop.path_loss == Some(0.0), "{hop:#?}");
        ensure!(hop.rtt.sent == 20, "{hop:#?}");
    }
    let limited = row(&report, 2)?;
    ensure!(
        limited.rtt.received >= 3 && limited.proved(),
        "{limited:#?}"
    );
    Ok(())
}
