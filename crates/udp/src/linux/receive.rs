//! From received control messages to [`RecvMeta`] and [`IcmpError`].

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, SystemTime},
};

use super::{
    cmsg::{self, messages},
    sys::Received,
};
use crate::{IcmpError, IcmpErrorKind, RecvMeta, Tos};

/// `SO_EE_ORIGIN_*` of `linux/errqueue.h`.
mod origin {
    pub(super) const LOCAL: u8 = 1;
    pub(super) const ICMP: u8 = 2;
    pub(super) const ICMP6: u8 = 3;
    pub(super) const TIMESTAMPING: u8 = 4;
}

/// `UDP_GRO` of `linux/udp.h`.
pub(super) const UDP_GRO: i32 = 104;

/// The fields that any received message may carry.
#[derive(Default)]
struct Fields<'a> {
    ttl: Option<u8>,
    tos: Option<Tos>,
    destination: Option<IpAddr>,
    interface: Option<u32>,
    timestamp: Option<SystemTime>,
    error: Option<&'a [u8]>,
    sent: Option<SystemTime>,
    segment: Option<usize>,
}

impl<'a> Fields<'a> {
    fn read(control: &'a [u8]) -> Self {
        let mut fields = Self::default();
        for (level, kind, payload) in messages(control) {
            match (level, kind) {
                (libc::SOL_IP, libc::IP_TTL) | (libc::SOL_IPV6, libc::IPV6_HOPLIMIT) => {
                    fields.ttl = cmsg::byte(payload);
                }
                (libc::SOL_IP, libc::IP_TOS) | (libc::SOL_IPV6, libc::IPV6_TCLASS) => {
                    fields.tos = cmsg::byte(payload).map(Tos::from_byte);
                }
                (libc::SOL_IP, libc::IP_PKTINFO) => {
                    // struct in_pktinfo { int ifindex; struct in_addr spec_dst, addr; }
                    if let Some((index, [_, _, _, _, a, b, c, d])) = split::<4, 8>(payload) {
                        fields.interface = Some(u32::from_ne_bytes(*index));
                        fields.destination = Some(Ipv4Addr::new(*a, *b, *c, *d).into());
                    }
                }
                (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
                    // struct in6_pktinfo { struct in6_addr addr; unsigned int ifindex; }
                    if let Some((address, index)) = split::<16, 4>(payload) {
                        fields.interface = Some(u32::from_ne_bytes(*index));
                        fields.destination = Some(Ipv6Addr::from(*address).into());
                    }
                }
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => fields.timestamp = timestamp(payload),
                // struct scm_timestamping { struct timespec ts[3]; }: the first is by software.
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => {
                    fields.sent = timestamp(&payload[..payload.len() / 3]);
                }
                (libc::SOL_UDP, UDP_GRO) => {
                    let segment = payload.first_chunk().map(|int| i32::from_ne_bytes(*int));
                    fields.segment = segment.and_then(|segment| usize::try_from(segment).ok());
                }
                (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR) => {
                    fields.error = Some(payload);
                }
                _ => {}
            }
        }
        fields
    }
}

fn split<const A: usize, const B: usize>(bytes: &[u8]) -> Option<(&[u8; A], &[u8; B])> {
    let (first, rest) = bytes.split_first_chunk()?;
    Some((first, rest.first_chunk()?))
}

/// A `struct timespec` since the epoch. Its fields are as wide as `time_t` and `long`.
fn timestamp(payload: &[u8]) -> Option<SystemTime> {
    let (seconds, nanoseconds) = if payload.len() >= 16 {
        let (seconds, nanoseconds) = split::<8, 8>(payload)?;
        (
            i64::from_ne_bytes(*seconds),
            i64::from_ne_bytes(*nanoseconds),
        )
    } else {
        let (seconds, nanoseconds) = split::<4, 4>(payload)?;
        (
            i32::from_ne_bytes(*seconds).into(),
            i32::from_ne_bytes(*nanoseconds).into(),
        )
    };
    let since = Duration::new(
        u64::try_from(seconds).ok()?,
        u32::try_from(nanoseconds).ok()?,
    );
    SystemTime::UNIX_EPOCH.checked_add(since)
}

/// The metadata of a message, and of how many bytes each datagram is that was put together into it; `None` if it
/// has no sender, which no UDP datagram lacks.
pub(super) fn meta(received: &Received<'_>) -> Option<(RecvMeta, Option<usize>)> {
    let fields = Fields::read(received.control);
    let source = received.source?;
    let destination = fields
        .destination
        .map(|destination| match (source, destination) {
            (SocketAddr::V6(_), IpAddr::V4(v4)) => v4.to_ipv6_mapped().into(),
            _ => destination,
        });
    let meta = RecvMeta {
        len: received.len,
        truncated: received.flags & libc::MSG_TRUNC != 0,
        source,
        destination,
        interface: fields.interface,
        ttl: fields.ttl,
        tos: fields.tos,
        timestamp: fields.timestamp,
    };
    Some((meta, fields.segment))
}

