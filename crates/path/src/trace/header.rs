use std::net::{IpAddr, SocketAddr};

use perpacket_udp::{Quote, Tos};
use serde::{Serialize, Serializer};

use super::Hop;
use crate::extensions::{add, internet_sum};

/// The protocol number of UDP.
const UDP: u32 = 17;

/// The header of a probe as it was when a router dropped it, quoted in the router's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct QuotedHeader {
    /// The TOS byte, or traffic class.
    #[serde(serialize_with = "byte")]
    pub tos: Tos,
    /// The TTL that was left, 1 or 0. More of it: a tunnel on the way hides routers, or something has
    /// set it.
    pub ttl: u8,
    /// The DF bit; IPv6 has none.
    pub df_bit: Option<bool>,
    /// Where it came from, as it looked there. A NAT on the way has often put the old address back in
    /// the quote.
    pub source: SocketAddr,
    /// Where it was to go, as it looked there.
    pub destination: SocketAddr,
    /// Bytes of UDP header and payload.
    pub udp_length: u16,
    /// The checksum of UDP.
    pub udp_checksum: u16,
    /// What the checksum says of the rest.
    pub checksum: Checksum,
}

/// Whether the UDP checksum of a quoted probe fits its addresses, ports and payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Checksum {
    /// It does.
    Right,
    /// It is that of the pseudo-header alone: the packet had not met a network card yet.
    Unfinished,
    /// It does not: what the router saw had another address, port or payload, which a NAT has put back
    /// in the quote.
    Wrong,
    /// There is none, or not enough is quoted.
    Unknown,
}

impl QuotedHeader {
    pub(super) fn new(quote: &Quote) -> Self {
        Self {
            tos: quote.tos,
            ttl: quote.ttl,
            df_bit: quote.df_bit,
            source: quote.source,
            destination: quote.destination,
            udp_length: quote.udp_length,
            udp_checksum: quote.udp_checksum,
            checksum: Checksum::of(quote),
        }
    }
}

impl Checksum {
    fn of(quote: &Quote) -> Self {
        let ends = (quote.source, quote.destination);
        Self::check(ends, quote.udp_length, quote.udp_checksum, &quote.payload)
    }

    /// RFC 768, RFC 8200 §8.1.
    fn check(
        (source, destination): (SocketAddr, SocketAddr),
        length: u16,
        checksum: u16,
        payload: &[u8],
    ) -> Self {
        let (length, checksum) = (u32::from(length), u32::from(checksum));
        let ip = |address: IpAddr| match address {
            IpAddr::V4(v4) => internet_sum(&v4.octets()),
            IpAddr::V6(v6) => internet_sum(&v6.octets()),
        };
        let sum = |parts: &[u32]| parts.iter().copied().fold(0, add);
        let pseudo_header = sum(&[ip(source.ip()), ip(destination.ip()), UDP, length]);
        if checksum == 0 {
            return Self::Unknown;
        }
        if checksum == pseudo_header {
            return Self::Unfinished;
        }
        if u32::try_from(payload.len()) != Ok(length.saturating_sub(8)) {
            return Self::Unknown;
        }
        let ports = [source.port().into(), destination.port().into()];
        let header = sum(&[sum(&ports), length, checksum]);
        if sum(&[pseudo_header, header, internet_sum(payload)]) == 0xffff {
            Self::Right
        } else {
            Self::Wrong
        }
    }
}

/// Something in the header of probes is another between two hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HeaderChange {
    /// The last hop that has seen the old value; 0 is this host.
    pub after: u8,
    /// The first hop that has seen the new one. Those between have quoted nothing.
    pub before: u8,
    /// What has changed.
    #[serde(flatten)]
    pub field: HeaderField,
}

