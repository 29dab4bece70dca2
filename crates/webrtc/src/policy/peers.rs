use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use foldhash::fast::RandomState;

use super::{Overrides, overrides::PackedOverrides, packed::Packed, peer::PeerKey, words::Words};
use crate::PacketClass;

/// The options of single peers: there can be very many, so each is replaced alone.
#[derive(Debug)]
pub(super) struct Peers {
    /// Those that fit into a word, which most do. Of the others it says that they are elsewhere.
    words: Words,
    more: papaya::HashMap<PeerKey, PackedOverrides, RandomState>,
    changing: Mutex<()>,
}

impl Default for Peers {
    /// Where papaya's map grows little by little, it is several maps for a while, and each lookup goes through
    /// all of them: at 100,000 peers that is 20 times the work. So who makes it grow moves all of it at
    /// once; who looks something up does not wait for that.
    fn default() -> Self {
        let more = papaya::HashMap::builder().resize_mode(papaya::ResizeMode::Blocking);
        Self {
            words: Words::default(),
            more: more.hasher(RandomState::default()).build(),
            changing: Mutex::new(()),
        }
    }
}

impl Peers {
    /// The options of one class for a peer, as far as they fit into a word.
    #[inline]
    pub(super) fn resolve(&self, peer: &SocketAddr, class: PacketClass) -> Packed {
        if self.words.is_unused() {
            return Packed::NONE;
        }
        let peer = PeerKey::from(peer);
        let word = self.words.get(&peer.into());
        if word.is_elsewhere() {
            return self.resolve_elsewhere(&peer, class);
        }
        word
    }

    #[inline(never)]
    fn resolve_elsewhere(&self, peer: &PeerKey, class: PacketClass) -> Packed {
        self.with(peer, |set| set.resolve(class))
    }

    /// All that is set for a peer.
    pub(super) fn get(&self, peer: &SocketAddr) -> Overrides {
        self.with(&peer.into(), |set| Overrides::from(set))
    }

    /// Does something with what is set for a peer.
    fn with<R>(&self, peer: &PeerKey, f: impl Fn(&PackedOverrides) -> R) -> R {
        loop {
            let word = self.words.get(&(*peer).into());
            if !word.is_elsewhere() {
                return f(&word.into());
            }
            // It is put there before the word says so, and taken from there after.
            if let Some(set) = self.more.pin().get(peer) {
                return f(set);
            }
        }
    }

    /// Changes what is set for a peer, and returns what was set before.
    pub(super) fn change(
        &self,
        peer: SocketAddr,
        change: impl FnOnce(&mut Overrides),
    ) -> Overrides {
        let _alone = self.alone();
        let before = self.get(&peer);
        let mut after = before.clone();
        change(&mut after);
        if before != after {
            self.put(&peer.into(), PackedOverrides::from(&after));
        }
        before
    }

    /// Takes over all that others have, and forgets the rest, one by one.
    pub(super) fn replace(&self, others: &Self) {
        let others = others.all();
        let _alone = self.alone();
        let mine = self.words.all().into_iter().map(|(peer, _)| peer.into());
        let mut gone: HashSet<_, RandomState> = mine.collect();
        for (peer, set) in others {
            gone.remove(&peer);
            self.put(&peer, set);
        }
        for peer in gone {
            self.put(&peer, PackedOverrides::default());
        }
    }

    /// In no order.
    pub(super) fn list(&self) -> Vec<(SocketAddr, Overrides)> {
        let all = self.all().into_iter();
        all.map(|(peer, set)| (peer.into(), Overrides::from(&set)))
            .collect()
    }

    fn all(&self) -> Vec<(PeerKey, PackedOverrides)> {
        let _alone = self.alone();
        let words = self.words.all().into_iter();
        words
            .map(|(peer, _)| PeerKey::from(peer))
            .map(|peer| (peer, self.with(&peer, PackedOverrides::clone)))
            .collect()
    }

    /// To be called by who is alone.
    fn put(&self, peer: &PeerKey, set: PackedOverrides) {
        let key = (*peer).into();
        if let Some(word) = set.word() {
            self.words.set(&key, word);
            self.more.pin().remove(peer);
        } else {
            self.more.pin().insert(*peer, set);
            self.words.set(&key, Packed::ELSEWHERE);
        }
    }

    fn alone(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
