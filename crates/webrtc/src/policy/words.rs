use std::{
    hash::{BuildHasher, Hash, Hasher},
    sync::{
        OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use foldhash::fast::RandomState;

use super::{packed::Packed, peer::PeerKey};

/// One word for each of very many keys, found without a lock, nearly always with one cache miss, and
/// without anything that has to be taken or given back. Who changes it holds a lock.
///
/// It is a table with linear probing of which no more than four fifths are used: one half as large is in
/// the caches twice as often, which is worth more than short probes. A key keeps its place, with an empty
/// word once it is removed, until there are no more places; then another table takes over those that are
/// not empty. Tables are kept to be used again, so whoever looks for something sees after that
/// whether the table was still the one to look in.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// Two of each size, made when they are wanted.
    tables: OnceLock<Box<[OnceLock<Table>; 2 * SIZES]>>,
    /// The index of the one in use; above [`INDEX_BITS`] how often it was another.
    current: AtomicUsize,
    hasher: RandomState,
}

#[derive(Debug)]
struct Table {
    places: Box<[Place]>,
    /// Of interest to who holds the lock.
    used: AtomicUsize,
}

/// Half a cache line, so that it never lies in two.
#[derive(Debug, Default)]
#[repr(align(32))]
struct Place {
    /// [`Key::tag`]; zero while it belongs to none. It is written last.
    tag: AtomicU64,
    parts: [AtomicU64; 2],
    /// [`Packed`].
    word: AtomicU64,
}

/// Places of the smallest table; the others have twice as many as the one before. Two of few keys hardly ever want the
/// same place then, for 4 KiB: with a quarter of that, 16 of them took up to 50 instructions more each, as chance had it.
const FEWEST: usize = 128;

/// More than fit into memory.
const SIZES: usize = 32;

const INDEX_BITS: u32 = 6;
const INDEX: usize = 2 * SIZES - 1;

/// What words are found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) parts: [u64; 2],
    pub(super) number: u16,
}

impl Hash for Key {
    /// An array would be hashed as bytes, and with its length.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [upper, lower] = self.parts;
        state.write_u64(upper);
        state.write_u64(lower);
        state.write_u16(self.number);
    }
}

impl Key {
    /// Its number, and that there is one: 0 is one, too.
    #[inline]
    fn tag(&self) -> u64 {
        1 << 16 | u64::from(self.number)
    }
}

impl From<PeerKey> for Key {
    #[inline]
    fn from(PeerKey { ip, port }: PeerKey) -> Self {
        Self {
            parts: ip,
            number: port,
        }
    }
}

impl From<Key> for PeerKey {
    fn from(Key { parts, number }: Key) -> Self {
        Self {
            ip: parts,
            port: number,
        }
    }
}

impl Words {
    /// Whether nothing was ever set.
    #[inline]
    pub(super) fn is_unused(&self) -> bool {
        self.tables.get().is_none()
    }

    #[inline]
    pub(super) fn get(&self, key: &Key) -> Packed {
        let Some(tables) = self.tables.get() else {
            return Packed::NONE;
        };
        let hash = self.hash(key);
        loop {
            let current = self.current.load(Ordering::Acquire);
            let table = tables[current & INDEX].get();
            let place = table.and_then(|table| table.find(hash, key));
            let word = place.map_or(Packed::NONE, Place::word);
            // All loads before this one are `Acquire`: had one of them seen what was written once
            // another table was in use, this would see that it was.
            if self.current.load(Ordering::Relaxed) == current {
                return word;
            }
        }
    }

    /// Not to be called by two threads at the same time.
    pub(super) fn set(&self, key: &Key, word: Packed) {
        let (hash, current) = (self.hash(key), self.current.load(Ordering::Relaxed));
        let table = self.table(current);
        if let Some(place) = table.and_then(|table| table.find(hash, key)) {
            place.word.store(word.word(), Ordering::Release);
        } else if word != Packed::NONE {
            match table.filter(|table| table.has_room()) {
                Some(table) => table.put(hash, key, word),
                None => self.move_on(current, (key, word)),
            }
        }
    }

    /// All that are not empty, in no order. Not to be called while another thread changes any.
    pub(super) fn all(&self) -> Vec<(Key, Packed)> {
        let table = self.table(self.current.load(Ordering::Relaxed));
        table.into_iter().flat_map(Table::all).collect()
    }

    /// Has another table take over, with one more key, and at least as much room again.
    fn move_on(&self, current: usize, (key, word): (&Key, Packed)) {
        let mut all = self.all();
        all.push((*key, word));
        let places = (all.len() * 2).next_power_of_two().max(FEWEST);
        let (index, count) = (current & INDEX, current >> INDEX_BITS);
        let mut next = 2 * (places / FEWEST).ilog2() as usize;
        if next == index {
            next += 1;
        }
        let tables = self
            .tables
            .get_or_init(|| Box::new([const { OnceLock::new() }; 2 * SIZES]));
        let table = tables[next].get_or_init(|| Table::new(places));
        table.clear();
        for (key, word) in all {
            table.put(self.hash(&key), &key, word);
        }
        let current = count.wrapping_add(1) << INDEX_BITS | next;
        self.current.store(current, Ordering::Release);
    }

    #[inline]
    fn table(&self, current: usize) -> Option<&Table> {
        self.tables.get()?[current & INDEX].get()
    }

    #[inline]
    fn hash(&self, key: &Key) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "where half of it is kept, it is a hash too"
        )]
        let hash = self.hasher.hash_one(key) as usize;
        hash
    }
}

