use super::*;

/// Below what a router is believed, as for IPv4.
const FLOOR: usize = 1200;

/// The smallest probe, which passes everywhere.
const SMALLEST: usize = 100;

/// A path that a search is tried on.
struct Path {
    mtu: usize,
    /// Whether routers say that a packet is too big, and what they say.
    says: Option<u32>,
    /// Of a thousand probes or answers, how many are lost at random.
    loss: u64,
    random: u64,
}

/// What a search has cost.
#[derive(Debug, PartialEq, Eq)]
struct Cost {
    probes: usize,
    lost: usize,
    mtu: usize,
}

impl Path {
    fn silent(mtu: usize) -> Self {
        Self {
            mtu,
            says: None,
            loss: 0,
            random: 1,
        }
    }

    fn saying(mtu: usize, says: u32) -> Self {
        Self {
            says: Some(says),
            ..Self::silent(mtu)
        }
    }

    /// Whether this one is lost at random: xorshift64*, the upper bits of it.
    fn loses(&mut self) -> bool {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % 1000 < self.loss
    }

    fn run(&mut self, search: &mut Search) -> Cost {
        let (mut probes, mut lost) = (0, 0);
        while let Some(size) = search.next() {
            probes += 1;
            assert!(probes < 500, "no end: {search:?}");
            assert!(
                size > search.mtu() && size <= search.cap(),
                "{size}: {search:?}"
            );
            assert_eq!(size % STEP, 0);
            if size <= self.mtu {
                if self.loses() || self.loses() {
                    lost += 1;
                    search.lost(size);
                } else {
                    search.answered(size);
                }
            } else {
                lost += 1;
                match self.says {
                    Some(mtu) => drop(search.too_big(size, Some(mtu), true)),
                    None => search.lost(size),
                }
            }
        }
        Cost {
            probes,
            lost,
            mtu: search.mtu(),
        }
    }
}

fn search(cap: usize, refine: bool) -> Search {
    Search::new(SMALLEST, cap, FLOOR, refine)
}

/// Path MTU, cap, probes, lost.
const SILENT: [(usize, usize, usize, usize); 10] = [
    (1500, 1500, 1, 0),
    (1492, 1500, 6, 3),
    (1420, 1500, 6, 4),
    (1400, 1500, 6, 5),
    (1280, 1500, 7, 6),
    (1500, 9000, 6, 5),
    (1492, 9000, 7, 4),
    (1400, 9000, 7, 6),
    (1280, 9000, 8, 7),
    (9000, 9000, 1, 0),
];

#[test]
fn where_nobody_answers() {
    for (mtu, cap, probes, lost) in SILENT {
        let mut search = search(cap, false);
        let cost = Path::silent(mtu).run(&mut search);
        assert_eq!(cost, Cost { probes, lost, mtu }, "{mtu} of {cap}");
        assert_eq!(search.upper().is_none(), mtu == cap);
    }
}

#[test]
fn refined_it_is_exact_whatever_it_is() {
    for cap in [1500, 9000, 9216] {
        for mtu in (SMALLEST..=cap).step_by(if cap == 1500 { 1 } else { 7 }) {
            let mut search = search(cap, true);
            let cost = Path::silent(mtu).run(&mut search);
            assert_eq!(cost.mtu, probeable(mtu), "{search:?}");
            assert!(search.is_exact(), "{search:?}");
            if let Some(upper) = search.upper() {
                assert!(upper > mtu && upper - mtu <= STEP, "{search:?}");
            }
            assert!(cost.probes <= 24, "{mtu} of {cap}: {cost:?}");
        }
    }
    // Exact at the price of two more probes at most, where it is one of the ladder.
    for (mtu, cap, probes, _) in SILENT {
        let cost = Path::silent(mtu).run(&mut search(cap, true));
        assert!(cost.probes <= probes + 3, "{mtu} of {cap}: {cost:?}");
    }
}

#[test]
fn below_what_ipv6_asks_for_there_are_steps_too() {
    for (mtu, below) in [(1279, 1200), (1199, 1004), (1003, 576), (575, SMALLEST)] {
        let mut search = search(1500, false);
        let cost = Path::silent(mtu).run(&mut search);
        assert_eq!(cost.mtu, below);
        assert!(cost.probes <= 11, "{mtu}: {cost:?}");
    }
}

#[test]
fn not_refined_it_is_the_step_of_the_ladder_below() {
    for mtu in 1280..=9216 {
        let mut search = search(9216, false);
        let cost = Path::silent(mtu).run(&mut search);
        let steps = LADDER.iter().chain(&[ETHERNET, 9216]);
        let below = steps.filter(|step| **step <= mtu).max();
        assert_eq!(Some(&cost.mtu), below);
        assert!(cost.probes <= 10, "{mtu}: {cost:?}");
    }
}

