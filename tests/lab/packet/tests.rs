//! Packets built by `etherparse` are read back; any other bytes do no harm.

use std::time::SystemTime;

use bytes::Bytes;
use etherparse::{
    IpFragOffset, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv4Options, Ipv6Extensions,
    Ipv6FlowLabel, Ipv6Header, PacketBuilder,
};
use proptest::prelude::*;

use super::{Direction, Fragment, Packet, Quoted};

fn parse(bytes: &[u8]) -> Option<Packet> {
    Packet::parse(
        SystemTime::UNIX_EPOCH,
        Direction::Incoming,
        &Bytes::copy_from_slice(bytes),
        Quoted::TakeApart,
    )
}

fn with_udp(header: IpHeaders, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ip(header).udp(1000, 2000);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).unwrap();
    bytes
}

prop_compose! {
    fn ipv4()(ttl: u8, tos: u8, df: bool, id: u16, options in 0_usize..=10) -> Ipv4Header {
        let mut header = Ipv4Header::new(0, ttl, IpNumber::UDP, [10, 0, 0, 1], [10, 0, 0, 2]).unwrap();
        header.dscp = (tos >> 2).try_into().unwrap();
        header.ecn = (tos & 3).try_into().unwrap();
        header.dont_fragment = df;
        header.identification = id;
        // No-operation, RFC 791 §3.1.
        header.options = Ipv4Options::try_from(&[1; 40][..4 * options]).unwrap();
        header
    }
}

prop_compose! {
    fn ipv6()(hop_limit: u8, traffic_class: u8, label in 0_u32..1 << 20) -> Ipv6Header {
        Ipv6Header {
            hop_limit,
            traffic_class,
            flow_label: Ipv6FlowLabel::try_from(label).unwrap(),
            source: [1; 16],
            destination: [2; 16],
            ..Ipv6Header::default()
        }
    }
}

proptest! {
    #[test]
    fn ipv4_is_read_back(header in ipv4(), payload in prop::collection::vec(any::<u8>(), 0..50)) {
        let bytes = with_udp(IpHeaders::Ipv4(header.clone(), Ipv4Extensions::default()), &payload);
        let packet = parse(&bytes).unwrap();
        prop_assert_eq!(packet.source, "10.0.0.1:1000".parse().unwrap());
        prop_assert_eq!(packet.destination, "10.0.0.2:2000".parse().unwrap());
        prop_assert_eq!(packet.ttl, header.time_to_live);
        prop_assert_eq!(packet.tos, header.dscp.value() << 2 | header.ecn.value());
        prop_assert_eq!(packet.df, header.dont_fragment);
        prop_assert_eq!(packet.identification, header.identification);
        prop_assert_eq!(&*packet.ip_options, header.options.as_slice());
        prop_assert_eq!(packet.ip_total_len, bytes.len());
        prop_assert_eq!(packet.fragment, None);
        prop_assert_eq!(&*packet.payload, payload);
        prop_assert_eq!(&*packet.raw, bytes);
    }

    #[test]
    fn ipv6_is_read_back(header in ipv6(), payload in prop::collection::vec(any::<u8>(), 0..50)) {
        let bytes = with_udp(IpHeaders::Ipv6(header.clone(), Ipv6Extensions::default()), &payload);
        let packet = parse(&bytes).unwrap();
        prop_assert_eq!(packet.ttl, header.hop_limit);
        prop_assert_eq!(packet.tos, header.traffic_class);
        prop_assert_eq!(packet.flow_label, header.flow_label.value());
        prop_assert_eq!(packet.ip_total_len, bytes.len());
        prop_assert!(packet.df);
        prop_assert_eq!(packet.ip_checksum, None);
        prop_assert_eq!(&*packet.payload, payload);
    }

    #[test]
    fn fragment_is_read_back(mut header in ipv4(), offset in 1_u16..1 << 13, more: bool) {
        header.fragment_offset = IpFragOffset::try_from(offset).unwrap();
        header.more_fragments = more;
        let bytes = with_udp(IpHeaders::Ipv4(header.clone(), Ipv4Extensions::default()), b"later");
        let packet = parse(&bytes).unwrap();
        prop_assert_eq!(packet.fragment, Some(Fragment {
            offset: offset << 3,
            more,
            identification: header.identification.into(),
        }));
        prop_assert_eq!((packet.source.port(), packet.udp), (0, None));
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }

    /// Bytes that look like a packet at first, with one of them wrong, and cut somewhere.
    #[test]
    fn broken_packets_do_no_harm(
        v6: bool,
        transport in prop::sample::select(vec![1_u8, 17, 44, 51, 58, 60, 0, 43]),
        mut bytes in prop::collection::vec(any::<u8>(), 40..200),
        at: prop::sample::Index,
        cut: prop::sample::Index,
    ) {
        let wrong = bytes[at.index(bytes.len())];
        if v6 {
            bytes[0] = 0x60;
            bytes[6] = transport;
        } else {
            bytes[0] = 0x45;
            bytes[9] = transport;
        }
        let at = at.index(bytes.len());
        bytes[at] = wrong;
        bytes.truncate(cut.index(bytes.len()));
        if let Some(packet) = parse(&bytes) {
            prop_assert!(packet.payload.len() <= bytes.len());
            prop_assert!(!packet.to_string().is_empty());
        }
    }
}
