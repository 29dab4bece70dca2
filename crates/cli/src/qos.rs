//! `qos`: what the path does with marks.

use std::{io, str::FromStr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::{Args as ClapArgs, error::ErrorKind};
use perpacket_path::{
    Mark, MarkReport, Observe, Phase, Qos, QosConfig, QosEvent, QosReport, TosReports, Verdict,
    Visibility,
};
use perpacket_webrtc::udp::Ecn;
use serde::Serialize;

use crate::{
    args::parse_seconds,
    client::Load,
    exit::Outcome,
    measure::{Common, Measured, Show},
    output::{Align, Format, Table, json, line, micros, millis, progress::Waiting, thousandths},
};

/// Compare marks: whether the path delays, drops or changes what carries them.
///
/// Probes with each mark are sent in random order, and compared with those that have none. The verdict can
/// be that there is no measurable difference.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,

    /// How many probes each mark gets.
    #[arg(short, long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: u16,

    /// Between one probe and the next.
    #[arg(short, long, value_name = "SECONDS", default_value = "0.01", value_parser = parse_seconds)]
    interval: Duration,

    /// After what time without an answer a probe is lost.
    #[arg(short = 'w', long, value_name = "SECONDS", default_value = "1", value_parser = parse_seconds)]
    wait: Duration,

    /// What to compare with no mark, e.g. EF,AF41,ect0,AF41+ect1.
    #[arg(short, long, value_name = "MARK[,…]", value_delimiter = ',', value_parser = parse_mark)]
    marks: Vec<Mark>,

    /// Measure again while the session sends so much on its data channel, where priorities show. There are two
    /// reports then, how much was really sent, and what is different: `{"load": …}` and `{"under_load": …}` with
    /// --json.
    #[arg(long, value_name = "KBIT/S", conflicts_with = "media_only", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    load: Option<u32>,

    /// Go back to DSCP 0 for each class of the session's packets whose DSCP does not arrive (RFC 8835
    /// section 4.2), and say so.
    #[arg(long)]
    fall_back: bool,

    /// Follow the marks hop by hop, or fail. It is done without being asked for where it may be
    /// (`CAP_NET_RAW`).
    #[arg(long, overrides_with = "no_raw")]
    raw: bool,

    /// Do not look where marks change.
    #[arg(long)]
    no_raw: bool,
}

impl Args {
    fn config(&self, phase: Phase) -> QosConfig {
        let mut config = QosConfig::default();
        if !self.marks.is_empty() {
            config.marks.clone_from(&self.marks);
        }
        config.count = self.count.into();
        config.interval = self.interval;
        config.timeout = self.wait;
        config.phase = phase;
        config.observe = match (self.raw, self.no_raw) {
            (true, _) => Observe::Required,
            (_, true) => Observe::Never,
            _ => Observe::IfPossible,
        };
        config
    }
}

/// How many marks the library compares.
const MOST_MARKS: usize = 32;

const NO_CHANNEL: &str = "there is nothing to send a load on: the server refuses data channels";

fn parse_mark(text: &str) -> Result<Mark, String> {
    let mark: Mark = text
        .parse()
        .map_err(|error: <Mark as FromStr>::Err| error.to_string())?;
    if mark.ecn == Ecn::Ce {
        return Err("only a router may set ce (RFC 3168 section 5)".to_owned());
    }
    Ok(mark)
}

