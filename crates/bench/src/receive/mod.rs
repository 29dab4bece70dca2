//! A port for many peers: what a datagram costs on its way in.

mod burst;
mod floor;
mod muxes;
mod own;
mod tasks;
mod threads;

use std::{cell::RefCell, rc::Rc};

use anyhow::Result;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{
    measure::{Contender, Sample, current_thread, in_turn, thread_time},
    report::{Benchmark, Options, Outcome, ratio, rows},
};

use self::{
    burst::{Peers, RUN},
    floor::Floor,
    muxes::{Kind, Mux},
    own::Own,
    tasks::Tasks,
};

/// The benchmarks of receiving.
pub(crate) fn benchmarks() -> Vec<Benchmark> {
    vec![
        Benchmark {
            name: "receive",
            about: "a mux with 1 to 1,000 peers, a reader for each, all on one thread; the own socket of a peer connection",
            run,
        },
        Benchmark {
            name: "receive-threads",
            about: "the same with 100 peers, on one thread and on two",
            run: threads::run,
        },
    ]
}

/// How many peers there are.
const PEERS: [usize; 4] = [1, 10, 100, 1000];

/// How many datagrams a round has: each of the most peers has a run.
const COUNT: usize = 1000 * RUN;

/// UDP payload, bytes.
const LENGTH: usize = 1200;

/// What takes the datagrams, and how they are sent.
struct Receiver {
    name: String,
    peers: usize,
    segmented: bool,
    kind: ReceiverKind,
}

enum ReceiverKind {
    Mux(Mux),
    Own(Own),
    Floor(Floor),
    Tasks(Tasks),
}

/// What instructions can be counted of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// `UDPMuxDefault`.
    Stock,
    /// `CustomMux`.
    Mux,
    /// A tokio socket.
    OwnStock,
    /// `CustomConn`.
    Own,
    /// `recvmsg` alone.
    Floor,
}

/// Sends and receives so many datagrams of so many peers, to be counted or profiled.
///
/// # Errors
/// When there are no sockets left, or datagrams are lost.
pub(crate) fn receive(reader: Reader, number: usize, count: usize) -> Result<()> {
    allow_descriptors()?;
    let runtime = current_thread()?;
    let mut peers = Peers::new(number, LENGTH)?;
    let mux = |kind| runtime.block_on(Mux::new(kind, &peers, number));
    let kind = match reader {
        Reader::Stock => ReceiverKind::Mux(mux(Kind::Stock)?),
        Reader::Mux => ReceiverKind::Mux(mux(Kind::Custom)?),
        Reader::OwnStock => ReceiverKind::Own(runtime.block_on(Own::new(Kind::Stock))?),
        Reader::Own => ReceiverKind::Own(runtime.block_on(Own::new(Kind::Custom))?),
        Reader::Floor => ReceiverKind::Floor(Floor::one_by_one()?),
    };
    let mut receiver = Receiver {
        name: String::new(),
        peers: number,
        segmented: true,
        kind,
    };
    receiver.round(&mut peers, &runtime, count)?;
    Ok(())
}

