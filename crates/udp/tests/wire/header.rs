//! Every field of the header, one by one.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket as StdSocket},
    time::Duration,
};

use anyhow::{Result, ensure};
use perpacket_lab::{Chain, Lab, Packet, Sniffer};
use perpacket_udp::{Dscp, Ecn, IpOptions, MessageOptions, Support, Tos, Transmit, UdpSocket};

use crate::{exact::to_port, full};

const SINK: u16 = 4000;
const WITHIN: Duration = Duration::from_secs(20);

/// Every TTL and every TOS byte, alone, on every kind of socket.
pub(crate) fn every_code_point() -> Result<()> {
    for (bind, destination) in [
        ("127.0.0.1:0", "127.0.0.1:4000"),
        ("0.0.0.0:0", "127.0.0.1:4000"),
        ("[::1]:0", "[::1]:4000"),
        ("[::]:0", "[::1]:4000"),
        ("[::]:0", "127.0.0.1:4000"),
        ("[::]:0", "[::ffff:127.0.0.1]:4000"),
    ] {
        let lab = Lab::new();
        let host = lab.host("host")?;
        let mut sniffer = Sniffer::on(&host, "lo")?;
        let destination: SocketAddr = destination.parse()?;
        let canonical = SocketAddr::new(destination.ip().to_canonical(), SINK);
        let _sink = host.run(|| StdSocket::bind(canonical))?;
        let asked: Vec<_> = (1..=255u8)
            .map(|ttl| MessageOptions::NONE.with_ttl(ttl))
            .chain((0..=255u8).map(|tos| MessageOptions::NONE.with_tos(tos)))
            .chain(
                (0..64)
                    .map(|dscp| MessageOptions::NONE.with_dscp(Dscp::new(dscp).expect("below 64"))),
            )
            .chain((0..4).map(|ecn| MessageOptions::NONE.with_ecn(Ecn::from_bits(ecn))))
            .collect();
        host.runtime()?.block_on(async {
            let socket = UdpSocket::bind(bind.parse()?)?;
            // The half of the byte that a datagram leaves open is the socket's.
            socket.set_tos(Tos::new(Dscp::AF41, Ecn::Ect0))?;
            ensure!(socket.tos()? == Tos::new(Dscp::AF41, Ecn::Ect0));
            for options in &asked {
                socket.send_to(b"x", destination, options).await?;
            }
            Ok(())
        })?;
        let packets = sniffer.wait_for(WITHIN, |packets| {
            to_port(packets, SINK).count() == asked.len()
        })?;
        for (packet, options) in to_port(packets, SINK).zip(&asked) {
            ensure!(
                packet.ttl == options.ttl.unwrap_or(64),
                "{bind}: {options:?} gave {packet}"
            );
            let own = Tos::new(Dscp::AF41, Ecn::Ect0);
            let tos = options.tos_byte_over(own).unwrap_or(own.byte());
            ensure!(packet.tos == tos, "{bind}: {options:?} gave {packet}");
        }
    }
    Ok(())
}

/// TTL and TOS of the socket hold for datagrams that travel by a twin, made before or after.
pub(crate) fn socket_defaults_reach_every_twin() -> Result<()> {
    let lab = Lab::new();
    let host = lab.host("host")?;
    let mut sniffer = Sniffer::on(&host, "lo")?;
    let _sink = host.run(|| StdSocket::bind(("127.0.0.1", SINK)))?;
    host.runtime()?.block_on(async {
        let socket = UdpSocket::bind("127.0.0.1:0".parse()?)?;
        let to = SocketAddr::from(([127, 0, 0, 1], SINK));
        let df = |df_bit| MessageOptions {
            df_bit: Some(df_bit),
            ..MessageOptions::NONE
        };
        socket.send_to(b"a twin", to, &df(false)).await?;
        socket.set_ttl(77)?;
        socket.set_tos(Tos::from_byte(0xb8))?;
        ensure!((socket.ttl()?, socket.tos()?.byte()) == (77, 0xb8));
        ensure!(socket.set_ttl(0).is_err());
        socket.send_to(b"before", to, &df(false)).await?;
        socket.send_to(b"after", to, &df(true)).await?;
        socket.send_to(b"main", to, &MessageOptions::NONE).await?;
        Ok(())
    })?;
    let packets = sniffer.wait_for(WITHIN, |packets| to_port(packets, SINK).count() == 4)?;
    for packet in to_port(packets, SINK).skip(1) {
        ensure!((packet.ttl, packet.tos) == (77, 0xb8), "{packet}");
    }
    Ok(())
}

