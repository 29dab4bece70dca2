//! Control messages, `cmsg(3)`: the options that travel beside one datagram.
//!
//! A message is a header `{ length: size_t, level: int, type: int }`, its payload, and padding to
//! the alignment of `size_t`. That is the kernel's layout (`struct cmsghdr` in `linux/socket.h`)
//! under every C library. The bytes are written and read here in safe code, with every length
//! checked against what is there.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::{byte, messages};
pub use encode::{Control, Full};

use std::mem::size_of;

const ALIGNMENT: usize = size_of::<usize>();

/// The header's length, which `CMSG_LEN(0)` is as well: it is a multiple of the alignment.
const HEADER: usize = size_of::<usize>() + 2 * size_of::<i32>();

const fn align(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT)
}

/// What one message with `payload` bytes takes, padding included: `CMSG_SPACE`.
pub const fn space(payload: usize) -> usize {
    HEADER + align(payload)
}
