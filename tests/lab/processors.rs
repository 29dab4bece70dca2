//! What else the processors do while a test runs.

use std::fs;

/// How much of the processors' time may be taken away by the hypervisor until what a test sees says nothing.
pub const STOLEN: f64 = 0.03;

/// What the processors have done since the machine was started (`proc_stat(5)`).
#[derive(Clone, Copy, Debug)]
pub struct Processors {
    stolen: f64,
    all: f64,
}

impl Processors {
    /// Up to now; nothing where the system does not say so.
    #[must_use]
    pub fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let all = stat.lines().next().unwrap_or_default().split_whitespace();
        // What guests have used is counted among what users have.
        let times = all.skip(1).take(8).map(|time| time.parse().unwrap_or(0.0));
        let times: Vec<f64> = times.collect();
        Self {
            stolen: times.get(7).copied().unwrap_or(0.0),
            all: times.iter().sum(),
        }
    }

    /// Which part of the time since then the hypervisor took away.
    #[must_use]
    pub fn stolen_since(&self) -> f64 {
        let now = Self::now();
        (now.stolen - self.stolen) / (now.all - self.all).max(1.0)
    }
}
