use std::{fmt, io};

/// Why a datagram did not go out, or was not handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum DropCause {
    /// Larger than what may be sent without fragmenting (`EMSGSIZE`).
    TooBig,
    /// A queue of this host is full (`ENOBUFS`, `ENOMEM`). Without
    /// [`CustomNetBuilder::icmp_errors`](crate::CustomNetBuilder::icmp_errors) the kernel says so of few
    /// datagrams only.
    NoBufferSpace,
    /// A filter of this host forbids it (`EPERM`, `EACCES`).
    NotPermitted,
    /// This host has no way there (`ENETUNREACH`, `EHOSTUNREACH`, `ENETDOWN`, `EHOSTDOWN`).
    Unreachable,
    /// The options or the destination cannot be (`EINVAL`, `EADDRNOTAVAIL`, …), or the IPv6 source is
    /// not, or no longer, an address of this host.
    Invalid,
    /// The connection was closed.
    Closed,
    /// Received, but longer than the buffer it was to go to.
    Truncated,
    /// Received, but the peer connection does not read fast enough.
    QueueFull,
    /// Received from somebody else than the one server that the socket listens to; see
    /// [`CustomConn`](crate::CustomConn).
    Stranger,
    /// Received from that server's address, but not what it was asked for, or nothing that the stack
    /// can use; see [`CustomConn`](crate::CustomConn).
    Unexpected,
    /// Received, but without the protection that all of the peer's packets have by now: an alert of
    /// DTLS in the clear, say, that anyone can forge, or SRTCP that is too short to be any.
    Unprotected,
    /// Anything else.
    Other,
}

impl DropCause {
    pub(super) const COUNT: usize = 12;

    /// Every cause.
    pub const ALL: [Self; Self::COUNT] = [
        Self::TooBig,
        Self::NoBufferSpace,
        Self::NotPermitted,
        Self::Unreachable,
        Self::Invalid,
        Self::Closed,
        Self::Truncated,
        Self::QueueFull,
        Self::Stranger,
        Self::Unexpected,
        Self::Unprotected,
        Self::Other,
    ];

    /// By what the kernel said.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        match error.kind() {
            // `EMSGSIZE` has no kind of its own.
            _ if error.raw_os_error() == Some(MESSAGE_TOO_LONG) => Self::TooBig,
            _ if error.raw_os_error() == Some(NO_BUFFER_SPACE) => Self::NoBufferSpace,
            io::ErrorKind::OutOfMemory => Self::NoBufferSpace,
            io::ErrorKind::PermissionDenied => Self::NotPermitted,
            io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkDown => Self::Unreachable,
            io::ErrorKind::InvalidInput | io::ErrorKind::AddrNotAvailable => Self::Invalid,
            _ => Self::Other,
        }
    }

    /// Whether the datagram came in.
    pub(super) const fn is_inbound(self) -> bool {
        matches!(
            self,
            Self::Truncated
                | Self::QueueFull
                | Self::Stranger
                | Self::Unexpected
                | Self::Unprotected
        )
    }

    /// The name, in lower case with underscores.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooBig => "too_big",
            Self::NoBufferSpace => "no_buffer_space",
            Self::NotPermitted => "not_permitted",
            Self::Unreachable => "unreachable",
            Self::Invalid => "invalid",
            Self::Closed => "closed",
            Self::Truncated => "truncated",
            Self::QueueFull => "queue_full",
            Self::Stranger => "stranger",
            Self::Unexpected => "unexpected",
            Self::Unprotected => "unprotected",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for DropCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(unix)]
use libc::{EMSGSIZE as MESSAGE_TOO_LONG, ENOBUFS as NO_BUFFER_SPACE};
/// `WSAEMSGSIZE` and `WSAENOBUFS`.
#[cfg(not(unix))]
const MESSAGE_TOO_LONG: i32 = 10040;
#[cfg(not(unix))]
const NO_BUFFER_SPACE: i32 = 10055;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_causes_are_told_apart() {
        let cause = |errno| DropCause::of(&io::Error::from_raw_os_error(errno));
        assert_eq!(cause(libc::EMSGSIZE), DropCause::TooBig);
        assert_eq!(cause(libc::ENOBUFS), DropCause::NoBufferSpace);
        assert_eq!(cause(libc::ENOMEM), DropCause::NoBufferSpace);
        assert_eq!(cause(libc::EPERM), DropCause::NotPermitted);
        assert_eq!(cause(libc::EACCES), DropCause::NotPermitted);
        assert_eq!(cause(libc::ENETUNREACH), DropCause::Unreachable);
        assert_eq!(cause(libc::EHOSTUNREACH), DropCause::Unreachable);
        assert_eq!(cause(libc::ENETDOWN), DropCause::Unreachable);
        assert_eq!(cause(libc::EINVAL), DropCause::Invalid);
        assert_eq!(cause(libc::EADDRNOTAVAIL), DropCause::Invalid);
        assert_eq!(cause(libc::EIO), DropCause::Other);
        for (index, cause) in DropCause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index);
        }
    }
}
