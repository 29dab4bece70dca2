use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::{ArcSwap, Guard};

use super::packed::Packed;
use crate::PacketClass;

/// What options of each class can be told from.
pub(crate) trait Packs {
    /// The options of a class, as far as they fit into a word.
    fn pack(&self, class: PacketClass) -> Packed;
}

/// Options that change while they are read: whole, and as one word a class for those who send. A change
/// happens at one moment.
#[derive(Debug, Default)]
pub(crate) struct Live<T> {
    whole: ArcSwap<T>,
    /// [`Packed`], by [`PacketClass::index`].
    words: [AtomicU64; PacketClass::COUNT],
    changing: Mutex<()>,
}

impl<T: Packs + Clone> Live<T> {
    /// The options of a class; where they have more than that, [`load`](Self::load) has it.
    #[inline]
    pub(super) fn resolve(&self, class: PacketClass) -> Packed {
        Packed::from_word(self.words[class.index()].load(Ordering::Acquire))
    }

    #[inline]
    pub(crate) fn load(&self) -> Guard<Arc<T>> {
        self.whole.load()
    }

    pub(super) fn load_full(&self) -> Arc<T> {
        self.whole.load_full()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut T)) {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = T::clone(&self.whole.load());
        change(&mut next);
        self.swap(&next.into());
    }

    pub(super) fn replace(&self, next: &Arc<T>) {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.swap(next);
    }

    /// Has everybody look at the whole while the words are written one by one.
    fn swap(&self, next: &Arc<T>) {
        for word in &self.words {
            word.fetch_or(Packed::NONE.and_more().word(), Ordering::Release);
        }
        self.whole.store(Arc::clone(next));
        for class in PacketClass::ALL {
            self.words[class.index()].store(next.pack(class).word(), Ordering::Release);
        }
    }
}
