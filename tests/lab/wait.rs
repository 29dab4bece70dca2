//! Waiting for a condition.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Asks `condition` again and again until it gives a value, at most for `within`. For what the kernel
/// offers no event for, such as a namespace that goes away.
///
/// # Errors
/// The condition's own error at once; [`Error::TimedOut`] with `what` when time is up.
pub fn until<T>(
    within: Duration,
    what: impl FnOnce() -> String,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            return Err(Error::TimedOut {
                what: what(),
                within,
                detail: String::new(),
            });
        }
        thread::sleep(Duration::from_millis(1));
    }
}
