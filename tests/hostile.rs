//! A hostile neighbour against one port that many peer connections share: whoever can send to it, in whatever name,
//! ends no session, takes none over, and costs no memory; and the counters say what was refused.

mod support;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::panic;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use etherparse::PacketBuilder;
use perpacket_lab::{Chain, Node, Test, until};
use perpacket_webrtc::{
    ConnSnapshot, CustomMux, CustomNet, DropCause, MuxSnapshot, PacketClass, Session, SessionId,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use webrtc::peer_connection::peer_connection_state::RTCPeerConnectionState;
use webrtc::stun::agent::TransactionId;
use webrtc::stun::attributes::{ATTR_USE_CANDIDATE, ATTR_USERNAME};
use webrtc::stun::integrity::MessageIntegrity;
use webrtc::stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter};
use webrtc::stun::textattrs::TextAttribute;

use support::connection::DEADLINE;
use support::hosts::Family::{self, V4, V6};
use support::media::{Tracks, send_media};
use support::numbers::Numbers;
use support::peer::{Peer, connect, negotiate};

/// How many datagrams there are of each kind.
const MANY: usize = 5_000;

/// How many ports a flood comes from: as many of each of two addresses.
const PORTS: usize = 100_000;

/// How many are sent before it is seen whether they have arrived: no more than the kernel holds.
const BATCH: usize = 200;

/// What memory may grow by, whatever is sent. The allocator has its own ideas about what to give back.
const GROWTH: usize = 16 << 20;

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("where_the_password_is_known_v4", || {
            sessions_survive(V4, true)
        }),
        ("where_the_password_is_known_v6", || {
            sessions_survive(V6, true)
        }),
        ("where_it_is_not_v4", || sessions_survive(V4, false)),
        ("media_without_data_v4", || media_alone(V4)),
        ("media_without_data_v6", || media_alone(V6)),
    ];
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        report(panic);
    }));
    perpacket_lab::main(tests)
}

/// Some of the stack's tasks end without a word.
static PANICS: AtomicUsize = AtomicUsize::new(0);

type Attack = fn(&mut Scene) -> Result<()>;

fn sessions_survive(family: Family, knows: bool) -> Result<()> {
    let mut scene = Scene::new(family, knows)?;
    let attacks: [(&str, Attack); 8] = [
        ("random bytes", random_bytes),
        ("STUN cut short", truncated_stun),
        ("STUN that lies", lying_stun),
        ("100,000 source ports", flood),
        ("a copied username", copied_username),
        ("in the name of the peer", spoofed),
        ("media of many sources", sources),
        ("with a session of its own", takeover),
    ];
    for (name, attack) in attacks {
        let before = scene.mux.snapshot();
        let begun = Instant::now();
        attack(&mut scene).with_context(|| name.to_owned())?;
        scene.goes_on().with_context(|| format!("after {name}"))?;
        let after = scene.mux.snapshot();
        let refused = after.refused.total() - before.refused.total();
        println!("{name}: {refused} refused, {:.1?}", begun.elapsed());
        ensure!(after.connections == 2, "{after:?}");
        ensure!(after.addresses == before.addresses, "{before:?} {after:?}");
    }
    scene.ends_well()?;
    ensure!(PANICS.load(Ordering::SeqCst) == 0, "a task has panicked");
    Ok(())
}

