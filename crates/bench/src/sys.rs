//! The floor: system calls with nothing around them.
#![expect(unsafe_code, reason = "this is where the system calls are made")]

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd},
    ptr,
};

use socket2::SockAddr;

/// `CMSG_LEN` and `CMSG_SPACE` of a C `int` (`cmsg(3)`), with a header of 16 bytes.
const INT_LENGTH: usize = 20;
const INT_SPACE: usize = 24;

/// How many buffers one `recvmmsg` fills at most.
pub(crate) const BUFFERS: usize = 16;

/// What a buffer has to hold: GRO joins datagrams up to this (`udp(7)`).
pub(crate) const BUFFER: usize = 1 << 16;

const _: () = assert!(size_of::<libc::cmsghdr>() == 16, "64-bit Linux");

/// Control messages of a C `int` each: two at most.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Control {
    bytes: [[u8; INT_SPACE]; 2],
    length: usize,
}

impl Control {
    /// These messages, each a level, a type and a value.
    pub(crate) fn of(messages: [(i32, i32, i32); 2]) -> Self {
        let mut control = Self::default();
        for (bytes, (level, kind, value)) in control.bytes.iter_mut().zip(messages) {
            bytes[..8].copy_from_slice(&INT_LENGTH.to_ne_bytes());
            bytes[8..12].copy_from_slice(&level.to_ne_bytes());
            bytes[12..16].copy_from_slice(&kind.to_ne_bytes());
            bytes[16..20].copy_from_slice(&value.to_ne_bytes());
            control.length += INT_SPACE;
        }
        control
    }

    /// The value of a message that was received, if it is the first.
    fn first_int(&self, level: i32, kind: i32) -> Option<i32> {
        let bytes = self.bytes[0];
        let int = |at: usize| Some(i32::from_ne_bytes(*bytes[at..].first_chunk()?));
        let is_it = self.length >= INT_LENGTH && int(8)? == level && int(12)? == kind;
        is_it.then(|| int(16)).flatten()
    }
}

/// `sendmsg(2)`.
///
/// # Errors
/// What the kernel says.
#[inline]
pub(crate) fn send(
    socket: &impl AsFd,
    contents: &[u8],
    to: &SockAddr,
    control: &Control,
) -> io::Result<()> {
    let mut part = libc::iovec {
        iov_base: contents.as_ptr().cast_mut().cast(),
        iov_len: contents.len(),
    };
    let mut header = no_header();
    header.msg_name = to.as_ptr().cast_mut().cast();
    header.msg_namelen = to.len();
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    if control.length > 0 {
        header.msg_control = ptr::from_ref(&control.bytes).cast_mut().cast();
        header.msg_controllen = control.length;
    }
    // SAFETY: every pointer in the header comes from a reference that outlives the call, with the length of what it
    // points to, and `sendmsg` only reads through them.
    let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const header, 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// `sendmmsg(2)` of one datagram to each of these, with control messages of its own: how many went out.
///
/// # Errors
/// What the kernel says.
pub(crate) fn send_many(
    socket: &impl AsFd,
    contents: &[u8],
    to: &[(SockAddr, Control)],
) -> io::Result<usize> {
    let mut part = libc::iovec {
        iov_base: contents.as_ptr().cast_mut().cast(),
        iov_len: contents.len(),
    };
    let header = |(to, control): &(SockAddr, Control)| {
        let mut header = no_header();
        header.msg_name = to.as_ptr().cast_mut().cast();
        header.msg_namelen = to.len();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = ptr::from_ref(&control.bytes).cast_mut().cast();
        header.msg_controllen = control.length;
        libc::mmsghdr {
            msg_hdr: header,
            msg_len: 0,
        }
    };
    let mut headers: Vec<_> = to.iter().map(header).collect();
    let number = libc::c_uint::try_from(headers.len()).map_err(io::Error::other)?;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: there are as many headers as is said; every pointer in them comes from a reference that outlives the call,
    // with the length of what it points to, and `sendmmsg` only reads through them.
    let sent = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), number, 0) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// `setsockopt(2)` with an `int`.
///
/// # Errors
/// What the kernel says.
pub(crate) fn set_option(socket: &impl AsFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<i32>()).map_err(io::Error::other)?;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel reads one `int` through the pointer, and one is there.
    let result = unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), length) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// `recvmsg(2)` with the source, without blocking.
///
/// # Errors
/// What the kernel says; `WouldBlock` if there is nothing.
pub(crate) fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let mut source = no_address();
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut header = no_header();
    header.msg_name = (&raw mut source).cast();
    header.msg_namelen = ADDRESS_LENGTH;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: every pointer in the header is to something that outlives the call and that nothing else refers to, with
    // the length that it has.
    let received = unsafe { libc::recvmsg(fd, &raw mut header, libc::MSG_DONTWAIT) };
    usize::try_from(received).map_err(|_| io::Error::last_os_error())
}

/// `recvmmsg(2)` into buffers of [`BUFFER`] bytes, without blocking, from a socket that has `UDP_GRO`: how many
/// datagrams came.
///
/// # Errors
/// What the kernel says; `WouldBlock` if there is nothing.
pub(crate) fn receive_many(socket: &impl AsFd, buffers: &mut [Vec<u8>]) -> io::Result<usize> {
    let number = buffers.len().min(BUFFERS);
    let mut sources = [no_address(); BUFFERS];
    let mut controls = [Control::default(); BUFFERS];
    let mut parts = [libc::iovec {
        iov_base: ptr::null_mut(),
        iov_len: 0,
    }; BUFFERS];
    let mut headers = [libc::mmsghdr {
        msg_hdr: no_header(),
        msg_len: 0,
    }; BUFFERS];
    for (at, buffer) in buffers.iter_mut().take(number).enumerate() {
        parts[at].iov_base = buffer.as_mut_ptr().cast();
        parts[at].iov_len = buffer.len();
        let header = &mut headers[at].msg_hdr;
        header.msg_name = (&raw mut sources[at]).cast();
        header.msg_namelen = ADDRESS_LENGTH;
        header.msg_iov = &raw mut parts[at];
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut controls[at].bytes).cast();
        header.msg_controllen = size_of_val(&controls[at].bytes);
    }
    let fd = socket.as_fd().as_raw_fd();
    let vector = libc::c_uint::try_from(number).map_err(io::Error::other)?;
    // SAFETY: there are as many headers as is said; each pointer in them is to something that outlives the call and that
    // nothing else refers to, with the length that it has.
    let received = unsafe {
        libc::recvmmsg(
            fd,
            headers.as_mut_ptr(),
            vector,
            libc::MSG_DONTWAIT,
            ptr::null_mut(),
        )
    };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    let mut datagrams = 0;
    for (header, control) in headers.iter().zip(&mut controls).take(received) {
        control.length = header.msg_hdr.msg_controllen;
        let length = header.msg_len as usize;
        let segment = control.first_int(libc::SOL_UDP, libc::UDP_GRO);
        let segment = segment.and_then(|segment| usize::try_from(segment).ok());
        datagrams += segment.map_or(1, |segment| length.div_ceil(segment.max(1)));
    }
    Ok(datagrams)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the size of an address is below 2^32"
)]
const ADDRESS_LENGTH: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

fn no_address() -> libc::sockaddr_storage {
    // SAFETY: it holds integers only, for which all zeroes is a value.
    unsafe { mem::zeroed() }
}

fn no_header() -> libc::msghdr {
    // SAFETY: it holds integers and pointers only, for which all zeroes is a value.
    unsafe { mem::zeroed() }
}
