//! A PostgreSQL that goes away and comes back.

use std::time::Duration;

use anyhow::{Result, ensure};
use perpacket_server::history::{Entry, History, HistoryError};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::place::{DEADLINE, client, eventually, everything, run, sample};
use super::postgres::Postgres;

/// Nobody who records has to wait, and what fits into the queue is recorded when the server is back.
pub(crate) fn goes_and_comes() -> Result<()> {
    let server = Postgres::start()?;
    let url = server.database()?;
    run(async {
        let history = History::open(&url, "here", everything()).await?;
        history.record(Entry::Client(client("a", 0, None)));
        history.flush().await?;
        server.stop()?;

        let begin = Instant::now();
        for at in 0..10_000 {
            history.record(sample("a", at, json!({"rtt_ms": 1.5})));
        }
        ensure!(begin.elapsed() < Duration::from_secs(5));
        let flushed = history.flush().await;
        ensure!(matches!(flushed, Err(HistoryError::NotRecorded { .. })));
        let status = history.status();
        ensure!(!status.recording && status.error.is_some(), "{status:?}");
        ensure!(status.lost == 0 && status.queued == 10_000, "{status:?}");
        let read = timeout(DEADLINE, history.client("a")).await?;
        ensure!(matches!(read, Err(HistoryError::Read { .. })), "{read:?}");

        // By itself.
        server.run()?;
        eventually("recording again", async || {
            Ok(history.status().recording.then_some(()))
        })
        .await?;
        history.flush().await?;
        let read = history.samples("a", 0, i64::MAX, 20_000).await?;
        let times: Vec<_> = read.iter().map(|sample| sample.at).collect();
        ensure!(times.into_iter().eq(0..10_000), "{} samples", read.len());
        let status = history.status();
        ensure!(status.lost == 0 && status.queued == 0, "{status:?}");

        // One that ends without it ends in time, and says what is missing.
        history.record(sample("a", 10_000, json!({})));
        server.stop()?;
        let closed = timeout(DEADLINE, history.close(DEADLINE)).await?;
        ensure!(matches!(closed, Err(HistoryError::NotRecorded { .. })));
        Ok(())
    })
}
