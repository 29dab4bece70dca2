use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use perpacket_udp::{IcmpError, MessageOptions, Tos};

/// One question to the path: a STUN Binding request that looks to the peer like any of ICE's checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probe {
    /// What its IP header says. Where this names no source address or no flow label, the probe has those
    /// that the policy has for the session's DTLS, so that it goes the session's way; nothing else of the
    /// policy is asked.
    pub options: MessageOptions,
    /// Bytes of the whole IP packet, rounded down to what there can be: the length of a STUN message
    /// is a multiple of 4 (RFC 8489 §5). `None`, or less than [`Prober::min_size`](crate::Prober::min_size): as
    /// small as it can be.
    pub size: Option<usize>,
    /// After what time without an answer it is lost.
    pub timeout: Duration,
}

impl Default for Probe {
    fn default() -> Self {
        Self::new()
    }
}

impl Probe {
    /// A probe with the socket's own settings, as small as can be, that is lost after one second.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            options: MessageOptions::NONE,
            size: None,
            timeout: Duration::from_secs(1),
        }
    }

    /// The same with these options.
    #[must_use]
    pub const fn with_options(mut self, options: MessageOptions) -> Self {
        self.options = options;
        self
    }

    /// The same with this size, bytes of IP packet.
    #[must_use]
    pub const fn with_size(mut self, size: usize) -> Self {
        self.size = Some(size);
        self
    }

    /// The same with this timeout.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// What became of a [`Probe`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeOutcome {
    /// The STUN transaction, which answers and ICMP errors quote (RFC 8489 §5).
    pub transaction_id: [u8; 12],
    /// What was sent, bytes of the whole IP packet.
    pub size: usize,
    /// When it left: by the kernel's clock where it says so, or else just before it was sent.
    pub sent: SystemTime,
    /// What came back.
    pub result: ProbeResult,
}

/// What came back for a [`Probe`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// The peer has got it, and answered.
    Answered(ProbeAnswer),
    /// The network, or the peer's host, says that it did not arrive. Anyone on the way can say so.
    Icmp {
        /// What it says.
        error: IcmpError,
        /// From the probe to the message.
        rtt: Rtt,
        /// How sure it is that it is about this probe.
        attribution: Attribution,
    },
    /// This host refused to send it: larger than the interface's MTU.
    TooBigHere {
        /// The largest IP packet that it would send, bytes, where it says so.
        mtu: Option<u32>,
    },
    /// Nothing within the timeout.
    Lost,
}

/// The peer's answer to a [`Probe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeAnswer {
    /// From the probe to the answer.
    pub rtt: Rtt,
    /// When it arrived.
    pub at: SystemTime,
    /// The TTL, or hop limit, of the answer as it arrived.
    pub ttl: Option<u8>,
    /// The TOS byte, or traffic class, of the answer as it arrived.
    pub tos: Option<Tos>,
    /// Of a STUN error response (RFC 8489 §14.8). The probe has arrived all the same.
    pub error_code: Option<u16>,
    /// The address that the peer saw the probe come from (RFC 8489 §14.2).
    pub mapped: Option<SocketAddr>,
}

/// A round-trip time, and how it was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rtt {
    /// The time.
    pub time: Duration,
    /// Who looked at the clock.
    pub clock: Clock,
}

/// Who looks at the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Clock {
    /// The kernel, as the packet left and as the answer came.
    Kernel,
    /// This program, which may have been busy meanwhile.
    User,
}

/// How sure it is that an ICMP error is about a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Attribution {
    /// It quotes the probe's transaction id, which nobody off the path can know.
    TransactionId,
    /// It quotes too little to tell, but no other probe was out, and the peer did not answer within the
    /// timeout. Nothing that anyone could not forge.
    OneInFlight,
}
