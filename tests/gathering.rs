//! Which candidates ICE gathers with what the application sets, and what is sent from them: from the right addresses
//! and ports only, with the options of its class on every datagram.

mod support;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::{Packet, Sniffer, Test, until};
use perpacket_udp::MessageOptions;
use webrtc::api::setting_engine::SettingEngine;
use webrtc::ice::network_type::NetworkType;
use webrtc::ice::udp_network::{EphemeralUDP, UDPNetwork};
use webrtc::ice_transport::ice_candidate_type::RTCIceCandidateType;

use support::connection::{self, DEADLINE};
use support::description::Description;
use support::exchange::{answerers, arrived, exchange, sent};
use support::hosts::{ENOUGH, Family, Hosts, Side, marking};
use support::media::{Tracks, send_media};
use support::numbers::Numbers;
use support::peer::{Peer, connect, negotiate};
use support::wire::{all_comply, count};

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("port_range_v4", || port_range(Family::V4)),
        ("port_range_v6", || port_range(Family::V6)),
        ("port_range_used_up_v4", || port_range_used_up(Family::V4)),
        ("port_range_used_up_v6", || port_range_used_up(Family::V6)),
        ("interface_filter", interface_filter),
        ("address_filter", address_filter),
        ("five_addresses_v4", || five_addresses(Family::V4)),
        ("five_addresses_v6", || five_addresses(Family::V6)),
        ("nat_1to1_host_v4", || {
            nat_1to1(Family::V4, RTCIceCandidateType::Host)
        }),
        ("nat_1to1_host_v6", || {
            nat_1to1(Family::V6, RTCIceCandidateType::Host)
        }),
        ("nat_1to1_server_reflexive_v4", || {
            nat_1to1(Family::V4, RTCIceCandidateType::Srflx)
        }),
        ("nat_1to1_server_reflexive_v6", || {
            nat_1to1(Family::V6, RTCIceCandidateType::Srflx)
        }),
        ("ice_restart_v4", || ice_restart(Family::V4)),
        ("ice_restart_v6", || ice_restart(Family::V6)),
    ];
    perpacket_lab::main(tests)
}

fn use_ports(range: RangeInclusive<u16>) -> impl FnOnce(&mut SettingEngine) + Send {
    let ports = EphemeralUDP::new(*range.start(), *range.end()).expect("a range");
    |settings| settings.set_udp_network(UDPNetwork::Ephemeral(ports))
}

fn port_range(family: Family) -> Result<()> {
    let mut hosts = Hosts::new(family)?;
    hosts.mark(0)?;
    let [near, far] = &hosts.sides;
    let somebody = near.node.run(|| UdpSocket::bind((near.address, 40_001)))?;
    let mut left = near.peer_with("left", use_ports(40_000..=40_002))?;
    let mut right = far.peer_with("right", use_ports(50_000..=50_000))?;
    exchange(&mut hosts, &mut left, &mut right)?;

    let [near, _] = &hosts.sides;
    ensure!(near.udp_ports()?.contains(&40_001));
    drop(somebody);
    let allowed: [&[u16]; 2] = [&[40_000, 40_002], &[50_000]];
    for ((side, peer), allowed) in hosts.sides.iter_mut().zip([&left, &right]).zip(allowed) {
        let offered = Description::of(peer)?.ports();
        ensure!(
            offered.len() == 1 && allowed.contains(offered.first().expect("one")),
            "{offered:?}"
        );
        let ports = |packet: &Packet| packet.source.port();
        let used: BTreeSet<u16> = sent(side.wire.packets()).map(ports).collect();
        ensure!(used == offered, "{used:?} instead of {offered:?}");
        let open: BTreeSet<u16> = side.udp_ports()?.into_iter().collect();
        ensure!(open == offered, "{open:?} instead of {offered:?}");
    }
    Ok(())
}

/// Who makes the sockets.
#[derive(Clone, Copy, Debug)]
enum Sockets {
    Stock,
    Perpacket,
}

