use std::{net::IpAddr, time::Duration};

use perpacket_udp::IcmpErrorKind;
use serde::{Serialize, Serializer};

use super::{HintUse, PeerLimit, Room};

/// One probe of a [`PathMtu`](crate::PathMtu), while it runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PathMtuEvent {
    /// The probe, and what became of it.
    pub probe: PathMtuProbe,
    /// The largest IP packet that is known to pass now, bytes.
    pub mtu: usize,
    /// The smallest that is known not to pass now, bytes.
    pub upper: Option<usize>,
}

/// What a [`PathMtu`](crate::PathMtu) has found. All sizes are bytes; those of packets count the IP header.
///
/// Probes have lengths that are multiples of 4, because STUN has (RFC 8489 §5).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PathMtuReport {
    /// The largest packet that the peer has answered.
    pub mtu: usize,
    /// Whether nothing larger passes, as far as probes can tell: `upper` is at most 4 above `mtu`, or `mtu`
    /// is all that was to be tried, or all that this host sends.
    pub exact: bool,
    /// The smallest packet that does not pass the network, because three probes of that size or less were lost, or
    /// because a router says so (`upper` is one above its MTU then) and what it says has been confirmed:
    /// the largest probe that is not above its MTU has passed. `None`: none is known.
    pub upper: Option<usize>,
    /// The largest packet that was sent: as configured, or what this host sends at most.
    pub cap: usize,
    /// Whether the search came to its end. It does not when it is [stopped](crate::Running::stop).
    pub complete: bool,
    /// What remains for payload in a packet of `mtu`.
    #[serde(flatten)]
    pub room: Room,
    /// Every probe in the order of their results.
    pub how: Vec<PathMtuProbe>,
    /// What routers said: each refusal of a probe, believed or not.
    pub hints: Vec<PathMtuHint>,
    /// How many ICMP errors about datagrams to the peer came meanwhile that quote none of the probes. They
    /// are about the session's packets, or forged, and change nothing.
    pub stray_icmp: u64,
    /// What speaks for a limit of the peer, not of the path. `upper` is not the path's then.
    pub peer_limit: Option<PeerLimit>,
    /// The longest round trip of a probe.
    #[serde(rename = "rtt_us", serialize_with = "crate::statistics::microseconds")]
    pub rtt: Option<Duration>,
}

/// A probe for the [path MTU](crate::PathMtu).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PathMtuProbe {
    /// Bytes of the IP packet.
    pub size: usize,
    /// Its DF bit, or on IPv6 whether this host was forbidden to fragment it.
    pub df: bool,
    /// What it was for.
    pub purpose: PathMtuPurpose,
    /// What became of it.
    #[serde(flatten)]
    pub result: PathMtuResult,
}

/// What a probe was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PathMtuPurpose {
    /// Small: whether the peer answers, and how fast; later, whether it does while large ones are lost.
    Reach,
    /// The search, or the confirmation of what a router says.
    Search,
    /// Large, but allowed to be fragmented: whether it is the peer that does not take it.
    Fragmentable,
}

/// What became of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
#[non_exhaustive]
pub enum PathMtuResult {
    /// The peer has answered: it arrived whole.
    Answered {
        /// From the probe to the answer.
        #[serde(rename = "rtt_us", serialize_with = "microseconds")]
        rtt: Duration,
        /// Of a STUN error response, which proves delivery as well (RFC 8489 §14.8).
        error_code: Option<u16>,
    },
    /// A router says that it is too big.
    TooBig {
        /// Who says so.
        from: Option<IpAddr>,
        /// The largest packet that passes, it says.
        mtu: Option<u32>,
        /// Whether it quotes the probe's transaction id, which nobody off the path can know.
        proved: bool,
    },
    /// This host refused to send it: larger than its interface's MTU.
    TooBigHere {
        /// The largest packet that it would send, where it says so.
        mtu: Option<u32>,
    },
    /// The network says something else.
    Icmp {
        /// Who says so.
        from: Option<IpAddr>,
        /// What.
        #[serde(serialize_with = "words")]
        error: IcmpErrorKind,
    },
    /// Nothing came back in time.
    Lost,
}

impl PathMtuResult {
    /// Whether the peer has got it.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        matches!(self, Self::Answered { .. })
    }
}

/// A router's word about a packet that was too big for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PathMtuHint {
    /// Who said it.
    pub from: Option<IpAddr>,
    /// Bytes of the probe it was about.
    pub size: usize,
    /// The largest packet that passes, it says.
    pub mtu: Option<u32>,
    /// Whether it quotes the probe's transaction id, which nobody off the path can know.
    pub proved: bool,
    /// What was made of it.
    pub outcome: HintUse,
}

fn microseconds<S: Serializer>(time: &Duration, output: S) -> Result<S::Ok, S::Error> {
    crate::statistics::microseconds(&Some(*time), output)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn words<S: Serializer>(kind: &IcmpErrorKind, output: S) -> Result<S::Ok, S::Error> {
    output.collect_str(kind)
}
