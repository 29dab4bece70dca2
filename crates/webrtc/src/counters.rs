//! What went out and came in, by peer and class.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

use perpacket_udp::{Ecn, IcmpErrorKind, RecvMeta, Tos};

use crate::{PacketClass, SentHeader, policy::key};

/// How many peers of one socket are counted apart; what more there are, are counted together.
const PEERS: usize = 256;

/// How many of these may be there because something came from them: a flood of made-up sources
/// leaves room for those that are sent to.
const STRANGERS: usize = PEERS / 2;

/// Why a datagram did not go out, or was not handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum DropCause {
    /// Larger than what may be sent without fragmenting (`EMSGSIZE`).
    TooBig,
    /// A queue of this host is full (`ENOBUFS`, `ENOMEM`). Without
    /// [`CustomNetBuilder::icmp_errors`](crate::CustomNetBuilder::icmp_errors) the kernel says so of few
    /// datagrams only.
    NoBufferSpace,
    /// A filter of this host forbids it (`EPERM`, `EACCES`).
    NotPermitted,
    /// This host has no way there (`ENETUNREACH`, `EHOSTUNREACH`, `ENETDOWN`, `EHOSTDOWN`).
    Unreachable,
    /// The options or the destination cannot be (`EINVAL`, `EADDRNOTAVAIL`, …), or the IPv6 source is
    /// not, or no longer, an address of this host.
    Invalid,
    /// The connection was closed.
    Closed,
    /// Received, but longer than the buffer it was to go to.
    Truncated,
    /// Received, but the peer connection does not read fast enough.
    QueueFull,
    /// Received from somebody else than the one server that the socket listens to; see
    /// [`CustomConn`](crate::CustomConn).
    Stranger,
    /// Received from that server's address, but not what it was asked for, or nothing that the stack
    /// can use; see [`CustomConn`](crate::CustomConn).
    Unexpected,
    /// Received, but without the protection that all of the peer's packets have by now: an alert of
    /// DTLS in the clear, say, that anyone can forge, or SRTCP that is too short to be any.
    Unprotected,
    /// Anything else.
    Other,
}

impl DropCause {
    const COUNT: usize = 12;

    /// Every cause.
    pub const ALL: [Self; Self::COUNT] = [
        Self::TooBig,
        Self::NoBufferSpace,
        Self::NotPermitted,
        Self::Unreachable,
        Self::Invalid,
        Self::Closed,
        Self::Truncated,
        Self::QueueFull,
        Self::Stranger,
        Self::Unexpected,
        Self::Unprotected,
        Self::Other,
    ];

    /// By what the kernel said.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        match error.kind() {
            // `EMSGSIZE` has no kind of its own.
            _ if error.raw_os_error() == Some(MESSAGE_TOO_LONG) => Self::TooBig,
            _ if error.raw_os_error() == Some(NO_BUFFER_SPACE) => Self::NoBufferSpace,
            io::ErrorKind::OutOfMemory => Self::NoBufferSpace,
            io::ErrorKind::PermissionDenied => Self::NotPermitted,
            io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkDown => Self::Unreachable,
            io::ErrorKind::InvalidInput | io::ErrorKind::AddrNotAvailable => Self::Invalid,
            _ => Self::Other,
        }
    }

    /// Whether the datagram came in.
    const fn is_inbound(self) -> bool {
        matches!(
            self,
            Self::Truncated
                | Self::QueueFull
                | Self::Stranger
                | Self::Unexpected
                | Self::Unprotected
        )
    }

    /// The name, in lower case with underscores.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooBig => "too_big",
            Self::NoBufferSpace => "no_buffer_space",
            Self::NotPermitted => "not_permitted",
            Self::Unreachable => "unreachable",
            Self::Invalid => "invalid",
            Self::Closed => "closed",
            Self::Truncated => "truncated",
            Self::QueueFull => "queue_full",
            Self::Stranger => "stranger",
            Self::Unexpected => "unexpected",
            Self::Unprotected => "unprotected",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for DropCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(unix)]
