use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

use serde::{Serialize, Serializer};

use super::{HeaderChange, Hop};
use crate::statistics::microseconds;

/// What a running [trace](crate::Trace) sees.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum TraceEvent {
    /// A row has changed: an answer, a loss, a name, a quoted header.
    Hop(Box<Hop>),
    /// Another address has answered than the time before: the path has changed, or is balanced.
    Changed {
        /// At how many hops from here.
        ttl: u8,
        /// Who it was.
        from: IpAddr,
        /// Who it is.
        to: IpAddr,
    },
    /// The whole path is known for the first time, but for the hops that are silent so far.
    Picture {
        /// How long after the start.
        #[serde(rename = "after_us", serialize_with = "some_microseconds")]
        after: Duration,
        /// The rows.
        hops: Vec<Hop>,
    },
    /// A round is over. Probes of it may still be out.
    Round {
        /// Which, from 1.
        number: u32,
    },
    /// ICE has taken another pair of addresses: another path, of which nothing is known yet.
    Moved {
        /// The address of this host.
        local: SocketAddr,
        /// The address of the peer.
        remote: SocketAddr,
    },
}

/// Where the path goes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TraceReport {
    /// The address of this host on the session's 5-tuple. It is unspecified where the kernel chooses it
    /// for each datagram.
    pub local: SocketAddr,
    /// The address of the peer.
    pub remote: SocketAddr,
    /// What the path is: [`TraceReport::NOTE`].
    pub note: &'static str,
    /// When it began; serialised as seconds since 1970.
    #[serde(rename = "started_s", serialize_with = "seconds")]
    pub started: SystemTime,
    /// How many hops away the peer is, if it has answered.
    pub peer_ttl: Option<u8>,
    /// The address that the peer sees the session's packets come from, by its newest answer. If it is
    /// not `local`, there is a NAT on the way.
    pub mapped: Option<SocketAddr>,
    /// How many rounds there were, the last of which may not be whole.
    pub rounds: u32,
    /// When the whole path was known for the first time, from the start.
    #[serde(rename = "picture_us", serialize_with = "microseconds")]
    pub picture: Option<Duration>,
    /// The rows, from the nearest.
    pub hops: Vec<Hop>,
    /// Whether the headers that routers quote have been read.
    pub raw: RawStatus,
    /// What they tell: where marks are changed, and where a NAT is.
    pub changes: Vec<HeaderChange>,
    /// Why it ended early, if something went wrong.
    pub interrupted: Option<String>,
}

impl TraceReport {
    /// What to keep in mind of the path.
    pub const NOTE: &'static str =
        "the one path that this session's 5-tuple takes; others between the same hosts may differ";

    /// The row of the peer, if it has answered.
    #[must_use]
    pub fn peer(&self) -> Option<&Hop> {
        self.hops.iter().find(|hop| Some(hop.ttl) == self.peer_ttl)
    }
}

/// Whether the headers that routers quote have been read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
#[non_exhaustive]
pub enum RawStatus {
    /// They were not asked for.
    Off,
    /// They have.
    Read,
    /// They could not.
    Unavailable {
        /// Why.
        reason: String,
        /// What is not known therefore: [`RawStatus::UNSEEN`].
        unseen: &'static str,
    },
}

impl RawStatus {
    /// What only quoted headers show.
    pub const UNSEEN: &'static str =
        "where marks, addresses, ports and the DF bit are changed on the way";

    pub(super) fn unavailable(error: &io::Error) -> Self {
        Self::Unavailable {
            reason: error.to_string(),
            unseen: Self::UNSEEN,
        }
    }
}

fn some_microseconds<S: Serializer>(time: &Duration, output: S) -> Result<S::Ok, S::Error> {
    microseconds(&Some(*time), output)
}

fn seconds<S: Serializer>(time: &SystemTime, output: S) -> Result<S::Ok, S::Error> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64().serialize(output)
}
