//! The lab, tested on itself.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::net::if_::if_nametoindex;
use perpacket_lab::{Chain, Direction, Lab, Link, Node, Packet, Sniffer, Test, until};
use socket2::SockRef;

/// For what takes milliseconds, on a machine that is busy with something else.
const SOON: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("each_router_takes_one_hop", each_router_takes_one_hop),
        (
            "ttl_1_ends_at_the_first_router",
            ttl_1_ends_at_the_first_router,
        ),
        ("narrow_link_names_its_mtu", narrow_link_names_its_mtu),
        ("labs_do_not_see_each_other", labs_do_not_see_each_other),
        ("dropped_lab_is_gone", dropped_lab_is_gone),
        ("lab_of_a_panic_is_gone", lab_of_a_panic_is_gone),
        ("addresses_and_routes_change", addresses_and_routes_change),
        ("runtime_is_inside", runtime_is_inside),
        ("process_is_inside_and_killed", process_is_inside_and_killed),
        ("nftables_refuse", nftables_refuse),
    ];
    perpacket_lab::main(tests)
}

fn each_router_takes_one_hop() -> Result<()> {
    let chain = Chain::new(2, 1500)?;
    let mut near = Sniffer::on(&chain.left, &chain.links[0].a)?;
    let mut far = Sniffer::on(&chain.right, &chain.links[2].b)?;
    for (left, right) in chain.pairs() {
        let sender = socket(&chain.left, left)?;
        let receiver = socket(&chain.right, right)?;
        sender.send_to(b"across", receiver.local_addr()?)?;
        let from = receiver.recv_from(&mut [0; 100])?.1;
        ensure!(from == sender.local_addr()?);

        let is_it = |p: &Packet| p.source == from && &*p.payload == b"across";
        let sent = near.find(SOON, is_it)?;
        let arrived = far.find(SOON, is_it)?;
        ensure!(
            (sent.direction, sent.ttl) == (Direction::Outgoing, 64),
            "{sent}"
        );
        ensure!(
            (arrived.direction, arrived.ttl) == (Direction::Incoming, 62),
            "{arrived}"
        );
        ensure!(sent.destination == receiver.local_addr()? && sent.df);
    }
    Ok(())
}

fn ttl_1_ends_at_the_first_router() -> Result<()> {
    let chain = Chain::new(2, 1500)?;
    let mut wire = Sniffer::on(&chain.left, &chain.links[0].a)?;
    let (router, router6) = chain.router_seen_from_left(1);
    for ((left, right), router) in chain.pairs().into_iter().zip([router, router6]) {
        let sender = socket(&chain.left, left)?;
        match left {
            IpAddr::V4(_) => sender.set_ttl(1)?,
            IpAddr::V6(_) => SockRef::from(&sender).set_unicast_hops_v6(1)?,
        }
        // More than a router that limits its errors would answer.
        for i in 0..50 {
            sender.send_to(&[i; 30], (right, 4000))?;
        }
        let answers = |packets: &[Packet]| packets.iter().filter(|p| expired(p, left)).count();
        for answer in wire.wait_for(SOON, |packets| answers(packets) == 50)? {
            if expired(answer, left) {
                let quoted = answer.icmp.as_ref().and_then(|i| i.quoted.as_deref());
                let quoted = quoted.context("nothing quoted")?;
                ensure!(answer.source.ip() == router, "{answer}");
                ensure!(
                    quoted.ttl == 1 && quoted.destination == (right, 4000).into(),
                    "{quoted}"
                );
                ensure!(quoted.payload.len() == 30, "{quoted}");
            }
        }
    }
    Ok(())
}

fn expired(packet: &Packet, of: IpAddr) -> bool {
    let exceeded = packet
        .icmp
        .as_ref()
        .is_some_and(perpacket_lab::Icmp::is_time_exceeded);
    exceeded && packet.destination.ip() == of
}

