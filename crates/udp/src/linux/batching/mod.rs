//! What is sent through a socket that gathers: where it waits, and the plan by which it goes out.

mod destination;
mod plan;

use std::{
    fmt,
    future::{Future, poll_fn},
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, task::yield_now};

pub(super) use plan::{Apart, Out, Run};

use crate::{BatchCounters, Batching, PackedOptions, batching::OnDropped, transmit::Datagram};

/// How much of the storage stays while nothing waits, bytes of datagrams and number of them: a fan-out of 1,200 B to 64
/// peers takes 80 KiB in each turn, and would else have it from the allocator each time.
const KEPT: (usize, usize) = (128 << 10, 512);

/// How long a sender may go on, and gather, until what it has sent goes out beside it: much less than the jitter that
/// networks have.
const LONG: Duration = Duration::from_millis(1);

/// At how many datagrams the clock is looked at once.
const LOOK: usize = 16;

pub(super) struct Batcher {
    limit: usize,
    queue: Mutex<Queue>,
    /// What is being sent. Locked before the queue by whoever needs both.
    pub(super) out: Mutex<Out>,
    /// What waited is on its way.
    pub(super) room: Notify,
    pub(super) counts: Counts,
    pub(super) no_runs: AtomicBool,
    /// The socket has been dropped.
    pub(super) ended: Notify,
    on_dropped: OnceLock<OnDropped>,
}

impl fmt::Debug for Batcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) sent: AtomicU64,
    pub(super) calls: AtomicU64,
    pub(super) in_runs: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) dropped_bytes: AtomicU64,
}

/// Datagrams, one after the other.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    pub(super) bytes: Vec<u8>,
    pub(super) entries: Vec<Entry>,
}

#[derive(Debug)]
pub(super) struct Entry {
    start: usize,
    pub(super) length: usize,
    pub(super) destination: SocketAddr,
    pub(super) options: PackedOptions,
    pub(super) source: Option<IpAddr>,
}

impl Entry {
    /// Whether both ask for the same of their headers.
    #[inline]
    pub(super) fn has_header_of(&self, other: &Self) -> bool {
        self.options == other.options && self.source == other.source
    }
}

impl Datagrams {
    fn used(&self) -> usize {
        self.bytes.len() + self.entries.len() * Batching::OVERHEAD
    }

    fn push(&mut self, datagram: &Datagram<'_>) {
        self.entries.push(Entry {
            start: self.bytes.len(),
            length: datagram.contents.len(),
            destination: *datagram.destination,
            options: datagram.options,
            source: datagram.source.copied(),
        });
        self.bytes.extend_from_slice(datagram.contents);
    }

    pub(super) fn contents(&self, number: usize) -> &[u8] {
        let Entry { start, length, .. } = self.entries[number];
        &self.bytes[start..start + length]
    }

    pub(super) fn get(&self, number: usize) -> Datagram<'_> {
        let entry = &self.entries[number];
        Datagram {
            source: entry.source.as_ref(),
            ..Datagram::new(self.contents(number), &entry.destination, entry.options)
        }
    }

    /// The contents of these datagrams; of those that lie one behind the other in one piece.
    pub(super) fn pieces<'a>(&'a self, numbers: &[usize], pieces: &mut Vec<IoSlice<'a>>) {
        let mut numbers = numbers.iter().map(|number| &self.entries[*number]);
        let Some(first) = numbers.next() else { return };
        let (mut start, mut end) = (first.start, first.start + first.length);
        for entry in numbers {
            if entry.start != end {
                pieces.push(IoSlice::new(&self.bytes[start..end]));
                start = entry.start;
            }
            end = entry.start + entry.length;
        }
        pieces.push(IoSlice::new(&self.bytes[start..end]));
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.bytes.shrink_to(KEPT.0);
        self.entries.shrink_to(KEPT.1);
    }
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Datagrams,
    /// Bytes that have been taken from here, and are not sent yet.
    under_way: usize,
    /// Something is being sent, or waits for it.
    active: bool,
    /// When that began, unless the task that sends was already told to hurry.
    since: Option<Instant>,
    /// The task that sends.
    sender: Option<Waker>,
    ended: bool,
}

impl Queue {
    /// Has what waits go out beside who sends, if that goes on for long.
    fn hurry(&mut self) {
        if self.since.is_some_and(|since| since.elapsed() > LONG) {
            self.since = None;
            if let Some(sender) = &self.sender {
                sender.wake_by_ref();
            }
        }
    }
}

