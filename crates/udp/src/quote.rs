use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::SystemTime,
};

use crate::{IcmpErrorKind, Tos};

/// The number of UDP among IP's protocols.
const UDP: u8 = 17;

/// An ICMP error about a UDP datagram, with the datagram as it looked where it was dropped: from
/// [`IcmpListener`](crate::IcmpListener). Anyone can forge one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuotedError {
    /// Who complains.
    pub from: IpAddr,
    /// The TTL, or hop limit, of the ICMP packet as it arrived.
    pub reply_ttl: Option<u8>,
    /// The complaint.
    pub kind: IcmpErrorKind,
    /// With [`IcmpErrorKind::PacketTooBig`]: the largest IP packet that passes, in bytes.
    pub next_hop_mtu: Option<u32>,
    /// The datagram.
    pub quote: Quote,
    /// The extensions of the ICMP message, an RFC 4884 §7 structure with its header, unchecked; empty
    /// if there are none.
    pub extensions: Vec<u8>,
    /// When the kernel received it.
    pub at: SystemTime,
}

/// The datagram that an ICMP error quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quote {
    /// The TOS byte, or traffic class.
    pub tos: Tos,
    /// The TTL, or hop limit, that was left: 1 or 0 where it ran out.
    pub ttl: u8,
    /// The DF bit; IPv6 has none.
    pub df_bit: Option<bool>,
    /// Bytes of the IP packet, as its header said.
    pub total_length: usize,
    /// Who sent it, as it looked there.
    pub source: SocketAddr,
    /// Whom it was for, as it looked there.
    pub destination: SocketAddr,
    /// The checksum of the IPv4 header.
    pub header_checksum: Option<u16>,
    /// Bytes of UDP header and payload, as the UDP header said.
    pub udp_length: u16,
    /// The checksum of UDP.
    pub udp_checksum: u16,
    /// The start of the UDP payload, as far as it is quoted.
    pub payload: Vec<u8>,
}

impl QuotedError {
    /// From a whole IPv4 packet, RFC 792.
    pub(crate) fn parse_v4(packet: &[u8], at: SystemTime) -> Option<Self> {
        let (header, message) = split_v4(packet)?;
        let icmp = message.first_chunk::<8>()?;
        let kind = match icmp[0] {
            3 | 11 | 12 => IcmpErrorKind::from_v4(icmp[0], icmp[1]),
            _ => return None,
        };
        let mtu = u32::from(u16::from_be_bytes([icmp[6], icmp[7]]));
        let too_big = kind == IcmpErrorKind::PacketTooBig && mtu != 0;
        // RFC 4884 §4.1: in words of 32 bits.
        let (quoted, extensions) = split_extensions(&message[8..], usize::from(icmp[5]) * 4);
        Some(Self {
            from: v4(header.get(12..16)?)?,
            reply_ttl: Some(header[8]),
            kind,
            next_hop_mtu: too_big.then_some(mtu),
            quote: Quote::parse_v4(quoted)?,
            extensions: extensions.to_vec(),
            at,
        })
    }

    /// From an `ICMPv6` message, RFC 4443.
    pub(crate) fn parse_v6(
        message: &[u8],
        from: Ipv6Addr,
        reply_ttl: Option<u8>,
        at: SystemTime,
    ) -> Option<Self> {
        let icmp = message.first_chunk::<8>()?;
        let kind = match icmp[0] {
            1..=4 => IcmpErrorKind::from_v6(icmp[0], icmp[1]),
            _ => return None,
        };
        let too_big = kind == IcmpErrorKind::PacketTooBig;
        let mtu = u32::from_be_bytes([icmp[4], icmp[5], icmp[6], icmp[7]]);
        // RFC 4884 §4.1: in words of 64 bits. A packet-too-big message has no room for it.
        let words = if too_big { 0 } else { icmp[4] };
        let (quoted, extensions) = split_extensions(&message[8..], usize::from(words) * 8);
        Some(Self {
            from: from.into(),
            reply_ttl,
            kind,
            next_hop_mtu: (too_big && mtu != 0).then_some(mtu),
            quote: Quote::parse_v6(quoted)?,
            extensions: extensions.to_vec(),
            at,
        })
    }
}

