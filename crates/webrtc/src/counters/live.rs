//! Counters that are added to without a lock. What is never counted takes no memory.

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

use perpacket_udp::{Ecn, IcmpErrorKind, RecvMeta, Tos, prefetch};

use super::{ClassCounters, DropCause, IcmpCounters, PeerCounters};
use crate::{
    PacketClass,
    header::{SentWith, SocketDefaults},
};

/// What one peer has of one class. Who sends and who receives are often two threads, so each half has a
/// cache line of its own.
#[derive(Debug, Default)]
pub(super) struct LiveClass {
    sent: Sent,
    received: Received,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Sent {
    datagrams: AtomicU64,
    bytes: AtomicU64,
    oversize: AtomicU64,
    /// [`SentWith`], of the newest.
    with: AtomicU64,
    /// By [`DropCause::ALL`].
    dropped: OnceLock<Box<[AtomicU64; DropCause::COUNT]>>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Received {
    bytes: AtomicU64,
    /// Datagrams, by their ECN field.
    ecn: [AtomicU64; 4],
    /// TTL and TOS as they came last, each with a bit that says whether it did.
    last: AtomicU32,
}

/// What is counted of the header of a datagram that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReceivedWith {
    ttl: Option<u8>,
    tos: Option<Tos>,
}

impl From<&RecvMeta> for ReceivedWith {
    #[inline]
    fn from(meta: &RecvMeta) -> Self {
        Self {
            ttl: meta.ttl,
            tos: meta.tos,
        }
    }
}

const TTL_KNOWN: u32 = 1 << 16;
const TOS_KNOWN: u32 = 1 << 17;

fn add(count: &AtomicU64, by: usize) {
    count.fetch_add(by as u64, Relaxed);
}

fn load<const N: usize>(counts: &[AtomicU64; N]) -> [u64; N] {
    counts.each_ref().map(|count| count.load(Relaxed))
}

impl LiveClass {
    #[inline]
    pub(super) fn sent(&self, bytes: usize) {
        add(&self.sent.datagrams, 1);
        add(&self.sent.bytes, bytes);
    }

    #[inline]
    pub(super) fn sent_with(&self, bytes: usize, with: SentWith) {
        self.sent(bytes);
        self.sent.with.store(with.word(), Relaxed);
    }

    pub(super) fn unsent(&self, bytes: usize) {
        self.sent.datagrams.fetch_sub(1, Relaxed);
        self.sent.bytes.fetch_sub(bytes as u64, Relaxed);
    }

    pub(super) fn oversize(&self) {
        add(&self.sent.oversize, 1);
    }

    pub(super) fn dropped(&self, cause: DropCause) {
        add(
            &self.sent.dropped.get_or_init(Box::default)[cause as usize],
            1,
        );
    }

    /// So many datagrams came in with the same header, and so many bytes together.
    #[inline]
    pub(super) fn received(&self, datagrams: usize, bytes: usize, header: ReceivedWith) {
        let live = &self.received;
        add(&live.bytes, bytes);
        let ecn = header.tos.map_or(Ecn::NotEct, Tos::ecn);
        add(&live.ecn[usize::from(ecn.bits())], datagrams);
        let known = header.ttl.map_or(0, |_| TTL_KNOWN) | header.tos.map_or(0, |_| TOS_KNOWN);
        let (ttl, tos) = (
            header.ttl.unwrap_or_default(),
            header.tos.unwrap_or_default().byte(),
        );
        let last = known | u32::from_le_bytes([ttl, tos, 0, 0]);
        live.last.store(last, Relaxed);
    }

    fn load(&self, defaults: &SocketDefaults) -> ClassCounters {
        let Self { sent, received } = self;
        let last = received.last.load(Relaxed);
        let [ttl, tos, ..] = last.to_le_bytes();
        let received_ecn = load(&received.ecn);
        ClassCounters {
            sent: sent.datagrams.load(Relaxed),
            sent_bytes: sent.bytes.load(Relaxed),
            oversize: sent.oversize.load(Relaxed),
            sent_header: defaults.header(SentWith::from_word(sent.with.load(Relaxed))),
            received: received_ecn.iter().sum(),
            received_bytes: received.bytes.load(Relaxed),
            received_ecn,
            received_ttl: (last & TTL_KNOWN != 0).then_some(ttl),
            received_tos: (last & TOS_KNOWN != 0).then_some(Tos::from_byte(tos)),
            dropped: sent
                .dropped
                .get()
                .map(|counts| load(counts))
                .unwrap_or_default(),
        }
    }
}

/// Everything about one peer.
#[derive(Debug, Default)]
pub(super) struct LivePeer {
    classes: [OnceLock<Box<LiveClass>>; PacketClass::COUNT],
    /// Time exceeded, unreachable, too big, other.
    icmp: OnceLock<Box<[AtomicU64; 4]>>,
}

impl LivePeer {
    #[inline]
    pub(super) fn class(&self, class: PacketClass) -> &LiveClass {
        self.classes[class.index()].get_or_init(Box::default)
    }

    /// Asks for what is counted of datagrams that come in.
    #[inline]
    pub(super) fn prefetch(&self, class: PacketClass) {
        if let Some(class) = self.classes[class.index()].get() {
            prefetch(std::ptr::from_ref(&class.received).addr(), 1);
        }
    }

    pub(super) fn icmp(&self, kind: IcmpErrorKind) {
        let index = match kind {
            IcmpErrorKind::TimeExceeded => 0,
            IcmpErrorKind::PortUnreachable
            | IcmpErrorKind::HostUnreachable
            | IcmpErrorKind::NetUnreachable
            | IcmpErrorKind::Prohibited => 1,
            IcmpErrorKind::PacketTooBig | IcmpErrorKind::LocalTooBig => 2,
            _ => 3,
        };
        add(&self.icmp.get_or_init(Box::default)[index], 1);
    }

    pub(super) fn load(&self, defaults: &SocketDefaults) -> PeerCounters {
        let icmp = self.icmp.get().map(|counts| load(counts));
        let [time_exceeded, unreachable, too_big, other] = icmp.unwrap_or_default();
        let classes = self.classes.each_ref();
        PeerCounters {
            classes: classes.map(|class| {
                let class = class.get().map(|class| class.load(defaults));
                class.unwrap_or_default()
            }),
            icmp: IcmpCounters {
                time_exceeded,
                unreachable,
                too_big,
                other,
            },
        }
    }
}
