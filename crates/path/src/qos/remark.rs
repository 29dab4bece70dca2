//! What a path does to marks, by the seven behaviours that measurements have found (RFC 9435 §4).

use std::{collections::BTreeMap, fmt, slice};

use perpacket_udp::{Dscp, Ecn, Tos};
use serde::{Serialize, Serializer};

use super::mark::Mark;

/// One of the seven ways to re-mark the DSCP (RFC 9435 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Behaviour {
    /// All six bits become 0 (§4.1).
    #[serde(rename = "Bleach-DSCP")]
    BleachDscp,
    /// The first three bits, once the precedence of the type of service, become 0 (§4.2.1).
    #[serde(rename = "Bleach-ToS-Precedence")]
    BleachTosPrecedence,
    /// The same, unless the first two bits are `11` (§4.2.1).
    #[serde(rename = "Bleach-some-ToS")]
    BleachSomeTos,
    /// The first three bits become another value than `000` (§4.2.2).
    #[serde(rename = "Re-mark-ToS")]
    RemarkTos,
    /// The last three bits become 0.
    #[serde(rename = "Bleach-low")]
    BleachLow,
    /// The same, unless the first two bits are `11`.
    #[serde(rename = "Bleach-some-low")]
    BleachSomeLow,
    /// Everything gets one, or one of some, particular code points other than 0 (§4.3).
    #[serde(rename = "Re-mark-DSCP")]
    RemarkDscp,
}

impl Behaviour {
    /// All seven, in the RFC's order.
    pub const ALL: [Self; 7] = [
        Self::BleachDscp,
        Self::BleachTosPrecedence,
        Self::BleachSomeTos,
        Self::RemarkTos,
        Self::BleachLow,
        Self::BleachSomeLow,
        Self::RemarkDscp,
    ];

    /// The RFC's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BleachDscp => "Bleach-DSCP",
            Self::BleachTosPrecedence => "Bleach-ToS-Precedence",
            Self::BleachSomeTos => "Bleach-some-ToS",
            Self::RemarkTos => "Re-mark-ToS",
            Self::BleachLow => "Bleach-low",
            Self::BleachSomeLow => "Bleach-some-low",
            Self::RemarkDscp => "Re-mark-DSCP",
        }
    }

    /// Whether this alone turns the first of each pair into the second.
    fn explains(self, pairs: &[(Dscp, Dscp)]) -> bool {
        let all = |expected: fn(u8) -> u8| {
            let mut pairs = pairs.iter();
            pairs.all(|(before, after)| after.value() == expected(before.value()))
        };
        match self {
            Self::BleachDscp => all(|_| 0),
            Self::BleachTosPrecedence => all(|dscp| dscp & LOW),
            Self::BleachSomeTos => all(|dscp| if is_control(dscp) { dscp } else { dscp & LOW }),
            Self::BleachLow => all(|dscp| dscp & !LOW),
            Self::BleachSomeLow => all(|dscp| if is_control(dscp) { dscp } else { dscp & !LOW }),
            Self::RemarkTos => remarks_precedence(pairs),
            Self::RemarkDscp => changed(pairs).all(|(_, after)| *after != Dscp::CS0),
        }
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The last three bits of a DSCP.
const LOW: u8 = 0b111;

/// Whether the first two of the six bits are `11`, as in CS6 and CS7.
const fn is_control(dscp: u8) -> bool {
    dscp >> 4 == 0b11
}

/// Whether the last three bits stay, and each value of the first three always becomes the same one, never `000`.
fn remarks_precedence(pairs: &[(Dscp, Dscp)]) -> bool {
    let mut becomes = BTreeMap::new();
    pairs.iter().all(|(before, after)| {
        let (before, after) = (before.value(), after.value());
        before & LOW == after & LOW
            && after >> 3 != 0
            && *becomes.entry(before >> 3).or_insert(after >> 3) == after >> 3
    })
}

fn changed(pairs: &[(Dscp, Dscp)]) -> impl Iterator<Item = &(Dscp, Dscp)> {
    pairs.iter().filter(|(before, after)| before != after)
}

/// What happened to the DSCP. It serialises as the list of behaviours that it may be, which is empty for
/// [`Other`](Self::Other).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DscpChange {
    /// One behaviour does what was seen.
    Named(Behaviour),
    /// Each of these does what was seen; marks that would tell them apart were not observed.
    Ambiguous(Vec<Behaviour>),
    /// None of the seven does it, e.g. where one code point alone is bleached.
    Other,
}

