//! What goes through a data channel, ordered and reliable, both ends in this process and of the same way.

use std::cell::RefCell;
use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use hdrhistogram::Histogram;

use super::compare::{ratio, rows};
use super::pair::Pair;
use super::runtime;
use super::way::Way;
use crate::measure::{Contender, Sample, Spread, as_f64, in_turn, process_time};
use crate::report::{Options, Outcome, Row};

/// A message of the throughput test, bytes.
const MESSAGE: usize = 16 << 10;

/// A message of the latency test, bytes.
const PING: usize = 100;

/// Turns are short, and those of throughput far apart, so there are more of them than rounds of other benchmarks.
const TURNS: [usize; 2] = [5, 2];

/// How much is done in a turn.
struct Work {
    messages: usize,
    pings: usize,
}

/// One direction as fast as it goes, then one small message at a time there and back.
pub(super) fn run(options: &Options) -> Result<Outcome> {
    let work = if options.quick {
        Work {
            messages: 128,
            pings: 100,
        }
    } else {
        Work {
            messages: 256,
            pings: 200,
        }
    };
    let runtime = runtime()?;
    let mut pairs = Vec::new();
    for way in Way::ALL {
        pairs.push((way, RefCell::new(runtime.block_on(Pair::new(way))?)));
    }

    let [of_throughput, of_latency] = TURNS.map(|turns| options.rounds * turns);
    let mut rows = throughput(&runtime, &pairs, &work, of_throughput)?;
    let fast = ratio(&rows, THROUGHPUT, Way::NetBatched);
    rows.extend(latency(&runtime, &pairs, &work, of_latency)?);
    for (_, pair) in pairs {
        runtime.block_on(pair.into_inner().close());
    }
    let mut outcome = Outcome {
        rows,
        ..Outcome::default()
    };
    if let Some(fast) = fast {
        outcome.bar("data-channel", fast);
    }
    Ok(outcome)
}

const THROUGHPUT: &str = "data/throughput";

type Pairs = [(Way, RefCell<Pair>)];

fn throughput(
    runtime: &tokio::runtime::Runtime,
    pairs: &Pairs,
    work: &Work,
    rounds: usize,
) -> Result<Vec<Row>> {
    let message = Bytes::from(vec![7; MESSAGE]);
    let bytes = (work.messages * MESSAGE) as u64;
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for (way, pair) in pairs {
        let message = &message;
        let transfer = move || {
            let (begun, before) = (Instant::now(), process_time());
            runtime.block_on(pair.borrow_mut().transfer(message, work.messages))?;
            Ok(Sample {
                cpu: process_time().saturating_sub(before),
                wall: begun.elapsed(),
                count: bytes,
                ..Sample::default()
            })
        };
        contenders.push((way.name().to_owned(), Box::new(transfer)));
    }
    let samples = in_turn(&mut contenders, rounds)?;
    let of = |figure: fn(&Sample) -> f64| {
        let ways = pairs.iter().map(|(way, _)| *way);
        let spreads = samples
            .iter()
            .map(move |s| Spread::of(s.iter().map(figure)));
        ways.zip(spreads).collect::<Vec<_>>()
    };
    let megabits = |sample: &Sample| sample.per_second() * 8.0 / 1e6;
    let mut all = rows(THROUGHPUT, "Mbit/s", of(megabits));
    all.extend(rows("data/cpu", "ns/byte", of(Sample::nanoseconds)));
    Ok(all)
}

fn latency(
    runtime: &tokio::runtime::Runtime,
    pairs: &Pairs,
    work: &Work,
    rounds: usize,
) -> Result<Vec<Row>> {
    let message = Bytes::from(vec![7; PING]);
    // In the order of the pairs, one for each round, the first of which does not count.
    let mut histograms: Vec<RefCell<Vec<Histogram<u64>>>> = Vec::new();
    histograms.resize_with(pairs.len(), RefCell::default);
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for ((way, pair), histograms) in pairs.iter().zip(&histograms) {
        let message = &message;
        let ping = move || {
            let (begun, before) = (Instant::now(), process_time());
            let mut histogram = Histogram::new(3)?;
            for _ in 0..work.pings {
                let time = runtime.block_on(pair.borrow_mut().ping(message))?;
                histogram.record(u64::try_from(time.as_nanos())?)?;
            }
            histograms.borrow_mut().push(histogram);
            Ok(Sample {
                cpu: process_time().saturating_sub(before),
                wall: begun.elapsed(),
                count: work.pings as u64,
                ..Sample::default()
            })
        };
        contenders.push((way.name().to_owned(), Box::new(ping)));
    }
    in_turn(&mut contenders, rounds)?;
    drop(contenders);
    let mut all = Vec::new();
    for (name, quantile) in [("data/latency/p50", 0.5), ("data/latency/p99", 0.99)] {
        let found = pairs.iter().zip(&histograms).map(|((way, _), histograms)| {
            let histograms = histograms.borrow();
            let counted = histograms.iter().skip(1);
            let microseconds = counted.map(|h| as_f64(h.value_at_quantile(quantile)) / 1e3);
            (*way, Spread::of(microseconds))
        });
        all.extend(rows(name, "us there and back", found));
    }
    Ok(all)
}
