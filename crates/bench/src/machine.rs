//! What the figures were measured on.

use std::{fs, thread};

use serde::Serialize;

/// The machine, and what was built for it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// Release of the kernel.
    kernel: String,
    /// Model of the processor, as the kernel has it.
    processor: String,
    /// Processors that this process may use.
    cores: usize,
    /// The compiler.
    rustc: &'static str,
    /// `release` or `debug`. Times of a debug build say nothing.
    profile: &'static str,
}

impl Machine {
    /// This one.
    pub(crate) fn this() -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            kernel: kernel.trim().to_owned(),
            processor: processor().unwrap_or_else(|| "unknown".to_owned()),
            cores: thread::available_parallelism().map_or(1, usize::from),
            rustc: env!("PERPACKET_RUSTC"),
            profile: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
        }
    }

    /// All in one line.
    pub(crate) fn line(&self) -> String {
        let Self {
            kernel,
            processor,
            cores,
            rustc,
            profile,
        } = self;
        format!("{processor}, {cores} cores, Linux {kernel}, {rustc}, {profile} build")
    }
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
