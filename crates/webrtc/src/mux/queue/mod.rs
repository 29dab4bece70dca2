//! What waits for a peer connection, and who waits for it.

mod readers;
mod storage;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
};

use perpacket_udp::prefetch;
use tokio::task::coop::poll_proceed;

use readers::{Readers, Ticket};
use storage::{Head, Storage};

pub(super) use storage::Queues;

/// How many checks that nobody vouches for may wait in one queue.
pub(super) const UNPROVED: u8 = 32;

/// How long most datagrams are at most, bytes.
const MTU: usize = 1500;

/// For an address that is not known yet.
pub(super) const UNSPECIFIED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Bytes of a task of tokio's with a reader of webrtc-ice in it that are looked at when it is woken and runs.
const TASK: usize = 256;

/// Datagrams that wait for one peer connection: copied in, copied out, bounded in bytes. While none waits it
/// has no storage; once there is as much as connections need, nothing is allocated.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Queue {
    ring: Mutex<Ring>,
    queues: Arc<Queues>,
    reader: Whereabouts,
    /// The same as in the ring, for those who send.
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Ring {
    storage: Option<Box<Storage>>,
    readers: Readers,
    unproved: u8,
    /// Whether somebody has ever read.
    read: bool,
    closed: bool,
}

/// Where in memory that lies which the last reader who began to wait will use once it is woken. It is of use to
/// the caches alone: by the time it is looked at, nothing need be there any more.
#[derive(Debug, Default)]
struct Whereabouts {
    handle: AtomicUsize,
    task: AtomicUsize,
    future: AtomicUsize,
    buffer: AtomicUsize,
    /// The buffer of who is woken after it.
    next_buffer: AtomicUsize,
}

/// Why a datagram was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Full,
    TooManyUnproved,
    Closed,
}

impl Ring {
    #[inline]
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
        if !queues.has_room(self.storage.as_deref(), datagram) {
            return Err(Refusal::Full);
        }
        self.unproved += u8::from(unproved);
        let head = Head {
            length: datagram.len(),
            source,
            unproved,
        };
        let storage = self.storage.get_or_insert_with(|| queues.take());
        queues.push(storage, datagram, head);
        Ok(())
    }

    /// Who is to be woken, if anything waits.
    #[inline]
    fn wake(&mut self) -> Option<Waker> {
        self.storage.as_ref()?;
        self.readers.wake()
    }

    // The address goes from memory to memory in one piece this way: where it is taken apart on the way, the processor
    // waits for the parts before it can read the whole.
    #[inline(never)]
    fn pop(
        &mut self,
        queues: &Queues,
        buffer: &mut [u8],
        source: &mut SocketAddr,
    ) -> Result<Option<Popped>, Closed> {
        if self.closed {
            return Err(Closed);
        }
        let Some(storage) = &mut self.storage else {
            return Ok(None);
        };
        let Some((popped, unproved)) = storage.pop(buffer, source) else {
            return Ok(None);
        };
        self.unproved -= u8::from(unproved);
        if storage.is_empty()
            && let Some(storage) = self.storage.take()
        {
            queues.give(storage);
        }
        Ok(Some(popped))
    }
}

/// What came out of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Popped {
    /// A datagram of that length.
    Datagram(usize),
    /// One longer than the buffer, which holds its start.
    Truncated,
}

