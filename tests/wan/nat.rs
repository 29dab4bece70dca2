//! Addresses and ports that change on the way.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use perpacket_lab::{Direction, until};

use super::scene::{PORT, SOON, Scene, checksums_are_right, icmp, quoted, set_ttl};

fn outside(of: IpAddr) -> IpAddr {
    let address = if of.is_ipv4() {
        "203.0.113.1"
    } else {
        "2001:db8::1"
    };
    address.parse().expect("an address")
}

pub(crate) fn nat_translates_both_ways() -> Result<()> {
    let mut scene = Scene::load("nat")?;
    for (left, right) in scene.wan.pairs() {
        let there = scene.right(right)?;
        let sockets = [scene.left(left)?, scene.left(left)?];
        let mut ports = Vec::new();
        for (number, here) in (0..).zip(&sockets) {
            let payload = [number, u8::from(left.is_ipv6())];
            here.send_to(&payload, (right, PORT))?;
            let arrived = scene.arrived(&payload)?;
            let from = there.recv_from(&mut [0; 10])?.1;
            ensure!(
                arrived.source == from && from.ip() == outside(left),
                "{arrived}"
            );
            ensure!(from.port() != here.local_addr()?.port());
            there.send_to(b"back", from)?;
            let (length, sender) = here.recv_from(&mut [0; 10])?;
            ensure!(length == 4 && sender == SocketAddr::new(right, PORT));
            ports.push(from.port());
        }
        ensure!(ports[0] != ports[1]);
        let home = |p: &perpacket_lab::Packet| {
            p.direction == Direction::Incoming && p.destination.ip() == left && p.udp.is_some()
        };
        ensure!(
            scene
                .near
                .packets()
                .iter()
                .filter(|p| home(p))
                .all(checksums_are_right)
        );
        // Nobody has asked for these, nor for what goes to the inside address.
        let before = scene.wan.counters().hops[1].no_mapping;
        there.send_to(b"?", (outside(left), 55_555))?;
        there.send_to(b"?", sockets[0].local_addr()?)?;
        let wan = &scene.wan;
        until(
            SOON,
            || "two refusals".to_owned(),
            || Ok((wan.counters().hops[1].no_mapping == before + 2).then_some(())),
        )?;
        sockets[0].set_read_timeout(Some(Duration::from_millis(1)))?;
        let nothing = sockets[0].recv(&mut [0; 10]).expect_err("nothing comes");
        ensure!(nothing.kind() == ErrorKind::WouldBlock, "{nothing}");
    }
    Ok(())
}

/// Each side sees in the quote what it knows, checksum included.
pub(crate) fn icmp_errors_come_home() -> Result<()> {
    let mut scene = Scene::load("nat")?;
    for (family, (left, right)) in [40, 60].into_iter().zip(scene.wan.pairs()) {
        let socket = scene.left(left)?;
        for ttl in 1..=5 {
            set_ttl(&socket, ttl)?;
            socket.send_to(&[family + ttl; 50], (right, PORT))?;
            let (sent, error) = scene.error_about(&[family + ttl; 50])?;
            let from = if ttl == 5 {
                right
            } else {
                scene.wan.hop(ttl.into()).address(left)
            };
            ensure!(error.source.ip() == from, "{error}");
            ensure!(icmp(&error)?.is_time_exceeded() == (ttl < 5), "{error}");
            let quote = quoted(&error)?;
            ensure!(
                quote.source == sent.source && quote.destination == sent.destination,
                "{quote}"
            );
            ensure!(quote.payload == [family + ttl; 50][..], "{quote}");
            if left.is_ipv4() {
                ensure!(checksums_are_right(quote), "{quote}");
            }
        }
        // The right host's own complaint quotes what reached it.
        let complaint = scene.far.find(SOON, |p| {
            p.direction == Direction::Outgoing
                && p.icmp.as_ref().is_some_and(|i| i.quoted.is_some())
                && p.source.ip() == right
        })?;
        ensure!(
            quoted(&complaint)?.source.ip() == outside(left),
            "{complaint}"
        );
        // And the left host's complaint about an answer to a socket that is gone.
        let there = scene.right(right)?;
        set_ttl(&socket, 64)?;
        socket.send_to(b"and goodbye", (right, PORT))?;
        let from = there.recv_from(&mut [0; 20])?.1;
        drop(socket);
        there.send_to(b"too late", from)?;
        let complaint = scene.far.find(SOON, |p| {
            p.direction == Direction::Incoming
                && p.icmp
                    .as_ref()
                    .is_some_and(perpacket_lab::Icmp::is_port_unreachable)
                && p.source.ip() == outside(left)
        })?;
        ensure!(checksums_are_right(&complaint), "{complaint}");
        ensure!(quoted(&complaint)?.destination == from, "{complaint}");
    }
    Ok(())
}
