//! The address that a socket sends from goes away, and comes back.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Result, ensure};
use perpacket_lab::{Lab, Link, Node};
use perpacket_udp::{MessageOptions, Support, Transmit, UdpSocket};

use crate::full;

pub(crate) fn a_flapping_source_v4() -> Result<()> {
    a_flapping_source("0.0.0.0:0", "10.0.1.77/24", "10.0.1.2:9")
}

pub(crate) fn a_flapping_source_v6() -> Result<()> {
    a_flapping_source("[::]:0", "fd00:1::77/64", "[fd00:1::2]:9")
}

/// Of an IPv6 source that is not there the kernel says the same as of a control message that it does not know. Nothing
/// that it does know is given up for that.
fn a_flapping_source(bind: &str, prefix: &str, target: &str) -> Result<()> {
    const FLAPS: usize = 500;
    let (_lab, host, link) = host()?;
    host.add_addr(&link.a, prefix)?;
    let socket = bound(&host, bind)?;
    let source: Option<IpAddr> = prefix.split('/').next().and_then(|ip| ip.parse().ok());
    let options = MessageOptions {
        source,
        ..MessageOptions::NONE.with_ttl(99).with_tos(0xb8)
    };
    let transmit = Transmit::new(&[0; 10], target.parse()?).with_options(options);
    let before = socket.capabilities();
    let done = AtomicBool::new(false);
    let failed = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut failed = 0;
            while !done.load(Ordering::Relaxed) {
                failed += usize::from(socket.try_send(&transmit).is_err());
            }
            failed
        });
        let flaps = (0..FLAPS).try_for_each(|_| {
            host.del_addr(&link.a, prefix)?;
            host.add_addr(&link.a, prefix)
        });
        done.store(true, Ordering::Relaxed);
        flaps.map(|()| sender.join().expect("no panic"))
    })?;
    ensure!(failed > 0 || !full(&socket));
    let after = socket.capabilities();
    ensure!(before == after, "{before:?}, {after:?}");
    Ok(())
}

/// The socket that the DF bit needs cannot be had while the address is away. Afterwards it can.
pub(crate) fn df_bit_first_needed_without_address() -> Result<()> {
    const PREFIX: &str = "10.0.1.77/24";
    let (_lab, host, link) = host()?;
    host.add_addr(&link.a, PREFIX)?;
    let socket = bound(&host, "10.0.1.77:0")?;
    if !full(&socket) {
        return Ok(());
    }
    let options = MessageOptions::NONE.with_df_bit(false);
    let target: SocketAddr = "10.0.1.2:9".parse()?;
    let transmit = Transmit::new(&[0; 10], target).with_options(options);
    let send = || host.run(|| socket.try_send(&transmit));
    host.del_addr(&link.a, PREFIX)?;
    ensure!(send().is_err());
    host.add_addr(&link.a, PREFIX)?;
    send()?;
    ensure!(socket.capabilities().df_bit == Support::PerMessage);
    Ok(())
}

fn host() -> Result<(Lab, Node, Link)> {
    let lab = Lab::new();
    let [host, other] = [lab.host("host")?, lab.host("other")?];
    let link = lab
        .link(&host, &other)
        .v4("10.0.1.1/24", "10.0.1.2/24")
        .v6("fd00:1::1/64", "fd00:1::2/64")
        .up()?;
    Ok((lab, host, link))
}

fn bound(host: &Node, address: &str) -> Result<UdpSocket> {
    let address = address.parse()?;
    Ok(host
        .runtime()?
        .block_on(async { UdpSocket::bind(address) })?)
}
