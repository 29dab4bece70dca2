//! How many instructions a send takes outside of the kernel. It does not depend on what else the machine does.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use perpacket_webrtc::CustomNet;

use crate::{
    again::this_program,
    measure::{Spread, as_f64, current_thread},
    packet::of_all_streams,
    receive::{Reader, receive},
    report::{Benchmark, Options, Outcome, Row},
    send::{Place, Way, conn_with_options, gathered},
};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Counted {
    /// A tokio socket behind `Conn`.
    Stock,
    /// `CustomConn` with an empty policy.
    NoOptions,
    /// `CustomConn` with options for each stream.
    Options,
    /// `CustomConn` that gathers, with runs of 16 to one peer.
    BatchRun,
    /// `CustomConn` that gathers, with one packet to 64 peers.
    BatchFanOut,
    /// `sendmsg` with TTL and TOS.
    Floor,
    /// A `Conn` that does nothing: what its boxed future costs, before there is anything in it.
    Nothing,
    /// `UDPMuxDefault` of 100 peers, what the peers do to send included.
    ReceiveStock,
    /// `CustomMux` likewise.
    ReceiveMux,
    /// `CustomMux` of 10 peers, and of 1,000.
    ReceiveMuxFew,
    ReceiveMuxMany,
    /// A tokio socket of one peer connection.
    ReceiveOwnStock,
    /// `CustomConn` likewise.
    ReceiveOwn,
    /// `recvmsg`, of what 100 peers send.
    ReceiveFloor,
}

/// The benchmarks of instructions.
pub(crate) fn benchmarks() -> Vec<Benchmark> {
    vec![Benchmark {
        name: "instructions",
        about: "user-space instructions of one send and of one receive, 1200 B, by callgrind",
        run,
    }]
}

fn run(options: &Options) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    if let Err(error) = Command::new("valgrind").arg("--version").output() {
        outcome.remark(
            "instructions",
            format!("valgrind: {error}; it is in the package valgrind"),
        );
        return Ok(outcome);
    }
    // Whole bursts of the receivers, whole turns of the senders.
    let count = if options.quick { 640 } else { 6400 };
    for counted in Counted::value_variants() {
        let [once, twice] = [count, 2 * count].map(|count| callgrind(*counted, count));
        let each = as_f64(twice?.saturating_sub(once?)) / as_f64(count);
        let name = format!("instructions/{}", name(*counted)?);
        let row = Row::new(name, "instructions", Spread::of([each]));
        outcome.rows.push(row);
    }
    let of = |counted| {
        let name = format!("instructions/{}", name(counted)?);
        let row = outcome.rows.iter().find(|row| row.name == name);
        Ok::<_, anyhow::Error>(row.context("it was counted")?.median)
    };
    let above = of(Counted::Options)? - of(Counted::Floor)?;
    outcome.bar("instructions", above);
    Ok(outcome)
}

/// Instructions that this program takes for so many datagrams, start and end included.
fn callgrind(counted: Counted, count: u64) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(this_program()?)
        .args(["--counted", &name(counted)?, "--count", &count.to_string()])
        .output()
        .context("running valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("valgrind: {text}");
    }
    let line = text.lines().find(|line| line.contains("Collected :"));
    let number = line.and_then(|line| line.split_whitespace().last());
    let number = number.with_context(|| format!("valgrind counted nothing: {text}"))?;
    Ok(number.parse()?)
}

fn name(counted: Counted) -> Result<String> {
    let value = counted.to_possible_value().context("it has a name")?;
    Ok(value.get_name().to_owned())
}

/// Sends or receives so many datagrams: what callgrind is put around, or perf.
///
/// # Errors
/// When there are no sockets left, or the kernel takes a datagram for wrong.
pub(crate) fn work(counted: Counted, count: usize) -> Result<()> {
    match counted {
        Counted::BatchRun => return gathered(false, count),
        Counted::BatchFanOut => return gathered(true, count),
        Counted::ReceiveStock => return receive(Reader::Stock, 100, count),
        Counted::ReceiveMux => return receive(Reader::Mux, 100, count),
        Counted::ReceiveMuxFew => return receive(Reader::Mux, 10, count),
        Counted::ReceiveMuxMany => return receive(Reader::Mux, 1000, count),
        Counted::ReceiveOwnStock => return receive(Reader::OwnStock, 1, count),
        Counted::ReceiveOwn => return receive(Reader::Own, 1, count),
        Counted::ReceiveFloor => return receive(Reader::Floor, 100, count),
        Counted::Stock
        | Counted::NoOptions
        | Counted::Options
        | Counted::Floor
        | Counted::Nothing => {}
    }
    let place = Place::loopback(false)?;
    let from = place.from();
    let runtime = current_thread()?;
    runtime.block_on(async {
        let way = match counted {
            Counted::Stock => Way::stock(from).await?,
            Counted::NoOptions => Way::conn(&CustomNet::new(), from)?,
            Counted::Options => conn_with_options(from)?,
            Counted::Nothing => Way::nothing(),
            _ => Way::floor_with_options(from)?,
        };
        way.send(&of_all_streams(1200), place.to[0], count).await?;
        Ok(())
    })
}