impl Queue {
    pub(super) fn new(queues: Arc<Queues>) -> Self {
        Self {
            ring: Mutex::default(),
            reader: Whereabouts::default(),
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
        let mut ring = self.lock();
        ring.push(&self.queues, datagram, source, unproved)?;
        let waker = ring.wake();
        drop(ring);
        waker.into_iter().for_each(Waker::wake);
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
        let waker = ring.wake();
        drop(ring);
        waker.into_iter().for_each(Waker::wake);
        for (datagram, refusal) in refusals {
            refused(datagram, refusal);
        }
    }

    /// Waits for the next datagram.
    #[inline]
    pub(super) fn pop<'a>(&'a self, buffer: &'a mut [u8]) -> Pop<'a> {
        Pop {
            queue: self,
            buffer,
            ticket: None,
        }
    }

    #[cfg(test)]
    pub(super) fn try_pop(&self, buffer: &mut [u8]) -> Result<Option<Popped>, Closed> {
        self.lock().pop(&self.queues, buffer, &mut { UNSPECIFIED })
    }

    /// Forgets what waits, and ends every [`pop`](Self::pop).
    pub(super) fn close(&self) {
        let mut ring = self.lock();
        ring.closed = true;
        ring.unproved = 0;
        let wakers = ring.readers.wake_all();
        let storage = ring.storage.take();
        drop(ring);
        self.closed.store(true, Relaxed);
        if let Some(storage) = storage {
            self.queues.give(storage);
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    /// Whether there was a reader, and nobody waits any longer.
    pub(super) fn is_abandoned(&self) -> bool {
        let ring = self.lock();
        ring.read && ring.readers.is_empty()
    }

    /// Says through what the queue is read: its start is what a reader looks at.
    pub(super) fn is_read_through<T>(&self, handle: &T) {
        let handle = std::ptr::from_ref(handle).addr();
        self.reader.handle.store(handle, Relaxed);
    }

    /// Has that fetched which a reader needs to take so many bytes.
    #[inline]
    pub(super) fn prefetch_reader(&self, bytes: usize) {
        prefetch(self.reader.handle.load(Relaxed), 1);
        prefetch(self.reader.task.load(Relaxed), TASK);
        prefetch(self.reader.future.load(Relaxed), size_of::<Pop<'_>>());
        prefetch(self.reader.buffer.load(Relaxed), bytes);
    }

    /// Says whose reader is woken after the one of this queue.
    #[inline]
    pub(super) fn is_read_before(&self, next: &Self) {
        let buffer = next.reader.buffer.load(Relaxed);
        self.reader.next_buffer.store(buffer, Relaxed);
    }

    /// A reader who waited gives up. If it was woken for something, somebody else has to take that.
    #[cold]
    fn give_up(&self, ticket: Ticket) {
        let mut ring = self.lock();
        let own = ring.readers.leave(ticket);
        let waker = if own.is_none() { ring.wake() } else { None };
        drop(ring);
        waker.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who waits for a datagram. One is made for each, so it is no `async` block: what the compiler makes of that is
/// larger, and takes more steps.
#[derive(Debug)]
pub(super) struct Pop<'a> {
    queue: &'a Queue,
    pub(super) buffer: &'a mut [u8],
    /// Of one who has begun to wait.
    ticket: Option<Ticket>,
}

impl Pop<'_> {
    /// The next datagram, with where it came from, or `None` once the queue is closed. Loses none when it is dropped.
    #[inline]
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut SocketAddr,
    ) -> Poll<Option<Popped>> {
        // As with the sockets of tokio, who reads in a loop gives way to others now and then.
        let proceeds = ready!(poll_proceed(cx));
        let queue = self.queue;
        let mut ring = queue.lock();
        match ring.pop(&queue.queues, self.buffer, source) {
            Ok(None) => {
                // With the lock, so that what comes after the look wakes.
                let old = ring.readers.wait(&mut self.ticket, cx.waker());
                ring.read = true;
                drop(ring);
                drop(old);
                let Whereabouts {
                    task,
                    future,
                    buffer,
                    ..
                } = &queue.reader;
                task.store(cx.waker().data().addr(), Relaxed);
                future.store(std::ptr::from_ref(self).addr(), Relaxed);
                buffer.store(self.buffer.as_ptr().addr(), Relaxed);
                Poll::Pending
            }
            popped => {
                let waited = self.ticket.take();
                let own = waited.and_then(|ticket| ring.readers.leave(ticket));
                drop(ring);
                drop(own);
                if waited.is_some() {
                    // It was asked for when this reader was woken, but since then much has gone through the nearest cache.
                    let next = queue.reader.next_buffer.load(Relaxed);
                    prefetch(next, self.buffer.len().min(MTU));
                }
                proceeds.made_progress();
                Poll::Ready(popped.ok().flatten())
            }
        }
    }
}

impl Drop for Pop<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.queue.give_up(ticket);
        }
    }
}