/// What becomes of a datagram that somebody sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Nothing else is on its way: it can go out at once, and whoever sends it wakes the task that sends what comes
    /// meanwhile.
    AtOnce,
    Queued,
    /// There is no room.
    Full,
}

impl Batcher {
    pub(super) fn new(batching: Batching) -> Self {
        Self {
            limit: batching.max_bytes,
            queue: Mutex::default(),
            out: Mutex::default(),
            room: Notify::new(),
            counts: Counts::default(),
            no_runs: AtomicBool::new(false),
            ended: Notify::new(),
            on_dropped: OnceLock::new(),
        }
    }

    #[inline]
    pub(super) fn admit(&self, datagram: &Datagram<'_>) -> Admission {
        let mut queue = self.queue();
        if !queue.active {
            queue.active = true;
            queue.since = Some(Instant::now());
            return Admission::AtOnce;
        }
        if queue.waiting.entries.len().is_multiple_of(LOOK) {
            queue.hurry();
        }
        let used = queue.under_way + queue.waiting.used();
        if used > 0 && used + datagram.contents.len() + Batching::OVERHEAD > self.limit {
            return Admission::Full;
        }
        queue.waiting.push(datagram);
        Admission::Queued
    }

    /// Queues one that was to go out at once, whether or not there is room.
    #[cold]
    pub(super) fn push(&self, datagram: &Datagram<'_>) {
        self.queue().waiting.push(datagram);
    }

    /// Has the task that sends go on once the runtime has run all that is ready on this thread, and so whatever sends
    /// more. Were it woken at once, an idle worker thread would take it, and send each datagram by itself.
    pub(super) fn wake_later(&self) {
        let sender = self.queue().sender.clone();
        if let Some(sender) = sender {
            let later = pin!(yield_now());
            // The first poll hands the waker to the runtime, and that is all of it that is wanted.
            let _ = later.poll(&mut Context::from_waker(&sender));
        }
    }

    /// Waits until there is something to send; `false` once the socket has ended.
    pub(super) async fn something(&self) -> bool {
        poll_fn(|context| {
            let mut queue = self.queue();
            if queue.ended || queue.active {
                return Poll::Ready(!queue.ended);
            }
            match &mut queue.sender {
                Some(sender) => sender.clone_from(context.waker()),
                None => queue.sender = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await
    }

    /// Ends the task that sends.
    pub(super) fn end(&self) {
        let mut queue = self.queue();
        queue.ended = true;
        if let Some(sender) = queue.sender.take() {
            sender.wake();
        }
        drop(queue);
        self.ended.notify_one();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.queue().ended
    }

    /// Takes what waits into `datagrams`, which are done with. Whether there was anything: if not, what is sent next
    /// goes out at once.
    pub(super) fn take(&self, datagrams: &mut Datagrams) -> bool {
        datagrams.clear();
        let mut queue = self.queue();
        std::mem::swap(&mut queue.waiting, datagrams);
        let before = queue.under_way;
        queue.under_way = datagrams.used();
        queue.active = !datagrams.entries.is_empty();
        queue.since = queue.active.then(Instant::now);
        let active = queue.active;
        drop(queue);
        if before > 0 || active {
            self.room.notify_waiters();
        }
        active
    }

    /// A datagram cannot go out.
    #[cold]
    pub(super) fn dropped(&self, datagram: &Datagram<'_>, error: &io::Error) {
        tracing::debug!(%error, destination = %datagram.destination, "queued datagram dropped");
        self.counts.dropped.fetch_add(1, Relaxed);
        let bytes = datagram.contents.len() as u64;
        self.counts.dropped_bytes.fetch_add(bytes, Relaxed);
        if let Some(on_dropped) = self.on_dropped.get() {
            on_dropped(&datagram.transmit(), error);
        }
    }

    pub(super) fn on_dropped(&self, f: OnDropped) -> bool {
        self.on_dropped.set(f).is_ok()
    }

    pub(super) fn counters(&self) -> BatchCounters {
        let counts = &self.counts;
        BatchCounters {
            sent: counts.sent.load(Relaxed),
            calls: counts.calls.load(Relaxed),
            in_runs: counts.in_runs.load(Relaxed),
            dropped: counts.dropped.load(Relaxed),
            dropped_bytes: counts.dropped_bytes.load(Relaxed),
            runs_refused: self.no_runs.load(Relaxed),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
