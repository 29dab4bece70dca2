//! What one router does with a packet.

use super::counters::HopCounters;
use super::fragment;
use super::header::{Header, set_tos, set_ttl};
use super::icmp::{self, Complaint};
use super::link::Lane;
use super::nat::Nat;
use super::queue::Line;
use super::scenario::{Hop, IcmpRate, Willing};

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From left to right.
    Out,
    /// From right to left.
    Back,
}

impl Way {
    pub(super) const BOTH: [Self; 2] = [Self::Out, Self::Back];

    pub(super) fn opposite(self) -> Self {
        match self {
            Self::Out => Self::Back,
            Self::Back => Self::Out,
        }
    }

    /// The value for this direction of a field that has one for the way back if that differs.
    pub(super) fn pick<T>(self, out: T, back: Option<T>) -> T {
        match self {
            Self::Out => out,
            Self::Back => back.unwrap_or(out),
        }
    }
}

/// The link a packet is to be sent into.
#[derive(Clone, Copy, Debug)]
pub(super) struct NextLink {
    pub(super) mtu: Option<u32>,
    pub(super) too_big: Willing,
}

/// What a router does.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// These go on, so many nanoseconds later than others.
    Forward(Vec<Vec<u8>>, u64),
    /// This goes back to where the packet came from.
    Answer(Vec<u8>),
    /// The packet is gone.
    Drop,
}

/// A router and what it remembers. Times are nanoseconds.
#[derive(Debug)]
pub(super) struct Router {
    pub(super) hop: Hop,
    pub(super) counters: HopCounters,
    /// The two directions of the link on its left.
    pub(super) lanes: [Lane; 2],
    /// The lines out and back.
    pub(super) lines: [Line; 2],
    nat: Option<Nat>,
    /// ICMP errors it may send, and when that was reckoned.
    tokens: f64,
    reckoned: u64,
}

impl Router {
    pub(super) fn new(seed: u64, hop: Hop) -> Self {
        let link = u64::from(hop.address_v4().to_bits());
        Self {
            counters: HopCounters::default(),
            lanes: Way::BOTH.map(|way| Lane::new(seed, link, way)),
            lines: Default::default(),
            nat: hop.nat.map(Nat::new),
            tokens: hop.icmp_rate.map_or(0.0, full),
            reckoned: 0,
            hop,
        }
    }

    /// Takes on what a changed scenario says, and keeps what it remembers of all that did not change.
    pub(super) fn become_like(&mut self, hop: Hop) {
        if self.hop.nat != hop.nat {
            self.nat = hop.nat.map(Nat::new);
        }
        if self.hop.icmp_rate != hop.icmp_rate {
            self.tokens = hop.icmp_rate.map_or(0.0, full);
        }
        self.hop = hop;
    }

    /// Decides about a packet that arrived.
    pub(super) fn receive(
        &mut self,
        mut packet: Vec<u8>,
        way: Way,
        next: NextLink,
        now: u64,
    ) -> Step {
        // Nothing but whole packets gets this far: the engine looked at them.
        let Some(header) = Header::parse(&packet) else {
            return Step::Drop;
        };
        let to = header.destination;
        if to == self.hop.address_v4() || to == self.hop.address_v6() {
            self.counters.for_itself += 1;
            return Step::Drop;
        }
        if header.ttl <= 1 {
            self.counters.expired += 1;
            return self.complain(Complaint::Expired, self.hop.icmp, &packet, &header, now);
        }
        if self.hop.dead_dscp.contains(&header.dscp()) {
            self.counters.dead_dscp += 1;
            return Step::Drop;
        }
        let too_big_for = next.mtu.filter(|mtu| packet.len() > *mtu as usize);
        if let Some(mtu) = too_big_for.filter(|_| header.df) {
            self.counters.too_big += 1;
            return self.complain(Complaint::TooBig(mtu), next.too_big, &packet, &header, now);
        }
        set_ttl(&mut packet, header.ttl - 1);
        let translated = match (&mut self.nat, way) {
            (None, _) => Ok(()),
            (Some(nat), Way::Out) => nat.go_out(&mut packet, &header),
            (Some(nat), Way::Back) => nat.come_back(&mut packet, &header),
        };
        if translated.is_err() {
            self.counters.no_mapping += 1;
            return Step::Drop;
        }
        let rules = match way {
            Way::Out => &self.hop.mark,
            Way::Back => &self.hop.mark_back,
        };
        let tos = rules.iter().fold(header.tos, |tos, rule| rule.apply(tos));
        if tos != header.tos {
            set_tos(&mut packet, tos);
        }
        let slow = self.hop.slow_dscp.iter();
        let extra = slow.filter(|slow| slow.dscp == header.dscp());
        let extra = extra.map(|slow| slow.delay_us * 1000).sum();
        let pieces = match too_big_for {
            Some(mtu) => {
                self.counters.fragmented += 1;
                fragment::cut(&packet, mtu as usize)
            }
            None => vec![packet],
        };
        Step::Forward(pieces, extra)
    }

    fn complain(
        &mut self,
        complaint: Complaint,
        willing: Willing,
        packet: &[u8],
        header: &Header,
        now: u64,
    ) -> Step {
        // RFC 1812 §4.3.2.7, RFC 4443 §2.4 (e): none about an error, or a later fragment.
        if header.later_fragment || header.is_icmp_error(packet) {
            return Step::Drop;
        }
        if willing == Willing::Silent {
            self.counters.icmp_silent += 1;
            return Step::Drop;
        }
        if !self.take_token(now) {
            self.counters.icmp_limited += 1;
            return Step::Drop;
        }
        self.counters.icmp_sent += 1;
        Step::Answer(icmp::error(&self.hop, complaint, packet, header))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "nanoseconds of a test fit in 53 bits"
    )]
    fn take_token(&mut self, now: u64) -> bool {
        let Some(rate) = self.hop.icmp_rate else {
            return true;
        };
        let seconds = now.saturating_sub(self.reckoned) as f64 / 1e9;
        self.tokens = (self.tokens + seconds * rate.per_second).min(full(rate));
        self.reckoned = now;
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

fn full(rate: IcmpRate) -> f64 {
    rate.burst.into()
}