/// Most clients of a server send media, and open no data channel: their DTLS is silent after the handshake.
fn media_alone(family: Family) -> Result<()> {
    const ALERTS: u64 = 50;
    let chain = Chain::new(1, 1500)?;
    let (near, far) = chain.pairs()[family as usize];
    let [left, right] = [&chain.left, &chain.right].map(|node| node.runtime().map(Arc::new));
    let (left, right) = (left?, right?);
    let (clients, servers) = (CustomNet::new(), CustomNet::new());
    let mux = right.block_on(async { CustomMux::bind(&servers, (far, 0).into()) })?;
    let [theirs, ours] = [clients.session("client"), servers.session("client")];
    let client = Peer::new(&left, near, &theirs)?;
    let server = Peer::with(&right, far, |settings| {
        mux.for_session(&ours).install(settings);
    })?;
    let tracks = [Tracks::add(&client)?, Tracks::add(&server)?];
    negotiate(&client, &server, false)?;
    let _traffic = [
        send_media(&client, &tracks[0]),
        send_media(&server, &tracks[1]),
    ];
    let flows = || {
        let before = [&theirs, &ours].map(|session| received(session, PacketClass::Srtp));
        until(
            DEADLINE,
            || "media both ways".to_owned(),
            || {
                let now = [&theirs, &ours].map(|session| received(session, PacketClass::Srtp));
                let more = now
                    .iter()
                    .zip(before)
                    .all(|(now, before)| *now >= before + 20);
                Ok(more.then_some(()))
            },
        )
    };
    flows()?;
    let silent = received(&theirs, PacketClass::Dtls);
    let neighbour = Neighbour::new(&chain.left, mux.local_addrs()[0])?;
    let source = ours.peers().first().context("no peer")?.0;
    let dropped = || ours.total().total().dropped_for(DropCause::Unprotected);
    for sequence in 0..u8::try_from(ALERTS)? {
        let close_notify = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 1, sequence, 0, 2, 1, 0];
        neighbour.send(source, &close_notify)?;
    }
    until(
        DEADLINE,
        || format!("{ALERTS} alerts, not {}", dropped()),
        || Ok((dropped() == ALERTS).then_some(())),
    )?;
    flows()?;
    ensure!(
        received(&theirs, PacketClass::Dtls) == silent,
        "it was answered"
    );
    for peer in [&client, &server] {
        let state = peer.connection.connection_state();
        ensure!(state == RTCPeerConnectionState::Connected, "{state}");
    }
    Ok(())
}

fn received(session: &Session, class: PacketClass) -> u64 {
    session.total().class(class).received
}

/// Two clients of one mux, one of which is hostile as well; numbers go to and from the other.
struct Scene {
    mux: CustomMux,
    victim: [Peer; 2],
    mallory: [Peer; 2],
    /// Up and down.
    numbers: [Numbers; 2],
    neighbour: Neighbour,
    /// The victim's, at the server.
    session: Session,
    /// Where the victim's client sends from.
    address: SocketAddr,
    victims: Credentials,
    mallorys: Credentials,
    _chain: Chain,
}

/// Of checks for the server's end of a peer connection.
#[derive(Clone)]
struct Credentials {
    username: String,
    password: String,
}

impl Credentials {
    /// What the client needs for its checks (RFC 8445 §7.2.2).
    fn of([client, server]: &[Peer; 2]) -> Result<Self> {
        let value = |peer: &Peer, name: &str| {
            let sdp = description(peer)?;
            let line = sdp.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::to_owned).context("no credentials")
        };
        let [theirs, ours] = [server, client].map(|peer| value(peer, "a=ice-ufrag:"));
        Ok(Self {
            username: format!("{}:{}", theirs?, ours?),
            password: value(server, "a=ice-pwd:")?,
        })
    }
}

fn description(peer: &Peer) -> Result<String> {
    let description = peer.block_on(peer.connection.local_description());
    Ok(description.context("no description")?.sdp)
}

