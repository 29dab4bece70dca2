//! All peer connections of a host on one port.

mod support;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::{Packet, Test, until};
use perpacket_udp::{Batching, MessageOptions};
use perpacket_webrtc::{CustomMux, CustomNet, CustomNetBuilder, PacketClass};
use webrtc::api::setting_engine::SettingEngine;
use webrtc::ice_transport::ice_candidate_type::RTCIceCandidateType;

use support::connection::DEADLINE;
use support::description::Description;
use support::exchange::{answerers, arrived, exchange, sent};
use support::hosts::{ENOUGH, Family, Hosts, Side, marking};
use support::media::{Tracks, send_everything, send_media};
use support::numbers::Numbers;
use support::peer::{Peer, connect, negotiate};
use support::wire::{all_comply, class_of, count};

/// The port of every mux here.
const PORT: u16 = 5000;

fn main() -> ExitCode {
    use Family::{V4, V6};
    use Sockets::{OneEach, Wildcard};
    let tests: Vec<Test> = vec![
        ("every_class_v4", || every_class(V4, CustomNet::builder)),
        ("every_class_v6", || every_class(V6, CustomNet::builder)),
        ("every_class_gathered_v4", || every_class(V4, gathering)),
        ("every_class_gathered_v6", || every_class(V6, gathering)),
        ("sessions_are_told_apart_v4", || sessions(V4)),
        ("sessions_are_told_apart_v6", || sessions(V6)),
        ("five_addresses_wildcard_v4", || {
            five_addresses(V4, Wildcard)
        }),
        ("five_addresses_wildcard_v6", || {
            five_addresses(V6, Wildcard)
        }),
        ("five_addresses_one_each_v4", || five_addresses(V4, OneEach)),
        ("five_addresses_one_each_v6", || five_addresses(V6, OneEach)),
        ("nominated_address_v4", || nominated_address(V4)),
        ("nominated_address_v6", || nominated_address(V6)),
        ("nat_1to1_of_five_wildcard_v4", || nat_of_five(V4, Wildcard)),
        ("nat_1to1_of_five_wildcard_v6", || nat_of_five(V6, Wildcard)),
        ("nat_1to1_of_five_one_each_v4", || nat_of_five(V4, OneEach)),
        ("nat_1to1_of_five_one_each_v6", || nat_of_five(V6, OneEach)),
        ("nat_1to1_of_five_to_one", nat_of_five_to_one),
        ("ice_restart_v4", || ice_restart(V4)),
        ("ice_restart_v6", || ice_restart(V6)),
        ("closing_frees_the_port", closing_frees_the_port),
        ("dropping_frees_the_port", dropping_frees_the_port),
    ];
    perpacket_lab::main(tests)
}

/// What a mux is bound to.
#[derive(Clone, Copy)]
enum Sockets {
    /// The wildcard addresses.
    Wildcard,
    /// Each address of the host.
    OneEach,
}

/// A mux on both wildcard addresses.
fn wildcard(side: &Side) -> Result<CustomMux> {
    let families = [Family::V4, Family::V6];
    side.mux(&families.map(|family| (family.any(), PORT).into()))
}

/// A network whose sockets gather what they send.
fn gathering() -> CustomNetBuilder {
    CustomNet::builder().batching(Batching::new())
}

/// Sockets of both families serve peer connections of one.
fn every_class(family: Family, net: fn() -> CustomNetBuilder) -> Result<()> {
    let mut hosts = Hosts::with(family, [net().build(), net().build()])?;
    hosts.mark(0)?;
    let [near, far] = &hosts.sides;
    let mux = wildcard(near)?;
    let mut left = near.mux_peer_with(&mux, "left", only(near.address))?;
    let mut right = far.peer("right")?;
    exchange(&mut hosts, &mut left, &mut right)?;
    let near = &mut hosts.sides[0];
    let own = SocketAddr::new(near.address, PORT);
    ensure!(Description::of(&left)?.candidates == BTreeSet::from([("host".to_owned(), own)]));
    ensure!(sent(near.wire.packets()).all(|packet| packet.source == own));
    ensure!(mux.snapshot().refused.total() == 0, "{:?}", mux.snapshot());
    Ok(())
}

fn only(address: IpAddr) -> impl FnOnce(&mut SettingEngine) {
    move |settings| settings.set_ip_filter(Box::new(move |of_host| of_host == address))
}

