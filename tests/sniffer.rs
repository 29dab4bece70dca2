//! The sniffer, tested on known traffic.

use std::collections::HashSet;
use std::fs::{self, File};
use std::net::{IpAddr, UdpSocket};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;
use perpacket_lab::{Chain, Error, Lab, Node, Packet, Sniffer, Test, until, write_pcap};

/// For what takes milliseconds, on a machine that is busy with something else.
const SOON: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("fragments_are_told_apart", fragments_are_told_apart),
        ("segmented_sends_are_cut", segmented_sends_are_cut),
        ("nothing_is_lost", nothing_is_lost),
        ("link_that_flaps_is_survived", link_that_flaps_is_survived),
        ("time_out_tells_what_was_seen", time_out_tells_what_was_seen),
        ("pcap_holds_the_packets", pcap_holds_the_packets),
    ];
    perpacket_lab::main(tests)
}

fn fragments_are_told_apart() -> Result<()> {
    let chain = Chain::new(0, 1500)?;
    let mut wire = Sniffer::on(&chain.left, &chain.links[0].a)?;
    for (left, right) in chain.pairs() {
        let sender = socket(&chain.left, left)?;
        let receiver = socket(&chain.right, right)?;
        sender.send_to(&[1; 3000], receiver.local_addr()?)?;
        ensure!(receiver.recv(&mut [0; 4000])? == 3000);

        let ours = |p: &&Packet| p.source.ip() == left && p.protocol == 17;
        let pieces: Vec<_> = wire
            .wait_for(SOON, |packets| packets.iter().filter(ours).count() == 3)?
            .iter()
            .filter(ours)
            .collect();
        let mut next = 0;
        for (index, piece) in pieces.iter().enumerate() {
            let fragment = piece.fragment.context("not a fragment")?;
            ensure!(fragment.offset == next && !piece.df, "{piece}");
            ensure!(fragment.more == (index < 2), "{piece}");
            ensure!(Some(fragment.identification) == pieces[0].fragment.map(|f| f.identification));
            ensure!(
                piece.udp.is_some() == (index == 0),
                "only the first has a UDP header: {piece}"
            );
            let header = if piece.udp.is_some() { 8 } else { 0 };
            next += u16::try_from(piece.payload.len() + header)?;
        }
        ensure!(next == 3008, "{next}");
    }
    Ok(())
}

fn segmented_sends_are_cut() -> Result<()> {
    let chain = Chain::new(0, 1500)?;
    let lo = chain.left.run(Sniffer::on_loopback)?;
    let wire = Sniffer::on(&chain.left, &chain.links[0].a)?;
    let sender = socket(&chain.left, chain.left_v4())?;
    setsockopt(&sender, sockopt::UdpGsoSegment, &100)?;
    for destination in [chain.left_v4(), chain.right_v4()] {
        sender.send_to(&[1; 1050], (destination, 4000))?;
    }
    for sniffer in [lo, wire] {
        let packets = sniffer.stop()?.packets;
        let sizes: Vec<_> = packets
            .iter()
            .filter(|p| p.udp.is_some())
            .map(|p| p.payload.len())
            .collect();
        ensure!(
            sizes == [100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 50],
            "{sizes:?}"
        );
    }
    Ok(())
}

fn nothing_is_lost() -> Result<()> {
    const EACH: u32 = 20_000;
    let lab = Lab::new();
    let host = lab.host("host")?;
    let sniffer = host.run(Sniffer::on_loopback)?;
    // Somebody must listen, or an ICMP error for each doubles the traffic.
    let receiver = socket(&host, "127.0.0.1".parse()?)?;
    let sender = socket(&host, "127.0.0.1".parse()?)?;
    let destination = receiver.local_addr()?;
    thread::scope(|scope| {
        let send = |start: u32| {
            (start..start + EACH)
                .try_for_each(|i| sender.send_to(&i.to_be_bytes(), destination).map(drop))
        };
        let other = scope.spawn(move || send(EACH));
        send(0).and(other.join().expect("no panic"))
    })?;
    let capture = sniffer.stop()?;
    ensure!(capture.dropped == 0, "{} dropped", capture.dropped);
    ensure!(capture.packets.is_sorted_by_key(|p| p.at));
    let payloads: HashSet<_> = capture.packets.iter().map(|p| p.payload.clone()).collect();
    ensure!(
        capture.packets.len() == 2 * EACH as usize,
        "{} packets",
        capture.packets.len()
    );
    ensure!(
        payloads.len() == 2 * EACH as usize,
        "{} different ones",
        payloads.len()
    );
    Ok(())
}

fn link_that_flaps_is_survived() -> Result<()> {
    let chain = Chain::new(0, 1500)?;
    let mut wire = Sniffer::on(&chain.right, &chain.links[0].b)?;
    let sender = socket(&chain.left, chain.left_v6())?;
    chain.right.link_set_down(&chain.links[0].b)?;
    chain.right.link_set_up(&chain.links[0].b)?;
    // The address is kept; the first datagrams may go before the carrier is back.
    until(
        SOON,
        || "a datagram after the flap".to_owned(),
        || {
            let _ = sender.send_to(b"after", (chain.right_v6(), 4000));
            Ok(wire
                .packets()
                .iter()
                .any(|p| &*p.payload == b"after")
                .then_some(()))
        },
    )?;
    Ok(())
}

fn time_out_tells_what_was_seen() -> Result<()> {
    let lab = Lab::new();
    let host = lab.host("host")?;
    let mut lo = host.run(Sniffer::on_loopback)?;
    socket(&host, "127.0.0.1".parse()?)?.send_to(b"there", "127.0.0.1:4000")?;
    ensure!(&*lo.next(SOON)?.payload == b"there");
    ensure!(lo.next(SOON)?.icmp.is_some_and(|i| i.is_port_unreachable()));
    let error = lo
        .next(Duration::from_millis(1))
        .expect_err("there were two");
    ensure!(matches!(error, Error::TimedOut { .. }));
    ensure!(
        error.to_string().contains("> 127.0.0.1:4000 protocol 17"),
        "{error}"
    );
    Ok(())
}

fn pcap_holds_the_packets() -> Result<()> {
    let lab = Lab::new();
    let host = lab.host("host")?;
    let lo = host.run(Sniffer::on_loopback)?;
    let sender = socket(&host, "::1".parse()?)?;
    sender.send_to(b"kept", "[::1]:4000")?;
    let packets = lo.stop()?.packets;

    let path = std::env::temp_dir().join(format!("perpacket-lab-{}.pcap", std::process::id()));
    write_pcap(&path, &packets)?;
    let mut reader = PcapReader::new(File::open(&path)?)?;
    fs::remove_file(&path)?;
    ensure!(reader.header().datalink == DataLink::RAW);
    for packet in packets {
        let kept = reader.next_packet().context("one is missing")??;
        ensure!(*kept.data == *packet.raw);
        ensure!(SystemTime::UNIX_EPOCH + kept.timestamp == packet.at);
    }
    ensure!(reader.next_packet().is_none());
    Ok(())
}

fn socket(node: &Node, address: IpAddr) -> Result<UdpSocket> {
    let socket = node.run(|| UdpSocket::bind((address, 0)))?;
    socket.set_read_timeout(Some(SOON))?;
    Ok(socket)
}
