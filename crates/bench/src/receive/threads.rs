//! A mux on one thread, and on two.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::runtime::{Builder, Runtime};

use crate::{
    measure::{Contender, Sample, in_turn, process_time, thread_time},
    report::{Options, Outcome, ratio, rows},
};

use super::{
    COUNT, LENGTH, allow_descriptors,
    burst::Peers,
    muxes::{Kind, Mux},
};

/// How many peers there are.
const PEERS: usize = 100;

pub(super) fn run(options: &Options) -> Result<Outcome> {
    allow_descriptors()?;
    let peers = Rc::new(RefCell::new(Peers::new(PEERS, LENGTH)?));
    let runtimes = [1, 2].map(|threads| {
        Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()
    });
    let count = if options.quick { COUNT / 10 } else { COUNT };
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for (threads, runtime) in (1..).zip(&runtimes) {
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => anyhow::bail!("a runtime: {error}"),
        };
        for (name, kind) in [("stock", Kind::Stock), ("mux", Kind::Custom)] {
            let mut mux = runtime.block_on(Mux::new(kind, &peers.borrow(), PEERS))?;
            let peers = Rc::clone(&peers);
            let round = move || round(&mut mux, &mut peers.borrow_mut(), runtime, count);
            let name = format!("receive/{PEERS}/{threads}-threads/{name}");
            contenders.push((name, Box::new(round)));
        }
    }
    let samples = in_turn(&mut contenders, options.rounds)?;
    let names = contenders.iter().map(|(name, _)| name.as_str());
    let mut rows = rows(names.zip(&samples));
    for at in [1, 3] {
        let ratio = ratio(&samples[at], &samples[at - 1]);
        rows[at].against = Some((rows[at - 1].name.clone(), ratio));
    }
    rows[0].note = Some("processor time of all threads but the sender's".to_owned());
    Ok(Outcome {
        rows,
        ..Outcome::default()
    })
}

/// Sends in bursts, and measures what all other threads take to read them.
fn round(mux: &mut Mux, peers: &mut Peers, runtime: &Runtime, count: usize) -> Result<Sample> {
    let (begun, before, own) = (Instant::now(), process_time(), thread_time());
    let mut sent = 0;
    while sent < count {
        let burst = peers.burst(mux.address, PEERS, true)?;
        runtime.block_on(mux.read(burst))?;
        sent += burst;
    }
    let own = thread_time().saturating_sub(own);
    Ok(Sample {
        cpu: process_time().saturating_sub(before).saturating_sub(own),
        wall: begun.elapsed(),
        count: u64::try_from(sent)?,
        others: Duration::ZERO,
    })
}
