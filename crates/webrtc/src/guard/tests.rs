use proptest::prelude::*;
use stun::{
    attributes::{
        ATTR_DATA, ATTR_DONT_FRAGMENT, ATTR_SOFTWARE, ATTR_USERNAME, ATTR_XOR_PEER_ADDRESS,
        AttrType,
    },
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{self as msg, Getter, Message, MessageClass, MessageType, Method, Setter},
    xoraddr::XorMappedAddress,
};
use turn::proto::{
    chandata::ChannelData, channum::ChannelNumber, data::Data, peeraddr::PeerAddress,
};

use super::*;

const SERVER: &str = "192.0.2.1:3478";
const ID: [u8; 12] = *b"twelve bytes";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn message(method: Method, class: MessageClass, attributes: &[&dyn Setter]) -> Vec<u8> {
    let mut message = Message::new();
    message.set_type(MessageType { method, class });
    message.transaction_id.0 = ID;
    message.write_header();
    for attribute in attributes {
        attribute.add_to(&mut message).unwrap();
    }
    message.raw
}

/// An attribute with any type and value.
struct Raw(AttrType, Vec<u8>);

impl Setter for Raw {
    fn add_to(&self, message: &mut Message) -> Result<(), stun::Error> {
        message.add(self.0, &self.1);
        Ok(())
    }
}

fn peer() -> PeerAddress {
    PeerAddress {
        ip: [198, 51, 100, 7].into(),
        port: 9,
    }
}

fn allocate() -> Vec<u8> {
    message(msg::METHOD_ALLOCATE, msg::CLASS_REQUEST, &[&FINGERPRINT])
}

fn binding_request() -> Vec<u8> {
    message(msg::METHOD_BINDING, msg::CLASS_REQUEST, &[])
}

fn channel_bind(number: u16) -> Vec<u8> {
    let attributes: [&dyn Setter; 2] = [&peer(), &ChannelNumber(number)];
    message(msg::METHOD_CHANNEL_BIND, msg::CLASS_REQUEST, &attributes)
}

fn channel_data(number: u16, payload: &[u8]) -> Vec<u8> {
    let mut message = ChannelData {
        data: payload.to_vec(),
        number: ChannelNumber(number),
        raw: Vec::new(),
    };
    message.encode();
    message.raw
}

fn data(attributes: &[&dyn Setter]) -> Vec<u8> {
    message(msg::METHOD_DATA, msg::CLASS_INDICATION, attributes)
}

fn mapped() -> XorMappedAddress {
    XorMappedAddress {
        ip: [203, 0, 113, 5].into(),
        port: 4000,
    }
}

fn relay_guard() -> Guard {
    let guard = Guard::default();
    guard.sending(&allocate(), &at(SERVER));
    assert!(guard.is_relay());
    guard.sending(&channel_bind(0x4001), &at(SERVER));
    guard
}

fn query_guard() -> Guard {
    let guard = Guard::default();
    guard.sending(&binding_request(), &at(SERVER));
    assert!(guard.query().is_some());
    guard
}

/// Whether the reader of webrtc-rs's TURN client goes on after a datagram: what `handle_inbound` in
/// turn-0.17.2/src/client/mod.rs does with it, with the same decoders.
fn turn_client_survives(datagram: &[u8], channels: &[u16]) -> bool {
    if msg::is_message(datagram) {
        let mut message = Message::new();
        message.raw = datagram.to_vec();
        if message.decode().is_err() || message.typ.class == msg::CLASS_REQUEST {
            return false;
        }
        let is_data =
            message.typ.class == msg::CLASS_INDICATION && message.typ.method == msg::METHOD_DATA;
        let mut payload = Data::default();
        return !is_data
            || (PeerAddress::default().get_from(&message).is_ok()
                && payload.get_from(&message).is_ok()
                && payload.0.len() <= 8192);
    }
    if ChannelData::is_channel_data(datagram) {
        let mut message = ChannelData {
            raw: datagram.to_vec(),
            ..ChannelData::default()
        };
        return message.decode().is_ok()
            && channels.contains(&message.number.0)
            && message.data.len() <= 8192;
    }
    true
}

