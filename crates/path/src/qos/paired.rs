//! Intervals for the difference between two series that were measured in pairs.

use serde::Serialize;

/// A value, and the interval that holds it with the confidence that the report states.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The likeliest value.
    pub value: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Estimate {
    /// Whether 0 is outside the interval: there is a difference, at that confidence.
    #[must_use]
    pub fn excludes_zero(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

/// Up to here the distribution of the signed ranks is counted out; beyond it is close to normal.
const EXACT: usize = 50;

/// By how much one of two paired series is above the other, from the differences: the Hodges-Lehmann
/// estimate, and the interval of Wilcoxon's signed-rank test (Hollander, Wolfe and Chicken,
/// Nonparametric Statistical Methods, §3.2 and §3.3).
///
/// It is wrong with a probability of at most `alpha`. `None` when there are too few differences for that.
pub(super) fn shift(differences: &[f64], alpha: f64) -> Option<Estimate> {
    let outside = ranks_outside(differences.len(), alpha)?;
    let averages = differences.len() * (differences.len() + 1) / 2;
    let mut walsh = Vec::with_capacity(averages);
    for (at, one) in differences.iter().enumerate() {
        walsh.extend(
            differences[at..]
                .iter()
                .map(|other| f64::midpoint(*one, *other)),
        );
    }
    let mut at = |place: usize| *walsh.select_nth_unstable_by(place, f64::total_cmp).1;
    Some(Estimate {
        low: at(outside),
        value: f64::midpoint(at((averages - 1) / 2), at(averages / 2)),
        high: at(averages - 1 - outside),
    })
}

/// How many of the Walsh averages, in order, lie outside the interval on either side. `None` where even the
/// widest interval is wrong too often.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a run has at most some thousand pairs, and the maximum with 0 has a sign"
)]
fn ranks_outside(pairs: usize, alpha: f64) -> Option<usize> {
    if pairs == 0 {
        return None;
    }
    let ranks = pairs * (pairs + 1) / 2;
    if pairs > EXACT {
        let n = pairs as f64;
        let deviation = (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0).sqrt();
        let critical = ranks as f64 / 2.0 - normal_quantile(alpha / 2.0) * deviation;
        return Some((critical.floor() - 1.0).max(0.0) as usize);
    }
    // Each rank is positive or negative, as likely: the probability of every sum of the positive ones.
    let mut probability = vec![0.0_f64; ranks + 1];
    probability[0] = 1.0;
    for rank in 1..=pairs {
        for sum in (0..=rank * (rank + 1) / 2).rev() {
            let with = sum
                .checked_sub(rank)
                .map_or(0.0, |below| probability[below]);
            probability[sum] = f64::midpoint(probability[sum], with);
        }
    }
    let mut below = 0.0;
    let within = probability.iter().take_while(|p| {
        below += **p;
        below <= alpha / 2.0
    });
    within.count().checked_sub(1)
}

/// How often each outcome came in pairs of probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PairedLosses {
    /// Both arrived, or both were lost.
    pub(super) alike: u32,
    /// The first alone was lost.
    pub(super) first_only: u32,
    /// The second alone was lost.
    pub(super) second_only: u32,
}

impl PairedLosses {
    /// How much likelier the first is lost than the second, -1 to 1: the interval of Agresti and Min (Statistics in
    /// Medicine 24, 2005), Wald's with half an observation added to each of the four cells, which is for pairs
    /// what Agresti and Caffo's is for independent samples.
    pub(super) fn difference(self, alpha: f64) -> Estimate {
        let (first, second) = (f64::from(self.first_only), f64::from(self.second_only));
        let pairs = f64::from(self.alike) + first + second;
        let (n, discordant) = (pairs + 2.0, first + second + 1.0);
        let centre = (first - second) / n;
        let error = (discordant / n - centre * centre).max(0.0).sqrt() / n.sqrt();
        let reach = normal_quantile(alpha / 2.0) * error;
        Estimate {
            value: if pairs > 0.0 {
                (first - second) / pairs
            } else {
                0.0
            },
            low: (centre - reach).max(-1.0),
            high: (centre + reach).min(1.0),
        }
    }