impl Quote {
    fn parse_v4(packet: &[u8]) -> Option<Self> {
        let (header, datagram) = split_v4(packet)?;
        let fragment = u16::from_be_bytes([header[6], header[7]]);
        // Only the first fragment has the header of UDP.
        if header[9] != UDP || fragment & 0x1fff != 0 {
            return None;
        }
        let udp = Udp::parse(datagram)?;
        Some(Self {
            tos: Tos::from_byte(header[1]),
            ttl: header[8],
            df_bit: Some(fragment & 0x4000 != 0),
            total_length: u16::from_be_bytes([header[2], header[3]]).into(),
            source: (v4(&header[12..16])?, udp.source).into(),
            destination: (v4(&header[16..20])?, udp.destination).into(),
            header_checksum: Some(u16::from_be_bytes([header[10], header[11]])),
            udp_length: udp.length,
            udp_checksum: udp.checksum,
            payload: udp.payload.to_vec(),
        })
    }

    fn parse_v6(packet: &[u8]) -> Option<Self> {
        let (header, mut rest) = packet.split_first_chunk::<40>()?;
        if header[0] >> 4 != 6 {
            return None;
        }
        let mut next = header[6];
        // Hop-by-hop, routing and destination options, and the fragment header (RFC 8200 §4).
        while let 0 | 43 | 44 | 60 = next {
            let length = match next {
                44 if u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]) >> 3 != 0 => return None,
                44 => 8,
                _ => (usize::from(*rest.get(1)?) + 1) * 8,
            };
            next = *rest.first()?;
            rest = rest.get(length..)?;
        }
        if next != UDP {
            return None;
        }
        let udp = Udp::parse(rest)?;
        Some(Self {
            tos: Tos::from_byte(header[0] << 4 | header[1] >> 4),
            ttl: header[7],
            df_bit: None,
            total_length: 40 + usize::from(u16::from_be_bytes([header[4], header[5]])),
            source: (v6(&header[8..24])?, udp.source).into(),
            destination: (v6(&header[24..40])?, udp.destination).into(),
            header_checksum: None,
            udp_length: udp.length,
            udp_checksum: udp.checksum,
            payload: udp.payload.to_vec(),
        })
    }
}

/// A UDP header, RFC 768, and what of its payload there is.
struct Udp<'a> {
    source: u16,
    destination: u16,
    length: u16,
    checksum: u16,
    payload: &'a [u8],
}

impl<'a> Udp<'a> {
    fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (header, payload) = datagram.split_first_chunk::<8>()?;
        let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let length = field(4);
        // What follows is padding of RFC 4884 §4.1, or an extension that nobody announced.
        let end = usize::from(length).saturating_sub(8).min(payload.len());
        Some(Self {
            source: field(0),
            destination: field(2),
            length,
            checksum: field(6),
            payload: &payload[..end],
        })
    }
}

/// An IPv4 header with its options, at least 20 bytes, and what follows.
fn split_v4(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let first = *packet.first()?;
    let length = usize::from(first & 0x0f) * 4;
    (first >> 4 == 4 && length >= 20).then_some(())?;
    packet.split_at_checked(length)
}

/// What an ICMP message quotes, and its extensions, if it says that it has any. Less than 128 bytes cannot
/// be what RFC 4884 §4.1 means: older routers leave anything in that field.
fn split_extensions(body: &[u8], quoted: usize) -> (&[u8], &[u8]) {
    match body.split_at_checked(quoted) {
        Some(parts) if quoted >= 128 => parts,
        _ => (body, &[]),
    }
}

fn v4(bytes: &[u8]) -> Option<IpAddr> {
    let bytes: [u8; 4] = bytes.try_into().ok()?;
    Some(Ipv4Addr::from(bytes).into())
}