pub(crate) async fn run(args: Args) -> Result<Outcome> {
    if args.marks.len() > MOST_MARKS {
        let message = format!("--marks takes at most {MOST_MARKS} marks\n");
        clap::Error::raw(ErrorKind::TooManyValues, message).exit();
    }
    Measured::with(&args.common, async |measured| {
        if args.load.is_some() {
            opens(measured).await?;
        }
        let reports = measured.client.tos_reports(&measured.prober).await?;
        let (idle, outcome) = once(&args, measured, &reports, None).await?;
        let is_over = outcome != Outcome::Done || measured.interrupt.is_asked();
        let Some(asked) = args.load.filter(|_| !is_over) else {
            return Ok(outcome);
        };
        let channel = measured.client.channel.as_ref().context(NO_CHANNEL)?;
        let load = Arc::new(channel.load(asked, &measured.client.session));
        let loading = Some(Arc::clone(&load));
        let (loaded, outcome) = once(&args, measured, &reports, loading).await?;
        let sent = load.kilobits();
        drop(load);
        let is_over = outcome != Outcome::Done || measured.interrupt.is_asked();
        ensure!(sent > 0 || is_over, "nothing of the load could be sent");
        let effects = idle.under_load(&loaded);
        match measured.format {
            Format::Json => {
                json("load", &Sent { asked, sent })?;
                json("under_load", &effects)?;
            }
            Format::Csv => {}
            Format::Text => {
                for effect in effects {
                    let growth = |us: Option<f64>| {
                        us.map_or("-".to_owned(), |us| format!("{:+.3}", us / 1e3))
                    };
                    line(format_args!(
                        "under load {}: median {} ms, p95 {} ms, loss {:+.1}%",
                        effect.mark,
                        growth(effect.median_growth_us),
                        growth(effect.p95_growth_us),
                        effect.loss_growth * 100.0
                    ))?;
                }
            }
        }
        Ok(outcome)
    })
    .await
}

/// Fails unless there is something to send a load on, or somebody does not want it any more.
async fn opens(measured: &mut Measured) -> Result<()> {
    let channel = measured.client.channel.as_mut().context(NO_CHANNEL)?;
    let is_open = tokio::select! {
        is_open = channel.opens() => is_open,
        () = measured.interrupt.asked() => return Ok(()),
    };
    ensure!(
        is_open,
        "there is nothing to send a load on: the server does not open the data channel"
    );
    Ok(())
}

/// Measures idle, or while a load is sent.
async fn once(
    args: &Args,
    measured: &mut Measured,
    reports: &TosReports,
    load: Option<Arc<Load>>,
) -> Result<(QosReport, Outcome)> {
    let config = args.config(match load {
        Some(_) => Phase::Loaded,
        None => Phase::Idle,
    });
    let mut marks = config.marks.clone();
    marks.push(Mark::REFERENCE);
    marks.sort_unstable();
    marks.dedup();
    let steps = marks.len() * config.count;
    let mut qos = Qos::new(measured.prober.clone(), config).with_reports(reports);
    if args.fall_back {
        qos = qos.with_fall_back(measured.client.net().policy());
    }
    let mut text = Text {
        waiting: Waiting::steps("probing".to_owned(), steps as u64),
        probed: 0,
        load,
    };
    measured.show(qos.start(), &mut text).await
}

struct Text {
    waiting: Waiting,
    probed: u64,
    /// What is sent meanwhile, if anything is.
    load: Option<Arc<Load>>,
}

impl Text {
    fn load(&self) -> Option<u64> {
        self.load.as_ref().map(|load| load.kilobits())
    }
}

/// What was asked for and what was sent while it was measured under load.
#[derive(Clone, Copy, Debug, Serialize)]
struct Sent {
    #[serde(rename = "asked_kbit_s")]
    asked: u32,
    #[serde(rename = "sent_kbit_s")]
    sent: u64,
}

/// A mark as comma-separated values.
#[derive(Clone, Debug, Serialize)]
struct Row {
    mark: String,
    loaded: bool,
    load_kbit_s: Option<u64>,
    sent: u64,
    received: u64,
    arrived: Option<u64>,
    median_us: Option<f64>,
    p95_us: Option<f64>,
    difference_us: Option<f64>,
    difference_low_us: Option<f64>,
    difference_high_us: Option<f64>,
    loss_difference: Option<f64>,
    verdict: String,
}

impl Show for Text {
    type Event = QosEvent;
    type Report = QosReport;
    type Row = Row;

    fn seen(&mut self, event: &QosEvent) {
        match event {
            QosEvent::Probed { .. } => {
                self.probed += 1;
                self.waiting.done(self.probed);
            }
            QosEvent::Compared(_) => self.waiting.says("looking where marks change".to_owned()),
            _ => {}
        }
    }

    fn event(&mut self, _: &QosEvent) -> Result<()> {
        // A line for each of hundreds of probes would help nobody.
        Ok(())
    }

