//! Two hosts with a router between them, a peer connection on each, and what its datagrams' headers say on the wire.

mod support;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use perpacket_lab::{Packet, Test, until};
use perpacket_udp::{Dscp, Ecn, MessageOptions, Tos};
use perpacket_webrtc::{PacketClass, Stream};

use support::connection::DEADLINE;
use support::hosts::{ENOUGH, Family, Hosts, Side, marking};
use support::media::{OPUS, Tracks, VP8, send_everything, send_messages};
use support::peer::{connect, negotiate};
use support::wire::{CLASSES, all_comply, arrived_as_sent, count, payload_type, sent_after, ssrc};

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("every_class_v4", || every_class(Family::V4)),
        ("every_class_v6", || every_class(Family::V6)),
        ("streams_are_told_apart_v4", || streams(Family::V4)),
        ("streams_are_told_apart_v6", || streams(Family::V6)),
        ("the_narrower_level_wins_v4", || levels(Family::V4)),
        ("the_narrower_level_wins_v6", || levels(Family::V6)),
        ("received_headers_are_counted_v4", || received(Family::V4)),
        ("received_headers_are_counted_v6", || received(Family::V6)),
    ];
    perpacket_lab::main(tests)
}

fn every_class(family: Family) -> Result<()> {
    let mut hosts = Hosts::new(family)?;
    hosts.mark(0)?;
    let [mut left, mut right] = hosts.peers()?;
    let tracks = [Tracks::add(&left)?, Tracks::add(&right)?];
    connect(&mut left, &mut right)?;
    let traffic = [
        send_everything(&left, &tracks[0]),
        send_everything(&right, &tracks[1]),
    ];
    let start = SystemTime::UNIX_EPOCH;
    for side in &mut hosts.sides {
        side.wait_for(&CLASSES, start)?;
    }

    let first = hosts.mark(1)?;
    for side in &mut hosts.sides {
        side.wait_for(&CLASSES, first.1)?;
    }

    let second = set_sessions(&hosts)?;
    let pair_before = pair(&mut hosts.sides[0]);
    negotiate(&left, &right, true)?;
    let [near, far] = &mut hosts.sides;
    let fresh = |packet: &Packet| {
        let ends = HashSet::from([packet.source, packet.destination]);
        ends.is_disjoint(&pair_before)
    };
    for side in [near, far] {
        let address = side.address;
        side.wire.wait_for(DEADLINE, |packets| {
            let on_the_new_pair = sent_after(packets, address, second.1).filter(|p| fresh(p));
            count(on_the_new_pair).iter().all(|count| *count >= ENOUGH)
        })?;
    }
    drop(traffic);
    // What has arrived by now was sent before either capture ends.
    let end = SystemTime::now();

    let routers = hosts.routers();
    let Hosts {
        chain: _chain,
        sides: [near, far],
    } = hosts;
    let addresses = [near.address, far.address];
    let captures = [near.wire.stop()?, far.wire.stop()?];
    for (side, (capture, from)) in captures.iter().zip(addresses).enumerate() {
        ensure!(capture.dropped == 0);
        let phase = |phase| move |_: &Packet, class| expected(side, phase, class);
        let since = |moment| sent_after(&capture.packets, from, moment);
        let until = |moment| move |packet: &&Packet| packet.at < moment;
        all_comply(since(start).filter(until(first.0)), phase(0), phase(0))?;
        all_comply(since(first.1).filter(until(second.0)), phase(1), phase(0))?;
        all_comply(since(second.1), phase(2), phase(1))?;

        let mut other = captures[1 - side].packets.clone();
        other.retain(|packet| packet.at < end);
        let arrived = arrived_as_sent(&capture.packets, &other, from, routers)?;
        ensure!(
            arrived.iter().all(|count| *count >= 3 * ENOUGH),
            "{arrived:?}"
        );
    }
    Ok(())
}

/// What a class has in a phase. In the last one the sessions set TTL and TOS, and the classes still say DF.
fn expected(side: usize, phase: usize, class: PacketClass) -> MessageOptions {
    match phase {
        2 => session_marking(side).or(marking(side, 1, class)),
        _ => marking(side, phase, class),
    }
}

fn session_marking(side: usize) -> MessageOptions {
    MessageOptions {
        df_bit: None,
        ..marking(side, 3, PacketClass::Stun)
    }
}

fn set_sessions(hosts: &Hosts) -> Result<(SystemTime, SystemTime)> {
    let before = SystemTime::now();
    for (number, (side, name)) in hosts.sides.iter().zip(["left", "right"]).enumerate() {
        side.net
            .session(name)
            .set_options(session_marking(number))?;
    }
    Ok((before, SystemTime::now()))
}

