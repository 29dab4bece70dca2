//! One sender: what a datagram costs on its way out.

mod batch;
mod place;
mod single;
mod ways;

use anyhow::{Context as _, Result};

use crate::{
    again,
    report::{Benchmark, Options, Outcome},
};

pub(crate) use self::{
    batch::gathered,
    place::Place,
    ways::{Way, conn_with_options},
};

/// The benchmarks of sending.
pub(crate) fn benchmarks() -> Vec<Benchmark> {
    vec![
        Benchmark {
            name: "send",
            about: "one datagram after the other, over loopback",
            run: on_loopback,
        },
        Benchmark {
            name: "send-veth",
            about: "the same between two network namespaces, one by one and in runs of 16",
            run: on_veth,
        },
        Benchmark {
            name: "batch-run",
            about: "runs of 16 to one peer",
            run: runs_on_loopback,
        },
        Benchmark {
            name: "batch-fan-out",
            about: "one packet to 64 peers, each with options of its own",
            run: batch::fan_out,
        },
    ]
}

/// UDP payload, bytes: what a packet of audio has, and one of video.
const LENGTHS: [usize; 2] = [200, 1200];

fn on_loopback(options: &Options) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for v6 in [false, true] {
        let place = Place::loopback(v6)?;
        for length in LENGTHS {
            outcome.add(single::compare(&place, length, options)?);
        }
    }
    Ok(outcome)
}

fn runs_on_loopback(options: &Options) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for v6 in [false, true] {
        let place = Place::loopback(v6)?;
        for length in LENGTHS {
            outcome.add(batch::runs(&place, length, options)?);
        }
    }
    Ok(outcome)
}

/// Measures in a process of its own, which has moved into a network of its own.
fn on_veth(options: &Options) -> Result<Outcome> {
    let rounds = options.rounds.to_string();
    let mut arguments = vec!["--in-lab", "--rounds", &rounds];
    if options.quick {
        arguments.push("--quick");
    }
    serde_json::from_str(&again::run(&arguments)?).context("what it found")
}

/// What [`on_veth`] runs. To be called first thing in `main`.
///
/// # Errors
/// When namespaces cannot be had.
pub(crate) fn in_lab(options: &Options) -> Result<Outcome> {
    perpacket_lab::enter()?;
    let lab = perpacket_lab::Lab::new();
    let (left, right) = (lab.host("left")?, lab.host("right")?);
    lab.link(&left, &right)
        .v4("10.0.0.1/24", "10.0.0.2/24")
        .v6("fd00::1/64", "fd00::2/64")
        .up()?;
    let mut outcome = Outcome::default();
    for v6 in [false, true] {
        let place = Place::veth(&right, v6)?;
        for length in LENGTHS {
            outcome.add(left.run(|| single::compare(&place, length, options))?);
            outcome.add(left.run(|| batch::runs(&place, length, options))?);
        }
    }
    Ok(outcome)
}
