//! What the probes of a mark say, beside those of best effort.
//!
//! **Round trips** are compared within blocks: the difference between the probe of the mark and that
//! of CS0 which was sent next to it. Drift is in both and falls out. If the path does not look at marks, the two
//! could as well have been sent in the other order, so the difference is as often above 0 as below: exactly what
//! Wilcoxon's signed-rank test assumes, whatever the distribution of round trips, whose
//! long tail makes means useless. Its interval, around the Hodges-Lehmann estimate, is exact for
//! few probes, where a bootstrap is not.
//!
//! **Losses** are compared by the same pairs, because they too come in bursts: the interval of Agresti and Min.
//!
//! **All intervals of a run together** are wrong with at most the probability that the confidence leaves:
//! each is made for its share of it (Bonferroni). Holm's way would find a little more, but has no intervals, and a
//! verdict without one says nothing about what could have been missed.
//!
//! **A verdict needs two things**: an interval without 0, and a difference that matters. A busy machine
//! delays a mark by microseconds that enough probes would show.

use std::{fmt, time::Duration};

use serde::Serialize;

use super::paired::{Estimate, PairedLosses, shift};

/// How sure a verdict is, and from where on a difference matters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Significance {
    /// The probability that not one interval of the run is wrong; above 0.5, below 1. Default 0.99: of
    /// a hundred runs over a path that treats all marks alike, one may say something else.
    pub confidence: f64,
    /// The smallest difference of round trips that matters. Default 1 ms: less than the shortest
    /// frame of Opus (2.5 ms, RFC 6716 §2.1.4), and more than what clocks without kernel
    /// timestamps are off on a busy machine.
    #[serde(rename = "min_rtt_us", serialize_with = "super::as_micros")]
    pub min_rtt: Duration,
    /// The smallest difference of loss that matters, 0 to 1. Default 0.01, what video bears (ITU-T G.1010, table I.1).
    pub min_loss: f64,
    /// The probability at most with which a mark that is not is called [`Dead`](Verdict::Dead), for the
    /// run. Default 0.001: others act on it.
    pub false_dead: f64,
}

impl Default for Significance {
    fn default() -> Self {
        Self {
            confidence: 0.99,
            min_rtt: Duration::from_millis(1),
            min_loss: 0.01,
            false_dead: 0.001,
        }
    }
}

/// What the path does to a mark that it does not do to best effort.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
#[non_exhaustive]
pub enum Verdict {
    /// Nothing that these probes could show. The intervals say how much could have been missed.
    NoMeasurableDifference,
    /// Too few probes were answered to say anything about round trips.
    TooFew,
    /// Shorter round trips.
    Faster {
        /// By so many microseconds.
        by_us: f64,
    },
    /// Longer round trips.
    Slower {
        /// By so many microseconds.
        by_us: f64,
    },
    /// More probes lost.
    MoreLoss {
        /// By this share of all probes, 0 to 1.
        by: f64,
    },
    /// Fewer probes lost.
    LessLoss {
        /// By this share of all probes, 0 to 1.
        by: f64,
    },
    /// Nothing with this mark arrives: a black hole (RFC 8835 §4.2).
    Dead,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMeasurableDifference => f.write_str("no measurable difference"),
            Self::TooFew => f.write_str("too few answers"),
            Self::Faster { by_us } => write!(f, "faster by {:.1} ms", by_us / 1e3),
            Self::Slower { by_us } => write!(f, "slower by {:.1} ms", by_us / 1e3),
            Self::MoreLoss { by } => write!(f, "loses {:.1}% more", by * 1e2),
            Self::LessLoss { by } => write!(f, "loses {:.1}% less", by * 1e2),
            Self::Dead => f.write_str("dead"),
        }
    }
}

/// A mark beside best effort.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// Blocks in which both were answered.
    pub pairs: u32,
    /// Blocks in which the mark's probe was lost and that of best effort answered.
    pub lost_alone: u32,
    /// How much longer the round trips of the mark are, in microseconds. `None` where there are too few pairs.
    pub rtt_difference_us: Option<Estimate>,
    /// How much more of the mark's probes are lost, -1 to 1.
    pub loss_difference: Estimate,
    /// What follows; never empty.
    pub verdicts: Vec<Verdict>,
}

/// What became of a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sample {
    /// It was not sent, because the run ended before.
    #[default]
    NotSent,
    /// No answer came in time.
    Lost,
    /// The answer came after this time.
    Answered(Duration),
}