#[test]
fn a_router_that_says_so_makes_two_probes_enough() {
    for cap in [1500, 9000] {
        for mtu in 1200..1500_u16 {
            let mut search = search(cap, false);
            let cost = Path::saying(mtu.into(), mtu.into()).run(&mut search);
            let expected = Cost {
                probes: 2,
                lost: 1,
                mtu: probeable(mtu.into()),
            };
            assert_eq!(cost, expected);
            assert!(search.is_exact());
            assert_eq!(search.upper(), Some(usize::from(mtu) + 1));
        }
    }
}

#[test]
fn a_word_is_not_believed_alone() {
    // One that says too much, too little to be so, nothing, or nonsense.
    for says in [0, 68, 300, 1199, 1450, 1496, 1500, 1501, 9000, u32::MAX] {
        let mut search = search(1500, true);
        let cost = Path::saying(1400, says).run(&mut search);
        assert_eq!((cost.mtu, search.upper()), (1400, Some(1404)), "{says}");
        assert!(cost.probes <= 12, "{says}: {cost:?}");
    }
}

#[test]
fn a_word_that_nobody_has_to_have_known_says_only_what_to_try() {
    let mut search = search(1500, false);
    assert_eq!(search.too_big(1500, Some(1280), false), HintUse::Tried);
    assert_eq!(search.next(), Some(1280));
    search.answered(1280);
    assert!(!search.is_exact());
    assert_eq!(Path::silent(1500).run(&mut search).mtu, 1500);
}

#[test]
fn words_that_cannot_be_are_ignored() {
    let mut search = search(9000, false);
    search.lost(9000);
    search.answered(1500);
    for mtu in [
        None,
        Some(0),
        Some(1280),
        Some(1500),
        Some(1503),
        Some(8500),
        Some(u32::MAX),
    ] {
        assert_eq!(search.too_big(8500, mtu, true), HintUse::Ignored, "{mtu:?}");
    }
    assert_eq!(search.too_big(8500, Some(1504), true), HintUse::Tried);
}

#[test]
fn two_narrow_places_one_after_the_other() {
    let mut search = search(1500, false);
    assert_eq!(search.next(), Some(1500));
    search.too_big(1500, Some(1480), true);
    assert_eq!(search.next(), Some(1480));
    search.too_big(1480, Some(1400), true);
    assert_eq!(search.next(), Some(1400));
    search.answered(1400);
    assert_eq!(
        (search.next(), search.mtu(), search.upper()),
        (None, 1400, Some(1401))
    );
}

/// One in twenty packets is lost in each direction: nearly one in ten probes.
#[test]
fn random_loss_hardly_ever_misleads() {
    const RUNS: u64 = 4000;
    for refine in [false, true] {
        for (mtu, cap, ..) in SILENT {
            let mut wrong = 0;
            for seed in 1..=RUNS {
                let mut path = Path {
                    loss: 50,
                    random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
                    ..Path::silent(mtu)
                };
                let cost = path.run(&mut search(cap, refine));
                wrong += u64::from(cost.mtu != mtu);
            }
            assert!(
                wrong * 200 < RUNS,
                "{mtu} of {cap}: {wrong} of {RUNS} wrong"
            );
        }
    }
}

#[test]
fn what_this_host_refuses_lowers_the_cap() {
    let mut search = search(9216, false);
    assert_eq!(search.next(), Some(9216));
    search.too_big_here(9216, Some(1500));
    assert_eq!(search.next(), Some(1500));
    search.answered(1500);
    assert_eq!(
        (search.next(), search.upper(), search.is_exact()),
        (None, None, true)
    );

    // It does not say how much it would send.
    let mut search = self::search(9216, false);
    let mut sent = 0;
    while let Some(size) = search.next() {
        if size > 1500 {
            search.too_big_here(size, None);
        } else {
            search.answered(size);
            sent += 1;
        }
    }
    assert_eq!((search.mtu(), search.is_exact(), sent), (1500, true, 1));
    assert_eq!(search.silent_from(), None);
}

#[test]
fn sizes_that_are_added_are_known_to_the_byte() {
    let mut search = search(9000, false);
    Path::silent(8220).run(&mut search);
    assert_eq!((search.mtu(), search.upper()), (4000, Some(8500)));
    search.add_sizes([2076, 4124, 8220]);
    let cost = Path::silent(8220).run(&mut search);
    assert_eq!((cost.mtu, search.upper()), (8220, Some(8224)));
    assert_eq!(cost.probes, 4);
}
