//! The search for the largest packet that passes, as a state machine that sends nothing itself.
//!
//! It is the search of DPLPMTUD (RFC 8899 §5.3) in an order that suits real paths: the cap first,
//! because most paths carry it; then 1500; then a binary search over the sizes that links, tunnels and
//! access networks have; then, if asked for, over everything in between. A size is asked for once, and
//! the search goes on below it if that probe is lost. What makes a bound is evidence: a probe that was
//! lost speaks against every larger size too, and [`MAX_PROBES`] of them settle it.

/// How many lost probes say that a size does not pass (RFC 8899 §5.1.2).
const MAX_PROBES: usize = 3;

/// What an Ethernet frame carries.
const ETHERNET: usize = 1500;

/// IP packets of links, tunnels and access networks: IPv6's minimum, VPNs, 6to4, `PPPoE`, and what jumbo
/// frames carry.
const LADDER: [usize; 12] = [
    1280, 1380, 1400, 1420, 1440, 1460, 1472, 1480, 1492, 4000, 8500, 9000,
];

/// Where not even IPv6's minimum passes: what every IPv4 host takes (RFC 791 §3.1), an old serial line,
/// and `BASE_PLPMTU` (RFC 8899 §5.1.2).
const SMALL: [usize; 3] = [576, 1004, 1200];

/// STUN messages have lengths that are multiples of 4 (RFC 8489 §5), and so have probes.
pub(super) const STEP: usize = 4;

/// A size that a probe can have: the largest that is not above `size`.
pub(super) const fn probeable(size: usize) -> usize {
    size / STEP * STEP
}

/// The search. Sizes are bytes of IP packet.
#[derive(Clone, Debug)]
pub(super) struct Search {
    /// The largest that was answered.
    passes: usize,
    /// Nothing above is asked for.
    cap: usize,
    /// Whether to search between the steps of the ladder.
    refine: bool,
    /// Smallest MTU that a router is believed.
    floor: usize,
    /// Sizes that were lost, one entry a probe, in order.
    lost: Vec<usize>,
    /// The smallest that does not pass for another reason than lost probes.
    refused: Option<usize>,
    /// The smallest that this host refuses, where it does not say how much it would send.
    refused_here: Option<usize>,
    /// What a router says that passes, to be tried next.
    hint: Option<Hint>,
    /// Sizes to be tried in addition.
    extra: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hint {
    mtu: usize,
    proven: bool,
}

/// What became of a router's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HintUse {
    /// The next probe tries it.
    Tried,
    /// There was none, as old routers have it (RFC 1191 §5), or it is below what a path is believed to
    /// have, not below what was sent, or below what has passed: it changes nothing.
    Ignored,
}

impl Search {
    /// A search between `passes`, which is known to pass, and `cap`. Hints below `floor` are ignored.
    pub(super) fn new(passes: usize, cap: usize, floor: usize, refine: bool) -> Self {
        Self {
            passes,
            cap: probeable(cap).max(passes),
            refine,
            floor,
            lost: Vec::new(),
            refused: None,
            refused_here: None,
            hint: None,
            extra: Vec::new(),
        }
    }

    /// What size to probe next; `None` when the search is over.
    pub(super) fn next(&self) -> Option<usize> {
        if let Some(hint) = self.hint {
            return Some(probeable(hint.mtu));
        }
        let Some(ceiling) = self.ceiling() else {
            return (self.passes < self.cap).then_some(self.cap);
        };
        let candidate = self
            .middle(&[ETHERNET], ceiling)
            .or_else(|| self.middle(&LADDER, ceiling))
            .or_else(|| self.middle(&SMALL, ceiling))
            .or_else(|| self.middle(&self.extra, ceiling))
            .or_else(|| self.between(ceiling));
        match candidate {
            None if self.is_settled(ceiling) => None,
            None => Some(ceiling),
            candidate => candidate,
        }
    }

    /// A probe was answered.
    pub(super) fn answered(&mut self, size: usize) {
        self.passes = self.passes.max(size);
        if let Some(hint) = self.hint.take_if(|hint| probeable(hint.mtu) <= size) {
            let above = hint.mtu + 1;
            if hint.proven && above > self.passes {
                self.refused = Some(self.refused.map_or(above, |refused| refused.min(above)));
            }
        }
        // The path has changed, or somebody lied.
        self.refused = self.refused.filter(|refused| *refused > self.passes);
    }

    /// A probe was not answered in time.
    pub(super) fn lost(&mut self, size: usize) {
        if size <= self.passes {
            return;
        }
        self.lost.push(size);
        self.hint = self.hint.filter(|hint| {
            let size = probeable(hint.mtu);
            size > self.passes && self.evidence(size) < MAX_PROBES
        });
    }

