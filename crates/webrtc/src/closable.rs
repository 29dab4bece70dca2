use std::{
    cell::Cell,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// How many threads do not get in each other's way.
const SHARDS: usize = 4;

/// What threads use at the same time, until one of them closes it.
///
/// Each thread takes a lock that it shares with few others, so that a lock which nobody waits for is all it costs.
/// Who closes it waits for those who are just using it: they must not wait for anything, nor call what is not ours.
#[derive(Debug)]
pub(crate) struct Closable<T> {
    shards: [Shard<T>; SHARDS],
}

/// On a cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Shard<T>(RwLock<Option<Arc<T>>>);

impl<T> From<Arc<T>> for Closable<T> {
    fn from(value: Arc<T>) -> Self {
        Self {
            shards: [(); SHARDS].map(|()| Shard(RwLock::new(Some(Arc::clone(&value))))),
        }
    }
}

impl<T> Closable<T> {
    /// It, until the guard is dropped; `None` once it is closed.
    #[inline]
    pub(crate) fn get(&self) -> RwLockReadGuard<'_, Option<Arc<T>>> {
        let Shard(shard) = &self.shards[own_shard()];
        shard.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// It, for as long as the caller likes.
    pub(crate) fn cloned(&self) -> Option<Arc<T>> {
        self.get().clone()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.get().is_some()
    }

    /// Nobody gets it from now on.
    pub(crate) fn close(&self) {
        for Shard(shard) in &self.shards {
            let taken = shard.write().unwrap_or_else(PoisonError::into_inner).take();
            // Not under the lock: it may be the last one.
            drop(taken);
        }
    }
}

/// Which one this thread takes.
#[inline]
fn own_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static OWN: Cell<usize> = const { Cell::new(usize::MAX) });
    OWN.with(|own| {
        if own.get() == usize::MAX {
            own.set(NEXT.fetch_add(1, Relaxed) % SHARDS);
        }
        own.get() % SHARDS
    })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn once_closed_nobody_has_it() {
        let value = Arc::new(7);
        let closable = Closable::from(Arc::clone(&value));
        let (used, closed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..2 * SHARDS {
                scope.spawn(|| {
                    while let Some(value) = &*closable.get() {
                        assert_eq!((**value, closed.load(Relaxed)), (7, 0));
                        used.fetch_add(1, Relaxed);
                    }
                });
            }
            while used.load(Relaxed) < 1000 {
                thread::yield_now();
            }
            closable.close();
            // Whoever still gets it fails from here on.
            closed.store(1, Relaxed);
        });
        assert_eq!(Arc::strong_count(&value), 1);
        assert!(!closable.is_open() && closable.cloned().is_none());
    }
}
