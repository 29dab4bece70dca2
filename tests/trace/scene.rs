//! A session across the simulated network, and its trace.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use anyhow::{Context as _, Result};
use perpacket_lab::{Packet, Scenario, Sniffer, Wan};
use perpacket_path::{Hop, RawMode, Trace, TraceConfig, TraceEvent, TraceReport};
use perpacket_webrtc::StunHeader;

use crate::support::connection::DEADLINE;
use crate::support::hosts::Family;
use crate::support::measured::{Measured, Way};
use crate::support::processors::Awake;

/// Held by tests while they use the processors; by one that measures how exact times are, alone.
static PROCESSORS: RwLock<()> = RwLock::new(());

/// For a test that others may run beside.
pub(crate) fn shared() -> RwLockReadGuard<'static, ()> {
    PROCESSORS.read().unwrap_or_else(PoisonError::into_inner)
}

/// For a test that nothing else of this program is to disturb.
pub(crate) fn alone() -> (RwLockWriteGuard<'static, ()>, Awake) {
    let alone = PROCESSORS.write().unwrap_or_else(PoisonError::into_inner);
    (alone, Awake::new())
}

pub(crate) struct Scene {
    pub(crate) measured: Measured,
    /// What passes the left host's interface.
    pub(crate) wire: Sniffer,
    pub(crate) wan: Wan,
    pub(crate) near: IpAddr,
    pub(crate) far: IpAddr,
}

impl Scene {
    /// A session across the network of a file.
    pub(crate) fn load(scenario: &str, way: Way, family: Family) -> Result<Self> {
        Self::start(Scenario::load(scenario)?, way, family)
    }

    pub(crate) fn start(scenario: Scenario, way: Way, family: Family) -> Result<Self> {
        let wan = Wan::start(scenario)?;
        let (near, far) = wan.pairs()[family as usize];
        let wire = Sniffer::on(wan.left(), Wan::INTERFACE)?;
        let measured = Measured::new([wan.left(), wan.right()], [near, far], way)?;
        Ok(Self {
            measured,
            wire,
            wan,
            near,
            far,
        })
    }

    /// Traces to the end; what happened, and the report.
    pub(crate) fn trace(&self, config: TraceConfig) -> Result<(Vec<TraceEvent>, TraceReport)> {
        let trace = Trace::new(Arc::clone(&self.measured.prober), config);
        self.measured.left.block_on(async {
            let mut running = trace.start();
            let mut events = Vec::new();
            let all = async {
                while let Some(event) = running.next().await {
                    events.push(event);
                }
            };
            tokio::time::timeout(DEADLINE, all).await?;
            let report = running.finish().await?;
            Ok((events, report))
        })
    }

    /// The address of the router so many hops from the left host.
    pub(crate) fn router(&self, ttl: u8) -> IpAddr {
        self.wan.hop(ttl.into()).address(self.near)
    }

    /// The probes that have left, in their order.
    pub(crate) fn probes(&mut self) -> Vec<&Packet> {
        let far = self.far;
        let packets = self.wire.packets().iter();
        packets
            .filter(|packet| packet.destination.ip() == far && packet.udp.is_some())
            // Nothing else of the session has a TTL of its own.
            .filter(|packet| packet.ttl < 64 && transaction(packet).is_some())
            .collect()
    }
}

/// The transaction of a STUN message.
pub(crate) fn transaction(packet: &Packet) -> Option<[u8; 12]> {
    StunHeader::parse(&packet.payload).map(|header| header.transaction_id)
}

/// So many rounds one close upon the other.
pub(crate) fn rounds(rounds: u32) -> TraceConfig {
    TraceConfig {
        rounds: Some(rounds),
        interval: Duration::from_millis(200),
        ..TraceConfig::default()
    }
}

/// One round, with the headers that routers quote.
pub(crate) fn raw() -> TraceConfig {
    TraceConfig {
        raw: RawMode::Required,
        ..TraceConfig::default()
    }
}

/// The row of a TTL.
pub(crate) fn row(report: &TraceReport, ttl: u8) -> Result<&Hop> {
    let row = report.hops.iter().find(|hop| hop.ttl == ttl);
    row.with_context(|| format!("no hop {ttl}: {report:#?}"))
}

/// The whole path when it was known first: when, and the rows.
pub(crate) fn picture(events: &[TraceEvent]) -> Result<(Duration, &[Hop])> {
    let picture = events.iter().find_map(|event| match event {
        TraceEvent::Picture { after, hops } => Some((*after, &hops[..])),
        _ => None,
    });
    picture.context("no picture")
}
