//! From the options of a datagram to the control messages that carry them.
//!
//! They are written anew for each datagram: that takes about a hundredth of the time of the system
//! call, so there is nothing for a cache to gain.

use std::net::{IpAddr, SocketAddr};

use super::cmsg::{Control, space};
use super::refused::Field;
use crate::{IpOptions, MessageOptions, Tos, Transmit};

const INT: usize = space(size_of::<i32>());
/// The size of a run's datagrams.
const SEGMENT: usize = space(size_of::<u16>());
const V4: usize =
    SEGMENT + 4 * INT + space(size_of::<libc::in_pktinfo>()) + space(IpOptions::CAPACITY);
const V6: usize = SEGMENT + 6 * INT + space(size_of::<libc::in6_pktinfo>());

/// Room for all messages of the larger family.
pub(super) type SendControl = Control<{ if V4 > V6 { V4 } else { V6 } }>;

/// `IPV6_FLOWINFO` of `linux/in6.h`, which libc leaves out.
const IPV6_FLOWINFO: i32 = 11;

/// `SCM_TS_OPT_ID` of `asm-generic/socket.h`, since Linux 6.13, which libc leaves out.
const SCM_TS_OPT_ID: i32 = 81;

/// What a datagram travels as. The destination decides it, not the socket: Linux ignores IPv6
/// messages towards a v4-mapped address, and IPv4 messages towards an IPv6 one, without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    #[inline]
    pub(super) fn of(destination: &SocketAddr) -> Self {
        match destination {
            SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_none() => Self::V6,
            _ => Self::V4,
        }
    }
}

/// What a datagram's control messages depend on beside its options.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    pub(super) family: Family,
    /// The socket's own TOS byte, which supplies the half that the options leave open.
    pub(super) socket_tos: Tos,
    /// [`Field`]s that the kernel refuses.
    pub(super) without: u8,
    /// The socket is a twin on the wildcard address, connected to loopback: without a word from us
    /// the datagram would go out with the source of loopback.
    pub(super) unpin_source: bool,
}

impl Context {
    #[inline]
    fn has(self, field: Field) -> bool {
        self.without & field.bit() == 0
    }

    /// The fields of a datagram that would travel as a control message.
    pub(super) fn present(self, transmit: &Transmit<'_>) -> impl Iterator<Item = Field> + use<> {
        let v6 = self.family == Family::V6;
        let options = &transmit.options;
        let flags = [
            (Field::Timestamp, transmit.probe.is_some()),
            (Field::FlowLabel, v6 && options.flow_label.is_some()),
            (Field::Tos, options.tos_byte().is_some()),
            (Field::Ttl, options.ttl.is_some()),
            (Field::DontFragment, v6 && options.df_bit.is_some()),
        ];
        let without = self.without;
        flags
            .into_iter()
            .filter(move |(field, set)| *set && without & field.bit() == 0)
            .map(|(field, _)| field)
    }

    /// The control messages of one datagram.
    #[inline]
    pub(super) fn encode(self, transmit: &Transmit<'_>) -> SendControl {
        let mut control = SendControl::new();
        self.encode_into(transmit, &mut control);
        control
    }

    /// The same, where they are to be; nothing else is there.
    #[inline]
    pub(super) fn encode_into(self, transmit: &Transmit<'_>, control: &mut SendControl) {
        let result = match self.family {
            Family::V4 => self.encode_v4(transmit, control),
            Family::V6 => self.encode_v6(&transmit.options, control),
        };
        let result = match transmit.probe.filter(|_| self.has(Field::Timestamp)) {
            Some(number) => result.and_then(|()| encode_timestamp(number, control)),
            None => result,
        };
        debug_assert!(
            result.is_ok(),
            "the capacity is the sum of all messages of a family"
        );
    }

    /// `ip(7)`.
    #[inline]
    fn encode_v4(
        self,
        transmit: &Transmit<'_>,
        control: &mut SendControl,
    ) -> Result<(), super::cmsg::Full> {
        let options = &transmit.options;
        if let Some(ttl) = options.ttl.filter(|_| self.has(Field::Ttl)) {
            control.push_int(libc::SOL_IP, libc::IP_TTL, ttl.into())?;
        }
        if let Some(tos) = options
            .tos_byte_over(self.socket_tos)
            .filter(|_| self.has(Field::Tos))
        {
            control.push_int(libc::SOL_IP, libc::IP_TOS, tos.into())?;
        }
        let source = match options.source.map(|source| source.to_canonical()) {
            Some(IpAddr::V4(source)) => Some(source.octets()),
            _ => self.unpin_source.then_some([0; 4]),
        };
        if let Some(source) = source {
            // struct in_pktinfo { int ifindex; struct in_addr spec_dst, addr; }
            let mut info = [0; size_of::<libc::in_pktinfo>()];
            info[4..8].copy_from_slice(&source);
            control.push(libc::SOL_IP, libc::IP_PKTINFO, &info)?;
        }
        if let Some(ip_options) = &transmit.ip_options {
            control.push(libc::SOL_IP, libc::IP_RETOPTS, ip_options.as_bytes())?;
        }
        Ok(())
    }

    /// `ipv6(7)`, RFC 3542 §6.
    #[inline]
    fn encode_v6(
        self,
        options: &MessageOptions,
        control: &mut SendControl,
    ) -> Result<(), super::cmsg::Full> {
        if let Some(ttl) = options.ttl.filter(|_| self.has(Field::Ttl)) {
            control.push_int(libc::SOL_IPV6, libc::IPV6_HOPLIMIT, ttl.into())?;
        }
        if let Some(tos) = options
            .tos_byte_over(self.socket_tos)
            .filter(|_| self.has(Field::Tos))
        {
            control.push_int(libc::SOL_IPV6, libc::IPV6_TCLASS, tos.into())?;
        }
        if let Some(df_bit) = options.df_bit.filter(|_| self.has(Field::DontFragment)) {
            control.push_int(libc::SOL_IPV6, libc::IPV6_DONTFRAG, df_bit.into())?;
        }
        if let Some(label) = options.flow_label.filter(|_| self.has(Field::FlowLabel)) {
            control.push(libc::SOL_IPV6, IPV6_FLOWINFO, &label.to_be_bytes())?;
        }
        if let Some(IpAddr::V6(source)) = options.source {
            // struct in6_pktinfo { struct in6_addr addr; unsigned int ifindex; }
            let mut info = [0; size_of::<libc::in6_pktinfo>()];
            info[..16].copy_from_slice(&source.octets());
            control.push(libc::SOL_IPV6, libc::IPV6_PKTINFO, &info)?;
        }
        Ok(())
    }
}

/// Has the contents go out as a run of datagrams of so many bytes, of which the last may be shorter (`udp(7)`).
pub(super) fn encode_segment(segment: u16, control: &mut SendControl) {
    let result = control.push(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
    debug_assert!(result.is_ok(), "the capacity counts it");
}

/// Asks for a timestamp of this datagram alone, under a number:
/// `Documentation/networking/timestamping.rst` of Linux, §1.3.4 and §1.7.
fn encode_timestamp(number: u32, control: &mut SendControl) -> Result<(), super::cmsg::Full> {
    let flags = libc::SOF_TIMESTAMPING_TX_SOFTWARE;
    control.push(
        libc::SOL_SOCKET,
        libc::SO_TIMESTAMPING,
        &flags.to_ne_bytes(),
    )?;
    control.push(libc::SOL_SOCKET, SCM_TS_OPT_ID, &number.to_ne_bytes())
}
