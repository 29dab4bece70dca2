//! Many datagrams by few system calls: each as if it were alone.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::{Chain, Lab, Packet, Sniffer};
use perpacket_udp::{
    BatchCounters, Batching, MessageOptions, RecvBatch, Tos, UdpSocket, UdpSocketBuilder,
};
use tokio::time::timeout;

use crate::full;

const WITHIN: Duration = Duration::from_secs(10);
const SINK: u16 = 4000;

/// A socket that gathers.
fn gathering(address: IpAddr) -> UdpSocketBuilder {
    UdpSocket::builder((address, 0).into()).batching(Batching::new())
}

fn counters(socket: &UdpSocket) -> Result<BatchCounters> {
    socket.batch_counters().context("it does not gather")
}

/// Contents that name their number.
fn numbered(number: usize, length: usize) -> Vec<u8> {
    let mut contents = vec![0xa5; length];
    contents[..4].copy_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
    contents
}

fn number(contents: &[u8]) -> Option<usize> {
    let first = contents.first_chunk::<4>()?;
    usize::try_from(u32::from_be_bytes(*first)).ok()
}

/// The addresses of the two ends, by family.
fn families() -> Result<[[IpAddr; 2]; 2]> {
    Ok([
        ["10.0.0.1".parse()?, "10.0.0.2".parse()?],
        ["fd00::1".parse()?, "fd00::2".parse()?],
    ])
}

/// The datagrams that left for the sink.
fn on_the_wire(sniffer: &mut Sniffer, count: usize) -> Result<Vec<Packet>> {
    let to_sink = |packet: &Packet| packet.udp.is_some() && packet.destination.port() == SINK;
    sniffer.wait_for(WITHIN, |packets| {
        packets.iter().filter(|packet| to_sink(packet)).count() >= count
    })?;
    let packets = sniffer.packets().iter();
    Ok(packets.filter(|packet| to_sink(packet)).cloned().collect())
}

/// Runs of sixteen with each value of DF: on the wire they are what they would be one by one.
pub(crate) fn runs_have_their_options() -> Result<()> {
    let chain = Chain::new(0, 1500)?;
    let _sink = chain
        .right
        .run(|| std::net::UdpSocket::bind(("::", SINK)))?;
    for [from, to] in families()? {
        let mut sniffer = Sniffer::on(&chain.left, "eth0")?;
        let to = SocketAddr::new(to, SINK);
        let counters = chain.left.runtime()?.block_on(async {
            let socket = gathering(from).bind()?;
            if !full(&socket) {
                return Ok(None);
            }
            for run in 0..12 {
                let options = MessageOptions {
                    df_bit: [None, Some(true), Some(false)][run % 3],
                    ..MessageOptions::NONE
                        .with_ttl(u8::try_from(run)? + 20)
                        .with_tos(u8::try_from(run)? * 4)
                };
                for datagram in 0..16 {
                    let length = if datagram == 15 { 700 } else { 1200 };
                    let contents = numbered(run * 16 + datagram, length);
                    socket.send_to(&contents, to, &options).await?;
                }
            }
            until(|| Ok(counters(&socket)?.sent == 192)).await?;
            anyhow::Ok(Some(counters(&socket)?))
        })?;
        let Some(counters) = counters else {
            return Ok(());
        };
        let packets = on_the_wire(&mut sniffer, 192)?;
        ensure!(packets.len() == 192, "{}", packets.len());
        for (expected, packet) in packets.iter().enumerate() {
            ensure!(number(&packet.payload) == Some(expected), "{packet:?}");
            let run = expected / 16;
            let length = if expected % 16 == 15 { 700 } else { 1200 };
            ensure!(packet.payload.len() == length, "{packet:?}");
            ensure!(usize::from(packet.ttl) == run + 20, "{packet:?}");
            ensure!(usize::from(packet.tos) == run * 4, "{packet:?}");
            if from.is_ipv4() {
                ensure!(packet.df == (run % 3 != 2), "{run}: {packet:?}");
            }
        }
        // The first goes out at once; a run of those that wait is one message of many in a call.
        ensure!(counters.calls < 120, "{counters:?}");
        ensure!(counters.in_runs > 50, "{counters:?}");
        ensure!(counters.dropped == 0 && !counters.runs_refused);
    }
    Ok(())
}

