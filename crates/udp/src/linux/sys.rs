//! The system calls, each behind a safe function.
#![expect(unsafe_code, reason = "this is where the system calls are made")]

mod many;
mod name;
mod prefetch;

use std::{
    io, mem,
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use socket2::{SockAddr, Socket};
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::Handle,
};

pub(super) use many::{MESSAGES, Outbound, receive_messages, send_messages};
pub(super) use name::Name;
pub(crate) use prefetch::prefetch;

/// Room for every control message that a receive can bring: on a dual-stack socket the IPv4 and the
/// IPv6 form of TTL, TOS and destination, two kinds of timestamp, and an extended error with its offender.
const RECEIVE_CONTROL: usize = 512;

#[expect(
    clippy::cast_possible_truncation,
    reason = "sizes of small types, and numbers of 16 bits"
)]
mod constants {
    use std::mem::size_of;

    pub(super) const INT_LENGTH: libc::socklen_t = size_of::<i32>() as libc::socklen_t;
    pub(super) const FILTER_LENGTH: libc::socklen_t = size_of::<[u32; 8]>() as libc::socklen_t;
    pub(super) const PROGRAM_LENGTH: libc::socklen_t =
        size_of::<libc::sock_fprog>() as libc::socklen_t;
    pub(super) const V4_LENGTH: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    pub(super) const V6_LENGTH: libc::socklen_t =
        size_of::<libc::sockaddr_in6>() as libc::socklen_t;
    pub(super) const INET: libc::sa_family_t = libc::AF_INET as libc::sa_family_t;
    pub(super) const INET6: libc::sa_family_t = libc::AF_INET6 as libc::sa_family_t;
    pub(super) const RETURN_CONSTANT: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
}
use constants::{FILTER_LENGTH, INT_LENGTH, PROGRAM_LENGTH, RETURN_CONSTANT};

/// Storage for received control messages, aligned for the kernel's header.
#[repr(C, align(8))]
pub(super) struct ControlBuffer([u8; RECEIVE_CONTROL]);

impl ControlBuffer {
    pub(super) const fn new() -> Self {
        Self([0; RECEIVE_CONTROL])
    }
}

/// What one `recvmsg` brought.
pub(super) struct Received<'a> {
    pub(super) len: usize,
    pub(super) flags: i32,
    pub(super) source: Option<SocketAddr>,
    pub(super) control: &'a [u8],
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// `sendmsg(2)`, without blocking.
#[inline]
pub(super) fn send_message(
    fd: BorrowedFd<'_>,
    contents: &[u8],
    destination: &Name,
    control: &[u8],
) -> io::Result<usize> {
    send_with(fd, contents, destination, control, 0)
}

/// `MSG_PROBE` of `linux/socket.h`, which libc leaves out.
const MSG_PROBE: i32 = 0x10;

/// What `sendmsg(2)` would say of these control messages, but nothing is sent: the kernel reads them,
/// looks for a route, and stops there (`udp_sendmsg` and `udpv6_sendmsg` of
/// Linux).
pub(super) fn probe_message(
    fd: BorrowedFd<'_>,
    destination: &Name,
    control: &[u8],
) -> io::Result<usize> {
    send_with(fd, &[], destination, control, MSG_PROBE | libc::MSG_CONFIRM)
}

#[inline]
fn send_with(
    fd: BorrowedFd<'_>,
    contents: &[u8],
    destination: &Name,
    control: &[u8],
    flags: i32,
) -> io::Result<usize> {
    let mut part = libc::iovec {
        iov_base: contents.as_ptr().cast_mut().cast(),
        iov_len: contents.len(),
    };
    // SAFETY: `msghdr` holds integers and pointers only, for which all zeroes is a value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    (header.msg_name, header.msg_namelen) = destination.as_raw();
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    if !control.is_empty() {
        header.msg_control = control.as_ptr().cast_mut().cast();
        header.msg_controllen = control.len() as _;
    }
    // SAFETY: every pointer in the header comes from a reference that outlives the call, with the
    // length of what it points to, and `sendmsg` only reads through them.
    check(unsafe {
        libc::sendmsg(
            fd.as_raw_fd(),
            &raw const header,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | flags,
        )
    })
}

/// `recvmsg(2)`, without blocking.
pub(super) fn receive_message<'a>(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    control: &'a mut ControlBuffer,
    flags: i32,
) -> io::Result<Received<'a>> {
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: as in `send_message`.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len() as _;
    // SAFETY: the storage is `SockAddr`'s own, large enough for any address, and `recvmsg` says how
    // much of it holds one. The other pointers come from exclusive references that outlive the call,
    // with the length of what they point to.
    let (len, source) = unsafe {
        SockAddr::try_init(|storage, length| {
            header.msg_name = storage.cast();
            header.msg_namelen = *length;
            let received = check(libc::recvmsg(
                fd.as_raw_fd(),
                &raw mut header,
                flags | libc::MSG_DONTWAIT,
            ))?;
            *length = header.msg_namelen;
            Ok(received)
        })
    }?;
    let control_length = (header.msg_controllen as usize).min(control.0.len());
    Ok(Received {
        len: len.min(buffer.len()),
        flags: header.msg_flags,
        source: source.as_socket(),
        control: &control.0[..control_length],
    })
}

/// `setsockopt(2)` with an `int`.
pub(super) fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the kernel reads one `int` through the pointer, and one is there.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            INT_LENGTH,
        )
    };
    check(result as isize).map(drop)
}

/// Lets only these types of `ICMPv6` through (RFC 3542 §3.2).
pub(super) fn set_icmp6_filter(fd: BorrowedFd<'_>, types: &[u8]) -> io::Result<()> {
    /// `ICMPV6_FILTER` of `linux/icmpv6.h`.
    const ICMPV6_FILTER: i32 = 1;
    // struct icmp6_filter { __u32 data[8]; }: a bit for each type that is left out.
    let mut filter = [u32::MAX; 8];
    for kind in types {
        filter[usize::from(kind >> 5)] &= !(1 << (kind & 31));
    }
    // SAFETY: the kernel reads as many bytes as the array has, and keeps a copy.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_ICMPV6,
            ICMPV6_FILTER,
            (&raw const filter).cast(),
            FILTER_LENGTH,
        )
    };
    check(result as isize).map(drop)
}

/// `getsockopt(2)` of an `int`.
pub(super) fn get_option(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<i32> {
    let mut value = 0i32;
    let mut length = INT_LENGTH;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `value`.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    check(result as isize).map(|_| value)
}

/// Gives the socket's reuseport group a program that chooses the first member for every datagram
/// (`SO_ATTACH_REUSEPORT_CBPF`, `socket(7)`).
pub(super) fn attach_first_member_program(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut code = libc::sock_filter {
        code: RETURN_CONSTANT,
        jt: 0,
        jf: 0,
        k: 0,
    };
    let program = libc::sock_fprog {
        len: 1,
        filter: &raw mut code,
    };
    // SAFETY: the kernel reads the program and the one instruction that it points to, and keeps a
    // copy; both outlive the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            ptr::from_ref(&program).cast(),
            PROGRAM_LENGTH,
        )
    };
    check(result as isize).map(drop)
}

/// Registers a socket with the runtime that this is called on.
pub(super) fn register(socket: Socket, interest: Interest) -> io::Result<AsyncFd<Socket>> {
    Handle::try_current().map_err(io::Error::other)?;
    // SAFETY: a `Socket` owns its descriptor and always returns the same one, and nothing outside
    // closes it.
    Ok(unsafe { AsyncFd::register_with_interest(socket, interest) }?)
}
