use std::net::IpAddr;

use perpacket_udp::MessageOptions;

use super::{
    live::{Live, Packs},
    packed::Packed,
};
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

impl Packs for Overrides {
    type Index = ();

    fn pack(&self, class: PacketClass) -> Packed {
        Packed::from(&self.resolve(class))
    }

    fn index(&self, _: &Self, (): &()) {}
}

/// [`Overrides`] that change while they are read.
pub(crate) type LiveOverrides = Live<Overrides>;

/// [`Overrides`] in little room: there can be those of very many peers, and most have nothing but one
/// TTL or the like for all that goes to them.
#[derive(Clone, Debug, Default)]
pub(super) struct PackedOverrides {
    any: Packed,
    more: Option<Box<More>>,
}

#[derive(Clone, Debug)]
struct More {
    classes: [Packed; PacketClass::COUNT],
    source: Option<IpAddr>,
    class_sources: [Option<IpAddr>; PacketClass::COUNT],
}

impl PackedOverrides {
    #[inline]
    pub(super) fn resolve(&self, class: PacketClass) -> Packed {
        match &self.more {
            None => self.any,
            Some(more) => more.classes[class.index()].or(self.any),
        }
    }

    /// All of them, if a word can say it.
    pub(super) fn word(&self) -> Option<Packed> {
        self.more.is_none().then_some(self.any)
    }
}

impl From<Packed> for PackedOverrides {
    /// These for all classes.
    fn from(any: Packed) -> Self {
        Self { any, more: None }
    }
}

fn with_source(packed: Packed, source: Option<IpAddr>) -> MessageOptions {
    MessageOptions {
        source,
        ..packed.into()
    }
}

impl From<&Overrides> for PackedOverrides {
    fn from(overrides: &Overrides) -> Self {
        let Overrides { any, classes } = overrides;
        let is_all = any.source.is_none() && classes.iter().all(MessageOptions::is_empty);
        Self {
            any: any.into(),
            more: (!is_all).then(|| {
                Box::new(More {
                    classes: classes.each_ref().map(Packed::from),
                    source: any.source,
                    class_sources: classes.map(|options| options.source),
                })
            }),
        }
    }
}

impl From<&PackedOverrides> for Overrides {
    fn from(PackedOverrides { any, more }: &PackedOverrides) -> Self {
        let mut overrides = Self {
            any: (*any).into(),
            ..Self::default()
        };
        if let Some(more) = more {
            overrides.any.source = more.source;
            for class in PacketClass::ALL {
                let index = class.index();
                let options = with_source(more.classes[index], more.class_sources[index]);
                overrides.set_class(class, options);
            }
        }
        overrides
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_loses_nothing() {
        let source = |last| MessageOptions::NONE.with_source([192, 0, 2, last].into());
        let mut overrides = Overrides::default();
        for any in [MessageOptions::NONE, source(1).with_ttl(3)] {
            overrides.any = any;
            for of_class in [MessageOptions::NONE, source(2), any.with_tos(7)] {
                overrides.set_class(PacketClass::Other, of_class);
                let packed = PackedOverrides::from(&overrides);
                assert_eq!(Overrides::from(&packed), overrides);
                for class in PacketClass::ALL {
                    let has_source = overrides.resolve(class).source.is_some();
                    assert_eq!(packed.resolve(class).has_more(), has_source);
                }
            }
        }
    }
}