#[test]
fn the_first_datagram_says_what_a_socket_is_for() {
    let username: [&dyn Setter; 1] = [&Raw(ATTR_USERNAME, b"a:b".to_vec())];
    let software: [&dyn Setter; 1] = [&Raw(ATTR_SOFTWARE, b"anything".to_vec())];
    let binding =
        |class, attributes: &[&dyn Setter]| message(msg::METHOD_BINDING, class, attributes);
    let cases = [
        (allocate(), "Relay"),
        (binding_request(), "Query"),
        (binding(msg::CLASS_REQUEST, &software), "Query"),
        (binding(msg::CLASS_REQUEST, &username), "Ordinary"),
        (binding(msg::CLASS_INDICATION, &[]), "Ordinary"),
        (channel_bind(0x4000), "Ordinary"),
        (channel_data(0x4000, b"data"), "Ordinary"),
        (b"\x16\xfe\xfd dtls".to_vec(), "Ordinary"),
        (Vec::new(), "Ordinary"),
    ];
    for (first, role) in cases {
        let guard = Guard::default();
        guard.sending(&first, &at(SERVER));
        // The second changes nothing.
        guard.sending(&first, &at(SERVER));
        let name = match guard.role.get() {
            Some(Role::Ordinary) => "Ordinary",
            Some(Role::Query(_)) => "Query",
            Some(Role::Relay(_)) => "Relay",
            None => "none",
        };
        assert_eq!(name, role, "{first:x?}");
    }
}

#[test]
fn an_ordinary_socket_receives_everything_for_nothing() {
    let guard = Guard::default();
    let packet = [0x80; 1200];
    guard.sending(&packet, &at(SERVER));
    let allocations = allocation_counter::measure(|| {
        guard.sending(&packet, &at(SERVER));
        assert_eq!(guard.refuses(&packet, at("192.0.2.99:1")), None);
        assert!(guard.query().is_none());
    });
    assert_eq!(allocations.count_total, 0);
    assert_eq!(Guard::default().refuses(&packet, at(SERVER)), None);
}

#[test]
fn a_relay_hears_its_server_only() {
    let guard = relay_guard();
    let packet = channel_data(0x4001, b"data");
    assert_eq!(guard.refuses(&packet, at(SERVER)), None);
    assert_eq!(guard.refuses(&packet, at("[::ffff:192.0.2.1]:3478")), None);
    for stranger in ["192.0.2.1:3479", "192.0.2.2:3478"] {
        let refused = guard.refuses(&packet, at(stranger));
        assert_eq!(refused, Some(DropCause::Stranger));
    }
}

#[test]
fn a_relay_hears_what_its_client_can_use() {
    let guard = relay_guard();
    let response = |method| message(method, msg::CLASS_SUCCESS_RESPONSE, &[&FINGERPRINT]);
    let payload = |length| Data(vec![0x80; length]);
    for usable in [
        response(msg::METHOD_ALLOCATE),
        message(msg::METHOD_REFRESH, msg::CLASS_ERROR_RESPONSE, &[]),
        message(
            msg::METHOD_ALLOCATE,
            msg::CLASS_SUCCESS_RESPONSE,
            &[&MessageIntegrity(vec![1]), &FINGERPRINT],
        ),
        data(&[&peer(), &payload(100)]),
        data(&[&payload(8192), &peer()]),
        data(&[&peer(), &payload(0)]),
        channel_data(0x4001, b"a"),
        channel_data(0x4001, &[0x80; 8192]),
    ] {
        assert_eq!(guard.refuses(&usable, at(SERVER)), None, "{usable:x?}");
        assert!(turn_client_survives(&usable, &[0x4001]));
    }

    let mut looks_like_stun = channel_data(0x4001, &[0x80; 100]);
    looks_like_stun[4..8].copy_from_slice(&[0x21, 0x12, 0xA4, 0x42]);
    let mut cut_short = response(msg::METHOD_ALLOCATE);
    cut_short.truncate(24);
    let mut lying = data(&[&peer(), &payload(4)]);
    lying[23] = 200;
    for unusable in [
        binding_request(),
        message(msg::METHOD_SEND, msg::CLASS_REQUEST, &[]),
        data(&[&peer()]),
        data(&[&payload(4)]),
        data(&[
            &payload(4),
            &Raw(ATTR_XOR_PEER_ADDRESS, vec![0, 3, 0, 0, 1, 2, 3, 4]),
        ]),
        data(&[
            &payload(4),
            &Raw(ATTR_XOR_PEER_ADDRESS, vec![1, 1, 0, 0, 1, 2, 3, 4]),
        ]),
        data(&[&peer(), &payload(8193)]),
        channel_data(0x4001, &[0x80; 8193]),
        channel_data(0x4002, b"data"),
        channel_data(0x5000, b"data"),
        channel_data(0x7FFF, b"data"),
        looks_like_stun,
        cut_short,
        lying,
    ] {
        assert!(!turn_client_survives(&unusable, &[0x4001]), "{unusable:x?}");
        let refused = guard.refuses(&unusable, at(SERVER));
        assert_eq!(refused, Some(DropCause::Unexpected), "{unusable:x?}");
    }
}

