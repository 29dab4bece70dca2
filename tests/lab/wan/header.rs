//! What a router reads and writes in an IP header.

use std::net::IpAddr;

use etherparse::{IpNumber, LaxIpSlice};

/// An end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

/// A packet's header as far as routers care. The packet itself may be cut short, as in an ICMP error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) ttl: u8,
    pub(super) tos: u8,
    /// IPv4's DF; IPv6 has no other way.
    pub(super) df: bool,
    /// Bytes of the IP header with options or extension headers, where what it carries begins.
    pub(super) len: usize,
    /// Bytes of the whole packet by its header.
    pub(super) total_len: usize,
    /// What it carries.
    pub(super) protocol: IpNumber,
    /// A fragment, but not a datagram's first: what it carries has no header of its own.
    pub(super) later_fragment: bool,
}

impl Header {
    pub(super) fn parse(packet: &[u8]) -> Option<Self> {
        let (ip, _) = LaxIpSlice::from_slice(packet).ok()?;
        let content = ip.payload();
        let (ttl, tos, df, later_fragment, base, total_len) = match &ip {
            LaxIpSlice::Ipv4(ip) => {
                let header = ip.header();
                (
                    header.ttl(),
                    *packet.get(1)?,
                    header.dont_fragment(),
                    header.fragments_offset().value() > 0,
                    header.slice().len(),
                    header.total_len().into(),
                )
            }
            LaxIpSlice::Ipv6(ip) => {
                let header = ip.header();
                let later = ip.extensions().clone().into_iter().any(|e| match e {
                    etherparse::Ipv6ExtensionSlice::Fragment(f) => f.fragment_offset().value() > 0,
                    _ => false,
                });
                let base = header.slice().len();
                let total = base + usize::from(header.payload_length());
                let with_extensions = base + ip.extensions().slice().len();
                (
                    header.hop_limit(),
                    header.traffic_class(),
                    true,
                    later,
                    with_extensions,
                    total,
                )
            }
        };
        Some(Self {
            source: ip.source_addr(),
            destination: ip.destination_addr(),
            ttl,
            tos,
            df,
            len: base,
            total_len,
            protocol: content.ip_number,
            later_fragment,
        })
    }

    pub(super) fn is_v6(&self) -> bool {
        self.source.is_ipv6()
    }

    pub(super) fn dscp(&self) -> u8 {
        self.tos >> 2
    }

    /// The ICMP type, if it is an ICMP message that begins here.
    pub(super) fn icmp_type(&self, packet: &[u8]) -> Option<u8> {
        let is_icmp = self.protocol
            == if self.is_v6() {
                IpNumber::IPV6_ICMP
            } else {
                IpNumber::ICMP
            };
        (is_icmp && !self.later_fragment).then(|| packet.get(self.len).copied())?
    }

    /// Whether it is an ICMP error, which quotes a packet from byte 8 of the message on.
    pub(super) fn is_icmp_error(&self, packet: &[u8]) -> bool {
        self.icmp_type(packet).is_some_and(|kind| {
            if self.is_v6() {
                kind < 128
            } else {
                matches!(kind, 3 | 4 | 5 | 11 | 12)
            }
        })
    }
}

/// Writes a TTL or hop limit. The packet has a whole IP header, here and below.
pub(super) fn set_ttl(packet: &mut [u8], ttl: u8) {
    if is_v6(packet) {
        packet[7] = ttl;
    } else {
        let protocol = packet[9];
        rewrite_v4(packet, 8, &[ttl, protocol]);
    }
}

/// Writes the TOS byte or traffic class.
pub(super) fn set_tos(packet: &mut [u8], tos: u8) {
    if is_v6(packet) {
        packet[0] = 0x60 | tos >> 4;
        packet[1] = tos << 4 | packet[1] & 0x0f;
    } else {
        let version_and_length = packet[0];
        rewrite_v4(packet, 0, &[version_and_length, tos]);
    }
}

