//! An interface or an address goes away below a peer connection, and comes back: what was sent meanwhile arrives then.

mod support;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::{Packet, Test, require_program, until};
use perpacket_webrtc::{CustomNet, DropCause, Event, PacketClass};
use tokio::sync::broadcast::error::TryRecvError;
use webrtc::api::setting_engine::SettingEngine;
use webrtc::data_channel::data_channel_state::RTCDataChannelState;
use webrtc::ice_transport::ice_connection_state::RTCIceConnectionState;

use support::connection::DEADLINE;
use support::description::Description;
use support::exchange::arrived;
use support::hosts::{Family, Hosts, Side, marking, on_link};
use support::numbers::Numbers;
use support::peer::{Peer, connect, negotiate};
use support::wire::all_comply;

/// How many datagrams an outage costs at least.
const SEVERAL: u64 = 3;

fn main() -> ExitCode {
    use Family::{V4, V6};
    use Sockets::{Mux, Own};
    let tests: Vec<Test> = vec![
        ("interface_down_and_up_v4", || down_and_up(Own, V4)),
        ("interface_down_and_up_v6", || down_and_up(Own, V6)),
        ("interface_down_and_up_mux_v4", || down_and_up(Mux, V4)),
        ("interface_down_and_up_mux_v6", || down_and_up(Mux, V6)),
        ("interface_replaced_v4", || replaced(Own, V4)),
        ("interface_replaced_v6", || replaced(Own, V6)),
        ("interface_replaced_mux_v4", || replaced(Mux, V4)),
        ("interface_replaced_mux_v6", || replaced(Mux, V6)),
        ("last_address_away_v4", || last_address(Own, V4)),
        ("last_address_away_v6", || last_address(Own, V6)),
        ("last_address_away_mux_v4", || last_address(Mux, V4)),
        ("last_address_away_mux_v6", || last_address(Mux, V6)),
        ("one_of_two_addresses_away_v4", || one_of_two(Own, V4)),
        ("one_of_two_addresses_away_v6", || one_of_two(Own, V6)),
        ("one_of_two_addresses_away_mux_v4", || one_of_two(Mux, V4)),
        ("one_of_two_addresses_away_mux_v6", || one_of_two(Mux, V6)),
        ("another_address_v4", || another_address(Own, V4)),
        ("another_address_v6", || another_address(Own, V6)),
        ("another_address_mux_v4", || another_address(Mux, V4)),
        ("another_address_mux_v6", || another_address(Mux, V6)),
        ("stock_does_not_survive_v4", || stock_does_not_survive(V4)),
        ("stock_does_not_survive_v6", || stock_does_not_survive(V6)),
        (
            "stock_does_not_see_another_address",
            stock_does_not_see_another_address,
        ),
    ];
    perpacket_lab::main(tests)
}

/// What the left host sends through.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sockets {
    /// One for each address and peer connection.
    Own,
    /// One on the wildcard address, for all.
    Mux,
}

/// Says soon that nothing arrives, and gives up late.
fn impatient(settings: &mut SettingEngine) {
    let [disconnected, failed, keepalive] = [1000, 60_000, 100].map(Duration::from_millis);
    settings.set_ice_timeouts(Some(disconnected), Some(failed), Some(keepalive));
}

fn peer(
    sockets: Sockets,
    side: &Side,
    settings: impl FnOnce(&mut SettingEngine) + Send,
) -> Result<Peer> {
    match sockets {
        Sockets::Own => side.peer_with("left", settings),
        Sockets::Mux => {
            let any = side.family().any();
            let (mux, address) = (side.mux(&[(any, 5000).into()])?, side.address);
            // The peer connection keeps it.
            side.mux_peer_with(&mux, "left", |all| {
                all.set_ip_filter(Box::new(move |of_host| of_host == address));
                settings(all);
            })
        }
    }
}

fn hosts(family: Family) -> Result<Hosts> {
    let net = || CustomNet::builder().icmp_errors(true).build();
    let hosts = Hosts::with(family, [net(), net()])?;
    hosts.mark(0)?;
    Ok(hosts)
}

