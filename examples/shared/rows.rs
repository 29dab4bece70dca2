use std::net::SocketAddr;

use perpacket_webrtc::PacketClass;

use crate::{Asked, Seen};

/// How many datagrams of each kind have to be seen, each way, before a phase may end.
const ENOUGH: usize = 5;

/// Some of the datagrams between two peers, and what their headers have to say.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What they are.
    pub traffic: Traffic,
    /// Which way they go; `None` is both.
    pub direction: Option<Direction>,
    /// What their headers have to say.
    pub asked: Asked,
}

/// A kind of datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Its name in the table.
    pub name: &'static str,
    /// Its class.
    pub class: PacketClass,
    /// RTP of this payload type alone.
    pub payload_type: Option<u8>,
}

impl Traffic {
    /// All of a class.
    #[must_use]
    pub const fn of(name: &'static str, class: PacketClass) -> Self {
        Self {
            name,
            class,
            payload_type: None,
        }
    }

    /// RTP of one payload type.
    #[must_use]
    pub const fn rtp(name: &'static str, payload_type: u8) -> Self {
        Self {
            name,
            class: PacketClass::Srtp,
            payload_type: Some(payload_type),
        }
    }
}

/// Which way a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From Alice to Bob.
    AliceToBob,
    /// From Bob to Alice.
    BobToAlice,
}

/// Who has which address.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Alice's.
    pub alice: SocketAddr,
    /// Bob's.
    pub bob: SocketAddr,
}

impl Addresses {
    /// Which way a datagram went; `None` if it was not between the two.
    #[must_use]
    pub fn direction(self, from: SocketAddr, to: SocketAddr) -> Option<Direction> {
        if (from, to) == (self.alice, self.bob) {
            Some(Direction::AliceToBob)
        } else if (from, to) == (self.bob, self.alice) {
            Some(Direction::BobToAlice)
        } else {
            None
        }
    }
}

impl Row {
    /// Whether the row says anything of this datagram.
    ///
    /// A receiver does not see payload types: there it is the header that tells audio from video.
    #[must_use]
    pub fn is_about(&self, seen: &Seen, addresses: Addresses) -> bool {
        let direction = addresses.direction(seen.from, seen.to);
        let stream_fits = match (self.traffic.payload_type, seen.payload_type) {
            (Some(wanted), Some(seen)) => wanted == seen,
            (Some(_), None) => self.asked.is_met_by(seen.header),
            (None, _) => true,
        };
        self.traffic.class == seen.class
            && direction.is_some()
            && self.direction.is_none_or(|only| direction == Some(only))
            && stream_fits
    }
}

/// Whether enough was seen for every row, each way.
#[must_use]
pub fn saw_enough(rows: &[Row], seen: &[Seen], addresses: Addresses) -> bool {
    let of = |row: &Row, way: Direction| {
        let fits = |seen: &&Seen| {
            addresses.direction(seen.from, seen.to) == Some(way) && row.is_about(seen, addresses)
        };
        seen.iter().filter(fits).take(ENOUGH).count()
    };
    rows.iter().all(|row| {
        [Direction::AliceToBob, Direction::BobToAlice]
            .into_iter()
            .filter(|way| row.direction.is_none_or(|only| only == *way))
            .all(|way| of(row, way) == ENOUGH)
    })
}
