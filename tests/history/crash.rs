//! A server that is killed while it records.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _, stdout};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use perpacket_server::history::{DatabaseUrl, Entry, History};
use serde_json::json;

use super::place::{DEADLINE, Place, client, everything, now, run, sample};

/// Says to this program that it is the child, and which database is its.
const CHILD: &str = "PERPACKET_HISTORY_TO_BE_KILLED";

/// What a crash may cost.
const LOST: i64 = 1_000;

pub(crate) fn killed(place: &Place) -> Result<()> {
    let database = place.database()?;
    let url = match &database.url {
        // With what is not shown of it: the folder of the socket.
        DatabaseUrl::Postgres(url) => url.to_string(),
        url => url.to_string(),
    };
    // At moments that are far apart, so that one that waits for too long is met before it writes; and on what the one before
    // has left behind.
    let mut recorded = Vec::new();
    for round in 0..3 {
        let mut child = Command::new(env::current_exe()?)
            .env(CHILD, &url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        let mut times: Vec<i64> = Vec::new();
        let mut pause = 0;
        let mut running = true;
        // The rest is what it has said until it was killed.
        for line in lines {
            let at = line?.parse()?;
            pause = pause.max(at - times.last().unwrap_or(&at));
            times.push(at);
            if running && at - times[0] >= 1_900 + 430 * round + pause {
                // SIGKILL.
                child.kill()?;
                running = false;
            }
        }
        ensure!(!running, "the child has ended by itself");
        child.wait()?;
        // By its own clock, and without what it was kept from running: that is not what the crash has cost.
        let safe_until = times.last().context("a sample")? - LOST - pause;
        recorded.extend(times);

        run(async {
            let history = database.open().await?;
            let read = history.samples("a", 0, i64::MAX, 20_000).await?;
            let read: Vec<_> = read.iter().map(|sample| sample.at).collect();
            let safe: Vec<_> = recorded
                .iter()
                .copied()
                .filter(|at| *at < safe_until)
                .collect();
            ensure!(!safe.is_empty(), "it was kept from running for {pause} ms");
            let missing = safe.iter().filter(|at| read.binary_search(at).is_err());
            ensure!(
                missing.count() == 0,
                "{} of {} are there",
                read.len(),
                safe.len()
            );
            ensure!(
                history
                    .client("a")
                    .await?
                    .context("a client")?
                    .client
                    .ended
                    .is_some()
            );
            // What the crash has cost is not there later either.
            recorded = read;
            Ok(history.close(DEADLINE).await?)
        })?;
    }
    Ok(())
}

/// What the child does, which is to record and to say so; `None` in any other process.
pub(crate) fn child() -> Option<ExitCode> {
    let url = env::var(CHILD).ok()?;
    let done = run(async {
        let history = History::open(&url.parse()?, "here", everything()).await?;
        history.record(Entry::Client(client("a", now()?, None)));
        let mut last = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(2)).await;
            let at = now()?.max(last + 1);
            history.record(sample(
                "a",
                at,
                json!({"rtt_ms": 12.5, "text": "x".repeat(500)}),
            ));
            writeln!(stdout(), "{at}")?;
            last = at;
        }
    });
    eprintln!("the child has ended: {done:?}");
    Some(ExitCode::FAILURE)
}
