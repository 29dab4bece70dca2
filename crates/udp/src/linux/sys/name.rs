use std::net::{SocketAddrV4, SocketAddrV6};

use super::constants::{INET, INET6, V4_LENGTH, V6_LENGTH};

/// An address as the kernel takes it, `ip(7)` and `ipv6(7)`.
#[derive(Clone, Copy)]
pub(in super::super) enum Name {
    V4(libc::sockaddr_in),
    V6(libc::sockaddr_in6),
}

impl From<&SocketAddrV4> for Name {
    #[inline]
    fn from(address: &SocketAddrV4) -> Self {
        Self::V4(libc::sockaddr_in {
            sin_family: INET,
            sin_port: address.port().to_be(),
            sin_addr: libc::in_addr {
                s_addr: u32::from_ne_bytes(address.ip().octets()),
            },
            sin_zero: [0; 8],
        })
    }
}

impl From<&SocketAddrV6> for Name {
    #[inline]
    fn from(address: &SocketAddrV6) -> Self {
        Self::V6(libc::sockaddr_in6 {
            sin6_family: INET6,
            sin6_port: address.port().to_be(),
            sin6_flowinfo: address.flowinfo(),
            sin6_addr: libc::in6_addr {
                s6_addr: address.ip().octets(),
            },
            sin6_scope_id: address.scope_id(),
        })
    }
}

impl Name {
    /// Where it begins, and how long it is.
    #[inline]
    pub(super) fn as_raw(&self) -> (*mut libc::c_void, libc::socklen_t) {
        match self {
            Self::V4(v4) => ((&raw const *v4).cast_mut().cast(), V4_LENGTH),
            Self::V6(v6) => ((&raw const *v6).cast_mut().cast(), V6_LENGTH),
        }
    }
}
