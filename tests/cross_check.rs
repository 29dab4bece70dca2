//! The same simulated network, seen by a trace of the session and by Debian's programs: they must not contradict each
//! other.

mod support;
mod trace {
    #![allow(dead_code, reason = "another test uses the rest")]
    pub(crate) mod scene;
}

use std::net::IpAddr;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::{Skip, Test, require_program};
use perpacket_path::{TraceConfig, TraceReport};
use serde_json::Value;

use support::hosts::Family::{self, V4, V6};
use support::measured::Way;
use trace::scene::{Scene, alone, rounds, row};

/// How much longer our best time may be than that of another program. Between hops there are 1.9 ms.
const LONGER: Duration = Duration::from_millis(3);

/// How much shorter it may be than it can be.
const SHORTER: Duration = Duration::from_micros(100);

/// How often both may measure: some of the programs ask once, and a busy machine can keep any packet waiting.
const ATTEMPTS: usize = 3;

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("traceroute_v4", || at_best(|| traceroute(V4))),
        ("traceroute_v6", || at_best(|| traceroute(V6))),
        ("tracepath_v4", || at_best(|| tracepath(V4))),
        ("tracepath_v6", || at_best(|| tracepath(V6))),
        ("mtr_v4", || at_best(|| mtr(V4))),
        ("mtr_v6", || at_best(|| mtr(V6))),
        ("mtr_and_a_rate_limit_v4", || {
            at_best(|| mtr_and_a_rate_limit(V4))
        }),
        ("mtr_and_a_rate_limit_v6", || {
            at_best(|| mtr_and_a_rate_limit(V6))
        }),
        ("irtt_v4", || at_best(|| irtt(V4))),
        ("irtt_v6", || at_best(|| irtt(V6))),
    ];
    perpacket_lab::main(tests)
}

/// Whether it is so at least once.
fn at_best(check: impl Fn() -> Result<()>) -> Result<()> {
    let _alone = alone();
    for attempt in 1..ATTEMPTS {
        match check() {
            Ok(()) => return Ok(()),
            // What is not installed will not be the next time.
            Err(error) if error.is::<Skip>() => return Err(error),
            Err(error) => eprintln!("attempt {attempt}: {error:#}"),
        }
    }
    check()
}

/// A hop as a program has it.
#[derive(Debug)]
struct Theirs {
    ttl: u8,
    address: IpAddr,
    best: Duration,
}

/// Ten routers and the peer, as a session sees them.
fn ten_hops(family: Family) -> Result<(Scene, TraceReport)> {
    let scene = Scene::load("ten_hops", Way::Net, family)?;
    let (_, report) = scene.trace(rounds(5))?;
    ensure!(report.hops.len() == 11, "{report:#?}");
    Ok((scene, report))
}

fn printed(scene: &Scene, command: &mut Command) -> Result<String> {
    let output = scene.wan.left().output(command)?;
    Ok(String::from_utf8(output.stdout)?)
}

/// Both have the same hops, equally far away.
fn agree(scene: &Scene, ours: &TraceReport, theirs: &[Theirs]) -> Result<()> {
    let known = ours.hops.iter();
    let known = known.filter_map(|hop| Some((hop.ttl, hop.address()?)));
    let same = known.eq(theirs.iter().map(|hop| (hop.ttl, hop.address)));
    ensure!(same, "{theirs:#?}\n{ours:#?}");
    for (ours, theirs) in ours.hops.iter().zip(theirs) {
        let truth = if ours.peer {
            scene.wan.rtt()
        } else {
            scene.wan.hop(ours.ttl.into()).rtt()
        };
        as_long(ours.rtt.best, theirs.best, truth).with_context(|| format!("{theirs:?}"))?;
    }
    Ok(())
}

/// Neither shorter than it can be nor longer than another program has it. That one may be late itself, where the
/// machine is busy: it takes its times without the kernel.
fn as_long(ours: Option<Duration>, theirs: Duration, truth: Duration) -> Result<()> {
    let ours = ours.context("silent")?;
    ensure!(ours + SHORTER >= truth, "{ours:?} is less than {truth:?}");
    ensure!(ours <= theirs + LONGER, "{ours:?} is more than {theirs:?}");
    Ok(())
}

/// A time in milliseconds.
fn milliseconds(text: &str) -> Option<Duration> {
    let value: f64 = text.parse().ok()?;
    Duration::try_from_secs_f64(value / 1e3).ok()
}

/// ` 1  10.0.1.1  2.010 ms  2.020 ms  2.030 ms`
fn traceroute(family: Family) -> Result<()> {
    let program = require_program("traceroute", "apt-get install traceroute")?;
    let (scene, report) = ten_hops(family)?;
    let mut command = Command::new(program);
    command.args(["-n", "-q", "3", "-m", "15", &scene.far.to_string()]);
    let text = printed(&scene, &mut command)?;
    let hops = text.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let times = fields.windows(2).filter(|pair| pair[1] == "ms");
        Some(Theirs {
            ttl: fields.first()?.parse().ok()?,
            address: fields.get(1)?.parse().ok()?,
            best: times.filter_map(|pair| milliseconds(pair[0])).min()?,
        })
    });
    agree(&scene, &report, &hops.collect::<Vec<_>>()).context(text)
}

