use std::{
    io,
    net::{IpAddr, SocketAddr},
};

/// A value that no datagram can carry. The message names the field, the value and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// A number outside the field's range.
    #[error("{field}: {value} is out of range, allowed is {range}")]
    OutOfRange {
        /// The field of [`MessageOptions`](crate::MessageOptions).
        field: &'static str,
        /// What was asked for.
        value: i64,
        /// What is allowed, as a Rust range.
        range: &'static str,
    },
    /// A text that names no value of the field.
    #[error("{field}: {value:?} is not known, expected is {expected}")]
    Unknown {
        /// The field of [`MessageOptions`](crate::MessageOptions).
        field: &'static str,
        /// What was asked for.
        value: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// A source address that no host can send from.
    #[error("source: {address} is not the address of one host, expected is a unicast address")]
    SourceNotUnicast {
        /// What was asked for.
        address: IpAddr,
    },
    /// A source address of the other family than the destination's.
    #[error("source: {address} is of another address family than the destination {destination}")]
    SourceFamily {
        /// What was asked for.
        address: IpAddr,
        /// Where the datagram was to go.
        destination: SocketAddr,
    },
    /// IP options that are longer than a header can hold.
    #[error("ip_options: {length} bytes, an IPv4 header has room for 40")]
    IpOptionsTooLong {
        /// The length of what was asked for, in bytes.
        length: usize,
    },
}

/// What went wrong, in which operation, at which address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The socket could not be made.
    #[error("cannot bind a UDP socket to {address}: {source}")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel did not take a datagram.
    #[error("cannot send {length} bytes to {destination}: {source}")]
    Send {
        /// Where the datagram was to go.
        destination: SocketAddr,
        /// Its length in bytes.
        length: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket can no longer receive.
    #[error("cannot receive at {local}: {source}")]
    Receive {
        /// The address that the socket is bound to.
        local: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A property of the socket could not be read or changed.
    #[error("cannot {operation} of the socket at {local}: {source}")]
    Configure {
        /// What was tried, as "get the TTL".
        operation: &'static str,
        /// The address that the socket is bound to.
        local: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The options do not fit this datagram. The kernel never saw it.
    #[error(transparent)]
    Options(#[from] OptionsError),
}

impl Error {
    /// What the kernel said, where it was asked.
    #[must_use]
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Bind { source, .. }
            | Self::Send { source, .. }
            | Self::Receive { source, .. }
            | Self::Configure { source, .. } => Some(source),
            Self::Options(_) => None,
        }
    }

    /// The `errno` of the system call, where there was one.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        self.io().and_then(io::Error::raw_os_error)
    }
}

/// Keeps the kind; the message names the operation and the address.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = error
            .io()
            .map_or(io::ErrorKind::InvalidInput, io::Error::kind);
        Self::new(kind, error)
    }
}
