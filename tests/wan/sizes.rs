//! Packets that are too big, and how much of them comes back.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use perpacket_lab::{Direction, Packet, Wan, Willing, until};

use super::scene::{PORT, SOON, Scene, headers, icmp, quoted, set_ttl};

/// A payload that makes an IP packet of this many bytes.
fn payload_of(packet: usize, to: IpAddr) -> Vec<u8> {
    let mut payload = vec![u8::from(to.is_ipv6()); packet - headers(to)];
    payload[..2].copy_from_slice(&u16::try_from(packet).expect("16 bits").to_be_bytes());
    payload
}

pub(crate) fn too_big_is_answered() -> Result<()> {
    let mut scene = Scene::load("ptb_1400")?;
    for (left, right) in scene.wan.pairs() {
        let socket = scene.left(left)?;
        let _listener = scene.right(right)?;
        socket.send_to(&payload_of(1400, right), (right, PORT))?;
        ensure!(scene.arrived(&payload_of(1400, right))?.ip_total_len == 1400);

        let payload = payload_of(1401, right);
        socket.send_to(&payload, (right, PORT))?;
        let (sent, error) = scene.error_about(&payload)?;
        ensure!(sent.df && sent.ip_total_len == 1401, "{sent}");
        ensure!(icmp(&error)?.next_hop_mtu() == Some(1400), "{error}");
        ensure!(
            error.source.ip() == scene.wan.hop(2).address(left),
            "{error}"
        );
        let quote = quoted(&error)?;
        ensure!((quote.ip_total_len, quote.ttl) == (1401, 63), "{quote}");
        // The kernel believes it: the next goes out in pieces.
        socket.send_to(&payload_of(1450, right), (right, PORT))?;
        scene.near.find(SOON, |p| {
            p.fragment.is_some() && p.destination.ip() == right
        })?;
    }
    let counters = scene.wan.counters();
    ensure!(
        (counters.hops[1].too_big, counters.hops[1].icmp_sent) == (2, 2),
        "{counters:?}"
    );
    Ok(())
}

/// From the right it is the router at the link's other end that answers.
pub(crate) fn too_big_is_answered_from_either_side() -> Result<()> {
    let scene = Scene::load("ptb_1400")?;
    for (left, right) in scene.wan.pairs() {
        let mut wire = perpacket_lab::Sniffer::on(scene.wan.right(), Wan::INTERFACE)?;
        let socket = scene.right(right)?;
        socket.send_to(&payload_of(1401, left), (left, PORT))?;
        let error = wire.find(SOON, |p| {
            p.icmp.as_ref().is_some_and(|i| i.next_hop_mtu().is_some())
        })?;
        ensure!(
            error.source.ip() == scene.wan.hop(3).address(left),
            "{error}"
        );
        ensure!(icmp(&error)?.next_hop_mtu() == Some(1400), "{error}");
    }
    Ok(())
}

pub(crate) fn black_hole_appears_and_goes() -> Result<()> {
    let mut scene = Scene::load("four_hops")?;
    for (left, right) in scene.wan.pairs() {
        let socket = scene.left(left)?;
        let _listener = scene.right(right)?;
        let before = scene.wan.counters().hops[1].too_big;
        for size in [1500, 1499] {
            socket.send_to(&payload_of(size, right), (right, PORT))?;
        }
        scene.arrived(&payload_of(1499, right))?;

        scene.wan.change(|scenario| {
            scenario.hop_mut(2).mtu = Some(1400);
            scenario.hop_mut(2).too_big = Willing::Silent;
        })?;
        for size in [1498, 1401, 1400] {
            socket.send_to(&payload_of(size, right), (right, PORT))?;
        }
        scene.arrived(&payload_of(1400, right))?;
        scene
            .wan
            .change(|scenario| scenario.hop_mut(2).mtu = None)?;
        socket.send_to(&payload_of(1497, right), (right, PORT))?;
        scene.arrived(&payload_of(1497, right))?;

        ensure!(scene.wan.counters().hops[1].too_big == before + 2);
        let is_lost = |p: &Packet| {
            let lost = [1498, 1401].contains(&p.ip_total_len);
            lost && p.direction == Direction::Incoming && p.destination.ip() == right
        };
        ensure!(!scene.far.packets().iter().any(is_lost));
        ensure!(!scene.near.packets().iter().any(|p| p.icmp.is_some()));
    }
    Ok(())
}