/// Compares the probes of a mark, by block, with those of best effort, as one of `comparisons` of the run.
pub(super) fn compare(
    mark: &[Sample],
    reference: &[Sample],
    comparisons: usize,
    significance: &Significance,
) -> Comparison {
    let shares = f64::from(u32::try_from(comparisons.max(1)).unwrap_or(u32::MAX));
    // Each comparison has two intervals.
    let alpha = (1.0 - significance.confidence) / (2.0 * shares);
    let mut losses = PairedLosses::default();
    let mut differences = Vec::with_capacity(mark.len());
    let mut answered = 0_u32;
    for pair in mark.iter().zip(reference) {
        match pair {
            (Sample::NotSent, _) | (_, Sample::NotSent) => continue,
            (Sample::Lost, Sample::Lost) => losses.alike += 1,
            (Sample::Lost, Sample::Answered(_)) => losses.first_only += 1,
            (Sample::Answered(_), Sample::Lost) => losses.second_only += 1,
            (Sample::Answered(one), Sample::Answered(other)) => {
                losses.alike += 1;
                differences.push((one.as_secs_f64() - other.as_secs_f64()) * 1e6);
            }
        }
        answered += u32::from(matches!(pair.0, Sample::Answered(_)));
    }
    let dead = answered == 0 && losses.chance_of_first() <= significance.false_dead / shares;
    let lost_alone = losses.first_only;
    let rtt_difference_us = shift(&differences, alpha);
    let loss_difference = losses.difference(alpha);
    Comparison {
        pairs: u32::try_from(differences.len()).unwrap_or(u32::MAX),
        lost_alone,
        rtt_difference_us,
        loss_difference,
        verdicts: verdicts(dead, rtt_difference_us, loss_difference, significance),
    }
}

