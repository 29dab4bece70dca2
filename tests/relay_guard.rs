//! What others send to the sockets of relayed and server-reflexive candidates: nothing of it reaches webrtc-rs, which
//! would take it for the server's.

mod support;

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use etherparse::PacketBuilder;
use perpacket_lab::{Node, Packet, Sniffer, Test, until};
use perpacket_webrtc::{DropCause, Session};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use webrtc::ice_transport::ice_server::RTCIceServer;
use webrtc::peer_connection::configuration::RTCConfiguration;
use webrtc::peer_connection::policy::ice_transport_policy::RTCIceTransportPolicy;

use support::connection::{self, DEADLINE};
use support::description::Description;
use support::internet::Internet;
use support::numbers::Numbers;
use support::peer::{Peer, connect};

/// The STUN server hears no Binding request.
const LOSE_REQUESTS: &str = "table inet loss {
    chain c { type filter hook input priority 0; udp dport 3478 @th,64,16 0x0001 drop; }
}";
const LOSE_NO_MORE: &str = "delete table inet loss";

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("a_relay_survives_strangers_and_forgeries", relay_survives),
        ("a_relay_of_the_stock_does_not", stock_relay_dies),
        ("a_lost_request_is_sent_again", lost_request),
        ("a_lost_request_is_lost_to_the_stock", stock_lost_request),
        ("forged_answers_are_refused", forged_answers),
        (
            "forged_answers_are_believed_by_the_stock",
            stock_forged_answers,
        ),
    ];
    perpacket_lab::main(tests)
}

/// What ends the reader of webrtc-rs's TURN client: each of them does, from whomever it comes.
const DEADLY: [(&str, &[u8]); 6] = [
    ("a channel that is not bound", b"\x4f\xff\x00\x04data"),
    ("a channel that cannot be", b"\x7f\xff\x00\x04data"),
    ("a request", b"\x00\x01\x00\x00\x21\x12\xa4\x42transactions"),
    (
        "a message that is cut short",
        b"\x01\x03\x00\x40\x21\x12\xa4\x42transactions",
    ),
    (
        "an attribute that does not fit",
        b"\x01\x03\x00\x04\x21\x12\xa4\x42transactions\x00\x16\x00\x08",
    ),
    (
        "data from nobody",
        b"\x00\x17\x00\x08\x21\x12\xa4\x42transactions\x00\x13\x00\x04data",
    ),
];

/// A peer of which all goes through the relay.
fn relay_only(net: &Internet) -> RTCConfiguration {
    RTCConfiguration {
        ice_servers: vec![net.coturn.turn()],
        ice_transport_policy: RTCIceTransportPolicy::Relay,
        ..RTCConfiguration::default()
    }
}

/// Sends numbers from Bob to Alice, who is behind a relay. Returns her socket, and where the relay has her.
fn through_the_relay(
    net: &mut Internet,
    alice: &mut Peer,
    bob: &mut Peer,
) -> Result<(Numbers, SocketAddr, SocketAddr)> {
    connect(alice, bob)?;
    let mut numbers = Numbers::send(bob);
    numbers.go_on(alice)?;
    let server = net.coturn.address;
    let to_server = |packet: &Packet| packet.destination == server;
    let socket = net.alice.wire.find(DEADLINE, to_server)?.source;
    let description = Description::of(alice)?;
    let relayed = description.candidates.first().context("no candidate")?.1;
    Ok((numbers, socket, relayed))
}