pub(crate) fn without_df_it_is_cut() -> Result<()> {
    let mut scene = Scene::load("ptb_1400")?;
    scene
        .wan
        .change(|scenario| scenario.hop_mut(3).mtu = Some(577))?;
    scene.wan.left().sysctl("net.ipv4.ip_no_pmtu_disc", "1")?;
    let (left, right) = scene.wan.pairs()[0];
    let (socket, listener) = (scene.left(left)?, scene.right(right)?);
    let mut payload = payload_of(1500, right);
    for (byte, value) in payload.iter_mut().zip((0..=255).cycle()) {
        *byte = value;
    }
    socket.send_to(&payload, (right, PORT))?;
    let sent = scene.near.find(SOON, |p| p.payload == payload)?;
    ensure!(!sent.df, "{sent}");
    let mut buffer = [0; 2000];
    let length = listener.recv(&mut buffer)?;
    ensure!(buffer[..length] == payload);
    // 1500 to 1396 and 124, as 1400 is no multiple of 8 after the header; the first again to 572, 572 and 292.
    let is_piece = |p: &&Packet| p.fragment.is_some();
    let packets = scene
        .far
        .wait_for(SOON, |p| p.iter().filter(is_piece).count() == 4)?;
    let pieces: Vec<_> = packets.iter().filter(is_piece).collect();
    let lengths: Vec<_> = pieces.iter().map(|p| p.ip_total_len).collect();
    ensure!(lengths == [572, 572, 292, 124], "{lengths:?}");
    ensure!(
        pieces
            .iter()
            .all(|p| p.identification == sent.identification)
    );
    let counters = scene.wan.counters();
    ensure!(
        counters
            .hops
            .iter()
            .map(|hop| hop.fragmented)
            .eq([0, 1, 1, 0]),
        "{counters:?}"
    );
    Ok(())
}

pub(crate) fn jumbo_passes() -> Result<()> {
    let mut scene = Scene::load("jumbo")?;
    for (left, right) in scene.wan.pairs() {
        let _listener = scene.right(right)?;
        let socket = scene.left(left)?;
        socket.send_to(&payload_of(9000, right), (right, PORT))?;
        ensure!(scene.arrived(&payload_of(9000, right))?.ip_total_len == 9000);
    }
    Ok(())
}

/// One send of several datagrams (`UDP_SEGMENT`) is cut before the device, and every piece has its checksum.
pub(crate) fn segmented_sends_are_cut() -> Result<()> {
    let mut scene = Scene::load("four_hops")?;
    for (left, right) in scene.wan.pairs() {
        let _listener = scene.right(right)?;
        let socket = scene.left(left)?;
        setsockopt(&socket, sockopt::UdpGsoSegment, &1000)?;
        let family = u8::from(left.is_ipv6());
        let payload: Vec<u8> = (0..5)
            .flat_map(|piece| [10 * family + piece; 1000])
            .collect();
        socket.send_to(&payload, (right, PORT))?;
        for piece in payload.chunks(1000) {
            scene.arrived(piece)?;
        }
    }
    Ok(())
}

