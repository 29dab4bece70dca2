use std::net::SocketAddr;

use perpacket_udp::Error;

/// Why a session cannot be probed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// ICE has no selected pair: not yet, or not any more.
    #[error("ICE has selected no pair of candidates: wait until the peer connection is connected")]
    NotConnected,
    /// A description without ICE credentials, or none at all.
    #[error("the {which} description has no {what}")]
    NoCredentials {
        /// `local` or `remote`.
        which: &'static str,
        /// The attribute that is missing (RFC 8839 §5.4).
        what: &'static str,
    },
    /// The peer's candidate has a name in place of an address (RFC 8828 §5.2), and no socket of the
    /// session that is open has sent anything to its port, so that nothing tells which address that is.
    #[error(
        "nothing tells which address the peer's candidate {candidate} stands for: no socket of the \
         session has sent to that port; does the peer connection belong to the session?"
    )]
    Unresolved {
        /// The name and the port.
        candidate: String,
    },
    /// The session's packets go to a TURN server, which answers no checks in the peer's name. The
    /// address is the relayed transport address, which the server sends from (RFC 8656 §2).
    #[error("a TURN server relays the session at {0}: only direct paths can be probed")]
    Relayed(SocketAddr),
    /// None of the session's sockets sends to the selected peer from the port of the selected
    /// candidate: the peer connection is not the session's, or its socket has been closed.
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
