use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A limit on how many probes leave in a time: a token bucket, as a schedule (the generic cell rate
/// algorithm, ITU-T I.371).
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// How far the schedule may be ahead of the clock.
    slack: Duration,
    /// When the schedule is empty.
    next: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self {
            interval,
            slack: interval * burst.max(1).saturating_sub(1),
            next: Mutex::new(Instant::now()),
        }
    }

    /// Waits for a turn. One who stops waiting has used it up all the same.
    pub(super) async fn turn(&self) {
        let due = self.book(Instant::now());
        tokio::time::sleep_until(due).await;
    }

    /// Takes the next turn, and says when it is due.
    fn book(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let start = (*next).max(now);
        *next = start + self.interval;
        start.checked_sub(self.slack).unwrap_or(now).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let pace = Pace::new(100, 3);
        let now = Instant::now();
        let waits: Vec<_> = (0..6)
            .map(|_| (pace.book(now) - now).as_micros().div_ceil(1000))
            .collect();
        assert_eq!(waits, [0, 0, 0, 10, 20, 30]);
        // The bucket fills up again, and no further.
        let later = now + Duration::from_secs(9);
        let waits: Vec<_> = (0..4)
            .map(|_| (pace.book(later) - later).as_millis())
            .collect();
        assert_eq!(waits, [0, 0, 0, 10]);
    }
}
