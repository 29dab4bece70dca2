//! Time until two peer connections are connected.

use std::time::Duration;

use anyhow::Result;

use super::compare::rows;
use super::pair::Pair;
use super::runtime;
use super::way::Way;
use crate::measure::{Contender, Sample, Spread, in_turn};
use crate::report::{Options, Outcome};

/// What is compared. Gathering makes no difference to single datagrams.
const WAYS: [Way; 5] = [Way::Stock, Way::Net, Way::StockMux, Way::Mux, Way::Next];

/// How long DTLS waits before it sends a flight again (RFC 6347 §4.2.4.1), as webrtc-rs has it: where the first one
/// came before the other end had begun to read.
const RETRANSMISSION: Duration = Duration::from_secs(1);

/// Turns are short, so there are more of them than rounds of other benchmarks.
const TURNS: usize = 2;

/// Makes a pair of each way in each round: ICE, DTLS and all, with the signalling in this process.
pub(super) fn run(options: &Options) -> Result<Outcome> {
    let runtime = runtime()?;
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for way in WAYS {
        let runtime = &runtime;
        let connect = move || {
            let pair = runtime.block_on(Pair::new(way))?;
            let wall = pair.connected_in;
            runtime.block_on(pair.close());
            Ok(Sample {
                wall,
                count: 1,
                ..Sample::default()
            })
        };
        contenders.push((way.name().to_owned(), Box::new(connect)));
    }
    let samples = in_turn(&mut contenders, options.rounds * TURNS)?;
    let milliseconds = |sample: &Sample| sample.wall.as_secs_f64() * 1e3;
    let found = WAYS
        .into_iter()
        .zip(&samples)
        .map(|(way, samples)| (way, Spread::of(samples.iter().map(milliseconds))));
    let mut rows = rows("connect", "ms", found);
    for (row, samples) in rows.iter_mut().zip(&samples) {
        let late = samples
            .iter()
            .filter(|sample| sample.wall >= RETRANSMISSION);
        *row = row.clone().note(format!(
            "{} of {} had to send a DTLS flight again, after 1 s",
            late.count(),
            samples.len()
        ));
    }
    Ok(Outcome {
        rows,
        ..Outcome::default()
    })
}
