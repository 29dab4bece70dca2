use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::{ArcSwap, Guard};

use super::packed::Packed;
use crate::PacketClass;

/// What options of each class can be told from.
pub(crate) trait Packs {
    /// What is kept for those who send, beside one word a class.
    type Index: Default;

    /// The options of a class, as far as they fit into a word.
    fn pack(&self, class: PacketClass) -> Packed;

    /// Has the index of what was before become that of this.
    fn index(&self, before: &Self, index: &Self::Index);
}

/// Options that change while they are read: whole, and as one word a class for those who send. A change
/// happens at one moment.
#[derive(Debug, Default)]
pub(crate) struct Live<T: Packs> {
    whole: ArcSwap<T>,
    /// [`Packed`], by [`PacketClass::index`].
    words: [AtomicU64; PacketClass::COUNT],
    index: T::Index,
    /// How many changes began or ended.
    changes: AtomicU64,
    changing: Mutex<()>,
}

impl<T: Packs + Clone> Live<T> {
    /// The options of a class; where they have more than that, [`load`](Self::load) has it.
    #[inline]
    pub(super) fn resolve(&self, class: PacketClass) -> Packed {
        Packed::from_word(self.words[class.index()].load(Ordering::Acquire))
    }

    /// The same with what `more` finds in the index, if that is of the same moment.
    #[inline]
    pub(super) fn resolve_with(
        &self,
        class: PacketClass,
        more: impl FnOnce(Packed, &T::Index) -> Packed,
    ) -> Option<Packed> {
        let changes = self.changes.load(Ordering::Acquire);
        let packed = more(self.resolve(class), &self.index);
        // Whatever was loaded so far was loaded with `Acquire`: had it been written by a later change, this would
        // see that it began.
        (self.changes.load(Ordering::Relaxed) == changes && changes.is_multiple_of(2))
            .then_some(packed)
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

    /// Has everybody look at the whole while words and index are written one by one.
    fn swap(&self, next: &Arc<T>) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        for word in &self.words {
            word.fetch_or(Packed::NONE.and_more().word(), Ordering::Release);
        }
        let before = self.whole.swap(Arc::clone(next));
        next.index(&before, &self.index);
        for class in PacketClass::ALL {
            self.words[class.index()].store(next.pack(class).word(), Ordering::Release);
        }
        self.changes.fetch_add(1, Ordering::Release);
    }
}
