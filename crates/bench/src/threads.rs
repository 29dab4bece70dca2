//! Two threads that send on one socket.

use std::{net::SocketAddr, thread, time::Instant};

use anyhow::{Context as _, Result};
use perpacket_webrtc::CustomNet;
use tokio::runtime::{Builder, Handle};

use crate::{
    measure::{Contender, Sample, Spread, as_f64, in_turn, machine_time, process_time},
    packet::{of_all_streams, set_options_by_stream},
    report::{Benchmark, Options, Outcome, Row},
    send::{Place, Way},
};

/// How many datagrams each thread sends in a round: long beside the steps in which it is counted who had the processors.
const COUNT: usize = 50_000;

/// How many times as many rounds are run as are wanted, at most, until there are enough in which nobody else wanted the
/// processors.
const PATIENCE: usize = 4;

/// Which part of the processors others may have had in a round that counts.
const QUIET: f64 = 0.1;

/// UDP payload, bytes.
const LENGTH: usize = 1200;

/// The benchmarks of threads.
pub(crate) fn benchmarks() -> Vec<Benchmark> {
    vec![Benchmark {
        name: "threads",
        about: "two threads that send on one socket, each to a peer of its own, against one",
        run,
    }]
}

fn run(options: &Options) -> Result<Outcome> {
    let place = Place::loopback(false)?;
    let count = if options.quick { 512 } else { COUNT };
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let in_runtime = runtime.enter();
    let net = CustomNet::new();
    set_options_by_stream(&net)?;
    let ways = [
        ("floor", Way::floor(place.from())?),
        ("stock", runtime.block_on(Way::stock(place.from()))?),
        ("options", Way::conn(&net, place.from())?),
    ];
    drop(in_runtime);
    let packets = of_all_streams(LENGTH);

    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for (name, way) in &ways {
        for threads in [1, 2] {
            let (handle, packets) = (runtime.handle(), &packets);
            let to = &place.to[..threads];
            let send = move || on_threads(handle, way, packets, to, count);
            contenders.push((format!("threads/{name}/{threads}"), Box::new(send)));
        }
    }
    let mut samples = vec![Vec::new(); contenders.len()];
    for _ in 0..PATIENCE {
        for (all, more) in samples
            .iter_mut()
            .zip(in_turn(&mut contenders, options.rounds)?)
        {
            all.extend(more);
        }
        if samples.iter().all(|all| quiet(all).len() >= options.rounds) {
            break;
        }
    }
    let mut outcome = Outcome::default();
    for ((name, _), samples) in contenders.iter().zip(&samples) {
        outcome.rows.push(row(name, samples));
    }
    for pair in outcome.rows.chunks_mut(2) {
        if let [one, two] = pair {
            *two = two.clone().against(one);
        }
    }
    let last = outcome.rows.last().and_then(|row| row.against.clone());
    let (_, ratio) = last.context("nothing was measured")?;
    outcome.bar("threads", ratio);
    let loud = samples.iter().any(|all| quiet(all).is_empty());
    if loud {
        outcome.remark(
            "threads",
            "other programs had the processors: to be repeated",
        );
    }
    Ok(outcome)
}

/// The rounds in which hardly anybody else wanted the processors.
fn quiet(samples: &[Sample]) -> Vec<Sample> {
    let quiet = |sample: &&Sample| others(sample) < QUIET;
    samples.iter().filter(quiet).copied().collect()
}

/// Which part of the processors others had.
fn others(sample: &Sample) -> f64 {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let whole = sample.wall.as_secs_f64() * as_f64(cores as u64);
    sample.others.as_secs_f64() / whole
}

/// Of the quiet rounds, if there are any.
fn row(name: &str, samples: &[Sample]) -> Row {
    let quiet = quiet(samples);
    let rounds = quiet.len();
    let samples = if quiet.is_empty() { samples } else { &quiet };
    let median = |of: fn(&Sample) -> f64| Spread::of(samples.iter().map(of)).median;
    let (cpu, taken) = (median(Sample::nanoseconds), 100.0 * median(others));
    let rate = Spread::of(samples.iter().map(Sample::per_second));
    let note = format!("{cpu:.0} ns CPU each; {rounds} quiet rounds, others had {taken:.0}%");
    Row::new(name, "a second", rate).note(note)
}

/// A thread for each receiver.
fn on_threads(
    handle: &Handle,
    way: &Way,
    packets: &[Vec<u8>],
    to: &[SocketAddr],
    count: usize,
) -> Result<Sample> {
    let machine = machine_time();
    let (begun, before) = (Instant::now(), process_time());
    let count = thread::scope(|scope| {
        let send = |to: &SocketAddr| {
            let to = *to;
            scope.spawn(move || handle.block_on(way.send(packets, to, count)))
        };
        let threads: Vec<_> = to.iter().map(send).collect();
        let counts = threads.into_iter().map(|thread| match thread.join() {
            Ok(count) => count,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        counts.sum::<Result<u64>>()
    })?;
    let (cpu, wall) = (process_time().saturating_sub(before), begun.elapsed());
    let all = machine.and_then(|machine| machine_time()?.checked_sub(machine));
    Ok(Sample {
        cpu,
        wall,
        count,
        others: all.unwrap_or_default().saturating_sub(cpu),
    })
}
