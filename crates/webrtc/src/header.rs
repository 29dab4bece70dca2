//! What the IP header of a datagram said when the kernel took it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use perpacket_udp::{DfMode, MessageOptions, Support, Tos, UdpSocket};

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

const TTL_KNOWN: u32 = 1 << 16;
const TOS_KNOWN: u32 = 1 << 17;
const DF_KNOWN: u32 = 1 << 18;
const DF: u32 = 1 << 19;

/// [`SentHeader`] in one word, so that a reader sees the header of one datagram. Zero is a header that nothing is known
/// of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PackedHeader(u32);

impl PackedHeader {
    #[inline]
    pub(crate) const fn from_word(word: u32) -> Self {
        Self(word)
    }

    #[inline]
    pub(crate) const fn word(self) -> u32 {
        self.0
    }

    #[inline]
    fn set_ttl(&mut self, ttl: u8) {
        self.0 = self.0 & !0xff | TTL_KNOWN | u32::from(ttl);
    }

    #[inline]
    fn set_df_bit(&mut self, df_bit: bool) {
        self.0 = self.0 & !DF | DF_KNOWN | if df_bit { DF } else { 0 };
    }

    #[inline]
    fn set_tos(&mut self, tos: u8) {
        self.0 = self.0 & !0xff00 | TOS_KNOWN | u32::from(tos) << 8;
    }

    /// The TOS byte, or zero.
    #[inline]
    fn tos(self) -> Tos {
        let [_, tos, ..] = self.0.to_le_bytes();
        Tos::from_byte(tos)
    }
}

impl From<SentHeader> for PackedHeader {
    fn from(header: SentHeader) -> Self {
        let mut packed = Self::default();
        if let Some(ttl) = header.ttl {
            packed.set_ttl(ttl);
        }
        if let Some(df_bit) = header.df_bit {
            packed.set_df_bit(df_bit);
        }
        if let Some(tos) = header.tos {
            packed.set_tos(tos.byte());
        }
        packed
    }
}

impl From<PackedHeader> for SentHeader {
    fn from(PackedHeader(word): PackedHeader) -> Self {
        let [ttl, tos, ..] = word.to_le_bytes();
        Self {
            ttl: (word & TTL_KNOWN != 0).then_some(ttl),
            df_bit: (word & DF_KNOWN != 0).then_some(word & DF != 0),
            tos: (word & TOS_KNOWN != 0).then_some(Tos::from_byte(tos)),
        }
    }
}

/// What the sockets of a port put into a header that is left to them, by address family. It is asked for once: nobody
/// but perpacket has these sockets.
#[derive(Debug, Default)]
pub(crate) struct SocketDefaults([AtomicU32; 2]);

/// They were asked for.
const ASKED: u32 = 1 << 31;

impl SocketDefaults {
    /// The header of a datagram that a socket sends with these options.
    #[inline]
    pub(crate) fn header(
        &self,
        socket: &UdpSocket,
        target: &SocketAddr,
        options: &MessageOptions,
    ) -> PackedHeader {
        let v4 = is_v4(target);
        let cached = &self.0[usize::from(v4)];
        let mut word = cached.load(Relaxed);
        if word & ASKED == 0 {
            word = ASKED | PackedHeader::from(of_socket(socket, v4)).word();
            cached.store(word, Relaxed);
        }
        let mut header = PackedHeader(word & !ASKED);
        let can = socket.capabilities();
        if let Some(ttl) = options.ttl
            && can.ttl != Support::None
        {
            header.set_ttl(ttl);
        }
        if let Some(df_bit) = options.df_bit
            && can.df_bit != Support::None
        {
            header.set_df_bit(df_bit);
        }
        if let Some(tos) = options.tos_byte_over(header.tos())
            && can.tos != Support::None
        {
            header.set_tos(tos);
        }
        header
    }
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

    #[test]
    fn a_header_fits_into_a_word() {
        let some = |ttl, df_bit, tos: Option<u8>| SentHeader {
            ttl,
            df_bit,
            tos: tos.map(Tos::from_byte),
        };
        for header in [
            some(None, None, None),
            some(Some(0), Some(false), Some(0)),
            some(Some(255), Some(true), Some(255)),
            some(Some(7), None, Some(184)),
            some(None, Some(true), None),
        ] {
            assert_eq!(SentHeader::from(PackedHeader::from(header)), header);
        }
        assert_eq!(PackedHeader::from(SentHeader::default()).word(), 0);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_is_not_asked_for_is_the_sockets() {
        let v4 = UdpSocket::bind(([127, 0, 0, 1], 0).into()).expect("a socket");
        let target = ([127, 0, 0, 1], 9).into();
        let defaults = SocketDefaults::default();
        let nothing = SentHeader::from(defaults.header(&v4, &target, &MessageOptions::NONE));
        assert_eq!(nothing.ttl, v4.ttl().ok());
        assert_eq!(nothing.tos, Some(Tos::default()));
        assert_eq!(nothing.df_bit, Some(true));
        let asked = MessageOptions::NONE.with_ttl(9).with_dscp(Dscp::EF);
        let some = defaults.header(&v4, &target, &asked.with_df_bit(false));
        assert_eq!(
            SentHeader::from(some),
            SentHeader {
                ttl: Some(9),
                df_bit: Some(false),
                tos: Some(Tos::from_byte(184))
            }
        );
    }
}
