//! Several datagrams by one system call.

use std::{
    array,
    io::{self, IoSlice},
    mem,
    os::fd::{AsRawFd, BorrowedFd},
};

use socket2::{SockAddr, SockAddrStorage};

use super::{ControlBuffer, Name, Received, check};

/// How many messages one system call takes here. Beyond that the call itself is no longer what costs.
pub(in super::super) const MESSAGES: usize = 32;

const NAME_LENGTH: libc::socklen_t = {
    #[expect(clippy::cast_possible_truncation, reason = "the size of a small type")]
    let length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    length
};

/// One message to send.
pub(in super::super) struct Outbound<'a> {
    /// Its contents, in pieces.
    pub(in super::super) parts: &'a [IoSlice<'a>],
    pub(in super::super) destination: &'a Name,
    pub(in super::super) control: &'a [u8],
}

/// `sendmmsg(2)` of the first [`MESSAGES`] of these, without blocking: how many went out. What the kernel
/// said of the next one shows only when that is sent again first.
pub(in super::super) fn send_messages<'a>(
    fd: BorrowedFd<'_>,
    messages: impl Iterator<Item = Outbound<'a>>,
) -> io::Result<usize> {
    // SAFETY: `mmsghdr` holds integers and pointers only, for which all zeroes is a value.
    let mut headers: [libc::mmsghdr; MESSAGES] = unsafe { mem::zeroed() };
    let mut count = 0;
    for (header, message) in headers.iter_mut().zip(messages) {
        count += 1;
        let header = &mut header.msg_hdr;
        (header.msg_name, header.msg_namelen) = message.destination.as_raw();
        // An `IoSlice` is an `iovec` on Unix, as its documentation promises.
        header.msg_iov = message.parts.as_ptr().cast_mut().cast();
        header.msg_iovlen = message.parts.len() as _;
        if !message.control.is_empty() {
            header.msg_control = message.control.as_ptr().cast_mut().cast();
            header.msg_controllen = message.control.len() as _;
        }
    }
    // SAFETY: so many headers are there, every pointer in them comes from a reference that outlives the
    // call, with the length of what it points to, and beside `msg_len` the kernel only reads.
    let sent = unsafe {
        libc::sendmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr(),
            count,
            (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
        )
    };
    check(sent as isize)
}

/// `recvmmsg(2)` into slots of `slot` bytes each, as many as there are of them, of `controls`, and
/// [`MESSAGES`], without blocking. Shows each message with the number of its slot; how many there were.
pub(in super::super) fn receive_messages(
    fd: BorrowedFd<'_>,
    bytes: &mut [u8],
    slot: usize,
    controls: &mut [ControlBuffer],
    mut show: impl FnMut(usize, &Received<'_>),
) -> io::Result<usize> {
    // SAFETY: as in `send_messages`.
    let mut headers: [libc::mmsghdr; MESSAGES] = unsafe { mem::zeroed() };
    let mut names = array::from_fn::<_, MESSAGES, _>(|_| SockAddrStorage::zeroed());
    let mut parts = array::from_fn::<_, MESSAGES, _>(|_| libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    });
    let mut count = 0;
    for ((((header, name), part), buffer), control) in headers
        .iter_mut()
        .zip(&mut names)
        .zip(&mut parts)
        .zip(bytes.chunks_exact_mut(slot))
        .zip(controls.iter_mut())
    {
        part.iov_base = buffer.as_mut_ptr().cast();
        part.iov_len = slot;
        let header = &mut header.msg_hdr;
        header.msg_name = (&raw mut *name).cast();
        header.msg_namelen = NAME_LENGTH;
        header.msg_iov = part;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control.0.len() as _;
        count += 1;
    }
    // SAFETY: so many headers are there; the pointers in them come from exclusive references to storage
    // that outlives the call, with the length of what they point to.
    let received = unsafe {
        libc::recvmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr(),
            count,
            libc::MSG_DONTWAIT as _,
            std::ptr::null_mut(),
        )
    };
    let received = check(received as isize)?;
    for (number, (header, name)) in headers.iter().zip(names).take(received).enumerate() {
        let message = &header.msg_hdr;
        let control = &controls[number].0;
        let control_length: usize = message.msg_controllen as _;
        let control_length = control_length.min(control.len());
        let length = message.msg_namelen.min(NAME_LENGTH);
        // SAFETY: the storage is large enough for any address, and initialised throughout; the kernel has
        // said how much of it holds one.
        let source = unsafe { SockAddr::new(name, length) };
        show(
            number,
            &Received {
                len: slot.min(header.msg_len as usize),
                flags: message.msg_flags,
                source: source.as_socket(),
                control: &control[..control_length],
            },
        );
    }
    Ok(received)
}
