//! What both ends' wires say of a span of time.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::{Capture, Direction, Packet};
use perpacket_webrtc::{PacketClass, StunClass, StunHeader};

use super::media::{Received, took_to_the_wire};
use crate::support::wire::{class_of, ssrc};

/// RFC 8489 §14, RFC 8445 §16.1.
const PRIORITY: u16 = 0x0024;

/// The type preference of a peer-reflexive candidate, which a check has its priority from (RFC 8445 §5.1.2.2, §7.1.1).
/// webrtc-rs puts that of its own host candidate there, so it tells probes from ICE's checks.
const PEER_REFLEXIVE: u8 = 110;

/// Both captures, and what of them is looked at: by its end, all that was sent within has arrived.
pub(crate) struct Span {
    pub(crate) captures: [Capture; 2],
    pub(crate) addresses: [IpAddr; 2],
    pub(crate) start: SystemTime,
    pub(crate) end: SystemTime,
}

/// The session's datagrams in one direction, without probes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flow {
    pub(crate) sent: usize,
    pub(crate) lost: usize,
    /// The longest that one took from the one host's interface to the other's.
    pub(crate) transit: Duration,
    /// The longest that RTP took from the application to the interface.
    pub(crate) to_the_wire: Duration,
    /// The longest from one packet of a stream of RTP to the next.
    pub(crate) gap: Duration,
    /// The longest that RTP took from the other host's interface to the application.
    pub(crate) from_the_wire: Duration,
}

impl Span {
    /// What one side has put on its wire.
    pub(crate) fn sent(&self, side: usize) -> impl Iterator<Item = &Packet> {
        let from = self.addresses[side];
        self.captures[side].packets.iter().filter(move |packet| {
            packet.direction == Direction::Outgoing
                && packet.source.ip() == from
                && (packet.udp.is_some() || packet.fragment.is_some())
                && (self.start..self.end).contains(&packet.at)
        })
    }

    /// The probes among it.
    pub(crate) fn probes(&self) -> impl Iterator<Item = &Packet> {
        self.sent(0).filter(|packet| is_probe(packet))
    }

    /// The rest: what the session itself has sent.
    pub(crate) fn own(&self, side: usize) -> impl Iterator<Item = &Packet> {
        self.sent(side).filter(|packet| !is_probe(packet))
    }

    /// ICE's own checks.
    pub(crate) fn checks(&self, side: usize) -> impl Iterator<Item = &Packet> {
        self.own(side).filter(|packet| is_request(packet))
    }

    /// ICMP errors that have come to the left host.
    pub(crate) fn errors(&self) -> usize {
        let packets = self.captures[0].packets.iter();
        let incoming = packets.filter(|packet| packet.direction == Direction::Incoming);
        incoming
            .filter(|packet| {
                packet
                    .icmp
                    .as_ref()
                    .is_some_and(|icmp| icmp.quoted.is_some())
            })
            .count()
    }