/// Lets the network of the left host go away and come back while numbers are sent to the right one. Where the kernel
/// tells senders of it, datagrams are dropped for `cause`.
///
/// The right one offers, so it chooses the address of the left host that both use.
fn survives(
    sockets: Sockets,
    hosts: &mut Hosts,
    goes_away: impl FnOnce(&Hosts) -> Result<()>,
    comes_back: impl FnOnce(&Hosts) -> Result<()>,
    cause: Option<DropCause>,
) -> Result<()> {
    let [near, far] = &hosts.sides;
    let mut left = peer(sockets, near, impatient)?;
    let mut right = far.peer_with("right", impatient)?;
    connect(&mut right, &mut left)?;
    let mut numbers = Numbers::send(&left);
    numbers.go_on(&mut right)?;
    let ports = near.udp_ports()?;
    let mut events = near.net.events();

    goes_away(hosts)?;
    // The right one may still hear from the left.
    reaches(&left, RTCIceConnectionState::Disconnected)?;
    if let Some(cause) = cause {
        let session = near.net.session("left");
        let mut reported = false;
        let named = until(
            DEADLINE,
            || format!("counters and events that name {cause}"),
            || {
                loop {
                    match events.try_recv() {
                        Ok(Event::Dropped { cause: of, .. }) => reported |= of == cause,
                        Ok(_) | Err(TryRecvError::Lagged(_)) => {}
                        Err(_) => break,
                    }
                }
                let total = session.total();
                let classes = [PacketClass::Stun, PacketClass::Dtls];
                let dropped = classes.map(|class| total.class(class).dropped_for(cause));
                let enough = dropped.iter().all(|dropped| *dropped >= SEVERAL);
                Ok((reported && enough).then_some(()))
            },
        );
        named.with_context(|| format!("event: {reported}, {:?}", session.total()))?;
    }

    comes_back(hosts)?;
    for peer in [&left, &right] {
        reaches(peer, RTCIceConnectionState::Connected)?;
    }
    numbers.all_arrive(&left, &mut right)?;
    ensure!(hosts.sides[0].udp_ports()? == ports);
    arrive_marked(hosts)
}

/// Every datagram that came to the right host had the options of its class.
fn arrive_marked(hosts: &mut Hosts) -> Result<()> {
    let routers = hosts.routers();
    let options = |_: &Packet, class| {
        let sent = marking(0, 0, class);
        sent.with_ttl(sent.ttl.expect("part of a marking") - routers)
    };
    let far = &mut hosts.sides[1];
    all_comply(arrived(far.wire.packets()), options, options)?;
    ensure!(far.wire.dropped() == 0);
    Ok(())
}

fn reaches(peer: &Peer, state: RTCIceConnectionState) -> Result<()> {
    let what = || format!("{state}, now {}", peer.connection.ice_connection_state());
    let reached = || Ok((peer.connection.ice_connection_state() == state).then_some(()));
    Ok(until(DEADLINE, what, reached)?)
}

fn down_and_up(sockets: Sockets, family: Family) -> Result<()> {
    survives(
        sockets,
        &mut hosts(family)?,
        |hosts| {
            let side = &hosts.sides[0];
            Ok(side.node.link_set_down(&side.interface)?)
        },
        |hosts| {
            let side = &hosts.sides[0];
            side.node.link_set_up(&side.interface)?;
            side.restore_default_route()
        },
        Some(DropCause::Unreachable),
    )
}

/// The interface is gone, and another takes its name and its address, as when a cable modem or a VPN starts anew.
fn replaced(sockets: Sockets, family: Family) -> Result<()> {
    let ip = require_program("ip", "apt-get install iproute2")?;
    survives(
        sockets,
        &mut hosts(family)?,
        |hosts| {
            let side = &hosts.sides[0];
            let mut command = Command::new(ip);
            let command = command.args(["link", "delete", &side.interface]);
            side.node.output(command)?;
            Ok(())
        },
        |hosts| {
            let side = &hosts.sides[0];
            let link = hosts.chain.lab.link(&side.node, hosts.router());
            let [own, gateway] = [side.address, side.gateway].map(on_link);
            link.names(&side.interface, &hosts.chain.links[0].b)
                .v4(&own, &gateway)
                .up()?;
            side.restore_default_route()
        },
        match (sockets, family) {
            (Sockets::Mux, Family::V6) => Some(DropCause::Invalid),
            _ => Some(DropCause::Unreachable),
        },
    )
}

/// The only address of its family on the host.
fn last_address(sockets: Sockets, family: Family) -> Result<()> {
    address_away(sockets, family, hosts(family)?)
}

