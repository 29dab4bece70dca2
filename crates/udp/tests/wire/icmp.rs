//! What the network says of datagrams that did not arrive.

use std::{
    net::{SocketAddr, UdpSocket as StdSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use perpacket_lab::{Chain, Lab, Sniffer};
use perpacket_udp::{IcmpErrorKind, MessageOptions, Support, Transmit, UdpSocket};
use tokio::time::timeout;

use crate::{exact::to_port, full};

const WITHIN: Duration = Duration::from_secs(10);
const SINK: u16 = 4000;

/// Each TTL that is too short is answered by its router, with what identifies the datagram.
pub(crate) fn hop_errors() -> Result<()> {
    let chain = Chain::new(3, 1500)?;
    for (left, right) in chain.pairs() {
        chain.left.runtime()?.block_on(async {
            let socket = UdpSocket::bind((left, 0).into())?;
            if !full(&socket) {
                ensure!(
                    socket.icmp_errors().is_err(),
                    "the portable socket claims no ICMP errors"
                );
                return Ok(());
            }
            let mut errors = socket.icmp_errors()?;
            for hop in 1..=3u8 {
                let to = SocketAddr::new(right, SINK);
                socket
                    .send_to(&[hop; 40], to, &MessageOptions::NONE.with_ttl(hop))
                    .await?;
                let error = timeout(WITHIN, errors.recv())
                    .await?
                    .context("the socket is there")?;
                let (v4, v6) = chain.router_seen_from_left(hop);
                let router = if left.is_ipv4() { v4 } else { v6 };
                ensure!(error.kind == IcmpErrorKind::TimeExceeded, "{error:?}");
                ensure!(
                    error.offender == Some(router) && error.destination == to,
                    "{error:?}"
                );
                ensure!(
                    error.reply_ttl == Some(65 - hop),
                    "the way back of hop {hop}: {error:?}"
                );
                ensure!(error.payload == [hop; 40], "{error:?}");
            }
            // Beyond the last router nobody listens.
            let to = SocketAddr::new(right, SINK);
            socket.send_to(b"there", to, &MessageOptions::NONE).await?;
            let error = timeout(WITHIN, errors.recv())
                .await?
                .context("the socket is there")?;
            ensure!(error.kind == IcmpErrorKind::PortUnreachable, "{error:?}");
            ensure!(error.offender == Some(right), "{error:?}");
            ensure!(errors.missed() == 0);
            Ok(())
        })?;
    }
    Ok(())
}

/// A narrow link behind the first router says its MTU.
pub(crate) fn packet_too_big() -> Result<()> {
    let chain = Chain::with_mtus(&[1500, 1400, 1500])?;
    for (left, right) in chain.pairs() {
        chain.left.runtime()?.block_on(async {
            let socket = UdpSocket::bind((left, 0).into())?;
            if !full(&socket) {
                return Ok(());
            }
            let mut errors = socket.icmp_errors()?;
            let df = MessageOptions {
                df_bit: Some(true),
                ..MessageOptions::NONE
            };
            let to = SocketAddr::new(right, SINK);
            socket.send_to(&[1; 1440], to, &df).await?;
            let error = timeout(WITHIN, errors.recv())
                .await?
                .context("the socket is there")?;
            ensure!(error.kind == IcmpErrorKind::PacketTooBig, "{error:?}");
            ensure!(error.next_hop_mtu == Some(1400), "{error:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// What this host itself refuses is said of whom it was for.
pub(crate) fn too_big_for_this_host() -> Result<()> {
    let chain = Chain::new(1, 1500)?;
    for (left, right) in chain.pairs() {
        chain.left.runtime()?.block_on(async {
            let socket = UdpSocket::bind((left, 0).into())?;
            if !full(&socket) {
                return Ok(());
            }
            let mut errors = socket.icmp_errors()?;
            let to = SocketAddr::new(right, SINK);
            let too_big =
                Transmit::new(&[0; 1500], to).with_options(MessageOptions::NONE.with_df_bit(true));
            for transmit in [too_big, too_big.with_probe(1)] {
                ensure!(socket.refused_mtu().is_none());
                let refused = socket.send(&transmit).await;
                let code = refused.err().and_then(|error| error.raw_os_error());
                ensure!(code == Some(nix::libc::EMSGSIZE), "{code:?}");
                let error = timeout(WITHIN, errors.recv())
                    .await?
                    .context("the socket is there")?;
                ensure!(error.kind == IcmpErrorKind::LocalTooBig, "{error:?}");
                ensure!(error.destination == to, "{error:?}");
                ensure!(error.next_hop_mtu == Some(1500), "{error:?}");
            }
            ensure!(socket.refused_mtu() == Some(1500));
            Ok(())
        })?;
    }
    Ok(())
}

/// Nobody listens at one peer, so that every datagram to it is answered by an error, while another
/// is sent to all along. No send fails, nothing to or from the other is lost, and when it is over
/// the socket rests.
pub(crate) fn an_icmp_storm_fails_nobody() -> Result<()> {
    for (bind, peer) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("0.0.0.0:0", "127.0.0.1"),
        ("[::1]:0", "::1"),
        ("[::]:0", "::1"),
        ("[::]:0", "127.0.0.1"),
    ] {
        let lab = Lab::new();
        let host = lab.host("host")?;
        host.runtime()?
            .block_on(storm(bind.parse()?, peer.parse()?))
            .with_context(|| format!("{bind} to {peer}"))?;
    }
    Ok(())
}

async fn storm(bind: SocketAddr, peer: std::net::IpAddr) -> Result<()> {
    const ROUNDS: u32 = 1500;
    let socket = UdpSocket::bind(bind)?;
    if !full(&socket) {
        return Ok(());
    }
    let echo = tokio::net::UdpSocket::bind((peer, SINK)).await?;
    let mut errors = socket.icmp_errors()?;
    let (nobody, echo_at) = (SocketAddr::new(peer, 9), SocketAddr::new(peer, SINK));
    let mut counted = 0u64;
    let mut buffer = [0; 64];
    let mut echoed = [0; 64];
    for round in 0..ROUNDS {
        // Every way to send: by main's own mode, and by twins.
        let df_bit = [None, Some(true), Some(false)][round as usize % 3];
        let options = MessageOptions {
            df_bit,
            ..MessageOptions::NONE
        };
        for _ in 0..3 {
            socket
                .send_to(b"nobody", nobody, &options)
                .await
                .context("the storm failed its own send")?;
        }
        let number = round.to_be_bytes();
        socket
            .send_to(&number, echo_at, &options)
            .await
            .context("the storm failed another's send")?;
        let (length, from) = timeout(WITHIN, echo.recv_from(&mut echoed))
            .await
            .context("lost on the way out")??;
        ensure!(echoed[..length] == number);
        echo.send_to(&number, from).await?;
        let meta = timeout(WITHIN, socket.recv_from(&mut buffer))
            .await
            .context("lost on the way in")??;
        ensure!(buffer[..meta.len] == number);
        while let Ok(error) = timeout(Duration::ZERO, errors.recv()).await {
            ensure!(error.context("the socket is there")?.kind == IcmpErrorKind::PortUnreachable);
            counted += 1;
        }
    }
    // Every twin that was asked for was made, those that stand in for main as well.
    ensure!(socket.capabilities().df_bit == Support::PerMessage);
    while counted + errors.missed() < u64::from(ROUNDS) * 3 {
        timeout(WITHIN, errors.recv())
            .await
            .with_context(|| format!("{counted} errors of {}", ROUNDS * 3))?
            .context("the socket is there")?;
        counted += 1;
    }
    idle_costs_nothing(&socket, &mut errors).await
}

/// Errors that nobody has read yet leave room for datagrams, though the kernel counts both against one buffer.
pub(crate) fn unread_errors_displace_no_datagram() -> Result<()> {
    const ERRORS: usize = 300;
    const DATAGRAMS: u8 = 40;
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let at: SocketAddr = at.parse()?;
        let lab = Lab::new();
        let host = lab.host("host")?;
        host.runtime()?.block_on(async {
            let socket = UdpSocket::bind(at)?;
            if !full(&socket) {
                return Ok(());
            }
            let _errors = socket.icmp_errors()?;
            let nobody = SocketAddr::new(at.ip(), 9);
            for _ in 0..ERRORS {
                socket.try_send(&Transmit::new(b"nobody", nobody))?;
            }
            let sender = StdSocket::bind(at)?;
            for number in 0..DATAGRAMS {
                sender.send_to(&[number; 1000], socket.local_addr())?;
            }
            let mut buffer = [0; 1000];
            for number in 0..DATAGRAMS {
                let meta = timeout(WITHIN, socket.recv_from(&mut buffer))
                    .await
                    .with_context(|| format!("{at}: {number} of {DATAGRAMS} came in"))??;
                ensure!(meta.len == 1000 && buffer[0] == number);
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// With nothing to do, whoever waits on the socket waits.
async fn idle_costs_nothing(
    socket: &UdpSocket,
    errors: &mut perpacket_udp::IcmpErrors,
) -> Result<()> {
    let used = || -> Result<Duration> {
        let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
        let (user, system) = (usage.user_time(), usage.system_time());
        let micros = user.tv_sec() * 1_000_000
            + user.tv_usec()
            + system.tv_sec() * 1_000_000
            + system.tv_usec();
        Ok(Duration::from_micros(u64::try_from(micros)?))
    };
    let mut buffer = [0; 64];
    let before = used()?;
    let rest = Duration::from_millis(300);
    let idle = timeout(rest, async {
        tokio::select! {
            _ = socket.recv_from(&mut buffer) => {}
            _ = errors.recv() => {}
        }
    });
    ensure!(idle.await.is_err(), "something was left over");
    // A loop that spins uses all of the time; one that waits, microseconds.
    let used = used()?.saturating_sub(before);
    ensure!(used < rest / 4, "{used:?} of {rest:?} used while idle");
    Ok(())
}

/// "Fragmentation needed" makes the kernel fragment what has no DF option, but
/// neither cuts nor refuses what has.
pub(crate) fn what_icmp_says_cuts_no_datagram() -> Result<()> {
    let chain = Chain::with_mtus(&[1500, 1280])?;
    let (left, right) = (chain.left_v4(), chain.right_v4());
    let mut sniffer = Sniffer::on(&chain.left, &chain.links[0].a)?;
    let sent = chain.left.runtime()?.block_on(async {
        let socket = UdpSocket::bind((left, 0).into())?;
        if !full(&socket) {
            return Ok(false);
        }
        let mut errors = socket.icmp_errors()?;
        let to = SocketAddr::new(right, SINK);
        let df = |df_bit| MessageOptions {
            df_bit: Some(df_bit),
            ..MessageOptions::NONE
        };
        socket.send_to(&[1; 1400], to, &df(true)).await?;
        let error = timeout(WITHIN, errors.recv())
            .await?
            .context("the socket is there")?;
        ensure!(error.next_hop_mtu == Some(1280), "{error:?}");
        // From here on the kernel believes 1280.
        socket
            .send_to(&[2; 1400], to, &MessageOptions::NONE)
            .await?;
        socket.send_to(&[3; 1400], to, &df(true)).await?;
        socket.send_to(&[4; 1400], to, &df(false)).await?;
        anyhow::Ok(true)
    })?;
    if sent {
        let whole = |first: u8| {
            move |packet: &perpacket_lab::Packet| {
                packet.destination.port() == SINK
                    && packet.fragment.is_none()
                    && packet.payload.first() == Some(&first)
            }
        };
        ensure!(sniffer.find(WITHIN, whole(3))?.df);
        ensure!(!sniffer.find(WITHIN, whole(4))?.df);
        let packets = sniffer.packets();
        ensure!(
            !packets.iter().any(whole(2)),
            "the kernel's default did not fragment: no forged MTU was at work"
        );
        ensure!(to_port(packets, SINK).count() >= 3);
    }
    Ok(())
}

/// A subscription does not keep a socket open, and hears of its end.
pub(crate) fn errors_end_with_the_socket() -> Result<()> {
    let lab = Lab::new();
    let host = lab.host("host")?;
    host.runtime()?.block_on(async {
        let socket = UdpSocket::bind("127.0.0.1:0".parse()?)?;
        if !full(&socket) {
            return Ok(());
        }
        let local = socket.local_addr();
        let mut idle = socket.icmp_errors()?;
        let mut errors = socket.icmp_errors()?;
        let waiting = tokio::spawn(async move { errors.recv().await });
        drop(socket);
        ensure!(timeout(WITHIN, waiting).await??.is_none());
        StdSocket::bind(local).context("a subscription kept the port")?;
        ensure!(timeout(WITHIN, idle.recv()).await?.is_none());
        Ok(())
    })
}