    /// What became of what one side has sent, and what of it the application at the other end has got.
    pub(crate) fn flow(&self, side: usize, received: &[Received]) -> Flow {
        type Key<'a> = (SocketAddr, SocketAddr, &'a [u8]);
        fn key(packet: &Packet) -> Key<'_> {
            (packet.source, packet.destination, &packet.payload)
        }
        let from = self.addresses[side];
        let mut arrived = HashMap::<Key<'_>, Vec<SystemTime>>::new();
        for packet in self.captures[1 - side].packets.iter().rev() {
            if packet.direction == Direction::Incoming && packet.source.ip() == from {
                arrived.entry(key(packet)).or_default().push(packet.at);
            }
        }
        let received: HashMap<_, _> = received
            .iter()
            .map(|it| ((it.ssrc, u64::from(it.sequence)), it.at))
            .collect();
        let mut flow = Flow::default();
        let mut last = HashMap::new();
        for packet in self.own(side) {
            flow.sent += 1;
            if let Some(stream) = ssrc(packet) {
                if let Some(before) = last.insert(stream, packet.at) {
                    let gap = packet.at.duration_since(before).unwrap_or_default();
                    flow.gap = flow.gap.max(gap);
                }
                let took = took_to_the_wire(packet).unwrap_or_default();
                flow.to_the_wire = flow.to_the_wire.max(took);
            }
            match arrived.get_mut(&key(packet)).and_then(Vec::pop) {
                Some(at) => {
                    let transit = at.duration_since(packet.at).unwrap_or_default();
                    flow.transit = flow.transit.max(transit);
                    let number = ssrc(packet).zip(sequence(packet));
                    if let Some(got) = number.and_then(|number| received.get(&number)) {
                        let took = got.duration_since(at).unwrap_or_default();
                        flow.from_the_wire = flow.from_the_wire.max(took);
                    }
                }
                None => flow.lost += 1,
            }
        }
        flow
    }

    /// Every number that SRTP, SRTCP and DTLS have given out is on the wire: nothing was lost before it.
    pub(crate) fn nothing_is_missing(&self, side: usize) -> Result<()> {
        let mut streams = HashMap::<(PacketClass, u32), BTreeSet<u64>>::new();
        for packet in self.own(side) {
            let class = class_of(packet).with_context(|| format!("what is this? {packet}"))?;
            for (stream, number) in numbers(class, packet).context("cut short")? {
                let numbers = streams.entry((class, stream)).or_default();
                ensure!(numbers.insert(number), "twice: {number} in {packet}");
            }
        }
        // Two tracks, their feedback, the data channel.
        ensure!(streams.len() == 4, "{:?}", streams.keys());
        for (stream, numbers) in streams {
            let (first, last) = (numbers.first(), numbers.last());
            let (first, last) = first.zip(last).context("none")?;
            let all = usize::try_from(last - first + 1)?;
            ensure!(
                numbers.len() == all,
                "{} of {all}: {stream:?}",
                numbers.len()
            );
        }
        Ok(())
    }
}

/// The streams that a datagram belongs to, and its number in each.
fn numbers(class: PacketClass, packet: &Packet) -> Option<Vec<(u32, u64)>> {
    let payload = &packet.payload[..];
    Some(match class {
        PacketClass::Srtp => vec![(ssrc(packet)?, sequence(packet)?)],
        // RFC 7714 §17: the index comes last.
        PacketClass::Srtcp => {
            let sender = u32::from_be_bytes(payload.get(4..8)?.try_into().ok()?);
            let index = u32::from_be_bytes(*payload.last_chunk()?);
            vec![(sender, (index & 0x7fff_ffff).into())]
        }
        PacketClass::Dtls => records(payload)?,
        _ => Vec::new(),
    })
}

/// That of RTP.
fn sequence(packet: &Packet) -> Option<u64> {
    let number = packet.payload.get(2..4)?.try_into().ok()?;
    Some(u16::from_be_bytes(number).into())
}

/// RFC 6347 §4.1: of each record the epoch, and the number.
fn records(mut payload: &[u8]) -> Option<Vec<(u32, u64)>> {
    let mut records = Vec::new();
    while let Some((header, rest)) = payload.split_first_chunk::<13>() {
        let field = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |all, byte| all << 8 | u64::from(*byte))
        };
        records.push((
            u32::try_from(field(&header[3..5])).ok()?,
            field(&header[5..11]),
        ));
        payload = rest.get(usize::try_from(field(&header[11..])).ok()?..)?;
    }
    Some(records)
}

fn is_request(packet: &Packet) -> bool {
    let header = StunHeader::parse(&packet.payload);
    header.is_some_and(|header| header.class == StunClass::Request)
}

fn is_probe(packet: &Packet) -> bool {
    is_request(packet) && priority(&packet.payload).is_some_and(|it| it[0] == PEER_REFLEXIVE)
}

/// That of a check (RFC 8489 §14).
fn priority(message: &[u8]) -> Option<[u8; 4]> {
    let mut attributes = message.get(20..)?;
    loop {
        let (header, rest) = attributes.split_first_chunk::<4>()?;
        let kind = u16::from_be_bytes([header[0], header[1]]);
        if kind == PRIORITY {
            return rest.first_chunk().copied();
        }
        let length = u16::from_be_bytes([header[2], header[3]]);
        attributes = rest.get(usize::from(length).next_multiple_of(4)..)?;
    }
}
