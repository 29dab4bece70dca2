//! What is known of a path, hop by hop: the part of a trace that sends nothing.

use std::net::IpAddr;

use perpacket_udp::IcmpErrorKind;
use perpacket_webrtc::{Attribution, Clock, Rtt};

use super::{Hop, HopAddress, QuotedHeader, names::Names};
use crate::{IcmpExtension, RttRecorder, RttStatistics};

/// How many addresses a hop can have.
const ADDRESSES: usize = 16;

/// How often a silent hop is asked while no other probe is out.
const ALONE: u8 = 3;

/// How many probes in a row the end has not to answer before the way is searched for beyond.
const SILENCE: u8 = 3;

/// What came back for a probe.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) from: IpAddr,
    pub(super) what: What,
    pub(super) rtt: Rtt,
    /// The TTL of the answer as it arrived.
    pub(super) way_back: Option<u8>,
    pub(super) mtu: Option<u32>,
    pub(super) extensions: Vec<IcmpExtension>,
    pub(super) attribution: Attribution,
}

/// Who has answered, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The peer itself.
    Peer,
    /// A router, or the peer's host.
    Icmp(IcmpErrorKind),
}

impl What {
    /// Whether the packet has come as far as it gets.
    fn is_end(self) -> bool {
        !matches!(
            self,
            Self::Icmp(IcmpErrorKind::TimeExceeded | IcmpErrorKind::PacketTooBig)
        )
    }
}

/// The place where probes of one TTL end.
#[derive(Debug, Default)]
struct Place {
    rtt: RttRecorder,
    /// Probes that were answered or lost.
    decided: u64,
    answered: u64,
    /// How many in a row nothing has come back for.
    missed: u8,
    /// The newest first.
    addresses: Vec<(IpAddr, u64)>,
    newest: Option<Reply>,
    mtu: Option<u32>,
    clock: Option<Clock>,
    quote: Option<QuotedHeader>,
    /// How often it was asked while no other probe was out.
    alone: u8,
}

impl Place {
    /// Whether its router quotes too little to tell its answers from those of others.
    fn quotes_too_little(&self) -> bool {
        let newest = self.newest.as_ref();
        newest.is_some_and(|reply| reply.attribution == Attribution::OneInFlight)
    }

    /// Nothing is known of it. Probes that are out stay so.
    fn forget(&mut self) {
        let RttStatistics {
            sent,
            received,
            lost,
            ..
        } = self.rtt.statistics();
        let mut rtt = RttRecorder::new();
        for _ in received + lost..sent {
            rtt.sent();
        }
        *self = Self {
            rtt,
            decided: self.decided,
            ..Self::default()
        };
    }
}

/// All places, and how far the way goes.
#[derive(Debug)]
pub(super) struct Path {
    places: Vec<Place>,
    /// The smallest TTL that the peer has answered.
    peer: Option<u8>,
    /// As long as the peer has not: the smallest TTL of which somebody says that it gets no further.
    wall: Option<u8>,
}

impl Path {
    pub(super) fn new(max_ttl: u8) -> Self {
        Self {
            places: (0..max_ttl).map(|_| Place::default()).collect(),
            peer: None,
            wall: None,
        }
    }

    fn place(&mut self, ttl: u8) -> Option<&mut Place> {
        self.places.get_mut(usize::from(ttl).checked_sub(1)?)
    }

    /// Places by their TTL.
    fn numbered(&self) -> impl Iterator<Item = (u8, &Place)> {
        (1..=u8::MAX).zip(&self.places)
    }

    /// A probe goes out.
    pub(super) fn sent(&mut self, ttl: u8, alone: bool) {
        if let Some(place) = self.place(ttl) {
            place.rtt.sent();
            place.alone = place.alone.saturating_add(u8::from(alone));
        }
    }

    /// Nothing came back.
    pub(super) fn lost(&mut self, ttl: u8) {
        if let Some(place) = self.place(ttl) {
            place.rtt.lost();
            place.decided += 1;
            place.missed = place.missed.saturating_add(1);
        }
    }

    /// Something came back. Returns who answered there before, if it was somebody else.
    pub(super) fn answered(&mut self, ttl: u8, reply: Reply) -> Option<IpAddr> {
        let what = reply.what;
        let is_further = self.end().is_some_and(|end| {
            if what.is_end() {
                end < ttl && self.is_silent(end)
            } else {
                end <= ttl
            }
        });
        if is_further {
            self.forget_end();
        }
        let place = self.place(ttl)?;
        if place.answered == 0 && reply.attribution == Attribution::OneInFlight {
            // What it has answered before could not be told apart: that it was lost is not known.
            place.rtt = RttRecorder::new();
            place.rtt.sent();
        }
        place.rtt.received(reply.rtt.time);
        place.decided += 1;
        place.answered += 1;
        place.missed = 0;
        place.clock = place.clock.max(Some(reply.rtt.clock));
        place.mtu = reply.mtu.or(place.mtu);
        let before = place.addresses.first().map(|(address, _)| *address);
        let known = place.addresses.iter().position(|(at, _)| *at == reply.from);
        let replies = known.map_or(0, |at| place.addresses.remove(at).1);
        place.addresses.insert(0, (reply.from, replies + 1));
        place.addresses.truncate(ADDRESSES);
        let from = reply.from;
        place.newest = Some(reply);

        if what == What::Peer {
            self.peer = Some(self.peer.map_or(ttl, |peer| peer.min(ttl)));
            self.wall = None;
        } else if what.is_end() {
            self.wall = Some(self.wall.map_or(ttl, |wall| wall.min(ttl)));
        } else {
            self.wall = self.wall.filter(|wall| *wall > ttl);
        }
        before.filter(|before| *before != from)
    }

