use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{Entry, Retention, store::Store};

/// How long an entry waits for others, to be written together with them. With what the database takes it is well below
/// the second that a crash may cost.
const TOGETHER: Duration = Duration::from_millis(250);

/// How many entries one transaction has at most. After an error it is half of what was tried, then a quarter, and so on:
/// it may be that they took too long.
const BATCH: usize = 2_000;

/// How many bytes may wait to be written. With 200 clients that is about two minutes.
const QUEUE: usize = 64 << 20;

/// What more may wait of that which is told only once, such as who did what, when the queue is full of samples.
const RESERVE: usize = 16 << 20;

/// How long after an error it is tried again, the first time and at most.
const RETRY: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(30)];

pub(super) type Recorded = Result<(), String>;

#[expect(clippy::large_enum_variant, reason = "nearly all of them are entries")]
pub(super) enum Message {
    /// And when it was recorded.
    Entry(Entry, Instant),
    Flush(oneshot::Sender<Recorded>),
    Close(oneshot::Sender<Recorded>),
}

/// What a history and its writer both know.
#[derive(Debug, Default)]
pub(super) struct Shared {
    error: Mutex<Option<String>>,
    lost: AtomicU64,
    queued: AtomicUsize,
    bytes: AtomicUsize,
}

/// Writes what comes through the queue.
pub(super) struct Writer {
    store: Arc<Store>,
    shared: Arc<Shared>,
    keep: Retention,
    pending: VecDeque<Entry>,
    /// How many of them to write at a time.
    batch: usize,
    /// When they are to be written.
    due: Option<Instant>,
    /// What to wait after the next error.
    retry: Duration,
    /// Who waits until all that is pending is written.
    waiting: Vec<oneshot::Sender<Recorded>>,
    /// Who waits until the history is closed.
    closing: Vec<oneshot::Sender<Recorded>>,
    /// Before when all is being deleted.
    cutoff: Option<i64>,
}

impl Shared {
    /// Takes a place in the queue for an entry of this many bytes; an entry that gets none counts as lost.
    pub(super) fn admit(&self, bytes: usize, of_many: bool) -> bool {
        let room = if of_many { QUEUE } else { QUEUE + RESERVE };
        let admitted = self.bytes.fetch_add(bytes, Relaxed).saturating_add(bytes) <= room;
        self.queued.fetch_add(1, Relaxed);
        if !admitted {
            self.lose(bytes);
        }
        admitted
    }

    /// An entry of this many bytes will not be written.
    pub(super) fn lose(&self, bytes: usize) {
        self.lost.fetch_add(1, Relaxed);
        self.release(bytes);
    }

    fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Relaxed);
        self.queued.fetch_sub(1, Relaxed);
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    pub(super) fn queued(&self) -> usize {
        self.queued.load(Relaxed)
    }

    pub(super) fn error(&self) -> Option<String> {
        self.error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Sets what is wrong; what was wrong before.
    fn replace_error(&self, error: Option<String>) -> Option<String> {
        let mut current = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut current, error)
    }
}

impl Writer {
    pub(super) fn new(store: Arc<Store>, shared: Arc<Shared>, keep: Retention) -> Self {
        Self {
            store,
            shared,
            keep,
            pending: VecDeque::new(),
            batch: BATCH,
            due: None,
            retry: RETRY[0],
            waiting: Vec::new(),
            closing: Vec::new(),
            cutoff: None,
        }
    }

