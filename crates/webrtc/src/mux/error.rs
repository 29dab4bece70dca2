use std::net::SocketAddr;

/// What a mux could not do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MuxError {
    /// A socket could not be made.
    #[error(transparent)]
    Bind(#[from] perpacket_udp::Error),
    /// All candidates of one mux have one port.
    #[error("a mux has one port, and {first} and {second} have two")]
    Ports {
        /// The first address.
        first: SocketAddr,
        /// The one with another port.
        second: SocketAddr,
    },
    /// No address was given.
    #[error("a mux needs an address to bind to")]
    NoAddress,
    /// No socket is of the family of the STUN server.
    #[error("no socket of the mux is of the address family of the STUN server {server}")]
    NoSocketTowards {
        /// The server.
        server: SocketAddr,
    },
    /// A STUN server did not say how it sees a socket.
    #[error("the STUN server {server}, asked from {local}: {reason}")]
    Discovery {
        /// The server.
        server: SocketAddr,
        /// The socket.
        local: SocketAddr,
        /// What went wrong.
        reason: String,
    },
}