/// Another one stays, with the routes.
fn one_of_two(sockets: Sockets, family: Family) -> Result<()> {
    let mut hosts = hosts(family)?;
    let side = &mut hosts.sides[0];
    side.address = other_address(family);
    side.node
        .add_addr(&side.interface, &on_link(side.address))?;
    address_away(sockets, family, hosts)
}

fn address_away(sockets: Sockets, family: Family, mut hosts: Hosts) -> Result<()> {
    let cause = match (sockets, family) {
        (_, Family::V4) => Some(DropCause::Unreachable),
        // The mux names the source of each datagram, and the kernel knows no such address.
        (Sockets::Mux, Family::V6) => Some(DropCause::Invalid),
        // The kernel goes on sending from an IPv6 address that was bound to, and says nothing.
        (Sockets::Own, Family::V6) => None,
    };
    survives(
        sockets,
        &mut hosts,
        |hosts| remove_address(&hosts.sides[0]),
        |hosts| {
            let side = &hosts.sides[0];
            add_address(side, side.address)
        },
        cause,
    )
}

fn remove_address(side: &Side) -> Result<()> {
    let address = on_link(side.address);
    Ok(side.node.del_addr(&side.interface, &address)?)
}

fn add_address(side: &Side, address: IpAddr) -> Result<()> {
    side.node.add_addr(&side.interface, &on_link(address))?;
    side.restore_default_route()
}

/// The address that a host has afterwards.
fn other_address(family: Family) -> IpAddr {
    match family {
        Family::V4 => [10, 0, 0, 77].into(),
        Family::V6 => [0xfd00, 0, 0, 0, 0, 0, 0, 77].into(),
    }
}

/// A host moves to another address for good: after a restart of ICE the data channel goes on from there. What
/// webrtc-ice offers for a mux are the addresses of the beginning, so the peer learns the new one from a check.
fn another_address(sockets: Sockets, family: Family) -> Result<()> {
    let mut hosts = hosts(family)?;
    let [near, far] = &hosts.sides;
    let mut left = peer(sockets, near, roaming)?;
    let mut right = far.peer_with("right", impatient)?;
    connect(&mut left, &mut right)?;
    let mut numbers = Numbers::send(&left);
    numbers.go_on(&mut right)?;

    let address = other_address(family);
    remove_address(near)?;
    add_address(near, address)?;
    negotiate(&left, &right, true)?;
    let offered = Description::of(&left)?.addresses("host");
    let expected = match sockets {
        Sockets::Own => address,
        Sockets::Mux => near.address,
    };
    ensure!(offered == BTreeSet::from([expected]), "{offered:?}");
    numbers.all_arrive(&left, &mut right)?;
    arrive_marked(&mut hosts)
}

fn roaming(settings: &mut SettingEngine) {
    impatient(settings);
    let link_local = |ip| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    settings.set_ip_filter(Box::new(move |ip| !link_local(ip)));
}

/// The same outage as in `interface_down_and_up` closes the channel on webrtc-rs's own sockets.
fn stock_does_not_survive(family: Family) -> Result<()> {
    let hosts = hosts(family)?;
    let [near, far] = &hosts.sides;
    let mut left = near.stock_peer_with(impatient)?;
    let mut right = far.peer_with("right", impatient)?;
    connect(&mut left, &mut right)?;
    let mut numbers = Numbers::send(&left);
    numbers.go_on(&mut right)?;
    near.node.link_set_down(&near.interface)?;
    let closed = || {
        let state = left.channel.get().ready_state();
        Ok((state == RTCDataChannelState::Closed).then_some(()))
    };
    Ok(until(DEADLINE, || "a closed channel".to_owned(), closed)?)
}

/// webrtc-rs's own network knows the addresses that there were when the peer connection was made, and no others.
fn stock_does_not_see_another_address() -> Result<()> {
    let hosts = hosts(Family::V4)?;
    let [near, far] = &hosts.sides;
    let mut left = near.stock_peer_with(roaming)?;
    let mut right = far.peer_with("right", impatient)?;
    connect(&mut left, &mut right)?;
    remove_address(near)?;
    add_address(near, other_address(Family::V4))?;
    negotiate(&left, &right, true)?;
    let offered = Description::of(&left)?.candidates;
    ensure!(offered.is_empty(), "{offered:?}");
    Ok(())
}