    /// A router refused a probe: larger than `mtu`, it says. `proven` if it quoted what nobody else can
    /// know. Its word says only what to try next, and is a bound once that has passed.
    pub(super) fn too_big(&mut self, size: usize, mtu: Option<u32>, proven: bool) -> HintUse {
        self.lost(size);
        let said = mtu.and_then(|mtu| usize::try_from(mtu).ok());
        match said.filter(|mtu| (self.floor..size).contains(mtu)) {
            Some(mtu) if probeable(mtu) > self.passes => {
                self.hint = Some(Hint { mtu, proven });
                HintUse::Tried
            }
            _ => HintUse::Ignored,
        }
    }

    /// This host refuses to send that much, and may say how much it would.
    pub(super) fn too_big_here(&mut self, size: usize, mtu: Option<u32>) {
        self.hint = None;
        let said = mtu.and_then(|mtu| usize::try_from(mtu).ok());
        if let Some(mtu) = said.filter(|mtu| *mtu < size) {
            *self = Self::new(self.passes, mtu, self.floor, self.refine);
        } else {
            self.refused = Some(size);
            self.refused_here = Some(size);
        }
    }

    /// Whether a probe of this size has been lost before.
    pub(super) fn was_lost(&self, size: usize) -> bool {
        self.lost.contains(&size)
    }

    /// Tries these sizes too, and the next above each that passes.
    pub(super) fn add_sizes(&mut self, sizes: impl IntoIterator<Item = usize>) {
        self.extra.extend(sizes);
    }

    /// The largest size that has passed.
    pub(super) fn mtu(&self) -> usize {
        self.passes
    }

    /// The largest size that is asked for.
    pub(super) fn cap(&self) -> usize {
        self.cap
    }

    /// The smallest size that does not pass the network; `None` if none is known.
    pub(super) fn upper(&self) -> Option<usize> {
        let settled = self
            .lost
            .iter()
            .copied()
            .filter(|size| *size > self.passes && self.is_settled(*size));
        settled.chain(self.refused_on_the_way()).min()
    }

    /// The same, if it is known from silence alone.
    pub(super) fn silent_from(&self) -> Option<usize> {
        self.upper().filter(|upper| Some(*upper) != self.refused)
    }

    /// Whether nothing larger passes, up to the cap, as far as probes can tell.
    pub(super) fn is_exact(&self) -> bool {
        let is_next = |bound: usize| bound.saturating_sub(self.passes) <= STEP;
        self.passes == self.cap
            || self.upper().is_some_and(is_next)
            || self.refused_here.is_some_and(is_next)
    }

    /// What a router refuses, not this host.
    fn refused_on_the_way(&self) -> Option<usize> {
        self.refused.filter(|size| Some(*size) != self.refused_here)
    }

    /// The smallest size that may not pass.
    fn ceiling(&self) -> Option<usize> {
        let lost = self.lost.iter().copied().filter(|size| *size > self.passes);
        lost.chain(self.refused).min()
    }

    fn is_settled(&self, size: usize) -> bool {
        self.refused.is_some_and(|refused| refused <= size) || self.evidence(size) >= MAX_PROBES
    }

    /// How many probes have been lost that were no larger, and larger than what passes.
    fn evidence(&self, size: usize) -> usize {
        let speaks = |lost: &&usize| (self.passes + 1..=size).contains(*lost);
        self.lost.iter().filter(speaks).count()
    }

    /// The middle one of those sizes that are open.
    fn middle(&self, sizes: &[usize], ceiling: usize) -> Option<usize> {
        let open = || {
            sizes
                .iter()
                .filter(|size| self.passes < **size && **size < ceiling)
        };
        open().nth(open().count() / 2).copied()
    }

    /// A size between two steps of the ladder. What passes is on the ladder for a reason: mostly, the
    /// next above is refused. What this host refuses costs no packet.
    fn between(&self, ceiling: usize) -> Option<usize> {
        let next = self.passes + STEP;
        let is_extra = self.extra.contains(&self.passes);
        let is_free = self.refused_here == Some(ceiling);
        if next >= ceiling || !(self.refine || is_extra || is_free) {
            return None;
        }
        let is_step = self.passes == ETHERNET || LADDER.contains(&self.passes);
        Some(if is_step || is_extra {
            next
        } else {
            probeable(usize::midpoint(self.passes, ceiling)).max(next)
        })
    }
}

#[cfg(test)]
mod tests;
