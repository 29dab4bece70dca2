//! A link's two directions: delay, jitter, loss.

use super::random::Random;
use super::router::Way;
use super::scenario::WanLink;

/// One direction of a link. Times are nanoseconds.
#[derive(Debug)]
pub(super) struct Lane {
    random: Random,
    /// Packets so far.
    count: u64,
    /// When the last one arrives.
    last: u64,
}

impl Lane {
    pub(super) fn new(seed: u64, link: u64, way: Way) -> Self {
        Self {
            random: Random::new(seed, link << 1 | u64::from(way == Way::Back)),
            count: 0,
            last: 0,
        }
    }

    /// When a packet that sets out now arrives, `extra` later than others; `None` if it is lost.
    pub(super) fn cross(&mut self, link: &WanLink, way: Way, now: u64, extra: u64) -> Option<u64> {
        self.count += 1;
        let every = link.drop_every(way);
        let its_turn = every != 0 && self.count.is_multiple_of(every);
        // Both are drawn in any case, so that one field does not change what another does.
        let unlucky = self.random.happens(link.loss(way));
        let jitter = self.random.up_to(link.jitter_us(way)) * 1000;
        if its_turn || unlucky {
            return None;
        }
        let arrival = now + link.delay_us(way) * 1000 + jitter;
        self.last = self.last.max(arrival);
        Some(self.last + extra)
    }
}

impl WanLink {
    /// One-way delay without jitter, microseconds.
    pub(super) fn delay_us(&self, way: Way) -> u64 {
        way.pick(self.delay_us, self.delay_back_us)
    }

    fn jitter_us(&self, way: Way) -> u64 {
        way.pick(self.jitter_us, self.jitter_back_us)
    }

    fn loss(&self, way: Way) -> f64 {
        way.pick(self.loss, self.loss_back)
    }

    fn drop_every(&self, way: Way) -> u64 {
        way.pick(self.drop_every, self.drop_every_back)
    }
}
