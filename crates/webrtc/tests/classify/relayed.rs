//! What TURN wraps, and what only looks as if.

use std::net::SocketAddr;

use perpacket_webrtc::{PacketClass, Relayed, channel_binding, classify, relayed_payload};
use stun::attributes::{
    ATTR_CHANNEL_NUMBER, ATTR_DATA, ATTR_MESSAGE_INTEGRITY_SHA256, ATTR_XOR_PEER_ADDRESS, AttrType,
};
use stun::integrity::MessageIntegrity;
use stun::message as msg;
use stun::message::Setter;
use turn::proto::channum::ChannelNumber;
use turn::proto::data::Data;

use crate::packets::{Raw, channel_data, message, peer, peer_address, plain, rtp, send_indication};
use crate::read;

/// RFC 8656 §18.13: the ICMP attribute of a Data indication.
const ATTR_ICMP: AttrType = AttrType(0x8004);

#[test]
fn truncated_wrappers_wrap_nothing() {
    let payload = plain(PacketClass::Srtp);
    let send = send_indication(peer(), &payload);
    for length in 0..send.len() {
        assert_eq!(read(&send[..length]).class, PacketClass::Other, "{length}");
    }
    // 173 bytes, so that three bytes of padding follow. Without them all it is whole, too.
    let payload = rtp(96, 1, &[3; 161]);
    let padded = channel_data(0x4000, &payload);
    assert_eq!(padded.len(), 4 + 176);
    for length in 0..padded.len() {
        let whole = length == 4 + payload.len();
        let classified = read(&padded[..length]);
        assert_eq!(classified.relayed.is_some(), whole, "{length}");
        assert_eq!(classified.class != PacketClass::Other, whole, "{length}");
    }
    let longer = [&padded[..], &[0]].concat();
    assert_eq!(classify(&longer).class, PacketClass::Other);
}

#[test]
fn one_wrapping_is_opened() {
    let media = plain(PacketClass::Srtp);
    for inner in [
        channel_data(0x4001, &media),
        send_indication(peer(), &media),
        plain(PacketClass::Turn),
    ] {
        let in_channel = classify(&channel_data(0x4FFF, &inner));
        assert_eq!(in_channel.class, PacketClass::Turn);
        assert_eq!(in_channel.rtp, None);
        assert_eq!(in_channel.relayed, Some(Relayed::Channel(0x4FFF)));
        let in_indication = classify(&send_indication(peer(), &inner));
        assert_eq!(in_indication.class, PacketClass::Turn);
        assert_eq!(in_indication.relayed, Some(Relayed::Peer(peer())));
    }
}

#[test]
fn a_wrapper_without_payload_is_turn() {
    let indication =
        |method, attributes: &[&dyn Setter]| message(method, msg::CLASS_INDICATION, attributes);
    let address = peer_address(peer());
    let data = Data(plain(PacketClass::Srtp));
    for datagram in [
        channel_data(0x4000, &[]),
        channel_data(0x4FFF, &[]),
        send_indication(peer(), &[]),
        indication(msg::METHOD_SEND, &[]),
        indication(msg::METHOD_SEND, &[&data]),
        indication(msg::METHOD_DATA, &[&address]),
        indication(
            msg::METHOD_DATA,
            &[&address, &Raw(ATTR_ICMP, vec![0, 0, 11, 0, 0, 0, 0, 0])],
        ),
        // An address of an unknown family, one too short, one too long.
        indication(
            msg::METHOD_SEND,
            &[
                &data,
                &Raw(ATTR_XOR_PEER_ADDRESS, vec![0, 3, 0, 0, 1, 2, 3, 4]),
            ],
        ),
        indication(
            msg::METHOD_SEND,
            &[&data, &Raw(ATTR_XOR_PEER_ADDRESS, vec![0, 1, 0])],
        ),
        indication(
            msg::METHOD_SEND,
            &[
                &data,
                &Raw(ATTR_XOR_PEER_ADDRESS, vec![0, 1, 0, 0, 1, 2, 3, 4, 5]),
            ],
        ),
        // Send and Data exist as indications only.
        message(msg::METHOD_SEND, msg::CLASS_REQUEST, &[&data, &address]),
    ] {
        let classified = read(&datagram);
        assert_eq!(classified.class, PacketClass::Turn, "{datagram:02x?}");
        assert_eq!(classified.relayed, None, "{datagram:02x?}");
    }
}