/// Two peer connections on one port have each the options of their session, also when these change while they talk.
fn sessions(family: Family) -> Result<()> {
    let mut hosts = Hosts::new(family)?;
    let [near, far] = &hosts.sides;
    let mux = wildcard(near)?;
    let names = ["alice", "bob"];
    let sessions = names.map(|name| near.net.session(name));
    let mut peers = Vec::new();
    for name in names {
        let mut own = near.mux_peer_with(&mux, name, only(near.address))?;
        let mut other = far.peer(name)?;
        let tracks = Tracks::add(&own)?;
        connect(&mut own, &mut other)?;
        let traffic = send_everything(&own, &tracks);
        let description = Description::of(&other)?;
        let (_, at) = description.candidates.first().context("one")?;
        peers.push((*at, own, other, traffic));
    }
    let ttl = |ttl| MessageOptions::NONE.with_ttl(ttl);
    let mut before = [ttl(64); 2];
    for (number, want) in [[41, 42], [43, 42], [64, 44]].into_iter().enumerate() {
        let want = want.map(|value| ttl(value).with_tos(value));
        for (session, options) in sessions.iter().zip(want) {
            session.set_options(options)?;
        }
        let changed = SystemTime::now();
        for ((to, ..), (want, before)) in peers.iter().zip(want.into_iter().zip(before)) {
            let to_it = |packet: &&Packet| packet.destination == *to && packet.at > changed;
            let packets = hosts.sides[0].wire.wait_for(DEADLINE, |packets| {
                let counts = count(sent(packets).filter(to_it));
                counts.iter().all(|count| *count >= ENOUGH)
            })?;
            all_comply(sent(packets).filter(to_it), |_, _| want, |_, _| before)
                .with_context(|| format!("change {number}"))?;
        }
        before = want;
    }
    for session in &sessions {
        ensure!(session.total().class(PacketClass::Srtp).sent >= 3 * ENOUGH as u64);
    }
    ensure!(mux.snapshot().connections == 2);
    Ok(())
}

fn mux(side: &Side, sockets: Sockets, addresses: &[IpAddr]) -> Result<CustomMux> {
    match sockets {
        Sockets::Wildcard => wildcard(side),
        Sockets::OneEach => {
            let sockets = addresses.iter().map(|address| (*address, PORT).into());
            side.mux(&sockets.collect::<Vec<_>>())
        }
    }
}

/// All are offered, and what one of them is asked, that one answers.
fn five_addresses(family: Family, sockets: Sockets) -> Result<()> {
    let mut hosts = Hosts::new(family)?;
    hosts.mark(0)?;
    let [near, far] = &hosts.sides;
    let addresses = near.five_addresses()?;
    let mux = mux(near, sockets, &addresses)?;
    let own = addresses.clone();
    let mut left = near.mux_peer_with(&mux, "left", |settings| {
        settings.set_ip_filter(Box::new(move |address| own.contains(&address)));
    })?;
    let mut right = far.peer_with("right", patient)?;
    exchange(&mut hosts, &mut right, &mut left)?;
    let addresses = addresses.into_iter().collect();
    ensure!(Description::of(&left)?.addresses("host") == addresses);
    let packets = hosts.sides[1].wire.packets();
    ensure!(answerers(packets)? == addresses);
    Ok(())
}

/// Time for a check of every pair before one is nominated.
fn patient(settings: &mut SettingEngine) {
    settings.set_host_acceptance_min_wait(Some(Duration::from_secs(1)));
}

/// What is no answer goes out from the address that the peer has nominated, not from the first of the host.
fn nominated_address(family: Family) -> Result<()> {
    let mut hosts = Hosts::new(family)?;
    hosts.mark(0)?;
    let [near, far] = &hosts.sides;
    let last = *near.five_addresses()?.last().context("five")?;
    let mux = wildcard(near)?;
    let mut left = near.mux_peer_with(&mux, "left", only(last))?;
    let mut right = far.peer_with("right", patient)?;
    exchange(&mut hosts, &mut right, &mut left)?;
    let data = |packet: &&Packet| class_of(packet) != Some(PacketClass::Stun);
    let packets = hosts.sides[0].wire.packets();
    let of_data: BTreeSet<IpAddr> = sent(packets)
        .filter(data)
        .map(|packet| packet.source.ip())
        .collect();
    ensure!(of_data == BTreeSet::from([last]), "{of_data:?}");
    Ok(())
}

/// Each of five addresses has another one outside, which the router puts in its place.
fn nat_of_five(family: Family, sockets: Sockets) -> Result<()> {
    let mut hosts = Hosts::new(family)?;
    hosts.mark(0)?;
    let [near, far] = &hosts.sides;
    let inside = near.five_addresses()?;
    let outside: Vec<IpAddr> = (1..=5)
        .map(|number| match family {
            Family::V4 => IpAddr::from([192, 0, 2, number]),
            Family::V6 => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(number)]),
        })
        .collect();
    hosts.translate(&inside, &outside)?;
    let mux = mux(near, sockets, &inside)?;
    let mapping = outside.iter().zip(&inside);
    let mapping = mapping.map(|(outside, inside)| format!("{outside}/{inside}"));
    let mapping = mapping.collect();
    let mut left = near.mux_peer_with(&mux, "left", |settings| {
        settings.set_ip_filter(Box::new(move |address| inside.contains(&address)));
        settings.set_nat_1to1_ips(mapping, RTCIceCandidateType::Host);
    })?;
    let mut right = far.peer_with("right", patient)?;
    exchange(&mut hosts, &mut right, &mut left)?;
    let outside = outside.into_iter().collect();
    ensure!(Description::of(&left)?.addresses("host") == outside);
    let packets = hosts.sides[1].wire.packets();
    ensure!(answerers(packets)? == outside);
    ensure!(sent(packets).all(|packet| outside.contains(&packet.destination.ip())));
    ensure!(arrived(packets).all(|packet| outside.contains(&packet.source.ip())));
    Ok(())
}

