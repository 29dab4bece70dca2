//! ICMP messages, and the packets they complain of.

use std::time::SystemTime;

use bytes::Bytes;

use crate::packet::{Direction, Packet, Quoted};

/// An ICMP (RFC 792) or `ICMPv6` (RFC 4443) message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Icmp {
    /// Whether it is `ICMPv6`: types and codes have other meanings there.
    pub v6: bool,
    /// The type.
    pub kind: u8,
    /// The code.
    pub code: u8,
    /// Checksum as on the wire.
    pub checksum: u16,
    /// Bytes 4 to 8, whose meaning depends on the type.
    pub rest: [u8; 4],
    /// For an error: the packet that caused it, as far as it was quoted, as the router that complains had
    /// received it. `at` and `direction` are those of the ICMP packet.
    pub quoted: Option<Box<Packet>>,
}

impl Icmp {
    pub(crate) fn parse(
        at: SystemTime,
        direction: Direction,
        v6: bool,
        message: &Bytes,
        quoted: Quoted,
    ) -> Option<Self> {
        let [kind, code, c0, c1, r0, r1, r2, r3] = *message.first_chunk::<8>()?;
        let mut icmp = Self {
            v6,
            kind,
            code,
            checksum: u16::from_be_bytes([c0, c1]),
            rest: [r0, r1, r2, r3],
            quoted: None,
        };
        // One level only, so that no packet can make this recurse.
        if icmp.is_error() && quoted == Quoted::TakeApart {
            icmp.quoted =
                Packet::parse(at, direction, &message.slice(8..), Quoted::Ignore).map(Box::new);
        }
        Some(icmp)
    }

    /// Whether it is an error message, which quotes a packet.
    #[must_use]
    pub fn is_error(&self) -> bool {
        if self.v6 {
            self.kind < 128
        } else {
            matches!(self.kind, 3 | 4 | 5 | 11 | 12)
        }
    }

    /// Whether a packet's TTL or hop limit ran out on the way.
    #[must_use]
    pub fn is_time_exceeded(&self) -> bool {
        (self.kind, self.code) == if self.v6 { (3, 0) } else { (11, 0) }
    }

    /// Whether nobody listens on the UDP port.
    #[must_use]
    pub fn is_port_unreachable(&self) -> bool {
        (self.kind, self.code) == if self.v6 { (1, 4) } else { (3, 3) }
    }

    /// From "fragmentation needed" (RFC 1191 §4) or "packet too big" (RFC 4443 §3.2): the MTU of the
    /// next hop, bytes. An old router may say 0.
    #[must_use]
    pub fn next_hop_mtu(&self) -> Option<u32> {
        let [_, _, high, low] = self.rest;
        match (self.v6, self.kind, self.code) {
            (false, 3, 4) => Some(u16::from_be_bytes([high, low]).into()),
            (true, 2, _) => Some(u32::from_be_bytes(self.rest)),
            _ => None,
        }
    }
}
