//! Time that is spent, and what many rounds of it come to.

use std::{
    fs, io,
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Runtime};

/// Median, least and greatest of several rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// What one round took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// Processor time.
    pub(crate) cpu: Duration,
    /// Time by the clock on the wall.
    pub(crate) wall: Duration,
    /// How many of what is counted were done.
    pub(crate) count: u64,
    /// Processor time that went to other programs meanwhile, where it matters.
    pub(crate) others: Duration,
}

/// A way of doing what is compared, and what it is called.
pub(crate) type Contender<'a> = (String, Box<dyn FnMut() -> anyhow::Result<Sample> + 'a>);

impl Spread {
    /// Of no values at all it is NaN.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        };
        Self {
            median,
            min: values.first().copied().unwrap_or(f64::NAN),
            max: values.last().copied().unwrap_or(f64::NAN),
        }
    }
}

impl Sample {
    /// Measures the processor time of this thread, so `work` has to happen on it.
    ///
    /// # Errors
    /// That of `work`, which says how many it did.
    pub(crate) fn of_thread(work: impl FnOnce() -> anyhow::Result<u64>) -> anyhow::Result<Self> {
        let (begun, before) = (Instant::now(), thread_time());
        let count = work()?;
        let cpu = thread_time().saturating_sub(before);
        Ok(Self {
            cpu,
            wall: begun.elapsed(),
            count,
            others: Duration::ZERO,
        })
    }

    /// Processor time of one, nanoseconds.
    pub(crate) fn nanoseconds(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e9 / as_f64(self.count)
    }

    /// How many in a second.
    pub(crate) fn per_second(&self) -> f64 {
        as_f64(self.count) / self.wall.as_secs_f64()
    }
}

/// Runs all contenders `rounds` times in turn, each round begun by another of them, after one round that is not
/// counted. The samples are in the order of the contenders.
///
/// # Errors
/// The first of a contender.
pub(crate) fn in_turn(
    contenders: &mut [Contender<'_>],
    rounds: usize,
) -> anyhow::Result<Vec<Vec<Sample>>> {
    let number = contenders.len();
    let mut samples = vec![Vec::with_capacity(rounds); number];
    for round in 0..=rounds {
        for place in 0..number {
            let turn = (place + round) % number;
            let sample = contenders[turn].1()?;
            if round > 0 {
                samples[turn].push(sample);
            }
        }
    }
    Ok(samples)
}

/// Processor time that this thread has used (`clock_gettime(2)`, `CLOCK_THREAD_CPUTIME_ID`).
pub(crate) fn thread_time() -> Duration {
    used(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// Processor time that this process has used, all threads (`CLOCK_PROCESS_CPUTIME_ID`).
pub(crate) fn process_time() -> Duration {
    used(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

fn used(clock: ClockId) -> Duration {
    // There is no way for it to fail: both clocks are in every kernel.
    clock_gettime(clock).map(Duration::from).unwrap_or_default()
}

/// A count as it is divided by. Exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}

/// How much processor time all programs have used, and what the hypervisor kept for others (`proc_stat(5)`), in steps of
/// 10 ms. `None` where the system does not tell.
pub(crate) fn machine_time() -> Option<Duration> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let all = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields = all.split_whitespace().map_while(|field| field.parse().ok());
    let fields: Vec<u64> = fields.collect();
    // All but idle and iowait.
    let [user, nice, system, _, _, irq, softirq, steal, ..] = *fields else {
        return None;
    };
    let steps = user + nice + system + irq + softirq + steal;
    Some(Duration::from_millis(10 * steps))
}

/// A runtime that does everything on the thread that waits for it.
///
/// # Errors
/// When the system has no descriptors left.
pub(crate) fn current_thread() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
