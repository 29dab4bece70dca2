use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::Popped;

/// What a datagram costs in a queue beyond its bytes, so that empty ones cannot fill the memory.
pub(super) const OVERHEAD: usize = 64;

/// How much storage that no queue uses is kept, bytes.
pub(super) const SPARE: usize = 1 << 20;

/// What the queues of a mux have in common.
#[derive(Debug)]
pub(in super::super) struct Queues {
    /// How many bytes may wait in each.
    limit: usize,
    spare: Mutex<Spare>,
}

/// Storage of queues in which nothing waits. What was given back last is taken first: it is what the
/// processor's caches still hold, however many peers there are.
#[derive(Debug, Default)]
pub(super) struct Spare {
    #[expect(clippy::vec_box, reason = "a queue has room for a pointer alone")]
    pub(super) storages: Vec<Box<Storage>>,
    pub(super) size: usize,
}

impl Queues {
    pub(in super::super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            spare: Mutex::default(),
        })
    }

    #[expect(
        clippy::unnecessary_box_returns,
        reason = "a queue has room for a pointer alone"
    )]
    pub(super) fn take(&self) -> Box<Storage> {
        let mut spare = self.spare();
        let storage = spare.storages.pop().unwrap_or_default();
        spare.size -= storage.size();
        storage
    }

    /// Takes back storage that is empty.
    pub(super) fn give(&self, mut storage: Box<Storage>) {
        storage.clear();
        let mut spare = self.spare();
        let size = spare.size + storage.size();
        if size <= SPARE {
            spare.size = size;
            spare.storages.push(storage);
        }
    }

    /// Whether a datagram may wait beside what waits already.
    #[inline]
    pub(super) fn has_room(&self, storage: Option<&Storage>, datagram: &[u8]) -> bool {
        storage.map_or(0, Storage::used) + datagram.len() + OVERHEAD <= self.limit
    }

    #[inline]
    pub(super) fn push(&self, storage: &mut Storage, datagram: &[u8], head: Head) {
        if storage.bytes.capacity() - storage.bytes.len() < datagram.len() {
            storage.make_room(datagram.len(), 2 * self.limit);
        }
        storage.bytes.extend_from_slice(datagram);
        storage.heads.push_back(head);
    }

    pub(super) fn spare(&self) -> MutexGuard<'_, Spare> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Datagrams that wait, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Storage {
    pub(super) heads: VecDeque<Head>,
    /// Of those that wait, behind as many as were read since it began anew.
    pub(super) bytes: Vec<u8>,
    read: usize,
}

#[derive(Debug)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) source: SocketAddr,
    pub(super) unproved: bool,
}

impl Storage {
    /// Bytes of memory.
    pub(super) fn size(&self) -> usize {
        self.bytes.capacity() + self.heads.capacity() * size_of::<Head>()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    fn used(&self) -> usize {
        self.bytes.len() - self.read + self.heads.len() * OVERHEAD
    }

    /// Copies the next datagram out, and where it came from. Shows as well whether nobody vouched for it.
    #[inline]
    pub(super) fn pop(
        &mut self,
        buffer: &mut [u8],
        from: &mut SocketAddr,
    ) -> Option<(Popped, bool)> {
        let Head {
            length,
            source,
            unproved,
        } = self.heads.front()?;
        let (length, unproved) = (*length, *unproved);
        *from = *source;
        self.heads.pop_front();
        let copied = length.min(buffer.len());
        buffer[..copied].copy_from_slice(&self.bytes[self.read..][..copied]);
        self.read += length;
        let popped = if copied < length {
            Popped::Truncated
        } else {
            Popped::Datagram(length)
        };
        Some((popped, unproved))
    }

    /// Where the next ones begin the caches are warm.
    fn clear(&mut self) {
        self.heads.clear();
        self.bytes.clear();
        self.read = 0;
    }

    /// Makes room for so many bytes more. `most` is twice what may wait, so what waits is moved no more often than
    /// as much was read.
    #[cold]
    fn make_room(&mut self, bytes: usize, most: usize) {
        if self.read >= self.bytes.len() - self.read {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
        let needed = self.bytes.len() + bytes;
        let capacity = self.bytes.capacity();
        if needed > capacity {
            let capacity = (2 * capacity).min(most).max(needed);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
    }
}
