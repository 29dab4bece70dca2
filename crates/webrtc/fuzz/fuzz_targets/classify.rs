//! Classifies any bytes: as a datagram, as what TURN wraps, and as STUN attributes.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use perpacket_webrtc::{PacketClass, Relayed, channel_binding, classify, is_stun, relayed_payload};

const CHANNEL: u16 = 0x4ABC;

fuzz_target!(|datagram: &[u8]| {
    consistent(datagram);
    if let Some((&message_type, attributes)) = datagram.split_first_chunk() {
        consistent(&stun(message_type, attributes));
    }
    // Larger ones have no room for the header.
    if (1..=65_000).contains(&datagram.len()) {
        let wrapped = consistent(&channel_data(datagram));
        assert_eq!(wrapped, Some(Relayed::Channel(CHANNEL)));
        let peer = SocketAddr::from(([192, 0, 2, 1], 7));
        let wrapped = consistent(&send_indication(datagram));
        assert_eq!(wrapped, Some(Relayed::Peer(peer)));
        let (number, peer) = datagram.split_at(datagram.len().min(4));
        consistent(&channel_bind(number, peer));
    }
});

/// Holds the answers of all functions on `datagram` against each other.
fn consistent(datagram: &[u8]) -> Option<Relayed> {
    let outer = classify(datagram);
    assert_eq!(outer.rtp.is_some(), outer.class == PacketClass::Srtp);

    match relayed_payload(datagram) {
        Some((relayed, payload)) if !payload.is_empty() => {
            assert_eq!(outer.relayed, Some(relayed));
            assert!(payload.len() + 4 <= datagram.len());
            let inner = classify(payload);
            if inner.relayed.is_some() {
                assert_eq!((outer.class, outer.rtp), (PacketClass::Turn, None));
            } else {
                assert_eq!((outer.class, outer.rtp), (inner.class, inner.rtp));
            }
        }
        wrapper => {
            assert_eq!(outer.relayed, None);
            assert!(wrapper.is_none() || outer.class == PacketClass::Turn);
            assert!(outer.class != PacketClass::Stun || is_stun(datagram));
        }
    }

    if let Some((channel, _)) = channel_binding(datagram) {
        assert!((0x4000..=0x4FFF).contains(&channel));
        assert!(is_stun(datagram));
        assert_eq!((outer.class, outer.relayed), (PacketClass::Turn, None));
    }
    outer.relayed
}

fn channel_data(payload: &[u8]) -> Vec<u8> {
    let mut message = CHANNEL.to_be_bytes().to_vec();
    message.extend(length(payload.len()));
    message.extend(payload);
    message
}

fn send_indication(payload: &[u8]) -> Vec<u8> {
    // 192.0.2.1:7, each byte XORed with the cookie's.
    let peer = [0x00, 0x01, 0x21, 0x15, 0xE1, 0x12, 0xA6, 0x43];
    let attributes = [attribute(0x13, payload), attribute(0x12, &peer)];
    stun([0x00, 0x16], &attributes.concat())
}

fn channel_bind(number: &[u8], peer: &[u8]) -> Vec<u8> {
    let attributes = [attribute(0x0C, number), attribute(0x12, peer)];
    stun([0x00, 0x09], &attributes.concat())
}

fn attribute(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut attribute = vec![0x00, kind];
    attribute.extend(length(value.len()));
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// A good header, and as many of the attributes as a message has room for.
fn stun(message_type: [u8; 2], attributes: &[u8]) -> Vec<u8> {
    let room = attributes.len().min(0xFFFF) & !3;
    let mut message = message_type.to_vec();
    message.extend(length(room));
    message.extend([0x21, 0x12, 0xA4, 0x42]);
    message.extend([9; 12]);
    message.extend(&attributes[..room]);
    message
}

fn length(length: usize) -> [u8; 2] {
    u16::try_from(length)
        .expect("the payload leaves room for the header")
        .to_be_bytes()
}
