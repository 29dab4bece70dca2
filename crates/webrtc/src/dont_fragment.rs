//! Asking a TURN server for the DF bit.

use stun::fingerprint::fingerprint_value;

use crate::{
    StunClass, StunHeader, StunMethod,
    guard::{HEADER_LEN, walk},
};

/// RFC 8489 §14.5, §14.6, §14.7.
const ATTR_MESSAGE_INTEGRITY: u16 = 0x0008;
const ATTR_MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
const ATTR_FINGERPRINT: u16 = 0x8028;
const FINGERPRINT_LEN: usize = 8;

/// RFC 8656 §18.9. It has no value.
const ATTR_DONT_FRAGMENT: u16 = 0x001A;
const DONT_FRAGMENT: [u8; 4] = [0x00, 0x1A, 0x00, 0x00];

/// A Send indication that asks the server to set the DF bit of what it sends to the peer
/// (RFC 8656 §11.2), or `None` where there is nothing to be added: it is no Send indication, it asks
/// already, or it is protected against changes.
pub(crate) fn with_dont_fragment(datagram: &[u8]) -> Option<Vec<u8>> {
    let header = StunHeader::parse(datagram)?;
    if (header.method, header.class) != (StunMethod::SEND, StunClass::Indication) {
        return None;
    }
    let (mut last, mut is_fixed) = (0, false);
    let is_whole = walk(datagram, |attribute, _| {
        last = attribute;
        is_fixed |= matches!(
            attribute,
            ATTR_MESSAGE_INTEGRITY | ATTR_MESSAGE_INTEGRITY_SHA256 | ATTR_DONT_FRAGMENT
        );
    });
    if !is_whole || is_fixed {
        return None;
    }
    let length = datagram.len() - HEADER_LEN + DONT_FRAGMENT.len();
    let mut message = Vec::with_capacity(HEADER_LEN + length);
    message.extend_from_slice(datagram);
    message[2..4].copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
    if last == ATTR_FINGERPRINT {
        // It is the last attribute, and its length in the header is counted in (RFC 8489 §14.7).
        message.truncate(datagram.len() - FINGERPRINT_LEN);
        message.extend(DONT_FRAGMENT);
        let fingerprint = fingerprint_value(&message);
        message.extend([0x80, 0x28, 0x00, 0x04]);
        message.extend(fingerprint.to_be_bytes());
    } else {
        message.extend(DONT_FRAGMENT);
    }
    Some(message)
}

#[cfg(test)]
mod tests {
    use stun::{
        agent::TransactionId,
        fingerprint::FINGERPRINT,
        integrity::MessageIntegrity,
        message::{CLASS_INDICATION, METHOD_DATA, METHOD_SEND, Message, MessageType, Setter},
    };
    use turn::proto::{data::Data, dontfrag::DontFragmentAttr, peeraddr::PeerAddress};

    use super::*;
    use crate::relayed_payload;

    fn indication(method: MessageType, attributes: Vec<Box<dyn Setter>>) -> Vec<u8> {
        let mut setters: Vec<Box<dyn Setter>> =
            vec![Box::new(method), Box::new(TransactionId::new())];
        setters.push(Box::new(Data(b"seven b".to_vec())));
        setters.push(Box::new(PeerAddress {
            ip: [198, 51, 100, 7].into(),
            port: 9,
        }));
        setters.extend(attributes);
        let mut message = Message::new();
        message.build(&setters).unwrap();
        message.raw
    }

    fn send(attributes: Vec<Box<dyn Setter>>) -> Vec<u8> {
        indication(MessageType::new(METHOD_SEND, CLASS_INDICATION), attributes)
    }

    #[test]
    fn a_send_indication_asks_for_it() {
        for attributes in [vec![Box::new(FINGERPRINT) as _], vec![]] {
            let has_fingerprint = !attributes.is_empty();
            let before = send(attributes);
            let after = with_dont_fragment(&before).unwrap();
            assert_eq!(after.len(), before.len() + 4);
            assert_eq!(relayed_payload(&after), relayed_payload(&before));
            let mut message = Message::new();
            message.unmarshal_binary(&after).unwrap();
            assert!(message.contains(stun::attributes::ATTR_DONT_FRAGMENT));
            assert_eq!(FINGERPRINT.check(&message).is_ok(), has_fingerprint);
            assert_eq!(with_dont_fragment(&after), None);
        }
    }

    #[test]
    fn nothing_else_is_changed() {
        let data = MessageType::new(METHOD_DATA, CLASS_INDICATION);
        for other in [
            indication(data, vec![]),
            send(vec![Box::new(DontFragmentAttr)]),
            send(vec![Box::new(MessageIntegrity(vec![1]))]),
            b"\x40\x00\x00\x04data".to_vec(),
            b"\x16\xfe\xfd dtls".to_vec(),
            Vec::new(),
        ] {
            assert_eq!(with_dont_fragment(&other), None, "{other:x?}");
        }
        let mut lying = send(vec![]);
        lying[23] = 200;
        assert_eq!(with_dont_fragment(&lying), None);
    }
}
