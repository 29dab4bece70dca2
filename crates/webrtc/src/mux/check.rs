//! What the mux reads in STUN messages.

use std::net::SocketAddr;

use stun::{
    attributes::{
        ATTR_MESSAGE_INTEGRITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, ATTR_XORMAPPED_ADDRESS,
    },
    integrity::MessageIntegrity,
    message::Message,
};

use crate::{StunHeader, classify::stun_attribute};

/// The username fragment that a check is for: what stands before the colon (RFC 8445 §7.2.2).
pub(super) fn ufrag(datagram: &[u8]) -> Option<&str> {
    let username = stun_attribute(datagram, ATTR_USERNAME.value())?;
    std::str::from_utf8(username).ok()?.split(':').next()
}

/// Whether the sender nominates the pair (RFC 8445 §7.1.2).
pub(super) fn nominates(datagram: &[u8]) -> bool {
    stun_attribute(datagram, ATTR_USE_CANDIDATE.value()).is_some()
}

/// Whether MESSAGE-INTEGRITY is there and right (RFC 8489 §14.5), with a short-term password.
pub(crate) fn has_integrity(datagram: &[u8], password: &str) -> bool {
    let mut message = Message {
        raw: datagram.to_vec(),
        ..Message::default()
    };
    message.decode().is_ok()
        && message
            .get(ATTR_MESSAGE_INTEGRITY)
            .is_ok_and(|mac| mac.len() == 20)
        && MessageIntegrity::new_short_term_integrity(password.to_owned())
            .check(&mut message)
            .is_ok()
}

/// The address that a STUN server saw a request come from (RFC 8489 §14.2).
pub(crate) fn mapped_address(response: &[u8]) -> Option<SocketAddr> {
    let value = stun_attribute(response, ATTR_XORMAPPED_ADDRESS.value())?;
    StunHeader::parse(response)?.xor_address(value)
}
