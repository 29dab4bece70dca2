/// Why an offer was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The offer is not SDP, or lacks what every WebRTC offer has.
    #[error("the offer cannot be used: {0}")]
    Malformed(#[source] webrtc::Error),
    /// The offer has more of something than any client needs.
    #[error("the offer has {count} {what}, and may have {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many it has.
        count: usize,
        /// How many it may have.
        limit: usize,
    },
    /// The offer has no data channel, and no audio or video to receive.
    #[error("the offer has neither a data channel nor audio or video to send")]
    NothingOffered,
    /// There are as many sessions as there may be.
    #[error("there are {limit} sessions already, and there may be no more")]
    TooManySessions {
        /// How many there may be.
        limit: u32,
    },
    /// There are as many sessions of this client's address as there may be.
    #[error("this address has {limit} sessions already, and may have no more")]
    TooManyOfAddress {
        /// How many it may have.
        limit: u32,
    },
    /// [`Sessions::close_all`](crate::Sessions::close_all) was called.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The fault is here.
    #[error("no answer could be made: {0}")]
    Internal(#[source] webrtc::Error),
}