impl Scene {
    fn new(family: Family, knows: bool) -> Result<Self> {
        let chain = Chain::new(1, 1500)?;
        let (near, far) = chain.pairs()[family as usize];
        let [left, right] = [&chain.left, &chain.right].map(|node| node.runtime().map(Arc::new));
        let (left, right) = (left?, right?);
        let (clients, servers) = (CustomNet::new(), CustomNet::new());
        let mux = right.block_on(async { CustomMux::bind(&servers, (far, 0).into()) })?;
        let pair = |name: &str| {
            let mut client = Peer::new(&left, near, &clients.session(name))?;
            let session = servers.session(name);
            let mut server = Peer::with(&right, far, |settings| {
                mux.for_session(&session).install(settings);
            })?;
            connect(&mut client, &mut server)?;
            if knows {
                mux.learn(&description(&server)?);
            }
            anyhow::Ok([client, server])
        };
        let (victim, mallory) = (pair("victim")?, pair("mallory")?);
        let of_victim =
            |conn: &&ConnSnapshot| conn.session.as_ref().map(SessionId::as_str) == Some("victim");
        let conns = clients.snapshot().conns;
        let conn = conns.iter().find(of_victim).context("no socket")?;
        let (address, target) = (conn.local, mux.local_addrs()[0]);
        Ok(Self {
            numbers: [Numbers::send(&victim[0]), Numbers::send(&victim[1])],
            victims: Credentials::of(&victim)?,
            mallorys: Credentials::of(&mallory)?,
            neighbour: Neighbour::new(&chain.left, target)?,
            session: servers.session("victim"),
            mux,
            victim,
            mallory,
            address,
            _chain: chain,
        })
    }

    /// The victim's messages arrive, in both directions.
    fn goes_on(&mut self) -> Result<()> {
        let [client, server] = &mut self.victim;
        let [up, down] = &mut self.numbers;
        up.go_on(server).context("to the server")?;
        down.go_on(client).context("to the client")
    }

    fn ends_well(self) -> Result<()> {
        let Self {
            victim: [mut client, mut server],
            numbers: [up, down],
            mallory: [mut other, mut others],
            ..
        } = self;
        up.all_arrive(&client, &mut server)?;
        down.all_arrive(&server, &mut client)?;
        Numbers::send(&other).all_arrive(&other, &mut others)?;
        Numbers::send(&others).all_arrive(&others, &mut other)
    }

    /// Sends so many, and waits for the mux to have seen each batch: `seen` of what it refused and of what is sent by
    /// strangers to the victim's peer connection.
    fn send_many(
        &mut self,
        number: usize,
        seen: impl Fn(&MuxSnapshot) -> u64,
        mut send: impl FnMut(&mut Neighbour, usize) -> Result<()>,
    ) -> Result<()> {
        let before = seen(&self.mux.snapshot());
        for at in 0..number {
            send(&mut self.neighbour, at)?;
            if (at + 1).is_multiple_of(BATCH) || at + 1 == number {
                let expected = before + u64::try_from(at + 1)?;
                let mux = &self.mux;
                until(
                    DEADLINE,
                    || format!("{expected} refused: {:?}", mux.snapshot().refused),
                    || Ok((seen(&mux.snapshot()) >= expected).then_some(())),
                )?;
            }
        }
        let now = seen(&self.mux.snapshot());
        ensure!(
            now == before + u64::try_from(number)?,
            "{before} and {number} make {now}"
        );
        Ok(())
    }
}

/// Whoever can put anything on the wire.
struct Neighbour {
    socket: Socket,
    target: SocketAddr,
    random: u64,
}

