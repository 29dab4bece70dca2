//! A raw socket that sees the ICMP errors of the whole host: `raw(7)`, RFC 3542 §3.2.

use std::{io, os::fd::AsFd};

use socket2::{Domain, Protocol, Socket as Descriptor, Type};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    receive,
    sys::{ControlBuffer, receive_message, register, set_icmp6_filter, set_option},
};
use crate::RecvMeta;

/// `ICMP_FILTER` of `linux/icmp.h`, at the level `SOL_RAW`: a bit for each type that is left out.
const ICMP_FILTER: i32 = 1;

/// Destination unreachable, time exceeded, parameter problem (RFC 792).
const V4_ERRORS: [u8; 3] = [3, 11, 12];

/// Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443).
const V6_ERRORS: [u8; 4] = [1, 2, 3, 4];

/// What waits for a program that is busy, bytes.
const BACKLOG: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct RawIcmp(AsyncFd<Descriptor>);

impl RawIcmp {
    pub(crate) fn open(v6: bool) -> io::Result<Self> {
        let (domain, protocol) = if v6 {
            (Domain::IPV6, Protocol::ICMPV6)
        } else {
            (Domain::IPV4, Protocol::ICMPV4)
        };
        let socket = Descriptor::new(domain, Type::RAW.nonblocking(), Some(protocol))?;
        let fd = socket.as_fd();
        if v6 {
            set_icmp6_filter(fd, &V6_ERRORS)?;
            set_option(fd, libc::SOL_IPV6, libc::IPV6_RECVHOPLIMIT, 1)?;
        } else {
            let errors = V4_ERRORS.iter().fold(0, |bits, kind| bits | 1_i32 << kind);
            set_option(fd, libc::SOL_RAW, ICMP_FILTER, !errors)?;
        }
        set_option(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
        let _ = socket.set_recv_buffer_size(BACKLOG);
        Ok(Self(register(socket, Interest::READABLE)?))
    }

    /// The next message: on IPv4 with its IP header, on IPv6 without.
    pub(crate) async fn recv(&self, buffer: &mut [u8]) -> io::Result<RecvMeta> {
        loop {
            tokio::task::consume_budget().await;
            let mut guard = self.0.readable().await?;
            let mut control = ControlBuffer::new();
            match receive_message(self.0.get_ref().as_fd(), buffer, &mut control, 0) {
                Ok(received) => {
                    if let Some((meta, _)) = receive::meta(&received) {
                        return Ok(meta);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
