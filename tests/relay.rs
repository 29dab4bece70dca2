//! Peer connections through a TURN server, and what the headers of their datagrams say on the way to the server: the
//! options of what they wrap, and of the peer that it is for.

mod support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::{Packet, Sniffer, Test};
use perpacket_udp::MessageOptions;
use perpacket_webrtc::{CustomNet, PacketClass};
use webrtc::peer_connection::configuration::RTCConfiguration;
use webrtc::peer_connection::policy::ice_transport_policy::RTCIceTransportPolicy;

use support::connection::DEADLINE;
use support::coturn::Coturn;
use support::description::Description;
use support::hosts::{ENOUGH, marking};
use support::internet::{Host, Internet};
use support::media::{Tracks, send_everything};
use support::peer::{Peer, connect};
use support::relayed::{DONT_FRAGMENT, Relayed, Wrapping, attribute};
use support::wire::{CLASSES, all_comply, class_of, complies, count, sent_after};

/// Requests that bind a channel never arrive: UDP's payload starts with their type.
const NO_CHANNELS: &str = "table inet no_channels {
    chain c { type filter hook input priority 0; udp dport 3478 @th,64,16 0x0009 drop; }
}";

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("one_relay_by_channel", || marked(1, Wrapping::ChannelData)),
        ("two_relays_by_channel", || marked(2, Wrapping::ChannelData)),
        ("one_relay_by_indication", || {
            marked(1, Wrapping::Indication)
        }),
        ("the_server_is_asked_for_df", the_server_is_asked_for_df),
    ];
    perpacket_lab::main(tests)
}

/// All goes through the server.
fn relay_only(coturn: &Coturn) -> RTCConfiguration {
    RTCConfiguration {
        ice_servers: vec![coturn.turn()],
        ice_transport_policy: RTCIceTransportPolicy::Relay,
        ..RTCConfiguration::default()
    }
}

fn relay_peer(host: &Host, session: &str, coturn: &Coturn) -> Result<Peer> {
    host.peer(session, relay_only(coturn), |settings| {
        settings.set_relay_acceptance_min_wait(Some(Duration::ZERO));
    })
}

/// Sets the options of every class; returns the moments before and after.
fn mark(host: &Host, side: usize, phase: usize) -> Result<[SystemTime; 2]> {
    let before = SystemTime::now();
    for class in CLASSES.into_iter().chain([PacketClass::Turn]) {
        host.net
            .set_class_options(class, marking(side, phase, class))?;
    }
    Ok([before, SystemTime::now()])
}

/// The options of one peer, beside those of the classes of phase 1.
fn of_the_peer() -> MessageOptions {
    MessageOptions::NONE.with_ttl(211).with_tos(0xe4)
}

/// The options of the server, as a peer.
fn of_the_server() -> MessageOptions {
    MessageOptions::NONE.with_ttl(222).with_df_bit(true)
}

/// What a datagram for the peer is to have in a phase.
fn expected(phase: usize, class: PacketClass) -> MessageOptions {
    match phase {
        0 => marking(0, 0, class),
        1 => marking(0, 1, class),
        _ => of_the_peer().or(marking(0, 1, class)),
    }
}

/// What a datagram for the server is to have in a phase.
fn expected_of_control(phase: usize) -> MessageOptions {
    match phase {
        3 => of_the_server().or(marking(0, 1, PacketClass::Turn)),
        _ => marking(0, phase.min(1), PacketClass::Turn),
    }
}

