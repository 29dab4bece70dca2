use std::{
    collections::VecDeque,
    mem,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::{sync::Notify, task::consume_budget};

/// What a datagram costs in a queue beyond its bytes, so that empty ones cannot fill the memory.
const OVERHEAD: usize = 64;

/// How many checks that nobody vouches for may wait in one queue.
pub(super) const UNPROVED: usize = 32;

/// How much storage that no queue uses is kept, bytes.
const SPARE: usize = 1 << 20;

/// What the queues of a mux have in common.
#[derive(Debug)]
pub(super) struct Queues {
    /// How many bytes may wait in each.
    limit: usize,
    spare: Mutex<Spare>,
}

/// Storage of queues in which nothing waits. What was given back last is taken first: it is what the
/// processor's caches still hold, however many peers there are.
#[derive(Debug, Default)]
struct Spare {
    storages: Vec<Storage>,
    size: usize,
}

impl Queues {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            spare: Mutex::default(),
        })
    }

    fn take(&self) -> Storage {
        let mut spare = self.spare();
        let storage = spare.storages.pop().unwrap_or_default();
        spare.size -= storage.size();
        storage
    }

    /// Takes back storage that is empty.
    fn give(&self, storage: Storage) {
        let mut spare = self.spare();
        let size = spare.size + storage.size();
        if size <= SPARE {
            spare.size = size;
            spare.storages.push(storage);
        }
    }

    fn spare(&self) -> MutexGuard<'_, Spare> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Datagrams that wait for one peer connection: copied in, copied out, bounded in bytes. While none waits it
/// has no storage; once there is as much as connections need, nothing is allocated.
#[derive(Debug)]
pub(super) struct Queue {
    ring: Mutex<Ring>,
    ready: Notify,
    queues: Arc<Queues>,
    /// The same as in the ring, for those who send.
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Ring {
    storage: Storage,
    unproved: usize,
    closed: bool,
}

#[derive(Debug, Default)]
struct Storage {
    heads: VecDeque<Head>,
    bytes: VecDeque<u8>,
}

impl Storage {
    /// Bytes of memory.
    fn size(&self) -> usize {
        self.bytes.capacity() + self.heads.capacity() * size_of::<Head>()
    }
}

#[derive(Debug)]
struct Head {
    length: usize,
    source: SocketAddr,
    unproved: bool,
}

/// Why a datagram was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Full,
    TooManyUnproved,
    Closed,
}

impl Ring {
    fn push(
        &mut self,
        queues: &Queues,
        datagram: &[u8],
        source: SocketAddr,
        unproved: bool,
    ) -> Result<(), Refusal> {
        if self.closed {
            return Err(Refusal::Closed);
        }
        if unproved && self.unproved == UNPROVED {
            return Err(Refusal::TooManyUnproved);
        }
        let Storage { heads, bytes } = &self.storage;
        let used = bytes.len() + heads.len() * OVERHEAD;
        if used + datagram.len() + OVERHEAD > queues.limit {
            return Err(Refusal::Full);
        }
        if heads.capacity() == 0 {
            self.storage = queues.take();
        }
        self.unproved += usize::from(unproved);
        self.storage.bytes.extend(datagram);
        self.storage.heads.push_back(Head {
            length: datagram.len(),
            source,
            unproved,
        });
        Ok(())
    }
}

/// What came out of a queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Popped {
    Datagram(usize, SocketAddr),
    /// Longer than the buffer, which holds its start.
    Truncated(SocketAddr),
}

impl Queue {
    pub(super) fn new(queues: Arc<Queues>) -> Self {
        Self {
            ring: Mutex::default(),
            ready: Notify::new(),
            queues,
            closed: AtomicBool::new(false),
        }
    }

    /// Adds a datagram; `unproved` is one whose sender nobody vouches for yet.
    pub(super) fn push(
        &self,
        datagram: &[u8],
        source: SocketAddr,
        unproved: bool,
    ) -> Result<(), Refusal> {
        self.lock().push(&self.queues, datagram, source, unproved)?;
        self.ready.notify_one();
        Ok(())
    }

