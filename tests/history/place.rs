//! Where a test keeps its history.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow};
use perpacket_lab::Skip;
use perpacket_server::history::{
    Client, DatabaseUrl, Entry, History, Measurement, MeasurementRow, Retention, Sample,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::postgres::Postgres;

/// For what takes milliseconds, on a machine that is busy with something else.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

#[derive(Clone)]
pub(crate) enum Place {
    File,
    Memory,
    /// `None` if no test is run.
    Postgres(Option<Result<Arc<Postgres>, Arc<anyhow::Error>>>),
}

/// A database that is gone with this.
pub(crate) struct Database {
    pub(crate) url: DatabaseUrl,
    _folder: Option<TempDir>,
}

impl Place {
    /// A database that is empty.
    pub(crate) fn database(&self) -> Result<Database> {
        let (url, folder) = match self {
            Self::Memory => (DatabaseUrl::Memory, None),
            Self::File => {
                let folder = tempfile::tempdir()?;
                let path = folder.path().join("history.db");
                (DatabaseUrl::File(path), Some(folder))
            }
            Self::Postgres(server) => match server.as_ref().context("tests are run")? {
                Ok(server) => (server.database()?, None),
                Err(error) => match error.downcast_ref::<Skip>() {
                    Some(skip) => return Err(skip.clone().into()),
                    None => return Err(anyhow!("{error:#}")),
                },
            },
        };
        Ok(Database {
            url,
            _folder: folder,
        })
    }
}

impl Database {
    /// A history in it, of a server called "here".
    pub(crate) async fn open(&self) -> Result<History> {
        Ok(History::open(&self.url, "here", everything()).await?)
    }
}

/// What keeps entries of 1970 as well.
pub(crate) fn everything() -> Retention {
    Retention {
        age: Duration::MAX,
        bytes: u64::MAX,
        ..Retention::default()
    }
}

/// Runs a test on a runtime of its own.
pub(crate) fn run(test: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(test)
}

/// Asks again and again until it gives a value.
pub(crate) async fn eventually<T>(
    what: &str,
    mut condition: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition().await? {
            return Ok(value);
        }
        if Instant::now() > end {
            return Err(anyhow!("{what} did not happen within {DEADLINE:?}"));
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Milliseconds since the epoch.
pub(crate) fn now() -> Result<i64> {
    Ok(SystemTime::UNIX_EPOCH.elapsed()?.as_millis().try_into()?)
}

pub(crate) fn client(id: &str, since: i64, ended: Option<i64>) -> Client {
    Client {
        id: id.to_owned(),
        name: None,
        user_agent: None,
        address: None,
        since,
        ended,
        state: if ended.is_some() {
            "closed"
        } else {
            "connected"
        }
        .to_owned(),
        data: json!({}),
    }
}

pub(crate) fn sample(client: &str, at: i64, data: Value) -> Entry {
    Entry::Sample(Sample {
        client: client.to_owned(),
        at,
        data,
    })
}

pub(crate) fn measurement(id: &str, client: &str, started: i64, ended: Option<i64>) -> Measurement {
    Measurement {
        id: id.to_owned(),
        client: client.to_owned(),
        kind: "trace".to_owned(),
        state: if ended.is_some() { "done" } else { "running" }.to_owned(),
        started,
        ended,
        config: json!({"rounds": 10}),
        error: None,
        report: None,
    }
}

pub(crate) fn row(measurement: &str, name: &str, at: i64) -> MeasurementRow {
    MeasurementRow {
        measurement: measurement.to_owned(),
        name: name.to_owned(),
        at,
        data: json!({"ttl": name, "at": at}),
    }
}
