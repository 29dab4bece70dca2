//! What the server has seen, kept in SQLite or PostgreSQL.
//!
//! ```
//! use perpacket_server::history::{ClientFilter, DatabaseUrl, Entry, History, Retention, Sample};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let history = History::open(&DatabaseUrl::Memory, "here", Retention::default()).await?;
//! let now = std::time::UNIX_EPOCH.elapsed()?.as_millis();
//! history.record(Entry::Sample(Sample {
//!     client: "a".into(),
//!     at: now.try_into()?,
//!     data: serde_json::json!({"rtt_ms": 12.3}),
//! }));
//! history.flush().await?;
//! assert_eq!(history.samples("a", 0, i64::MAX, 100).await?.len(), 1);
//! assert!(history.clients(&ClientFilter::default()).await?.is_empty());
//! history.close(std::time::Duration::from_secs(5)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Recording never makes a call wait, and never fails it: entries go into a queue, and a task writes them, a transaction
//! four times a second. So a crash of the process loses less than the last second. When the database does not take them,
//! because the disk is full or the server is gone, they wait in the queue while there is room; what finds no room,
//! samples first, is counted as lost. [`History::status`] says so, and it is tried again until it works.
//!
//! Several servers can share one PostgreSQL, each under a name of its own, and read what all of them have recorded.

mod batch;
mod database;
mod entry;
mod error;
mod read;
mod retention;
mod store;
mod thin;
mod writer;

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::{Instant, timeout},
};

pub use database::DatabaseUrl;
pub use entry::{
    Audit, Change, Client, ClientRow, Entry, Measurement, MeasurementInfo, MeasurementRow, Sample,
};
pub use error::HistoryError;
pub use retention::Retention;
use store::{ANSWER, Store, patiently};
use writer::{Message, Shared, Writer};

/// A history. Clones are the same one.
#[derive(Clone)]
pub struct History {
    store: Arc<Store>,
    shared: Arc<Shared>,
    queue: mpsc::UnboundedSender<Message>,
    kind: &'static str,
}

/// How recording goes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordingStatus {
    /// Whether what is recorded gets into the database.
    pub recording: bool,
    /// If not, what the database says.
    pub error: Option<String>,
    /// How many entries will never be there, since the history was opened.
    pub lost: u64,
    /// How many entries wait to be written.
    pub queued: usize,
}

/// Which clients are asked for.
#[derive(Clone, Debug)]
pub struct ClientFilter {
    /// Those that are there, those that were, or both.
    pub state: ClientState,
    /// Only those that came before this time, in milliseconds since the epoch. The live ones stand on the first page of all
    /// clients, so that of all those before a time only the ended ones are meant.
    pub before: Option<i64>,
    /// How many at most.
    pub limit: u32,
}

/// Whether a client is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientState {
    /// Live or ended.
    #[default]
    All,
    /// Connected, or on the way to be.
    Live,
    /// Gone.
    Ended,
}

impl Default for ClientFilter {
    /// The first hundred of all.
    fn default() -> Self {
        Self {
            state: ClientState::All,
            before: None,
            limit: 100,
        }
    }
}

impl History {
    /// Opens a history, and makes its tables if they are not there. To be called on a tokio runtime.
    ///
    /// `server` is the name of this server, which no other that shares the database has: what an earlier one of that name
    /// has left as live, or running, is marked as ended.
    ///
    /// # Errors
    /// [`HistoryError::Url`] or [`HistoryError::Open`].
    pub async fn open(
        database: &DatabaseUrl,
        server: &str,
        keep: Retention,
    ) -> Result<Self, HistoryError> {
        let store = Arc::new(Store::open(database, server).await?);
        let shared = Arc::<Shared>::default();
        let (queue, messages) = mpsc::unbounded_channel();
        let writer = Writer::new(Arc::clone(&store), Arc::clone(&shared), keep);
        tokio::spawn(writer.run(messages));
        Ok(Self {
            store,
            shared,
            queue,
            kind: database.kind(),
        })
    }

    /// Records something, soon.
    pub fn record(&self, entry: Entry) {
        let weight = entry.weight();
        if !self.shared.admit(weight, entry.is_of_many()) {
            return;
        }
        let message = Message::Entry(entry, Instant::now());
        if self.queue.send(message).is_err() {
            self.shared.lose(weight);
        }
    }

    /// How recording goes.
    #[must_use]
    pub fn status(&self) -> RecordingStatus {
        let error = match self.shared.error() {
            None if self.queue.is_closed() => Some("the history is closed".to_owned()),
            error => error,
        };
        RecordingStatus {
            recording: error.is_none(),
            error,
            lost: self.shared.lost(),
            queued: self.shared.queued(),
        }
    }

