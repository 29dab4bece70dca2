//! Options never reach another datagram than their own, and twins never take one in.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr, UdpSocket as StdSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use perpacket_lab::{Lab, Packet, Sniffer};
use perpacket_udp::{MessageOptions, PackedOptions, Support, UdpSocket};

const DATAGRAMS: u32 = 40_000;
const THREADS: u32 = 2;
const SINK: u16 = 4000;

pub(crate) fn v4() -> Result<()> {
    random("127.0.0.1:0", "127.0.0.1")
}

pub(crate) fn v4_wildcard() -> Result<()> {
    random("0.0.0.0:0", "127.0.0.1")
}

pub(crate) fn v6() -> Result<()> {
    random("[::1]:0", "::1")
}

pub(crate) fn v4_mapped() -> Result<()> {
    random("[::ffff:127.0.0.1]:0", "::ffff:127.0.0.1")
}

pub(crate) fn v4_mapped_wildcard() -> Result<()> {
    random("[::]:0", "127.0.0.1")
}

fn random(bind: &str, destination: &str) -> Result<()> {
    check(|| Ok(UdpSocket::bind(bind.parse()?)?), destination.parse()?)
}

/// A socket that was bound elsewhere has one descriptor: its DF bit is switched under a lock.
pub(crate) fn adopted() -> Result<()> {
    check(
        || {
            let socket = UdpSocket::from_std(StdSocket::bind("127.0.0.1:0")?)?;
            ensure!(socket.capabilities().df_bit != Support::PerMessage);
            Ok(socket)
        },
        "127.0.0.1".parse()?,
    )
}

/// Any value of any field, or none, and the same again for the same number.
fn options(number: u32) -> MessageOptions {
    let mut bits = u64::from(number)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits ^= bits >> 29;
    let [a, b, c, ttl, tos, ..] = bits.wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes();
    MessageOptions {
        ttl: (a % 4 != 0).then_some(ttl.max(1)),
        df_bit: (b % 4 != 0).then_some(b % 8 < 4),
        tos: (c % 4 != 0).then_some(tos),
        ..MessageOptions::NONE
    }
}

fn check(make: impl FnOnce() -> Result<UdpSocket> + Send, destination: IpAddr) -> Result<()> {
    let lab = Lab::new();
    let host = lab.host("host")?;
    let runtime = host.runtime()?;
    let sniffer = Sniffer::on(&host, "lo")?;
    // Somebody is there, so that nothing is answered by ICMP. Nobody has to read it.
    let _sink = host.run(|| StdSocket::bind((destination.to_canonical(), SINK)))?;
    let socket = host.run(|| {
        let _in_runtime = runtime.handle().enter();
        make()
    })?;
    let port = socket.local_addr().port();
    let capabilities = socket.capabilities();

    host.run(|| {
        std::thread::scope(|scope| {
            let senders: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let (socket, handle) = (&socket, runtime.handle());
                    scope.spawn(move || handle.block_on(send_share(socket, thread, destination)))
                })
                .collect();
            senders
                .into_iter()
                .try_for_each(|sender| sender.join().expect("no panic"))
        })
    })?;

    // Every twin that was asked for was made.
    ensure!(
        socket.capabilities().df_bit == capabilities.df_bit,
        "{:?}",
        socket.capabilities()
    );
    let capture = sniffer.stop()?;
    ensure!(
        capture.dropped == 0,
        "the sniffer missed {} packets",
        capture.dropped
    );
    let mut seen = HashSet::new();
    for packet in capture
        .packets
        .iter()
        .filter(|packet| packet.destination.port() == SINK)
    {
        let number = u32::from_be_bytes(packet.payload[..].try_into().context("a number")?);
        ensure!(seen.insert(number), "datagram {number} went out twice");
        ensure!(
            packet.source.port() == port,
            "{packet} is not from port {port}"
        );
        ensure!(
            packet.source.ip() == destination.to_canonical(),
            "{packet} has another source"
        );
        let asked = options(number);
        let ttl = if capabilities.ttl == Support::None {
            None
        } else {
            asked.ttl
        };
        let tos = if capabilities.tos == Support::None {
            None
        } else {
            asked.tos
        };
        ensure!(
            packet.ttl == ttl.unwrap_or(64),
            "TTL of {packet}: {asked:?}"
        );
        ensure!(packet.tos == tos.unwrap_or(0), "TOS of {packet}: {asked:?}");
        if packet.source.is_ipv4() && capabilities.df_bit != Support::None {
            // The kernel's own choice for what fits is DF.
            ensure!(
                packet.df == asked.df_bit.unwrap_or(true),
                "DF of {packet}: {asked:?}"
            );
        }
    }
    ensure!(
        seen.len() == DATAGRAMS as usize,
        "{} of {DATAGRAMS} on the wire",
        seen.len()
    );
    Ok(())
}