fn narrow_link_names_its_mtu() -> Result<()> {
    let chain = Chain::with_mtus(&[1500, 1400, 1500])?;
    let mut near = Sniffer::on(&chain.left, &chain.links[0].a)?;
    let mut far = Sniffer::on(&chain.right, &chain.links[2].b)?;
    for ((left, right), headers) in chain.pairs().into_iter().zip([28, 48]) {
        let sender = socket(&chain.left, left)?;
        let payload = [7; 1500];
        // The largest that fits, then one byte more. The kernel sets DF until it knows the path MTU.
        for size in [1400, 1401] {
            sender.send_to(&payload[..size - headers], (right, 4000))?;
        }
        let refusal = near.find(SOON, |p| {
            p.destination.ip() == left
                && p.icmp.as_ref().is_some_and(|i| i.next_hop_mtu().is_some())
        })?;
        let icmp = refusal.icmp.context("found by it")?;
        ensure!(icmp.next_hop_mtu() == Some(1400), "{icmp:?}");
        let quoted = icmp.quoted.context("nothing quoted")?;
        ensure!(quoted.df && quoted.ip_total_len == 1401, "{quoted}");

        // The far wire is asked after a datagram that follows: what was to pass has passed.
        sender.send_to(b"end", (right, 4000))?;
        far.find(SOON, |p| {
            &*p.payload == b"end" && p.destination.ip() == right
        })?;
        let passed: Vec<_> = far.packets().iter().filter(|p| p.udp.is_some()).collect();
        let lengths: Vec<_> = passed
            .iter()
            .filter(|p| p.source.ip() == left)
            .map(|p| p.ip_total_len)
            .collect();
        ensure!(lengths == [1400, 3 + headers], "{lengths:?}");
    }
    Ok(())
}

fn labs_do_not_see_each_other() -> Result<()> {
    let (one, two) = (Chain::new(1, 1500)?, Chain::new(1, 1500)?);
    ensure!(one.left.namespace_id()? != two.left.namespace_id()?);
    let mut received = Vec::new();
    for (chain, text) in [(&one, b"one"), (&two, b"two")] {
        let sniffer = Sniffer::on(&chain.right, &chain.links[1].b)?;
        received.push((chain, text, sniffer, udp_4000(&chain.right)?));
    }
    for (chain, text, _, receiver) in &received {
        socket(&chain.left, chain.left_v4())?.send_to(*text, (chain.right_v4(), 4000))?;
        receiver.recv(&mut [0; 100])?;
    }
    for (_, text, sniffer, _) in received {
        let packets = sniffer.stop()?.packets;
        let payloads: Vec<_> = packets
            .iter()
            .filter(|p| p.udp.is_some())
            .map(|p| &*p.payload)
            .collect();
        ensure!(payloads == [text], "{payloads:?}");
    }
    Ok(())
}

/// One end stays when the other's lab goes, so that it shows what became of the link.
fn dropped_lab_is_gone() -> Result<()> {
    let stays = Lab::new();
    let witness = stays.host("witness")?;
    let goes = Lab::new();
    let link = link_to_witness(&goes, &witness)?;
    ensure!(interface_exists(&witness, &link));
    drop(goes);
    wait_until_gone(&witness, &link)
}

fn lab_of_a_panic_is_gone() -> Result<()> {
    let stays = Lab::new();
    let witness = stays.host("witness")?;
    let mut link = None;
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let lab = Lab::new();
        link = link_to_witness(&lab, &witness).ok();
        let node = lab.host("another").expect("as the one before");
        let _runtime = node.runtime().expect("threads");
        node.run(|| panic!("this panic is part of the test"));
    }));
    ensure!(panic.is_err());
    wait_until_gone(&witness, &link.context("there was a link")?)
}

fn link_to_witness(lab: &Lab, witness: &Node) -> Result<Link> {
    let node = lab.host("goes")?;
    Ok(lab
        .link(witness, &node)
        .v4("10.9.0.1/24", "10.9.0.2/24")
        .up()?)
}

fn interface_exists(node: &Node, link: &Link) -> bool {
    node.run(|| if_nametoindex(&*link.a).is_ok())
}

