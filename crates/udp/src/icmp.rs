use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::SystemTime,
};

/// What the network, or this host, said about a datagram that did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IcmpErrorKind {
    /// The TTL, or hop limit, ran out on the way (ICMP type 11, ICMPv6 type 3).
    TimeExceeded,
    /// Nothing listens on the port (ICMP 3/3, ICMPv6 1/4).
    PortUnreachable,
    /// No way to the host (ICMP 3/1, ICMPv6 1/3).
    HostUnreachable,
    /// No way to the network (ICMP 3/0, ICMPv6 1/0).
    NetUnreachable,
    /// A filter forbids it (ICMP 3/9, 3/10, 3/13, ICMPv6 1/1, 1/5, 1/6).
    Prohibited,
    /// Larger than the next link's MTU, and not to be fragmented (ICMP 3/4, ICMPv6 type 2).
    PacketTooBig,
    /// This host refused it: larger than the MTU that the kernel knows, and not to be fragmented.
    LocalTooBig,
    /// Any other message, by its type and code.
    Other {
        /// The ICMP or ICMPv6 type.
        kind: u8,
        /// The code of that type.
        code: u8,
    },
}

impl IcmpErrorKind {
    /// By the type and code of ICMP (RFC 792, RFC 1812 §5.2.7).
    #[must_use]
    pub const fn from_v4(kind: u8, code: u8) -> Self {
        match (kind, code) {
            (11, _) => Self::TimeExceeded,
            (3, 0) => Self::NetUnreachable,
            (3, 1) => Self::HostUnreachable,
            (3, 3) => Self::PortUnreachable,
            (3, 4) => Self::PacketTooBig,
            (3, 9 | 10 | 13) => Self::Prohibited,
            _ => Self::Other { kind, code },
        }
    }

    /// By the type and code of ICMPv6 (RFC 4443 §3).
    #[must_use]
    pub const fn from_v6(kind: u8, code: u8) -> Self {
        match (kind, code) {
            (3, _) => Self::TimeExceeded,
            (1, 0) => Self::NetUnreachable,
            (1, 1 | 5 | 6) => Self::Prohibited,
            (1, 3) => Self::HostUnreachable,
            (1, 4) => Self::PortUnreachable,
            (2, _) => Self::PacketTooBig,
            _ => Self::Other { kind, code },
        }
    }
}

impl fmt::Display for IcmpErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimeExceeded => f.write_str("time exceeded"),
            Self::PortUnreachable => f.write_str("port unreachable"),
            Self::HostUnreachable => f.write_str("host unreachable"),
            Self::NetUnreachable => f.write_str("network unreachable"),
            Self::Prohibited => f.write_str("prohibited"),
            Self::PacketTooBig => f.write_str("packet too big"),
            Self::LocalTooBig => f.write_str("packet too big for this host"),
            Self::Other { kind, code } => write!(f, "ICMP type {kind} code {code}"),
        }
    }
}

/// One ICMP error about a datagram of this socket, from
/// [`UdpSocket::icmp_errors`](crate::UdpSocket::icmp_errors).
///
/// Anyone can forge one. What it says of a datagram is to be believed only when `payload` holds
/// something of that datagram that an outsider cannot guess.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IcmpError {
    /// Where the datagram was sent to.
    pub destination: SocketAddr,
    /// Who complains: a router on the way, or the destination. `None` for this host's own kernel.
    pub offender: Option<IpAddr>,
    /// The complaint.
    pub kind: IcmpErrorKind,
    /// With [`IcmpErrorKind::PacketTooBig`] and [`IcmpErrorKind::LocalTooBig`]: the largest IP packet
    /// that passes, in bytes, as the offender says.
    pub next_hop_mtu: Option<u32>,
    /// The TTL, or hop limit, of the ICMP packet itself as it arrived: how long the way back is.
    pub reply_ttl: Option<u8>,
    /// The start of the datagram's UDP payload, as far as the offender quoted it; it may be empty.
    pub payload: Vec<u8>,
    /// The extensions of the ICMP message, an RFC 4884 §7 structure with its header; empty if there are
    /// none, or their checksum is wrong.
    pub extensions: Vec<u8>,
    /// When the kernel received it, or when it was read where the kernel does not say.
    pub at: SystemTime,
}