/// Something that a TURN server may say, with some of its bytes changed and some of its end gone.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let whole = prop_oneof![
        Just(binding_request()),
        Just(allocate()),
        Just(data(&[&peer(), &Data(vec![7; 30])])),
        Just(data(&[
            &Data(vec![7; 30]),
            &Raw(ATTR_DATA, vec![1; 3]),
            &peer()
        ])),
        Just(message(
            msg::METHOD_ALLOCATE,
            msg::CLASS_SUCCESS_RESPONSE,
            &[
                &Raw(ATTR_DONT_FRAGMENT, Vec::new()),
                &mapped(),
                &FINGERPRINT
            ],
        )),
        (0x3FF0u16..0x4010, prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(number, payload)| channel_data(number, &payload)),
        prop::collection::vec(any::<u8>(), 0..80),
    ];
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (whole, changes, 0usize..4).prop_map(|(mut datagram, changes, cut)| {
        datagram.truncate(datagram.len().saturating_sub(cut));
        for (at, value) in changes {
            if !datagram.is_empty() {
                let at = at.index(datagram.len());
                datagram[at] = value;
            }
        }
        datagram
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn nothing_that_comes_through_ends_the_relay(datagram in damaged()) {
        let guard = relay_guard();
        if guard.refuses(&datagram, at(SERVER)).is_none() {
            prop_assert!(turn_client_survives(&datagram, &[0x4001]), "{:x?}", datagram);
        }
    }
}

#[test]
fn a_query_hears_its_answer_only() {
    let answer = message(
        msg::METHOD_BINDING,
        msg::CLASS_SUCCESS_RESPONSE,
        &[&mapped()],
    );
    let error = message(msg::METHOD_BINDING, msg::CLASS_ERROR_RESPONSE, &[]);
    let mut other_id = answer.clone();
    other_id[8] ^= 1;
    let guard = query_guard();
    let refuses = |datagram: &[u8], source| guard.refuses(datagram, at(source));
    for (datagram, source, cause) in [
        (&answer, "192.0.2.1:3479", DropCause::Stranger),
        (&answer, "192.0.2.2:3478", DropCause::Stranger),
        (&other_id, SERVER, DropCause::Unexpected),
        (&binding_request(), SERVER, DropCause::Unexpected),
        (
            &message(msg::METHOD_BINDING, msg::CLASS_SUCCESS_RESPONSE, &[]),
            SERVER,
            DropCause::Unexpected,
        ),
        (
            &message(msg::METHOD_ALLOCATE, msg::CLASS_ERROR_RESPONSE, &[]),
            SERVER,
            DropCause::Unexpected,
        ),
        (&vec![0x80; 100], SERVER, DropCause::Unexpected),
    ] {
        assert_eq!(refuses(datagram, source), Some(cause), "{datagram:x?}");
        assert!(guard.query().is_some());
    }

    assert_eq!(refuses(&answer, SERVER), None);
    assert!(guard.query().is_none());
    // From here on it is an ordinary socket, but for the answers to what was sent again.
    assert_eq!(refuses(&answer, SERVER), Some(DropCause::Unexpected));
    assert_eq!(refuses(&error, SERVER), Some(DropCause::Unexpected));
    assert_eq!(refuses(&other_id, SERVER), None);
    assert_eq!(refuses(&answer, "192.0.2.2:3478"), None);
    assert_eq!(refuses(&[0x80; 100], "192.0.2.2:1"), None);

    assert_eq!(query_guard().refuses(&error, at(SERVER)), None);
}

#[test]
fn whoever_sends_something_else_hears_everything() {
    let guard = query_guard();
    guard.sending(&binding_request(), &at(SERVER));
    assert!(guard.query().is_some());
    guard.sending(&[0x80; 100], &at("192.0.2.7:7"));
    assert!(guard.query().is_none());
    assert_eq!(guard.refuses(&[0x80; 100], at("192.0.2.7:7")), None);
}

/// RFC 8489 §6.2.1: requests at 0, 500, 1500, 3500, 7500, 15500 and 31500 ms; the end at 39500 ms.
#[test]
fn a_request_is_sent_seven_times() {
    let guard = query_guard();
    let query = guard.query().unwrap();
    let wait = || u64::try_from((query.due() - Instant::now()).as_millis()).unwrap();
    for milliseconds in [500, 1000, 2000, 4000, 8000, 16000] {
        assert!((milliseconds - 300..=milliseconds).contains(&wait()));
        assert!(query.advance());
    }
    assert!((7700..=8000).contains(&wait()), "{}", wait());
    assert!(!query.advance());
    assert!(guard.query().is_none());
    let late = message(
        msg::METHOD_BINDING,
        msg::CLASS_SUCCESS_RESPONSE,
        &[&mapped()],
    );
    assert_eq!(guard.refuses(&late, at(SERVER)), None);
}
