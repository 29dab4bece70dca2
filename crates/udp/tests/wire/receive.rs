//! What a received datagram's header said.

use std::{net::SocketAddr, time::Duration, time::SystemTime};

use anyhow::{Result, ensure};
use perpacket_lab::Lab;
use perpacket_udp::{Dscp, Ecn, MessageOptions, Tos, UdpSocket};
use tokio::time::timeout;

use crate::full;

const WITHIN: Duration = Duration::from_secs(10);

pub(crate) fn received_header() -> Result<()> {
    for (bind, source) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("0.0.0.0:0", "127.0.0.1"),
        ("[::1]:0", "::1"),
        ("[::]:0", "::1"),
        ("[::]:0", "127.0.0.1"),
    ] {
        let lab = Lab::new();
        let host = lab.host("host")?;
        host.runtime()?.block_on(async {
            let receiver = UdpSocket::builder(bind.parse()?).timestamps(true).bind()?;
            let sender = UdpSocket::bind(SocketAddr::new(source.parse()?, 0))?;
            let to = SocketAddr::new(source.parse()?, receiver.local_addr().port());
            let tos = Tos::new(Dscp::EF, Ecn::Ect1);
            let before = SystemTime::now();
            let options = MessageOptions::NONE.with_ttl(9).with_tos(tos.byte());
            sender.send_to(b"hello", to, &options).await?;
            let mut buffer = [0; 64];
            let meta = timeout(WITHIN, receiver.recv_from(&mut buffer)).await??;
            ensure!(&buffer[..meta.len] == b"hello" && !meta.truncated);
            ensure!(
                meta.source.ip().to_canonical() == to.ip()
                    && meta.source.port() == sender.local_addr().port()
            );
            if full(&receiver) {
                ensure!(
                    meta.ttl == Some(9) && meta.tos == Some(tos),
                    "{bind}: {meta:?}"
                );
                ensure!(
                    meta.destination.map(|d| d.to_canonical()) == Some(to.ip()),
                    "{bind}: {meta:?}"
                );
                ensure!(
                    meta.interface == Some(1),
                    "lo is the first interface: {meta:?}"
                );
                ensure!(
                    meta.timestamp
                        .is_some_and(|at| at >= before && at <= SystemTime::now()),
                    "{meta:?}"
                );
                // A reply from the address that was addressed.
                let source = meta.destination.expect("just seen");
                let reply = MessageOptions::NONE.with_source(source);
                receiver.send_to(b"reply", meta.source, &reply).await?;
                let meta = timeout(WITHIN, sender.recv_from(&mut buffer)).await??;
                ensure!(meta.source == to, "{bind}: {meta:?}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

pub(crate) fn truncation_and_cancellation() -> Result<()> {
    let lab = Lab::new();
    let host = lab.host("host")?;
    host.runtime()?.block_on(async {
        let receiver = UdpSocket::bind("127.0.0.1:0".parse()?)?;
        let sender = UdpSocket::bind("127.0.0.1:0".parse()?)?;
        let to = receiver.local_addr();
        let mut small = [0; 4];
        // A receive that is dropped takes nothing with it.
        for number in 0..1000u32 {
            let _ = timeout(Duration::ZERO, receiver.recv_from(&mut small)).await;
            sender
                .send_to(&number.to_be_bytes(), to, &MessageOptions::NONE)
                .await?;
            let meta = timeout(WITHIN, receiver.recv_from(&mut small)).await??;
            ensure!(meta.len == 4 && small == number.to_be_bytes());
        }
        sender.send_to(&[1; 100], to, &MessageOptions::NONE).await?;
        let meta = timeout(WITHIN, receiver.recv_from(&mut small)).await??;
        ensure!(meta.len == 4 && small == [1; 4]);
        ensure!(meta.truncated || !full(&receiver));
        Ok(())
    })
}