impl Table {
    fn new(places: usize) -> Self {
        Self {
            places: (0..places).map(|_| Place::default()).collect(),
            used: AtomicUsize::new(0),
        }
    }

    /// All places, in the order in which those of a hash are tried. Their number is a power of two.
    #[inline]
    fn from(&self, hash: usize) -> impl Iterator<Item = &Place> {
        let mask = self.places.len() - 1;
        (0..self.places.len()).map(move |n| &self.places[hash.wrapping_add(n) & mask])
    }

    #[inline]
    fn find(&self, hash: usize, key: &Key) -> Option<&Place> {
        let tag = key.tag();
        for place in self.from(hash) {
            match place.tag.load(Ordering::Acquire) {
                0 => return None,
                found if found == tag && place.parts() == key.parts => return Some(place),
                _ => {}
            }
        }
        None
    }

    fn has_room(&self) -> bool {
        self.used.load(Ordering::Relaxed) < self.places.len() / 5 * 4
    }

    /// Puts a key that is not there into the first free place.
    fn put(&self, hash: usize, key: &Key, word: Packed) {
        let mut places = self.from(hash);
        if let Some(place) = places.find(|place| place.tag.load(Ordering::Relaxed) == 0) {
            for (part, value) in place.parts.iter().zip(key.parts) {
                part.store(value, Ordering::Release);
            }
            place.word.store(word.word(), Ordering::Release);
            place.tag.store(key.tag(), Ordering::Release);
            self.used.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn clear(&self) {
        for place in &self.places {
            place.tag.store(0, Ordering::Release);
        }
        self.used.store(0, Ordering::Relaxed);
    }

    fn all(&self) -> impl Iterator<Item = (Key, Packed)> {
        self.places.iter().filter_map(|place| {
            let [low, high, used, ..] = place.tag.load(Ordering::Acquire).to_le_bytes();
            let number = u16::from_le_bytes([low, high]);
            let parts = place.parts();
            let word = place.word();
            (used != 0 && word != Packed::NONE).then_some((Key { parts, number }, word))
        })
    }
}

impl Place {
    #[inline]
    fn parts(&self) -> [u64; 2] {
        self.parts
            .each_ref()
            .map(|part| part.load(Ordering::Acquire))
    }

    #[inline]
    fn word(&self) -> Packed {
        Packed::from_word(self.word.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, net::SocketAddr, sync::atomic::AtomicBool, thread};

    use proptest::prelude::*;

    use super::*;

    fn peer(number: u32) -> Key {
        PeerKey::from(SocketAddr::from((number.to_be_bytes(), 0))).into()
    }

    proptest! {
        #[test]
        fn it_is_a_map(changes in proptest::collection::vec((0..40u32, 0..3u64), 0..400)) {
            let (words, mut map) = (Words::default(), HashMap::new());
            for (number, word) in changes {
                words.set(&peer(number), Packed::from_word(word));
                map.insert(peer(number), Packed::from_word(word));
                for number in 0..40 {
                    let expected = map.get(&peer(number)).copied().unwrap_or_default();
                    prop_assert_eq!(words.get(&peer(number)), expected);
                }
            }
            map.retain(|_, word| *word != Packed::NONE);
            prop_assert_eq!(words.all().into_iter().collect::<HashMap<_, _>>(), map);
        }
    }

    /// Peers come and go for as long as a server runs, from ever other addresses.
    #[test]
    fn those_who_went_leave_their_room() {
        let words = Words::default();
        for number in 0..100_000 {
            words.set(&peer(number), Packed::from_word(1));
            if let Some(gone) = number.checked_sub(100) {
                words.set(&peer(gone), Packed::NONE);
            }
        }
        assert_eq!(words.all().len(), 100);
        let tables = words.tables.get().expect("some").iter();
        let places = tables
            .filter_map(OnceLock::get)
            .map(|table| table.places.len());
        assert!(places.sum::<usize>() <= 1024);
    }

    /// Tables of one size take turns, and are cleared before their turn, while somebody may still look.
    #[test]
    fn what_stays_is_found_while_others_come_and_go() {
        let words = Words::default();
        let stays = |number: u32| Packed::from_word(u64::from(number) + 7);
        for number in 0..4 {
            words.set(&peer(number), stays(number));
        }
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 4..200_000 {
                    words.set(&peer(number), Packed::from_word(1));
                    words.set(&peer(number), Packed::NONE);
                }
                done.store(true, Ordering::Release);
            });
            for _ in 0..3 {
                scope.spawn(|| {
                    while !done.load(Ordering::Acquire) {
                        for number in 0..4 {
                            assert_eq!(words.get(&peer(number)), stays(number));
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn what_is_there_is_found_while_it_grows() {
        let words = Words::default();
        let word = |number: u32| Packed::from_word(u64::from(number) + 1);
        words.set(&peer(0), word(0));
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1..20_000 {
                    words.set(&peer(number), word(number));
                }
                done.store(true, Ordering::Release);
            });
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut known = 0;
                    while !done.load(Ordering::Acquire) {
                        assert_eq!(words.get(&peer(0)), word(0));
                        // They come one after the other.
                        while words.get(&peer(known + 1)) != Packed::NONE {
                            known += 1;
                        }
                        for number in [known / 2, known] {
                            assert_eq!(words.get(&peer(number)), word(number));
                        }
                    }
                });
            }
        });
    }
}