/// Where no port is left there is no candidate, and gathering ends all the same, on webrtc-rs's own sockets as on
/// those of perpacket. A port is there again when its peer connection is closed.
fn port_range_used_up(family: Family) -> Result<()> {
    for sockets in [Sockets::Stock, Sockets::Perpacket] {
        let hosts = Hosts::new(family)?;
        let side = &hosts.sides[0];
        let gather = |name| {
            let two_ports = use_ports(40_000..=40_001);
            let peer = match sockets {
                Sockets::Stock => side.stock_peer_with(two_ports)?,
                Sockets::Perpacket => side.peer_with(name, two_ports)?,
            };
            let offer = peer.block_on(async {
                peer.channel.offer(&peer.connection).await?;
                connection::offer(&peer.connection, false).await
            })?;
            anyhow::Ok((peer, Description::parse(&offer.sdp)?.ports()))
        };
        let (first, first_ports) = gather("first")?;
        let (_second, second_ports) = gather("second")?;
        ensure!(
            (first_ports.len(), second_ports.len()) == (1, 1)
                && first_ports.is_disjoint(&second_ports),
            "{sockets:?}: {first_ports:?}, {second_ports:?}"
        );
        let (_third, none) = gather("third")?;
        ensure!(none.is_empty(), "{sockets:?}: {none:?}");

        first.block_on(first.connection.close())?;
        until(
            DEADLINE,
            || format!("{sockets:?}: a port that is free again"),
            || {
                let open = side.udp_ports().expect("proc(5)");
                let free = first_ports.iter().all(|port| !open.contains(port));
                Ok(free.then_some(()))
            },
        )?;
        let (_fourth, ports) = gather("fourth")?;
        ensure!(ports == first_ports, "{sockets:?}: {ports:?}");
    }
    Ok(())
}

/// Candidates of both families, from any address.
fn use_everything(settings: &mut SettingEngine) {
    settings.set_network_types(vec![NetworkType::Udp4, NetworkType::Udp6]);
    settings.set_ip_filter(Box::new(|_| true));
}

fn interface_filter() -> Result<()> {
    filtered(
        |settings| settings.set_interface_filter(Box::new(|name| name == "eth1")),
        &["10.0.9.1", "fd00:0:0:9::1"],
    )
}

fn address_filter() -> Result<()> {
    const ALLOWED: [&str; 2] = ["10.0.0.11", "fd00::11"];
    let allowed = |address: IpAddr| ALLOWED.contains(&address.to_string().as_str());
    filtered(
        move |settings| settings.set_ip_filter(Box::new(allowed)),
        &ALLOWED,
    )
}

/// On a host with two interfaces, two addresses of each family on the first and one on the second, a filter leaves
/// these addresses, and no other sends anything.
fn filtered(filter: impl FnOnce(&mut SettingEngine) + Send, allowed: &[&str]) -> Result<()> {
    let mut hosts = Hosts::new(Family::V4)?;
    hosts.mark(0)?;
    let [near, far] = &hosts.sides;
    near.node.add_addr(&near.interface, "10.0.0.11/24")?;
    near.node.add_addr(&near.interface, "fd00::11/64")?;
    let link = hosts.chain.lab.link(&near.node, hosts.router());
    let link = link
        .v4("10.0.9.1/24", "10.0.9.2/24")
        .v6("fd00:0:0:9::1/64", "fd00:0:0:9::2/64")
        .up()?;
    let second = Sniffer::on(&near.node, &link.a)?;
    let mut left = near.peer_with("left", |settings| {
        use_everything(settings);
        filter(settings);
    })?;
    let mut right = far.peer_with("right", use_everything)?;
    exchange(&mut hosts, &mut left, &mut right)?;

    let allowed: BTreeSet<IpAddr> = allowed
        .iter()
        .map(|address| address.parse())
        .collect::<Result<_, _>>()?;
    let offered = Description::of(&left)?.addresses("host");
    ensure!(offered == allowed, "{offered:?}");
    let second = second.stop()?;
    let first = hosts.sides[0].wire.packets();
    let all = sent(first).chain(sent(&second.packets));
    let senders: BTreeSet<IpAddr> = all.map(|packet| packet.source.ip()).collect();
    ensure!(senders == allowed && second.dropped == 0, "{senders:?}");
    Ok(())
}

/// All are offered, and what one of them is asked, that one answers.
fn five_addresses(family: Family) -> Result<()> {
    let mut hosts = Hosts::new(family)?;
    hosts.mark(0)?;
    let [near, far] = &hosts.sides;
    let addresses = near.five_addresses()?.into_iter().collect();
    let mut left = near.peer_with("left", |settings| {
        settings.set_ip_filter(Box::new(|_| true));
    })?;
    let mut right = far.peer_with("right", |settings| {
        // Time for a check of every pair before one is nominated.
        settings.set_host_acceptance_min_wait(Some(Duration::from_secs(1)));
    })?;
    exchange(&mut hosts, &mut right, &mut left)?;
    ensure!(Description::of(&left)?.addresses("host") == addresses);
    ensure!(answerers(hosts.sides[1].wire.packets())? == addresses);
    Ok(())
}

