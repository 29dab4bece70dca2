//! Where on the path marks change.

use std::collections::BTreeMap;

use perpacket_udp::{Dscp, Ecn, Tos};
use serde::Serialize;

use super::{
    mark::Mark,
    remark::{DscpChange, EcnChange, ecn_changes},
};

/// What was seen of the packets of one mark on their way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MarkPath {
    /// As it was sent.
    pub sent: Mark,
    /// The TOS byte as it arrived at so many hops from here; not every hop shows it.
    pub seen: BTreeMap<u8, Tos>,
}

/// A change of marks between two hops that show them.
///
/// A router can re-mark when a packet comes in or when it leaves: it may be `from_hop`, `to_hop`, or one
/// between them that shows nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Remarking {
    /// The last hop at which packets still arrived as before; 0 is this host.
    pub from_hop: u8,
    /// The first hop at which they arrived changed.
    pub to_hop: u8,
    /// What happened to the DSCP.
    pub dscp: Option<DscpChange>,
    /// What happened to the ECN field.
    pub ecn: Vec<EcnChange>,
    /// The TOS bytes before and after, of every mark that was seen on both sides.
    pub pairs: Vec<(Tos, Tos)>,
}

/// A mark has changed after one hop, and not later than at another.
#[derive(Clone, Copy, Debug)]
struct Step {
    after: u8,
    at: u8,
    before: Tos,
    then: Tos,
    path: usize,
}

/// The fewest places of re-marking that explain what was seen, in the order of the path.
#[must_use]
pub fn place_remarkings(paths: &[MarkPath]) -> Vec<Remarking> {
    let known: Vec<_> = paths.iter().map(without_congestion).collect();
    let mut steps: Vec<Step> = Vec::new();
    for (path, seen) in known.iter().enumerate() {
        for (earlier, later) in seen.iter().zip(seen.iter().skip(1)) {
            if earlier.1 != later.1 {
                steps.push(Step {
                    after: *earlier.0,
                    at: *later.0,
                    before: *earlier.1,
                    then: *later.1,
                    path,
                });
            }
        }
    }
    // The fewest points that stab every interval: the earliest end, again and again.
    steps.sort_unstable_by_key(|step| step.at);
    let mut places = Vec::new();
    while let Some(first) = steps.first() {
        let at = first.at;
        let (here, later): (Vec<Step>, Vec<Step>) =
            steps.into_iter().partition(|step| step.after < at);
        places.push(remarking(&known, &here));
        steps = later;
    }
    places
}

fn remarking(known: &[BTreeMap<u8, Tos>], steps: &[Step]) -> Remarking {
    let from_hop = steps.iter().map(|step| step.after).max().unwrap_or(0);
    let to_hop = steps.iter().map(|step| step.at).min().unwrap_or(0);
    let pairs: Vec<_> = known
        .iter()
        .enumerate()
        .filter_map(|(path, seen)| {
            if let Some(step) = steps.iter().find(|step| step.path == path) {
                return Some((step.before, step.then));
            }
            let before = *seen.range(..=from_hop).next_back()?.1;
            let after = *seen.range(to_hop..).next()?.1;
            (before == after).then_some((before, after))
        })
        .collect();
    let dscps: Vec<(Dscp, Dscp)> = pairs
        .iter()
        .map(|(before, after)| (before.dscp(), after.dscp()))
        .collect();
    Remarking {
        from_hop,
        to_hop,
        dscp: DscpChange::of(&dscps),
        ecn: ecn_changes(&pairs),
        pairs,
    }
}

