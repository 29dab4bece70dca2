//! Two peers exchange something of every class, and every datagram has the options of its class.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::{Direction, Packet};

use super::connection::DEADLINE;
use super::hosts::{ENOUGH, Hosts, marking};
use super::media::{Tracks, send_everything};
use super::peer::{Peer, connect};
use super::wire::{all_comply, count};

/// Connects the two, the left one offers, and has them send until there is enough of each class on both wires. Fails
/// unless every datagram since the [first marking](Hosts::mark) had that, where it went out and where it came in.
pub(crate) fn exchange(hosts: &mut Hosts, left: &mut Peer, right: &mut Peer) -> Result<()> {
    let tracks = [Tracks::add(left)?, Tracks::add(right)?];
    connect(left, right)?;
    let traffic = [
        send_everything(left, &tracks[0]),
        send_everything(right, &tracks[1]),
    ];
    for side in &mut hosts.sides {
        side.wire.wait_for(DEADLINE, |packets| {
            count(sent(packets)).iter().all(|count| *count >= ENOUGH)
        })?;
    }
    drop(traffic);
    all_marked(hosts)
}

/// Fails unless every datagram has the first marking, where it went out and where it came in.
pub(crate) fn all_marked(hosts: &mut Hosts) -> Result<()> {
    let routers = hosts.routers();
    for (number, side) in hosts.sides.iter_mut().enumerate() {
        let own = |_: &Packet, class| marking(number, 0, class);
        let theirs = |_: &Packet, class| {
            let sent = marking(1 - number, 0, class);
            let ttl = sent.ttl.expect("part of a marking");
            sent.with_ttl(ttl - routers)
        };
        let packets = side.wire.packets();
        all_comply(sent(packets), own, own).with_context(|| format!("sent by {number}"))?;
        all_comply(arrived(packets), theirs, theirs)
            .with_context(|| format!("arrived at {number}"))?;
        ensure!(side.wire.dropped() == 0, "the sniffer was too slow");
    }
    Ok(())
}

/// Who has answered connectivity checks, as the host that asked sees it. Fails unless the answer to each came from where
/// the check had gone.
pub(crate) fn answerers(packets: &[Packet]) -> Result<BTreeSet<IpAddr>> {
    // Type and transaction of a STUN message (RFC 8489 §5).
    let transaction = |packet: &Packet, kind: u16| {
        let of_kind = packet.payload.get(..2)? == kind.to_be_bytes();
        of_kind.then_some(packet.payload.get(8..20)?.to_owned())
    };
    let asked: HashMap<_, _> = sent(packets)
        .filter_map(|packet| Some((transaction(packet, 0x001)?, packet.destination)))
        .collect();
    let mut answerers = BTreeSet::new();
    for answer in arrived(packets) {
        if let Some(id) = transaction(answer, 0x101) {
            ensure!(asked.get(&id) == Some(&answer.source), "{answer}");
            answerers.insert(answer.source.ip());
        }
    }
    Ok(answerers)
}

/// The UDP datagrams that went out.
pub(crate) fn sent(packets: &[Packet]) -> impl Iterator<Item = &Packet> {
    datagrams(packets, Direction::Outgoing)
}

/// The UDP datagrams that came in.
pub(crate) fn arrived(packets: &[Packet]) -> impl Iterator<Item = &Packet> {
    datagrams(packets, Direction::Incoming)
}

fn datagrams(packets: &[Packet], direction: Direction) -> impl Iterator<Item = &Packet> {
    let of = move |packet: &&Packet| packet.direction == direction && packet.udp.is_some();
    packets.iter().filter(of)
}