impl Neighbour {
    fn new(node: &Node, target: SocketAddr) -> Result<Self> {
        let socket = node.run(|| {
            let domain = Domain::for_address(target);
            Socket::new(domain, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))
        })?;
        Ok(Self {
            socket,
            target,
            random: 1,
        })
    }

    fn send(&self, source: SocketAddr, payload: &[u8]) -> Result<()> {
        let packet = match (source.ip(), self.target.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                PacketBuilder::ipv4(from.octets(), to.octets(), 64)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                PacketBuilder::ipv6(from.octets(), to.octets(), 64)
            }
            _ => bail!("two families"),
        };
        let packet = packet.udp(source.port(), self.target.port());
        let mut bytes = Vec::with_capacity(packet.size(payload.len()));
        packet.write(&mut bytes, payload)?;
        // raw(7): a port is taken for a protocol.
        let target = SockAddr::from(SocketAddr::new(self.target.ip(), 0));
        ensure!(self.socket.send_to(&bytes, &target)? == bytes.len());
        Ok(())
    }

    /// xorshift64: a run can be repeated.
    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = usize::try_from(self.next() % 1400).expect("small");
        (0..length).map(|_| self.next().to_le_bytes()[3]).collect()
    }

    /// One of some addresses of its own.
    fn stranger(&self, at: usize) -> SocketAddr {
        let ports = PORTS / 2;
        let last = u8::try_from(at / ports % 2).expect("small") + 200;
        let port = u16::try_from(at % ports).expect("less than 50,000") + 1024;
        let ip = match self.target.ip() {
            IpAddr::V4(_) => IpAddr::from([10, 0, 0, last]),
            IpAddr::V6(_) => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)]),
        };
        SocketAddr::new(ip, port)
    }
}

struct UseCandidate;

impl Setter for UseCandidate {
    fn add_to(&self, message: &mut Message) -> Result<(), webrtc::stun::Error> {
        message.add(ATTR_USE_CANDIDATE, &[]);
        Ok(())
    }
}

/// A check that nominates.
fn check(username: &str, password: &str) -> Result<Vec<u8>> {
    let mut message = Message::new();
    message.build(&[
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId::new()),
        Box::new(TextAttribute::new(ATTR_USERNAME, username.to_owned())),
        Box::new(UseCandidate),
        Box::new(MessageIntegrity::new_short_term_integrity(
            password.to_owned(),
        )),
    ])?;
    Ok(message.raw)
}

fn random_bytes(scene: &mut Scene) -> Result<()> {
    let refused = |mux: &MuxSnapshot| mux.refused.malformed + mux.refused.unknown_source;
    scene.send_many(MANY, refused, |neighbour, at| {
        let bytes = neighbour.bytes();
        neighbour.send(neighbour.stranger(at), &bytes)
    })
}

fn truncated_stun(scene: &mut Scene) -> Result<()> {
    let Credentials { username, password } = scene.victims.clone();
    scene.send_many(
        MANY,
        |mux| mux.refused.malformed,
        |neighbour, at| {
            let whole = check(&username, &password)?;
            let length = 1 + at % (whole.len() - 1);
            neighbour.send(neighbour.stranger(at), &whole[..length])
        },
    )
}

/// Headers that are right, with attributes that are not.
fn lying_stun(scene: &mut Scene) -> Result<()> {
    let victims = scene.victims.clone();
    let sources: Vec<_> = (0..MANY).map(|at| scene.neighbour.stranger(at)).collect();
    for (at, source) in sources.into_iter().enumerate() {
        let mut message = check(&victims.username, "a password of somebody else")?;
        let place = usize::try_from(scene.neighbour.next())? % (message.len() - 20) + 20;
        message[place] ^= scene.neighbour.next().to_le_bytes()[2] | 1;
        scene.neighbour.send(source, &message)?;
        if at.is_multiple_of(MANY / 2) {
            scene.goes_on()?;
        }
    }
    Ok(())
}

fn flood(scene: &mut Scene) -> Result<()> {
    let memory = resident()?;
    scene.send_many(
        PORTS,
        |mux| mux.refused.unknown_source,
        |neighbour, at| {
            let mut media = [0; 200];
            media[0] = 0x80;
            neighbour.send(neighbour.stranger(at), &media)
        },
    )?;
    let grown = resident()?.saturating_sub(memory);
    ensure!(grown < GROWTH, "memory grew by {grown} bytes");
    Ok(())
}