/// What was sent and seen by hop. Each hop saw another packet: congestion that was experienced by one and
/// not by all that went further is no change of the path.
fn without_congestion(path: &MarkPath) -> BTreeMap<u8, Tos> {
    let mut seen = path.seen.clone();
    seen.insert(0, path.sent.tos());
    let mut constant = true;
    let mut congested = Vec::new();
    for (hop, tos) in seen.iter().rev() {
        constant &= tos.ecn() == Ecn::Ce;
        if tos.ecn() == Ecn::Ce && !constant {
            congested.insert(0, *hop);
        }
    }
    for hop in congested {
        let before = seen.range(..hop).next_back().map(|(_, tos)| tos.ecn());
        if let (Some(ecn), Some(tos)) = (before, seen.get_mut(&hop)) {
            *tos = Tos::new(tos.dscp(), ecn);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::remark::{Behaviour, telling_marks},
        *,
    };

    type Remark = fn(u8) -> u8;

    /// Paths over `hops` hops on which each of the functions is applied from its hop on.
    fn paths(hops: u8, remarkings: &[(u8, Remark)]) -> Vec<MarkPath> {
        let path = |sent: Mark| {
            let mut tos = sent.tos();
            let seen = (1..=hops).map(|hop| {
                for (_, remark) in remarkings.iter().filter(|(at, _)| *at == hop) {
                    tos = Tos::from_byte(remark(tos.byte()));
                }
                (hop, tos)
            });
            MarkPath {
                sent,
                seen: seen.collect(),
            }
        };
        telling_marks().into_iter().map(path).collect()
    }

    fn is_named(change: Option<&DscpChange>, behaviour: Behaviour) -> bool {
        change == Some(&DscpChange::Named(behaviour))
    }

    #[test]
    fn nothing_is_nowhere() {
        assert_eq!(place_remarkings(&paths(4, &[])), []);
        assert_eq!(place_remarkings(&[]), []);
    }

    #[test]
    fn two_places() {
        let placed = place_remarkings(&paths(
            6,
            &[(3, |tos| tos & 0b1110_0011), (5, |tos| tos & 3)],
        ));
        let [low, all] = &placed[..] else {
            panic!("{placed:?}")
        };
        assert_eq!((low.from_hop, low.to_hop), (2, 3));
        assert!(is_named(low.dscp.as_ref(), Behaviour::BleachLow));
        assert_eq!((all.from_hop, all.to_hop), (4, 5));
        assert!(
            all.dscp
                .as_ref()
                .is_some_and(|dscp| dscp.candidates().contains(&Behaviour::BleachDscp))
        );
        assert_eq!(all.ecn, []);
    }

    #[test]
    fn ecn_is_bleached_by_itself() {
        let placed = place_remarkings(&paths(4, &[(2, |tos| tos & !3)]));
        let [one] = &placed[..] else {
            panic!("{placed:?}")
        };
        assert_eq!((one.from_hop, one.to_hop, &one.dscp), (1, 2, &None));
        assert_eq!(
            one.ecn,
            [
                EcnChange::Bleached { from: Ecn::Ect1 },
                EcnChange::Bleached { from: Ecn::Ect0 }
            ]
        );
    }

    #[test]
    fn congestion_is_no_remarking_unless_it_is_for_good() {
        let mut now_and_then = paths(5, &[]);
        now_and_then[6].seen.insert(2, Tos::from_byte(3));
        now_and_then[6].seen.insert(3, Tos::from_byte(3));
        assert_eq!(place_remarkings(&now_and_then), []);
        let always = place_remarkings(&paths(
            5,
            &[(4, |tos| {
                if matches!(tos & 3, 1 | 2) {
                    tos | 3
                } else {
                    tos
                }
            })],
        ));
        assert_eq!((always[0].from_hop, always[0].to_hop), (3, 4));
        assert!(
            always[0]
                .ecn
                .contains(&EcnChange::CongestionMarked { from: Ecn::Ect0 })
        );
    }

    #[test]
    fn silent_hops_widen_the_place() {
        let mut some = paths(5, &[(3, |tos| tos & 3)]);
        for path in &mut some {
            path.seen.remove(&2);
            path.seen.remove(&3);
        }
        let placed = place_remarkings(&some);
        assert_eq!((placed[0].from_hop, placed[0].to_hop), (1, 4));
    }

    proptest! {
        /// Quotes get lost, but every hop shows some mark that changes.
        #[test]
        fn lost_quotes_change_neither_place_nor_name(
            lost in prop::collection::vec((0..7_usize, 1..=4_u8), 0..12),
        ) {
            let mut some = paths(5, &[(3, |tos| tos & 3)]);
            for (path, hop) in lost {
                // EF is seen everywhere.
                if path != 3 {
                    some[path].seen.remove(&hop);
                }
            }
            let placed = place_remarkings(&some);
            prop_assert_eq!(placed.len(), 1);
            prop_assert_eq!((placed[0].from_hop, placed[0].to_hop), (2, 3));
            prop_assert!(is_named(placed[0].dscp.as_ref(), Behaviour::BleachDscp));
        }

        #[test]
        fn whatever_is_seen_is_explained(
            seen in prop::collection::vec(prop::collection::btree_map(1..=255_u8, any::<u8>(), 0..8), 0..8),
        ) {
            let path = |seen: BTreeMap<u8, u8>| MarkPath {
                sent: Mark::REFERENCE,
                seen: seen.into_iter().map(|(hop, tos)| (hop, tos.into())).collect(),
            };
            let paths: Vec<_> = seen.into_iter().map(path).collect();
            for one in place_remarkings(&paths) {
                prop_assert!(one.from_hop < one.to_hop);
                prop_assert!(one.pairs.iter().any(|(before, after)| before != after));
            }
        }
    }
}
