//! What went out and came in, by peer and class.

mod cause;
mod live;
mod table;

use std::net::SocketAddr;

use perpacket_udp::{IcmpErrorKind, RecvMeta, Tos};

pub use cause::DropCause;
use live::{LivePeer, ReceivedWith};
use table::Table;

use crate::{
    PacketClass, SentHeader,
    header::{SentWith, SocketDefaults},
    policy::PeerKey,
};

/// How many peers of one socket are counted apart; what more there are, are counted together.
const PEERS: usize = 256;

/// How many of these may be there because something came from them: a flood of made-up sources
/// leaves room for those that are sent to.
const STRANGERS: usize = PEERS / 2;

/// What went to and came from one peer in one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ClassCounters {
    /// Datagrams that the kernel took, or that wait to be sent where they are
    /// [gathered](crate::CustomNetBuilder::batching).
    pub sent: u64,
    /// Their payload in bytes.
    pub sent_bytes: u64,
    /// Those of them that are larger than the path carries, and so went out with DF 0; see
    /// [`Session::set_path_mtu`](crate::Session::set_path_mtu).
    pub oversize: u64,
    /// The header of the datagram that the kernel took last, probes aside; where peers or classes are added up, that
    /// of one of them.
    pub sent_header: SentHeader,
    /// Datagrams that came in.
    pub received: u64,
    /// Their payload in bytes.
    pub received_bytes: u64,
    /// Datagrams that came in with each ECN field, by its bits: Not-ECT, ECT(1), ECT(0), CE.
    pub received_ecn: [u64; 4],
    /// The TTL, or hop limit, of the datagram that came in last; where peers or classes are added
    /// up, that of one of them.
    pub received_ttl: Option<u8>,
    /// The TOS byte, or traffic class, of the datagram that came in last; where peers or classes are
    /// added up, that of one of them.
    pub received_tos: Option<Tos>,
    /// Datagrams that were dropped, by [`DropCause::ALL`].
    pub dropped: [u64; DropCause::COUNT],
}

impl ClassCounters {
    /// Datagrams that were dropped for this cause.
    #[must_use]
    pub fn dropped_for(&self, cause: DropCause) -> u64 {
        self.dropped[cause as usize]
    }

    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.sent_bytes += other.sent_bytes;
        self.oversize += other.oversize;
        if other.sent_header != SentHeader::default() {
            self.sent_header = other.sent_header;
        }
        self.received += other.received;
        self.received_bytes += other.received_bytes;
        self.received_ttl = other.received_ttl.or(self.received_ttl);
        self.received_tos = other.received_tos.or(self.received_tos);
        let counts = self.received_ecn.iter_mut().chain(&mut self.dropped);
        for (mine, theirs) in counts.zip(other.received_ecn.iter().chain(&other.dropped)) {
            *mine += theirs;
        }
    }
}

/// What the network said about datagrams to one peer, where ICMP errors are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct IcmpCounters {
    /// The TTL ran out on the way.
    pub time_exceeded: u64,
    /// Nobody there, no way there, or not allowed there.
    pub unreachable: u64,
    /// Too big for a link on the way, and not to be fragmented.
    pub too_big: u64,
    /// Anything else.
    pub other: u64,
}

/// Everything about one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PeerCounters {
    /// By class, in the order of [`PacketClass::ALL`].
    pub classes: [ClassCounters; PacketClass::COUNT],
    /// What the network said.
    pub icmp: IcmpCounters,
}

impl PeerCounters {
    /// Of one class.
    #[must_use]
    pub fn class(&self, class: PacketClass) -> &ClassCounters {
        &self.classes[class.index()]
    }

    /// Of all classes together.
    #[must_use]
    pub fn total(&self) -> ClassCounters {
        let mut total = ClassCounters::default();
        self.classes.iter().for_each(|class| total.add(class));
        total
    }

    /// Adds another's counts; what is the last of its kind is taken from the other.
    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.classes.iter_mut().zip(&other.classes) {
            mine.add(theirs);
        }
        self.icmp.time_exceeded += other.icmp.time_exceeded;
        self.icmp.unreachable += other.icmp.unreachable;
        self.icmp.too_big += other.icmp.too_big;
        self.icmp.other += other.icmp.other;
    }
}

/// Datagrams of one peer and one class that came in with the same header, and are not counted yet.
#[derive(Debug)]
pub(crate) struct Tally {
    peer: PeerKey,
    class: PacketClass,
    with: ReceivedWith,
    datagrams: usize,
    bytes: usize,
}

/// The counters of one socket. They are added to without a lock.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    peers: Table<LivePeer>,
    others: LivePeer,
    /// What makes a header of what is counted.
    pub(crate) defaults: SocketDefaults,
}

impl Counters {
    /// The counters of a peer, where there is room for another, or else those of all others.
    #[inline]
    fn of(&self, peer: SocketAddr, room: usize) -> &LivePeer {
        self.of_key(peer.into(), room)
    }

