//! The datagrams that are sent, and the options that they get.

use perpacket_webrtc::{
    CustomNet, Stream,
    udp::{MessageOptions, OptionsError},
};

/// How many streams of media there are, and so how many different sets of options.
pub(crate) const STREAMS: u32 = 16;

/// The payload type of all of them: of the dynamic ones (RFC 3551 §6).
const PAYLOAD_TYPE: u8 = 96;

/// A datagram of that many bytes, which looks like SRTP of a stream (RFC 3550 §5.1).
pub(crate) fn media(stream: u32, length: usize) -> Vec<u8> {
    let mut datagram = vec![0x55; length];
    datagram[0] = 0x80;
    datagram[1] = PAYLOAD_TYPE;
    datagram[8..12].copy_from_slice(&stream.to_be_bytes());
    datagram
}

/// One datagram of every stream.
pub(crate) fn of_all_streams(length: usize) -> Vec<Vec<u8>> {
    (0..STREAMS).map(|stream| media(stream, length)).collect()
}

/// TTL, DF and TOS, each another from one number to the next.
pub(crate) fn options(number: u32) -> MessageOptions {
    let number = u8::try_from(number % 64).unwrap_or_default();
    MessageOptions::NONE
        .with_ttl(64 + number)
        .with_df_bit(number % 2 == 1)
        .with_tos(number << 2)
}

/// A network that sends every stream with options of its own.
///
/// # Errors
/// None: the options are in range.
pub(crate) fn set_options_by_stream(net: &CustomNet) -> Result<(), OptionsError> {
    for stream in 0..STREAMS {
        net.set_stream_options(Stream::Ssrc(stream), options(stream))?;
    }
    Ok(())
}