    /// The way has become longer: of what lies beyond its old end, nothing is known.
    fn forget_end(&mut self) {
        let end = self.end().unwrap_or(u8::MAX);
        (self.peer, self.wall) = (None, None);
        for place in self.places.iter_mut().skip(end.into()) {
            place.forget();
        }
    }

    /// Whether the newest probes of this TTL were lost.
    fn is_silent(&self, ttl: u8) -> bool {
        self.numbered()
            .any(|(at, place)| at == ttl && place.missed >= SILENCE)
    }

    pub(super) fn quoted(&mut self, ttl: u8, header: QuotedHeader) {
        if let Some(place) = self.place(ttl) {
            place.quote = Some(header);
        }
    }

    /// How many hops away the peer is, if it has answered.
    pub(super) fn peer(&self) -> Option<u8> {
        self.peer
    }

    /// How far it goes: to the peer, or to where somebody says that it gets no further.
    pub(super) fn end(&self) -> Option<u8> {
        self.peer.or(self.wall)
    }

    /// How many places are rows: up to the end, or else to the last that has answered.
    pub(super) fn rows(&self) -> u8 {
        let answered = self.numbered().filter(|(_, place)| place.answered > 0);
        self.end()
            .or(answered.map(|(ttl, _)| ttl).max())
            .unwrap_or(0)
    }

    /// The round trip to the end.
    pub(super) fn end_rtt(&mut self) -> Option<Rtt> {
        let end = self.end()?;
        self.place(end)?.newest.as_ref().map(|reply| reply.rtt)
    }

    /// The TTLs of a round that can be sent side by side: up to the end, or all where it is not known, or silent.
    pub(super) fn side_by_side(&self) -> Vec<u8> {
        let end = self.end().filter(|end| !self.is_silent(*end));
        let last = end.unwrap_or(u8::MAX);
        self.numbered()
            .filter(|(ttl, place)| *ttl <= last && !place.quotes_too_little())
            .map(|(ttl, _)| ttl)
            .collect()
    }

    /// The TTLs whose answers may be such as can be told apart only while no other probe is out.
    pub(super) fn one_by_one(&self) -> Vec<u8> {
        let last = self.rows();
        let alone = |place: &Place| {
            place.quotes_too_little() || (place.answered == 0 && place.alone < ALONE)
        };
        self.numbered()
            .filter(|(ttl, place)| *ttl <= last && alone(place))
            .map(|(ttl, _)| ttl)
            .collect()
    }

    /// Whether every place up to the end, or to the largest TTL, has had an answer or a loss.
    pub(super) fn is_decided(&self) -> bool {
        let last = self.end().unwrap_or(u8::MAX);
        self.numbered()
            .take_while(|(ttl, _)| *ttl <= last)
            .all(|(_, place)| place.decided > 0)
    }

    /// A row, if the place is one.
    pub(super) fn hop(&self, ttl: u8, names: &Names) -> Option<Hop> {
        let from = usize::from(ttl).checked_sub(1)?;
        let rows = self.places.get(from..self.rows().into())?;
        let place = rows.first()?;
        // Of the places beyond, a silent one says nothing of the way.
        let losses = rows.iter().filter(|place| place.answered > 0);
        let path_loss = losses.filter_map(|place| place.rtt.loss()).reduce(f64::min);
        let mut hop = place.hop(ttl, path_loss, names);
        // Nearer by, the peer has been.
        hop.peer &= self.peer.is_none_or(|peer| peer == ttl);
        Some(hop)
    }

    /// All rows.
    pub(super) fn hops(&self, names: &Names) -> Vec<Hop> {
        (1..=self.rows())
            .filter_map(|ttl| self.hop(ttl, names))
            .collect()
    }

    /// The rows where this address has answered.
    pub(super) fn places_of(&self, address: IpAddr) -> Vec<u8> {
        let is_of = |place: &Place| place.addresses.iter().any(|(at, _)| *at == address);
        self.numbered()
            .filter(|(_, place)| is_of(place))
            .map(|(ttl, _)| ttl)
            .collect()
    }
}

impl Place {
    fn hop(&self, ttl: u8, path_loss: Option<f64>, names: &Names) -> Hop {
        let newest = self.newest.as_ref();
        let addresses = self.addresses.iter();
        Hop {
            ttl,
            peer: newest.is_some_and(|reply| reply.what == What::Peer),
            silent: self.answered == 0,
            addresses: addresses
                .map(|(address, replies)| HopAddress {
                    address: *address,
                    name: names.of(*address),
                    replies: *replies,
                })
                .collect(),
            rtt: self.rtt.statistics(),
            path_loss,
            error: newest.and_then(|reply| match reply.what {
                What::Peer | What::Icmp(IcmpErrorKind::TimeExceeded) => None,
                What::Icmp(kind) => Some(kind),
            }),
            reply_ttl: newest.and_then(|reply| reply.way_back),
            mtu: self.mtu,
            extensions: newest.map_or_else(Vec::new, |reply| reply.extensions.clone()),
            attribution: newest.map(|reply| reply.attribution),
            clock: self.clock,
            quote: self.quote,
        }
    }
}

#[cfg(test)]
mod tests;