fn run(options: &Options) -> Result<Outcome> {
    allow_descriptors()?;
    let runtime = current_thread()?;
    let peers = Rc::new(RefCell::new(Peers::new(PEERS[3], LENGTH)?));
    let mut receivers = Vec::new();
    for number in PEERS {
        for (name, kind) in [("stock", Kind::Stock), ("mux", Kind::Custom)] {
            let mux = runtime.block_on(Mux::new(kind, &peers.borrow(), number))?;
            receivers.push(Receiver {
                name: format!("receive/{number}/{name}"),
                peers: number,
                segmented: true,
                kind: ReceiverKind::Mux(mux),
            });
        }
    }
    for (name, kind) in [("stock", Kind::Stock), ("mux", Kind::Custom)] {
        let mux = runtime.block_on(Mux::new(kind, &peers.borrow(), 100))?;
        receivers.push(Receiver {
            name: format!("receive/100/one-by-one/{name}"),
            peers: 100,
            segmented: false,
            kind: ReceiverKind::Mux(mux),
        });
    }
    for (name, kind) in [("stock", Kind::Stock), ("conn", Kind::Custom)] {
        receivers.push(Receiver {
            name: format!("receive/1/own-socket/{name}"),
            peers: 1,
            segmented: true,
            kind: ReceiverKind::Own(runtime.block_on(Own::new(kind))?),
        });
    }
    for (name, floor) in [
        ("recvmsg", Floor::one_by_one()?),
        ("recvmmsg+gro", Floor::joined()?),
    ] {
        receivers.push(Receiver {
            name: format!("receive/100/floor/{name}"),
            peers: 100,
            segmented: true,
            kind: ReceiverKind::Floor(floor),
        });
    }

    for number in [10, 1000] {
        let _on = runtime.enter();
        receivers.push(Receiver {
            name: format!("receive/{number}/floor/tasks"),
            peers: number,
            segmented: true,
            kind: ReceiverKind::Tasks(Tasks::new(number)),
        });
    }

    let count = if options.quick { COUNT / 10 } else { COUNT };
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for receiver in &mut receivers {
        let (name, peers, runtime) = (receiver.name.clone(), Rc::clone(&peers), &runtime);
        let round = move || receiver.round(&mut peers.borrow_mut(), runtime, count);
        contenders.push((name, Box::new(round)));
    }
    let samples = in_turn(&mut contenders, options.rounds)?;
    let names = contenders.iter().map(|(name, _)| name.as_str());
    let mut outcome = Outcome {
        rows: rows(names.zip(&samples)),
        ..Outcome::default()
    };
    compare(&mut outcome, &samples);
    Ok(outcome)
}

impl Receiver {
    /// Sends in bursts that the socket can hold, and measures only what takes them from there.
    fn round(
        &mut self,
        peers: &mut Peers,
        runtime: &tokio::runtime::Runtime,
        count: usize,
    ) -> Result<Sample> {
        let mut total = Sample::default();
        let to = match &self.kind {
            ReceiverKind::Mux(mux) => Some(mux.address),
            ReceiverKind::Own(own) => Some(own.address),
            ReceiverKind::Floor(floor) => Some(floor.address()?),
            ReceiverKind::Tasks(_) => None,
        };
        while total.count < u64::try_from(count)? {
            let sent = match to {
                Some(to) => peers.burst(to, self.peers, self.segmented)?,
                None => burst::BURST,
            };
            let (begun, before) = (std::time::Instant::now(), thread_time());
            match &mut self.kind {
                ReceiverKind::Mux(mux) => runtime.block_on(mux.read(sent))?,
                ReceiverKind::Own(own) => runtime.block_on(own.read(sent))?,
                ReceiverKind::Floor(floor) => floor.read(sent)?,
                ReceiverKind::Tasks(tasks) => runtime.block_on(tasks.read()),
            }
            total.cpu += thread_time().saturating_sub(before);
            total.wall += begun.elapsed();
            total.count += u64::try_from(sent)?;
        }
        Ok(total)
    }
}

/// Compares each mux with the stock one beside it, and the many peers with the few.
fn compare(outcome: &mut Outcome, samples: &[Vec<Sample>]) {
    let names: Vec<String> = outcome.rows.iter().map(|row| row.name.clone()).collect();
    let of = |name: &str| {
        let at = names.iter().position(|other| other == name)?;
        Some(&samples[at])
    };
    let compared = |name: &str, base: &str| Some(ratio(of(name)?, of(base)?));
    for row in &mut outcome.rows {
        let base = match row.name.rsplit_once('/') {
            Some((rest, "mux" | "conn")) => format!("{rest}/stock"),
            Some(("receive/100/floor", _)) => "receive/100/stock".to_owned(),
            Some(("receive/1000/floor", _)) => "receive/10/floor/tasks".to_owned(),
            _ => continue,
        };
        row.against = compared(&row.name, &base).map(|ratio| (base, ratio));
    }
    for (id, name, base) in [
        ("mux-receive", "receive/100/mux", "receive/100/stock"),
        ("mux-scale", "receive/1000/mux", "receive/10/mux"),
    ] {
        if let Some(ratio) = compared(name, base) {
            outcome.bar(id, ratio);
        }
    }
    if let Some(row) = outcome.rows.first_mut() {
        row.note = Some(format!(
            "bursts of {}, runs of {RUN} a peer, sent by GSO; one-by-one: not",
            burst::BURST
        ));
    }
}

/// Allows this process as many descriptors as it may have: every peer has a socket.
fn allow_descriptors() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}
