//! What passes between a TURN client and its server, taken apart anew: the classifier that the options were chosen by is
//! not to be its own judge (RFC 8656 §11, §12).

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

use perpacket_lab::Packet;

/// How a payload travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrapping {
    Indication,
    ChannelData,
}

/// What passes between a client and its server, in the order of the wire.
#[derive(Default)]
pub(crate) struct Relayed {
    /// What was for peers: as if it had been sent to them.
    pub(crate) to_peers: Vec<(Wrapping, Packet)>,
    /// What came from peers: as if they had sent it here.
    pub(crate) from_peers: Vec<(Wrapping, Packet)>,
    /// What was for the server.
    pub(crate) control: Vec<Packet>,
}

impl Relayed {
    /// Takes apart those of a client's datagrams that are to or from `server`. The channels are known from the
    /// requests that bind them, which are to be among the datagrams.
    pub(crate) fn of<'a>(packets: impl Iterator<Item = &'a Packet>, server: SocketAddr) -> Self {
        let mut channels = HashMap::new();
        let mut all = Self::default();
        for packet in packets {
            let is_for_server = packet.destination == server;
            if !is_for_server && packet.source != server {
                continue;
            }
            if let Some((number, peer)) = channel_binding(&packet.payload) {
                channels.insert(number, peer);
            }
            let Some((wrapping, peer, data)) = unwrap(&packet.payload, &channels) else {
                if is_for_server {
                    all.control.push(packet.clone());
                }
                continue;
            };
            let mut inner = packet.clone();
            inner.payload = packet.payload.slice_ref(data);
            if is_for_server {
                inner.destination = peer;
                all.to_peers.push((wrapping, inner));
            } else {
                inner.source = peer;
                all.from_peers.push((wrapping, inner));
            }
        }
        all
    }

    /// What was for peers, however it went.
    pub(crate) fn inner(&self) -> impl Iterator<Item = &Packet> {
        self.to_peers.iter().map(|(_, packet)| packet)
    }
}

type Channels = HashMap<[u8; 2], SocketAddr>;

fn unwrap<'a>(message: &'a [u8], channels: &Channels) -> Option<(Wrapping, SocketAddr, &'a [u8])> {
    match message_type(message) {
        Some(SEND | DATA_INDICATION) => {
            let data = attribute(message, DATA)?;
            Some((Wrapping::Indication, peer_of(message)?, data))
        }
        Some(_) => None,
        None => {
            let (&[n0, n1, l0, l1], rest) = message.split_first_chunk()?;
            let data = rest.get(..usize::from(u16::from_be_bytes([l0, l1])))?;
            Some((Wrapping::ChannelData, *channels.get(&[n0, n1])?, data))
        }
    }
}

fn channel_binding(message: &[u8]) -> Option<([u8; 2], SocketAddr)> {
    if message_type(message)? != CHANNEL_BIND {
        return None;
    }
    let number = attribute(message, CHANNEL_NUMBER)?.first_chunk()?;
    Some((*number, peer_of(message)?))
}

/// The message type: a method and a class.
const SEND: u16 = 0x0016;
const DATA_INDICATION: u16 = 0x0017;
const CHANNEL_BIND: u16 = 0x0009;

const CHANNEL_NUMBER: u16 = 0x000c;
const XOR_PEER_ADDRESS: u16 = 0x0012;
const DATA: u16 = 0x0013;
/// RFC 8656 §18.9.
pub(crate) const DONT_FRAGMENT: u16 = 0x001a;

fn message_type(message: &[u8]) -> Option<u16> {
    match *message {
        [high @ 0..=3, low, ..] => Some(u16::from_be_bytes([high, low])),
        _ => None,
    }
}

/// The value of the first attribute of a type.
pub(crate) fn attribute(message: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = message.get(20..)?;
    loop {
        let (&[t0, t1, l0, l1], after) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if u16::from_be_bytes([t0, t1]) == wanted {
            return after.get(..length);
        }
        rest = after.get(length.next_multiple_of(4)..)?;
    }
}

/// An IPv4 address, each byte with that of the magic cookie (RFC 8489 §14.2).
fn peer_of(message: &[u8]) -> Option<SocketAddr> {
    let &[0, 1, p0, p1, a, b, c, d] = attribute(message, XOR_PEER_ADDRESS)? else {
        return None;
    };
    let port = u16::from_be_bytes([p0 ^ 0x21, p1 ^ 0x12]);
    Some((Ipv4Addr::new(a ^ 0x21, b ^ 0x12, c ^ 0xa4, d ^ 0x42), port).into())
}
