use std::net::SocketAddr;
use std::ops::RangeInclusive;

use super::stun::{Attributes, StunClass, StunHeader, StunMethod};

/// RFC 8656 §12. RFC 5766 had room up to 0x7FFF, which RFC 9443 gives to QUIC.
const CHANNEL_NUMBERS: RangeInclusive<u16> = 0x4000..=0x4FFF;

/// RFC 8656 §18.
const ATTR_CHANNEL_NUMBER: u16 = 0x000C;
const ATTR_XOR_PEER_ADDRESS: u16 = 0x0012;
const ATTR_DATA: u16 = 0x0013;

/// How a payload travels between a TURN client and its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Relayed {
    /// In a Send or Data indication, which names the peer (RFC 8656 §11).
    Peer(SocketAddr),
    /// In a `ChannelData` message, by channel number, 0x4000..=0x4FFF (RFC 8656 §12.4).
    /// [`channel_binding`] tells which peer that is.
    Channel(u16),
}

/// What a Send indication, a Data indication or a `ChannelData` message wraps: the payload, which
/// may be empty, and how it travels. `None` for every other datagram.
///
/// The payload is not looked at. A Send indication must have both a DATA and an XOR-PEER-ADDRESS
/// attribute (RFC 8656 §11.2); a Data indication without DATA tells of an ICMP error and wraps
/// nothing (RFC 8656 §11.6). Of an attribute that appears twice the first counts (RFC 8489 §14).
#[must_use]
#[inline]
pub fn relayed_payload(datagram: &[u8]) -> Option<(Relayed, &[u8])> {
    match datagram.first()? {
        0..=3 => indication(datagram),
        64..=79 => channel_data(datagram),
        _ => None,
    }
}

fn indication(datagram: &[u8]) -> Option<(Relayed, &[u8])> {
    let header = StunHeader::parse(datagram)?;
    if header.class != StunClass::Indication
        || !matches!(header.method, StunMethod::SEND | StunMethod::DATA)
    {
        return None;
    }
    let [peer, data] = find(datagram, [ATTR_XOR_PEER_ADDRESS, ATTR_DATA])?;
    Some((Relayed::Peer(header.xor_address(peer)?), data))
}

fn channel_data(datagram: &[u8]) -> Option<(Relayed, &[u8])> {
    let (&[c0, c1, l0, l1], rest) = datagram.split_first_chunk()?;
    let channel = u16::from_be_bytes([c0, c1]);
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    // RFC 8656 §12.5: over UDP the padding to a multiple of four is not required, but may be there.
    let fits = rest.len() == length || rest.len() == length.next_multiple_of(4);
    (CHANNEL_NUMBERS.contains(&channel) && fits)
        .then(|| rest.get(..length))
        .flatten()
        .map(|data| (Relayed::Channel(channel), data))
}

/// The channel and the peer that a `ChannelBind` request asks the server to bind (RFC 8656 §12.1).
///
/// The binding holds once the server has answered with a success response of the same
/// [transaction id](StunHeader::transaction_id), which repeats neither. `None` for every other
/// datagram, and for a channel number outside 0x4000..=0x4FFF, which a server refuses.
#[must_use]
pub fn channel_binding(datagram: &[u8]) -> Option<(u16, SocketAddr)> {
    let header = StunHeader::parse(datagram)?;
    if header.class != StunClass::Request || header.method != StunMethod::CHANNEL_BIND {
        return None;
    }
    let [number, peer] = find(datagram, [ATTR_CHANNEL_NUMBER, ATTR_XOR_PEER_ADDRESS])?;
    // RFC 8656 §18.1: the number, and two bytes that a receiver ignores.
    let &[n0, n1, _, _] = number.try_into().ok()?;
    let channel = u16::from_be_bytes([n0, n1]);
    CHANNEL_NUMBERS
        .contains(&channel)
        .then_some((channel, header.xor_address(peer)?))
}

/// The first value of each of two attributes, if both are there. Looks no further than it must.
fn find(message: &[u8], wanted: [u16; 2]) -> Option<[&[u8]; 2]> {
    let mut found = [None; 2];
    for (attribute, value) in Attributes::of(message) {
        if let Some(at) = wanted.iter().position(|&wanted| wanted == attribute) {
            found[at].get_or_insert(value);
        }
        if let [Some(first), Some(second)] = found {
            return Some([first, second]);
        }
    }
    None
}
