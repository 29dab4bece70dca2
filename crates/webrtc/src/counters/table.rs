use std::{
    hash::BuildHasher,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use foldhash::fast::RandomState;
use perpacket_udp::prefetch;

use crate::policy::PeerKey;

/// A socket of ICE has few peers: those are looked through one by one.
const FEW: usize = 3;

/// Room for some more, and for as many as there may be.
const SOME: usize = 64;
const MANY: usize = 512;

/// How many slots are tried among some.
const TRIES: usize = 4;

/// Something for each peer, which stays for as long as the table: so it is found without a lock, and
/// without anything that has to be taken or given back.
///
/// The slots of a peer have an order, and it is put into the first that is empty; so what is behind an
/// empty slot need not be looked at.
#[derive(Debug)]
pub(super) struct Table<T> {
    /// Most have one: it takes no way from here.
    first: OnceLock<(PeerKey, T)>,
    few: [Slot<T>; FEW],
    some: OnceLock<Box<[Slot<T>]>>,
    many: OnceLock<Box<[Slot<T>]>>,
    len: AtomicUsize,
    hasher: RandomState,
}

type Slot<T> = OnceLock<Box<(PeerKey, T)>>;

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            first: OnceLock::new(),
            few: Default::default(),
            some: OnceLock::new(),
            many: OnceLock::new(),
            len: AtomicUsize::new(0),
            hasher: RandomState::default(),
        }
    }
}

impl<T> Table<T> {
    /// Asks for what is looked at first.
    #[inline]
    pub(super) fn prefetch(&self) {
        let first = &self.first;
        prefetch(std::ptr::from_ref(first).addr(), size_of_val(first));
    }

    #[inline]
    pub(super) fn get(&self, peer: &PeerKey) -> Option<&T> {
        let (of, value) = self.first.get()?;
        if of == peer {
            return Some(value);
        }
        for slot in &self.few {
            let (of, value) = &**slot.get()?;
            if of == peer {
                return Some(value);
            }
        }
        self.get_among_more(peer)
    }

    fn get_among_more(&self, peer: &PeerKey) -> Option<&T> {
        let hash = self.hash(peer);
        for (slots, tries) in [(&self.some, TRIES), (&self.many, MANY)] {
            for slot in from(slots.get()?, hash).take(tries) {
                let (of, value) = &**slot.get()?;
                if of == peer {
                    return Some(value);
                }
            }
        }
        None
    }
}

impl<T: Default> Table<T> {
    /// What there is for a peer; `None` if there is nothing, and nothing to be made because there are
    /// `most` already. Threads that make some at the same time can each make one more.
    pub(super) fn get_or_make(&self, peer: PeerKey, most: usize) -> Option<&T> {
        if let Some(value) = self.get(&peer) {
            return Some(value);
        }
        if self.len.load(Relaxed) >= most {
            return None;
        }
        let (of, value) = self.first.get_or_init(|| self.begin(peer));
        if *of == peer {
            return Some(value);
        }
        for slot in &self.few {
            if let Some(value) = self.take(slot, peer) {
                return Some(value);
            }
        }
        let hash = self.hash(&peer);
        for (slots, size, tries) in [(&self.some, SOME, TRIES), (&self.many, MANY, MANY)] {
            let slots = slots.get_or_init(|| empty(size));
            for slot in from(slots, hash).take(tries) {
                if let Some(value) = self.take(slot, peer) {
                    return Some(value);
                }
            }
        }
        None
    }

    /// Takes the slot for a peer, if it is empty or the peer's.
    fn take<'a>(&self, slot: &'a Slot<T>, peer: PeerKey) -> Option<&'a T> {
        let (of, value) = &**slot.get_or_init(|| Box::new(self.begin(peer)));
        (*of == peer).then_some(value)
    }

    fn begin(&self, peer: PeerKey) -> (PeerKey, T) {
        self.len.fetch_add(1, Relaxed);
        (peer, T::default())
    }
}

impl<T> Table<T> {
    /// In no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (PeerKey, &T)> {
        let more = [&self.some, &self.many].into_iter();
        let more = more.filter_map(OnceLock::get).flatten();
        let more = self.few.iter().chain(more).filter_map(OnceLock::get);
        let all = self
            .first
            .get()
            .into_iter()
            .chain(more.map(|entry| &**entry));
        all.map(|(peer, value)| (*peer, value))
    }

    fn hash(&self, peer: &PeerKey) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "where half of it is kept, it is a hash too"
        )]
        let hash = self.hasher.hash_one(peer) as usize;
        hash
    }
}

fn empty<T>(slots: usize) -> Box<[Slot<T>]> {
    (0..slots).map(|_| OnceLock::new()).collect()
}

/// Every slot once. Their number is a power of two.
fn from<T>(slots: &[Slot<T>], hash: usize) -> impl Iterator<Item = &Slot<T>> {
    (0..slots.len()).map(move |n| &slots[hash.wrapping_add(n) & (slots.len() - 1)])
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn peer(n: u32) -> PeerKey {
        SocketAddr::from((n.to_be_bytes(), 5000)).into()
    }

    #[test]
    fn each_has_its_own() {
        let table = Table::<AtomicUsize>::default();
        for most in [0, 1, 4, 5, 40, 256] {
            for n in 0..1000 {
                if let Some(value) = table.get_or_make(peer(n), most) {
                    value.fetch_add(1, Relaxed);
                }
            }
            assert_eq!(table.iter().count(), most);
        }
        for n in 0..1000 {
            let value = table.get(&peer(n)).map(|value| value.load(Relaxed));
            let rounds = match n {
                0 => Some(5),
                1..4 => Some(4),
                4 => Some(3),
                5..40 => Some(2),
                40..256 => Some(1),
                _ => None,
            };
            assert_eq!(value, rounds, "{n}");
        }
    }

    #[test]
    fn threads_do_not_make_it_twice() {
        let table = Table::<AtomicUsize>::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..200 {
                        let value = table.get_or_make(peer(n), 200);
                        value.expect("room").fetch_add(1, Relaxed);
                    }
                });
            }
        });
        let mut counts = table.iter().map(|(_, value)| value.load(Relaxed));
        assert!(counts.all(|count| count == 4));
        assert_eq!(table.iter().count(), 200);
    }
}
