//! `connect`: joins a server, and tells how the session is doing.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args as ClapArgs;
use perpacket_path::{RttRecorder, RttStatistics};
use perpacket_webrtc::{ClassCounters, PacketClass, PeerCounters, udp::Tos};
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    args::{Join, parse_seconds},
    client::{Channel, Client},
    exit::Outcome,
    interrupt::Interrupt,
    output::{Align, Format, OutputArgs, Table, csv, json, line, millis},
    session::SessionLine,
};

/// How long a message may take to come back.
const ECHO: Duration = Duration::from_secs(1);

/// After how many messages it is plain that the server sends none back.
const MUTE: u64 = 3;

/// Join a server, and tell how the session is doing until Ctrl-C.
///
/// Each line has the round trip of a message, where the server sends messages back, what was sent and
/// received, and with which TTL and marks it arrived. Last comes what was counted, by class of packets.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    join: Join,

    /// Leave after so many lines.
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Leave after that time.
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds)]
    duration: Option<Duration>,

    /// How often a line is printed.
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = parse_seconds)]
    interval: Duration,

    #[command(flatten)]
    output: OutputArgs,
}

/// How the session is doing.
#[derive(Clone, Debug, Serialize)]
struct Sample {
    /// Since the session was connected.
    after_us: u64,
    /// The round trip of a message.
    echo_us: Option<u64>,
    /// Datagrams, so far.
    sent: u64,
    received: u64,
    dropped: u64,
    /// How the newest datagram of some class arrived.
    ttl: Option<u8>,
    tos: Option<u8>,
}

/// How it has done.
#[derive(Clone, Debug, Serialize)]
struct Report {
    duration_us: u64,
    /// Whether the connection was lost before its time.
    lost: bool,
    echo: RttStatistics,
    classes: Vec<Class>,
}

#[derive(Clone, Debug, Serialize)]
struct Class {
    class: PacketClass,
    #[serde(flatten)]
    counters: ClassCounters,
}

pub(crate) async fn run(args: Args) -> Result<Outcome> {
    let mut interrupt = Interrupt::install()?;
    let mut client = Client::join(&args.join, &mut interrupt).await?;
    let outcome = stay(&args, &mut client, &mut interrupt).await;
    client.leave().await;
    outcome
}

async fn stay(args: &Args, client: &mut Client, interrupt: &mut Interrupt) -> Result<Outcome> {
    let format = args.output.format();
    SessionLine::of(client).await.print(format)?;
    let begun = Instant::now();
    let mut echo = RttRecorder::new();
    let mut samples = Vec::new();
    let end = async {
        match args.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    let mut channel = client.channel.take();
    let connection_lost = client.lost();
    tokio::pin!(connection_lost);
    let mut pace = interval(args.interval);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lost = false;
    let mut printed = 0;
    while args.count.is_none_or(|count| printed < count) {
        let sample = async {
            pace.tick().await;
            let echo_time = send(channel.as_mut(), &mut echo).await;
            Sample::of(begun, echo_time, &client.session.total())
        };
        let sample = tokio::select! {
            sample = sample => sample,
            () = &mut end => break,
            () = interrupt.asked() => break,
            () = &mut connection_lost => {
                lost = true;
                break;
            }
        };
        printed += 1;
        match format {
            Format::Text => line(format_args!("{}", sample.text()))?,
            Format::Json => json("event", &sample)?,
            Format::Csv => samples.push(sample),
        }
    }
    let report = Report {
        duration_us: micros(begun.elapsed()),
        lost,
        echo: echo.statistics(),
        classes: classes(&client.session.total()),
    };
    match format {
        Format::Text => {
            report.print()?;
            if channel.is_some_and(|channel| !channel.is_open()) {
                line(format_args!(
                    "\nThe server has not opened the data channel."
                ))?;
            }
        }
        Format::Json => json("report", &report)?,
        Format::Csv => csv(samples, true)?,
    }
    Ok(if lost {
        eprintln!("The connection was lost.");
        Outcome::NotReached
    } else {
        Outcome::Done
    })
}

/// Sends a message, unless nothing comes back from this server, or there is nothing yet to send it on.
async fn send(channel: Option<&mut Channel>, echo: &mut RttRecorder) -> Option<Duration> {
    let channel = channel?;
    let so_far = echo.statistics();
    if so_far.received == 0 && so_far.lost >= MUTE {
        return None;
    }
    if !channel.opens().await {
        return None;
    }
    echo.sent();
    let back = channel.echo(ECHO).await;
    match back {
        Some(time) => echo.received(time),
        None => echo.lost(),
    }
    back
}

impl Sample {
    fn of(begun: Instant, echo: Option<Duration>, counters: &PeerCounters) -> Self {
        let total = counters.total();
        Self {
            after_us: micros(begun.elapsed()),
            echo_us: echo.map(micros),
            sent: total.sent,
            received: total.received,
            dropped: total.dropped.iter().sum(),
            ttl: total.received_ttl,
            tos: total.received_tos.map(Tos::byte),
        }
    }

    fn text(&self) -> String {
        let echo = self.echo_us.map_or("-".to_owned(), |echo| {
            format!("{} ms", millis(Duration::from_micros(echo)))
        });
        let dropped = match self.dropped {
            0 => String::new(),
            dropped => format!("  dropped {dropped}"),
        };
        format!(
            "{:>5} s  echo {echo:>9}  sent {:>5}  received {:>5}  TTL {}  TOS {}{dropped}",
            Duration::from_micros(self.after_us).as_secs(),
            self.sent,
            self.received,
            or_dash(self.ttl),
            or_dash(self.tos.map(Tos::from_byte)),
        )
    }
}

impl Report {
    fn print(&self) -> std::io::Result<()> {
        let (left, right) = (Align::Left, Align::Right);
        let mut table = Table::new(&[
            ("class", left),
            ("sent", right),
            ("bytes", right),
            ("received", right),
            ("bytes", right),
            ("dropped", right),
            ("TTL", right),
            ("TOS", left),
        ]);
        for Class { class, counters } in &self.classes {
            table.row([
                class.to_string(),
                counters.sent.to_string(),
                counters.sent_bytes.to_string(),
                counters.received.to_string(),
                counters.received_bytes.to_string(),
                counters.dropped.iter().sum::<u64>().to_string(),
                or_dash(counters.received_ttl),
                or_dash(counters.received_tos),
            ]);
        }
        line(format_args!("\n{table}"))?;
        let echo = &self.echo;
        if let (Some(median), Some(worst)) = (echo.median, echo.worst) {
            let (median, worst) = (millis(median), millis(worst));
            line(format_args!(
                "\n{} of {} messages came back: median {median} ms, at most {worst} ms",
                echo.received, echo.sent
            ))?;
        } else if echo.lost > 0 {
            line(format_args!("\nThe server sends no messages back."))?;
        }
        Ok(())
    }
}

/// The classes of which there was any.
fn classes(counters: &PeerCounters) -> Vec<Class> {
    PacketClass::ALL
        .into_iter()
        .map(|class| Class {
            class,
            counters: *counters.class(class),
        })
        .filter(|class| class.counters != ClassCounters::default())
        .collect()
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