impl DscpChange {
    /// What explains these pairs of code points, before and after. `None` where nothing changes.
    ///
    /// [`Behaviour::RemarkDscp`] would explain almost anything, so it is named only where
    /// no other does. An observer cannot know the mechanism for sure (RFC 9435 §4).
    #[must_use]
    pub fn of(pairs: &[(Dscp, Dscp)]) -> Option<Self> {
        changed(pairs).next()?;
        let explains = |behaviour: &Behaviour| behaviour.explains(pairs);
        let (last, specific) = (Behaviour::RemarkDscp, &Behaviour::ALL[..6]);
        let fitting: Vec<_> = specific.iter().copied().filter(explains).collect();
        Some(match fitting[..] {
            [] if last.explains(pairs) => Self::Named(last),
            [] => Self::Other,
            [one] => Self::Named(one),
            _ => Self::Ambiguous(fitting),
        })
    }

    /// The behaviours that it may be.
    #[must_use]
    pub fn candidates(&self) -> &[Behaviour] {
        match self {
            Self::Named(named) => slice::from_ref(named),
            Self::Ambiguous(several) => several,
            Self::Other => &[],
        }
    }
}

impl Serialize for DscpChange {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        self.candidates().serialize(output)
    }
}

impl fmt::Display for DscpChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.candidates() {
            [] => f.write_str("some code points re-marked"),
            candidates => {
                let names = candidates.iter().map(|behaviour| behaviour.name());
                f.write_str(&names.collect::<Vec<_>>().join(" or "))
            }
        }
    }
}

/// What happened to the ECN field (RFC 3168 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
pub enum EcnChange {
    /// ECN-capable packets become Not-ECT: congestion can only be told by loss.
    Bleached {
        /// What it was.
        from: Ecn,
    },
    /// Congestion experienced: what ECN is for, if it is not on every packet.
    CongestionMarked {
        /// What it was.
        from: Ecn,
    },
    /// Anything else, which no router may do.
    Changed {
        /// What it was.
        from: Ecn,
        /// What it became.
        to: Ecn,
    },
}

impl EcnChange {
    /// What turns one field into the other. `None` where nothing changes.
    #[must_use]
    pub fn of(from: Ecn, to: Ecn) -> Option<Self> {
        Some(match (from, to) {
            (from, to) if from == to => return None,
            (from, Ecn::NotEct) => Self::Bleached { from },
            (Ecn::Ect0 | Ecn::Ect1, Ecn::Ce) => Self::CongestionMarked { from },
            (from, to) => Self::Changed { from, to },
        })
    }
}

impl fmt::Display for EcnChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bleached { from } => write!(f, "{from} bleached"),
            Self::CongestionMarked { from } => write!(f, "{from} marked ce"),
            Self::Changed { from, to } => write!(f, "{from} changed to {to}"),
        }
    }
}

/// Marks that tell the seven behaviours apart, and show what happens to ECN.
///
/// LE and AF41 have other last bits than 0, AF41 and EF other first bits, and other ones. 51 begins
/// with `11` and ends in other bits than 0, so it tells what spares network control from what does
/// not; it is in the pool for local use (RFC 2474 §6), where CS6 and CS7 could be taken for
/// routing traffic.
#[must_use]
pub fn telling_marks() -> Vec<Mark> {
    let local = Dscp::new(0b11_0011).unwrap_or_default();
    [Dscp::CS0, Dscp::LE, Dscp::AF41, Dscp::EF, local]
        .map(Mark::from)
        .into_iter()
        .chain([Ecn::Ect0, Ecn::Ect1].map(Mark::from))
        .collect()
}

