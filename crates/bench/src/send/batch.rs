//! Several datagrams within one turn of the scheduler.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

use anyhow::{Result, ensure};
use perpacket_webrtc::{
    CustomNet,
    udp::{Batching, OptionsError},
};
use socket2::SockAddr;
use tokio::{runtime::Runtime, task::yield_now};

use crate::{
    measure::{Contender, Sample, current_thread, in_turn},
    packet::{STREAMS, media, of_all_streams, options as options_of, set_options_by_stream},
    report::{Options, Outcome, compare_all, rows},
    sys,
};

use super::{
    Way,
    place::{Place, SINKS},
    ways::{RUN, control, without_and_with_df},
};

/// UDP payload of the fan-out, bytes.
const LENGTH: usize = 1200;

/// A network that gathers what its sockets send.
fn batching() -> CustomNet {
    CustomNet::builder().batching(Batching::new()).build()
}

/// Runs of 16 to one peer. A run is of one stream, so all of it has the same options; the next one has others.
pub(super) fn runs(place: &Place, length: usize, options: &Options) -> Result<Outcome> {
    let nets = [CustomNet::new(), batching()];
    for net in &nets {
        set_options_by_stream(net)?;
    }
    let packets = of_all_streams(length);
    let times = if options.quick { 2 } else { 32 };
    let turn = |run: usize| Turn {
        packet: &packets[run % packets.len()],
        to: &place.to[..1],
        times: RUN,
    };
    let turns: Vec<Turn<'_>> = (0..times * STREAMS as usize).map(turn).collect();
    let name = format!("batch-run/{}/{length}/{}", place.family(), place.name);
    let mut outcome = compare(&name, place, &nets, &turns, Vec::new(), options)?;
    if (place.name, place.family(), length) == ("loopback", "v4", LENGTH) {
        value(&mut outcome, "batched-run");
    }
    Ok(outcome)
}

/// One packet to 64 peers, as an SFU sends it; the next packet in the next turn.
pub(super) fn fan_out(options: &Options) -> Result<Outcome> {
    let place = Place::loopback(false)?;
    let nets = [CustomNet::new(), batching()];
    for net in &nets {
        set_options_by_peer(net, &place)?;
    }
    let packet = media(0, LENGTH);
    let times = if options.quick { 8 } else { 8192 / SINKS };
    let turn = |_| Turn {
        packet: &packet,
        to: &place.to,
        times: 1,
    };
    let turns: Vec<Turn<'_>> = (0..times).map(turn).collect();
    let name = format!("batch-fan-out/v4/{LENGTH}/loopback");
    let floor: Vec<Contender<'_>> = vec![(
        format!("{name}/floor/sendmmsg"),
        Box::new(|| Sample::of_thread(|| floor(&place, &packet, times))),
    )];
    let mut outcome = compare(&name, &place, &nets, &turns, floor, options)?;
    value(&mut outcome, "batched-fanout");
    Ok(outcome)
}

/// What the kernel takes for the same at least: one system call for each value of the DF bit.
fn floor(place: &Place, packet: &[u8], times: usize) -> Result<u64> {
    let mut to = [Vec::new(), Vec::new()];
    for (number, peer) in (0..).zip(&place.to) {
        let with_df = options_of(number).df_bit == Some(true);
        to[usize::from(with_df)].push((SockAddr::from(*peer), control(number, peer.is_ipv6())));
    }
    let sockets = without_and_with_df(place.from())?;
    let mut count = 0;
    for _ in 0..times {
        for (socket, to) in sockets.iter().zip(&to) {
            count += sys::send_many(socket, packet, to)?;
        }
    }
    Ok(u64::try_from(count)?)
}