/// Alice is behind the relay, and where there are two relays, Bob too.
fn marked(relays: usize, wrapping: Wrapping) -> Result<()> {
    let mut net = Internet::new()?;
    if wrapping == Wrapping::Indication {
        net.server.nft(NO_CHANNELS)?;
    }
    let mut relay_wire = Sniffer::on(&net.server, "eth0")?;
    let server = net.coturn.address;
    mark(&net.alice, 0, 0)?;
    mark(&net.bob, 1, 0)?;
    let mut alice = relay_peer(&net.alice, "alice", &net.coturn)?;
    let mut bob = if relays == 2 {
        relay_peer(&net.bob, "bob", &net.coturn)?
    } else {
        net.bob.peer("bob", RTCConfiguration::default(), |_| {})?
    };
    let tracks = [Tracks::add(&alice)?, Tracks::add(&bob)?];
    connect(&mut alice, &mut bob)?;
    let traffic = [
        send_everything(&alice, &tracks[0]),
        send_everything(&bob, &tracks[1]),
    ];
    let (of_alice, of_bob) = (Description::of(&alice)?, Description::of(&bob)?);
    ensure!(of_alice.candidates.iter().all(|(kind, _)| kind == "relay"));
    // The only candidate that Bob has.
    let [(_, peer)] = Vec::from_iter(of_bob.candidates)[..] else {
        anyhow::bail!("Bob has other candidates than one");
    };

    let mut phases = vec![[SystemTime::UNIX_EPOCH; 2]];
    wait_for_all(&mut net.alice, server, peer, phases[0][1])?;
    phases.push(mark(&net.alice, 0, 1)?);
    wait_for_all(&mut net.alice, server, peer, phases[1][1])?;
    let before = SystemTime::now();
    net.alice.net.set_peer_options(peer, of_the_peer())?;
    phases.push([before, SystemTime::now()]);
    wait_for_all(&mut net.alice, server, peer, phases[2][1])?;
    let before = SystemTime::now();
    net.alice.net.set_peer_options(server, of_the_server())?;
    phases.push([before, SystemTime::now()]);
    wait_for_all(&mut net.alice, server, peer, phases[3][1])?;
    drop(traffic);
    // The allocation is given back, which is the last thing that is said to the server.
    alice.block_on(alice.connection.close())?;
    let farewell = |packets: &[Packet]| {
        let late = sent_after(packets, net.alice.address, phases[3][1]);
        !Relayed::of(late, server).control.is_empty()
    };
    net.alice.wire.wait_for(DEADLINE, farewell)?;

    let packets = net.alice.wire.packets().to_vec();
    ensure!(net.alice.wire.dropped() == 0);
    let all = Relayed::of(
        sent_after(&packets, net.alice.address, phases[0][0]),
        server,
    );
    for phase in 0..phases.len() {
        let from = phases[phase][1];
        let until = phases
            .get(phase + 1)
            .map_or(SystemTime::now(), |next| next[0]);
        let during = |packet: &&Packet| packet.at > from && packet.at < until;
        let previous = phase.saturating_sub(1);
        all_comply(
            all.inner().filter(during),
            |_, class| expected(phase, class),
            |_, class| expected(previous, class),
        )
        .with_context(|| format!("phase {phase}"))?;
        for packet in all.control.iter().filter(during) {
            let options = expected_of_control(phase);
            ensure!(
                complies(packet, &options),
                "phase {phase}, not {options:?}: {packet}"
            );
        }
    }
    let ways = [Wrapping::Indication, Wrapping::ChannelData].map(|way| {
        let of_way = all.to_peers.iter().filter(|(by, _)| *by == way);
        count(of_way.map(|(_, packet)| packet))
    });
    // The first checks go by indication, while the channel is being bound.
    ensure!(ways[0][0] > 0, "{ways:?}");
    let usual = ways[usize::from(wrapping == Wrapping::ChannelData)];
    ensure!(usual.iter().all(|count| *count >= 3 * ENOUGH), "{ways:?}");
    ensure!(
        wrapping == Wrapping::ChannelData || ways[1] == [0; 4],
        "{ways:?}"
    );

    // Between two relays of one server nothing is on the wire.
    if relays == 1 {
        let relayed = of_alice.candidates.first().context("no candidate")?.1;
        relayed_by_coturn(relay_wire.packets(), &net.alice, server, relayed)?;
    }
    Ok(())
}

