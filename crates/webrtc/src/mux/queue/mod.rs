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
mod tests;
