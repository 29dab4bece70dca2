//! What a benchmark is, and what it hands back.

use serde::{Deserialize, Serialize};

use crate::measure::{Sample, Spread};

/// Something to be measured: all that is compared in it runs in turn, several rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Benchmark {
    /// What it is chosen by on the command line.
    pub(crate) name: &'static str,
    /// What it measures, in one line.
    pub(crate) about: &'static str,
    /// Measures.
    pub(crate) run: fn(&Options) -> anyhow::Result<Outcome>,
}

/// How thoroughly to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Fewer rounds of less work each: shows that it runs, and roughly how fast.
    pub(crate) quick: bool,
    /// How often everything that is compared runs.
    pub(crate) rounds: usize,
}

/// What a benchmark found.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// All figures.
    pub(crate) rows: Vec<Row>,
    /// Those that there is a bar for, by its id; see [`crate::bars`].
    pub(crate) bars: Vec<(String, f64)>,
    /// What has to be known of a bar, by its id: why it has no value, if it has none.
    pub(crate) remarks: Vec<(String, String)>,
}

/// One figure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// What was measured, from the general to the particular: `send/v4/1200/loopback/options`.
    pub(crate) name: String,
    /// The unit of `median`, `min` and `max`.
    pub(crate) unit: String,
    /// Median of the rounds.
    pub(crate) median: f64,
    /// Least of the rounds.
    pub(crate) min: f64,
    /// Greatest of the rounds.
    pub(crate) max: f64,
    /// How many of what is counted there were in a second, by the clock on the wall; median of the rounds.
    pub(crate) per_second: Option<f64>,
    /// What it is compared with, and the ratio of this one to that one, a median as well.
    pub(crate) against: Option<(String, f64)>,
    /// What has to be known to read the figure.
    pub(crate) note: Option<String>,
}

impl Outcome {
    /// The value of a bar.
    pub(crate) fn bar(&mut self, id: &str, value: f64) {
        self.bars.push((id.to_owned(), value));
    }

    /// Says what has to be known of a bar: why it has no value, if it has none.
    pub(crate) fn remark(&mut self, id: &str, text: impl Into<String>) {
        self.remarks.push((id.to_owned(), text.into()));
    }

    /// Adds what another found.
    pub(crate) fn add(&mut self, other: Self) {
        self.rows.extend(other.rows);
        self.bars.extend(other.bars);
        self.remarks.extend(other.remarks);
    }
}

impl Row {
    /// A figure with its spread over the rounds.
    pub(crate) fn new(name: impl Into<String>, unit: &str, spread: Spread) -> Self {
        Self {
            name: name.into(),
            unit: unit.to_owned(),
            median: spread.median,
            min: spread.min,
            max: spread.max,
            per_second: None,
            against: None,
            note: None,
        }
    }

    /// How many there were in a second.
    #[must_use]
    pub(crate) fn per_second(mut self, per_second: f64) -> Self {
        self.per_second = Some(per_second);
        self
    }

    /// What it is compared with.
    #[must_use]
    pub(crate) fn against(mut self, other: &Row) -> Self {
        self.against = Some((other.name.clone(), self.median / other.median));
        self
    }

    /// What has to be known to read it.
    #[must_use]
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

/// Rows of processor time for one of what was counted, nanoseconds, and how many in a second.
pub(crate) fn rows<'a>(samples: impl Iterator<Item = (&'a str, &'a Vec<Sample>)>) -> Vec<Row> {
    let row = |(name, samples): (&str, &Vec<Sample>)| {
        let cpu = Spread::of(samples.iter().map(Sample::nanoseconds));
        let rate = Spread::of(samples.iter().map(Sample::per_second));
        Row::new(name, "ns CPU", cpu).per_second(rate.median)
    };
    samples.map(row).collect()
}

/// How the processor time of one compares with that of another: the median of the ratios within each round. What the rest
/// of the machine does changes from round to round, and takes from both alike.
pub(crate) fn ratio(samples: &[Sample], base: &[Sample]) -> f64 {
    let pairs = samples.iter().zip(base);
    Spread::of(pairs.map(|(one, other)| one.nanoseconds() / other.nanoseconds())).median
}

/// Compares each row with that of number `base`, whose samples are at the same place.
pub(crate) fn compare_all(rows: &mut [Row], samples: &[Vec<Sample>], base: usize) {
    let name = rows[base].name.clone();
    for (at, row) in rows.iter_mut().enumerate() {
        if at != base {
            row.against = Some((name.clone(), ratio(&samples[at], &samples[base])));
        }
    }
}
