use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a mux did not hand to any peer connection, in datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RefusedCounters {
    /// Neither STUN, nor from an address that belongs to a peer connection.
    pub unknown_source: u64,
    /// Like STUN by its first byte, but no STUN message.
    pub malformed: u64,
    /// A check without USERNAME, or a STUN method that ICE has no use for.
    pub no_username: u64,
    /// A check for a username fragment that nobody here has.
    pub unknown_username: u64,
    /// A check whose MESSAGE-INTEGRITY is missing or wrong.
    pub bad_integrity: u64,
    /// A check that only the peer connection could have proved, while many of that kind waited.
    pub unproved: u64,
    /// A proven check from an address that belongs to another peer connection, which is alive. The
    /// check was answered; the address stayed.
    pub address_taken: u64,
    /// An answer to a question that nobody asked, or not there.
    pub unknown_transaction: u64,
    /// From an address of the family that its peer connection is not served with.
    pub other_family: u64,
    /// For a peer connection that does not read fast enough: its queue was full.
    pub queue_full: u64,
    /// Longer than what ICE can read.
    pub truncated: u64,
}

impl RefusedCounters {
    /// All together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.unknown_source
            + self.malformed
            + self.no_username
            + self.unknown_username
            + self.bad_integrity
            + self.unproved
            + self.address_taken
            + self.unknown_transaction
            + self.other_family
            + self.queue_full
            + self.truncated
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    UnknownSource,
    Malformed,
    NoUsername,
    UnknownUsername,
    BadIntegrity,
    Unproved,
    AddressTaken,
    UnknownTransaction,
    OtherFamily,
    QueueFull,
    Truncated,
}

impl Refused {
    const COUNT: usize = 11;
}

#[derive(Debug, Default)]
pub(super) struct LiveRefused([AtomicU64; Refused::COUNT]);

impl LiveRefused {
    pub(super) fn count(&self, refused: Refused) {
        self.0[refused as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn load(&self) -> RefusedCounters {
        let of = |refused: Refused| self.0[refused as usize].load(Relaxed);
        RefusedCounters {
            unknown_source: of(Refused::UnknownSource),
            malformed: of(Refused::Malformed),
            no_username: of(Refused::NoUsername),
            unknown_username: of(Refused::UnknownUsername),
            bad_integrity: of(Refused::BadIntegrity),
            unproved: of(Refused::Unproved),
            address_taken: of(Refused::AddressTaken),
            unknown_transaction: of(Refused::UnknownTransaction),
            other_family: of(Refused::OtherFamily),
            queue_full: of(Refused::QueueFull),
            truncated: of(Refused::Truncated),
        }
    }
}