/// The left host is known by another address outside; the router changes the one into the other.
fn nat_1to1(family: Family, kind: RTCIceCandidateType) -> Result<()> {
    let mut hosts = Hosts::new(family)?;
    hosts.mark(0)?;
    let [near, far] = &hosts.sides;
    let inside = near.address;
    let outside: IpAddr = match family {
        Family::V4 => "192.0.2.1".parse()?,
        Family::V6 => "2001:db8::1".parse()?,
    };
    hosts.translate(&[inside], &[outside])?;
    let mut left = near.peer_with("left", |settings| {
        let mapping = if kind == RTCIceCandidateType::Host {
            format!("{outside}/{inside}")
        } else {
            // The candidate has a socket of its own, on the wildcard address: it is to be the only one.
            settings.set_ip_filter(Box::new(|_| false));
            outside.to_string()
        };
        settings.set_nat_1to1_ips(vec![mapping], kind);
    })?;
    let mut right = far.peer("right")?;
    exchange(&mut hosts, &mut left, &mut right)?;

    let offered = Description::of(&left)?;
    ensure!(offered.addresses(&kind.to_string()) == BTreeSet::from([outside]));
    ensure!(offered.ports().len() == 1);
    let port = *offered.ports().first().expect("one");
    let [near, far] = &mut hosts.sides;
    let packets = near.wire.packets();
    ensure!(sent(packets).all(|packet| packet.source == SocketAddr::new(inside, port)));
    let packets = far.wire.packets();
    ensure!(sent(packets).all(|packet| packet.destination == SocketAddr::new(outside, port)));
    ensure!(arrived(packets).all(|packet| packet.source == SocketAddr::new(outside, port)));
    Ok(())
}

/// Each time there are new credentials and new sockets in the place of the old ones, and the data channel and the
/// options of the session go on.
fn ice_restart(family: Family) -> Result<()> {
    let mut hosts = Hosts::new(family)?;
    hosts.mark(0)?;
    let of_session = [50, 51].map(|ttl| MessageOptions::NONE.with_ttl(ttl));
    let sessions = [0, 1].map(|at| hosts.sides[at].net.session(["left", "right"][at]));
    for (session, options) in sessions.iter().zip(of_session) {
        session.set_options(options)?;
    }
    let [mut left, mut right] = hosts.peers()?;
    let tracks = [Tracks::add(&left)?, Tracks::add(&right)?];
    connect(&mut left, &mut right)?;
    let media = [
        send_media(&left, &tracks[0]),
        send_media(&right, &tracks[1]),
    ];
    let mut numbers = Numbers::send(&left);
    numbers.go_on(&mut right)?;

    let mut old = descriptions(&left, &right)?;
    for _ in 0..3 {
        let sockets = hosts.sides.each_ref().map(Side::udp_ports);
        negotiate(&left, &right, true)?;
        let new = descriptions(&left, &right)?;
        for (((side, old), new), sockets) in hosts.sides.iter_mut().zip(&old).zip(&new).zip(sockets)
        {
            ensure!(old.ufrag != new.ufrag && old.password != new.password);
            let ports = new.ports();
            ensure!(ports.len() == 1 && ports.is_disjoint(&old.ports()));
            side.wire.wait_for(DEADLINE, |packets| {
                let from_new = sent(packets).filter(|p| ports.contains(&p.source.port()));
                count(from_new).iter().all(|count| *count >= ENOUGH)
            })?;
            let sockets = sockets?.len();
            until(
                DEADLINE,
                || {
                    let open = side.udp_ports();
                    format!("{sockets} sockets at {ports:?}, and not {open:?}")
                },
                || {
                    let open = side.udp_ports().expect("proc(5)");
                    let all_new = open.iter().all(|port| ports.contains(port));
                    Ok((all_new && open.len() == sockets).then_some(()))
                },
            )?;
            ensure!(side.net.snapshot().conns.len() == 1);
        }
        numbers.go_on(&mut right)?;
        old = new;
    }
    drop(media);
    numbers.all_arrive(&left, &mut right)?;
    for (number, side) in hosts.sides.iter_mut().enumerate() {
        let options = |_: &Packet, class| of_session[number].or(marking(number, 0, class));
        all_comply(sent(side.wire.packets()), options, options)?;
        ensure!(side.wire.dropped() == 0);
    }
    Ok(())
}

fn descriptions(left: &Peer, right: &Peer) -> Result<[Description; 2]> {
    let of = |peer| Description::of(peer).context("after negotiation");
    Ok([of(left)?, of(right)?])
}
