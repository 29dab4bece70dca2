//! Which datagrams go out together, by which descriptor, and in which order.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    mem,
    net::SocketAddr,
};

use foldhash::fast::RandomState;

use super::{
    super::{control::Family, socket::Carrier},
    Datagrams,
    destination::Destination,
};
use crate::DfMode;

/// How many datagrams a run has at most: `UDP_MAX_SEGMENTS` of the kernels that have the fewest.
const RUN: usize = 64;

/// How many bytes a run has at most: what an IP packet of either family can hold (RFC 791 §3.1, RFC 8200 §3).
const RUN_BYTES: usize = 65_487;

/// How many destinations are remembered that no run reaches.
const NARROW: usize = 1024;

/// Up to how many places are counted.
const FEW: usize = 8;

/// What has been taken from the queue, and how it goes out.
#[derive(Debug, Default)]
pub(in super::super) struct Out {
    pub(in super::super) datagrams: Datagrams,
    runs: Vec<Run>,
    /// The numbers of the datagrams, run by run.
    members: Vec<usize>,
    /// The numbers of the runs as they go out, and how many are done.
    sequence: Vec<usize>,
    next: usize,
    /// The next run goes out one by one.
    pub(in super::super) apart: Option<Apart>,
    last_run_of: HashMap<Destination, usize, RandomState>,
    /// Where a run was too large for the path.
    narrow: HashSet<SocketAddr, RandomState>,
}

/// A run that goes out one by one.
#[derive(Debug)]
pub(in super::super) struct Apart {
    /// How many of it are done.
    pub(in super::super) done: usize,
    /// Runs themselves may be what the kernel refuses.
    pub(in super::super) suspect: bool,
}

/// Datagrams of one length, but for the last, to one destination and with the same options.
#[derive(Clone, Debug)]
pub(in super::super) struct Run {
    /// Who sends them as a run.
    pub(in super::super) carrier: Carrier,
    /// Who sends one of them alone.
    pub(in super::super) alone: Carrier,
    /// The length of all but the last.
    pub(in super::super) segment: usize,
    count: usize,
    bytes: usize,
    /// The last one is shorter.
    closed: bool,
    /// The run to the same destination before this one.
    before: Option<usize>,
    /// What goes to one destination by several descriptors goes out in stages.
    stage: usize,
    /// Where its members begin.
    first: usize,
}

impl Out {
    /// Makes the plan. `carrier` says who sends a datagram, or `None` for one that cannot go out; `default` is the DF
    /// mode that main has.
    pub(in super::super) fn plan(
        &mut self,
        runs: bool,
        default: DfMode,
        mut carrier: impl FnMut(&Datagrams, usize) -> Option<Carrier>,
    ) {
        self.clear();
        let mut run_of = Vec::with_capacity(self.datagrams.entries.len());
        let mut last_run_of = mem::take(&mut self.last_run_of);
        let mut last = None;
        for number in 0..self.datagrams.entries.len() {
            last = match last.filter(|_| self.is_like_the_one_before(number)) {
                Some((by, before)) => {
                    let run = self.assign(number, by, Some(before), runs);
                    if run != before {
                        last_run_of.insert(self.destination_of(number), run);
                    }
                    Some((by, run))
                }
                None => carrier(&self.datagrams, number).map(|by| {
                    let run = match last_run_of.entry(self.destination_of(number)) {
                        Entry::Vacant(none) => *none.insert(self.assign(number, by, None, runs)),
                        Entry::Occupied(mut before) => {
                            let run = self.assign(number, by, Some(*before.get()), runs);
                            before.insert(run);
                            run
                        }
                    };
                    (by, run)
                }),
            };
            run_of.push(last.map(|(_, run)| run));
        }
        self.last_run_of = last_run_of;
        self.choose(default);
        let mut first = 0;
        for run in &mut self.runs {
            run.first = first;
            first += run.count;
        }
        self.members.resize(first, 0);
        let mut filled = vec![0; self.runs.len()];
        for (number, run) in run_of.into_iter().enumerate() {
            if let Some(run) = run {
                self.members[self.runs[run].first + filled[run]] = number;
                filled[run] += 1;
            }
        }
        self.order();
    }

    /// Brings runs into the order in which they go out: by stage, by descriptor, and as they came. Places are few, as a
    /// rule, so that they are counted and nothing needs to be sorted.
    fn order(&mut self) {
        let mut places: Vec<(Place, usize)> = Vec::new();
        let at = |places: &[(Place, usize)], place| places.iter().position(|(is, _)| *is == place);
        for run in &self.runs {
            match at(&places, run.place()) {
                Some(at) => places[at].1 += 1,
                None if places.len() < FEW => places.push((run.place(), 1)),
                None => {
                    let runs = &self.runs;
                    self.sequence.extend(0..runs.len());
                    self.sequence.sort_by_key(|run| runs[*run].place());
                    return;
                }
            }
        }
        places.sort_unstable();
        let mut first = 0;
        for (_, count) in &mut places {
            first += std::mem::replace(count, first);
        }
        self.sequence.resize(self.runs.len(), 0);
        for (number, run) in self.runs.iter().enumerate() {
            if let Some(at) = at(&places, run.place()) {
                self.sequence[places[at].1] = number;
                places[at].1 += 1;
            }
        }
    }

