//! Packets as an independent encoder, webrtc-rs's `stun` and `turn`, makes them.

use std::net::SocketAddr;

use perpacket_webrtc::PacketClass;
use stun::agent::TransactionId;
use stun::attributes::AttrType;
use stun::message as msg;
use stun::message::{Message, MessageClass, MessageType, Method, Setter};
use turn::proto::chandata::ChannelData;
use turn::proto::channum::ChannelNumber;
use turn::proto::data::Data;
use turn::proto::peeraddr::PeerAddress;

pub(crate) fn message(method: Method, class: MessageClass, attributes: &[&dyn Setter]) -> Vec<u8> {
    let mut message = Message::new();
    message.set_type(MessageType { method, class });
    message.transaction_id = TransactionId::new();
    message.write_header();
    for attribute in attributes {
        attribute.add_to(&mut message).unwrap();
    }
    message.raw
}

pub(crate) fn send_indication(peer: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let data = Data(payload.to_vec());
    message(
        msg::METHOD_SEND,
        msg::CLASS_INDICATION,
        &[&data, &peer_address(peer)],
    )
}

pub(crate) fn channel_data(channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut message = ChannelData {
        data: payload.to_vec(),
        number: ChannelNumber(channel),
        raw: Vec::new(),
    };
    message.encode();
    message.raw
}

pub(crate) fn peer_address(peer: SocketAddr) -> PeerAddress {
    PeerAddress {
        ip: peer.ip(),
        port: peer.port(),
    }
}

/// An attribute with a type and value that no encoder would agree to.
pub(crate) struct Raw(pub(crate) AttrType, pub(crate) Vec<u8>);

impl Setter for Raw {
    fn add_to(&self, message: &mut Message) -> Result<(), stun::Error> {
        message.add(self.0, &self.1);
        Ok(())
    }
}

pub(crate) fn peer() -> SocketAddr {
    "192.0.2.7:50000".parse().unwrap()
}

pub(crate) fn rtp(payload_type: u8, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type, 0, 1, 0, 0, 0, 2];
    packet.extend(ssrc.to_be_bytes());
    packet.extend(payload);
    packet
}

/// One packet of each class, none of which is a wrapper.
pub(crate) fn plain(class: PacketClass) -> Vec<u8> {
    match class {
        PacketClass::Stun => message(msg::METHOD_BINDING, msg::CLASS_REQUEST, &[]),
        PacketClass::Dtls => [&[22, 0xFE, 0xFD][..], &[0; 97]].concat(),
        PacketClass::Srtp => rtp(111, 0xDEAD_BEEF, &[0x55; 160]),
        PacketClass::Srtcp => [&[0x80, 200, 0, 6, 0xDE, 0xAD, 0xBE, 0xEF][..], &[7; 40]].concat(),
        PacketClass::Turn => message(msg::METHOD_REFRESH, msg::CLASS_REQUEST, &[]),
        _ => vec![0xC0; 1200],
    }
}
