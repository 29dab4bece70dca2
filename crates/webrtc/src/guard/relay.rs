use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{HEADER_LEN, same, walk};
use crate::{
    DropCause, Relayed, StunClass, StunHeader, StunMethod, channel_binding, relayed_payload,
};

/// RFC 8656 §12: channels are 0x4000..=0x4FFF.
const FIRST_CHANNEL: u16 = 0x4000;
const CHANNELS: usize = 0x1000;

/// RFC 8656 §18.3.
const ATTR_XOR_PEER_ADDRESS: u16 = 0x0012;

/// The buffer that webrtc-ice receives into: it stops reading from a relay at a longer payload, and
/// anyone at the peer's IP address can send one.
const LONGEST: usize = 8192;

/// RFC 8489 §5. The TURN client takes whatever has it at bytes 4..8 for a STUN message.
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];

/// The TURN server of a relayed candidate. webrtc-rs's client stops reading for good at the first
/// datagram that it cannot use, whoever sent it, so only what it can use may come through.
#[derive(Debug)]
pub(super) struct Relay {
    server: SocketAddr,
    /// A bit for each channel that the server was asked to bind.
    channels: [AtomicU64; CHANNELS / 64],
}

impl Relay {
    pub(super) fn new(server: SocketAddr) -> Self {
        Self {
            server,
            channels: [const { AtomicU64::new(0) }; CHANNELS / 64],
        }
    }

    pub(super) fn sending(&self, datagram: &[u8]) {
        if let Some((channel, _)) = channel_binding(datagram)
            && let Some((word, bit)) = self.place(channel)
        {
            word.fetch_or(bit, Relaxed);
        }
    }

    pub(super) fn refuses(&self, datagram: &[u8], source: SocketAddr) -> Option<DropCause> {
        if !same(source, self.server) {
            Some(DropCause::Stranger)
        } else if !self.is_usable(datagram) {
            Some(DropCause::Unexpected)
        } else {
            None
        }
    }

    fn is_usable(&self, datagram: &[u8]) -> bool {
        let relayed = relayed_payload(datagram);
        if let Some((Relayed::Channel(channel), payload)) = relayed {
            let is_known = self
                .place(channel)
                .is_some_and(|(word, bit)| word.load(Relaxed) & bit != 0);
            let is_taken_for_stun = datagram.len() >= HEADER_LEN && datagram[4..8] == MAGIC_COOKIE;
            return is_known && !is_taken_for_stun && payload.len() <= LONGEST;
        }
        let Some(header) = StunHeader::parse(datagram) else {
            return false;
        };
        let mut peer = None;
        let is_whole = walk(datagram, |attribute, value| {
            if attribute == ATTR_XOR_PEER_ADDRESS {
                peer.get_or_insert(value);
            }
        });
        // A Data indication without data tells of an ICMP error (RFC 8656 §11.6), which the client
        // does not know of. It reads the first two bytes of an address as its family.
        let is_usable_data = || {
            relayed.is_some_and(|(_, payload)| payload.len() <= LONGEST)
                && peer.is_some_and(|peer| peer.first() == Some(&0))
        };
        is_whole
            && match (header.class, header.method) {
                (StunClass::Request, _) => false,
                (StunClass::Indication, StunMethod::DATA) => is_usable_data(),
                _ => true,
            }
    }

    fn place(&self, channel: u16) -> Option<(&AtomicU64, u64)> {
        let index = usize::from(channel.checked_sub(FIRST_CHANNEL)?);
        Some((self.channels.get(index / 64)?, 1 << (index % 64)))
    }
}
