//! What holds for all bytes, all payloads and all addresses.

use std::net::{IpAddr, SocketAddr};

use perpacket_webrtc::{PacketClass, Relayed, channel_binding, classify, relayed_payload};
use proptest::collection::vec;
use proptest::prelude::*;
use stun::attributes::AttrType;
use stun::message as msg;
use turn::proto::channum::ChannelNumber;
use turn::proto::data::Data;

use crate::packets::{Raw, channel_data, message, peer_address, plain, send_indication};
use crate::read;

fn any_peer() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn any_payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 1..200),
        proptest::sample::select(&PacketClass::ALL[..]).prop_map(plain),
    ]
}

/// Bytes; half the time with a good STUN header and attributes whose lengths are wrong.
fn any_datagram() -> impl Strategy<Value = Vec<u8>> {
    let attributes = vec((0x0006..0x0016_u16, 0..24_u16, any::<[u8; 20]>()), 0..400);
    // A Send and a Data indication, a ChannelBind and a Binding request.
    let message_types = proptest::sample::select(vec![0x0016_u16, 0x0017, 0x0009, 0x0001]);
    let plausible = (message_types, attributes).prop_map(|(message_type, attributes)| {
        let mut datagram = message_type.to_be_bytes().to_vec();
        let mut body = Vec::new();
        for (attribute, length, value) in attributes {
            body.extend(attribute.to_be_bytes());
            body.extend(length.to_be_bytes());
            body.extend(value);
        }
        datagram.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        datagram.extend(msg::MAGIC_COOKIE.to_be_bytes());
        datagram.extend([9; 12]);
        datagram.extend(body);
        datagram
    });
    prop_oneof![vec(any::<u8>(), 0..9000), plausible]
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic_or_allocation(datagram in any_datagram()) {
        let classified = read(&datagram);
        prop_assert_eq!(classified.rtp.is_some(), classified.class == PacketClass::Srtp);
        let wraps = relayed_payload(&datagram).filter(|(_, payload)| !payload.is_empty());
        prop_assert_eq!(classified.relayed, wraps.map(|(relayed, _)| relayed));
    }

    #[test]
    fn a_wrapped_payload_has_the_class_it_has_alone(
        payload in any_payload(),
        peer in any_peer(),
        channel in 0x4000..=0x4FFF_u16,
        padded: bool,
    ) {
        let alone = classify(&payload);
        // A payload that wraps something is not opened.
        prop_assume!(alone.relayed.is_none());

        let sent = send_indication(peer, &payload);
        let mut expected = alone;
        expected.relayed = Some(Relayed::Peer(peer));
        prop_assert_eq!(read(&sent), expected);
        prop_assert_eq!(relayed_payload(&sent), Some((Relayed::Peer(peer), &payload[..])));

        let received = message(
            msg::METHOD_DATA,
            msg::CLASS_INDICATION,
            &[&peer_address(peer), &Raw(AttrType(0x8022), vec![1; 7]), &Data(payload.clone())],
        );
        prop_assert_eq!(read(&received), expected);

        let mut in_channel = channel_data(channel, &payload);
        if !padded {
            in_channel.truncate(4 + payload.len());
        }
        expected.relayed = Some(Relayed::Channel(channel));
        prop_assert_eq!(read(&in_channel), expected);
    }

    #[test]
    fn a_channel_binding_is_read_back(peer in any_peer(), channel in 0x4000..=0x4FFF_u16) {
        let request = message(
            msg::METHOD_CHANNEL_BIND,
            msg::CLASS_REQUEST,
            &[&peer_address(peer), &ChannelNumber(channel)],
        );
        prop_assert_eq!(channel_binding(&request), Some((channel, peer)));
    }

    #[test]
    fn a_damaged_wrapper_is_read_without_panic_or_allocation(
        payload in any_payload(),
        peer in any_peer(),
        at: proptest::sample::Index,
        value: u8,
        cut: proptest::sample::Index,
    ) {
        for mut datagram in [send_indication(peer, &payload), channel_data(0x4000, &payload)] {
            let at = at.index(datagram.len());
            datagram[at] = value;
            read(&datagram);
            read(&datagram[..cut.index(datagram.len())]);
        }
    }
}
