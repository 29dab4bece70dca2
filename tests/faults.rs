//! What the own host and the network do to a data channel that must survive it: everything that was sent arrives, in
//! order, once the fault ends, and the counters and events name the cause.

mod support {
    pub(crate) mod connection;
    pub(crate) mod peer;
}

use std::net::IpAddr;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::BytesMut;
use perpacket_lab::{Chain, Node, NodeRuntime, Sniffer, Test, require_program, until};
use perpacket_udp::{IcmpErrorKind, MessageOptions};
use perpacket_webrtc::{CustomNet, DropCause, Event, PacketClass, PeerCounters, Session};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::sync::broadcast::error::TryRecvError;
use webrtc::data_channel::data_channel_state::RTCDataChannelState;
use webrtc::peer_connection::peer_connection_state::RTCPeerConnectionState;

use support::connection::DEADLINE;
use support::peer::{Peer, Task, connect};

/// How long a fault lasts at least, so that SCTP has to send again while it does.
const A_WHILE: Duration = Duration::from_secs(1);

/// How many datagrams a fault costs at least.
const SEVERAL: u64 = 3;

/// How often a number is sent.
const PACE: Duration = Duration::from_millis(5);

/// The length of a message: in a datagram of more than 600 bytes, and less than any MTU here.
const MESSAGE: usize = 1000;

const DROP_OUTPUT: &str = "table inet fault {
    chain c { type filter hook output priority 0; meta l4proto udp drop; }
}";
const REJECT_INPUT: &str = "table inet fault {
    chain c { type filter hook input priority 0; meta l4proto udp reject with icmpx type port-unreachable; }
}";
const DELETE: &str = "delete table inet fault";

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("mtu_lowered_v4", mtu_lowered),
        ("filter_v4", || filter(Family::V4)),
        ("filter_v6", || filter(Family::V6)),
        ("route_removed_v4", || route_removed(Family::V4)),
        ("route_removed_v6", || route_removed(Family::V6)),
        ("queue_full_v4", || queue_full(Family::V4)),
        ("queue_full_v6", || queue_full(Family::V6)),
        ("port_unreachable_v4", || port_unreachable(Family::V4)),
        ("port_unreachable_v6", || port_unreachable(Family::V6)),
        ("forged_unreachable_storm", forged_unreachable_storm),
        ("ttl_too_short_v4", || ttl_too_short(Family::V4)),
        ("ttl_too_short_v6", || ttl_too_short(Family::V6)),
        ("stock_does_not_survive", stock_does_not_survive),
    ];
    perpacket_lab::main(tests)
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

/// A data channel from the left host over a router to the right one, on which numbers are sent.
struct Scene {
    chain: Chain,
    left_address: IpAddr,
    net: CustomNet,
    session: Session,
    left: Peer,
    right: Peer,
    numbers: Numbers,
    arrived: u32,
}

/// Sends 0, 1, 2 and so on.
struct Numbers {
    task: Task<Result<()>>,
    sent: Arc<AtomicU32>,
    enough: Arc<AtomicBool>,
}

impl Scene {
    fn new(family: Family) -> Result<Self> {
        Self::with(family, |runtime, address, session| {
            Peer::new(runtime, address, session)
        })
    }

    fn with(
        family: Family,
        sender: impl FnOnce(&Arc<NodeRuntime>, IpAddr, &Session) -> Result<Peer>,
    ) -> Result<Self> {
        let chain = Chain::new(1, 1500)?;
        let (left_address, right_address) = chain.pairs()[family as usize];
        let net = CustomNet::builder().icmp_errors(true).build();
        let session = net.session("left");
        let mut left = sender(&Arc::new(chain.left.runtime()?), left_address, &session)?;
        let other = CustomNet::new().session("right");
        let mut right = Peer::new(&Arc::new(chain.right.runtime()?), right_address, &other)?;
        connect(&mut left, &mut right).with_context(|| {
            let stun = [&session, &other].map(|session| *session.total().class(PacketClass::Stun));
            format!("STUN on the left and on the right: {stun:?}")
        })?;
        let numbers = Numbers::send(&left);
        let mut scene = Self {
            chain,
            left_address,
            net,
            session,
            left,
            right,
            numbers,
            arrived: 0,
        };
        scene.receive_until(20)?;
        Ok(scene)
    }