    /// Adds a run of datagrams of one sender; shows those that are not taken, and why.
    pub(super) fn push_all<'a>(
        &self,
        datagrams: impl Iterator<Item = &'a [u8]>,
        source: SocketAddr,
        mut refused: impl FnMut(&'a [u8], Refusal),
    ) {
        let mut ring = self.lock();
        let mut refusals = Vec::new();
        for datagram in datagrams {
            if let Err(refusal) = ring.push(&self.queues, datagram, source, false) {
                refusals.push((datagram, refusal));
            }
        }
        drop(ring);
        self.ready.notify_one();
        for (datagram, refusal) in refusals {
            refused(datagram, refusal);
        }
    }

    /// The next datagram, or `None` once the queue is closed. Loses none when it is dropped.
    pub(super) async fn pop(&self, buffer: &mut [u8]) -> Option<Popped> {
        // Lets others of the thread run now and then.
        consume_budget().await;
        let mut popped = self.try_pop(buffer);
        while matches!(popped, Ok(None)) {
            // Before the look, so that what comes between the look and the wait wakes.
            let ready = self.ready.notified();
            popped = self.try_pop(buffer);
            if matches!(popped, Ok(None)) {
                ready.await;
                popped = self.try_pop(buffer);
            }
        }
        popped.ok().flatten()
    }

    pub(super) fn try_pop(&self, buffer: &mut [u8]) -> Result<Option<Popped>, Closed> {
        let mut ring = self.lock();
        if ring.closed {
            return Err(Closed);
        }
        let Storage { heads, bytes } = &mut ring.storage;
        let Some(head) = heads.pop_front() else {
            return Ok(None);
        };
        let copied = head.length.min(buffer.len());
        let (first, second) = bytes.as_slices();
        let split = copied.min(first.len());
        buffer[..split].copy_from_slice(&first[..split]);
        buffer[split..copied].copy_from_slice(&second[..copied - split]);
        bytes.drain(..head.length);
        if heads.is_empty() {
            // The next ones begin where the caches are warm.
            heads.clear();
            bytes.clear();
            self.queues.give(mem::take(&mut ring.storage));
        }
        ring.unproved -= usize::from(head.unproved);
        Ok(Some(if copied < head.length {
            Popped::Truncated(head.source)
        } else {
            Popped::Datagram(copied, head.source)
        }))
    }

