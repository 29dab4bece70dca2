//! What the IP header of a datagram said when the kernel took it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::OnceLock,
};

use perpacket_udp::{DfMode, MessageOptions, PackedOptions, Support, Tos, UdpSocket};

use crate::{PacketClass, policy::is_v4};

/// The fields of an IP header that a policy decides about, as a datagram went out with them: what was asked for, and
/// else what the socket has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SentHeader {
    /// The TTL, or hop limit.
    pub ttl: Option<u8>,
    /// The DF bit. Where it is left to Linux, that sets it unless the datagram is larger than the path MTU that it
    /// knows of. On IPv6, which has no such bit, what was asked for.
    pub df_bit: Option<bool>,
    /// The TOS byte, or traffic class.
    pub tos: Option<Tos>,
}

/// A datagram that the kernel took: what a [`Tap`](crate::Tap) is told of it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Sent {
    /// The address of the socket; unspecified where the kernel chooses the source.
    pub local: SocketAddr,
    /// The source address that was asked for.
    pub source: Option<IpAddr>,
    /// Where it went.
    pub destination: SocketAddr,
    /// What it was.
    pub class: PacketClass,
    /// What its header said.
    pub header: SentHeader,
}

/// What a datagram was sent with, in one word: its options as the policy has them, and what else its header depends on.
/// Who sends stores no more than that; who looks makes a header of it. Zero stands for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SentWith(u64);

/// The options have the bits below these.
const _: () = assert!(PackedOptions::BITS <= 59);
/// One was sent.
const SENT: u64 = 1 << 63;
/// Over IPv4.
const V4: u64 = 1 << 62;
/// What the kernel does not let the socket say.
const NO_TTL: u64 = 1 << 61;
const NO_DF_BIT: u64 = 1 << 60;
const NO_TOS: u64 = 1 << 59;

impl SentWith {
    #[inline]
    pub(crate) const fn from_word(word: u64) -> Self {
        Self(word)
    }

    #[inline]
    pub(crate) const fn word(self) -> u64 {
        self.0
    }
}

/// What the sockets of a port put into a header that is left to them, by address family. It is asked for once: nobody
/// but perpacket has these sockets.
#[derive(Debug, Default)]
pub(crate) struct SocketDefaults([OnceLock<SentHeader>; 2]);

impl SocketDefaults {
    /// What a datagram was sent with by a socket.
    #[inline]
    pub(crate) fn sent_with(
        &self,
        socket: &UdpSocket,
        target: &SocketAddr,
        options: PackedOptions,
    ) -> SentWith {
        let v4 = is_v4(target);
        let asked = &self.0[usize::from(v4)];
        if asked.get().is_none() {
            asked.get_or_init(|| of_socket(socket, v4));
        }
        let mut word = options.bits() | SENT | if v4 { V4 } else { 0 };
        if !socket.takes_all_options() {
            word |= not_said(socket);
        }
        SentWith(word)
    }

    /// What the header of that datagram said.
    pub(crate) fn header(&self, SentWith(word): SentWith) -> SentHeader {
        let is = |flag| word & flag != 0;
        if !is(SENT) {
            return SentHeader::default();
        }
        let default = self.0[usize::from(is(V4))].get();
        let mut header = default.copied().unwrap_or_default();
        let options = MessageOptions::from(PackedOptions::from_bits(word));
        if !is(NO_TTL) {
            header.ttl = options.ttl.or(header.ttl);
        }
        if !is(NO_DF_BIT) {
            header.df_bit = options.df_bit.or(header.df_bit);
        }
        if !is(NO_TOS) {
            let tos = options.tos_byte_over(header.tos.unwrap_or_default());
            header.tos = tos.map(Tos::from_byte).or(header.tos);
        }
        header
    }
}

#[cold]
fn not_said(socket: &UdpSocket) -> u64 {
    let can = socket.capabilities();
    [
        (NO_TTL, can.ttl),
        (NO_DF_BIT, can.df_bit),
        (NO_TOS, can.tos),
    ]
    .into_iter()
    .filter(|(_, support)| *support == Support::None)
    .fold(0, |word, (flag, _)| word | flag)
}

#[cold]
fn of_socket(socket: &UdpSocket, v4: bool) -> SentHeader {
    let df_bit = match socket.df_mode() {
        DfMode::Want | DfMode::Do | DfMode::Probe => true,
        DfMode::Dont | DfMode::Interface | DfMode::Omit => false,
    };
    SentHeader {
        ttl: socket.ttl().ok(),
        df_bit: v4.then_some(df_bit),
        tos: socket.tos().ok(),
    }
}

#[cfg(test)]
mod tests {
    use perpacket_udp::Dscp;

    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_is_not_asked_for_is_the_sockets() {
        let v4 = UdpSocket::bind(([127, 0, 0, 1], 0).into()).expect("a socket");
        let target = ([127, 0, 0, 1], 9).into();
        let defaults = SocketDefaults::default();
        let header = |options| {
            let sent = defaults.sent_with(&v4, &target, PackedOptions::from(&options));
            defaults.header(SentWith::from_word(sent.word()))
        };
        assert_eq!(defaults.header(SentWith::default()), SentHeader::default());
        let nothing = header(MessageOptions::NONE);
        assert_eq!(nothing.ttl, v4.ttl().ok());
        assert_eq!(nothing.tos, Some(Tos::default()));
        assert_eq!(nothing.df_bit, Some(true));
        let asked = MessageOptions::NONE.with_ttl(9).with_dscp(Dscp::EF);
        assert_eq!(
            header(asked.with_df_bit(false)),
            SentHeader {
                ttl: Some(9),
                df_bit: Some(false),
                tos: Some(Tos::from_byte(184))
            }
        );
    }
}