use libc::{EMSGSIZE as MESSAGE_TOO_LONG, ENOBUFS as NO_BUFFER_SPACE};
/// `WSAEMSGSIZE` and `WSAENOBUFS`.
#[cfg(not(unix))]
const MESSAGE_TOO_LONG: i32 = 10040;
#[cfg(not(unix))]
const NO_BUFFER_SPACE: i32 = 10055;

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

#[derive(Debug, Default)]
struct LiveClass {
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    /// [`SentHeader::pack`].
    sent_header: AtomicU32,
    oversize: AtomicU64,
    received: AtomicU64,
    received_bytes: AtomicU64,
    received_ecn: [AtomicU64; 4],
    /// TTL and TOS as they came last, each with a bit that says whether it did.
    last: AtomicU32,
    dropped: [AtomicU64; DropCause::COUNT],
}

const TTL_KNOWN: u32 = 1 << 16;
const TOS_KNOWN: u32 = 1 << 17;

impl LiveClass {
    fn load(&self) -> ClassCounters {
        let last = self.last.load(Relaxed);
        let [ttl, tos, ..] = last.to_le_bytes();
        ClassCounters {
            sent: self.sent.load(Relaxed),
            sent_bytes: self.sent_bytes.load(Relaxed),
            oversize: self.oversize.load(Relaxed),
            sent_header: SentHeader::unpack(self.sent_header.load(Relaxed)),
            received: self.received.load(Relaxed),
            received_bytes: self.received_bytes.load(Relaxed),
            received_ecn: self
                .received_ecn
                .each_ref()
                .map(|count| count.load(Relaxed)),
            received_ttl: (last & TTL_KNOWN != 0).then_some(ttl),
            received_tos: (last & TOS_KNOWN != 0).then_some(Tos::from_byte(tos)),
            dropped: self.dropped.each_ref().map(|count| count.load(Relaxed)),
        }
    }
}

#[derive(Debug, Default)]
struct LivePeer {
    classes: [LiveClass; PacketClass::COUNT],
    /// Time exceeded, unreachable, too big, other.
    icmp: [AtomicU64; 4],
}

impl LivePeer {
    fn load(&self) -> PeerCounters {
        let [time_exceeded, unreachable, too_big, other] =
            self.icmp.each_ref().map(|n| n.load(Relaxed));
        PeerCounters {
            classes: self.classes.each_ref().map(LiveClass::load),
            icmp: IcmpCounters {
                time_exceeded,
                unreachable,
                too_big,
                other,
            },
        }
    }
}

/// The counters of one socket. They are added to without a lock.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    peers: papaya::HashMap<SocketAddr, LivePeer>,
    others: LivePeer,
}

fn add(count: &AtomicU64, by: usize) {
    count.fetch_add(by as u64, Relaxed);
}

impl Counters {
    #[inline]
    fn with<R>(&self, peer: SocketAddr, room: usize, count: impl FnOnce(&LivePeer) -> R) -> R {
        let peer = key(peer);
        let peers = self.peers.pin();
        if let Some(live) = peers.get(&peer) {
            count(live)
        } else if peers.len() < room {
            count(peers.get_or_insert_with(peer, LivePeer::default))
        } else {
            count(&self.others)
        }
    }

    pub(crate) fn sent(&self, peer: SocketAddr, class: PacketClass, bytes: usize) {
        self.with(peer, PEERS, |live| {
            let live = &live.classes[class.index()];
            add(&live.sent, 1);
            add(&live.sent_bytes, bytes);
        });
    }

    #[inline]
    pub(crate) fn sent_with(
        &self,
        peer: SocketAddr,
        class: PacketClass,
        bytes: usize,
        header: SentHeader,
    ) {
        self.with(peer, PEERS, |live| {
            let live = &live.classes[class.index()];
            add(&live.sent, 1);
            add(&live.sent_bytes, bytes);
            live.sent_header.store(header.pack(), Relaxed);
        });
    }