fn v6(bytes: &[u8]) -> Option<IpAddr> {
    let bytes: [u8; 16] = bytes.try_into().ok()?;
    Some(Ipv6Addr::from(bytes).into())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const QUOTED_UDP: [u8; 12] = [0xc0, 0x01, 0x13, 0x88, 0, 12, 0xbe, 0xef, 1, 2, 3, 4];

    fn header_v4(protocol: u8, ttl: u8, tos: u8, source: [u8; 4]) -> Vec<u8> {
        let mut header = vec![0x45, tos, 0, 32, 0, 0, 0x40, 0, ttl, protocol, 0xab, 0xcd];
        header.extend(source);
        header.extend([192, 0, 2, 9]);
        header
    }

    #[test]
    fn time_exceeded_v4_with_extensions() {
        let mut quoted = header_v4(UDP, 1, 0xb8, [10, 0, 0, 1]);
        quoted.extend(QUOTED_UDP);
        quoted.resize(128, 0);
        let mut packet = header_v4(1, 60, 0, [10, 0, 0, 254]);
        packet.extend([11, 0, 0, 0, 0, 32, 0, 0]);
        packet.extend(quoted);
        packet.extend([0x20, 0, 0, 0]);

        let error = QuotedError::parse_v4(&packet, SystemTime::UNIX_EPOCH).expect("an error");
        assert_eq!(error.from, IpAddr::from([10, 0, 0, 254]));
        assert_eq!(error.reply_ttl, Some(60));
        assert_eq!(error.kind, IcmpErrorKind::TimeExceeded);
        assert_eq!(error.extensions, [0x20, 0, 0, 0]);
        let quote = error.quote;
        assert_eq!((quote.tos.byte(), quote.ttl), (0xb8, 1));
        assert_eq!(quote.df_bit, Some(true));
        assert_eq!(quote.source, "10.0.0.1:49153".parse().expect("an address"));
        assert_eq!(
            quote.destination,
            "192.0.2.9:5000".parse().expect("an address")
        );
        assert_eq!((quote.udp_length, quote.udp_checksum), (12, 0xbeef));
        assert_eq!(quote.header_checksum, Some(0xabcd));
        assert_eq!(quote.payload, [1, 2, 3, 4], "no padding");
    }

    /// What was unused before RFC 4884 may hold anything: neither a small number nor one too large cuts the
    /// quotation.
    #[test]
    fn a_length_that_cannot_be_is_passed_over() {
        for length in [1, 7, 8, 31, 255] {
            let mut packet = header_v4(1, 60, 0, [10, 0, 0, 254]);
            packet.extend([11, 0, 0, 0, 0, length, 0, 0]);
            packet.extend(header_v4(UDP, 1, 0, [10, 0, 0, 1]));
            packet.extend(QUOTED_UDP);
            packet.resize(packet.len() + 120, 0);
            let error = QuotedError::parse_v4(&packet, SystemTime::UNIX_EPOCH).expect("an error");
            assert_eq!(error.quote.payload, [1, 2, 3, 4], "{length}");
            assert!(error.extensions.is_empty(), "{length}");
        }
    }

    #[test]
    fn too_big_v6_behind_a_fragment_header() {
        let mut quoted = vec![0x6b, 0x80, 0, 0, 0, 20, 44, 7];
        quoted.extend(Ipv6Addr::LOCALHOST.octets());
        quoted.extend(Ipv6Addr::LOCALHOST.octets());
        quoted.extend([UDP, 0, 0, 1, 0, 0, 0, 9]);
        quoted.extend(QUOTED_UDP);
        let mut message = vec![2, 0, 0, 0, 0, 0, 0x05, 0x00];
        message.extend(quoted);

        let at = SystemTime::UNIX_EPOCH;
        let error = QuotedError::parse_v6(&message, Ipv6Addr::LOCALHOST, Some(63), at);
        let error = error.expect("an error");
        assert_eq!(error.kind, IcmpErrorKind::PacketTooBig);
        assert_eq!(error.next_hop_mtu, Some(1280));
        assert_eq!((error.quote.tos.byte(), error.quote.ttl), (0xb8, 7));
        assert_eq!(error.quote.df_bit, None);
        assert_eq!(error.quote.total_length, 60);
        assert_eq!(error.quote.payload, [1, 2, 3, 4]);
    }

    #[test]
    fn what_is_not_about_udp_is_left_alone() {
        let mut quoted = header_v4(6, 1, 0, [10, 0, 0, 1]);
        quoted.extend(QUOTED_UDP);
        let mut packet = header_v4(1, 60, 0, [10, 0, 0, 254]);
        packet.extend([11, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend(quoted);
        assert_eq!(QuotedError::parse_v4(&packet, SystemTime::UNIX_EPOCH), None);
    }

    proptest! {
        #[test]
        fn hostile_packets_never_crash(
            mut packet in vec(any::<u8>(), 0..200),
            kind in 0u8..13,
            quoted in any::<bool>(),
        ) {
            let at = SystemTime::UNIX_EPOCH;
            let _ = QuotedError::parse_v6(&packet, Ipv6Addr::LOCALHOST, None, at);
            if let Some(first) = packet.get_mut(0) {
                *first = 0x45;
            }
            if let Some(of) = packet.get_mut(20) {
                *of = kind;
            }
            if let (true, Some(inner)) = (quoted, packet.get_mut(28)) {
                *inner = 0x45;
            }
            let _ = QuotedError::parse_v4(&packet, at);
            if let Some(first) = packet.get_mut(0) {
                *first = kind;
            }
            if let Some(inner) = packet.get_mut(8) {
                *inner = 0x60;
            }
            let _ = QuotedError::parse_v6(&packet, Ipv6Addr::LOCALHOST, None, at);
        }
    }
}