/// Fails unless coturn did with the headers what is written down at [`Coturn`].
fn relayed_by_coturn(
    wire: &[Packet],
    client: &Host,
    server: SocketAddr,
    relayed: SocketAddr,
) -> Result<()> {
    let of_client = wire
        .iter()
        .filter(|packet| [packet.source.ip(), packet.destination.ip()].contains(&client.address));
    let wrapped = Relayed::of(of_client, server);
    let plain = |to_peer: bool| {
        wire.iter().filter(move |packet| {
            relayed
                == if to_peer {
                    packet.source
                } else {
                    packet.destination
                }
        })
    };
    let from_peers = wrapped.from_peers.iter().map(|(_, packet)| packet);
    same_marking(wrapped.inner(), plain(true)).context("to peers")?;
    same_marking(plain(false), from_peers).context("from peers")
}

/// By the payload, which appears once: all is encrypted, or has a transaction id.
fn same_marking<'a>(
    before: impl Iterator<Item = &'a Packet>,
    after: impl Iterator<Item = &'a Packet>,
) -> Result<()> {
    let before: HashMap<_, _> = before.map(|packet| (&packet.payload, packet)).collect();
    let mut seen = 0;
    for packet in after {
        if let Some(before) = before.get(&packet.payload) {
            ensure!(
                (packet.tos, packet.ttl, packet.df) == (before.tos, 64, true),
                "{before} became {packet}"
            );
            seen += 1;
        }
    }
    ensure!(seen >= 4 * ENOUGH, "{seen}");
    Ok(())
}

/// Waits until there was enough of every class for the peer, since a moment.
fn wait_for_all(
    host: &mut Host,
    server: SocketAddr,
    peer: SocketAddr,
    since: SystemTime,
) -> Result<()> {
    let address = host.address;
    host.wire.wait_for(DEADLINE, |packets| {
        // Channels are bound at any time before.
        let all = Relayed::of(sent_after(packets, address, SystemTime::UNIX_EPOCH), server);
        let fresh = all
            .inner()
            .filter(|packet| packet.at > since && packet.destination == peer);
        count(fresh).iter().all(|count| *count >= ENOUGH)
    })?;
    Ok(())
}

/// The server's system sets no DF bit by itself, and Alice's policy wants one for DTLS.
fn the_server_is_asked_for_df() -> Result<()> {
    let asking = CustomNet::builder().dont_fragment(true).build();
    let mut net = Internet::with([asking, CustomNet::new()])?;
    net.server.nft(NO_CHANNELS)?;
    net.server.sysctl("net.ipv4.ip_no_pmtu_disc", "1")?;
    let options = MessageOptions::NONE.with_df_bit(true);
    net.alice
        .net
        .set_class_options(PacketClass::Dtls, options)?;
    net.alice
        .net
        .policy()
        .set_default_options(MessageOptions::NONE.with_df_bit(false))?;
    let mut alice = relay_peer(&net.alice, "alice", &net.coturn)?;
    let mut bob = net.bob.peer("bob", RTCConfiguration::default(), |_| {})?;
    let tracks = Tracks::add(&alice)?;
    Tracks::add(&bob)?;
    connect(&mut alice, &mut bob)?;
    let traffic = send_everything(&alice, &tracks);
    let server = net.coturn.address;
    let relayed = Description::of(&alice)?.candidates;
    let relayed = relayed.first().context("no candidate")?.1;
    let arrived = |packet: &&Packet| packet.source == relayed;
    let enough = |packets: &[Packet]| {
        let counts = count(packets.iter().filter(arrived));
        counts.iter().all(|count| *count >= ENOUGH)
    };
    net.bob.wire.wait_for(DEADLINE, enough)?;
    drop(traffic);

    for packet in net.alice.wire.packets() {
        let of_packet = Relayed::of([packet].into_iter(), server);
        if let [(_, inner)] = &of_packet.to_peers[..] {
            let asks = attribute(&packet.payload, DONT_FRAGMENT).is_some();
            ensure!(
                asks == (class_of(inner) == Some(PacketClass::Dtls)),
                "{inner}"
            );
        }
    }
    for packet in net.bob.wire.packets().iter().filter(arrived) {
        let asked_for = class_of(packet) == Some(PacketClass::Dtls);
        ensure!(packet.df == asked_for, "{packet}");
    }
    Ok(())
}
