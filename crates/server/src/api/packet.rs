//! The headers of a packet as they were on the wire, of what is known of them.

use std::net::IpAddr;

use crate::live::Packet;

const UDP: u8 = 17;
const UDP_HEADER: usize = 8;

/// The packet as far as it was kept, and its length on the wire. What is not known is 0: checksums, the identification,
/// and the DF bit of what came in.
pub(super) fn rebuild(packet: &Packet) -> (Vec<u8>, u32) {
    let of_udp = UDP_HEADER + packet.length;
    let (source, destination) = (
        packet.source.ip().to_canonical(),
        packet.destination.ip().to_canonical(),
    );
    let mut raw = match (source, destination) {
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            v6(packet, source.octets(), destination.octets(), of_udp)
        }
        (source, destination) => v4(packet, octets(source), octets(destination), of_udp),
    };
    let header = raw.len();
    raw.extend(packet.source.port().to_be_bytes());
    raw.extend(packet.destination.port().to_be_bytes());
    raw.extend(short(of_udp).to_be_bytes());
    raw.extend([0, 0]);
    raw.extend(packet.start());
    let length = header + of_udp;
    (raw, u32::try_from(length).unwrap_or(u32::MAX))
}

fn v4(packet: &Packet, source: [u8; 4], destination: [u8; 4], payload: usize) -> Vec<u8> {
    const HEADER: usize = 20;
    const DF: u8 = 0x40;
    let header = packet.header;
    let mut raw = vec![0x45, header.tos.unwrap_or_default().byte()];
    raw.extend(short(HEADER + payload).to_be_bytes());
    let flags = if header.df_bit == Some(true) { DF } else { 0 };
    raw.extend([0, 0, flags, 0, header.ttl.unwrap_or_default(), UDP, 0, 0]);
    raw.extend(source);
    raw.extend(destination);
    raw
}

fn v6(packet: &Packet, source: [u8; 16], destination: [u8; 16], payload: usize) -> Vec<u8> {
    let header = packet.header;
    let class = header.tos.unwrap_or_default().byte();
    let mut raw = vec![0x60 | class >> 4, class << 4, 0, 0];
    raw.extend(short(payload).to_be_bytes());
    raw.extend([UDP, header.ttl.unwrap_or_default()]);
    raw.extend(source);
    raw.extend(destination);
    raw
}

/// What is not known of an address of IPv4 is 0.0.0.0.
fn octets(address: IpAddr) -> [u8; 4] {
    match address {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(_) => [0; 4],
    }
}

fn short(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use perpacket_webrtc::{SentHeader, udp::Tos};

    use super::*;

    fn packet(source: &str, destination: &str, payload: &[u8]) -> Packet {
        let mut header = SentHeader::default();
        header.ttl = Some(10);
        header.df_bit = Some(true);
        header.tos = Some(Tos::from_byte(184));
        let address = |text: &str| text.parse().expect("an address");
        Packet::new(address(source), address(destination), header, payload)
    }

    #[test]
    fn a_packet_of_ipv4_says_what_it_said() {
        let (raw, length) = rebuild(&packet("192.0.2.1:5000", "192.0.2.2:6000", &[7; 1_200]));
        assert_eq!((raw.len(), length), (28 + 48, 1_228));
        assert_eq!(raw[..12], [0x45, 184, 4, 204, 0, 0, 0x40, 0, 10, 17, 0, 0]);
        assert_eq!(raw[12..20], [192, 0, 2, 1, 192, 0, 2, 2]);
        assert_eq!(raw[20..28], [0x13, 0x88, 0x17, 0x70, 4, 184, 0, 0]);
        assert!(raw[28..].iter().all(|byte| *byte == 7));
    }

    #[test]
    fn one_of_ipv6_as_well() {
        let (raw, length) = rebuild(&packet("[2001:db8::1]:5000", "[2001:db8::2]:6000", b"abc"));
        assert_eq!((raw.len(), length), (51, 51));
        assert_eq!(raw[..8], [0x6b, 0x80, 0, 0, 0, 11, 17, 10]);
        assert_eq!(raw[48..], *b"abc");
    }
}