/// An entry of the error queue; `None` for one that is no error of a datagram, a timestamp say.
pub(super) fn icmp_error(received: &Received<'_>, payload: &[u8]) -> Option<IcmpError> {
    let fields = Fields::read(received.control);
    // struct sock_extended_err { __u32 errno; __u8 origin, type, code, pad; __u32 info, data; }
    let (error, offender) = fields.error?.split_first_chunk::<16>()?;
    let [_, _, _, _, origin, kind, code, _, a, b, c, d, data @ ..] = error;
    let (origin, kind, code) = (*origin, *kind, *code);
    let kind = match origin {
        origin::LOCAL => IcmpErrorKind::LocalTooBig,
        origin::ICMP => IcmpErrorKind::from_v4(kind, code),
        origin::ICMP6 => IcmpErrorKind::from_v6(kind, code),
        _ => return None,
    };
    let info = u32::from_ne_bytes([*a, *b, *c, *d]);
    let payload = &payload[..received.len.min(payload.len())];
    let (payload, extensions) = split_extensions(payload, *data);
    let too_big = matches!(
        kind,
        IcmpErrorKind::PacketTooBig | IcmpErrorKind::LocalTooBig
    );
    Some(IcmpError {
        destination: received.source?,
        offender: if origin == origin::LOCAL {
            None
        } else {
            address(offender)
        },
        kind,
        next_hop_mtu: (too_big && info != 0).then_some(info),
        reply_ttl: fields.ttl.filter(|_| origin != origin::LOCAL),
        payload: payload.to_vec(),
        extensions: extensions.to_vec(),
        at: fields.timestamp.unwrap_or_else(SystemTime::now),
    })
}

/// Where the quoted payload ends and the extensions of RFC 4884 begin, by a `struct
/// sock_ee_data_rfc4884 { __u16 len; __u8 flags; __u8 reserved; }`.
fn split_extensions(quoted: &[u8], data: [u8; 4]) -> (&[u8], &[u8]) {
    /// `SO_EE_RFC4884_FLAG_INVALID`
    const INVALID: u8 = 1;
    let [a, b, flags, _] = data;
    let at = usize::from(u16::from_ne_bytes([a, b]));
    match quoted.split_at_checked(at) {
        Some((payload, extensions)) if at > 0 => {
            let valid = flags & INVALID == 0;
            (payload, if valid { extensions } else { &[] })
        }
        _ => (quoted, &[]),
    }
}

/// An entry of the error queue that says when a probe left.
pub(super) fn sent_time(received: &Received<'_>) -> Option<(u32, SystemTime)> {
    let fields = Fields::read(received.control);
    let (error, _) = fields.error?.split_first_chunk::<16>()?;
    let [_, _, _, _, origin, _, _, _, _, _, _, _, number @ ..] = error;
    (*origin == origin::TIMESTAMPING).then_some(())?;
    Some((u32::from_ne_bytes(*number), fields.sent?))
}

/// The address in a `struct sockaddr_in` or `struct sockaddr_in6`.
fn address(sockaddr: &[u8]) -> Option<IpAddr> {
    let (family, rest) = sockaddr.split_first_chunk()?;
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            split::<2, 4>(rest).map(|(_port, address)| Ipv4Addr::from(*address).into())
        }
        libc::AF_INET6 => split::<6, 16>(rest)
            .map(|(_port_and_flow, address)| Ipv6Addr::from(*address).to_canonical()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn hostile_control_bytes_never_crash(
            control in vec(any::<u8>(), 0..200),
            payload in vec(any::<u8>(), 0..64),
            len in 0usize..128,
        ) {
            let source = Some("[::1]:9".parse().expect("an address"));
            let received = Received { len, flags: 0, source, control: &control };
            let _ = meta(&received);
            let _ = icmp_error(&received, &payload);
            let _ = sent_time(&received);
        }

        /// The same behind headers that are right, so that every payload parser is reached.
        #[test]
        fn hostile_payloads_never_crash(kind in 0i32..80, level in 0usize..3, payload in vec(any::<u8>(), 0..64)) {
            let mut control = cmsg::Control::<128>::new();
            let level = [libc::SOL_IP, libc::SOL_IPV6, libc::SOL_SOCKET][level];
            control.push(level, kind, &payload).expect("room");
            let source = Some("127.0.0.1:9".parse().expect("an address"));
            let received = Received { len: 0, flags: 0, source, control: control.as_bytes() };
            let _ = meta(&received);
            let _ = icmp_error(&received, &payload);
            let _ = sent_time(&received);
        }
    }
}
