use serde::Serialize;

/// STUN messages of at most so many bytes are read by known peers: Firefox (nICEr), libjuice, and webrtc-rs
/// and pion. Larger ones are cut off or dropped, so they get no answer.
pub(super) const KNOWN: [usize; 3] = [2048, 4096, 8192];

/// What speaks for a limit of the peer: from some size on, probes get no answer, no router has said that
/// they are too big, and neither does one that routers may fragment.
///
/// It says nothing about media: peers read that into other buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PeerLimit {
    /// The largest STUN message that was answered, bytes of UDP payload.
    pub stun: usize,
    /// Whose limit it is.
    pub whose: Whose,
}

/// Whose limit a [`PeerLimit`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Whose {
    /// The peer's, very likely: it is, to the byte, one that WebRTC stacks have.
    Peer,
    /// The peer's or the path's: also a path that drops fragments, as many do, shows this. On IPv6 only the
    /// sending host fragments, and it does so only where the packet is larger than its own interface's
    /// MTU: there it says less.
    PeerOrPath,
}

impl PeerLimit {
    /// By the largest packet that was answered, of which headers take `overhead`.
    pub(super) fn of(mtu: usize, overhead: usize, is_exact: bool) -> Self {
        let stun = mtu.saturating_sub(overhead);
        let is_known = is_exact && KNOWN.contains(&stun);
        Self {
            stun,
            whose: if is_known {
                Whose::Peer
            } else {
                Whose::PeerOrPath
            },
        }
    }
}
