//! What a process uses, as the kernel says.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result};

/// Of `/proc/PID/stat`, each second: `USER_HZ` (time(7)), which is 100 on all that Linux runs on today.
const TICKS: f64 = 100.0;

/// So far.
pub(crate) struct Usage {
    at: Instant,
    /// Seconds.
    cpu: f64,
    /// Of memory that is there, not swapped out and not only promised, KiB.
    resident: u64,
}

impl Usage {
    pub(crate) fn of(process: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        // Behind the name, which may have anything in it (proc_pid_stat(5)): user time is the 14th field of all.
        let (_, fields) = stat.rsplit_once(") ").context("no name")?;
        let mut fields = fields.split(' ').skip(11);
        let mut ticks = || -> Result<f64> { Ok(fields.next().context("no times")?.parse()?) };
        let cpu = (ticks()? + ticks()?) / TICKS;
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(Self {
            at: Instant::now(),
            cpu,
            resident: resident.context("no VmRSS")?.parse()?,
        })
    }

    /// What was used since then, in words.
    pub(crate) fn since(&self, before: &Self) -> String {
        let seconds = (self.at - before.at).as_secs_f64();
        format!(
            "{:.3} CPU seconds a second, {} MiB resident, over {seconds:.1} s",
            (self.cpu - before.cpu) / seconds,
            self.resident / 1024
        )
    }
}