/// webrtc-ice makes the same candidate of each address then, and closes the connection of all but the first.
fn nat_of_five_to_one() -> Result<()> {
    let mut hosts = Hosts::new(Family::V4)?;
    hosts.mark(0)?;
    let [near, far] = &hosts.sides;
    let inside = near.five_addresses()?;
    let outside = IpAddr::from([192, 0, 2, 1]);
    hosts.translate(&inside[..1], &[outside])?;
    let mux = wildcard(near)?;
    let mut left = near.mux_peer_with(&mux, "left", |settings| {
        settings.set_nat_1to1_ips(vec![outside.to_string()], RTCIceCandidateType::Host);
    })?;
    let mut right = far.peer("right")?;
    exchange(&mut hosts, &mut right, &mut left)?;
    ensure!(Description::of(&left)?.addresses("host") == BTreeSet::from([outside]));
    let packets = hosts.sides[1].wire.packets();
    ensure!(arrived(packets).all(|packet| packet.source.ip() == outside));
    Ok(())
}

/// The port stays, and nothing is left of the old credentials.
fn ice_restart(family: Family) -> Result<()> {
    let mut hosts = Hosts::new(family)?;
    hosts.mark(0)?;
    let [near, far] = &hosts.sides;
    let mux = wildcard(near)?;
    let of_session = MessageOptions::NONE.with_ttl(50);
    let session = near.net.session("left");
    session.set_options(of_session)?;
    let mut left = near.mux_peer_with(&mux, "left", only(near.address))?;
    let mut right = far.peer("right")?;
    let tracks = Tracks::add(&left)?;
    connect(&mut left, &mut right)?;
    let media = send_media(&left, &tracks);
    let mut numbers = Numbers::send(&left);
    numbers.go_on(&mut right)?;
    let sockets = near.udp_ports()?;

    let mut old = Description::of(&left)?;
    for _ in 0..3 {
        negotiate(&left, &right, true)?;
        numbers.go_on(&mut right)?;
        let new = Description::of(&left)?;
        ensure!(old.ufrag != new.ufrag && old.password != new.password);
        ensure!(old.candidates == new.candidates);
        old = new;
        let to = Description::of(&right)?.ports();
        let near = &mut hosts.sides[0];
        near.wire.wait_for(DEADLINE, |packets| {
            let to_new = sent(packets).filter(|p| to.contains(&p.destination.port()));
            count(to_new).iter().all(|count| *count >= ENOUGH)
        })?;
        let what = || format!("one connection with one peer: {:?}", mux.snapshot());
        until(DEADLINE, what, || {
            let snapshot = mux.snapshot();
            let of_one = snapshot.connections == 1 && snapshot.addresses == 1;
            // One more is of the mux itself.
            Ok((of_one && near.net.snapshot().conns.len() == 2).then_some(()))
        })?;
        ensure!(near.udp_ports()? == sockets);
    }
    drop(media);
    numbers.all_arrive(&left, &mut right)?;
    let near = &mut hosts.sides[0];
    let options = |_: &Packet, class| of_session.or(marking(0, 0, class));
    all_comply(sent(near.wire.packets()), options, options)?;
    ensure!(near.wire.dropped() == 0);
    Ok(())
}

/// Two peers that are connected over a mux.
fn connected(hosts: &Hosts) -> Result<(CustomMux, [Peer; 2])> {
    let [near, far] = &hosts.sides;
    let mux = wildcard(near)?;
    let mut left = near.mux_peer_with(&mux, "left", only(near.address))?;
    let mut right = far.peer("right")?;
    connect(&mut left, &mut right)?;
    Ok((mux, [left, right]))
}

fn binds(side: &Side) -> bool {
    let bind = || UdpSocket::bind((side.address, PORT));
    side.node.run(bind).is_ok()
}

/// As soon as it returns.
fn closing_frees_the_port() -> Result<()> {
    let hosts = Hosts::new(Family::V4)?;
    hosts.mark(0)?;
    let near = &hosts.sides[0];
    let (mux, peers) = connected(&hosts)?;
    ensure!(!binds(near));
    near.runtime.block_on(mux.close());
    ensure!(binds(near) && !near.udp_ports()?.contains(&PORT));
    ensure!(mux.snapshot().connections == 0);
    drop(peers);
    Ok(())
}

/// The last who has it may be a peer connection.
fn dropping_frees_the_port() -> Result<()> {
    let hosts = Hosts::new(Family::V4)?;
    hosts.mark(0)?;
    let near = &hosts.sides[0];
    let (mux, [left, mut right]) = connected(&hosts)?;
    drop(mux);
    Numbers::send(&left).all_arrive(&left, &mut right)?;
    ensure!(!binds(near));
    left.block_on(left.connection.close())?;
    drop(left);
    let free = || Ok(binds(near).then_some(()));
    until(DEADLINE, || "a port that is free".to_owned(), free)?;
    ensure!(!near.udp_ports()?.contains(&PORT));
    Ok(())
}
