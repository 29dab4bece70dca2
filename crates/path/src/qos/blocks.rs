use super::{mark::Mark, random::Random};

/// One probe of the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// The block that it belongs to, from 0.
    pub(super) block: usize,
    /// Which mark, by its place in the list.
    pub(super) mark: usize,
}

/// What is sent when: blocks that hold every mark once, each block in a random order of its own.
///
/// Whatever drifts on the path, load, a route, the peer's clock speed, so falls on all marks alike, and the
/// probes of one block, sent next to each other, can be compared as pairs: a randomised complete
/// block design (Fisher, The Design of Experiments, 1935). No fixed order could do it: the mark that always
/// follows another one would always see the queue that it left.
pub(super) fn blocks(marks: &[Mark], count: usize, seed: u64) -> Vec<Slot> {
    let mut random = Random::new(seed);
    let mut order: Vec<usize> = (0..marks.len()).collect();
    let mut slots = Vec::with_capacity(marks.len() * count);
    for block in 0..count {
        random.shuffle(&mut order);
        slots.extend(order.iter().map(|mark| Slot { block, mark: *mark }));
    }
    slots
}

#[cfg(test)]
mod tests {
    use perpacket_udp::{Dscp, Ecn};
    use proptest::prelude::*;

    use super::*;

    fn marks(count: u8) -> Vec<Mark> {
        let mark = |value| Mark::new(Dscp::new(value).expect("below 64"), Ecn::NotEct);
        (0..count).map(mark).collect()
    }

    proptest! {
        #[test]
        fn each_block_has_every_mark_once(number in 1..12_u8, count in 0..40_usize, seed: u64) {
            let marks = marks(number);
            let slots = blocks(&marks, count, seed);
            prop_assert_eq!(slots.len(), marks.len() * count);
            for (number, block) in slots.chunks(marks.len()).enumerate() {
                let mut seen: Vec<_> = block.iter().map(|slot| slot.mark).collect();
                seen.sort_unstable();
                prop_assert_eq!(seen, (0..marks.len()).collect::<Vec<_>>());
                prop_assert!(block.iter().all(|slot| slot.block == number));
            }
            prop_assert_eq!(slots, blocks(&marks, count, seed));
        }
    }

    #[test]
    fn every_mark_comes_at_every_place() {
        let slots = blocks(&marks(4), 400, 7);
        for mark in 0..4 {
            for place in 0..4 {
                let there = slots.chunks(4).filter(|block| block[place].mark == mark);
                let there = there.count();
                assert!(
                    (60..140).contains(&there),
                    "mark {mark}, place {place}: {there}"
                );
            }
        }
    }
}
