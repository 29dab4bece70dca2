//! Chance that can be repeated.

/// The `SplitMix64` generator: good enough for losses, and the same everywhere.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// A sequence of its own for each pair.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut seeds = Self(seed);
        Self(seeds.next() ^ stream.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True with this probability.
    pub(super) fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// 0 to `most`, `most` included.
    pub(super) fn up_to(&mut self, most: u64) -> u64 {
        let product = u128::from(self.next()) * (u128::from(most) + 1);
        (product >> 64) as u64
    }

    /// 0.0 up to but not including 1.0, in steps of 2^-53.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are an f64's own")]
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn repeats_and_differs() {
        let draw = |seed, stream| {
            let mut random = Random::new(seed, stream);
            [(); 8].map(|()| random.up_to(u64::MAX))
        };
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_ne!(draw(1, 2), draw(2, 2));
    }

    #[test]
    fn keeps_its_probability_and_range() {
        let mut random = Random::new(1, 1);
        let hits = (0..100_000).filter(|_| random.happens(0.05)).count();
        assert!((4_700..5_300).contains(&hits), "{hits}");
        let mut seen = [0; 4];
        for _ in 0..4_000 {
            seen[usize::try_from(random.up_to(3)).unwrap()] += 1;
        }
        assert!(seen.iter().all(|n| (800..1_200).contains(n)), "{seen:?}");
        assert!(!random.happens(0.0) && random.happens(1.0) && random.up_to(0) == 0);
    }
}
