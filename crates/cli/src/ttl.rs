//! `ttl`: how many hops away the server is.

use std::time::Duration;

use anyhow::Result;
use clap::Args as ClapArgs;
use perpacket_path::{ReachChange, ReachTtl, ReachTtlConfig, ReachTtlEvent, ReachTtlReport};
use serde::Serialize;

use crate::{
    args::parse_seconds,
    exit::Outcome,
    measure::{Common, Measured, Show},
    output::{line, micros, millis, progress::Waiting},
};

/// Find the smallest TTL, or hop limit, that reaches the server.
///
/// With --watch it goes on until Ctrl-C, and tells when that changes: the path has.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,

    /// Keep looking, with two probes each time.
    #[arg(long)]
    watch: bool,

    /// How often, with --watch.
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = parse_seconds)]
    interval: Duration,

    /// The largest TTL to try.
    #[arg(short, long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u8).range(1..))]
    max_ttl: u8,

    /// How many probes have to be lost until a TTL counts as too small.
    #[arg(short, long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
    count: u8,

    /// After what time without an answer a probe is lost.
    #[arg(short = 'w', long, value_name = "SECONDS", default_value = "1", value_parser = parse_seconds)]
    wait: Duration,
}

pub(crate) async fn run(args: Args) -> Result<Outcome> {
    let mut config = ReachTtlConfig::default();
    config.max_ttl = args.max_ttl;
    config.timeout = args.wait;
    config.confirmations = args.count;
    config.watch = args.watch.then_some(args.interval);
    Measured::with(&args.common, async |measured| {
        let running = ReachTtl::new(measured.prober.clone(), config).start();
        let mut text = Text(Some(Waiting::new("looking".to_owned())));
        let (_, outcome) = measured.show(running, &mut text).await?;
        Ok(outcome)
    })
    .await
}

/// What is waited for at first.
struct Text(Option<Waiting>);

/// The result as comma-separated values.
#[derive(Clone, Debug, Serialize)]
struct Row {
    ttl: Option<u8>,
    reply_ttl: Option<u8>,
    hops_back: Option<u8>,
    rtt_us: Option<f64>,
    changes: usize,
}

impl Show for Text {
    type Event = ReachTtlEvent;
    type Report = ReachTtlReport;
    type Row = Row;

    fn seen(&mut self, event: &ReachTtlEvent) {
        if matches!(event, ReachTtlEvent::Found { .. }) {
            self.0 = None;
        }
    }

    fn event(&mut self, event: &ReachTtlEvent) -> Result<()> {
        let place = |ttl: &Option<u8>| ttl.map_or("out of reach".to_owned(), hops);
        match event {
            ReachTtlEvent::Found { reach: None } => {
                line(format_args!("no TTL reaches the server"))?;
            }
            ReachTtlEvent::Found { reach: Some(reach) } => {
                let rtt = reach.rtt.map(millis).unwrap_or_default();
                line(format_args!("{}, {rtt} ms", hops(reach.ttl)))?;
                if let (Some(left), Some(back)) = (reach.reply_ttl, reach.hops_back()) {
                    line(format_args!(
                        "answers arrive with TTL {left}: {} back, if they began with {}",
                        hops(back),
                        u16::from(left) + u16::from(back) - 1
                    ))?;
                }
            }
            ReachTtlEvent::Changed(ReachChange { from, to, .. }) => {
                line(format_args!("it was {}, and is {}", place(from), place(to)))?;
            }
            ReachTtlEvent::WayBackChanged { from, to } => {
                let ttl = |ttl: &Option<u8>| ttl.map_or("-".to_owned(), |ttl| ttl.to_string());
                line(format_args!(
                    "the way back has changed: answers arrived with TTL {}, and do with {}",
                    ttl(from),
                    ttl(to)
                ))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn report(&mut self, _: &ReachTtlReport) -> Result<()> {
        // All of it was told when it was found.
        Ok(())
    }

    fn rows(&self, report: &ReachTtlReport) -> Vec<Row> {
        let reach = report.reach;
        vec![Row {
            ttl: reach.map(|reach| reach.ttl),
            reply_ttl: reach.and_then(|reach| reach.reply_ttl),
            hops_back: reach.and_then(|reach| reach.hops_back()),
            rtt_us: reach.and_then(|reach| reach.rtt).map(micros),
            changes: report.changes.len(),
        }]
    }

    fn outcome(&self, report: &ReachTtlReport) -> Outcome {
        match report.reach {
            Some(_) => Outcome::Done,
            None => Outcome::NotReached,
        }
    }
}

fn hops(number: u8) -> String {
    match number {
        1 => "1 hop".to_owned(),
        _ => format!("{number} hops"),
    }
}