fn wait_until_gone(witness: &Node, link: &Link) -> Result<()> {
    let gone = || Ok((!interface_exists(witness, link)).then_some(()));
    Ok(until(SOON, || format!("end of {}", link.a), gone)?)
}

fn addresses_and_routes_change() -> Result<()> {
    let chain = Chain::new(1, 1500)?;
    let sender = socket(&chain.left, "0.0.0.0".parse()?)?;
    let send = || sender.send_to(b"x", (chain.right_v4(), 4000));
    send()?;
    chain.left.route_del("0.0.0.0/0")?;
    ensure!(send().is_err_and(|e| e.kind() == ErrorKind::NetworkUnreachable));
    chain.left.route("0.0.0.0/0", "10.0.0.2")?;
    send()?;
    chain.left.add_addr("eth0", "192.0.2.1/32")?;
    socket(&chain.left, "192.0.2.1".parse()?)?;
    chain.left.del_addr("eth0", "192.0.2.1/32")?;
    ensure!(socket(&chain.left, "192.0.2.1".parse()?).is_err());
    chain.left.set_mtu("eth0", 1300)?;
    chain.left.sysctl("net.ipv4.ip_default_ttl", "33")?;
    let mut far = Sniffer::on(&chain.right, &chain.links[1].b)?;
    sender.send_to(b"now", (chain.right_v4(), 4000))?;
    ensure!(far.find(SOON, |p| &*p.payload == b"now")?.ttl == 32);
    Ok(())
}

fn runtime_is_inside() -> Result<()> {
    let lab = Lab::new();
    let host = lab.host("host")?;
    let id = host.namespace_id()?;
    let runtime = host.runtime()?;
    ensure!(own_namespace()? != id);
    ensure!(runtime.block_on(async { own_namespace() })? == id);
    ensure!(runtime.block_on(runtime.spawn(async { own_namespace() }))?? == id);
    let blocking = runtime.handle().spawn_blocking(own_namespace);
    ensure!(runtime.block_on(blocking)?? == id);
    Ok(())
}

fn own_namespace() -> Result<u64> {
    Ok(fs::metadata("/proc/thread-self/ns/net")?.ino())
}

fn process_is_inside_and_killed() -> Result<()> {
    let lab = Lab::new();
    let host = lab.host("host")?;
    let process = host.spawn(Command::new("sleep").arg("1000"))?;
    let proc = format!("/proc/{}", process.id());
    ensure!(fs::metadata(format!("{proc}/ns/net"))?.ino() == host.namespace_id()?);
    drop(process);
    ensure!(!fs::exists(&proc)?);

    let output = host.output(Command::new("sh").args(["-c", "echo said"]))?;
    ensure!(output.stdout == b"said\n");
    let failure = host.output(Command::new("sh").args(["-c", "echo why >&2; exit 3"]));
    let failure = failure.expect_err("exit 3").to_string();
    ensure!(
        failure.contains("exit status: 3") && failure.contains("why"),
        "{failure}"
    );
    Ok(())
}

fn nftables_refuse() -> Result<()> {
    let lab = Lab::new();
    let host = lab.host("host")?;
    let sender = socket(&host, "127.0.0.1".parse()?)?;
    sender.send_to(b"x", "127.0.0.1:4000")?;
    host.nft(
        "table inet t { chain c { type filter hook output priority 0; udp dport 4000 drop; }; }",
    )?;
    let refused = sender
        .send_to(b"x", "127.0.0.1:4000")
        .expect_err("dropped on output");
    ensure!(refused.kind() == ErrorKind::PermissionDenied, "{refused}");
    ensure!(host.nft("no such thing").is_err());
    Ok(())
}

fn socket(node: &Node, address: IpAddr) -> Result<UdpSocket> {
    let socket = node.run(|| UdpSocket::bind((address, 0)))?;
    socket.set_read_timeout(Some(SOON))?;
    Ok(socket)
}

fn udp_4000(node: &Node) -> Result<UdpSocket> {
    let socket = node.run(|| UdpSocket::bind("0.0.0.0:4000"))?;
    socket.set_read_timeout(Some(SOON))?;
    Ok(socket)
}