    /// Lets the fault happen until the counters show it, ends it, and sees that everything arrives.
    fn survives(
        mut self,
        begin: impl FnOnce(&Self) -> Result<()>,
        end: impl FnOnce(&Self) -> Result<()>,
        shows: impl Fn(&PeerCounters) -> bool,
        names: impl Fn(&Event) -> bool,
    ) -> Result<()> {
        let mut events = self.net.events();
        ensure!(!shows(&self.session.total()), "before the fault");
        let start = Instant::now();
        begin(&self)?;
        let mut reported = false;
        let outcome = until(
            DEADLINE,
            || "counters and events that name the cause".to_owned(),
            || {
                loop {
                    match events.try_recv() {
                        Ok(event) => reported |= names(&event),
                        Err(TryRecvError::Lagged(_)) => {}
                        Err(_) => break,
                    }
                }
                let shows = shows(&self.session.total()) && shows(&self.net.snapshot().total);
                Ok((start.elapsed() >= A_WHILE && reported && shows).then_some(()))
            },
        );
        outcome.with_context(|| format!("event: {reported}, {:?}", self.session.total()))?;
        end(&self)?;
        self.everything_arrives()
    }

    /// Goes on sending for a bit, and receives all that was sent.
    fn everything_arrives(&mut self) -> Result<()> {
        self.receive_until(self.numbers.sent.load(Ordering::SeqCst) + 20)?;
        self.numbers.enough.store(true, Ordering::SeqCst);
        self.left.block_on(&mut self.numbers.task.0)??;
        self.receive_until(self.numbers.sent.load(Ordering::SeqCst))?;
        for peer in [&self.left, &self.right] {
            ensure!(peer.channel.get().ready_state() == RTCDataChannelState::Open);
            ensure!(peer.connection.connection_state() == RTCPeerConnectionState::Connected);
        }
        Ok(())
    }

    /// Receives the numbers below this one, each after the one before.
    fn receive_until(&mut self, number: u32) -> Result<()> {
        let Peer {
            channel, runtime, ..
        } = &mut self.right;
        let expected = self.arrived..number;
        runtime.block_on(async {
            for expected in expected {
                let message = channel.message().await?;
                let got = message.first_chunk().copied().map(u32::from_be_bytes);
                ensure!(got == Some(expected), "{got:?} instead of {expected}");
            }
            Ok(())
        })?;
        self.arrived = self.arrived.max(number);
        Ok(())
    }

    fn sender(&self) -> (&Node, &str) {
        (&self.chain.left, &self.chain.links[0].a)
    }

    /// The sender's default route: its destination and its gateway.
    fn default_route(&self) -> (&'static str, IpAddr) {
        let (v4, v6) = self.chain.router_seen_from_left(1);
        match self.left_address {
            IpAddr::V4(_) => ("0.0.0.0/0", v4),
            IpAddr::V6(_) => ("::/0", v6),
        }
    }
}

impl Numbers {
    fn send(from: &Peer) -> Self {
        let channel = Arc::clone(from.channel.get());
        let sent = Arc::new(AtomicU32::new(0));
        let enough = Arc::new(AtomicBool::new(false));
        let (counter, stop) = (Arc::clone(&sent), Arc::clone(&enough));
        let task = from.spawn(async move {
            let mut pace = tokio::time::interval(PACE);
            for number in 0u32.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                pace.tick().await;
                let mut message = BytesMut::zeroed(MESSAGE);
                message[..4].copy_from_slice(&number.to_be_bytes());
                channel.send(&message.freeze()).await?;
                counter.store(number + 1, Ordering::SeqCst);
            }
            Ok(())
        });
        Self { task, sent, enough }
    }
}

/// Datagrams of the data channel were dropped for this cause.
fn dropped_for(cause: DropCause) -> impl Fn(&PeerCounters) -> bool {
    move |counters| counters.class(PacketClass::Dtls).dropped_for(cause) >= SEVERAL
}

fn drop_event(why: DropCause) -> impl Fn(&Event) -> bool {
    move |event| {
        matches!(event, Event::Dropped { session: Some(session), class: PacketClass::Dtls, cause, .. }
            if session.as_str() == "left" && *cause == why)
    }
}

fn icmp_event(kind: IcmpErrorKind, offender: IpAddr) -> impl Fn(&Event) -> bool {
    move |event| {
        matches!(event, Event::Icmp { error, .. }
            if error.kind == kind && error.offender == Some(offender))
    }
}

/// `EMSGSIZE`.
fn mtu_lowered() -> Result<()> {
    let scene = Scene::new(Family::V4)?;
    scene
        .net
        .policy()
        .set_default_options(MessageOptions::NONE.with_df_bit(true))?;
    let set_mtu = |mtu| {
        move |scene: &Scene| {
            let (node, interface) = scene.sender();
            Ok(node.set_mtu(interface, mtu)?)
        }
    };
    scene.survives(
        set_mtu(600),
        set_mtu(1500),
        dropped_for(DropCause::TooBig),
        drop_event(DropCause::TooBig),
    )
}