/// Whatever is sent to whom by whom, each arrives once, as it was sent, and in order.
pub(crate) fn everything_arrives_in_order() -> Result<()> {
    const DATAGRAMS: usize = 6000;
    for address in ["127.0.0.1", "::1"] {
        let lab = Lab::new();
        let host = lab.host("host")?;
        host.runtime()?.block_on(async {
            let address: IpAddr = address.parse()?;
            let receivers: Vec<_> = (0..4)
                .map(|_| {
                    UdpSocket::builder((address, 0).into())
                        .recv_batches(true)
                        .recv_buffer(8 << 20)
                        .bind()
                })
                .collect::<Result<_, _>>()?;
            let to: Vec<_> = receivers.iter().map(UdpSocket::local_addr).collect();
            let sender = Arc::new(gathering(address).bind()?);
            let full = full(&sender);
            let senders: Vec<_> = (0..2)
                .map(|thread| {
                    let (sender, to) = (Arc::clone(&sender), to.clone());
                    tokio::spawn(async move {
                        for at in 0..DATAGRAMS {
                            let (place, length, options) = arbitrary(at);
                            let contents = numbered(at * 2 + thread, length);
                            sender.send_to(&contents, to[place], &options).await?;
                            if at % 700 == 0 {
                                tokio::time::sleep(Duration::from_millis(1)).await;
                            }
                        }
                        anyhow::Ok(())
                    })
                })
                .collect();
            let mut batch = RecvBatch::new();
            let mut buffer = vec![0; 2000];
            let mut last = HashMap::new();
            let mut together = 0;
            for (place, receiver) in receivers.iter().enumerate() {
                let due = (0..DATAGRAMS)
                    .filter(|at| arbitrary(*at).0 == place)
                    .count()
                    * 2;
                let mut got = 0;
                while got < due {
                    // The one way and the other, in turns.
                    let mut datagrams = Vec::new();
                    if place % 2 == 0 || got % 3 == 0 {
                        timeout(WITHIN, receiver.recv_batch(&mut batch)).await??;
                        together = together.max(batch.len());
                        let each = batch
                            .iter()
                            .map(|(datagram, meta)| (datagram.to_vec(), *meta));
                        datagrams.extend(each);
                    } else {
                        let meta = timeout(WITHIN, receiver.recv_from(&mut buffer)).await??;
                        datagrams.push((buffer[..meta.len].to_vec(), meta));
                    }
                    for (datagram, meta) in datagrams {
                        let number = number(&datagram).context("too short")?;
                        let (at, thread) = (number / 2, number % 2);
                        let (its_place, length, options) = arbitrary(at);
                        ensure!(its_place == place && datagram == numbered(number, length));
                        ensure!(meta.source == sender.local_addr() && !meta.truncated);
                        if full {
                            ensure!(meta.ttl == options.ttl, "{meta:?} {options:?}");
                            ensure!(meta.tos.map(Tos::byte) == options.tos_byte());
                        }
                        let before = last.insert((place, thread), at);
                        ensure!(before.is_none_or(|before| before < at), "{before:?} {at}");
                        got += 1;
                    }
                }
            }
            for sender in senders {
                sender.await??;
            }
            if full {
                ensure!(together > 8, "no more than {together} at a time");
                let counters = counters(&sender)?;
                ensure!(counters.sent == 2 * DATAGRAMS as u64, "{counters:?}");
                ensure!(
                    counters.in_runs > 0 && counters.dropped == 0,
                    "{counters:?}"
                );
            }
            anyhow::Ok(())
        })?;
    }
    Ok(())
}

/// To which receiver, how long, and with what: in runs, now and then interleaved.
fn arbitrary(at: usize) -> (usize, usize, MessageOptions) {
    let run = at / 7;
    let place = if run.is_multiple_of(3) {
        at % 4
    } else {
        run % 4
    };
    let length = if at % 7 == 6 {
        100
    } else {
        [1200, 300][run % 2]
    };
    let byte = u8::try_from(run % 50).unwrap_or_default();
    let options = MessageOptions {
        df_bit: [Some(true), Some(false), None][run % 5 % 3],
        ..MessageOptions::NONE.with_ttl(byte + 9).with_tos(byte * 4)
    };
    (place, length, options)
}

