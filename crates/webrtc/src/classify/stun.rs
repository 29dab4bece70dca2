use std::net::{IpAddr, SocketAddr};

/// RFC 8489 §5.
const HEADER_LEN: usize = 20;
const MAGIC_COOKIE: u32 = 0x2112_A442;

/// RFC 8489 §14.1: the address families of an address attribute.
const FAMILY_IPV4: u8 = 0x01;
const FAMILY_IPV6: u8 = 0x02;

/// RFC 8489 §14.5, §14.6.
const ATTR_MESSAGE_INTEGRITY: u16 = 0x0008;
const ATTR_MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;

/// The header of a STUN message (RFC 8489 §5), which TURN control shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct StunHeader {
    /// Method and class as they stand on the wire.
    pub message_type: u16,
    /// What the message is about.
    pub method: StunMethod,
    /// Whether it asks, tells or answers.
    pub class: StunClass,
    /// What ties an answer to its request.
    pub transaction_id: [u8; 12],
}

/// The class of a STUN message (RFC 8489 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StunClass {
    /// Wants an answer.
    Request,
    /// Wants none.
    Indication,
    /// Answers a request that was granted.
    SuccessResponse,
    /// Answers a request that was refused.
    ErrorResponse,
}

/// The method of a STUN message, of which only 0x000..=0x0FF are assigned (RFC 8489 §5, §18.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StunMethod(pub u16);

impl StunMethod {
    /// RFC 8489 §18.2: what ICE sends.
    pub const BINDING: Self = Self(0x001);
    /// RFC 8656 §17.
    pub const ALLOCATE: Self = Self(0x003);
    /// RFC 8656 §17.
    pub const REFRESH: Self = Self(0x004);
    /// RFC 8656 §17: data from the TURN client, for a peer.
    pub const SEND: Self = Self(0x006);
    /// RFC 8656 §17: data from a peer, for the TURN client.
    pub const DATA: Self = Self(0x007);
    /// RFC 8656 §17.
    pub const CREATE_PERMISSION: Self = Self(0x008);
    /// RFC 8656 §17.
    pub const CHANNEL_BIND: Self = Self(0x009);
    /// RFC 6062 §6.1.
    pub const CONNECT: Self = Self(0x00A);
    /// RFC 6062 §6.1.
    pub const CONNECTION_BIND: Self = Self(0x00B);
    /// RFC 6062 §6.1.
    pub const CONNECTION_ATTEMPT: Self = Self(0x00C);

    /// Whether TURN defines this method (RFC 8656 §17, RFC 6062 §6.1).
    #[must_use]
    pub const fn is_turn(self) -> bool {
        matches!(
            self,
            Self::ALLOCATE
                | Self::REFRESH
                | Self::SEND
                | Self::DATA
                | Self::CREATE_PERMISSION
                | Self::CHANNEL_BIND
                | Self::CONNECT
                | Self::CONNECTION_BIND
                | Self::CONNECTION_ATTEMPT
        )
    }
}

/// Whether `datagram` is one STUN message, TURN control included: whether [`StunHeader::parse`]
/// accepts it.
#[must_use]
pub fn is_stun(datagram: &[u8]) -> bool {
    StunHeader::parse(datagram).is_some()
}

impl StunHeader {
    /// Reads the header if `datagram` is one STUN message: the first byte is 0..=3, the magic cookie
    /// is there, the length is a multiple of four, and it is the length of the datagram.
    ///
    /// RFC 8489 §5 asks for two zero bits at the top; four more are zero because only the methods up
    /// to 0x0FF may be assigned where STUN shares a port (RFC 7983 §3). RFC 8489 §5 has the length
    /// count everything after the header, and over UDP a message is a datagram, so bytes after the
    /// end of the message make it none; libwebrtc rejects them, too. Neither the attributes nor the
    /// integrity are checked.
    #[must_use]
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let (header, attributes) = datagram.split_first_chunk::<HEADER_LEN>()?;
        let [t0, t1, l0, l1, c0, c1, c2, c3, transaction_id @ ..] = *header;
        let message_type = u16::from_be_bytes([t0, t1]);
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let is_stun = message_type & 0xFC00 == 0
            && u32::from_be_bytes([c0, c1, c2, c3]) == MAGIC_COOKIE
            && length.is_multiple_of(4)
            && length == attributes.len();
        is_stun.then_some(Self {
            message_type,
            method: method_of(message_type),
            class: class_of(message_type),
            transaction_id,
        })
    }

    /// Decodes the value of an attribute that is encoded like XOR-MAPPED-ADDRESS
    /// (RFC 8489 §14.2).
    pub(crate) fn xor_address(&self, value: &[u8]) -> Option<SocketAddr> {
        let (&[_, family, p0, p1], address) = value.split_first_chunk()?;
        let mut mask = [0; 16];
        mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
        mask[4..].copy_from_slice(&self.transaction_id);
        let port = u16::from_be_bytes([p0 ^ mask[0], p1 ^ mask[1]]);
        let ip = match family {
            FAMILY_IPV4 => IpAddr::from(xor::<4>(address, &mask)?),
            FAMILY_IPV6 => IpAddr::from(xor::<16>(address, &mask)?),
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    }
}

/// An address of exactly `N` bytes, each `XORed` with the byte of `mask` at its place.
fn xor<const N: usize>(address: &[u8], mask: &[u8]) -> Option<[u8; N]> {
    let mut bytes: [u8; N] = address.try_into().ok()?;
    for (byte, mask) in bytes.iter_mut().zip(mask) {
        *byte ^= mask;
    }
    Some(bytes)
}

/// RFC 8489 §5, figure 3: the 12 bits of the method stand around the two of the class.
const fn method_of(message_type: u16) -> StunMethod {
    StunMethod(message_type & 0x000F | (message_type & 0x00E0) >> 1 | (message_type & 0x3E00) >> 2)
}

const fn class_of(message_type: u16) -> StunClass {
    match (message_type & 0x0100 != 0, message_type & 0x0010 != 0) {
        (false, false) => StunClass::Request,
        (false, true) => StunClass::Indication,
        (true, false) => StunClass::SuccessResponse,
        (true, true) => StunClass::ErrorResponse,
    }
}

/// The value of the first attribute of that type before the integrity, if `message` is STUN.
pub(crate) fn attribute(message: &[u8], wanted: u16) -> Option<&[u8]> {
    StunHeader::parse(message)?;
    Attributes::of(message).find_map(|(attribute, value)| (attribute == wanted).then_some(value))
}

/// The attributes of a STUN message as type and value, in the order of the wire (RFC 8489 §14).
///
/// Ends at the first attribute that does not fit. Ends at MESSAGE-INTEGRITY as well: a receiver
/// MUST ignore all that follows, but for the other integrity and the fingerprint (RFC 8489 §14.5,
/// §14.6).
pub(super) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// The attributes of `message`, for which [`is_stun`] must hold.
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self(message.get(HEADER_LEN..).unwrap_or_default())
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[t0, t1, l0, l1], rest) = self.0.split_first_chunk()?;
        let attribute = u16::from_be_bytes([t0, t1]);
        if matches!(
            attribute,
            ATTR_MESSAGE_INTEGRITY | ATTR_MESSAGE_INTEGRITY_SHA256
        ) {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let value = rest.get(..length)?;
        // RFC 8489 §14: the length does not count the padding to a multiple of four.
        self.0 = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((attribute, value))
    }
}