    /// One that was counted as sent did not go out.
    pub(crate) fn unsent(&self, peer: SocketAddr, class: PacketClass, bytes: usize) {
        self.with(peer, PEERS, |live| {
            let live = &live.classes[class.index()];
            live.sent.fetch_sub(1, Relaxed);
            live.sent_bytes.fetch_sub(bytes as u64, Relaxed);
        });
    }

    pub(crate) fn oversize(&self, peer: SocketAddr, class: PacketClass) {
        self.with(peer, PEERS, |live| {
            add(&live.classes[class.index()].oversize, 1);
        });
    }

    pub(crate) fn dropped(&self, peer: SocketAddr, class: PacketClass, cause: DropCause) {
        let room = if cause.is_inbound() { STRANGERS } else { PEERS };
        self.with(peer, room, |live| {
            add(&live.classes[class.index()].dropped[cause as usize], 1);
        });
    }

    #[inline]
    pub(crate) fn received(&self, peer: SocketAddr, class: PacketClass, meta: &RecvMeta) {
        self.with(peer, STRANGERS, |live| {
            let live = &live.classes[class.index()];
            add(&live.received, 1);
            add(&live.received_bytes, meta.len);
            let ecn = meta.tos.map_or(Ecn::NotEct, Tos::ecn);
            add(&live.received_ecn[usize::from(ecn.bits())], 1);
            let known = meta.ttl.map_or(0, |_| TTL_KNOWN) | meta.tos.map_or(0, |_| TOS_KNOWN);
            let (ttl, tos) = (
                meta.ttl.unwrap_or_default(),
                meta.tos.unwrap_or_default().byte(),
            );
            live.last
                .store(known | u32::from_le_bytes([ttl, tos, 0, 0]), Relaxed);
        });
    }

    pub(crate) fn icmp(&self, peer: SocketAddr, kind: IcmpErrorKind) {
        let index = match kind {
            IcmpErrorKind::TimeExceeded => 0,
            IcmpErrorKind::PortUnreachable
            | IcmpErrorKind::HostUnreachable
            | IcmpErrorKind::NetUnreachable
            | IcmpErrorKind::Prohibited => 1,
            IcmpErrorKind::PacketTooBig | IcmpErrorKind::LocalTooBig => 2,
            _ => 3,
        };
        self.with(peer, STRANGERS, |live| add(&live.icmp[index], 1));
    }

    /// By peer, in the order of their addresses, and all others together.
    pub(crate) fn load(&self) -> (Vec<(SocketAddr, PeerCounters)>, PeerCounters) {
        let mut peers: Vec<_> = self
            .peers
            .pin()
            .iter()
            .map(|(peer, live)| (*peer, live.load()))
            .collect();
        peers.sort_unstable_by_key(|(peer, _)| *peer);
        (peers, self.others.load())
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

    #[test]
    fn the_causes_are_told_apart() {
        let cause = |errno| DropCause::of(&io::Error::from_raw_os_error(errno));
        assert_eq!(cause(libc::EMSGSIZE), DropCause::TooBig);
        assert_eq!(cause(libc::ENOBUFS), DropCause::NoBufferSpace);
        assert_eq!(cause(libc::ENOMEM), DropCause::NoBufferSpace);
        assert_eq!(cause(libc::EPERM), DropCause::NotPermitted);
        assert_eq!(cause(libc::EACCES), DropCause::NotPermitted);
        assert_eq!(cause(libc::ENETUNREACH), DropCause::Unreachable);
        assert_eq!(cause(libc::EHOSTUNREACH), DropCause::Unreachable);
        assert_eq!(cause(libc::ENETDOWN), DropCause::Unreachable);
        assert_eq!(cause(libc::EINVAL), DropCause::Invalid);
        assert_eq!(cause(libc::EADDRNOTAVAIL), DropCause::Invalid);
        assert_eq!(cause(libc::EIO), DropCause::Other);
        for (index, cause) in DropCause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index);
        }
    }
}
