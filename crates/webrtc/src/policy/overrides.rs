use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use perpacket_udp::MessageOptions;

use crate::PacketClass;

/// Options for one peer, one session or everybody: for any class, and for each class above that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Overrides {
    /// For datagrams of any class.
    pub any: MessageOptions,
    /// For each class, by [`PacketClass::index`]. They come before `any`.
    pub classes: [MessageOptions; PacketClass::COUNT],
}

impl Overrides {
    /// The options of one class: its own, filled from those for any class.
    #[must_use]
    #[inline]
    pub fn resolve(&self, class: PacketClass) -> MessageOptions {
        self.classes[class.index()].or(self.any)
    }

    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.any.is_empty() && self.classes.iter().all(MessageOptions::is_empty)
    }

    pub(crate) fn set_class(&mut self, class: PacketClass, options: MessageOptions) {
        self.classes[class.index()] = options;
    }
}

/// [`Overrides`] that change while they are read.
#[derive(Debug, Default)]
pub(crate) struct LiveOverrides(ArcSwap<Overrides>);

impl LiveOverrides {
    #[inline]
    pub(crate) fn load(&self) -> Guard<Arc<Overrides>> {
        self.0.load()
    }

    pub(crate) fn change(&self, change: impl Fn(&mut Overrides)) {
        self.0.rcu(|overrides| {
            let mut overrides = Overrides::clone(overrides);
            change(&mut overrides);
            overrides
        });
    }
}