    /// Whether a datagram goes where the one before it goes, and has the same options.
    fn is_like_the_one_before(&self, number: usize) -> bool {
        let entries = &self.datagrams.entries;
        let before = number.checked_sub(1).and_then(|before| entries.get(before));
        before.is_some_and(|before| {
            let entry = &entries[number];
            before.destination == entry.destination && before.has_header_of(entry)
        })
    }

    fn destination_of(&self, number: usize) -> Destination {
        Destination::from(&self.datagrams.entries[number].destination)
    }

    /// The run of a datagram: the last to its destination, if it fits, or a new one.
    fn assign(
        &mut self,
        number: usize,
        carrier: Carrier,
        before: Option<usize>,
        runs: bool,
    ) -> usize {
        let entry = &self.datagrams.entries[number];
        if let Some(at) = before {
            let first = &self.datagrams.entries[self.runs[at].first];
            let joins = runs
                && first.destination == entry.destination
                && first.has_header_of(entry)
                && !self.narrow.contains(&entry.destination);
            let run = &mut self.runs[at];
            if joins
                && !run.closed
                && run.alone == carrier
                && (1..=run.segment).contains(&entry.length)
                && run.count < RUN
                && run.bytes + entry.length <= RUN_BYTES
            {
                run.count += 1;
                run.bytes += entry.length;
                run.closed = entry.length < run.segment;
                return at;
            }
        }
        self.runs.push(Run {
            carrier,
            alone: carrier,
            segment: entry.length,
            count: 1,
            bytes: entry.length,
            closed: false,
            before,
            stage: 0,
            // Until members have places, the number of the first one.
            first: number,
        });
        self.runs.len() - 1
    }

    fn destination(&self, run: &Run) -> Option<SocketAddr> {
        let entry = self.datagrams.entries.get(run.first)?;
        Some(entry.destination)
    }

    /// Who sends each run, and when: while members have no places yet.
    fn choose(&mut self, default: DfMode) {
        for at in 0..self.runs.len() {
            let destination = self.destination(&self.runs[at]);
            let is_v4 = destination.is_some_and(|to| Family::of(&to) == Family::V4);
            let run = &mut self.runs[at];
            if run.count > 1 && is_v4 {
                run.carrier = run.carrier.keeping_df(default);
            }
            let (carrier, before) = (run.carrier, run.before);
            let stage = before.map_or(0, |before| {
                let before = &self.runs[before];
                before.stage + usize::from(before.carrier != carrier)
            });
            self.runs[at].stage = stage;
        }
    }

    /// The runs that go out next by one descriptor, at most so many.
    pub(in super::super) fn next_runs(&self, most: usize) -> impl Iterator<Item = &Run> {
        let rest = &self.sequence[self.next..];
        let first = rest.first().map(|run| &self.runs[*run]);
        rest.iter()
            .take(most)
            .map(|run| &self.runs[*run])
            .take_while(move |run| {
                first.is_some_and(|first| (first.stage, first.carrier) == (run.stage, run.carrier))
            })
    }

    pub(in super::super) fn next_run(&self) -> Option<&Run> {
        let run = self.sequence.get(self.next)?;
        Some(&self.runs[*run])
    }

    /// The numbers of a run's datagrams.
    pub(in super::super) fn members(&self, run: &Run) -> &[usize] {
        &self.members[run.first..run.first + run.count]
    }

    /// So many runs are done.
    pub(in super::super) fn advance(&mut self, runs: usize) {
        self.next += runs;
        self.apart = None;
    }

    /// No run goes to that destination any more.
    pub(in super::super) fn is_narrow(&mut self, destination: SocketAddr) {
        if self.narrow.len() == NARROW {
            self.narrow.clear();
        }
        self.narrow.insert(destination);
    }

    fn clear(&mut self) {
        self.runs.clear();
        self.members.clear();
        self.sequence.clear();
        self.last_run_of.clear();
        self.next = 0;
        self.apart = None;
    }
}

/// A stage, and a descriptor.
type Place = (usize, i32);

impl Run {
    fn place(&self) -> Place {
        (self.stage, self.carrier.number())
    }

