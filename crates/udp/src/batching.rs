use std::io;

use crate::Transmit;

/// Has a socket gather what is sent through it, so that many datagrams take few system calls: for
/// [`UdpSocketBuilder::batching`](crate::UdpSocketBuilder::batching).
///
/// The first datagram goes out at once. What is sent in the same turn of the runtime, or while another datagram is under
/// way, is queued, and a task of the socket sends it once what was ready on that thread has run, or beside it where that
/// goes on for longer than a millisecond: no timer is involved. Every datagram
/// has exactly the options that it was given, and those to one destination go out in the order in which they were
/// sent. Runs of equal length to one destination with equal options go out as one (`UDP_SEGMENT`, `udp(7)`), with
/// the same header each as if they were sent one by one, but for the Identification of IPv4; the others by
/// `sendmmsg(2)`. Where the kernel or a device refuses runs, they go out one by one, and no run is tried again.
///
/// A datagram that is queued counts as sent, so what the kernel says of it later is no error of the send: it is
/// counted in [`BatchCounters`], and [`UdpSocket::on_dropped`](crate::UdpSocket::on_dropped) has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Batching {
    /// How many bytes may wait: datagrams, and [`OVERHEAD`](Self::OVERHEAD) for each.
    pub max_bytes: usize,
}

impl Batching {
    /// What a datagram counts beyond its bytes, so that empty ones cannot fill the memory.
    pub const OVERHEAD: usize = 64;

    /// With room for 256 KiB, which is what the kernel holds for a socket by default, and more than a burst of
    /// video to 50 peers.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_bytes: 256 << 10,
        }
    }

    /// The same with room for so many bytes. Who sends beyond that waits. A datagram that is larger by itself still
    /// goes out.
    #[must_use]
    pub const fn with_max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }
}

impl Default for Batching {
    fn default() -> Self {
        Self::new()
    }
}

/// What a socket that gathers has done, from [`UdpSocket::batch_counters`](crate::UdpSocket::batch_counters).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchCounters {
    /// Datagrams that the kernel took, those that went out at once included.
    pub sent: u64,
    /// System calls that it took, those that failed included.
    pub calls: u64,
    /// Datagrams among them that went out as part of a run.
    pub in_runs: u64,
    /// Datagrams that were queued and could not go out.
    pub dropped: u64,
    /// Their payload in bytes.
    pub dropped_bytes: u64,
    /// Whether the kernel or a device has refused runs.
    pub runs_refused: bool,
}

/// Who wants to know what was queued and could not go out.
pub(crate) type OnDropped = Box<dyn Fn(&Transmit<'_>, &io::Error) + Send + Sync>;
