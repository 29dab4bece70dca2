//! What a datagram on a WebRTC socket is, told from its bytes alone.
//!
//! Everything here is a pure function of the bytes: no state, no allocation, and no panic whatever
//! the bytes and however many there are.

mod class;
mod stun;
mod turn;

pub use class::{PacketClass, UnknownPacketClass};
pub use stun::{StunClass, StunHeader, StunMethod, is_stun};
pub use turn::{Relayed, channel_binding, relayed_payload};

pub(crate) use stun::attribute as stun_attribute;

/// A DTLS 1.2 record header (RFC 6347 §4.1). The shortest DTLS 1.3 record is longer: two bytes of
/// header and at least 16 bytes of ciphertext (RFC 9147 §4, §4.2.3).
const DTLS_MIN_LEN: usize = 13;

/// The fixed RTP header (RFC 3550 §5.1).
const RTP_MIN_LEN: usize = 12;

/// The RTCP header and the sender's SSRC, which SRTCP leaves in the clear (RFC 3711 §3.4).
const RTCP_MIN_LEN: usize = 8;

/// What [`classify`] found out about one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Classified {
    /// The class of the datagram, or of what it carries if [`relayed`](Self::relayed) is set.
    pub class: PacketClass,
    /// The RTP stream that the datagram belongs to: set if and only if the class is
    /// [`PacketClass::Srtp`].
    pub rtp: Option<RtpStream>,
    /// How the payload travels between a TURN client and its server. Set if and only if the
    /// datagram wraps a payload, and then `class` and `rtp` describe that payload.
    pub relayed: Option<Relayed>,
}

/// The two fields that name an RTP stream, which SRTP leaves in the clear (RFC 3711 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RtpStream {
    /// The payload type, 0..=127.
    pub payload_type: u8,
    /// The synchronisation source.
    pub ssrc: u32,
}

/// Tells what `datagram`, the payload of one UDP datagram, is.
///
/// The first byte decides which protocol it can be (RFC 7983 §7, RFC 9443), and what that protocol
/// requires of every packet has to hold as well:
///
/// | first byte | and | class |
/// |---|---|---|
/// | 0..=3 | a STUN header ([`StunHeader::parse`]), TURN method | [`Turn`](PacketClass::Turn) |
/// | 0..=3 | a STUN header, any other method | [`Stun`](PacketClass::Stun) |
/// | 20..=63 | at least 13 bytes | [`Dtls`](PacketClass::Dtls) |
/// | 64..=79 | a `ChannelData` message that wraps nothing | [`Turn`](PacketClass::Turn) |
/// | 128..=191 | second byte 192..=223, at least 8 bytes | [`Srtcp`](PacketClass::Srtcp) |
/// | 128..=191 | any other second byte, at least 12 bytes | [`Srtp`](PacketClass::Srtp) |
/// | anything else | ZRTP, QUIC, and what RFC 7983 drops | [`Other`](PacketClass::Other) |
///
/// A datagram that wraps a payload for a TURN server or from it (see [`relayed_payload`]) has the
/// class of the payload. One wrapping is opened: a payload that is itself TURN, or wraps something
/// again, is [`Turn`](PacketClass::Turn). A wrapper whose payload is empty is `Turn`, too.
///
/// Whether the other end is a TURN server is not known here. RFC 9443 gives the first bytes 64..=79
/// to TURN channels towards a TURN server and to QUIC towards anyone else; here the length field
/// of a `ChannelData` message decides. Of the QUIC packets that start with such a byte, one in
/// about 37,000 has a matching length by chance.
#[must_use]
#[inline]
pub fn classify(datagram: &[u8]) -> Classified {
    match srtp(datagram) {
        // It is most of what there is.
        Some(rtp) => Classified {
            class: PacketClass::Srtp,
            rtp: Some(rtp),
            relayed: None,
        },
        None => classify_wrapped(datagram),
    }
}

/// The stream, if the datagram is SRTP that is not wrapped.
#[inline]
pub(crate) fn srtp(datagram: &[u8]) -> Option<RtpStream> {
    match *datagram {
        // RFC 5761 §4: RTCP packet types are 192..=223, and the RTP payload types that would look
        // the same, 64..=95 with the marker bit, are not to be used where RTP and RTCP share a port.
        [128..=191, 192..=223, ..] => None,
        [128..=191, ..] => rtp_stream(datagram),
        _ => None,
    }
}

fn classify_wrapped(datagram: &[u8]) -> Classified {
    match relayed_payload(datagram) {
        Some((relayed, payload)) if !payload.is_empty() => Classified {
            relayed: Some(relayed),
            ..classify_unwrapped(payload)
        },
        _ => classify_unwrapped(datagram),
    }
}

/// Classifies without a look inside TURN wrappers.
fn classify_unwrapped(datagram: &[u8]) -> Classified {
    let mut rtp = None;
    let class = match *datagram {
        [0..=3, ..] => match StunHeader::parse(datagram) {
            Some(header) if header.method.is_turn() => PacketClass::Turn,
            Some(_) => PacketClass::Stun,
            None => PacketClass::Other,
        },
        [20..=63, ..] if datagram.len() >= DTLS_MIN_LEN => PacketClass::Dtls,
        [64..=79, ..] if relayed_payload(datagram).is_some() => PacketClass::Turn,
        [128..=191, 192..=223, ..] if datagram.len() >= RTCP_MIN_LEN => PacketClass::Srtcp,
        _ => {
            rtp = srtp(datagram);
            rtp.map_or(PacketClass::Other, |_| PacketClass::Srtp)
        }
    };
    Classified {
        class,
        rtp,
        relayed: None,
    }
}

/// Reads the fixed RTP header (RFC 3550 §5.1). That the version is 2 follows from the first byte.
#[inline]
fn rtp_stream(datagram: &[u8]) -> Option<RtpStream> {
    let &[_, second, _, _, _, _, _, _, s0, s1, s2, s3] = datagram.first_chunk::<RTP_MIN_LEN>()?;
    Some(RtpStream {
        payload_type: second & 0x7F,
        ssrc: u32::from_be_bytes([s0, s1, s2, s3]),
    })
}
