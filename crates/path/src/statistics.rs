use std::{collections::VecDeque, time::Duration};

use serde::{Serialize, Serializer};

/// How many round trips the median and the 95th percentile look back on.
const WINDOW: usize = 1024;

/// What was measured of the round trips of a series of probes.
///
/// It serialises with times in microseconds, as their names say (`best_us`), and `null` for what there
/// is none of yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RttStatistics {
    /// Probes that went out.
    pub sent: u64,
    /// Probes that something came back for.
    pub received: u64,
    /// Probes that nothing came back for in time. What is neither received nor lost is still out.
    pub lost: u64,
    /// The newest round trip.
    #[serde(rename = "last_us", serialize_with = "microseconds")]
    pub last: Option<Duration>,
    /// The shortest round trip.
    #[serde(rename = "best_us", serialize_with = "microseconds")]
    pub best: Option<Duration>,
    /// The arithmetic mean of all round trips.
    #[serde(rename = "mean_us", serialize_with = "microseconds")]
    pub mean: Option<Duration>,
    /// The median of the newest 1,024 round trips; of an even number, the lower of the two in the middle.
    #[serde(rename = "median_us", serialize_with = "microseconds")]
    pub median: Option<Duration>,
    /// The 95th percentile of the newest 1,024 round trips, by the nearest rank: at least 95% took no
    /// longer.
    #[serde(rename = "p95_us", serialize_with = "microseconds")]
    pub p95: Option<Duration>,
    /// The longest round trip.
    #[serde(rename = "worst_us", serialize_with = "microseconds")]
    pub worst: Option<Duration>,
    /// The standard deviation of all round trips, from two on.
    #[serde(rename = "std_deviation_us", serialize_with = "microseconds")]
    pub std_deviation: Option<Duration>,
    /// The mean absolute difference between a round trip and the one before it, from two on.
    ///
    /// RFC 3550 §6.4.1 smooths the same differences by 1/16, which starts at zero and needs some fifty
    /// of them: too many here.
    #[serde(rename = "jitter_us", serialize_with = "microseconds")]
    pub jitter: Option<Duration>,
}

impl RttStatistics {
    /// The share of probes that were lost, 0 to 1, of those that are decided. `None` while none is.
    #[must_use]
    pub fn loss(&self) -> Option<f64> {
        loss(self.received, self.lost)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a share of 2^53 probes can be a little off"
)]
fn loss(received: u64, lost: u64) -> Option<f64> {
    let decided = received + lost;
    (decided > 0).then(|| lost as f64 / decided as f64)
}

/// Gathers [`RttStatistics`] in bounded memory, at most 8 KiB.
#[derive(Clone, Debug, Default)]
pub struct RttRecorder {
    sent: u64,
    received: u64,
    lost: u64,
    last: Option<Duration>,
    best: Option<Duration>,
    worst: Option<Duration>,
    /// Seconds: the mean, and the sum of squared distances from it (Welford's way).
    mean: f64,
    squares: f64,
    /// Seconds: the sum of absolute differences.
    differences: f64,
    /// Nanoseconds, the newest last.
    window: VecDeque<u64>,
}

impl RttRecorder {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A probe went out.
    pub fn sent(&mut self) {
        self.sent += 1;
    }

    /// Nothing has come back for a probe that went out.
    pub fn lost(&mut self) {
        self.lost += 1;
    }

    /// Something has come back for a probe that went out, after this time.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a mean over 2^53 round trips can be a little off"
    )]
    pub fn received(&mut self, rtt: Duration) {
        self.received += 1;
        let seconds = rtt.as_secs_f64();
        let distance = seconds - self.mean;
        self.mean += distance / self.received as f64;
        self.squares += distance * (seconds - self.mean);
        if let Some(last) = self.last {
            self.differences += last.abs_diff(rtt).as_secs_f64();
        }
        self.last = Some(rtt);
        self.best = Some(self.best.map_or(rtt, |best| best.min(rtt)));
        self.worst = Some(self.worst.map_or(rtt, |worst| worst.max(rtt)));
        if self.window.len() == WINDOW {
            self.window.pop_front();
        }
        // More than 584 years do not fit.
        self.window
            .push_back(u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX));
    }

    /// The share of probes that were lost, as [`RttStatistics::loss`] has it.
    #[must_use]
    pub fn loss(&self) -> Option<f64> {
        loss(self.received, self.lost)
    }

    /// What there is so far.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a mean over 2^53 round trips can be a little off"
    )]
    pub fn statistics(&self) -> RttStatistics {
        let mut sorted: Vec<u64> = self.window.iter().copied().collect();
        sorted.sort_unstable();
        let pairs = self.received.saturating_sub(1);
        // Rounding can bring a sum below zero.
        let seconds = |value: f64| Duration::from_secs_f64(value.max(0.0));
        RttStatistics {
            sent: self.sent,
            received: self.received,
            lost: self.lost,
            last: self.last,
            best: self.best,
            mean: (self.received > 0).then(|| seconds(self.mean)),
            median: percentile(&sorted, 50),
            p95: percentile(&sorted, 95),
            worst: self.worst,
            std_deviation: (pairs > 0)
                .then(|| seconds((self.squares / pairs as f64).max(0.0).sqrt())),
            jitter: (pairs > 0).then(|| seconds(self.differences / pairs as f64)),
        }
    }
}

