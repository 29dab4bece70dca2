use std::net::IpAddr;

use perpacket_udp::IcmpErrorKind;
use perpacket_webrtc::{Attribution, Clock};
use serde::{Serialize, Serializer};

use super::QuotedHeader;
use crate::{IcmpExtension, RttStatistics};

/// A row of a [trace](crate::Trace): what is known of the place where probes of one TTL end.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Hop {
    /// How many hops away it is: the TTL, or hop limit, of the probes.
    pub ttl: u8,
    /// Whether it is the peer: the newest that came back is its STUN answer, and it has not moved away since.
    pub peer: bool,
    /// Whether nothing has ever come back. It may forward all the same.
    pub silent: bool,
    /// Who has answered, the newest first. More than one: the path has changed, or probes of one
    /// 5-tuple are balanced.
    pub addresses: Vec<HopAddress>,
    /// Losses and round-trip times. A router may answer fewer probes than it forwards: see
    /// [`path_loss`](Self::path_loss).
    pub rtt: RttStatistics,
    /// The share of probes, 0 to 1, that the path up to here has lost at most: the smallest loss of this
    /// hop and of those beyond, which the packets of the session pass as well. What `rtt` says of loss in excess of
    /// this are answers that the router did not give, as routers limit their rate.
    pub path_loss: Option<f64>,
    /// What the newest ICMP error says when it is not that the TTL ran out: the host cannot be reached,
    /// a filter forbids it, the port is closed.
    #[serde(serialize_with = "words")]
    pub error: Option<IcmpErrorKind>,
    /// The TTL of the newest answer as it arrived: how long the way back is.
    pub reply_ttl: Option<u8>,
    /// The MTU that the router has reported, bytes.
    pub mtu: Option<u32>,
    /// What the router says of itself in the newest error, e.g. MPLS labels.
    pub extensions: Vec<IcmpExtension>,
    /// How sure it is that the newest answer is about a probe of this TTL.
    pub attribution: Option<Attribution>,
    /// Who measured the round-trip times: the kernel all of them, or this program at least one.
    pub clock: Option<Clock>,
    /// The probe's header as it arrived here, with [`RawMode`](super::RawMode).
    pub quote: Option<QuotedHeader>,
}

/// An address that has answered, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HopAddress {
    /// The address.
    pub address: IpAddr,
    /// Its name, if it was asked for and is known by now.
    pub name: Option<String>,
    /// How many probes it has answered.
    pub replies: u64,
}

impl Hop {
    /// Who has answered last.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.addresses.first().map(|newest| newest.address)
    }

    /// Whether it is proved that the answer is about a probe of this TTL: it holds the probe's transaction
    /// id, which nobody off the path can know.
    #[must_use]
    pub fn proved(&self) -> bool {
        self.attribution == Some(Attribution::TransactionId)
    }
}

#[expect(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference to the field"
)]
fn words<S: Serializer>(kind: &Option<IcmpErrorKind>, output: S) -> Result<S::Ok, S::Error> {
    kind.map(|kind| kind.to_string()).serialize(output)
}
