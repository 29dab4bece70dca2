//! The processors, where a test judges times.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use anyhow::{Context as _, Result};
use rustix::process::setpriority_process;
use rustix::thread::gettid;

/// What the processors have done since the machine was started (`proc_stat(5)`).
pub(crate) struct Processors {
    stolen: f64,
    all: f64,
}

impl Processors {
    pub(crate) fn now() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let all = stat.lines().next().context("empty")?.split_whitespace();
        // What guests have used is counted among what users have.
        let times = all.skip(1).take(8).map(str::parse);
        let times = times.collect::<Result<Vec<f64>, _>>()?;
        Ok(Self {
            stolen: *times.get(7).context("no steal")?,
            all: times.iter().sum(),
        })
    }

    /// Which part of the time since then the hypervisor took away.
    pub(crate) fn stolen_since(&self) -> Result<f64> {
        let now = Self::now()?;
        Ok((now.stolen - self.stolen) / (now.all - self.all).max(1.0))
    }
}

/// Keeps the processors from sleeping until it is dropped. To wake one is the hypervisor's work in a virtual machine,
/// and takes a packet that has to wake somebody up to a millisecond where the host is busy.
pub(crate) struct Awake(Arc<AtomicBool>);

impl Awake {
    pub(crate) fn new() -> Self {
        let asleep = Arc::new(AtomicBool::new(false));
        for _ in 0..thread::available_parallelism().map_or(1, Into::into) {
            let asleep = Arc::clone(&asleep);
            thread::spawn(move || {
                // A thread has a priority of its own (setpriority(2), "C library/kernel differences").
                if setpriority_process(Some(gettid()), 19).is_err() {
                    return;
                }
                while !asleep.load(Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(asleep)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
