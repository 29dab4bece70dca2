//! The course of a measurement: what to ask next, and what the answers mean. It sends nothing itself.

use std::time::Duration;

use perpacket_udp::MessageOptions;

use super::{
    HintUse, PathMtuConfig, PathMtuEvent, PathMtuHint, PathMtuProbe, PathMtuPurpose, PathMtuReport,
    PathMtuResult, PeerLimit, Room, config::LARGEST, peer_limit::KNOWN, search::Search,
};

/// After what time a probe is lost while no round trip is known.
const UNKNOWN_RTT: Duration = Duration::from_secs(1);

/// How many round trips it is otherwise, and how long at least.
const ROUND_TRIPS: u32 = 3;
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(200);

/// How many small probes may be lost, one after the other, before nobody is there.
const REACH_PROBES: u32 = 5;

/// How many packets that may be fragmented have to be lost.
const FRAGMENTABLE: u32 = 2;

/// Bytes of an IPv4 and a UDP header.
const OVERHEAD_V4: usize = 28;

/// What is to be expected of any path, so that no router is believed that says less: `BASE_PLPMTU`
/// (RFC 8899 §5.1.2), and what every link has to carry of IPv6 (RFC 8200 §5).
const BASE_V4: usize = 1200;
const BASE_V6: usize = 1280;

/// The same for a path on which headers of IP and UDP take `overhead`.
pub(super) const fn base(overhead: usize) -> usize {
    if overhead == OVERHEAD_V4 {
        BASE_V4
    } else {
        BASE_V6
    }
}

/// After what time without an answer a probe is lost.
pub(super) fn timeout(config: &PathMtuConfig, rtt: Option<Duration>) -> Duration {
    let by_rtt = |rtt: Duration| (rtt * ROUND_TRIPS).max(SHORTEST_TIMEOUT);
    config
        .timeout
        .unwrap_or_else(|| rtt.map_or(UNKNOWN_RTT, by_rtt))
}

/// A packet to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) purpose: PathMtuPurpose,
    /// Bytes of IP packet.
    pub(super) size: usize,
    pub(super) df: bool,
    /// Its IP header, the DF bit included.
    pub(super) options: MessageOptions,
    pub(super) timeout: Duration,
    /// Bytes of a small one to be sent with it, which tells whether anything arrives at the time.
    pub(super) small: Option<usize>,
}

/// Nobody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoAnswer {
    /// How many probes, one after the other, got no answer.
    pub(super) probes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Is the peer there?
    Reach,
    Search,
    /// Does it answer what routers may fragment? This many were lost.
    Fragmentable {
        size: usize,
        lost: u32,
    },
    Done,
}

/// A measurement on its way.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    config: PathMtuConfig,
    overhead: usize,
    smallest: usize,
    phase: Phase,
    search: Search,
    /// How many small probes were lost, one after the other.
    unheard: u32,
    is_peer_suspected: bool,
    how: Vec<PathMtuProbe>,
    hints: Vec<PathMtuHint>,
    rtt: Option<Duration>,
}

impl Plan {
    /// For a path on which headers of IP and UDP take `overhead` and the smallest probe has `smallest`
    /// bytes in all.
    pub(super) fn new(config: &PathMtuConfig, overhead: usize, smallest: usize) -> Self {
        let cap = config.cap.unwrap_or(LARGEST);
        Self {
            config: config.clone(),
            overhead,
            smallest,
            phase: Phase::Reach,
            search: Search::new(smallest, cap, base(overhead), config.refine),
            unheard: 0,
            is_peer_suspected: false,
            how: Vec::new(),
            hints: Vec::new(),
            rtt: None,
        }
    }

    /// What to ask next; `None` when all is known.
    pub(super) fn next(&self) -> Option<Question> {
        let (purpose, size, df) = match self.phase {
            Phase::Reach => (PathMtuPurpose::Reach, self.smallest, true),
            Phase::Search => (PathMtuPurpose::Search, self.search.next()?, true),
            Phase::Fragmentable { size, .. } => (PathMtuPurpose::Fragmentable, size, false),
            Phase::Done => return None,
        };
        // The first loss of a size only says where to go on. It takes more for a bound, and those must not
        // be due to an outage.
        let is_decisive = match self.phase {
            Phase::Search => self.search.was_lost(size),
            Phase::Fragmentable { .. } => true,
            Phase::Reach | Phase::Done => false,
        };
        // An outage may last.
        let rtt = self.rtt.filter(|_| self.unheard == 0);
        Some(Question {
            purpose,
            size,
            df,
            options: self.config.options.with_df_bit(df),
            timeout: timeout(&self.config, rtt),
            small: is_decisive.then_some(self.smallest),
        })
    }

