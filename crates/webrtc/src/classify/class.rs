use std::fmt;
use std::str::FromStr;

/// What a datagram on a WebRTC socket carries, as far as a policy can tell packets apart.
///
/// The names ([`Display`](fmt::Display), [`FromStr`], serde) are the variants in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum PacketClass {
    /// STUN that is not TURN: ICE connectivity checks, consent checks, keepalives, and requests to
    /// a STUN server (RFC 8489).
    Stun,
    /// DTLS: the handshake, and data channels (SCTP) inside it (RFC 6347, RFC 9147).
    Dtls,
    /// RTP, in WebRTC always SRTP: audio and video (RFC 3550, RFC 3711).
    Srtp,
    /// RTCP, in WebRTC always SRTCP: reports and feedback (RFC 3550, RFC 3711, RFC 5761).
    Srtcp,
    /// TURN control: allocations, permissions and channel bindings (RFC 8656, RFC 6062). The data
    /// that TURN relays has the class of what it is.
    Turn,
    /// Anything else, e.g. ZRTP, QUIC or bytes that no protocol claims.
    Other,
}

impl PacketClass {
    /// How many classes there are.
    pub const COUNT: usize = 6;

    /// Every class, in the order of [`index`](Self::index).
    pub const ALL: [Self; Self::COUNT] = [
        Self::Stun,
        Self::Dtls,
        Self::Srtp,
        Self::Srtcp,
        Self::Turn,
        Self::Other,
    ];

    /// The position of this class in [`ALL`](Self::ALL), for tables with one entry per class.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name: `stun`, `dtls`, `srtp`, `srtcp`, `turn` or `other`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stun => "stun",
            Self::Dtls => "dtls",
            Self::Srtp => "srtp",
            Self::Srtcp => "srtcp",
            Self::Turn => "turn",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for PacketClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text is not the name of a [`PacketClass`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown packet class {0:?}, expected one of stun, dtls, srtp, srtcp, turn, other")]
pub struct UnknownPacketClass(String);

impl FromStr for PacketClass {
    type Err = UnknownPacketClass;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|class| class.as_str() == name)
            .ok_or_else(|| UnknownPacketClass(name.to_owned()))
    }
}
