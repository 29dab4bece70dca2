//! `trace`: where the path of the media goes.

mod live;
mod rows;

use std::{fmt, io, time::Duration};

use anyhow::Result;
use clap::Args as ClapArgs;
use perpacket_path::{Names, RawMode, RawStatus, Trace, TraceConfig, TraceEvent, TraceReport};
use perpacket_webrtc::udp::MessageOptions;

use crate::{
    args::parse_seconds,
    exit::Outcome,
    measure::{Common, Measured, Show, parse_probes},
    output::{line, millis, progress::Waiting},
};

/// How many rounds there are, where nobody watches.
const ROUNDS: u32 = 3;

/// Find the routers on the way of the media, as its own 5-tuple meets them.
///
/// On a terminal the table is kept up to date until q is pressed, or --count rounds are done; r begins anew, n
/// shows and hides names. Elsewhere, and with --plain, it is printed when all rounds are done.
#[derive(Clone, Debug, ClapArgs)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "switches of a command line have nothing to do with each other"
)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,

    /// How many rounds; without end where the table is kept up to date, else 3.
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,

    /// From the start of a round to the start of the next.
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = parse_seconds)]
    interval: Duration,

    /// The largest TTL, or hop limit, to try.
    #[arg(short, long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u8).range(1..))]
    max_ttl: u8,

    /// After what time without an answer a probe is lost.
    #[arg(short = 'w', long, value_name = "SECONDS", default_value = "1", value_parser = parse_seconds)]
    wait: Duration,

    /// What else the header of the probes says: df, tos, dscp, ecn.
    #[arg(long, value_name = "FIELD=VALUE[,…]", value_parser = parse_probes)]
    probes: Option<MessageOptions>,

    /// Look up the names of routers; the default where the table is kept up to date.
    #[arg(long, overrides_with = "no_names")]
    names: bool,

    /// Show addresses only.
    #[arg(short = 'n', long)]
    no_names: bool,

    /// Read the headers that routers quote, or fail: where marks, addresses and ports change. It is done
    /// without being asked for where it may be (`CAP_NET_RAW`).
    #[arg(long)]
    raw: bool,

    /// Print the table when all is done, also on a terminal.
    #[arg(long)]
    plain: bool,
}

impl Args {
    fn config(&self, is_live: bool) -> TraceConfig {
        let names = self.names || is_live && !self.no_names;
        TraceConfig {
            max_ttl: self.max_ttl,
            rounds: self.count.or((!is_live).then_some(ROUNDS)),
            interval: self.interval,
            timeout: self.wait,
            options: self.probes.unwrap_or_default(),
            names: if names { Names::System } else { Names::Off },
            raw: if self.raw {
                RawMode::Required
            } else {
                RawMode::IfPermitted
            },
        }
    }
}

pub(crate) async fn run(args: Args) -> Result<Outcome> {
    let is_live = args.common.output.is_watched() && !args.plain;
    let config = args.config(is_live);
    Measured::with(&args.common, async |measured| {
        if is_live {
            return live::run(measured, config).await;
        }
        let running = Trace::new(measured.prober.clone(), config).start();
        let (_, outcome) = measured.show(running, &mut Text::waiting()).await?;
        Ok(outcome)
    })
    .await
}

/// The table when all is done, and what is found out meanwhile.
#[derive(Default)]
struct Text {
    waiting: Option<Waiting>,
}

impl Text {
    /// One that says which round it is.
    fn waiting() -> Self {
        Self {
            waiting: Some(Waiting::new("tracing".to_owned())),
        }
    }

    fn line(&self, text: fmt::Arguments<'_>) -> io::Result<()> {
        match &self.waiting {
            Some(waiting) => waiting.aside(|| line(text)),
            None => line(text),
        }
    }
}

impl Show for Text {
    type Event = TraceEvent;
    type Report = TraceReport;
    type Row = rows::CsvRow;

    fn seen(&mut self, event: &TraceEvent) {
        if let (TraceEvent::Round { number }, Some(waiting)) = (event, &self.waiting) {
            waiting.says(format!("tracing, {number} rounds done"));
        }
    }

    fn event(&mut self, event: &TraceEvent) -> Result<()> {
        match event {
            TraceEvent::Changed { ttl, from, to } => {
                self.line(format_args!("hop {ttl} was {from} and is {to}"))?;
            }
            TraceEvent::Moved { local, remote } => {
                self.line(format_args!("ICE has moved: {local} → {remote}"))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn report(&mut self, report: &TraceReport) -> Result<()> {
        self.waiting = None;
        line(format_args!("{}", rows::table(&report.hops, true)))?;
        for change in &report.changes {
            line(format_args!("{}", rows::change(change)))?;
        }
        if let RawStatus::Unavailable { reason, unseen } = &report.raw {
            line(format_args!("not seen: {unseen} ({reason})"))?;
        }
        if report.peer_ttl.is_none() {
            line(format_args!("the server has not answered"))?;
        }
        if let Some(picture) = report.picture {
            line(format_args!(
                "known after {} ms; {}",
                millis(picture),
                report.note
            ))?;
        }
        if let Some(why) = &report.interrupted {
            line(format_args!("ended early: {why}"))?;
        }
        Ok(())
    }

    fn rows(&self, report: &TraceReport) -> Vec<rows::CsvRow> {
        report.hops.iter().map(rows::CsvRow::of).collect()
    }

    fn outcome(&self, report: &TraceReport) -> Outcome {
        if report.peer_ttl.is_some() && report.interrupted.is_none() {
            Outcome::Done
        } else {
            Outcome::NotReached
        }
    }
}