    /// The name of this server.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.store.server
    }

    /// What it is kept in: `sqlite`, `memory` or `postgres`.
    #[must_use]
    pub fn database(&self) -> &'static str {
        self.kind
    }

    /// Returns when all that was recorded until now is in the database, or could not be written.
    ///
    /// # Errors
    /// [`HistoryError::NotRecorded`].
    pub async fn flush(&self) -> Result<(), HistoryError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.queue.send(Message::Flush(answer));
        let recorded = match sent {
            Ok(()) => answered.await.ok(),
            Err(_) => None,
        };
        recorded
            .unwrap_or_else(|| Err("the history is closed".to_owned()))
            .map_err(|reason| HistoryError::NotRecorded { reason })
    }

    /// Writes what was recorded until now, once, and closes the history; its clones are closed with it.
    ///
    /// # Errors
    /// [`HistoryError::NotRecorded`], or [`HistoryError::TimedOut`] when it takes longer than that.
    pub async fn close(self, within: Duration) -> Result<(), HistoryError> {
        let (answer, answered) = oneshot::channel();
        // If it is closed already there is nobody to answer, and nothing to do.
        let _ = self.queue.send(Message::Close(answer));
        match timeout(within, answered).await {
            Ok(recorded) => recorded
                .unwrap_or(Ok(()))
                .map_err(|reason| HistoryError::NotRecorded { reason }),
            Err(_) => Err(HistoryError::TimedOut { within }),
        }
    }

    /// Clients of all servers, the live ones first, the newest first.
    ///
    /// # Errors
    /// [`HistoryError::Read`].
    pub async fn clients(&self, filter: &ClientFilter) -> Result<Vec<ClientRow>, HistoryError> {
        let answer = async { read::clients(&mut *self.store.reader().await?, filter).await };
        reading("clients", answer).await
    }

    /// The client of that name.
    ///
    /// # Errors
    /// [`HistoryError::Read`].
    pub async fn client(&self, id: &str) -> Result<Option<ClientRow>, HistoryError> {
        let answer = async { read::client(&mut *self.store.reader().await?, id).await };
        reading("a client", answer).await
    }

    /// The samples of a client from one time to another, both included, in the order of time. Where there are more than
    /// `limit`, which can be 20,000 at most, those that are near each other are averaged.
    ///
    /// # Errors
    /// [`HistoryError::Read`].
    pub async fn samples(
        &self,
        client: &str,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Result<Vec<Sample>, HistoryError> {
        let what = "samples";
        let answer =
            async { read::samples(&mut *self.store.reader().await?, client, from, to).await };
        let rows = reading(what, answer).await?;
        let limit = limit.min(read::SAMPLES.into());
        let client = client.to_owned();
        // A tenth of a second of parsing would hold up the media that shares the runtime.
        spawn_blocking(move || read::parse_samples(&client, rows, limit))
            .await
            .map_err(|error| HistoryError::Read {
                what,
                source: error.into(),
            })
    }

    /// How a client's options were changed, in the order of time.
    ///
    /// # Errors
    /// [`HistoryError::Read`].
    pub async fn changes(&self, client: &str) -> Result<Vec<Change>, HistoryError> {
        let answer = async { read::changes(&mut *self.store.reader().await?, client).await };
        reading("changes", answer).await
    }

    /// The measurements of a client, the newest first, without their reports.
    ///
    /// # Errors
    /// [`HistoryError::Read`].
    pub async fn measurements(&self, client: &str) -> Result<Vec<MeasurementInfo>, HistoryError> {
        let answer = async { read::measurements(&mut *self.store.reader().await?, client).await };
        reading("measurements", answer).await
    }

    /// A measurement of a client, with its report, and the rows of its result in the order of time.
    ///
    /// # Errors
    /// [`HistoryError::Read`].
    pub async fn measurement(
        &self,
        client: &str,
        id: &str,
    ) -> Result<Option<(MeasurementInfo, Vec<MeasurementRow>)>, HistoryError> {
        let answer =
            async { read::measurement(&mut *self.store.reader().await?, client, id).await };
        reading("a measurement", answer).await
    }

    /// Who did what, the newest first: before a time, if one is given.
    ///
    /// # Errors
    /// [`HistoryError::Read`].
    pub async fn audit(&self, limit: u32, before: Option<i64>) -> Result<Vec<Audit>, HistoryError> {
        let answer = async { read::audit(&mut *self.store.reader().await?, limit, before).await };
        reading("the audit trail", answer).await
    }
}

async fn reading<T>(
    what: &'static str,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, HistoryError> {
    patiently(ANSWER, answer)
        .await
        .map_err(|error| HistoryError::Read {
            what,
            source: error.into(),
        })
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History")
            .field("server", &self.server())
            .field("database", &self.kind)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
