use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::{sync::Notify, task::consume_budget};

/// What a datagram costs in a queue beyond its bytes, so that empty ones cannot fill the memory.
const OVERHEAD: usize = 64;

/// How many checks that nobody vouches for may wait in one queue.
pub(super) const UNPROVED: usize = 32;

/// Datagrams that wait for one peer connection: copied in, copied out, bounded in bytes. Once it has
/// grown to what the connection needs, nothing is allocated.
#[derive(Debug)]
pub(super) struct Queue {
    ring: Mutex<Ring>,
    ready: Notify,
    limit: usize,
    /// The same as in the ring, for those who send.
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Ring {
    heads: VecDeque<Head>,
    bytes: VecDeque<u8>,
    unproved: usize,
    closed: bool,
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
        limit: usize,
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
        let used = self.bytes.len() + self.heads.len() * OVERHEAD;
        if used + datagram.len() + OVERHEAD > limit {
            return Err(Refusal::Full);
        }
        self.unproved += usize::from(unproved);
        self.bytes.extend(datagram);
        self.heads.push_back(Head {
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
    pub(super) fn new(limit: usize) -> Self {
        Self {
            ring: Mutex::default(),
            ready: Notify::new(),
            limit,
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
        self.lock().push(self.limit, datagram, source, unproved)?;
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
            if let Err(refusal) = ring.push(self.limit, datagram, source, false) {
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
        let Some(head) = ring.heads.pop_front() else {
            return Ok(None);
        };
        ring.unproved -= usize::from(head.unproved);
        let copied = head.length.min(buffer.len());
        let (first, second) = ring.bytes.as_slices();
        let split = copied.min(first.len());
        buffer[..split].copy_from_slice(&first[..split]);
        buffer[split..copied].copy_from_slice(&second[..copied - split]);
        ring.bytes.drain(..head.length);
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
    use std::sync::Arc;

    use super::*;

    fn source(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    /// In order, unharmed, also where the ring wraps, and within its bound.
    #[tokio::test]
    async fn what_goes_in_comes_out() {
        let queue = Queue::new(10_000);
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
        assert!(ring.bytes.capacity() <= 2 * 10_000);
        assert!(ring.heads.capacity() <= 2 * 10_000 / OVERHEAD);
    }

    #[tokio::test]
    async fn empty_datagrams_are_bounded_too() {
        let queue = Queue::new(6400);
        let taken = (0..1000)
            .filter(|_| queue.push(&[], source(1), false).is_ok())
            .count();
        assert_eq!(taken, 100);
    }

    #[tokio::test]
    async fn those_nobody_vouches_for_leave_room() {
        let queue = Queue::new(1 << 20);
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
        let queue = Queue::new(1000);
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
        let queue = Arc::new(Queue::new(1 << 20));
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
        while !queue.lock().heads.is_empty() {
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

    #[test]
    fn in_the_steady_state_nothing_is_allocated() {
        let queue = Queue::new(1 << 16);
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