fn verdicts(
    dead: bool,
    rtt_us: Option<Estimate>,
    loss: Estimate,
    significance: &Significance,
) -> Vec<Verdict> {
    if dead {
        return vec![Verdict::Dead];
    }
    let matters = |estimate: Estimate, least: f64| {
        (estimate.excludes_zero() && estimate.value.abs() >= least).then_some(estimate.value)
    };
    let mut verdicts = Vec::new();
    let least_us = significance.min_rtt.as_secs_f64() * 1e6;
    match rtt_us.and_then(|estimate| matters(estimate, least_us)) {
        Some(by_us) if by_us < 0.0 => verdicts.push(Verdict::Faster { by_us: -by_us }),
        Some(by_us) => verdicts.push(Verdict::Slower { by_us }),
        None => {}
    }
    match matters(loss, significance.min_loss) {
        Some(by) if by < 0.0 => verdicts.push(Verdict::LessLoss { by: -by }),
        Some(by) => verdicts.push(Verdict::MoreLoss { by }),
        None => {}
    }
    if rtt_us.is_none() {
        verdicts.push(Verdict::TooFew);
    } else if verdicts.is_empty() {
        verdicts.push(Verdict::NoMeasurableDifference);
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::{super::random::Random, *};

    const MARKS: usize = 6;
    const BLOCKS: usize = 50;

    /// A path that does not look at marks: 20 ms, a queue that drifts by 10 ms, jitter with a long tail, and losses of
    /// which some come in bursts that last for blocks.
    fn neutral(random: &mut Random, loss: f64) -> Vec<Vec<Sample>> {
        let mut all = vec![vec![Sample::NotSent; BLOCKS]; MARKS];
        let (mut queue, mut burst) = (0.0_f64, false);
        for block in 0..BLOCKS {
            burst = random.unit() < if burst { 0.5 } else { loss };
            for of_mark in &mut all {
                queue = (queue + (random.unit() - 0.5) * 2e-3).clamp(0.0, 10e-3);
                let mut jitter = -2e-3 * (1.0 - random.unit()).ln();
                if random.unit() < 0.02 {
                    jitter += 0.1 * random.unit();
                }
                let dropped = random.unit() < if burst { 0.5 } else { loss };
                of_mark[block] = if dropped {
                    Sample::Lost
                } else {
                    Sample::Answered(Duration::from_secs_f64(20e-3 + queue + jitter))
                };
            }
        }
        all
    }

    fn compare_all(samples: &[Vec<Sample>], significance: &Significance) -> Vec<Comparison> {
        let others = samples[1..].iter();
        others
            .map(|mark| compare(mark, &samples[0], MARKS - 1, significance))
            .collect()
    }

    /// In how many of 200 runs anything at all is found.
    fn runs_with_a_difference(significance: &Significance, loss: f64) -> usize {
        let found = (0..200).filter(|seed| {
            let samples = neutral(&mut Random::new(*seed), loss);
            let comparisons = compare_all(&samples, significance);
            comparisons
                .iter()
                .any(|c| c.verdicts != [Verdict::NoMeasurableDifference])
        });
        found.count()
    }

    #[test]
    fn a_neutral_path_has_no_difference_in_more_than_95_percent_of_runs() {
        for loss in [0.0, 0.05, 0.2] {
            let found = runs_with_a_difference(&Significance::default(), loss);
            assert!(found < 10, "{found} of 200 at a loss of {loss}");
        }
    }

    /// Without the help of the sizes that matter: at 95%, 10 of 200 runs are to be expected, and more
    /// than 20 are not.
    #[test]
    fn the_intervals_keep_their_promise_by_themselves() {
        let statistics_alone = Significance {
            confidence: 0.95,
            min_rtt: Duration::ZERO,
            min_loss: 0.0,
            ..Significance::default()
        };
        for loss in [0.0, 0.2] {
            let found = runs_with_a_difference(&statistics_alone, loss);
            assert!(found <= 20, "{found} of 200 at a loss of {loss}");
        }
    }

    fn slower(samples: &mut [Sample], by: Duration) {
        for sample in samples {
            if let Sample::Answered(rtt) = sample {
                *rtt += by;
            }
        }
    }

    #[test]
    fn three_milliseconds_are_found() {
        let (mut right, mut inside) = (0, 0);
        for seed in 0..100 {
            let mut samples = neutral(&mut Random::new(seed), 0.02);
            slower(&mut samples[2], Duration::from_millis(3));
            let significance = Significance::default();
            let found = compare_all(&samples, &significance);
            // The same, seen from the other side.
            let back = compare(&samples[0], &samples[2], MARKS - 1, &significance);
            right += u32::from(matches!(
                (&found[1].verdicts[..], &back.verdicts[..]),
                ([Verdict::Slower { by_us }], [Verdict::Faster { by_us: back_us }])
                    if (1_000.0..6_000.0).contains(by_us) && (by_us - back_us).abs() < 1e-3
            ));
            let interval = found[1].rtt_difference_us.expect("enough pairs");
            inside += u32::from((interval.low..interval.high).contains(&3_000.0));
        }
        assert!(right >= 95, "found in {right} of 100 runs");
        assert!(inside >= 97, "the truth is in {inside} of 100 intervals");
    }

    #[test]
    fn what_is_found_has_to_matter() {
        let mut samples = neutral(&mut Random::new(1), 0.0);
        samples[1] = samples[0].clone();
        slower(&mut samples[1], Duration::from_micros(900));
        let found = compare_all(&samples, &Significance::default());
        assert!(
            found[0]
                .rtt_difference_us
                .is_some_and(|d| d.excludes_zero())
        );
        assert_eq!(found[0].verdicts, [Verdict::NoMeasurableDifference]);
    }

    #[test]
    fn a_mark_that_loses_half_is_not_dead() {
        for seed in 0..100 {
            let mut samples = neutral(&mut Random::new(seed), 0.01);
            for sample in samples[3].iter_mut().step_by(2) {
                *sample = Sample::Lost;
            }
            let found = compare_all(&samples, &Significance::default());
            assert!(
                matches!(found[2].verdicts[..], [Verdict::MoreLoss { by }] if (0.3..0.7).contains(&by)),
                "seed {seed}: {:?}",
                found[2]
            );
        }
    }

    #[test]
    fn a_mark_is_dead_when_the_losses_of_the_path_cannot_explain_it() {
        let all_lost = |blocks| vec![Sample::Lost; blocks];
        let arrives = Sample::Answered(Duration::from_millis(20));
        let verdicts = |blocks: usize, arrived: usize| {
            let mut reference = all_lost(blocks);
            reference[..arrived].fill(arrives);
            let significance = Significance::default();
            compare(&all_lost(blocks), &reference, 5, &significance).verdicts
        };
        assert_eq!(verdicts(50, 50), [Verdict::Dead]);
        assert_eq!(verdicts(50, 13), [Verdict::Dead]);
        // 2^-12 is more than 0.001 in 5 comparisons.
        assert!(!verdicts(12, 12).contains(&Verdict::Dead));
        assert_eq!(verdicts(50, 0), [Verdict::TooFew]);
        assert_eq!(verdicts(0, 0), [Verdict::TooFew]);
    }

    #[test]
    fn heavy_losses_kill_no_mark() {
        for seed in 0..300 {
            let samples = neutral(&mut Random::new(seed), 0.8);
            for found in compare_all(&samples, &Significance::default()) {
                assert!(!found.verdicts.contains(&Verdict::Dead), "seed {seed}");
            }
        }
    }
}