fn relay_survives() -> Result<()> {
    const TIMES: u64 = 20;
    let mut net = Internet::new()?;
    let mut alice = net.alice.peer("alice", relay_only(&net), |_| {})?;
    let mut bob = net.bob.peer("bob", RTCConfiguration::default(), |_| {})?;
    let (mut numbers, socket, relayed) = through_the_relay(&mut net, &mut alice, &mut bob)?;
    let session = net.alice.net.session("alice");
    let refused =
        || [DropCause::Stranger, DropCause::Unexpected].map(|cause| drops(&session, cause));
    ensure!(refused() == [0, 0], "{:?} before the attack", refused());

    let neighbour = net.neighbour.run(|| UdpSocket::bind("0.0.0.0:0"))?;
    let forger = Forger::new(&net.neighbour, net.coturn.address)?;
    let noise = [0xff; 1200];
    let mut each = 0;
    for _ in 0..TIMES {
        for deadly in DEADLY.iter().map(|(_, bytes)| *bytes).chain([&noise[..]]) {
            neighbour.send_to(deadly, socket)?;
            forger.send(deadly, socket)?;
            each += 1;
        }
        // A socket has room for so much and no more.
        wait_until_refused(&session, [each, each])?;
    }
    numbers.go_on(&mut alice)?;

    // Whoever is at the address of a peer may send through the relay: something that the TURN client takes for STUN
    // because it begins as STUN goes on, and more than webrtc-rs receives at once.
    let other = net.bob.node.run(|| UdpSocket::bind("0.0.0.0:0"))?;
    let mut like_stun = *b"\x21\x12\xa4\x42 at the place of the cookie";
    // Only the peer itself has a channel.
    let peer = Description::of(&bob)?
        .candidates
        .first()
        .context("no candidate")?
        .1;
    let as_peer = Forger::new(&net.bob.node, peer)?;
    for _ in 0..TIMES {
        as_peer.send(&like_stun, relayed)?;
        like_stun[5] ^= 1;
    }
    let each_and_those = each + TIMES;
    wait_until_refused(&session, [each, each_and_those])?;
    for _ in 0..TIMES {
        other.send_to(&[0x80; 8193], relayed)?;
    }
    // Some are lost, being in pieces on two ways.
    wait_until_refused(&session, [each, each_and_those + 1])?;
    numbers.all_arrive(&bob, &mut alice)
}

/// One datagram from somebody who has nothing to do with it.
fn stock_relay_dies() -> Result<()> {
    let mut net = Internet::new()?;
    let mut alice = net.alice.stock_peer(relay_only(&net), |_| {})?;
    let mut bob = net.bob.peer("bob", RTCConfiguration::default(), |_| {})?;
    let (_numbers, socket, _) = through_the_relay(&mut net, &mut alice, &mut bob)?;
    let neighbour = net.neighbour.run(|| UdpSocket::bind("0.0.0.0:0"))?;
    neighbour.send_to(DEADLY[0].1, socket)?;
    // What arrives now nobody reads.
    let unread = || {
        let table = net
            .alice
            .node
            .run(|| fs::read_to_string("/proc/thread-self/net/udp"));
        let unread = table
            .ok()
            .and_then(|table| bytes_unread(&table, socket.port()));
        Ok((unread.unwrap_or(0) > 50_000).then_some(()))
    };
    Ok(until(DEADLINE, || "unread datagrams".to_owned(), unread)?)
}

/// `sl local_address rem_address st tx_queue:rx_queue`, all in hexadecimal (proc(5)).
fn bytes_unread(table: &str, port: u16) -> Option<u64> {
    let ending = format!(":{port:04X}");
    let mut rows = table.lines().map(|line| line.split_whitespace());
    let mut row = rows.find(|row| {
        row.clone()
            .nth(1)
            .is_some_and(|local| local.ends_with(&ending))
    })?;
    let (_, received) = row.nth(4)?.split_once(':')?;
    u64::from_str_radix(received, 16).ok()
}

fn lost_request() -> Result<()> {
    let found = server_reflexive(false, |_, _, _| Ok(()))?;
    ensure!(found.is_some());
    Ok(())
}

fn stock_lost_request() -> Result<()> {
    let found = server_reflexive(true, |_, _, _| Ok(()))?;
    ensure!(found.is_none(), "{found:?}");
    Ok(())
}

/// From others with the right transaction, and from the server's address with another one.
fn forged_answers() -> Result<()> {
    let found = server_reflexive(false, |net, session, request| {
        let stranger = net.neighbour.run(|| UdpSocket::bind("0.0.0.0:0"))?;
        let forger = Forger::new(&net.neighbour, net.coturn.address)?;
        let right = forged_answer(&request.payload[8..20]);
        let wrong = forged_answer(b"transactions");
        for round in 1..=100 {
            stranger.send_to(&right, request.source)?;
            stranger.send_to(b"noise", request.source)?;
            forger.send(&wrong, request.source)?;
            forger.send(b"noise", request.source)?;
            wait_until_refused(session, [2 * round, 2 * round])?;
        }
        Ok(())
    })?;
    ensure!(found.is_some_and(|found| found != FORGED), "{found:?}");
    Ok(())
}