/// `EPERM`.
fn filter(family: Family) -> Result<()> {
    Scene::new(family)?.survives(
        |scene| Ok(scene.chain.left.nft(DROP_OUTPUT)?),
        |scene| Ok(scene.chain.left.nft(DELETE)?),
        dropped_for(DropCause::NotPermitted),
        drop_event(DropCause::NotPermitted),
    )
}

/// `ENETUNREACH`.
fn route_removed(family: Family) -> Result<()> {
    Scene::new(family)?.survives(
        |scene| Ok(scene.chain.left.route_del(scene.default_route().0)?),
        |scene| {
            let (destination, gateway) = scene.default_route();
            Ok(scene.chain.left.route(destination, &gateway.to_string())?)
        },
        dropped_for(DropCause::Unreachable),
        drop_event(DropCause::Unreachable),
    )
}

/// `ENOBUFS`.
fn queue_full(family: Family) -> Result<()> {
    let tc = require_program("tc", "apt-get install iproute2")?;
    let tc = |arguments: &'static str| {
        let mut command = Command::new(&tc);
        move |scene: &Scene| {
            let (node, interface) = scene.sender();
            let arguments = arguments.replace("IFACE", interface);
            node.output(command.args(arguments.split(' ')))?;
            Ok(())
        }
    };
    Scene::new(family)?.survives(
        tc("qdisc add dev IFACE root tbf rate 50kbit burst 2kb limit 3kb"),
        tc("qdisc del dev IFACE root"),
        dropped_for(DropCause::NoBufferSpace),
        drop_event(DropCause::NoBufferSpace),
    )
}

/// Nothing that is sent gets through, and the far host says so of each datagram.
fn port_unreachable(family: Family) -> Result<()> {
    let scene = Scene::new(family)?;
    let far = scene.chain.pairs()[family as usize].1;
    scene.survives(
        |scene| Ok(scene.chain.right.nft(REJECT_INPUT)?),
        |scene| Ok(scene.chain.right.nft(DELETE)?),
        |counters| counters.icmp.unreachable >= 10,
        icmp_event(IcmpErrorKind::PortUnreachable, far),
    )
}

/// Everything gets through, and somebody says otherwise, as fast as can be.
fn forged_unreachable_storm() -> Result<()> {
    const STORM: u64 = 2000;
    let scene = Scene::new(Family::V4)?;
    let far = scene.chain.right_v4();
    scene.survives(
        |scene| {
            let (node, interface) = scene.sender();
            let own = |packet: &perpacket_lab::Packet| {
                packet.udp.is_some() && packet.source.ip() == scene.left_address
            };
            let datagram = Sniffer::on(node, interface)?.find(DEADLINE, own)?;
            let message = port_unreachable_for(&datagram.raw);
            let socket = scene
                .chain
                .right
                .run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)))?;
            let victim = SockAddr::from(datagram.source);
            let storm = || {
                for _ in 0..100 {
                    // A full queue is no reason to stop.
                    let _ = socket.send_to(&message, &victim);
                }
                let counted = scene.session.total().icmp.unreachable;
                Ok((counted >= STORM).then_some(()))
            };
            Ok(until(DEADLINE, || format!("{STORM} errors"), storm)?)
        },
        |_| Ok(()),
        |counters| counters.icmp.unreachable >= STORM,
        icmp_event(IcmpErrorKind::PortUnreachable, far),
    )
}

/// ICMP type 3, code 3, about this datagram (RFC 792).
fn port_unreachable_for(datagram: &[u8]) -> Vec<u8> {
    let mut message = vec![3, 3, 0, 0, 0, 0, 0, 0];
    message.extend(&datagram[..datagram.len().min(100) & !1]);
    let sum: u32 = message
        .chunks_exact(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let checksum = !u16::try_from(folded).expect("folded twice");
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

fn ttl_too_short(family: Family) -> Result<()> {
    let scene = Scene::new(family)?;
    let (_, router) = scene.default_route();
    scene.survives(
        |scene| {
            let short = MessageOptions::NONE.with_ttl(1);
            Ok(scene.session.set_options(short)?)
        },
        |scene| {
            scene.session.clear_options();
            Ok(())
        },
        |counters| counters.icmp.time_exceeded >= 10,
        icmp_event(IcmpErrorKind::TimeExceeded, router),
    )
}

/// The same fault on webrtc-rs's own sockets closes the channel: what the other tests see is perpacket's doing.
fn stock_does_not_survive() -> Result<()> {
    let scene = Scene::with(Family::V4, |runtime, address, _| {
        Peer::with(runtime, address, |_| {})
    })?;
    scene.chain.left.nft(DROP_OUTPUT)?;
    let closed = || {
        let state = scene.left.channel.get().ready_state();
        Ok((state == RTCDataChannelState::Closed).then_some(()))
    };
    Ok(until(DEADLINE, || "a closed channel".to_owned(), closed)?)
}
