//! From the options of a datagram to the control messages that carry them.
//!
//! They are written anew for each datagram: that takes about a hundredth of the time of the system
//! call, so there is nothing for a cache to gain.

use std::net::{IpAddr, SocketAddr};

use super::cmsg::{Control, Full, space};
use super::refused::Field;
use crate::{IpOptions, PackedOptions, Tos, transmit::Datagram};

const INT: usize = space(size_of::<i32>());
const V4_SOURCE: usize = space(size_of::<libc::in_pktinfo>());
const V6_SOURCE: usize = space(size_of::<libc::in6_pktinfo>());

/// What a word of options takes: TTL, TOS, DF and flow label.
const OPTIONS: usize = 4 * INT;

/// A probe's number, and that its time is asked for.
const TIMESTAMP: usize = 2 * INT;

const fn larger(one: usize, other: usize) -> usize {
    if one > other { one } else { other }
}

/// Room for the options of a datagram that has nothing else, which is most of them.
pub(super) type OptionsControl = Control<OPTIONS>;

/// Room for a source as well, and for the length of the datagrams in a run.
pub(super) type SourceControl =
    Control<{ OPTIONS + larger(V4_SOURCE, V6_SOURCE) + space(size_of::<u16>()) }>;

/// Room for all messages of the larger family.
pub(super) type SendControl =
    Control<{ OPTIONS + TIMESTAMP + larger(V4_SOURCE + space(IpOptions::CAPACITY), V6_SOURCE) }>;

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
    pub(super) fn present(self, datagram: &Datagram<'_>) -> impl Iterator<Item = Field> + use<> {
        let v6 = self.family == Family::V6;
        let options = datagram.options;
        let flags = [
            (Field::Timestamp, datagram.probe.is_some()),
            (Field::FlowLabel, v6 && options.flow_label().is_some()),
            (Field::Tos, options.tos_byte_over(self.socket_tos).is_some()),
            (Field::Ttl, options.ttl().is_some()),
            (Field::DontFragment, v6 && options.df_bit().is_some()),
        ];
        let without = self.without;
        flags
            .into_iter()
            .filter(move |(field, set)| *set && without & field.bit() == 0)
            .map(|(field, _)| field)
    }

    /// Whether the options are all that a datagram needs messages for.
    #[inline]
    pub(super) fn needs_options_only(self, datagram: &Datagram<'_>) -> bool {
        datagram.source.is_none()
            && datagram.ip_options.is_none()
            && datagram.probe.is_none()
            && !self.unpin_source
    }

    /// All control messages of one datagram.
    pub(super) fn encode(self, datagram: &Datagram<'_>) -> SendControl {
        let mut control = SendControl::new();
        self.encode_options(datagram.options, &mut control);
        self.encode_source(datagram, &mut control);
        let mut result = Ok(());
        if let (Family::V4, Some(ip_options)) = (self.family, datagram.ip_options) {
            result = control.push(libc::SOL_IP, libc::IP_RETOPTS, ip_options.as_bytes());
        }
        if let Some(number) = datagram.probe.filter(|_| self.has(Field::Timestamp)) {
            result = result.and_then(|()| encode_timestamp(number, &mut control));
        }
        has_room(result);
        control
    }

    /// Those of its options: `ip(7)`, `ipv6(7)`, RFC 3542 §6.
    #[expect(clippy::inline_always, reason = "a call is most of what it takes")]
    #[inline(always)]
    pub(super) fn encode_options<const CAPACITY: usize>(
        self,
        options: PackedOptions,
        control: &mut Control<CAPACITY>,
    ) {
        let v4 = self.family == Family::V4;
        let (level, ttl_kind, tos_kind) = if v4 {
            (libc::SOL_IP, libc::IP_TTL, libc::IP_TOS)
        } else {
            (libc::SOL_IPV6, libc::IPV6_HOPLIMIT, libc::IPV6_TCLASS)
        };
        let mut push = |field, kind, value: Option<i32>| {
            if let Some(value) = value.filter(|_| self.has(field)) {
                has_room(control.push_int(level, kind, value));
            }
        };
        push(Field::Ttl, ttl_kind, options.ttl().map(i32::from));
        let tos = options.tos_byte_over(self.socket_tos);
        push(Field::Tos, tos_kind, tos.map(i32::from));
        if !v4 {
            let df_bit = options.df_bit().map(i32::from);
            push(Field::DontFragment, libc::IPV6_DONTFRAG, df_bit);
            let label = options.flow_label();
            let label = label.map(|label| i32::from_ne_bytes(label.to_be_bytes()));
            push(Field::FlowLabel, IPV6_FLOWINFO, label);
        }
    }

    /// That of its source.
    pub(super) fn encode_source<const CAPACITY: usize>(
        self,
        datagram: &Datagram<'_>,
        control: &mut Control<CAPACITY>,
    ) {
        let result = match self.family {
            Family::V4 => {
                let source = match datagram.source.map(IpAddr::to_canonical) {
                    Some(IpAddr::V4(source)) => source.octets(),
                    _ if self.unpin_source => [0; 4],
                    _ => return,
                };
                // struct in_pktinfo { int ifindex; struct in_addr spec_dst, addr; }
                let mut info = [0; size_of::<libc::in_pktinfo>()];
                info[4..8].copy_from_slice(&source);
                control.push(libc::SOL_IP, libc::IP_PKTINFO, &info)
            }
            Family::V6 => {
                let Some(IpAddr::V6(source)) = datagram.source else {
                    return;
                };
                // struct in6_pktinfo { struct in6_addr addr; unsigned int ifindex; }
                let mut info = [0; size_of::<libc::in6_pktinfo>()];
                info[..16].copy_from_slice(&source.octets());
                control.push(libc::SOL_IPV6, libc::IPV6_PKTINFO, &info)
            }
        };
        has_room(result);
    }
}

/// The capacity is the sum of all messages that can meet.
#[inline]
fn has_room(result: Result<(), Full>) {
    debug_assert!(result.is_ok(), "the capacity counts it");
}

/// Has the contents go out as a run of datagrams of so many bytes, of which the last may be shorter (`udp(7)`).
pub(super) fn encode_segment(segment: u16, control: &mut SourceControl) {
    has_room(control.push(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes()));
}

/// Asks for a timestamp of this datagram alone, under a number:
/// `Documentation/networking/timestamping.rst` of Linux, §1.3.4 and §1.7.
fn encode_timestamp(number: u32, control: &mut SendControl) -> Result<(), Full> {
    let flags = libc::SOF_TIMESTAMPING_TX_SOFTWARE;
    control.push(
        libc::SOL_SOCKET,
        libc::SO_TIMESTAMPING,
        &flags.to_ne_bytes(),
    )?;
    control.push(libc::SOL_SOCKET, SCM_TS_OPT_ID, &number.to_ne_bytes())
}
