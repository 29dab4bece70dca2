use std::net::SocketAddr;

use perpacket_udp::Error;

/// Why a session cannot be probed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// ICE has no selected pair: not yet, or not any more.
    #[error("ICE has selected no pair of candidates: wait until the peer connection is connected")]
    NotConnected,
    /// A description without ICE credentials.
    #[error("the {which} description has no {what}")]
    NoCredentials {
        /// `local` or `remote`.
        which: &'static str,
        /// The attribute that is missing (RFC 8839 §5.4).
        what: &'static str,
    },
    /// The session's packets go to a TURN server, which answers no checks in the peer's name.
    #[error("the session goes through the TURN server at {0}: only direct paths can be probed")]
    Relayed(SocketAddr),
    /// None of the session's sockets sends to the selected peer: the peer connection is not the
    /// session's, or its socket has been closed.
    #[error("no socket of the session `{session}` sends to {remote}")]
    NoSocket {
        /// The session.
        session: String,
        /// The peer of the selected pair.
        remote: SocketAddr,
    },
    /// The probe is larger than a datagram can be, or its STUN message.
    #[error("a probe of {size} bytes: at most {max} are possible")]
    TooLarge {
        /// What was asked for, bytes of IP packet.
        size: usize,
        /// The largest, bytes of IP packet.
        max: usize,
    },
    /// The socket refuses to send the probe, or to be prepared for it.
    #[error(transparent)]
    Socket(#[from] Error),
}