/// Above the MTU a run is refused; its datagrams are cut, or refused, as they would be one by one.
pub(crate) fn too_large_for_a_run() -> Result<()> {
    let chain = Chain::new(0, 1300)?;
    let _sink = chain
        .right
        .run(|| std::net::UdpSocket::bind(("::", SINK)))?;
    for [from, to] in families()? {
        let mut sniffer = Sniffer::on(&chain.left, "eth0")?;
        let to = SocketAddr::new(to, SINK);
        let done = chain.left.runtime()?.block_on(async {
            let socket = gathering(from).bind()?;
            if !full(&socket) {
                return Ok(false);
            }
            let refused = Arc::new(Mutex::new(Vec::new()));
            let noted = Arc::clone(&refused);
            socket.on_dropped(move |transmit, error| {
                let what = (
                    transmit.destination,
                    number(transmit.contents),
                    error.raw_os_error(),
                );
                noted.lock().expect("no panic").push(what);
            });
            let free = MessageOptions::NONE;
            let df = free.with_df_bit(true);
            for at in 0..5 {
                socket.send_to(&numbered(at, 1400), to, &free).await?;
            }
            // One that goes out at once says so at once.
            let mut at_once = 0;
            for at in 5..10 {
                if let Err(error) = socket.send_to(&numbered(at, 1400), to, &df).await {
                    let said = error.io().and_then(std::io::Error::raw_os_error);
                    let mut refused = refused.lock().expect("no panic");
                    refused.push((to, Some(at), said));
                    at_once += 1;
                }
            }
            for at in 10..15 {
                socket.send_to(&numbered(at, 1200), to, &df).await?;
            }
            until(|| {
                let counters = counters(&socket)?;
                Ok(counters.sent == 10 && counters.dropped == 5 - at_once)
            })
            .await?;
            let expected = (5..10).map(|at| (to, Some(at), Some(libc::EMSGSIZE)));
            let mut refused = refused.lock().expect("no panic");
            refused.sort_unstable_by_key(|(_, at, _)| *at);
            ensure!(refused.iter().copied().eq(expected), "{refused:?}");
            let counters = counters(&socket)?;
            ensure!(counters.dropped_bytes == (5 - at_once) * 1400 && !counters.runs_refused);
            anyhow::Ok(true)
        })?;
        if !done {
            return Ok(());
        }
        let packets = sniffer.wait_for(WITHIN, |packets| {
            packets
                .iter()
                .filter(|packet| packet.payload.len() == 1200)
                .count()
                >= 5
        });
        packets?;
        let fragments = sniffer
            .packets()
            .iter()
            .filter(|packet| packet.fragment.is_some());
        let fragments = fragments.count();
        ensure!(fragments == 10, "{fragments} fragments of five datagrams");
    }
    Ok(())
}

/// Who sends faster than the device takes waits, and nothing is lost.
pub(crate) fn who_sends_too_fast_waits() -> Result<()> {
    const DATAGRAMS: usize = 400;
    let lab = Lab::new();
    let host = lab.host("host")?;
    host.runtime()?.block_on(async {
        let receiver = UdpSocket::builder("127.0.0.1:0".parse()?)
            .recv_buffer(8 << 20)
            .recv_batches(true)
            .bind()?;
        let sender = UdpSocket::builder("127.0.0.1:0".parse()?)
            .batching(Batching::new().with_max_bytes(5000))
            .bind()?;
        if !full(&sender) {
            return Ok(());
        }
        let to = receiver.local_addr();
        let mut full = 0;
        for at in 0..DATAGRAMS {
            let contents = numbered(at, 1000);
            let transmit = perpacket_udp::Transmit::new(&contents, to);
            // Nothing else runs meanwhile, so the queue has to fill.
            if sender.try_send(&transmit).is_err() {
                full += 1;
                sender.send(&transmit).await?;
            }
        }
        ensure!(full > 20, "{full} times");
        let mut batch = RecvBatch::new();
        let mut next = 0;
        while next < DATAGRAMS {
            timeout(WITHIN, receiver.recv_batch(&mut batch)).await??;
            for (datagram, _) in batch.iter() {
                ensure!(number(datagram) == Some(next), "{next}");
                next += 1;
            }
        }
        let counters = counters(&sender)?;
        ensure!((counters.sent, counters.dropped) == (DATAGRAMS as u64, 0));
        anyhow::Ok(())
    })
}