pub(crate) fn quotes_have_their_length() -> Result<()> {
    let mut scene = Scene::load("short_quotes")?;
    for ((left, right), longest) in scene.wan.pairs().into_iter().zip([520, 1184]) {
        let socket = scene.left(left)?;
        for (ttl, expected) in (1..).zip([0, 20, 100, longest]) {
            let size = 1400 + usize::from(ttl);
            set_ttl(&socket, ttl)?;
            let payload = payload_of(size, right);
            socket.send_to(&payload, (right, PORT))?;
            let (sent, error) = scene.error_about(&payload)?;
            let quote = quoted(&error)?;
            ensure!(
                quote.payload == payload[..expected],
                "{} bytes: {quote}",
                quote.payload.len()
            );
            ensure!(
                quote.udp == sent.udp && quote.ip_total_len == size,
                "{quote}"
            );
        }
    }
    Ok(())
}

pub(crate) fn extensions_are_those_of_the_scenario() -> Result<()> {
    let labels: [&[u8]; 2] = [
        // 16001, class 5, not the last, TTL 1; 24005, class 0, the last, TTL 1.
        &[
            0x00, 0x0c, 1, 1, 0x03, 0xe8, 0x1a, 0x01, 0x05, 0xdc, 0x51, 0x01,
        ],
        &[0x00, 0x08, 1, 1, 0xff, 0xff, 0xff, 0xff],
    ];
    let name = b"\x00\x14\x02\x02\x10et-0/0/7.100\0\0\0";
    let expected = [labels[0].to_vec(), [labels[1], name].concat()];
    let mut scene = Scene::load("mpls")?;
    for (left, right) in scene.wan.pairs() {
        let socket = scene.left(left)?;
        for (ttl, objects) in (2..).zip(&expected) {
            set_ttl(&socket, ttl)?;
            // Less than the 128 bytes that an extended quote has, and more.
            for size in [60, 600] {
                let payload = payload_of(size + usize::from(ttl), right);
                socket.send_to(&payload, (right, PORT))?;
                let error = scene.error_about(&payload)?.1;
                let structure = extension(&error).context("no extension")?;
                ensure!(
                    structure[..2] == [0x20, 0] && structure[4..] == objects[..],
                    "{structure:x?}"
                );
                let sum: u64 = structure
                    .chunks(2)
                    .map(|word| u64::from(word[0]) << 8 | u64::from(word[1]))
                    .sum();
                ensure!(sum.is_multiple_of(0xffff), "checksum of {structure:x?}");
            }
        }
        set_ttl(&socket, 1)?;
        socket.send_to(&payload_of(100, right), (right, PORT))?;
        let error = scene.error_about(&payload_of(100, right))?.1;
        ensure!(extension(&error).is_none());
    }
    Ok(())
}

/// What follows the quote, by the length field of RFC 4884 §4.
fn extension(error: &Packet) -> Option<&[u8]> {
    let message = match error.source.ip() {
        IpAddr::V4(_) => &error.raw[20..],
        IpAddr::V6(_) => &error.raw[40..],
    };
    let quoted = match error.source.ip() {
        IpAddr::V4(_) => usize::from(message[5]) * 4,
        IpAddr::V6(_) => usize::from(message[4]) * 8,
    };
    (quoted >= 128).then(|| &message[8 + quoted..])
}

/// Nothing goes wrong, and nobody is told.
pub(crate) fn errors_about_errors_are_not_sent() -> Result<()> {
    let mut scene = Scene::load("four_hops")?;
    let (left, right) = scene.wan.pairs()[0];
    // The right host's port unreachable has too low a TTL to come home.
    scene.wan.right().sysctl("net.ipv4.ip_default_ttl", "2")?;
    scene
        .left(left)?
        .send_to(b"nobody listens", (right, PORT))?;
    scene.arrived(b"nobody listens")?;
    let wan = &scene.wan;
    until(
        SOON,
        || "its end at hop 3".to_owned(),
        || Ok((wan.counters().hops[2].expired == 1).then_some(())),
    )?;
    ensure!(scene.wan.counters().hops[2].icmp_sent == 0);
    Ok(())
}