#[test]
fn an_attribute_that_claims_too_much_ends_the_walk() {
    let good = send_indication(peer(), &[0x80; 12]);
    assert!(relayed_payload(&good).is_some());
    // DATA comes first: its length is at 22..24, the address follows it.
    for length in [28_u16, 29, 1000, 0xFFFF] {
        let mut bad = good.clone();
        bad[22..24].copy_from_slice(&length.to_be_bytes());
        assert_eq!(relayed_payload(&bad), None, "{length}");
        assert_eq!(read(&bad).class, PacketClass::Turn, "{length}");
    }
}

#[test]
fn the_first_of_two_equal_attributes_counts() {
    let other: SocketAddr = "198.51.100.1:9".parse().unwrap();
    let datagram = message(
        msg::METHOD_DATA,
        msg::CLASS_INDICATION,
        &[
            &peer_address(peer()),
            &peer_address(other),
            &Data(vec![1, 2, 3]),
            &Data(vec![4]),
        ],
    );
    let expected = (Relayed::Peer(peer()), &[1, 2, 3][..]);
    assert_eq!(relayed_payload(&datagram), Some(expected));
}

#[test]
fn what_follows_the_message_integrity_does_not_count() {
    let key = MessageIntegrity::new_short_term_integrity("secret".to_owned());
    let channel = ChannelNumber(0x4003);
    let address = peer_address(peer());
    let bind = |attributes: &[&dyn Setter]| {
        message(msg::METHOD_CHANNEL_BIND, msg::CLASS_REQUEST, attributes)
    };
    let genuine = bind(&[&channel, &address, &key]);
    assert_eq!(channel_binding(&genuine), Some((0x4003, peer())));
    let appended = bind(&[&channel, &key, &address]);
    assert_eq!(channel_binding(&appended), None);
    let sha256 = Raw(ATTR_MESSAGE_INTEGRITY_SHA256, vec![0; 32]);
    assert_eq!(channel_binding(&bind(&[&channel, &sha256, &address])), None);
}

#[test]
fn only_a_channel_bind_request_with_a_valid_channel_binds() {
    let address = peer_address(peer());
    let data = Raw(ATTR_DATA, vec![1; 5]);
    let bind = |method, class, channel: &dyn Setter| {
        channel_binding(&message(method, class, &[&data, channel, &address]))
    };
    for channel in [0x4000, 0x4001, 0x4FFF] {
        assert_eq!(
            bind(
                msg::METHOD_CHANNEL_BIND,
                msg::CLASS_REQUEST,
                &ChannelNumber(channel)
            ),
            Some((channel, peer()))
        );
    }
    for channel in [0, 0x3FFF, 0x5000, 0x7FFF, 0xFFFF] {
        let channel = ChannelNumber(channel);
        let bound = bind(msg::METHOD_CHANNEL_BIND, msg::CLASS_REQUEST, &channel);
        assert_eq!(bound, None, "{channel}");
    }
    let channel = ChannelNumber(0x4000);
    for class in [
        msg::CLASS_INDICATION,
        msg::CLASS_SUCCESS_RESPONSE,
        msg::CLASS_ERROR_RESPONSE,
    ] {
        assert_eq!(bind(msg::METHOD_CHANNEL_BIND, class, &channel), None);
    }
    assert_eq!(
        bind(msg::METHOD_REFRESH, msg::CLASS_REQUEST, &channel),
        None
    );
    let short = Raw(ATTR_CHANNEL_NUMBER, vec![0x40, 0]);
    let bound = bind(msg::METHOD_CHANNEL_BIND, msg::CLASS_REQUEST, &short);
    assert_eq!(bound, None);
}