/// What was asked for one by one came in a batch that had grown, and its rest is taken by one that has not.
pub(crate) fn what_is_left_fits_into_a_new_batch() -> Result<()> {
    const DATAGRAMS: usize = 14;
    let lab = Lab::new();
    let host = lab.host("host")?;
    host.runtime()?.block_on(async {
        let receiver = UdpSocket::builder("127.0.0.1:0".parse()?)
            .recv_batches(true)
            .recv_buffer(8 << 20)
            .bind()?;
        let sender = std::net::UdpSocket::bind("127.0.0.1:0")?;
        let mut buffer = vec![0; 65_536];
        let mut most = 0;
        // Each time there is room for twice as many as before.
        for round in 0..5 {
            for number in 0..DATAGRAMS {
                sender.send_to(&numbered(number, 60_000), receiver.local_addr())?;
            }
            let meta = timeout(WITHIN, receiver.recv_from(&mut buffer)).await??;
            ensure!(buffer[..meta.len] == numbered(0, 60_000), "{round}");
            let mut next = 1;
            while next < DATAGRAMS {
                let mut batch = RecvBatch::new();
                timeout(WITHIN, receiver.recv_batch(&mut batch)).await??;
                most = most.max(batch.len());
                for (datagram, meta) in batch.iter() {
                    ensure!(
                        !meta.truncated && datagram == numbered(next, 60_000),
                        "{round}: {next}, {meta:?}"
                    );
                    next += 1;
                }
            }
        }
        ensure!(
            most == DATAGRAMS - 1 || !full(&receiver),
            "{most} at a time"
        );
        anyhow::Ok(())
    })
}

/// What waits when the socket is dropped goes out.
pub(crate) fn dropping_sends_what_waits() -> Result<()> {
    let lab = Lab::new();
    let host = lab.host("host")?;
    host.runtime()?.block_on(async {
        let receiver = UdpSocket::bind("127.0.0.1:0".parse()?)?;
        let sender = gathering("127.0.0.1".parse()?).bind()?;
        let address = sender.local_addr();
        for at in 0..50 {
            let options = MessageOptions::NONE.with_ttl(u8::try_from(at)? + 1);
            sender
                .send_to(&numbered(at, 20), receiver.local_addr(), &options)
                .await?;
        }
        drop(sender);
        let mut buffer = [0; 100];
        for at in 0..50 {
            let meta = timeout(WITHIN, receiver.recv_from(&mut buffer)).await??;
            ensure!(number(&buffer[..meta.len]) == Some(at));
            if full(&receiver) {
                ensure!(meta.ttl == Some(u8::try_from(at)? + 1));
            }
        }
        // And the port is free.
        until(|| Ok(std::net::UdpSocket::bind(address).is_ok())).await
    })
}

/// A small buffer for one of many.
pub(crate) fn a_batch_one_by_one() -> Result<()> {
    let lab = Lab::new();
    let host = lab.host("host")?;
    host.runtime()?.block_on(async {
        let receiver = UdpSocket::builder("127.0.0.1:0".parse()?)
            .recv_batches(true)
            .bind()?;
        let sender = UdpSocket::bind("127.0.0.1:0".parse()?)?;
        for at in 0..40 {
            let contents = numbered(at, at + 4);
            sender
                .send_to(&contents, receiver.local_addr(), &MessageOptions::NONE)
                .await?;
        }
        let mut buffer = [0; 20];
        for at in 0..40 {
            let meta = timeout(WITHIN, receiver.recv_from(&mut buffer)).await??;
            ensure!(number(&buffer) == Some(at), "{at}: {meta:?}");
            // Elsewhere nobody says so.
            if full(&receiver) {
                ensure!(meta.truncated == (at + 4 > 20) && meta.len == (at + 4).min(20));
            }
        }
        let nothing = receiver
            .try_recv_from(&mut buffer)
            .expect_err("all are read");
        ensure!(nothing.io().map(std::io::Error::kind) == Some(std::io::ErrorKind::WouldBlock));
        let nothing = receiver.try_recv_batch(&mut RecvBatch::new());
        ensure!(nothing.is_err());
        anyhow::Ok(())
    })
}

/// Waits until it is so.
async fn until(mut so: impl FnMut() -> Result<bool>) -> Result<()> {
    let wait = async {
        while !so()? {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    };
    timeout(WITHIN, wait).await.context("it never was so")?
}