    pub(in super::super) fn count(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{MessageOptions, PackedOptions, transmit};

    const MODES: [Option<bool>; 3] = [None, Some(true), Some(false)];

    /// A datagram: to whom, how long, TTL, DF.
    type Datagram = (u16, usize, u8, usize);

    fn planned(datagrams: &[Datagram], runs: bool) -> Out {
        let mut out = Out::default();
        for (number, (port, length, ttl, df_bit)) in datagrams.iter().enumerate() {
            let mut contents = vec![0; *length];
            contents
                .iter_mut()
                .zip(number.to_le_bytes())
                .for_each(|(to, from)| *to = from);
            let options = MessageOptions {
                df_bit: MODES[*df_bit],
                ..MessageOptions::NONE.with_ttl(*ttl)
            };
            let to = ([192, 0, 2, 1], *port).into();
            let options = PackedOptions::from(&options);
            out.datagrams
                .push(&transmit::Datagram::new(&contents, &to, options));
        }
        out.plan(runs, DfMode::Want, |datagrams, number| {
            Some(match datagrams.entries[number].options.df_bit() {
                None => Carrier::Main,
                Some(true) => Carrier::Twin(DfMode::Probe),
                Some(false) => Carrier::Twin(DfMode::Omit),
            })
        });
        out
    }

    /// The runs as they go out.
    fn sent(mut out: Out) -> Vec<(Carrier, Vec<usize>)> {
        let mut sent = Vec::new();
        loop {
            let runs: Vec<_> = out.next_runs(7).cloned().collect();
            if runs.is_empty() {
                return sent;
            }
            for run in &runs {
                sent.push((run.carrier, out.members(run).to_vec()));
            }
            out.advance(runs.len());
        }
    }

    #[test]
    fn a_run_has_one_length_and_a_shorter_end() {
        let lengths = [1200, 1200, 700, 1200, 1300, 1300, 0, 0];
        let datagrams = lengths.map(|length| (1, length, 9, 1));
        let runs: Vec<_> = sent(planned(&datagrams, true))
            .into_iter()
            .map(|(_, members)| members)
            .collect();
        assert_eq!(runs, [vec![0, 1, 2], vec![3], vec![4, 5], vec![6], vec![7]]);
    }

    /// `WANT` clears DF on a run that is larger than the MTU.
    #[test]
    fn a_run_keeps_its_df() {
        let runs = sent(planned(&[(1, 1200, 9, 0); 3], true));
        assert_eq!(runs, [(Carrier::Twin(DfMode::Do), vec![0, 1, 2])]);
        let alone = sent(planned(&[(1, 1200, 9, 0)], true));
        assert_eq!(alone, [(Carrier::Main, vec![0])]);
    }

    #[test]
    fn a_run_is_no_larger_than_the_kernel_takes() {
        let runs = sent(planned(&[(1, 1200, 9, 1); 120], true));
        let counts: Vec<_> = runs.iter().map(|(_, members)| members.len()).collect();
        assert_eq!(counts, [54, 54, 12]);
        let runs = sent(planned(&[(1, 20, 9, 1); 120], true));
        let counts: Vec<_> = runs.iter().map(|(_, members)| members.len()).collect();
        assert_eq!(counts, [64, 56]);
    }

    proptest! {
        /// Each goes out once, by its own descriptor, with its like, and after those before it to the same destination.
        #[test]
        fn all_go_out_in_order(
            datagrams in vec((1u16..5, 0usize..4, 1u8..3, 0usize..3), 0..200),
            runs: bool,
        ) {
            let sent = sent(planned(&datagrams, runs));
            let all: Vec<_> = sent.iter().flat_map(|(_, members)| members).copied().collect();
            let mut sorted = all.clone();
            sorted.sort_unstable();
            prop_assert!(sorted.into_iter().eq(0..datagrams.len()));
            for port in 1..5 {
                let to_it = all.iter().filter(|number| datagrams[**number].0 == port);
                prop_assert!(to_it.is_sorted());
            }
            for (carrier, members) in sent {
                let (port, length, ttl, df_bit) = datagrams[members[0]];
                prop_assert!(runs || members.len() == 1);
                let (last, others) = members.split_last().expect("no run is empty");
                for number in others {
                    prop_assert_eq!(datagrams[*number], (port, length, ttl, df_bit));
                }
                let last = datagrams[*last];
                prop_assert_eq!((last.0, last.2, last.3), (port, ttl, df_bit));
                prop_assert!(last.1 <= length);
                let expected = match df_bit {
                    0 if members.len() > 1 => Carrier::Twin(DfMode::Do),
                    0 => Carrier::Main,
                    1 => Carrier::Twin(DfMode::Probe),
                    _ => Carrier::Twin(DfMode::Omit),
                };
                prop_assert_eq!(carrier, expected);
            }
        }
    }
}