/// What these pairs of TOS bytes, before and after, say about the ECN field; each change once.
pub(super) fn ecn_changes(pairs: &[(Tos, Tos)]) -> Vec<EcnChange> {
    let changes = pairs.iter();
    let changes = changes.filter_map(|(from, to)| EcnChange::of(from.ecn(), to.ecn()));
    let mut changes: Vec<_> = changes.collect();
    changes.sort_unstable();
    changes.dedup();
    changes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dscp(value: u8) -> Dscp {
        Dscp::new(value).expect("below 64")
    }

    /// The RFC's words, bit by bit. `value` is what a re-marking puts in.
    fn apply(behaviour: Behaviour, before: Dscp, value: Dscp) -> Dscp {
        let bits: [bool; 6] = std::array::from_fn(|bit| before.value() & (32 >> bit) != 0);
        let new: [bool; 6] = std::array::from_fn(|bit| value.value() & (32 >> bit) != 0);
        let control = bits[0] && bits[1];
        let out: [bool; 6] = std::array::from_fn(|bit| match behaviour {
            Behaviour::BleachDscp => false,
            Behaviour::BleachTosPrecedence => bit >= 3 && bits[bit],
            Behaviour::BleachSomeTos => (bit >= 3 || control) && bits[bit],
            Behaviour::RemarkTos if bit < 3 => new[bit],
            Behaviour::RemarkTos => bits[bit],
            Behaviour::BleachLow => bit < 3 && bits[bit],
            Behaviour::BleachSomeLow => (bit < 3 || control) && bits[bit],
            Behaviour::RemarkDscp => new[bit],
        });
        dscp(out.iter().fold(0, |value, bit| value << 1 | u8::from(*bit)))
    }

    fn observed(behaviour: Behaviour, value: Dscp) -> Vec<(Dscp, Dscp)> {
        let marks = telling_marks();
        let pair = |mark: &Mark| (mark.dscp, apply(behaviour, mark.dscp, value));
        marks.iter().map(pair).collect()
    }

    proptest! {
        #[test]
        fn every_behaviour_is_named_for_sure(value in 1..64_u8) {
            for behaviour in Behaviour::ALL {
                if behaviour == Behaviour::RemarkTos && value >> 3 == 0 {
                    continue;
                }
                let pairs = observed(behaviour, dscp(value));
                prop_assert_eq!(DscpChange::of(&pairs), Some(DscpChange::Named(behaviour)));
            }
        }

        #[test]
        fn what_happened_is_among_what_may_have(
            value in 8..64_u8,
            sent in prop::collection::btree_set(0..64_u8, 1..10),
        ) {
            for behaviour in Behaviour::ALL {
                let pair = |before: &u8| (dscp(*before), apply(behaviour, dscp(*before), dscp(value)));
                let pairs: Vec<_> = sent.iter().map(pair).collect();
                if let Some(change) = DscpChange::of(&pairs) {
                    // Re-marking to particular code points gives way to what is more specific.
                    let may_be = change.candidates().contains(&behaviour);
                    prop_assert!(may_be || behaviour == Behaviour::RemarkDscp);
                    prop_assert_ne!(change, DscpChange::Other);
                }
            }
        }
    }

    #[test]
    fn nothing_and_less_than_all() {
        let same: Vec<_> = (0..64).map(|value| (dscp(value), dscp(value))).collect();
        assert_eq!(DscpChange::of(&same), None);
        assert_eq!(DscpChange::of(&[]), None);
        let one_bleached = [(Dscp::EF, Dscp::CS0), (Dscp::AF41, Dscp::AF41)];
        assert_eq!(DscpChange::of(&one_bleached), Some(DscpChange::Other));
    }

    #[test]
    fn few_marks_are_ambiguous() {
        let change = DscpChange::of(&[(Dscp::CS1, Dscp::CS0)]).expect("it changed");
        let named = |behaviour| change.candidates().contains(&behaviour);
        assert!(named(Behaviour::BleachDscp) && named(Behaviour::BleachTosPrecedence));
        assert!(!named(Behaviour::BleachLow));
        assert_eq!(
            change.to_string(),
            "Bleach-DSCP or Bleach-ToS-Precedence or Bleach-some-ToS"
        );
    }

    #[test]
    fn a_map_of_precedences_is_re_marking() {
        let pairs = [
            (Dscp::AF41, Dscp::AF21),
            (Dscp::AF31, Dscp::AF11),
            (Dscp::EF, Dscp::AF33),
        ];
        assert_eq!(
            DscpChange::of(&pairs),
            Some(DscpChange::Named(Behaviour::RemarkTos))
        );
    }

    #[test]
    fn ecn() {
        use Ecn::{Ce, Ect0, Ect1, NotEct};
        assert_eq!(
            EcnChange::of(Ect0, NotEct),
            Some(EcnChange::Bleached { from: Ect0 })
        );
        assert_eq!(
            EcnChange::of(Ect1, Ce),
            Some(EcnChange::CongestionMarked { from: Ect1 })
        );
        assert_eq!(
            EcnChange::of(NotEct, Ce),
            Some(EcnChange::Changed {
                from: NotEct,
                to: Ce
            })
        );
        assert_eq!(EcnChange::of(Ect1, Ect1), None);
    }
}