    fn report(&mut self, report: &QosReport) -> Result<()> {
        self.waiting.end();
        if let Some(load) = self.load() {
            line(format_args!("\nunder load, {load} kbit/s:"))?;
        }
        line(format_args!("{}", table(report)))?;
        for dead in &report.dead {
            line(format_args!("{dead}"))?;
        }
        for done in &report.fallen_back {
            line(format_args!(
                "{} has gone from {} back to DSCP 0",
                done.class, done.from
            ))?;
        }
        observation(report)?;
        Ok(())
    }

    fn rows(&self, report: &QosReport) -> Vec<Row> {
        let load = self.load();
        report.marks.iter().map(|mark| row(mark, load)).collect()
    }

    fn outcome(&self, report: &QosReport) -> Outcome {
        // Best effort: where it does not arrive, nothing can be said of the others.
        match report.mark(Mark::REFERENCE) {
            Some(reference) if reference.rtt.received > 0 => Outcome::Done,
            _ => Outcome::NotReached,
        }
    }
}

fn table(report: &QosReport) -> Table {
    let (left, right) = (Align::Left, Align::Right);
    let mut table = Table::new(&[
        ("mark", left),
        ("sent", right),
        ("loss", right),
        ("median", right),
        ("p95", right),
        ("longer by", right),
        ("", left),
        ("verdict", left),
    ]);
    for mark in &report.marks {
        let rtt = &mark.rtt;
        let comparison = mark.comparison.as_ref();
        let difference = comparison.and_then(|comparison| comparison.rtt_difference_us);
        let ms = |us: f64| format!("{:.3}", us / 1e3);
        table.row([
            mark.mark.to_string(),
            rtt.sent.to_string(),
            rtt.loss()
                .map(|loss| format!("{:.1}%", loss * 100.0))
                .unwrap_or_default(),
            rtt.median.map(millis).unwrap_or_default(),
            rtt.p95.map(millis).unwrap_or_default(),
            difference.map(|it| ms(it.value)).unwrap_or_default(),
            difference
                .map(|it| format!("({} to {})", ms(it.low), ms(it.high)))
                .unwrap_or_default(),
            verdict(mark),
        ]);
    }
    table
}

fn verdict(mark: &MarkReport) -> String {
    match &mark.comparison {
        None => "what the others are compared with".to_owned(),
        Some(comparison) => {
            let verdicts = comparison.verdicts.iter().map(Verdict::to_string);
            verdicts.collect::<Vec<_>>().join(", ")
        }
    }
}

fn observation(report: &QosReport) -> io::Result<()> {
    let seen = &report.observation;
    for remarking in &seen.remarkings {
        line(format_args!("{remarking}"))?;
    }
    let observed = [&seen.on_the_way, &seen.at_the_peer].contains(&&Visibility::Observed);
    if observed && seen.remarkings.is_empty() {
        line(format_args!("marks are not changed, as far as it was seen"))?;
    }
    for (place, visibility) in [
        ("on the way", &seen.on_the_way),
        ("at the server", &seen.at_the_peer),
    ] {
        if let Visibility::Unavailable { reason } = visibility {
            line(format_args!(
                "not seen: what happens to marks {place} ({reason})"
            ))?;
        }
    }
    Ok(())
}

fn row(mark: &MarkReport, load: Option<u64>) -> Row {
    let comparison = mark.comparison.as_ref();
    let difference = comparison.and_then(|comparison| comparison.rtt_difference_us);
    Row {
        mark: mark.mark.to_string(),
        loaded: load.is_some(),
        load_kbit_s: load,
        sent: mark.rtt.sent,
        received: mark.rtt.received,
        arrived: mark.arrived,
        median_us: mark.rtt.median.map(micros),
        p95_us: mark.rtt.p95.map(micros),
        difference_us: difference.map(|it| thousandths(it.value)),
        difference_low_us: difference.map(|it| thousandths(it.low)),
        difference_high_us: difference.map(|it| thousandths(it.high)),
        loss_difference: comparison.map(|comparison| comparison.loss_difference.value),
        verdict: verdict(mark),
    }
}