    #[inline]
    fn of_key(&self, peer: PeerKey, room: usize) -> &LivePeer {
        match self.peers.get(&peer) {
            Some(live) => live,
            None => self.of_new(peer, room),
        }
    }

    #[cold]
    fn of_new(&self, peer: PeerKey, room: usize) -> &LivePeer {
        self.peers.get_or_make(peer, room).unwrap_or(&self.others)
    }

    pub(crate) fn sent(&self, peer: SocketAddr, class: PacketClass, bytes: usize) {
        self.of(peer, PEERS).class(class).sent(bytes);
    }

    #[expect(
        clippy::inline_always,
        reason = "calls are a good part of what a send takes"
    )]
    #[inline(always)]
    pub(crate) fn sent_with(
        &self,
        peer: &SocketAddr,
        class: PacketClass,
        bytes: usize,
        with: SentWith,
    ) {
        let peer = self.of_key(peer.into(), PEERS);
        peer.class(class).sent_with(bytes, with);
    }

    /// One that was counted as sent did not go out.
    pub(crate) fn unsent(&self, peer: SocketAddr, class: PacketClass, bytes: usize) {
        self.of(peer, PEERS).class(class).unsent(bytes);
    }

    pub(crate) fn oversize(&self, peer: SocketAddr, class: PacketClass) {
        self.of(peer, PEERS).class(class).oversize();
    }

    pub(crate) fn dropped(&self, peer: SocketAddr, class: PacketClass, cause: DropCause) {
        let room = if cause.is_inbound() { STRANGERS } else { PEERS };
        self.of(peer, room).class(class).dropped(cause);
    }

    #[inline]
    pub(crate) fn received(&self, peer: SocketAddr, class: PacketClass, meta: &RecvMeta) {
        let counters = self.of(peer, STRANGERS).class(class);
        counters.received(1, meta.len, meta.into());
    }

    /// Counts a datagram that came in, later perhaps, together with those that are like it: once a `tally` that it
    /// is not like has to make way, or is [settled](Self::settle).
    #[inline]
    pub(crate) fn tally(
        &self,
        tally: &mut Option<Tally>,
        peer: PeerKey,
        class: PacketClass,
        meta: &RecvMeta,
    ) {
        let with = ReceivedWith::from(meta);
        match tally {
            Some(tally) if (tally.peer, tally.class, tally.with) == (peer, class, with) => {
                tally.datagrams += 1;
                tally.bytes += meta.len;
            }
            _ => {
                self.settle(tally);
                *tally = Some(Tally {
                    peer,
                    class,
                    with,
                    datagrams: 1,
                    bytes: meta.len,
                });
            }
        }
    }

    /// Counts what is tallied.
    #[inline]
    pub(crate) fn settle(&self, tally: &mut Option<Tally>) {
        if let Some(tally) = tally.take() {
            let counters = self.of_key(tally.peer, STRANGERS).class(tally.class);
            counters.received(tally.datagrams, tally.bytes, tally.with);
        }
    }

    /// Asks for what is looked at first when something is counted.
    #[inline]
    pub(crate) fn prefetch_head(&self) {
        self.peers.prefetch();
    }

    /// Asks for what is counted of datagrams that come in from a peer.
    #[inline]
    pub(crate) fn prefetch(&self, peer: &SocketAddr, class: PacketClass) {
        if let Some(live) = self.peers.get(&peer.into()) {
            live.prefetch(class);
        }
    }

    pub(crate) fn icmp(&self, peer: SocketAddr, kind: IcmpErrorKind) {
        self.of(peer, STRANGERS).icmp(kind);
    }

    /// By peer, in the order of their addresses, and all others together.
    pub(crate) fn load(&self) -> (Vec<(SocketAddr, PeerCounters)>, PeerCounters) {
        let mut peers: Vec<_> = self
            .peers
            .iter()
            .map(|(peer, live)| (peer.into(), live.load(&self.defaults)))
            .collect();
        peers.sort_unstable_by_key(|(peer, _)| *peer);
        (peers, self.others.load(&self.defaults))
    }

    /// Of all peers together.
    pub(crate) fn total(&self) -> PeerCounters {
        let (peers, mut total) = self.load();
        for (_, counters) in &peers {
            total.add(counters);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flood of sources cannot take more memory than that of `PEERS`, and is counted all the same.
    #[test]
    fn a_flood_of_sources_is_bounded() {
        let counters = Counters::default();
        for n in 0..10_000u32 {
            counters.sent(
                ((n | 0x0a00_0000).to_be_bytes(), 9).into(),
                PacketClass::Other,
                10,
            );
        }
        let (peers, others) = counters.load();
        assert_eq!(peers.len(), PEERS);
        assert_eq!(others.total().sent, 10_000 - PEERS as u64);
        assert_eq!(counters.total().total().sent_bytes, 100_000);
    }
}