    /// Takes note of what became of it, and of the small one that was sent with it.
    pub(super) fn heard(
        &mut self,
        question: &Question,
        result: PathMtuResult,
        small: Option<PathMtuResult>,
    ) -> Result<PathMtuEvent, NoAnswer> {
        let is_alone = question.purpose == PathMtuPurpose::Reach;
        let small = if is_alone { Some(result) } else { small };
        let is_silence = matches!(result, PathMtuResult::Icmp { .. } | PathMtuResult::Lost);
        let is_unheard =
            (is_alone || is_silence) && small.is_some_and(|small| !small.is_answered());
        if is_unheard {
            self.unheard += 1;
        } else {
            self.unheard = 0;
            self.phase = self.after(question.size, result);
        }
        if !is_alone && let Some(small) = small {
            self.note(self.smallest, true, PathMtuPurpose::Reach, small);
        }
        let probe = self.note(question.size, question.df, question.purpose, result);
        if self.unheard == REACH_PROBES {
            return Err(NoAnswer {
                probes: self.unheard,
            });
        }
        Ok(PathMtuEvent {
            probe,
            mtu: self.search.mtu(),
            upper: self.search.upper(),
        })
    }

    /// What is known by now.
    pub(super) fn report(self, stray_icmp: u64) -> PathMtuReport {
        let (mtu, is_exact) = (self.search.mtu(), self.search.is_exact());
        let complete = self.phase == Phase::Done;
        let peer_limit = (complete && self.is_peer_suspected)
            .then(|| PeerLimit::of(mtu, self.overhead, is_exact));
        PathMtuReport {
            mtu,
            exact: is_exact && complete && peer_limit.is_none(),
            upper: self.search.upper(),
            cap: self.largest_sent().unwrap_or(self.search.cap()),
            complete,
            room: Room::of(mtu, self.overhead, self.config.srtp_tag),
            how: self.how,
            hints: self.hints,
            stray_icmp,
            peer_limit,
            rtt: self.rtt,
        }
    }

    fn note(
        &mut self,
        size: usize,
        df: bool,
        purpose: PathMtuPurpose,
        result: PathMtuResult,
    ) -> PathMtuProbe {
        if let PathMtuResult::Answered { rtt, .. } = result {
            self.rtt = self.rtt.max(Some(rtt));
        }
        let probe = PathMtuProbe {
            size,
            df,
            purpose,
            result,
        };
        self.how.push(probe.clone());
        probe
    }

    /// What is to be done after this result.
    fn after(&mut self, size: usize, result: PathMtuResult) -> Phase {
        match self.phase {
            Phase::Search => self.searched(size, result),
            Phase::Fragmentable { size, lost } => {
                return self.after_fragmentable(size, lost, result);
            }
            Phase::Reach | Phase::Done => {}
        }
        match self.search.next() {
            Some(_) => Phase::Search,
            None => self.after_search(),
        }
    }

    /// Of the probes with DF.
    fn largest_sent(&self) -> Option<usize> {
        let is_sent = |probe: &&PathMtuProbe| {
            probe.df && !matches!(probe.result, PathMtuResult::TooBigHere { .. })
        };
        let sent = self.how.iter().filter(is_sent);
        sent.map(|probe| probe.size).max()
    }

    fn searched(&mut self, size: usize, result: PathMtuResult) {
        match result {
            PathMtuResult::Answered { .. } => self.search.answered(size),
            PathMtuResult::TooBig { from, mtu, proved } => {
                let outcome = self.search.too_big(size, mtu, proved);
                self.hints.push(PathMtuHint {
                    from,
                    size,
                    mtu,
                    proved,
                    outcome,
                });
            }
            PathMtuResult::TooBigHere { mtu } => self.search.too_big_here(size, mtu),
            PathMtuResult::Icmp { .. } | PathMtuResult::Lost => self.search.lost(size),
        }
    }

    fn after_search(&self) -> Phase {
        let smallest_limit = KNOWN[0] + self.overhead;
        let nobody_said = !self.hints.iter().any(|hint| hint.outcome == HintUse::Tried);
        match self.search.silent_from() {
            Some(size)
                if self.config.peer_limit
                    && !self.is_peer_suspected
                    && nobody_said
                    && size > smallest_limit =>
            {
                Phase::Fragmentable { size, lost: 0 }
            }
            _ => Phase::Done,
        }
    }

    fn after_fragmentable(&mut self, size: usize, lost: u32, result: PathMtuResult) -> Phase {
        // Taken in pieces: it is the path.
        if result.is_answered() {
            return Phase::Done;
        }
        if lost + 1 < FRAGMENTABLE {
            return Phase::Fragmentable {
                size,
                lost: lost + 1,
            };
        }
        self.is_peer_suspected = true;
        let limits = KNOWN.map(|limit| limit + self.overhead);
        // What was answered may be one of them, and the next above not asked for yet.
        let open = self.search.mtu()..size;
        self.search
            .add_sizes(limits.into_iter().filter(|limit| open.contains(limit)));
        match self.search.next() {
            Some(_) => Phase::Search,
            None => Phase::Done,
        }
    }
}

#[cfg(test)]
mod tests;