pub(crate) fn source_address_and_flow_label() -> Result<()> {
    for (bind, source, destination) in [
        ("0.0.0.0:0", "127.0.0.9", "127.0.0.1:4000"),
        ("[::]:0", "127.0.0.9", "127.0.0.1:4000"),
        ("[::]:0", "fd00::9", "[::1]:4000"),
        ("[::1]:0", "fd00::9", "[::1]:4000"),
    ] {
        let lab = Lab::new();
        let host = lab.host("host")?;
        host.add_addr("lo", "fd00::9/128")?;
        let mut sniffer = Sniffer::on(&host, "lo")?;
        let (source, destination): (IpAddr, SocketAddr) = (source.parse()?, destination.parse()?);
        let _sink = host.run(|| StdSocket::bind(destination))?;
        let per_message = host.runtime()?.block_on(async {
            let socket = UdpSocket::bind(bind.parse()?)?;
            if socket.capabilities().source != Support::PerMessage {
                return Ok(false);
            }
            let options = MessageOptions::NONE
                .with_source(source)
                .with_flow_label(0xabcde);
            socket.send_to(b"x", destination, &options).await?;
            socket
                .send_to(
                    b"x",
                    destination,
                    &MessageOptions {
                        df_bit: Some(true),
                        ..options
                    },
                )
                .await?;
            let foreign = if source.is_ipv4() {
                "192.0.2.1"
            } else {
                "2001:db8::1"
            };
            let options = options.with_source(foreign.parse()?);
            ensure!(
                socket.send_to(b"x", destination, &options).await.is_err(),
                "sent from {foreign}, which is nobody's here"
            );
            ensure!(
                socket.capabilities().ttl == Support::PerMessage,
                "that is no reason to give up on TTL"
            );
            anyhow::Ok(true)
        })?;
        if !per_message {
            continue;
        }
        let packets = sniffer.wait_for(WITHIN, |packets| to_port(packets, SINK).count() == 2)?;
        for packet in to_port(packets, SINK) {
            ensure!(packet.source.ip() == source, "{bind}: {packet}");
            let label = if source.is_ipv6() { 0xabcde } else { 0 };
            ensure!(packet.flow_label == label, "{bind}: {packet}");
        }
    }
    Ok(())
}

/// Above the interface's MTU: DF off fragments, DF on is refused, on both families.
pub(crate) fn large_datagrams_fragment_or_are_refused() -> Result<()> {
    let chain = Chain::new(0, 1500)?;
    for (left, right) in chain.pairs() {
        let mut sniffer = Sniffer::on(&chain.left, &chain.links[0].a)?;
        let _sink = chain.right.run(|| StdSocket::bind((right, SINK)))?;
        let supported = chain.left.runtime()?.block_on(async {
            let socket = UdpSocket::bind((left, 0).into())?;
            if socket.capabilities().df_bit != Support::PerMessage {
                return Ok(false);
            }
            let large = [7; 3000];
            let to = SocketAddr::new(right, SINK);
            let df = |df_bit| MessageOptions {
                df_bit: Some(df_bit),
                ..MessageOptions::NONE
            };
            let refused = socket.send_to(&large, to, &df(true)).await;
            let errno = refused.err().and_then(|error| error.raw_os_error());
            ensure!(errno == Some(libc::EMSGSIZE), "DF on, {left}: {errno:?}");
            socket.send_to(&large, to, &df(false)).await?;
            socket.send_to(&large, to, &MessageOptions::NONE).await?;
            // The refusal is of that datagram alone.
            socket.send_to(b"small", to, &df(true)).await?;
            anyhow::Ok(true)
        })?;
        if !supported {
            continue;
        }
        let is_last = |packet: &Packet| packet.payload[..] == b"small"[..];
        sniffer.find(WITHIN, is_last)?;
        let fragments = sniffer
            .packets()
            .iter()
            .filter(|packet| packet.fragment.is_some());
        ensure!(fragments.clone().all(|packet| !packet.df || left.is_ipv6()));
        ensure!(
            fragments.count() == 6,
            "two datagrams of three fragments each"
        );
    }
    Ok(())
}

pub(crate) fn record_route() -> Result<()> {
    let chain = Chain::new(2, 1500)?;
    let mut sniffer = Sniffer::on(&chain.right, &chain.links[2].b)?;
    let right = chain.right_v4();
    let _sink = chain.right.run(|| StdSocket::bind((right, SINK)))?;
    let sent = chain.left.runtime()?.block_on(async {
        let socket = UdpSocket::bind((chain.left_v4(), 0).into())?;
        let transmit =
            Transmit::new(b"x", (right, SINK).into()).with_ip_options(IpOptions::record_route());
        if full(&socket) {
            socket.send(&transmit).await.map(|_| true)
        } else {
            Ok(false)
        }
    })?;
    if sent {
        let packet = sniffer.find(WITHIN, |packet| packet.destination.port() == SINK)?;
        let route = IpOptions::from_bytes(&packet.ip_options)?.recorded_route();
        ensure!(route.len() >= 2, "two routers and {route:?}");
        for (recorded, link) in route.iter().zip(1..) {
            ensure!(
                recorded.octets()[2] == link || route.len() == 3,
                "{route:?}"
            );
        }
    }
    Ok(())
}
