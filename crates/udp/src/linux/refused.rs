//! Which control messages the kernel does not know.

use std::sync::atomic::{AtomicU8, Ordering};

/// One field that a control message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Ttl,
    Tos,
    DontFragment,
    FlowLabel,
}

impl Field {
    pub(super) const ALL: [Self; 4] = [Self::FlowLabel, Self::Tos, Self::Ttl, Self::DontFragment];

    pub(super) const fn bit(self) -> u8 {
        match self {
            Self::Ttl => 1,
            Self::Tos => 2,
            Self::DontFragment => 4,
            Self::FlowLabel => 8,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Ttl => "TTL",
            Self::Tos => "TOS",
            Self::DontFragment => "don't-fragment",
            Self::FlowLabel => "flow label",
        }
    }
}

/// The control messages that the kernel has refused.
#[derive(Debug, Default)]
pub(super) struct Refused(AtomicU8);

impl Refused {
    #[inline]
    pub(super) fn bits(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    /// Remembers the refusal, and warns the first time.
    pub(super) fn mark(&self, field: Field) {
        if self.0.fetch_or(field.bit(), Ordering::Relaxed) & field.bit() == 0 {
            tracing::warn!(
                "the kernel refuses the {} control message: datagrams go out without it from now on",
                field.name()
            );
        }
    }
}
