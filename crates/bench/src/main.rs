//! What perpacket costs and gains beside the plain socket, measured in one run.
//!
//! Times are to be read as ratios within a run: machines differ, and so does one machine from one minute to the next.

mod again;
mod bars;
mod instructions;
mod machine;
mod measure;
mod packet;
mod peers;
mod policy;
mod receive;
mod report;
mod send;
mod sys;
mod table;
mod threads;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use serde::Serialize;

use bars::Bar;
use instructions::Counted;
use machine::Machine;
use report::{Benchmark, Options, Outcome, Row};

/// How often everything that is compared runs.
const ROUNDS: usize = 11;
const QUICK_ROUNDS: usize = 3;

/// Measures what perpacket costs and gains beside the plain socket.
#[derive(Debug, Parser)]
struct Args {
    /// Writes everything to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fewer and shorter rounds: figures are rough.
    #[arg(long)]
    quick: bool,
    /// How often everything that is compared runs [default: 11, quick 3].
    #[arg(long, value_name = "NUMBER")]
    rounds: Option<usize>,
    /// Says what can be measured, and measures nothing.
    #[arg(long)]
    list: bool,
    /// What to measure, by the beginning of its name; everything if none is given.
    names: Vec<String>,

    /// Is in a network of its own; prints what it found as JSON.
    #[arg(long, hide = true)]
    in_lab: bool,
    /// Sends or receives this way, for callgrind or perf.
    #[arg(long, hide = true, requires = "count")]
    counted: Option<Counted>,
    /// How many datagrams.
    #[arg(long, hide = true)]
    count: Option<usize>,
    /// Prints how much memory each of so many peers takes.
    #[arg(long, hide = true)]
    memory: Option<u32>,
    /// Serves peer connections this way until its standard input ends.
    #[arg(long, hide = true, value_name = "WAY")]
    serve: Option<String>,
}

/// What `--json` writes.
#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    quick: bool,
    rounds: usize,
    bars: Vec<Bar>,
    rows: Vec<Row>,
    /// Benchmarks that could not run, and why.
    failed: Vec<(&'static str, String)>,
}

fn benchmarks() -> Vec<Benchmark> {
    let all = [
        send::benchmarks(),
        receive::benchmarks(),
        policy::benchmarks(),
        threads::benchmarks(),
        instructions::benchmarks(),
        peers::benchmarks(),
    ];
    all.into_iter().flatten().collect()
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let rounds = if args.quick { QUICK_ROUNDS } else { ROUNDS };
    let options = Options {
        quick: args.quick,
        rounds: args.rounds.unwrap_or(rounds).max(1),
    };
    if args.in_lab {
        println!("{}", serde_json::to_string(&send::in_lab(&options)?)?);
    } else if let Some(counted) = args.counted {
        instructions::work(counted, args.count.unwrap_or_default())?;
    } else if let Some(peers) = args.memory {
        println!("{}", policy::memory_of(peers)?);
    } else if let Some(way) = args.serve {
        peers::serve(&way)?;
    } else {
        return measure(&args, &options);
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(args: &Args, options: &Options) -> Result<ExitCode> {
    let chosen = chosen(&args.names)?;
    if args.list {
        for benchmark in chosen {
            table::say(&format!("{:16} {}", benchmark.name, benchmark.about));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let machine = Machine::this();
    table::say(&format!("{}\n", machine.line()));
    let mut all = Outcome::default();
    let mut failed = Vec::new();
    for benchmark in chosen {
        table::say(&format!("{}: {}", benchmark.name, benchmark.about));
        match (benchmark.run)(options) {
            Ok(outcome) => {
                table::print_rows(&outcome.rows);
                all.add(outcome);
            }
            Err(error) => {
                table::say(&format!("could not run: {error:#}"));
                failed.push((benchmark.name, format!("{error:#}")));
            }
        }
        table::say("");
    }
    let bars = bars::judge(&all);
    table::print_bars(&bars);
    let code = ExitCode::from(u8::from(!failed.is_empty()));
    if let Some(file) = &args.json {
        let report = Report {
            machine,
            quick: options.quick,
            rounds: options.rounds,
            bars,
            rows: all.rows,
            failed,
        };
        fs::write(file, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(code)
}

/// The benchmarks whose names begin with one of these.
fn chosen(names: &[String]) -> Result<Vec<Benchmark>> {
    let mut chosen = benchmarks();
    for name in names {
        if !chosen
            .iter()
            .any(|benchmark| benchmark.name.starts_with(name))
        {
            bail!("nothing is called {name}; --list says what there is");
        }
    }
    chosen.retain(|benchmark| {
        names.is_empty() || names.iter().any(|name| benchmark.name.starts_with(name))
    });
    Ok(chosen)
}
