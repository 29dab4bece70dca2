use crate::{Dscp, Ecn, MessageOptions, Tos};

/// [`MessageOptions`] in one word: what a policy keeps for very many peers, and reads without a lock.
///
/// A source address does not fit; it goes beside it. What is packed is taken as it is, so options are
/// [validated](MessageOptions::validate) before.
///
/// ```
/// use perpacket_udp::{MessageOptions, PackedOptions};
///
/// let (probe, voice) = (MessageOptions::NONE.with_ttl(10), MessageOptions::NONE.with_tos(184));
/// let packed = PackedOptions::from(&probe).or(PackedOptions::from(&voice));
/// assert_eq!(MessageOptions::from(packed), probe.or(voice));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PackedOptions(u64);

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
const FIELDS: [Field; 6] = [TTL, DF_BIT, TOS, DSCP, ECN, FLOW_LABEL];

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
        if word & self.is_set() == 0 {
            return None;
        }
        let value = word >> self.shift & ((1 << self.width) - 1);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "no field is wider than 20 bits"
        )]
        let value = value as u32;
        Some(value)
    }

    #[inline]
    fn byte(self, word: u64) -> Option<u8> {
        // Of a field that is no wider than a byte.
        self.get(word).map(|value| value.to_le_bytes()[0])
    }

    /// All of the field if it is set, and nothing otherwise. It is asked of each field in turn, so without a branch.
    #[inline]
    const fn mask_if_set(self, word: u64) -> u64 {
        0u64.wrapping_sub(word >> (self.shift + self.width) & 1) & self.mask()
    }
}

impl PackedOptions {
    /// Nothing set.
    pub const NONE: Self = Self(0);

    /// How many bits it takes, the lowest ones; whoever stores it has those above for something else.
    pub const BITS: u32 = FLOW_LABEL.shift + FLOW_LABEL.width + 1;

    const ALL: u64 = (1 << Self::BITS) - 1;

    /// What [`bits`](Self::bits) gave. Bits above [`BITS`](Self::BITS) are ignored.
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & Self::ALL)
    }

    /// The word, to be stored.
    #[must_use]
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether nothing is set.
    #[must_use]
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// [`MessageOptions::or`].
    #[must_use]
    #[inline]
    pub fn or(self, fallback: Self) -> Self {
        if self.0 == 0 || fallback.0 == 0 {
            return Self(self.0 | fallback.0);
        }
        let mut decided = 0;
        for field in FIELDS {
            decided |= field.mask_if_set(self.0);
        }
        if self.0 & TOS.is_set() != 0 {
            decided |= DSCP.mask() | ECN.mask();
        }
        Self(self.0 | fallback.0 & !decided)
    }

    /// The same with this DF bit.
    #[must_use]
    pub const fn with_df_bit(self, df_bit: bool) -> Self {
        let value = DF_BIT.is_set() | (df_bit as u64) << DF_BIT.shift;
        Self(self.0 & !DF_BIT.mask() | value)
    }

    #[inline]
    pub(crate) fn ttl(self) -> Option<u8> {
        TTL.byte(self.0)
    }

    #[inline]
    pub(crate) fn df_bit(self) -> Option<bool> {
        DF_BIT.get(self.0).map(|value| value != 0)
    }

    #[inline]
    pub(crate) fn flow_label(self) -> Option<u32> {
        FLOW_LABEL.get(self.0)
    }

    /// [`MessageOptions::tos_byte_over`].
    #[inline]
    pub(crate) fn tos_byte_over(self, socket: Tos) -> Option<u8> {
        if self.0 & (TOS.is_set() | DSCP.is_set() | ECN.is_set()) == 0 {
            return None;
        }
        let mut byte = TOS.byte(self.0).unwrap_or(socket.byte());
        if let Some(dscp) = DSCP.byte(self.0) {
            byte = dscp << 2 | byte & 0b11;
        }
        if let Some(ecn) = ECN.byte(self.0) {
            byte = byte & !0b11 | ecn;
        }
        Some(byte)
    }

    /// Whether [`MessageOptions::validate`] has nothing against it: all fields but the TTL are as wide as their range.
    #[inline]
    pub(crate) fn is_valid(self) -> bool {
        self.0 & TTL.mask() != TTL.is_set()
    }
}

/// All but the source address.
impl From<&MessageOptions> for PackedOptions {
    fn from(options: &MessageOptions) -> Self {
        Self(
            TTL.put(options.ttl)
                | DF_BIT.put(options.df_bit)
                | TOS.put(options.tos)
                | DSCP.put(options.dscp.map(Dscp::value))
                | ECN.put(options.ecn.map(Ecn::bits))
                | FLOW_LABEL.put(options.flow_label.map(|label| label & 0xf_ffff)),
        )
    }
}

impl From<PackedOptions> for MessageOptions {
    #[inline]
    fn from(packed: PackedOptions) -> Self {
        let word = packed.0;
        Self {
            ttl: packed.ttl(),
            df_bit: packed.df_bit(),
            tos: TOS.byte(word),
            dscp: DSCP
                .byte(word)
                .map(|value| Tos::from_byte(value << 2).dscp()),
            ecn: ECN.byte(word).map(Ecn::from_bits),
            source: None,
            flow_label: packed.flow_label(),
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
        fn words_do_as_options_do(
            one in some_options(),
            other in some_options(),
            socket: u8,
            df_bit: bool,
            above: u64,
        ) {
            let [a, b] = [one, other].map(|options| PackedOptions::from(&options));
            prop_assert_eq!(MessageOptions::from(a), one);
            prop_assert_eq!(MessageOptions::from(a.or(b)), one.or(other));
            prop_assert_eq!(MessageOptions::from(a.with_df_bit(df_bit)), one.with_df_bit(df_bit));
            let socket = Tos::from_byte(socket);
            prop_assert_eq!(a.tos_byte_over(socket), one.tos_byte_over(socket));
            prop_assert_eq!(a.is_empty(), one.is_empty());
            prop_assert!(a.is_valid());
            let stored = a.bits() | above << PackedOptions::BITS;
            prop_assert_eq!(PackedOptions::from_bits(stored), a);
        }
    }

    #[test]
    fn a_ttl_of_zero_is_refused_here_too() {
        let zero = PackedOptions::from(&MessageOptions::NONE.with_ttl(0).with_tos(9));
        assert!(!zero.is_valid() && PackedOptions::NONE.is_valid());
    }

    #[test]
    fn a_label_that_is_too_long_reaches_no_other_field() {
        let long = PackedOptions::from(&MessageOptions::NONE.with_flow_label(u32::MAX));
        assert!(long.bits() >> PackedOptions::BITS == 0 && long.ttl().is_none());
    }
}
