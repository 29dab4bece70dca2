//! A session over a simulated network with a narrow place, and what is measured of it.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use perpacket_lab::{Direction, Packet, Sniffer, Wan, Willing};
use perpacket_path::{
    PathMtu, PathMtuConfig, PathMtuProbe, PathMtuReport, PathMtuResult, PathMtuWatch,
    PathMtuWatchConfig, Running,
};
use perpacket_path::{PathMtuChange, PathMtuWatchReport};
use tokio::time::timeout;

use crate::support::connection::DEADLINE;
use crate::support::hosts::Family;
use crate::support::measured::{Measured, Way};
use crate::support::numbers::Numbers;

/// From one router to the next: 20 ms there and back in all.
pub(crate) const NEAR: Duration = Duration::from_micros(2500);

/// Which router has the narrow link behind it, of four.
pub(crate) const NARROW: usize = 2;

/// STUN requests larger than this are probes of the search; those of ICE are not.
const LARGE: usize = 400;

/// How much longer than the path a probe may take on a machine that has time.
const LATE: Duration = Duration::from_millis(20);

pub(crate) struct Scene {
    pub(crate) wan: Wan,
    pub(crate) near: IpAddr,
    /// The left host's side.
    pub(crate) wire: Sniffer,
    pub(crate) measured: Measured,
    pub(crate) numbers: Numbers,
}

impl Scene {
    /// Hosts whose devices have this MTU, and four routers between them with so much time from one to the next.
    pub(crate) fn new(family: Family, mtu: u16, delay: Duration) -> Result<Self> {
        Self::with(Way::Net, family, mtu, delay)
    }

    /// The same with sockets of this kind.
    pub(crate) fn with(way: Way, family: Family, mtu: u16, delay: Duration) -> Result<Self> {
        let wan = Wan::parse(&format!(
            "mtu = {mtu}\n[[hop]]\ncount = 4\nlink.delay_us = {}",
            delay.as_micros()
        ))?;
        let (near, far) = wan.pairs()[family as usize];
        let wire = Sniffer::on(wan.left(), Wan::INTERFACE)?;
        let mut measured = Measured::new([wan.left(), wan.right()], [near, far], way)?;
        let mut numbers = Numbers::send(&measured.left);
        numbers.go_on(&mut measured.right)?;
        Ok(Self {
            wan,
            near,
            wire,
            measured,
            numbers,
        })
    }

    /// Makes a link in the middle carry no more than this, and its routers say so or not.
    pub(crate) fn narrow(&self, mtu: usize, too_big: Willing) -> Result<()> {
        let mtu = u32::try_from(mtu)?;
        Ok(self.wan.change(|scenario| {
            let hop = scenario.hop_mut(NARROW);
            hop.mtu = Some(mtu);
            hop.too_big = too_big;
        })?)
    }

    /// The address of the router before the narrow link.
    pub(crate) fn narrow_router(&self) -> IpAddr {
        self.wan.hop(NARROW).address(self.near)
    }

    pub(crate) fn measure(&self, config: PathMtuConfig) -> Result<PathMtuReport> {
        let prober = self.measured.prober.clone();
        let measuring = async { PathMtu::new(prober, config).start().finish().await };
        Ok(self.measured.left.block_on(measuring)?)
    }

    /// The same several times at once, and how long it took, on a path that loses what is larger than `mtu` and nothing
    /// else. A machine that is too busy for answers to be in time makes it look otherwise: then it is done again.
    pub(crate) fn measure_undisturbed<const N: usize>(
        &self,
        configs: &[PathMtuConfig; N],
        mtu: usize,
    ) -> Result<([PathMtuReport; N], Duration)> {
        let left = &self.measured.left;
        for tries_left in (0..5).rev() {
            let started = Instant::now();
            let running = left.block_on(async {
                let prober = &self.measured.prober;
                configs
                    .clone()
                    .map(|config| PathMtu::new(prober.clone(), config).start())
            });
            let mut reports = Vec::new();
            for one in running {
                reports.push(left.block_on(one.finish())?);
            }
            let took = started.elapsed();
            let probes = reports.iter().flat_map(|report| &report.how);
            let is_late = |probe: &&PathMtuProbe| match probe.result {
                PathMtuResult::Answered { rtt, .. } => rtt > self.wan.rtt() + LATE,
                result => probe.size <= mtu && result == PathMtuResult::Lost,
            };
            let mut late = probes.filter(is_late).peekable();
            if late.peek().is_none() || tries_left == 0 {
                drop(late);
                let reports = reports.try_into().ok().context("one for each")?;
                return Ok((reports, took));
            }
            eprintln!("once more, late: {:?}", late.collect::<Vec<_>>());
        }
        bail!("no try")
    }

    pub(crate) fn watch(
        &self,
        config: PathMtuWatchConfig,
    ) -> Running<PathMtuChange, PathMtuWatchReport> {
        let prober = self.measured.prober.clone();
        let left = &self.measured.left;
        left.block_on(async { PathMtuWatch::new(prober, config).start() })
    }

    /// What a watch sees next.
    pub(crate) fn next_change(
        &self,
        watch: &mut Running<PathMtuChange, PathMtuWatchReport>,
    ) -> Result<PathMtuChange> {
        let next = async { timeout(DEADLINE, watch.next()).await };
        let next = self.measured.left.block_on(next)?;
        next.context("the watch has ended")
    }

    /// The sizes of the large STUN requests that have left the host, in order: once it is enough, because the
    /// sniffer may be a little behind. Where it never is, whoever looks at them says what is missing.
    pub(crate) fn probes_on_the_wire(&mut self, enough: impl Fn(&[usize]) -> bool) -> Vec<usize> {
        let near = self.near;
        let sizes = |packets: &[Packet]| -> Vec<usize> {
            let probes = packets.iter().filter(|packet| is_probe(packet, near));
            probes.map(|packet| packet.ip_total_len).collect()
        };
        let _ = self
            .wire
            .wait_for(DEADLINE, |packets| enough(&sizes(packets)));
        sizes(self.wire.packets())
    }

    /// How many of them have left since then, as far as the sniffer has come.
    pub(crate) fn probes_since(&mut self, then: SystemTime) -> usize {
        let near = self.near;
        let packets = self.wire.packets().iter();
        packets
            .filter(|packet| is_probe(packet, near) && packet.at > then)
            .count()
    }

    /// The data channel has lost nothing and goes on.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.numbers.go_on(&mut self.measured.right)?;
        self.numbers
            .all_arrive(&self.measured.left, &mut self.measured.right)
    }
}

/// Whether it is a large STUN request from there.
fn is_probe(packet: &Packet, near: IpAddr) -> bool {
    packet.direction == Direction::Outgoing
        && packet.source.ip() == near
        && packet.ip_total_len > LARGE
        && packet.payload.first_chunk() == Some(&[0, 1])
}

/// The sizes of the probes that were sent, in order, without those that this host refused.
pub(crate) fn sent(report: &PathMtuReport) -> Vec<usize> {
    let probes = report.how.iter();
    let sent = probes.filter(|probe| !matches!(probe.result, PathMtuResult::TooBigHere { .. }));
    sent.map(|probe| probe.size).collect()
}

/// The same of large ones.
pub(crate) fn searched(report: &PathMtuReport) -> Vec<usize> {
    let is_large = |size: &usize| *size > LARGE;
    sent(report).into_iter().filter(is_large).collect()
}