    /// How likely at most it is that so many more of the pairs lost the first alone, if both are lost alike:
    /// the sign test, which for proportions bears the name of `McNemar` (Psychometrika 12, 1947).
    pub(super) fn chance_of_first(self) -> f64 {
        let (first, discordant) = (self.first_only, self.first_only + self.second_only);
        // The upper tail of a binomial distribution with probability 1/2, term by term in logarithms.
        let mut log_choose = 0.0_f64;
        let mut chance = 0.0;
        for lost in (0..=discordant).rev() {
            if lost < first {
                break;
            }
            chance += (log_choose - f64::from(discordant) * std::f64::consts::LN_2).exp();
            log_choose += (f64::from(lost) / f64::from(discordant - lost + 1)).ln();
        }
        f64::min(chance, 1.0)
    }
}

/// The value that a standard normal variable exceeds with this probability, which is above 0 and at most 1/2:
/// Abramowitz and Stegun, Handbook of Mathematical Functions, 26.2.23; off by less than 0.00045.
fn normal_quantile(tail: f64) -> f64 {
    let t = (-2.0 * tail.ln()).sqrt();
    let above = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let below = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    t - above / below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_quantiles_are_those_of_the_tables() {
        for (tail, quantile) in [
            (0.5, 0.0),
            (0.05, 1.644_854),
            (0.025, 1.959_964),
            (0.005, 2.575_829),
        ] {
            assert!((normal_quantile(tail) - quantile).abs() < 4.5e-4, "{tail}");
        }
    }

    /// Critical values of the signed-rank test for 5% on both sides together; `psignrank` of R gives the same.
    #[test]
    fn the_interval_leaves_out_what_the_tables_say() {
        for (pairs, outside) in [
            (6, 0),
            (7, 2),
            (8, 3),
            (10, 8),
            (15, 25),
            (20, 52),
            (25, 89),
        ] {
            assert_eq!(ranks_outside(pairs, 0.05), Some(outside), "{pairs}");
        }
        assert_eq!(ranks_outside(5, 0.05), None);
        assert_eq!(ranks_outside(0, 0.05), None);
        // 434 by the tables.
        assert_eq!(ranks_outside(50, 0.05), Some(434));
        assert!(ranks_outside(51, 0.05).is_some_and(|outside| (440..470).contains(&outside)));
    }

    #[test]
    fn a_known_shift() {
        let estimate = shift(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 0.05).expect("seven");
        assert!((estimate.value - 4.0).abs() < 1e-9);
        // The third from either end of the 28 Walsh averages.
        assert!((estimate.low - 2.0).abs() < 1e-9 && (estimate.high - 6.0).abs() < 1e-9);
        assert!(estimate.excludes_zero());
        assert_eq!(shift(&[1.0; 5], 0.05), None);
    }

    #[test]
    fn chances_of_the_sign_test() {
        let chance = |first_only, second_only| {
            PairedLosses {
                alike: 9,
                first_only,
                second_only,
            }
            .chance_of_first()
        };
        assert!((chance(0, 0) - 1.0).abs() < 1e-12);
        assert!((chance(10, 0) - 1.0 / 1024.0).abs() < 1e-12);
        assert!((chance(3, 1) - 5.0 / 16.0).abs() < 1e-12);
        assert!((chance(0, 3) - 1.0).abs() < 1e-12);
        assert!(chance(1000, 0) < 1e-300);
    }

    #[test]
    fn losses_of_few_pairs_say_little() {
        let none = PairedLosses::default().difference(0.05);
        assert!(none.low < -0.9 && none.high > 0.9);
        let many = PairedLosses {
            alike: 60,
            first_only: 40,
            second_only: 0,
        };
        let many = many.difference(0.05);
        assert!((many.value - 0.4).abs() < 1e-9 && many.low > 0.29 && many.high < 0.5);
    }
}