/// What in a header has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "field", rename_all = "snake_case")]
#[non_exhaustive]
pub enum HeaderField {
    /// The TOS byte, or traffic class.
    Tos {
        /// What it was.
        #[serde(serialize_with = "byte")]
        from: Tos,
        /// What it is.
        #[serde(serialize_with = "byte")]
        to: Tos,
    },
    /// The DF bit.
    DfBit {
        /// What it was.
        from: bool,
        /// What it is.
        to: bool,
    },
    /// The sender's address or port: a NAT.
    Source {
        /// What it was.
        from: SocketAddr,
        /// What it is.
        to: SocketAddr,
    },
    /// The receiver's address or port: a NAT before the receiver.
    Destination {
        /// What it was.
        from: SocketAddr,
        /// What it is.
        to: SocketAddr,
    },
    /// The UDP checksum no longer fits: a NAT that has put its own changes back in the quote.
    Checksum,
}

/// What the header was like when it left.
#[derive(Clone, Copy, Debug)]
pub(super) struct SentHeader {
    pub(super) tos: Tos,
    /// Its address is unspecified where the kernel chooses it.
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
}

impl HeaderChange {
    /// What the quotes of all hops, in their order, tell of the way between them.
    pub(super) fn between(sent: SentHeader, hops: &[Hop]) -> Vec<Self> {
        let mut changes = Vec::new();
        let (mut tos, mut source, mut destination) = (sent.tos, sent.source, sent.destination);
        let (mut df_bit, mut checksum) = (None, Checksum::Right);
        let mut after = 0;
        for hop in hops {
            let Some(quote) = hop.quote else {
                continue;
            };
            let mut note = |changed: bool, field| {
                if changed {
                    changes.push(Self {
                        after,
                        before: hop.ttl,
                        field,
                    });
                }
            };
            let (from, to) = (tos, quote.tos);
            note(from != to, HeaderField::Tos { from, to });
            tos = to;
            if let Some(to) = quote.df_bit {
                let from = df_bit.unwrap_or(to);
                note(from != to, HeaderField::DfBit { from, to });
                df_bit = Some(to);
            }
            if source.ip().is_unspecified() {
                source.set_ip(quote.source.ip());
            }
            let (from, to) = (source, quote.source);
            note(from != to, HeaderField::Source { from, to });
            source = to;
            let (from, to) = (destination, quote.destination);
            note(from != to, HeaderField::Destination { from, to });
            destination = to;
            if quote.checksum != Checksum::Unknown {
                let wrong = quote.checksum == Checksum::Wrong;
                let was_wrong = checksum == Checksum::Wrong;
                note(wrong && !was_wrong, HeaderField::Checksum);
                checksum = quote.checksum;
            }
            after = hop.ttl;
        }
        changes
    }
}

/// As the number that stands in the header.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference to the field"
)]
fn byte<S: Serializer>(tos: &Tos, output: S) -> Result<S::Ok, S::Error> {
    tos.byte().serialize(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> SocketAddr {
        address.parse().expect("an address")
    }

    /// From RFC 1071's arithmetic by hand: 10.0.0.1:1024 to 10.0.0.2:2048, "hi!".
    const LENGTH: u16 = 11;
    const CHECKSUM: u16 = 0x566c;

    fn check(source: &str, checksum: u16, payload: &[u8]) -> Checksum {
        let ends = (at(source), at("10.0.0.2:2048"));
        Checksum::check(ends, LENGTH, checksum, payload)
    }

    #[test]
    fn a_checksum_fits_or_does_not() {
        let payload = b"hi!";
        assert_eq!(check("10.0.0.1:1024", CHECKSUM, payload), Checksum::Right);
        for source in ["10.0.0.3:1024", "10.0.0.1:1025"] {
            assert_eq!(check(source, CHECKSUM, payload), Checksum::Wrong);
        }
        assert_eq!(check("10.0.0.1:1024", CHECKSUM, b"hi?"), Checksum::Wrong);
    }

    #[test]
    fn what_is_missing_is_not_wrong() {
        let unknown = Checksum::Unknown;
        assert_eq!(check("10.0.0.1:1024", CHECKSUM, b"hi"), unknown);
        assert_eq!(check("10.0.0.1:1024", 0, b"hi!"), unknown);
        // 0a00 + 0001 + 0a00 + 0002 + 17 + 11: what a card would add the rest to.
        assert_eq!(check("10.0.0.1:1024", 0x141f, b""), Checksum::Unfinished);
    }
}
