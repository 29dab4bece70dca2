use std::net::SocketAddr;

use super::constants::{INET, INET6, V4_LENGTH, V6_LENGTH};

/// An address as the kernel takes it, `ip(7)` and `ipv6(7)`.
#[derive(Clone, Copy)]
pub(in super::super) enum Name {
    V4(libc::sockaddr_in),
    V6(libc::sockaddr_in6),
}

impl From<SocketAddr> for Name {
    #[inline]
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => Self::V4(libc::sockaddr_in {
                sin_family: INET,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(v4.ip().octets()),
                },
                sin_zero: [0; 8],
            }),
            SocketAddr::V6(v6) => Self::V6(libc::sockaddr_in6 {
                sin6_family: INET6,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: v6.ip().octets(),
                },
                sin6_scope_id: v6.scope_id(),
            }),
        }
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
