use perpacket_udp::{Dscp, Ecn, MessageOptions, Tos};

use super::Stream;

/// [`MessageOptions`] in one word, so that a reader sees those of one moment without a lock. A source
/// address does not fit; a flag says that there is more to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packed(u64);

/// A value in the word, and above it the bit that says that it is set.
#[derive(Clone, Copy)]
struct Field {
    shift: u32,
    width: u32,
}

const TTL: Field = Field::after(None, 8);
const DF_BIT: Field = Field::after(Some(TTL), 1);
const TOS: Field = Field::after(Some(DF_BIT), 8);
const DSCP: Field = Field::after(Some(TOS), 6);
const ECN: Field = Field::after(Some(DSCP), 2);
const FLOW_LABEL: Field = Field::after(Some(ECN), 20);
/// All of them.
const VALUES: u64 = (FLOW_LABEL.is_set() << 1) - 1;
// What else may be said of options has the bits above.
const _: () = assert!(VALUES < 1 << 59);
const MORE: u64 = 1 << 63;
const SSRCS: u64 = 1 << 62;
const PAYLOAD_TYPES: u64 = 1 << 61;
const ELSEWHERE: u64 = 1 << 60;

impl Field {
    const fn after(before: Option<Self>, width: u32) -> Self {
        let shift = match before {
            None => 0,
            Some(before) => before.shift + before.width + 1,
        };
        Self { shift, width }
    }

    const fn is_set(self) -> u64 {
        1 << (self.shift + self.width)
    }

    /// The value, and the bit that says that it is set.
    const fn mask(self) -> u64 {
        (self.is_set() << 1) - (1 << self.shift)
    }

    fn put(self, value: Option<impl Into<u64>>) -> u64 {
        value.map_or(0, |value| self.is_set() | value.into() << self.shift)
    }

    #[inline]
    fn get(self, word: u64) -> Option<u32> {
        let value = word >> self.shift & ((1 << self.width) - 1);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "no field is wider than 20 bits"
        )]
        (word & self.is_set() != 0).then_some(value as u32)
    }

    #[inline]
    fn byte(self, word: u64) -> Option<u8> {
        // Of a field that is no wider than a byte.
        self.get(word).map(|value| value.to_le_bytes()[0])
    }
}

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

    /// The options alone, without what else the word says; the upper bits are free.
    #[inline]
    pub(crate) const fn values(self) -> u64 {
        self.0 & VALUES
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

    /// [`MessageOptions::or`].
    #[inline]
    pub(crate) fn or(self, fallback: Self) -> Self {
        if self.0 == 0 || fallback.0 & VALUES == 0 {
            return Self(self.0 | fallback.0);
        }
        let mut decided = 0;
        for field in [TTL, DF_BIT, TOS, DSCP, ECN, FLOW_LABEL] {
            if self.0 & field.is_set() != 0 {
                decided |= field.mask();
            }
        }
        if self.0 & TOS.is_set() != 0 {
            decided |= DSCP.mask() | ECN.mask();
        }
        Self(self.0 | fallback.0 & !decided)
    }
}

impl From<&MessageOptions> for Packed {
    fn from(options: &MessageOptions) -> Self {
        let packed = Self(
            TTL.put(options.ttl)
                | DF_BIT.put(options.df_bit)
                | TOS.put(options.tos)
                | DSCP.put(options.dscp.map(Dscp::value))
                | ECN.put(options.ecn.map(Ecn::bits))
                | FLOW_LABEL.put(options.flow_label),
        );
        match options.source {
            None => packed,
            Some(_) => packed.and_more(),
        }
    }
}

/// What fits.
impl From<Packed> for MessageOptions {
    #[inline]
    fn from(Packed(word): Packed) -> Self {
        Self {
            ttl: TTL.byte(word),
            df_bit: DF_BIT.get(word).map(|value| value != 0),
            tos: TOS.byte(word),
            dscp: DSCP
                .byte(word)
                .map(|value| Tos::from_byte(value << 2).dscp()),
            ecn: ECN.byte(word).map(Ecn::from_bits),
            source: None,
            flow_label: FLOW_LABEL.get(word),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some_options() -> impl Strategy<Value = MessageOptions> {
        use proptest::option::of;
        (
            of(1..=u8::MAX),
            of(any::<bool>()),
            of(any::<u8>()),
            of(0..64u8),
            of(0..4u8),
            of(0..=0xf_ffffu32),
        )
            .prop_map(|(ttl, df_bit, tos, dscp, ecn, flow_label)| MessageOptions {
                ttl,
                df_bit,
                tos,
                dscp: dscp.map(|value| Dscp::new(value).expect("six bits")),
                ecn: ecn.map(Ecn::from_bits),
                source: None,
                flow_label,
            })
    }

    proptest! {
        #[test]
        fn words_do_as_options_do(one in some_options(), other in some_options()) {
            let [a, b] = [one, other].map(|options| Packed::from(&options));
            prop_assert_eq!(MessageOptions::from(a), one);
            prop_assert_eq!(MessageOptions::from(a.or(b)), one.or(other));
            prop_assert!(!a.or(b).has_more());
            prop_assert!(a.and_more().or(b).has_more() && a.or(b.and_more()).has_more());
        }
    }

    #[test]
    fn a_source_does_not_fit() {
        let source = MessageOptions::NONE.with_source([192, 0, 2, 1].into());
        assert!(Packed::from(&source.with_ttl(3)).has_more());
        assert_eq!(Packed::from(&MessageOptions::NONE), Packed::NONE);
    }
}