/// ` 1:  10.0.1.1                   2.010ms `
fn tracepath(family: Family) -> Result<()> {
    let program = require_program("tracepath", "apt-get install iputils-tracepath")?;
    let (scene, report) = ten_hops(family)?;
    let mut command = Command::new(program);
    command.args(["-n", "-m", "15", &scene.far.to_string()]);
    let text = printed(&scene, &mut command)?;
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        Some(Theirs {
            ttl: fields.next()?.strip_suffix(':')?.parse().ok()?,
            address: fields.next()?.parse().ok()?,
            best: milliseconds(fields.next()?.strip_suffix("ms")?)?,
        })
    });
    // The first hop is asked twice.
    let mut hops: Vec<Theirs> = lines.collect();
    hops.dedup_by(|second, first| {
        first.best = first.best.min(second.best);
        first.ttl == second.ttl
    });
    agree(&scene, &report, &hops).context(text)
}

/// The hops of a report of mtr.
fn hubs(scene: &Scene, cycles: u32, interval: &str) -> Result<Vec<Value>> {
    let program = require_program("mtr", "apt-get install mtr-tiny")?;
    let mut command = Command::new(program);
    let cycles = cycles.to_string();
    command
        .args(["--no-dns", "--json", "--gracetime", "1"])
        .args(["--report-cycles", &cycles, "--interval", interval])
        .arg(scene.far.to_string());
    let report: Value = serde_json::from_str(&printed(scene, &mut command)?)?;
    let hubs = report["report"]["hubs"].as_array();
    Ok(hubs.with_context(|| report.to_string())?.clone())
}

fn number(hub: &Value, field: &str) -> Result<f64> {
    hub[field]
        .as_f64()
        .with_context(|| format!("{field}: {hub}"))
}

fn mtr(family: Family) -> Result<()> {
    let (scene, report) = ten_hops(family)?;
    let hops = hubs(&scene, 5, "0.2")?;
    let hops = (1..).zip(&hops).map(|(ttl, hub)| {
        let host = hub["host"].as_str().context("no host")?;
        let best = Duration::try_from_secs_f64(number(hub, "Best")? / 1e3)?;
        Ok(Theirs {
            ttl,
            address: host.parse()?,
            best,
        })
    });
    agree(&scene, &report, &hops.collect::<Result<Vec<_>>>()?)
}

/// Both see that one router does not answer all, and that nothing is lost beyond it.
fn mtr_and_a_rate_limit(family: Family) -> Result<()> {
    let scene = Scene::load("rate_limited", Way::Net, family)?;
    let config = TraceConfig {
        interval: Duration::from_millis(50),
        ..rounds(20)
    };
    let (_, report) = scene.trace(config)?;
    let hubs = hubs(&scene, 20, "0.05")?;
    ensure!(hubs.len() == report.hops.len(), "{hubs:?}\n{report:#?}");
    for (ttl, hub) in (1..).zip(&hubs) {
        let ours = row(&report, ttl)?;
        let theirs = number(hub, "Loss%")?;
        ensure!((theirs > 0.0) == (ttl == 2), "{hub}");
        ensure!((ours.rtt.lost > 0) == (ttl == 2), "{ours:#?}");
        ensure!(ours.path_loss == Some(0.0), "{ours:#?}");
    }
    Ok(())
}

/// The round trip to the peer's host.
fn irtt(family: Family) -> Result<()> {
    let program = require_program("irtt", "apt-get install irtt")?;
    let (scene, report) = ten_hops(family)?;
    let at = match scene.far {
        IpAddr::V4(v4) => format!("{v4}:2112"),
        IpAddr::V6(v6) => format!("[{v6}]:2112"),
    };
    let mut server = Command::new(&program);
    server.args(["server", "-b", &at]).stdout(Stdio::null());
    let _server = scene.wan.right().spawn(&mut server)?;
    let mut client = Command::new(&program);
    // It asks again by itself until the server is there.
    client.args(["client", "-i", "50ms", "-d", "1s", "-q", "-o", "-", &at]);
    let text = printed(&scene, &mut client)?;
    let result: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    let stats = &result["stats"];
    let nanoseconds = stats["rtt"]["min"].as_u64().with_context(|| text.clone())?;
    let theirs = Duration::from_nanos(nanoseconds);
    let ours = report.peer().and_then(|peer| peer.rtt.best);
    as_long(ours, theirs, scene.wan.rtt())?;
    ensure!(number(stats, "packet_loss_percent")? == 0.0, "{text}");
    Ok(())
}