/// Who has seen one check of the victim knows its username, and not its password.
fn copied_username(scene: &mut Scene) -> Result<()> {
    let memory = resident()?;
    let username = scene.victims.username.clone();
    for at in 0..PORTS / 10 {
        let message = check(&username, "a password of somebody else")?;
        scene
            .neighbour
            .send(scene.neighbour.stranger(at), &message)?;
        if at.is_multiple_of(MANY / 2) {
            scene.goes_on()?;
        }
    }
    let refused = scene.mux.snapshot().refused;
    ensure!(refused.bad_integrity + refused.unproved > 0, "{refused:?}");
    let grown = resident()?.saturating_sub(memory);
    ensure!(grown < GROWTH, "memory grew by {grown} bytes");
    Ok(())
}

/// Everything that its peer would send, but for what only the peer can make.
fn spoofed(scene: &mut Scene) -> Result<()> {
    let (address, username) = (scene.address, scene.victims.username.clone());
    let like = |first: [u8; 3], bytes: Vec<u8>| [&first[..], &bytes].concat();
    for at in 0..MANY {
        let bytes = scene.neighbour.bytes();
        let forged = match at % 8 {
            0 => bytes,
            // DTLS 1.2: application data, and alerts with epoch 0 and 1, as if it closed.
            1 => like([23, 0xfe, 0xfd], bytes),
            2 => vec![21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40],
            3 => vec![21, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 2, 1, 0],
            // A handshake that begins anew.
            4 => like([22, 0xfe, 0xfd], bytes),
            5 => like([0x80, 96, 0], bytes),
            6 => like([0x80, 201, 0], bytes),
            _ => check(&username, "a password of somebody else")?,
        };
        scene.neighbour.send(address, &forged)?;
        if at.is_multiple_of(MANY / 4) {
            scene.goes_on()?;
        }
    }
    let mut answer = Message::new();
    answer.build(&[Box::new(BINDING_SUCCESS), Box::new(TransactionId::new())])?;
    scene.neighbour.send(address, &answer.raw)
}

/// Of each source of media that it hears of, webrtc-rs keeps something.
fn sources(scene: &mut Scene) -> Result<()> {
    const SOURCES: u32 = 20_000;
    let memory = resident()?;
    let media = |scene: &Scene| *scene.session.total().class(PacketClass::Srtp);
    let dropped = |scene: &Scene| media(scene).dropped_for(DropCause::Unprotected);
    let seen = |scene: &Scene| media(scene).received + dropped(scene);
    let before = (seen(scene), dropped(scene));
    for ssrc in 0..SOURCES {
        let mut packet = [0x80; 100];
        packet[1] = 96;
        packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
        scene.neighbour.send(scene.address, &packet)?;
        if (ssrc + 1) % 200 == 0 {
            let expected = before.0 + u64::from(ssrc + 1);
            until(
                DEADLINE,
                || format!("{expected} packets, not {}", seen(scene)),
                || Ok((seen(scene) >= expected).then_some(())),
            )?;
        }
    }
    let refused = dropped(scene) - before.1;
    ensure!(refused > u64::from(SOURCES) / 2, "{refused} of {SOURCES}");
    let grown = resident()?.saturating_sub(memory);
    ensure!(grown < GROWTH, "memory grew by {grown} bytes");
    Ok(())
}

/// Who has a session of its own can make checks that are right, and send them in any name.
fn takeover(scene: &mut Scene) -> Result<()> {
    let (address, mallory) = (scene.address, scene.mallorys.clone());
    let before = scene.mux.snapshot().refused.address_taken;
    for at in 0..100 {
        let check = check(&mallory.username, &mallory.password)?;
        scene.neighbour.send(address, &check)?;
        if at % 50 == 0 {
            scene.goes_on()?;
        }
    }
    let after = scene.mux.snapshot().refused.address_taken;
    ensure!(after > before, "no check has arrived");
    Ok(())
}

/// Bytes of memory that the process has in use.
fn resident() -> Result<usize> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.context("no VmRSS")?.trim().trim_end_matches(" kB");
    Ok(kilobytes.trim().parse::<usize>()? << 10)
}