/// Writes an address of the same family, and leaves the checksum of what the packet carries as it is.
pub(super) fn set_address(packet: &mut [u8], end: End, address: IpAddr) {
    match (address, end) {
        (IpAddr::V4(address), End::Source) => rewrite_v4(packet, 12, &address.octets()),
        (IpAddr::V4(address), End::Destination) => rewrite_v4(packet, 16, &address.octets()),
        (IpAddr::V6(address), End::Source) => packet[8..24].copy_from_slice(&address.octets()),
        (IpAddr::V6(address), End::Destination) => {
            packet[24..40].copy_from_slice(&address.octets());
        }
    }
}

/// Writes into an IPv4 header and corrects its checksum, so that one which was wrong stays so.
fn rewrite_v4(packet: &mut [u8], at: usize, new: &[u8]) {
    const CHECKSUM: std::ops::Range<usize> = 10..12;
    let old = &packet[at..at + new.len()];
    let checksum = u16::from_be_bytes([packet[CHECKSUM.start], packet[CHECKSUM.start + 1]]);
    let checksum = corrected(checksum, old, new);
    packet[at..at + new.len()].copy_from_slice(new);
    packet[CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
}

/// A checksum after some of what it covers has changed (RFC 1624 §3, equation 3). Both slices have the same
/// even length.
pub(super) fn corrected(checksum: u16, old: &[u8], new: &[u8]) -> u16 {
    let words = |bytes: &[u8], flip: u16| -> u32 {
        let words = bytes.as_chunks::<2>().0.iter();
        words
            .map(|word| u32::from(u16::from_be_bytes(*word) ^ flip))
            .sum()
    };
    let mut sum = u32::from(!checksum) + words(old, u16::MAX) + words(new, 0);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}

fn is_v6(packet: &[u8]) -> bool {
    packet[0] >> 4 == 6
}

#[cfg(test)]
mod tests {
    use etherparse::{Ipv4HeaderSlice, PacketBuilder};

    use super::{End, Header, set_address, set_tos, set_ttl};

    #[test]
    fn ipv4_checksum_stays_right() {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 2], [10, 255, 0, 2], 64)
            .udp(1, 2)
            .write(&mut packet, b"hello")
            .unwrap();
        set_ttl(&mut packet, 7);
        set_tos(&mut packet, 0xb9);
        set_address(&mut packet, End::Source, "203.0.113.255".parse().unwrap());
        set_address(&mut packet, End::Destination, "0.0.0.0".parse().unwrap());
        let header = Ipv4HeaderSlice::from_slice(&packet).unwrap();
        assert_eq!(
            header.to_header().calc_header_checksum(),
            header.header_checksum()
        );
        let header = Header::parse(&packet).unwrap();
        assert_eq!((header.ttl, header.tos, header.total_len), (7, 0xb9, 33));
        assert_eq!(header.source.to_string(), "203.0.113.255");
        assert_eq!(header.destination.to_string(), "0.0.0.0");
    }

    #[test]
    fn ipv6_fields_do_not_touch_each_other() {
        let mut packet = Vec::new();
        PacketBuilder::ipv6([1; 16], [2; 16], 64)
            .udp(1, 2)
            .write(&mut packet, b"hello")
            .unwrap();
        packet[1] |= 0x0a;
        packet[2..4].copy_from_slice(&[0xbc, 0xde]);
        let before = packet.clone();
        set_tos(&mut packet, 0xb9);
        set_ttl(&mut packet, 7);
        let header = Header::parse(&packet).unwrap();
        assert_eq!((header.ttl, header.tos), (7, 0xb9));
        set_tos(&mut packet, 0);
        set_ttl(&mut packet, 64);
        assert_eq!(packet, before);
    }

    #[test]
    fn nonsense_is_no_header() {
        for bytes in [&[][..], &[0x45], &[0x60; 39], &[0x45; 19], &[0xff; 60]] {
            assert!(Header::parse(bytes).is_none(), "{bytes:x?}");
        }
    }
}