fn stock_forged_answers() -> Result<()> {
    let found = server_reflexive(true, |net, _, request| {
        let stranger = net.neighbour.run(|| UdpSocket::bind("0.0.0.0:0"))?;
        stranger.send_to(&forged_answer(b"transactions"), request.source)?;
        Ok(())
    })?;
    ensure!(found == Some(FORGED), "{found:?}");
    Ok(())
}

const FORGED: SocketAddr =
    SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 66)), 6666);

/// A success response that maps to [`FORGED`] (RFC 8489 §14.2).
fn forged_answer(transaction: &[u8]) -> Vec<u8> {
    let mut answer = b"\x01\x01\x00\x0c\x21\x12\xa4\x42".to_vec();
    answer.extend(transaction);
    // Each byte with that of the magic cookie.
    answer.extend(b"\x00\x20\x00\x08\x00\x01\x3b\x18\xea\x12\xd5\x00");
    answer
}

/// Gathers Alice's server-reflexive candidate, while requests are lost until `meanwhile` is done. It gets the first
/// request, which arrives nowhere.
fn server_reflexive(
    stock: bool,
    meanwhile: impl FnOnce(&Internet, &Session, &Packet) -> Result<()>,
) -> Result<Option<SocketAddr>> {
    let net = Internet::new()?;
    let mut wire = Sniffer::on(&net.server, "eth0")?;
    let servers: Vec<RTCIceServer> = vec![net.coturn.stun()];
    let configuration = RTCConfiguration {
        ice_servers: servers,
        ..RTCConfiguration::default()
    };
    let alice = if stock {
        net.alice.stock_peer(configuration, |_| {})?
    } else {
        net.alice.peer("alice", configuration, |_| {})?
    };
    net.server.nft(LOSE_REQUESTS)?;
    alice.block_on(alice.channel.offer(&alice.connection))?;
    let connection = std::sync::Arc::clone(&alice.connection);
    let mut gathering = alice.spawn(async move { connection::offer(&connection, false).await });
    let to_server = |packet: &Packet| packet.destination == net.coturn.address;
    let request = wire.find(DEADLINE, to_server)?;
    meanwhile(&net, &net.alice.net.session("alice"), &request)?;
    net.server.nft(LOSE_NO_MORE)?;
    let offer = alice.block_on(&mut gathering.0)??;
    let candidates = Description::parse(&offer.sdp)?.candidates;
    let mut reflexive = candidates.into_iter().filter(|(kind, _)| kind == "srflx");
    let found = reflexive.next().map(|(_, address)| address);
    // There is no NAT: the address is that of the socket.
    ensure!(
        found.is_none_or(|found| found == request.source || found == FORGED),
        "{found:?}"
    );
    ensure!(reflexive.next().is_none());
    Ok(found)
}

fn drops(session: &Session, cause: DropCause) -> u64 {
    session.total().total().dropped_for(cause)
}

/// Waits until so many were refused, of strangers and of what was unexpected.
fn wait_until_refused(session: &Session, expected: [u64; 2]) -> Result<()> {
    let causes = [DropCause::Stranger, DropCause::Unexpected];
    let counted = || causes.map(|cause| drops(session, cause));
    let all = || {
        let [strangers, unexpected] = counted();
        Ok((strangers == expected[0] && unexpected >= expected[1]).then_some(()))
    };
    until(DEADLINE, || format!("{expected:?} refused"), all)
        .with_context(|| format!("{:?}", counted()))
}

/// Sends from an address that is another's.
struct Forger {
    socket: Socket,
    from: SocketAddr,
}

impl Forger {
    fn new(node: &Node, from: SocketAddr) -> Result<Self> {
        let raw = Protocol::from(255);
        let socket = node.run(|| Socket::new(Domain::IPV4, Type::RAW, Some(raw)))?;
        Ok(Self { socket, from })
    }

    fn send(&self, payload: &[u8], to: SocketAddr) -> Result<()> {
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (self.from.ip(), to.ip()) else {
            anyhow::bail!("IPv4 only");
        };
        let packet = PacketBuilder::ipv4(source.octets(), destination.octets(), 64)
            .udp(self.from.port(), to.port());
        let mut bytes = Vec::new();
        packet.write(&mut bytes, payload)?;
        self.socket.send_to(&bytes, &SockAddr::from(to))?;
        Ok(())
    }
}
