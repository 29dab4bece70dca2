//! How much is kept.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use perpacket_server::history::{
    Audit, Change, ClientFilter, DatabaseUrl, Entry, History, Retention,
};
use serde_json::json;

use super::place::{DEADLINE, Place, client, eventually, measurement, now, row, run, sample};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// What is older than it may be goes, of whatever kind; what still has to do with a client or a measurement that is there
/// stays with it.
pub(crate) fn old_goes(place: &Place) -> Result<()> {
    let database = place.database()?;
    run(async {
        let keep = Retention {
            age: Duration::from_hours(1),
            every: Duration::from_millis(100),
            ..Retention::default()
        };
        let history = History::open(&database.url, "here", keep).await?;
        let now = now()?;
        let (old, recent) = (now - 2 * HOUR, now - HOUR / 2);
        let clients = [
            ("gone", Some(old + 1)),
            ("stays", Some(recent)),
            ("live", None),
        ];
        for (id, ended) in clients {
            for at in [old, recent] {
                history.record(Entry::Change(Change {
                    client: id.into(),
                    at,
                    by: "token".into(),
                    class: None,
                    before: json!({}),
                    after: json!({}),
                    reason: None,
                }));
                history.record(Entry::Audit(Audit {
                    at,
                    by: "token".into(),
                    from: None,
                    action: id.into(),
                    client: None,
                    detail: json!({}),
                }));
            }
            // More than goes at a time.
            for number in 0..3_000 {
                history.record(sample(id, old + number, json!({})));
            }
            history.record(sample(id, recent, json!({})));
            let ended = ended.map(|_| old + 1);
            let name = format!("m-{id}");
            history.record(Entry::Measurement(measurement(&name, id, old, ended)));
            history.record(Entry::MeasurementRow(row(&name, "1", old)));
        }
        history.flush().await?;
        // Clients are the last to go.
        for (id, ended) in clients {
            history.record(Entry::Client(client(id, old, ended)));
        }
        history.flush().await?;
        eventually("the end of what is old", async || {
            let gone = history.client("gone").await?.is_none();
            Ok(gone.then_some(()))
        })
        .await?;

        let read = history.clients(&ClientFilter::default()).await?;
        ensure!(read.len() == 2, "{read:?}");
        for (id, measured) in [("gone", 0), ("stays", 0), ("live", 1)] {
            let read = history.samples(id, 0, i64::MAX, 100).await?;
            ensure!(read.len() == 1 && read[0].at == recent, "{id}: {read:?}");
            let read = history.changes(id).await?;
            ensure!(read.len() == 1 && read[0].at == recent, "{id}: {read:?}");
            let read = history.measurements(id).await?;
            ensure!(read.len() == measured, "{id}: {read:?}");
            ensure!(read.iter().all(|info| info.rows == 1), "{id}: {read:?}");
        }
        let read = history.audit(100, None).await?;
        ensure!(read.len() == 3 && read.iter().all(|it| it.at == recent));
        let status = history.status();
        ensure!(status.recording && status.lost == 0, "{status:?}");
        Ok(history.close(DEADLINE).await?)
    })
}

/// Ten megabytes where two are allowed: the newest that fit stay, and what comes is recorded all the time.
pub(crate) fn too_much_goes(place: &Place) -> Result<()> {
    const LIMIT: u64 = 2 << 20;
    const SECONDS: i64 = 10_000;
    let database = place.database()?;
    run(async {
        let start = now()? - SECONDS * 1_000;
        let text = "x".repeat(1_000);
        let plenty = database.open().await?;
        for second in 0..SECONDS {
            plenty.record(sample("a", start + second * 1_000, json!(text)));
        }
        plenty.flush().await?;
        let keep = Retention {
            bytes: LIMIT,
            every: Duration::from_millis(100),
            ..Retention::default()
        };
        let history = if let DatabaseUrl::Memory = database.url {
            // It would be gone with the first.
            let history = History::open(&database.url, "here", keep).await?;
            for second in 0..SECONDS {
                history.record(sample("a", start + second * 1_000, json!(text)));
            }
            history
        } else {
            plenty.close(DEADLINE).await?;
            History::open(&database.url, "here", keep).await?
        };
        history.flush().await?;

        // Until nothing more goes.
        let mut before = 0;
        let first = eventually("the end of what is too much", async || {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let read = history.samples("a", 0, i64::MAX, 20_000).await?;
            let count = std::mem::replace(&mut before, read.len());
            let few = (read.len() as u64) * 1_000 < LIMIT;
            Ok((few && count == read.len()).then(|| read[0].at))
        })
        .await?;
        let read = history.samples("a", 0, i64::MAX, 20_000).await?;
        let bytes = read.len() as u64 * 1_000;
        ensure!(bytes > LIMIT / 2, "only {bytes} bytes are left");
        let last = read.last().context("a sample")?.at;
        ensure!(last == start + (SECONDS - 1) * 1_000, "the newest stay");
        ensure!(
            last - first == (i64::try_from(read.len())? - 1) * 1_000,
            "none between"
        );
        if let DatabaseUrl::File(path) = &database.url {
            // Its log is written back when it is closed.
            history.clone().close(DEADLINE).await?;
            let size = fs::metadata(path)?.len();
            ensure!(size <= LIMIT + LIMIT / 10, "the file has {size} bytes");
        }
        Ok(history.close(DEADLINE).await?)
    })
}