/// Every address and port that was seen.
fn pair(side: &mut Side) -> HashSet<SocketAddr> {
    let packets = side.wire.packets().iter();
    packets
        .filter(|packet| packet.udp.is_some())
        .flat_map(|packet| [packet.source, packet.destination])
        .collect()
}

type Streams<'a> = &'a [(Stream, MessageOptions)];

fn streams(family: Family) -> Result<()> {
    let mut hosts = Hosts::new(family)?;
    let [mut left, mut right] = hosts.peers()?;
    let tracks = [Tracks::add(&left)?, Tracks::add(&right)?];
    connect(&mut left, &mut right)?;
    let _traffic = send_everything(&left, &tracks[0]);
    let side = &mut hosts.sides[0];
    let from = side.address;
    let video = side.wire.find(DEADLINE, |packet| {
        packet.source.ip() == from && payload_type(packet) == Some(VP8)
    })?;
    let video = ssrc(&video).context("no SSRC")?;

    let plain = MessageOptions::NONE.with_ttl(40).with_dscp(Dscp::CS1);
    let audio_type = MessageOptions::NONE.with_ttl(41).with_dscp(Dscp::EF);
    let video_type = MessageOptions::NONE.with_ttl(42).with_dscp(Dscp::AF41);
    let video_source = MessageOptions::NONE.with_ttl(43);
    let none = MessageOptions::NONE;
    // What each step sets, and what audio and video then have.
    let steps: [(Streams<'_>, [MessageOptions; 2]); 4] = [
        (&[], [plain, plain]),
        (
            &[
                (Stream::PayloadType(OPUS), audio_type),
                (Stream::PayloadType(VP8), video_type),
            ],
            [audio_type, video_type],
        ),
        (
            &[(Stream::Ssrc(video), video_source)],
            [audio_type, video_source.or(video_type)],
        ),
        (
            &[
                (Stream::PayloadType(OPUS), none),
                (Stream::PayloadType(VP8), none),
            ],
            [plain, video_source.or(plain)],
        ),
    ];
    side.net.set_class_options(PacketClass::Srtp, plain)?;
    let mut before = [plain, plain];
    for (set, want) in steps {
        for (stream, options) in set {
            side.net.set_stream_options(*stream, *options)?;
        }
        let changed = SystemTime::now();
        let rtp = |packets: &[Packet], kind| {
            sent_after(packets, from, changed)
                .filter(|packet| payload_type(packet) == Some(kind))
                .count()
        };
        let packets = side.wire.wait_for(DEADLINE, |packets| {
            [OPUS, VP8].iter().all(|kind| rtp(packets, *kind) >= ENOUGH)
        })?;
        for (at, kind) in [OPUS, VP8].into_iter().enumerate() {
            let stream = sent_after(packets, from, changed)
                .filter(|packet| payload_type(packet) == Some(kind));
            all_comply(stream, |_, _| want[at], |_, _| before[at])?;
        }
        before = want;
    }
    Ok(())
}

type Step<'a> = &'a dyn Fn() -> Result<()>;

fn levels(family: Family) -> Result<()> {
    let mut hosts = Hosts::new(family)?;
    // Two peer connections from the left host, with one policy.
    let [mut one, mut far_one] = hosts.peers()?;
    connect(&mut one, &mut far_one)?;
    let peer = hosts.sides[1].net.snapshot().conns[0].local;
    let mut two = hosts.sides[0].peer("two")?;
    let mut far_two = hosts.sides[1].peer("far two")?;
    connect(&mut two, &mut far_two)?;
    let _traffic = [send_messages(&one), send_messages(&two)];

    let side = &mut hosts.sides[0];
    let session = side.net.session("left");
    let net = side.net.clone();
    let ttl = |ttl| MessageOptions::NONE.with_ttl(ttl);
    let dtls = PacketClass::Dtls;
    // What each step sets, then the TTL of STUN and DTLS: of the one, and of the other.
    let steps: [(Step<'_>, [u8; 4]); 8] = [
        (
            &|| Ok(net.policy().set_default_options(ttl(101))?),
            [101; 4],
        ),
        (
            &|| Ok(net.set_class_options(dtls, ttl(102))?),
            [101, 102, 101, 102],
        ),
        (&|| Ok(session.set_options(ttl(103))?), [103, 103, 101, 102]),
        (
            &|| Ok(session.set_class_options(dtls, ttl(104))?),
            [103, 104, 101, 102],
        ),
        (
            &|| Ok(net.set_peer_options(peer, ttl(105))?),
            [105, 105, 101, 102],
        ),
        (
            &|| Ok(net.policy().set_peer_class_options(peer, dtls, ttl(106))?),
            [105, 106, 101, 102],
        ),
        (
            &|| removed(net.policy().remove_peer(peer).is_some()),
            [103, 104, 101, 102],
        ),
        (
            &|| {
                session.clear_options();
                Ok(())
            },
            [101, 102, 101, 102],
        ),
    ];
    let mut before = [64; 4];
    for (set, want) in steps {
        set()?;
        let changed = SystemTime::now();
        let from = side.address;
        let of = |want: [u8; 4]| {
            move |packet: &Packet, class| {
                let other = usize::from(packet.destination != peer) * 2;
                ttl(want[other + usize::from(class == dtls)])
            }
        };
        let packets = side.wire.wait_for(DEADLINE, |packets| {
            [true, false].iter().all(|to_one| {
                let theirs = sent_after(packets, from, changed)
                    .filter(|packet| (packet.destination == peer) == *to_one);
                count(theirs)[..2].iter().all(|count| *count >= ENOUGH / 2)
            })
        })?;
        all_comply(sent_after(packets, from, changed), of(want), of(before))
            .with_context(|| format!("{before:?} to {want:?}"))?;
        before = want;
    }
    Ok(())
}

fn removed(was_there: bool) -> Result<()> {
    ensure!(was_there);
    Ok(())
}

fn received(family: Family) -> Result<()> {
    let mut hosts = Hosts::new(family)?;
    let codes = [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1, Ecn::Ce];
    let options = |at: usize, class: PacketClass| marking(0, 0, class).with_ecn(codes[at]);
    for (at, class) in CLASSES.into_iter().enumerate() {
        hosts.sides[0]
            .net
            .set_class_options(class, options(at, class))?;
    }
    let [mut left, mut right] = hosts.peers()?;
    let tracks = [Tracks::add(&left)?, Tracks::add(&right)?];
    connect(&mut left, &mut right)?;
    let traffic = send_everything(&left, &tracks[0]);
    hosts.sides[0].wait_for(&CLASSES, SystemTime::UNIX_EPOCH)?;
    // Congestion begins: a class whose datagrams have come with two values.
    let congested = options(3, PacketClass::Srtp);
    hosts.sides[0]
        .net
        .set_class_options(PacketClass::Srtp, congested)?;
    hosts.sides[0].wait_for(&CLASSES, SystemTime::now())?;
    drop(traffic);

    let [near, far] = &mut hosts.sides;
    let (from, routers) = (near.address, 1);
    let mut seen = String::new();
    let agrees = until(
        DEADLINE,
        || "counters that agree with the wire".to_owned(),
        || {
            let sender = near.net.session("left").total();
            let receiver = far.net.session("right").total();
            let mut agree = true;
            seen.clear();
            for (at, class) in CLASSES.into_iter().enumerate() {
                let of_class = |packet: &&Packet| support::wire::class_of(packet) == Some(class);
                let sent = sent_after(near.wire.packets(), from, SystemTime::UNIX_EPOCH)
                    .filter(of_class)
                    .count();
                let arrived: Vec<_> = far
                    .wire
                    .packets()
                    .iter()
                    .filter(|packet| packet.source.ip() == from)
                    .filter(of_class)
                    .collect();
                let ecn = [0, 1, 2, 3]
                    .map(|bits| arrived.iter().filter(|p| p.tos & 3 == bits).count() as u64);
                let want = if class == PacketClass::Srtp {
                    congested
                } else {
                    options(at, class)
                };
                let counted = receiver.class(class);
                agree &= sender.class(class).sent == sent as u64
                    && counted.received == arrived.len() as u64
                    && counted.received_ecn == ecn
                    && counted.received_ttl == want.ttl.map(|ttl| ttl - routers)
                    && counted.received_tos == want.tos_byte().map(Tos::from_byte);
                writeln!(
                    seen,
                    "{class}: sent {sent}, arrived {}, ECN {ecn:?}, {counted:?}",
                    arrived.len()
                )
                .expect("a String takes all");
            }
            Ok(agree.then_some(()))
        },
    );
    agrees.with_context(|| seen)?;
    let srtp = *far.net.session("right").total().class(PacketClass::Srtp);
    ensure!(
        srtp.received_ecn[1] > 0 && srtp.received_ecn[3] > 0,
        "{srtp:?}"
    );
    Ok(())
}
