//! A line of limited speed and the queue before it.

use std::collections::VecDeque;

use super::scenario::Bandwidth;

/// A router's outgoing line. Times are nanoseconds.
#[derive(Debug, Default)]
pub(super) struct Line {
    in_transit: Option<Waiting>,
    first: VecDeque<Waiting>,
    others: VecDeque<Waiting>,
    /// Bytes that wait.
    waiting: usize,
}

/// A packet, and how much later than others it is to arrive.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) packet: Vec<u8>,
    pub(super) extra: u64,
}

/// What became of a packet.
#[derive(Debug)]
pub(super) enum Offered {
    /// The line is without limit: it is on its way.
    Sent(Waiting),
    /// It is on the line until then, when [`Line::finish`] is to be called.
    Until(u64),
    /// It waits.
    Waits,
    /// There was no room.
    Dropped,
}

impl Line {
    pub(super) fn offer(
        &mut self,
        packet: Waiting,
        dscp: u8,
        bandwidth: Option<Bandwidth>,
        now: u64,
    ) -> Offered {
        let Some(bandwidth) = bandwidth else {
            // What waits since there was a limit goes first.
            if self.in_transit.is_none() {
                return Offered::Sent(packet);
            }
            self.waiting += packet.packet.len();
            self.others.push_back(packet);
            return Offered::Waits;
        };
        if self.in_transit.is_none() {
            let end = now + duration(&packet, bandwidth);
            self.in_transit = Some(packet);
            return Offered::Until(end);
        }
        let length = packet.packet.len();
        if self.waiting + length > bandwidth.queue_bytes {
            return Offered::Dropped;
        }
        self.waiting += length;
        if bandwidth.priority == Some(dscp) {
            self.first.push_back(packet);
        } else {
            self.others.push_back(packet);
        }
        Offered::Waits
    }

    /// Takes the packet off whose time on the line is over, and puts on the next, with the time when it will
    /// be over.
    pub(super) fn finish(
        &mut self,
        bandwidth: Option<Bandwidth>,
        now: u64,
    ) -> (Option<Waiting>, Option<u64>) {
        let sent = self.in_transit.take();
        self.in_transit = self.first.pop_front().or_else(|| self.others.pop_front());
        let end = self.in_transit.as_ref().map(|next| {
            self.waiting = self.waiting.saturating_sub(next.packet.len());
            now + bandwidth.map_or(0, |b| duration(next, b))
        });
        (sent, end)
    }
}

fn duration(packet: &Waiting, bandwidth: Bandwidth) -> u64 {
    let bits = u64::try_from(packet.packet.len())
        .unwrap_or(u64::MAX)
        .saturating_mul(8);
    bits.saturating_mul(1_000_000_000) / bandwidth.bits_per_second
}

#[cfg(test)]
mod tests {
    use super::{Line, Offered, Waiting};
    use crate::wan::Bandwidth;

    const ONE_BYTE_A_MICROSECOND: Bandwidth = Bandwidth {
        bits_per_second: 8_000_000,
        queue_bytes: 300,
        priority: Some(46),
    };

    fn packet(name: u8) -> Waiting {
        Waiting {
            packet: vec![name; 100],
            extra: 0,
        }
    }

    #[test]
    fn queues_drops_the_tail_and_prefers() {
        let limit = Some(ONE_BYTE_A_MICROSECOND);
        let mut line = Line::default();
        assert!(matches!(
            line.offer(packet(0), 0, limit, 5),
            Offered::Until(100_005)
        ));
        for (name, dscp) in [(1, 0), (2, 0), (3, 46)] {
            assert!(matches!(
                line.offer(packet(name), dscp, limit, 6),
                Offered::Waits
            ));
        }
        assert!(matches!(
            line.offer(packet(4), 46, limit, 7),
            Offered::Dropped
        ));
        let mut order = Vec::new();
        let mut end = Some(100_005);
        while let Some(now) = end {
            let (sent, next) = line.finish(limit, now);
            order.push((sent.unwrap().packet[0], now));
            end = next;
        }
        assert_eq!(
            order,
            [(0, 100_005), (3, 200_005), (1, 300_005), (2, 400_005)]
        );
        assert!(matches!(
            line.offer(packet(0), 0, None, 0),
            Offered::Sent(_)
        ));
    }
}
