//! What the own host and the network do to a data channel that must survive it: everything that was sent arrives, in
//! order, once the fault ends, and the counters and events name the cause.

mod support;

use std::net::IpAddr;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use perpacket_lab::{Node, Sniffer, Test, require_program, until};
use perpacket_udp::{IcmpErrorKind, MessageOptions};
use perpacket_webrtc::{CustomNet, DropCause, Event, PacketClass, PeerCounters, Session};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::sync::broadcast::error::TryRecvError;
use webrtc::data_channel::data_channel_state::RTCDataChannelState;

use support::connection::DEADLINE;
use support::hosts::{Family, Hosts, Side};
use support::numbers::Numbers;
use support::peer::{Peer, connect};

/// How long a fault lasts at least, so that SCTP has to send again while it does.
const A_WHILE: Duration = Duration::from_secs(1);

/// How many datagrams a fault costs at least.
const SEVERAL: u64 = 3;

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

/// A data channel from the left host over a router to the right one, on which numbers are sent.
struct Scene {
    hosts: Hosts,
    session: Session,
    left: Peer,
    right: Peer,
    numbers: Numbers,
}

impl Scene {
    fn new(family: Family) -> Result<Self> {
        Self::with(family, |side| side.peer("left"))
    }

    fn with(family: Family, sender: impl FnOnce(&Side) -> Result<Peer>) -> Result<Self> {
        let left_net = CustomNet::builder().icmp_errors(true).build();
        let hosts = Hosts::with(family, [left_net, CustomNet::new()])?;
        let sessions = [
            hosts.sides[0].net.session("left"),
            hosts.sides[1].net.session("right"),
        ];
        let mut left = sender(&hosts.sides[0])?;
        let mut right = hosts.sides[1].peer("right")?;
        connect(&mut left, &mut right).with_context(|| {
            let stun = sessions
                .each_ref()
                .map(|session| *session.total().class(PacketClass::Stun));
            format!("STUN on the left and on the right: {stun:?}")
        })?;
        let mut numbers = Numbers::send(&left);
        numbers.go_on(&mut right)?;
        let [session, _] = sessions;
        Ok(Self {
            hosts,
            session,
            left,
            right,
            numbers,
        })
    }

    /// Lets the fault happen until the counters show it, ends it, and sees that everything arrives.
    fn survives(
        self,
        begin: impl FnOnce(&Self) -> Result<()>,
        end: impl FnOnce(&Self) -> Result<()>,
        shows: impl Fn(&PeerCounters) -> bool,
        names: impl Fn(&Event) -> bool,
    ) -> Result<()> {
        let mut events = self.net().events();
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
                let shows = shows(&self.session.total()) && shows(&self.net().snapshot().total);
                Ok((start.elapsed() >= A_WHILE && reported && shows).then_some(()))
            },
        );
        outcome.with_context(|| format!("event: {reported}, {:?}", self.session.total()))?;
        end(&self)?;
        let Self {
            hosts: _hosts,
            left,
            mut right,
            numbers,
            ..
        } = self;
        numbers.all_arrive(&left, &mut right)
    }

    fn net(&self) -> &CustomNet {
        &self.hosts.sides[0].net
    }

    fn sender(&self) -> (&Node, &str) {
        let side = &self.hosts.sides[0];
        (&side.node, &side.interface)
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
        .net()
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
        |scene| Ok(scene.hosts.sides[0].node.nft(DROP_OUTPUT)?),
        |scene| Ok(scene.hosts.sides[0].node.nft(DELETE)?),
        dropped_for(DropCause::NotPermitted),
        drop_event(DropCause::NotPermitted),
    )
}

/// `ENETUNREACH`.
fn route_removed(family: Family) -> Result<()> {
    Scene::new(family)?.survives(
        |scene| {
            let side = &scene.hosts.sides[0];
            Ok(side.node.route_del(side.everywhere())?)
        },
        |scene| scene.hosts.sides[0].restore_default_route(),
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
    let far = scene.hosts.sides[1].address;
    scene.survives(
        |scene| Ok(scene.hosts.sides[1].node.nft(REJECT_INPUT)?),
        |scene| Ok(scene.hosts.sides[1].node.nft(DELETE)?),
        |counters| counters.icmp.unreachable >= 10,
        icmp_event(IcmpErrorKind::PortUnreachable, far),
    )
}

/// Everything gets through, and somebody says otherwise, as fast as can be.
fn forged_unreachable_storm() -> Result<()> {
    const STORM: u64 = 2000;
    let scene = Scene::new(Family::V4)?;
    let far = scene.hosts.sides[1].address;
    scene.survives(
        |scene| {
            let (node, interface) = scene.sender();
            let own = |packet: &perpacket_lab::Packet| {
                packet.udp.is_some() && packet.source.ip() == scene.hosts.sides[0].address
            };
            let datagram = Sniffer::on(node, interface)?.find(DEADLINE, own)?;
            let message = port_unreachable_for(&datagram.raw);
            let socket = scene.hosts.sides[1]
                .node
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
    let router = scene.hosts.sides[0].gateway;
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
    let scene = Scene::with(Family::V4, |side| side.stock_peer_with(|_| {}))?;
    scene.hosts.sides[0].node.nft(DROP_OUTPUT)?;
    let closed = || {
        let state = scene.left.channel.get().ready_state();
        Ok((state == RTCDataChannelState::Closed).then_some(()))
    };
    Ok(until(DEADLINE, || "a closed channel".to_owned(), closed)?)
}
