//! A batch is served breadth first: everything that is needed of all its peers is asked for before the first of
//! them is served. Among very many peers nothing of the next one is in the processor's caches, and so it comes
//! from memory for all of them at the same time.

use std::{net::SocketAddr, ops::Range, sync::Arc};

use perpacket_udp::RecvBatch;

use super::{
    super::{Shared, flow::Flow, refused::Refused},
    BUFFER, is_stun,
};
use crate::{
    Classified, classify,
    policy::{PeerKey, key},
};

/// For how many runs flows are looked up at a time.
const TOGETHER: usize = 8;

/// What a batch consists of. The task that reads keeps it, so that none is allocated for each batch.
#[derive(Debug, Default)]
pub(super) struct Runs {
    runs: Vec<Run>,
    /// Which datagrams of the run that is just served its peer connection gets.
    admitted: Vec<usize>,
}

#[derive(Debug)]
struct Run {
    kind: Kind,
    /// Their places in the batch; there is at least one.
    datagrams: Range<usize>,
}

#[derive(Debug)]
enum Kind {
    /// One that is longer than any that ICE reads.
    Truncated,
    /// One that may change whose an address is.
    Stun,
    /// All else that one sender has sent in a row.
    Media(Media),
}

#[derive(Debug)]
struct Media {
    source: SocketAddr,
    /// Of the first.
    length: usize,
    classified: Classified,
    flow: Option<Arc<Flow>>,
}

impl Runs {
    fn take_apart(&mut self, batch: &RecvBatch) {
        self.runs.clear();
        for (at, (datagram, meta)) in batch.iter().enumerate() {
            let kind = if meta.truncated || datagram.len() > BUFFER {
                Kind::Truncated
            } else if is_stun(datagram) {
                Kind::Stun
            } else if let Some(Run {
                kind: Kind::Media(media),
                datagrams,
            }) = self.runs.last_mut()
                && media.source == meta.source
            {
                datagrams.end += 1;
                continue;
            } else {
                Kind::Media(Media {
                    source: meta.source,
                    length: datagram.len(),
                    classified: classify(datagram),
                    flow: None,
                })
            };
            self.runs.push(Run {
                kind,
                datagrams: at..at + 1,
            });
        }
    }

    /// The media from one run on.
    fn media_from(&mut self, at: usize) -> impl Iterator<Item = &mut Media> {
        let runs = self.runs.iter_mut().skip(at);
        runs.filter_map(|run| match &mut run.kind {
            Kind::Media(media) => Some(media),
            Kind::Truncated | Kind::Stun => None,
        })
    }

    /// Asks for what is looked at when a run is served, if there is such a run.
    #[inline]
    fn prefetch_port(&self, at: usize) {
        if let Some((media, flow)) = self.found(at) {
            flow.port.prefetch_head();
            flow.queue.prefetch_reader(media.length);
            if let Some((_, before)) = at.checked_sub(1).and_then(|before| self.found(before)) {
                before.queue.is_read_before(&flow.queue);
            }
        }
    }

    /// Asks for that to which the way leads through the port.
    #[inline]
    fn prefetch_counters(&self, at: usize) {
        if let Some((media, flow)) = self.found(at) {
            flow.port.prefetch(media.classified.rtp);
            let class = media.classified.class;
            flow.port.counters.prefetch(&media.source, class);
        }
    }

    #[inline]
    fn found(&self, at: usize) -> Option<(&Media, &Flow)> {
        match &self.runs.get(at)?.kind {
            Kind::Media(media) => Some((media, media.flow.as_deref()?)),
            Kind::Truncated | Kind::Stun => None,
        }
    }
}

impl Shared {
    /// Dispatches a batch: what one sender has sent in a row goes to its peer connection at once.
    pub(super) fn dispatch_all(&self, socket: usize, batch: &RecvBatch, runs: &mut Runs) {
        runs.take_apart(batch);
        let mut found = self.find_flows(runs, 0);
        runs.prefetch_port(0);
        runs.prefetch_port(1);
        runs.prefetch_counters(0);
        for at in 0..runs.runs.len() {
            // What was served before can have changed whose an address is.
            if self.routes.changes() != found {
                found = self.find_flows(runs, at);
            }
            runs.prefetch_port(at + 2);
            runs.prefetch_counters(at + 1);
            let Run { kind, datagrams } = &mut runs.runs[at];
            let datagrams = datagrams.clone();
            match kind {
                Kind::Truncated => self.refused.count(Refused::Truncated),
                Kind::Stun => {
                    if let Some((datagram, meta)) = batch.get(datagrams.start) {
                        self.dispatch(socket, datagram, meta);
                    }
                }
                Kind::Media(media) => match media.flow.take() {
                    Some(flow) => {
                        self.deliver_run(&flow, media.source, batch, datagrams, &mut runs.admitted);
                    }
                    None => datagrams.for_each(|_| self.refused.count(Refused::UnknownSource)),
                },
            }
        }
        runs.runs.clear();
    }

    /// Finds the peer connections of the runs from one on, as of the [change](super::super::routes::Routes::changes) that is returned.
    fn find_flows(&self, runs: &mut Runs, from: usize) -> u64 {
        let owners = self.routes.owners();
        let mut media = runs.media_from(from);
        loop {
            // Step by step for several: none waits for what another needs.
            let mut some = [const { None }; TOGETHER];
            for (found, media) in some.iter_mut().zip(&mut media) {
                let owner = owners.get(&PeerKey::from(&media.source));
                *found = Some((media, owner));
            }
            for flow in some.iter().flatten().filter_map(|(_, owner)| *owner) {
                flow.prefetch();
            }
            let is_full = some.last().is_some_and(Option::is_some);
            for (media, owner) in some.into_iter().flatten() {
                media.flow = owner.map(Arc::clone);
            }
            if !is_full {
                break;
            }
        }
        // Nothing changes while they are held.
        self.routes.changes()
    }

    /// Queues datagrams of one sender for its peer connection.
    fn deliver_run(
        &self,
        flow: &Flow,
        source: SocketAddr,
        batch: &RecvBatch,
        datagrams: Range<usize>,
        admitted: &mut Vec<usize>,
    ) {
        if !flow.serves(source.ip()) {
            return datagrams.for_each(|_| self.refused.count(Refused::OtherFamily));
        }
        admitted.clear();
        let run = datagrams.filter_map(|at| Some((at, batch.get(at)?)));
        flow.port.arrived_together(run, |at| admitted.push(at));
        let admitted = admitted.iter().filter_map(|at| batch.get(*at));
        let admitted = admitted.map(|(datagram, _)| datagram);
        flow.queue
            .push_all(admitted, key(source), |datagram, refusal| {
                self.not_queued(flow, datagram, source, &refusal);
            });
    }
}