    /// Runs until the history is closed, or nobody has it any more.
    pub(super) async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Message>) {
        let mut retention = interval(self.keep.every.max(Duration::from_millis(10)));
        retention.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut messages = Vec::new();
        while self.closing.is_empty() {
            let due = self.due;
            tokio::select! {
                // All that is there, so that what has waited for a slow transaction goes into the next one.
                taken = queue.recv_many(&mut messages, BATCH) => {
                    if taken == 0 {
                        break;
                    }
                    messages.drain(..).for_each(|message| self.take(message));
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.write().await;
                }
                _ = retention.tick(), if self.cutoff.is_none() => self.look_for_old().await,
                () = std::future::ready(()), if self.cutoff.is_some() => self.delete_some().await,
            }
        }
        queue.close();
        while let Some(message) = queue.recv().await {
            self.take(message);
        }
        self.store_last().await;
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Entry(entry, recorded) => {
                self.pending.push_back(entry);
                self.due.get_or_insert(recorded + TOGETHER);
            }
            Message::Flush(answer) => {
                self.waiting.push(answer);
                self.due = Some(Instant::now());
            }
            Message::Close(answer) => self.closing.push(answer),
        }
    }

    async fn store_last(mut self) {
        self.write().await;
        for entry in self.pending.drain(..) {
            self.shared.lose(entry.weight());
        }
        self.store.close().await;
        let recorded = self.shared.error().map_or(Ok(()), Err);
        for answer in self.closing {
            // Whoever asked may have stopped waiting.
            let _ = answer.send(recorded.clone());
        }
    }

    /// Writes all that is pending, or as much as the database takes.
    async fn write(&mut self) {
        self.due = None;
        let mut recorded = Ok(());
        while recorded.is_ok() && !self.pending.is_empty() {
            let length = self.pending.len().min(self.batch);
            recorded = self
                .write_batch(length)
                .await
                .map_err(|error| error.to_string());
            self.batch = match recorded {
                Ok(()) => (2 * self.batch).min(BATCH),
                Err(_) => (length / 2).max(1),
            };
        }
        match &recorded {
            Ok(()) => {
                self.retry = RETRY[0];
                if self.shared.replace_error(None).is_some() {
                    tracing::info!(lost = self.shared.lost(), "the history is recorded again");
                }
            }
            Err(error) => {
                self.due = Some(Instant::now() + self.retry);
                self.retry = (2 * self.retry).min(RETRY[1]);
                if self.shared.replace_error(Some(error.clone())).is_none() {
                    tracing::warn!(error, "the history is not recorded");
                }
            }
        }
        for answer in self.waiting.drain(..) {
            let _ = answer.send(recorded.clone());
        }
    }

    /// Writes the first so many: all, or all but those that the database refuses.
    async fn write_batch(&mut self, length: usize) -> Result<(), sqlx::Error> {
        let batch = &self.pending.make_contiguous()[..length];
        match self.store.write(batch).await {
            Ok(()) => {
                for entry in self.pending.drain(..length) {
                    self.shared.release(entry.weight());
                }
                Ok(())
            }
            Err(error) if self.store.blames_an_entry(&error) => self.write_singly(length).await,
            Err(error) => Err(error),
        }
    }

    /// Writes entries one by one, so that one that the database does not want is the only one that is lost.
    async fn write_singly(&mut self, length: usize) -> Result<(), sqlx::Error> {
        for _ in 0..length {
            let Some(entry) = self.pending.front() else {
                break;
            };
            match self.store.write(std::slice::from_ref(entry)).await {
                Ok(()) => self.shared.release(entry.weight()),
                Err(error) if self.store.blames_an_entry(&error) => {
                    tracing::warn!(%error, "the database refuses an entry of the history");
                    self.shared.lose(entry.weight());
                }
                Err(error) => return Err(error),
            }
            self.pending.pop_front();
        }
        Ok(())
    }

    async fn look_for_old(&mut self) {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        match self.store.cutoff(&self.keep, now).await {
            Ok(cutoff) => self.cutoff = Some(cutoff),
            Err(error) => tracing::debug!(%error, "cannot look for what is old in the history"),
        }
    }

    async fn delete_some(&mut self) {
        let Some(cutoff) = self.cutoff else { return };
        match self.store.delete_some(cutoff, &self.keep).await {
            Ok(true) => {}
            Ok(false) => self.cutoff = None,
            Err(error) => {
                self.cutoff = None;
                tracing::warn!(%error, "cannot delete what is old in the history");
            }
        }
    }
}
