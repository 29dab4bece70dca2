//! Packets that wrap nothing, value by value.

use perpacket_webrtc::{
    PacketClass, RtpStream, StunClass, StunHeader, StunMethod, classify, is_stun,
};
use stun::message as msg;
use stun::message::MessageType;
use turn::proto::data::Data;

use crate::packets::{message, plain, rtp};
use crate::read;

#[test]
fn every_first_byte() {
    for first in 0..=255_u8 {
        let mut datagram = [0; 64];
        datagram[0] = first;
        let expected = match first {
            20..=63 => PacketClass::Dtls,
            128..=191 => PacketClass::Srtp,
            _ => PacketClass::Other,
        };
        assert_eq!(classify(&datagram).class, expected, "{first}");

        // The same with a STUN header, whose method is Binding if the first byte can be one.
        datagram[1..8].copy_from_slice(&[1, 0, 44, 0x21, 0x12, 0xA4, 0x42]);
        let expected = match first {
            0..=3 => PacketClass::Stun,
            _ => expected,
        };
        assert_eq!(classify(&datagram).class, expected, "{first}");
        assert_eq!(is_stun(&datagram), expected == PacketClass::Stun, "{first}");

        // The same as ChannelData with an RTP packet inside.
        datagram[2..6].copy_from_slice(&[0, 60, 0x80, 96]);
        let classified = classify(&datagram);
        let is_channel = (64..=79).contains(&first);
        assert_eq!(classified.relayed.is_some(), is_channel, "{first}");
        if is_channel {
            assert_eq!(classified.class, PacketClass::Srtp, "{first}");
        }
    }
}

#[test]
fn every_second_byte_of_rtp_and_rtcp() {
    for second in 0..=255 {
        let classified = classify(&rtp(second, 0x0102_0304, &[0; 20]));
        if (192..=223).contains(&second) {
            assert_eq!(classified.class, PacketClass::Srtcp, "{second}");
            assert_eq!(classified.rtp, None);
        } else {
            assert_eq!(classified.class, PacketClass::Srtp, "{second}");
            let stream = RtpStream {
                payload_type: second & 0x7F,
                ssrc: 0x0102_0304,
            };
            assert_eq!(classified.rtp, Some(stream));
        }
    }
}

#[test]
fn every_class_and_its_shortest_packet() {
    for (class, shortest) in [
        (PacketClass::Stun, 20),
        (PacketClass::Dtls, 13),
        (PacketClass::Srtp, 12),
        (PacketClass::Srtcp, 8),
        (PacketClass::Turn, 20),
    ] {
        let packet = plain(class);
        assert_eq!(read(&packet).class, class);
        for length in 0..packet.len() {
            let expected = if length < shortest {
                PacketClass::Other
            } else {
                class
            };
            assert_eq!(read(&packet[..length]).class, expected, "{class} {length}");
        }
    }
    assert_eq!(read(&plain(PacketClass::Other)).class, PacketClass::Other);
}

#[test]
fn every_stun_message_type() {
    // RFC 8489 §5, figure 3: M11..M7 C1 M6..M4 C0 M3..M0.
    for message_type in 0..0x0400_u16 {
        let mut expected = MessageType::default();
        expected.read_value(message_type);
        let datagram = message(expected.method, expected.class, &[]);
        assert_eq!(datagram[..2], message_type.to_be_bytes());

        let header = StunHeader::parse(&datagram).unwrap();
        assert_eq!(header.message_type, message_type);
        assert_eq!(header.transaction_id, datagram[8..20]);
        let class = match expected.class {
            msg::CLASS_REQUEST => StunClass::Request,
            msg::CLASS_INDICATION => StunClass::Indication,
            msg::CLASS_SUCCESS_RESPONSE => StunClass::SuccessResponse,
            _ => StunClass::ErrorResponse,
        };
        assert_eq!(header.class, class);
        let StunMethod(method) = header.method;
        assert!(method < 0x100);
        let spread = (method & 0xF80) << 2 | (method & 0x070) << 1 | method & 0x00F;
        assert_eq!(spread, message_type & !0x0110);

        let is_turn = [
            msg::METHOD_ALLOCATE,
            msg::METHOD_REFRESH,
            msg::METHOD_SEND,
            msg::METHOD_DATA,
            msg::METHOD_CREATE_PERMISSION,
            msg::METHOD_CHANNEL_BIND,
            msg::METHOD_CONNECT,
            msg::METHOD_CONNECTION_BIND,
            msg::METHOD_CONNECTION_ATTEMPT,
        ]
        .contains(&expected.method);
        let class = if is_turn {
            PacketClass::Turn
        } else {
            PacketClass::Stun
        };
        assert_eq!(classify(&datagram).class, class, "{message_type:#06x}");
        assert_eq!(classify(&datagram).relayed, None);
    }
}

#[test]
fn a_stun_header_that_is_wrong_in_one_place_is_none() {
    let good = message(
        msg::METHOD_BINDING,
        msg::CLASS_REQUEST,
        &[&Data(vec![1; 8])],
    );
    assert!(is_stun(&good));
    for (at, value) in [
        (0, 0x40),
        (0, 0x80),
        (3, 13),
        (3, 8),
        (3, 16),
        (4, 0),
        (7, 0x43),
    ] {
        let mut bad = good.clone();
        bad[at] = value;
        assert!(!is_stun(&bad), "{at} {value}");
    }
    for excess in 1..=8 {
        let longer = [&good[..], &[0; 8][..excess]].concat();
        assert_eq!(classify(&longer).class, PacketClass::Other, "{excess}");
    }
    // A length that matches the datagram, but is not a multiple of four.
    let mut odd = [&good[..], &[0; 2]].concat();
    odd[3] += 2;
    assert!(!is_stun(&odd));
}

#[test]
fn class_names_and_indices() {
    for (index, class) in PacketClass::ALL.into_iter().enumerate() {
        assert_eq!(class.index(), index);
        assert_eq!(class.to_string().parse(), Ok(class));
        #[cfg(feature = "serde")]
        {
            let json = serde_json::to_string(&class).unwrap();
            assert_eq!(json, format!("\"{class}\""));
            assert_eq!(serde_json::from_str::<PacketClass>(&json).unwrap(), class);
        }
    }
    assert_eq!(format!("{:>6}|", PacketClass::Stun), "  stun|");
    let error = "STUN".parse::<PacketClass>().unwrap_err().to_string();
    for class in PacketClass::ALL {
        assert!(error.contains(class.as_str()), "{error}");
    }
}
