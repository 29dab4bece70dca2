//! What can go wrong in the lab, and what to do about it.

use std::io;
use std::time::Duration;

/// Why a test cannot run on this machine. A test that returns it is reported as ignored, and as failed
/// where the environment says `CI=true`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Skip(pub String);

/// An error of the lab: which operation failed, on what, and why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused a namespace of our own; `advice` says what would allow it.
    #[error("{operation} was refused ({source}): {advice}")]
    Refused {
        /// The system call and what it was to make.
        operation: String,
        /// What the kernel answered.
        source: io::Error,
        /// What the person at this machine can do.
        advice: String,
    },
    /// [`enter`](crate::enter) must come before any thread is started: the kernel makes a user
    /// namespace for a process of one thread only, and threads that exist would stay outside.
    #[error(
        "the process has {threads} threads: call perpacket_lab::enter() first thing in main, before any runtime"
    )]
    Threads {
        /// How many threads there are.
        threads: usize,
    },
    /// A system call, or a file of `/proc`, failed.
    #[error("{operation}: {source}")]
    System {
        /// What was attempted, and on what.
        operation: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A netlink request (link, address or route) failed.
    #[error("{operation}: {reason}")]
    Netlink {
        /// What was attempted, in the words of `ip(8)`.
        operation: String,
        /// What the kernel answered.
        reason: String,
    },
    /// An address or prefix that does not parse.
    #[error("{text:?} is not {expected}")]
    Address {
        /// What was given.
        text: String,
        /// What would have been right.
        expected: &'static str,
    },
    /// A scenario that a simulated network cannot follow.
    #[error("{file}: {reason}")]
    Scenario {
        /// The file, or what stands for it.
        file: String,
        /// Which field is wrong, its value, and what would be right.
        reason: String,
    },
    /// What was waited for did not come in time.
    #[error("{what} did not happen within {within:?}{detail}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        within: Duration,
        /// What was seen instead; empty when there is nothing to tell.
        detail: String,
    },
    /// A program ran and failed.
    #[error("{program} failed ({status}): {stderr}")]
    Program {
        /// The program.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// Something that is needed is not on this machine.
    #[error(transparent)]
    Skip(#[from] Skip),
}

impl Error {
    /// Names the operation that a system error belongs to.
    pub(crate) fn system(operation: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System {
            operation: operation.into(),
            source: source.into(),
        }
    }
}

/// Shorthand for the results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
