//! Whole peer connections: webrtc-rs 0.17 on its own sockets, the same with perpacket, and webrtc 0.21 as a rival.
//!
//! All on the loopback interface. What a server spends is told apart from what its clients spend by giving it a process
//! of its own: this executable again, see [`server`].

mod channel;
mod classic;
mod client;
mod compare;
mod connect;
mod data;
mod memory;
mod next;
mod pair;
mod server;
mod sfu;
mod way;

pub(crate) use server::serve;

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::report::Benchmark;

/// What every wait is limited to.
const DEADLINE: Duration = Duration::from_secs(30);

/// The benchmarks of whole peer connections.
pub(crate) fn benchmarks() -> Vec<Benchmark> {
    vec![
        Benchmark {
            name: "connect",
            about: "time until two peer connections are connected",
            run: connect::run,
        },
        Benchmark {
            name: "data",
            about: "throughput and latency of a data channel, both ends the same",
            run: data::run,
        },
        Benchmark {
            name: "sfu",
            about: "processor time of a server, in a process of its own, that forwards one publisher's RTP",
            run: sfu::run,
        },
        Benchmark {
            name: "memory",
            about: "resident memory of a server for each idle peer connection",
            run: memory::run,
        },
    ]
}

/// The runtime that everything here runs on, with one worker for each processor.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start tokio")
}

/// What comes of it, unless it takes too long.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(DEADLINE, future)
        .await
        .with_context(|| format!("waited {} s for {what}", DEADLINE.as_secs()))
}
