use perpacket_udp::{MessageOptions, PackedOptions};

use super::Stream;

/// [`PackedOptions`], and above them what else is to be known of them in the same moment: a source address does not
/// fit, and a flag says that there is more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packed(u64);

/// The options have the bits below.
const LOWEST_FLAG: u32 = 60;
const _: () = assert!(PackedOptions::BITS <= LOWEST_FLAG);
const MORE: u64 = 1 << 63;
const SSRCS: u64 = 1 << 62;
const PAYLOAD_TYPES: u64 = 1 << 61;
const ELSEWHERE: u64 = 1 << LOWEST_FLAG;
const FLAGS: u64 = MORE | SSRCS | PAYLOAD_TYPES | ELSEWHERE;

impl Packed {
    pub(crate) const NONE: Self = Self(0);

    /// In place of options: they are kept apart.
    pub(crate) const ELSEWHERE: Self = Self(ELSEWHERE);

    pub(crate) const fn from_word(word: u64) -> Self {
        Self(word)
    }

    pub(crate) const fn word(self) -> u64 {
        self.0
    }

    /// The options alone, without what else the word says.
    #[inline]
    pub(crate) const fn options(self) -> PackedOptions {
        PackedOptions::from_bits(self.0)
    }

    /// The same, and something that does not fit.
    pub(crate) const fn and_more(self) -> Self {
        Self(self.0 | MORE)
    }

    /// The same, where an RTP stream has options of its own.
    pub(super) const fn and_streams(self, like: Stream) -> Self {
        Self(
            self.0
                | match like {
                    Stream::Ssrc(_) => SSRCS,
                    Stream::PayloadType(_) => PAYLOAD_TYPES,
                },
        )
    }

    /// Whether RTP streams have options of their own.
    #[inline]
    pub(super) const fn has_streams(self) -> bool {
        self.0 & (SSRCS | PAYLOAD_TYPES) != 0
    }

    /// Whether some have by their SSRC.
    #[inline]
    pub(super) const fn has_ssrcs(self) -> bool {
        self.0 & SSRCS != 0
    }

    /// Whether some have by their payload type.
    #[inline]
    pub(super) const fn has_payload_types(self) -> bool {
        self.0 & PAYLOAD_TYPES != 0
    }

    /// Whether it stands in place of options.
    #[inline]
    pub(crate) const fn is_elsewhere(self) -> bool {
        self.0 & ELSEWHERE != 0
    }

    /// Whether there is something that does not fit.
    #[inline]
    pub(crate) const fn has_more(self) -> bool {
        self.0 & MORE != 0
    }

    /// [`MessageOptions::or`]; what is said of either is said of both.
    #[inline]
    pub(crate) fn or(self, fallback: Self) -> Self {
        let flags = (self.0 | fallback.0) & FLAGS;
        Self(self.options().or(fallback.options()).bits() | flags)
    }
}

impl From<&MessageOptions> for Packed {
    fn from(options: &MessageOptions) -> Self {
        let packed = Self(PackedOptions::from(options).bits());
        match options.source {
            None => packed,
            Some(_) => packed.and_more(),
        }
    }
}

/// What fits.
impl From<Packed> for MessageOptions {
    fn from(packed: Packed) -> Self {
        packed.options().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_options_stays() {
        let [one, other] = [3, 4].map(|ttl| Packed::from(&MessageOptions::NONE.with_ttl(ttl)));
        for [a, b] in [[one.and_more(), other], [one, other.and_more()]] {
            assert!(a.or(b).has_more() && !a.or(b).has_streams());
            assert_eq!(a.or(b).options(), one.options());
        }
        let streams = Packed::NONE.and_streams(Stream::Ssrc(1));
        assert!(one.or(streams).has_ssrcs() && !one.or(streams).has_payload_types());
    }

    #[test]
    fn a_source_does_not_fit() {
        let source = MessageOptions::NONE.with_source([192, 0, 2, 1].into());
        assert!(Packed::from(&source.with_ttl(3)).has_more());
        assert_eq!(Packed::from(&MessageOptions::NONE), Packed::NONE);
    }
}