/// Sends so many datagrams gathered, to one peer or to all, to be counted or profiled.
///
/// # Errors
/// When there are no sockets left.
pub(crate) fn gathered(to_all: bool, count: usize) -> Result<()> {
    let (place, net) = (Place::loopback(false)?, batching());
    let (to, times) = if to_all {
        set_options_by_peer(&net, &place)?;
        (place.to.as_slice(), 1)
    } else {
        set_options_by_stream(&net)?;
        (&place.to[..1], RUN)
    };
    let packets = of_all_streams(LENGTH);
    let turn = |packet| Turn { packet, to, times };
    let turns = packets.iter().map(Vec::as_slice).cycle().map(turn);
    let turns: Vec<Turn<'_>> = turns.take(count / (to.len() * times)).collect();
    current_thread()?.block_on(async {
        let way = Way::conn(&net, place.from())?;
        send(&way, &turns).await?;
        Ok(())
    })
}

fn set_options_by_peer(net: &CustomNet, place: &Place) -> Result<(), OptionsError> {
    for (number, peer) in (0..).zip(&place.to) {
        net.set_peer_options(*peer, options_of(number))?;
    }
    Ok(())
}

/// What is sent before the task yields.
struct Turn<'a> {
    packet: &'a [u8],
    to: &'a [SocketAddr],
    times: usize,
}

fn compare(
    name: &str,
    place: &Place,
    [plain, batched]: &[CustomNet; 2],
    turns: &[Turn<'_>],
    floor: Vec<Contender<'_>>,
    options: &Options,
) -> Result<Outcome> {
    let runtime = current_thread()?;
    let in_runtime = runtime.enter();
    let ways = [
        ("stock", runtime.block_on(Way::stock(place.from()))?),
        ("unbatched", Way::conn(plain, place.from())?),
        ("batched", Way::conn(batched, place.from())?),
    ];
    drop(in_runtime);
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for (way_name, way) in &ways {
        let runtime = &runtime;
        if place.name == "loopback" {
            all_arrives(runtime, way, place.from())?;
        }
        let send = move || Sample::of_thread(|| runtime.block_on(send(way, turns)));
        contenders.push((format!("{name}/{way_name}"), Box::new(send)));
    }
    contenders.extend(floor);
    let samples = in_turn(&mut contenders, options.rounds)?;
    let names = contenders.iter().map(|(name, _)| name.as_str());
    let mut rows = rows(names.zip(&samples));
    compare_all(&mut rows, &samples, 0);
    Ok(Outcome {
        rows,
        ..Outcome::default()
    })
}

/// Sends, and yields after each turn. The task that sends what was gathered comes behind all that is ready then, this
/// one included, so it takes two.
async fn send(way: &Way, turns: &[Turn<'_>]) -> Result<u64> {
    let conn = way.as_conn()?;
    let mut count = 0;
    for turn in turns {
        for to in turn.to {
            for _ in 0..turn.times {
                conn.send_to(turn.packet, *to).await?;
                count += 1;
            }
        }
        yield_now().await;
        yield_now().await;
    }
    Ok(count)
}

/// Sees that a turn is over when it is taken to be: nothing is sent outside of what is measured.
fn all_arrives(runtime: &Runtime, way: &Way, from: SocketAddr) -> Result<()> {
    let sink = UdpSocket::bind(from)?;
    sink.set_nonblocking(true)?;
    let turn = Turn {
        packet: &media(0, 100),
        to: &[sink.local_addr()?],
        times: RUN,
    };
    let sent = runtime.block_on(send(way, &[turn]))?;
    let mut arrived = 0;
    loop {
        match sink.recv(&mut [0; 2048]) {
            Ok(_) => arrived += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
    }
    ensure!(arrived == sent, "{arrived} of {sent} datagrams arrived");
    Ok(())
}

fn value(outcome: &mut Outcome, id: &str) {
    let batched = (outcome.rows.iter()).find(|row| row.name.ends_with("/batched"));
    if let Some((_, ratio)) = batched.and_then(|row| row.against.clone()) {
        outcome.bar(id, ratio);
    }
}