async fn send_share(socket: &UdpSocket, thread: u32, destination: IpAddr) -> Result<()> {
    for number in (thread..DATAGRAMS).step_by(THREADS as usize) {
        let to = SocketAddr::new(destination, SINK);
        let (contents, options) = (number.to_be_bytes(), options(number));
        let packed = PackedOptions::from(&options);
        match number / THREADS % 3 {
            0 => socket.send_to(&contents, to, &options).await?,
            1 => socket.send_packed(&contents, &to, packed, None).await?,
            _ => {
                let source = Some(&destination);
                socket.send_packed(&contents, &to, packed, source).await?
            }
        };
    }
    Ok(())
}

/// Datagrams come in from 2,000 sources while the socket makes its twins, and all reach `recv_from`.
pub(crate) fn nothing_arrives_at_a_twin() -> Result<()> {
    for (bind, peer) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("0.0.0.0:0", "127.0.0.1"),
        ("[::1]:0", "::1"),
        ("[::]:0", "127.0.0.1"),
        ("[::]:0", "::1"),
    ] {
        let lab = Lab::new();
        let host = lab.host("host")?;
        let peer: IpAddr = peer.parse()?;
        host.runtime()?
            .block_on(arrive_everywhere(bind.parse()?, peer))
            .with_context(|| format!("{bind} from {peer}"))?;
    }
    Ok(())
}

async fn arrive_everywhere(bind: SocketAddr, peer: IpAddr) -> Result<()> {
    const SOURCES: usize = 2000;
    const ROUNDS: usize = 10;
    let socket = UdpSocket::bind(bind)?;
    let to = SocketAddr::new(peer, socket.local_addr().port());
    let sources: Vec<_> = (0..SOURCES)
        .map(|_| StdSocket::bind((peer, 0)))
        .collect::<std::io::Result<_>>()?;
    let mut received = 0;
    let mut buffer = [0; 64];
    for (round, source) in (0..ROUNDS).flat_map(|_| sources.iter()).enumerate() {
        if round % 1500 == 700 {
            // Each value asks for a twin that was not there before.
            let options = MessageOptions {
                df_bit: Some(round % 3000 < 1500),
                ..MessageOptions::NONE
            };
            socket
                .send_to(b"out", source.local_addr()?, &options)
                .await?;
        }
        source.send_to(b"in", to)?;
        // One in flight: what does not come out now was taken by somebody else.
        let got = tokio::time::timeout(Duration::from_secs(5), socket.recv_from(&mut buffer)).await;
        received += 1;
        ensure!(
            got.is_ok(),
            "datagram {received} of {} is lost",
            SOURCES * ROUNDS
        );
        got??;
    }
    Ok(())
}

/// Once bound, no other socket gets the port, not even one that shares.
pub(crate) fn the_port_is_nobody_elses() -> Result<()> {
    let lab = Lab::new();
    let host = lab.host("host")?;
    host.runtime()?.block_on(async {
        let socket = UdpSocket::bind("127.0.0.1:0".parse()?)?;
        let local = socket.local_addr();
        let df = MessageOptions {
            df_bit: Some(false),
            ..MessageOptions::NONE
        };
        socket
            .send_to(b"makes a twin", "127.0.0.1:9".parse()?, &df)
            .await?;
        let intruder = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
        intruder.set_reuse_port(true)?;
        ensure!(
            intruder.bind(&local.into()).is_err(),
            "another socket was bound to {local}"
        );
        ensure!(
            UdpSocket::bind(local).is_err(),
            "another of ours was bound to {local}"
        );
        drop(socket);
        UdpSocket::bind(local).context("the port is free again")?;
        Ok(())
    })
}

/// The UDP datagrams to one port.
pub(crate) fn to_port(packets: &[Packet], port: u16) -> impl Iterator<Item = &Packet> {
    packets
        .iter()
        .filter(move |packet| packet.udp.is_some() && packet.destination.port() == port)
}
