use rand::RngExt as _;
use stun::{
    agent::TransactionId,
    attributes::{
        ATTR_ICE_CONTROLLED, ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USERNAME, AttrType,
    },
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{BINDING_REQUEST, Message, Setter},
};

/// Of the header of an attribute (RFC 8489 §14).
const ATTRIBUTE_HEADER: usize = 4;

/// The largest STUN message whose length fits its header, and a UDP datagram.
pub(super) const MAX_LENGTH: usize = 65_500;

/// The attribute that fills a probe up. Of the comprehension-optional range (RFC 8489 §18.3), where a
/// peer that does not know it has to pass over it, and not assigned; PADDING of RFC 5780 §7.6 would be
/// refused by a peer that does not know it.
const FILLER: AttrType = AttrType(0xC0FE);

/// The priority that RFC 8445 §7.1.1 has a check carry: that of a peer-reflexive candidate (§5.1.2).
const PRIORITY: u32 = 110 << 24 | 0xFFFF << 8 | 0xFF;

/// What a Binding request needs for the peer to take it for a check of the session (RFC 8445 §7.1).
#[derive(Debug)]
pub(super) struct Credentials {
    /// `REMOTE:LOCAL`, the username fragments.
    pub(super) username: String,
    /// The peer's password.
    pub(super) password: String,
    pub(super) controlling: bool,
    pub(super) tie_breaker: u64,
}

impl Credentials {
    /// A request that is as long as can be, up to `length` bytes, but at least what it needs.
    pub(super) fn request(&self, id: [u8; 12], length: usize) -> Result<Vec<u8>, stun::Error> {
        let plain = self.build(id, None)?;
        match length.saturating_sub(plain.len()) / 4 * 4 {
            0 => Ok(plain),
            more => self.build(id, Some(more - ATTRIBUTE_HEADER)),
        }
    }

    fn build(&self, id: [u8; 12], filler: Option<usize>) -> Result<Vec<u8>, stun::Error> {
        let mut message = Message::new();
        message.build(&[Box::new(BINDING_REQUEST), Box::new(TransactionId(id))])?;
        message.add(ATTR_USERNAME, self.username.as_bytes());
        let role = if self.controlling {
            ATTR_ICE_CONTROLLING
        } else {
            ATTR_ICE_CONTROLLED
        };
        message.add(role, &self.tie_breaker.to_be_bytes());
        message.add(ATTR_PRIORITY, &PRIORITY.to_be_bytes());
        if let Some(length) = filler {
            // A link that compresses must not make it shorter.
            let mut noise = vec![0; length];
            rand::rng().fill(&mut noise[..]);
            message.add(FILLER, &noise);
        }
        MessageIntegrity::new_short_term_integrity(self.password.clone()).add_to(&mut message)?;
        FINGERPRINT.add_to(&mut message)?;
        Ok(message.raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StunClass, StunHeader, StunMethod, classify::stun_attribute, mux::has_integrity};

    fn credentials() -> Credentials {
        Credentials {
            username: "theirs:mine".into(),
            password: "password of theirs".into(),
            controlling: true,
            tie_breaker: 7,
        }
    }

    #[test]
    fn every_length_is_met_as_well_as_can_be() {
        let shortest = credentials().request([1; 12], 0).expect("built").len();
        for length in (0..400).chain(1400..1410).chain([8192, 9000, MAX_LENGTH]) {
            let request = credentials().request([9; 12], length).expect("built");
            let expected = shortest.max(length / 4 * 4);
            assert_eq!(request.len(), expected, "{length}");
            let header = StunHeader::parse(&request).expect("STUN");
            assert_eq!(header.transaction_id, [9; 12]);
            assert_eq!(header.method, StunMethod::BINDING);
            assert_eq!(header.class, StunClass::Request);
            assert!(has_integrity(&request, "password of theirs"), "{length}");
            assert!(!has_integrity(&request, "password"));
            let username = stun_attribute(&request, ATTR_USERNAME.value());
            assert_eq!(username, Some(&b"theirs:mine"[..]));
        }
    }

    /// RFC 8445 §8.1.1: only ICE itself nominates.
    #[test]
    fn it_nominates_nothing() {
        let request = credentials().request([1; 12], 1200).expect("built");
        let use_candidate = stun::attributes::ATTR_USE_CANDIDATE.value();
        assert_eq!(stun_attribute(&request, use_candidate), None);
        assert!(stun_attribute(&request, ATTR_ICE_CONTROLLING.value()).is_some());
    }
}