/// The value at the nearest rank, of values in order: the smallest that so many percent do not exceed.
fn percentile(sorted: &[u64], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted
        .get(rank.checked_sub(1)?)
        .map(|nanoseconds| Duration::from_nanos(*nanoseconds))
}

/// As a number of microseconds; the kernel's timestamps have nanoseconds, which are its decimals.
#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
pub(crate) fn microseconds<S: Serializer>(
    time: &Option<Duration>,
    output: S,
) -> Result<S::Ok, S::Error> {
    time.map(|time| (time.as_secs_f64() * 1e9).round() / 1e3)
        .serialize(output)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "as the fields have it")]
    const fn us(value: u64) -> Option<Duration> {
        Some(Duration::from_micros(value))
    }

    fn of(rtts: &[u64]) -> RttStatistics {
        let mut recorder = RttRecorder::new();
        for rtt in rtts {
            recorder.sent();
            recorder.received(Duration::from_micros(*rtt));
        }
        recorder.statistics()
    }

    #[test]
    fn nothing_is_known_of_nothing() {
        assert_eq!(RttRecorder::new().statistics(), RttStatistics::default());
        assert_eq!(RttStatistics::default().loss(), None);
    }

    #[test]
    fn one_round_trip_has_no_spread() {
        let one = of(&[20_000]);
        for value in [one.last, one.best, one.mean, one.median, one.p95, one.worst] {
            assert_eq!(value, us(20_000));
        }
        assert_eq!((one.std_deviation, one.jitter), (None, None));
    }

    #[test]
    fn a_known_series() {
        let series = of(&[2, 4, 4, 4, 5, 5, 7, 9]);
        assert_eq!(series.last, us(9));
        assert_eq!(series.best, us(2));
        assert_eq!(series.worst, us(9));
        assert_eq!(series.mean, us(5));
        assert_eq!(series.median, us(4));
        assert_eq!(series.p95, us(9));
        // 2 + 0 + 0 + 1 + 0 + 2 + 2, by 7.
        assert_eq!(series.jitter, us(1));
        // 32, by 7, the root.
        let deviation = series.std_deviation.expect("eight values").as_secs_f64();
        assert!((deviation * 1e6 - 2.138).abs() < 0.001, "{deviation}");
    }

    #[test]
    fn p95_is_the_value_that_95_percent_do_not_exceed() {
        let hundred: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(of(&hundred).p95, us(95));
        assert_eq!(of(&hundred).median, us(50));
    }

    #[test]
    fn losses_count_among_what_is_decided() {
        let mut recorder = RttRecorder::new();
        for _ in 0..5 {
            recorder.sent();
        }
        recorder.lost();
        for _ in 0..3 {
            recorder.received(Duration::from_millis(1));
        }
        let statistics = recorder.statistics();
        assert_eq!(
            (statistics.sent, statistics.received, statistics.lost),
            (5, 3, 1)
        );
        assert_eq!(statistics.loss(), Some(0.25));
    }

    #[test]
    fn memory_is_bounded_and_the_newest_count() {
        let mut recorder = RttRecorder::new();
        for rtt in 0..5_000 {
            recorder.received(Duration::from_micros(rtt));
        }
        assert_eq!(recorder.window.len(), WINDOW);
        let statistics = recorder.statistics();
        assert_eq!(statistics.best, us(0));
        assert_eq!(statistics.median, us(5_000 - 1024 + 511));
    }

    #[test]
    fn fields_say_their_unit() {
        let json = serde_json::to_value(of(&[1_500, 2_500])).expect("serialises");
        let micros = |name: &str| json[name].as_f64();
        assert_eq!(micros("best_us"), Some(1_500.0));
        assert_eq!(micros("mean_us"), Some(2_000.0));
        assert_eq!(micros("jitter_us"), Some(1_000.0));
        assert_eq!(json["received"], 2);
        assert!(of(&[]).best.is_none());
    }

    proptest! {
        #[test]
        fn values_are_in_order(rtts in prop::collection::vec(0..10_000_000_u64, 1..300)) {
            let values = of(&rtts);
            prop_assert!(values.best <= values.median);
            prop_assert!(values.median <= values.p95);
            prop_assert!(values.p95 <= values.worst);
            prop_assert!(values.best <= values.mean.map(|mean| mean + Duration::from_nanos(1)));
            prop_assert!(values.mean <= values.worst.map(|worst| worst + Duration::from_nanos(1)));
        }

        #[test]
        fn no_duration_panics(nanos in prop::collection::vec(any::<u64>(), 0..20)) {
            let mut recorder = RttRecorder::new();
            for nanos in nanos {
                recorder.received(Duration::from_nanos(nanos));
            }
            let _ = recorder.statistics();
        }
    }
}
