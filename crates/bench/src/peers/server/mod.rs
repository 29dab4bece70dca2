//! A server of peer connections in a process of its own, so that its processor time and memory are its own: this
//! executable, started again with `--serve`. It takes a [`Command`] on each line of its standard
//! input, and answers each with a line of its standard output.

mod classic;
mod handle;
mod next;

use std::io::{BufRead as _, Write as _, stdin, stdout};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::runtime;
use super::way::Way;
use crate::measure::process_time;

pub(super) use handle::Server;

/// What a server is told. Descriptions have all their candidates in them.
#[derive(Debug, Serialize, Deserialize)]
enum Command {
    /// Answer this offer of a peer connection that sends a track, which is to be forwarded to all subscribers.
    Publish { offer: String },
    /// Answer this offer of a peer connection that wants the track.
    Subscribe { offer: String },
    /// Answer this offer of a peer connection with a data channel that nothing will be sent through.
    Idle { offer: String },
    /// Say what has been used.
    Usage,
    /// Say how much memory there is.
    Memory,
}

/// What it says.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Answer(String),
    Usage(Usage),
    /// Resident memory that is no file's, bytes (`RssAnon` of `proc_pid_status(5)`).
    Memory(u64),
    Failed(String),
}

/// What a server has used since it began.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Usage {
    /// Processor time of the process, all threads.
    pub(super) cpu: Duration,
    /// Packets that were handed to peer connections of subscribers.
    pub(super) forwarded: u64,
}

/// What a server does, on either line of webrtc-rs.
#[async_trait]
trait Serve {
    async fn publish(&self, offer: String) -> Result<String>;
    async fn subscribe(&self, offer: String) -> Result<String>;
    async fn idle(&self, offer: String) -> Result<String>;
}

/// Packets that were forwarded by this process.
static FORWARDED: AtomicU64 = AtomicU64::new(0);

/// Serves peer connections of the way of this name until its standard input ends.
pub(crate) fn serve(name: &str) -> Result<()> {
    let way = Way::named(name).with_context(|| format!("no server is called {name}"))?;
    let runtime = runtime()?;
    let server: Box<dyn Serve> = match way {
        Way::Next => Box::new(next::Next::default()),
        _ => Box::new(runtime.block_on(classic::Classic::new(way))?),
    };
    for line in stdin().lock().lines() {
        let command = serde_json::from_str(&line?)?;
        let reply = runtime
            .block_on(obey(&*server, command))
            .unwrap_or_else(|error| Reply::Failed(format!("{error:#}")));
        let mut out = stdout().lock();
        serde_json::to_writer(&mut out, &reply)?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    // What is left is not worth waiting for.
    runtime.shutdown_background();
    Ok(())
}

async fn obey(server: &dyn Serve, command: Command) -> Result<Reply> {
    Ok(match command {
        Command::Publish { offer } => Reply::Answer(server.publish(offer).await?),
        Command::Subscribe { offer } => Reply::Answer(server.subscribe(offer).await?),
        Command::Idle { offer } => Reply::Answer(server.idle(offer).await?),
        Command::Usage => Reply::Usage(Usage {
            cpu: process_time(),
            forwarded: FORWARDED.load(Ordering::Relaxed),
        }),
        Command::Memory => Reply::Memory(resident()?),
    })
}

/// Resident memory of this process that is no file's, bytes.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    for line in status.lines() {
        if let Some(amount) = line.strip_prefix("RssAnon:") {
            let kibibytes = amount.trim().trim_end_matches(" kB");
            return Ok(kibibytes.parse::<u64>()? * 1024);
        }
    }
    bail!("/proc/self/status has no RssAnon")
}