    /// Forgets what waits, and ends every [`pop`](Self::pop).
    pub(super) fn close(&self) {
        *self.lock() = Ring {
            closed: true,
            ..Ring::default()
        };
        self.closed.store(true, Relaxed);
        self.ready.notify_waiters();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(super) struct Closed;

#[cfg(test)]
mod tests {
    use super::*;

    fn source(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    /// In order, unharmed, also where the ring wraps, and within its bound.
    #[tokio::test]
    async fn what_goes_in_comes_out() {
        let queue = Queue::new(Queues::new(10_000));
        let mut buffer = [0; 2048];
        let datagram = |n: usize| vec![u8::try_from(n % 251).expect("small"); n * 37 % 1500];
        let (mut pushed, mut popped) = (0, 0);
        while popped < 3000 {
            while queue.push(&datagram(pushed), source(1), false).is_ok() {
                pushed += 1;
            }
            assert!(pushed > popped, "nothing fits");
            while popped < pushed - pushed % 2 {
                let expected = datagram(popped);
                let got = queue.pop(&mut buffer).await;
                assert_eq!(got, Some(Popped::Datagram(expected.len(), source(1))));
                assert_eq!(buffer[..expected.len()], expected);
                popped += 1;
            }
        }
        let ring = queue.lock();
        assert!(ring.storage.bytes.capacity() <= 2 * 10_000);
        assert!(ring.storage.heads.capacity() <= 2 * 10_000 / OVERHEAD);
    }

    #[tokio::test]
    async fn empty_datagrams_are_bounded_too() {
        let queue = Queue::new(Queues::new(6400));
        let taken = (0..1000)
            .filter(|_| queue.push(&[], source(1), false).is_ok())
            .count();
        assert_eq!(taken, 100);
    }

    #[tokio::test]
    async fn those_nobody_vouches_for_leave_room() {
        let queue = Queue::new(Queues::new(1 << 20));
        for _ in 0..UNPROVED {
            assert_eq!(queue.push(b"x", source(1), true), Ok(()));
        }
        let refused = queue.push(b"x", source(1), true);
        assert_eq!(refused, Err(Refusal::TooManyUnproved));
        assert_eq!(queue.push(b"y", source(2), false), Ok(()));
        queue.pop(&mut [0; 9]).await;
        assert_eq!(queue.push(b"x", source(1), true), Ok(()));
    }

    #[tokio::test]
    async fn a_small_buffer_is_told() {
        let queue = Queue::new(Queues::new(1000));
        queue.push(b"four", source(7), false).expect("room");
        queue.push(b"next", source(8), false).expect("room");
        let got = queue.pop(&mut [0; 3]).await;
        assert_eq!(got, Some(Popped::Truncated(source(7))));
        let mut buffer = [0; 4];
        let got = queue.pop(&mut buffer).await;
        assert_eq!(got, Some(Popped::Datagram(4, source(8))));
        assert_eq!(&buffer, b"next");
    }

    /// Several readers, of which some give up while they wait: every datagram reaches one.
    #[tokio::test]
    async fn readers_that_give_up_lose_nothing() {
        let queue = Arc::new(Queue::new(Queues::new(1 << 20)));
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let queue = Arc::clone(&queue);
                tokio::spawn(async move {
                    let mut got = 0;
                    loop {
                        let mut buffer = [0; 64];
                        tokio::select! {
                            popped = queue.pop(&mut buffer) => match popped {
                                Some(_) => got += 1,
                                None => return got,
                            },
                            () = tokio::task::yield_now() => {}
                        }
                    }
                })
            })
            .collect();
        for n in 0..10_000 {
            queue.push(b"datagram", source(1), false).expect("room");
            if n % 8 == 0 {
                tokio::task::yield_now().await;
            }
        }
        while !queue.lock().storage.heads.is_empty() {
            tokio::task::yield_now().await;
        }
        queue.close();
        let mut total = 0;
        for reader in readers {
            total += reader.await.expect("no panic");
        }
        assert_eq!(total, 10_000);
        assert_eq!(queue.push(b"late", source(1), false), Err(Refusal::Closed));
    }

    /// Those who wait for nothing have none, and what one gives back another takes.
    #[test]
    fn storage_goes_round() {
        let queues = Queues::new(1 << 21);
        let [one, other] = [(); 2].map(|()| Queue::new(Arc::clone(&queues)));
        let size = |queue: &Queue| queue.lock().storage.size();
        for queue in [&one, &other] {
            queue.push(&[7; 1200], source(1), false).expect("room");
            assert!(size(queue) >= 1200 && queues.spare().storages.is_empty());
            queue.try_pop(&mut [0; 1500]).expect("open");
            assert_eq!((size(queue), queues.spare().storages.len()), (0, 1));
        }
        // No more than a bound is kept.
        for _ in 0..=SPARE / 1200 {
            one.push(&[7; 1200], source(1), false).expect("room");
        }
        while one.try_pop(&mut [0; 1500]).expect("open").is_some() {}
        assert_eq!(size(&one), 0);
        let spare = queues.spare();
        let kept: usize = spare.storages.iter().map(Storage::size).sum();
        assert!(kept == spare.size && kept <= SPARE);
    }

    #[test]
    fn in_the_steady_state_nothing_is_allocated() {
        let queue = Queue::new(Queues::new(1 << 16));
        let round = || {
            for _ in 0..20 {
                queue.push(&[7; 1200], source(1), false).expect("room");
            }
            for _ in 0..20 {
                assert!(matches!(queue.try_pop(&mut [0; 1500]), Ok(Some(_))));
            }
        };
        round();
        let allocations = allocation_counter::measure(round);
        assert_eq!(allocations.count_total, 0);
    }
}