#[derive(Debug)]
pub(super) struct Closed;

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Wake};

    use super::{
        storage::{OVERHEAD, SPARE},
        *,
    };

    /// As [`Pop`] does.
    async fn pop(queue: &Queue, buffer: &mut [u8]) -> Option<(Popped, SocketAddr)> {
        let (mut pop, mut from) = (queue.pop(buffer), UNSPECIFIED);
        let popped = poll_fn(|cx| pop.poll(cx, &mut from)).await?;
        Some((popped, from))
    }

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
                let got = pop(&queue, &mut buffer).await;
                assert_eq!(got, Some((Popped::Datagram(expected.len()), source(1))));
                assert_eq!(buffer[..expected.len()], expected);
                popped += 1;
            }
        }
        let ring = queue.lock();
        let storage = ring.storage.as_deref().expect("some wait");
        assert!(storage.bytes.capacity() <= 2 * 10_000);
        assert!(storage.heads.capacity() <= 2 * 10_000 / OVERHEAD);
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
        pop(&queue, &mut [0; 9]).await;
        assert_eq!(queue.push(b"x", source(1), true), Ok(()));
    }

    #[tokio::test]
    async fn a_small_buffer_is_told() {
        let queue = Queue::new(Queues::new(1000));
        queue.push(b"four", source(7), false).expect("room");
        queue.push(b"next", source(8), false).expect("room");
        let got = pop(&queue, &mut [0; 3]).await;
        assert_eq!(got, Some((Popped::Truncated, source(7))));
        let mut buffer = [0; 4];
        let got = pop(&queue, &mut buffer).await;
        assert_eq!(got, Some((Popped::Datagram(4), source(8))));
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
                            popped = pop(&queue, &mut buffer) => match popped {
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
        while queue.lock().storage.is_some() {
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

    /// How often each of two readers was woken that wait for the same queue, once `f` has had them.
    fn woken<'a>(
        queue: &'a Queue,
        buffers: &'a mut [[u8; 9]; 2],
        f: impl FnOnce([Pop<'a>; 2]),
    ) -> [usize; 2] {
        let wakers = [(); 2].map(|()| Arc::new(CountedWaker::default()));
        let mut pops = buffers.each_mut().map(|buffer| queue.pop(buffer));
        for (pop, waker) in pops.iter_mut().zip(&wakers) {
            let waker = Waker::from(Arc::clone(waker));
            let polled = pop.poll(&mut Context::from_waker(&waker), &mut { UNSPECIFIED });
            assert_eq!(polled, Poll::Pending);
        }
        f(pops);
        wakers.map(|waker| waker.0.load(Relaxed))
    }

    #[derive(Default)]
    struct CountedWaker(AtomicUsize);

    impl Wake for CountedWaker {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn who_was_woken_and_goes_lets_another_have_it() {
        let queue = Queue::new(Queues::new(1000));
        let mut cx = Context::from_waker(Waker::noop());
        let from = &mut { UNSPECIFIED };
        let times = woken(&queue, &mut Default::default(), |[first, mut second]| {
            assert!(!queue.is_abandoned());
            queue.push(b"one", source(1), false).expect("room");
            drop(first);
            let polled = second.poll(&mut cx, from);
            assert_eq!(polled, Poll::Ready(Some(Popped::Datagram(3))));
        });
        assert_eq!(times, [1, 1]);
        assert!(queue.is_abandoned());

        // Nobody else is woken for what somebody has taken, or for one who was not woken.
        let times = woken(&queue, &mut Default::default(), |[first, mut second]| {
            queue.push(b"one", source(1), false).expect("room");
            queue.try_pop(&mut [0; 9]).expect("open");
            drop(first);
            queue.push(b"two", source(1), false).expect("room");
            let polled = second.poll(&mut cx, from);
            assert_eq!(polled, Poll::Ready(Some(Popped::Datagram(3))));
        });
        assert_eq!(times, [1, 1]);
        let times = woken(&queue, &mut Default::default(), |[first, second]| {
            drop(first);
            queue.push(b"one", source(1), false).expect("room");
            drop(second);
        });
        assert_eq!(times, [0, 1]);
        queue.try_pop(&mut [0; 9]).expect("open");
    }

    #[test]
    fn each_datagram_wakes_another_and_the_end_all() {
        let queue = Queue::new(Queues::new(1000));
        let times = woken(&queue, &mut Default::default(), |pops| {
            for _ in 0..3 {
                queue.push(b"one", source(1), false).expect("room");
            }
            drop(pops);
        });
        assert_eq!(times, [1, 1]);
        while queue.try_pop(&mut [0; 9]).expect("open").is_some() {}
        let times = woken(&queue, &mut Default::default(), |mut pops| {
            queue.close();
            for pop in &mut pops {
                let polled = pop.poll(&mut Context::from_waker(Waker::noop()), &mut {
                    UNSPECIFIED
                });
                assert_eq!(polled, Poll::Ready(None));
            }
        });
        assert_eq!(times, [1, 1]);
    }

    /// As in a `select` that moves to another task.
    #[test]
    fn who_waits_is_woken_where_it_was_polled_last() {
        let queue = Queue::new(Queues::new(1000));
        let last = Arc::new(CountedWaker::default());
        let times = woken(&queue, &mut Default::default(), |[mut first, _second]| {
            let waker = Waker::from(Arc::clone(&last));
            let polled = first.poll(&mut Context::from_waker(&waker), &mut { UNSPECIFIED });
            assert_eq!(polled, Poll::Pending);
            queue.push(b"one", source(1), false).expect("room");
            let polled = first.poll(&mut Context::from_waker(&waker), &mut { UNSPECIFIED });
            assert_eq!(polled, Poll::Ready(Some(Popped::Datagram(3))));
        });
        assert_eq!((times, last.0.load(Relaxed)), ([0, 0], 1));
    }

    /// Those who wait for nothing have none, and what one gives back another takes.
    #[test]
    fn storage_goes_round() {
        let queues = Queues::new(1 << 21);
        let [one, other] = [(); 2].map(|()| Queue::new(Arc::clone(&queues)));
        let size = |queue: &Queue| queue.lock().storage.as_ref().map_or(0, |s| s.size());
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
        let kept: usize = spare.storages.iter().map(|storage| storage.size()).sum();
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
