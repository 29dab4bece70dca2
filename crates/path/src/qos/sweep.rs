//! Looks at marks on their way: a probe of each mark that dies at each hop, and one that arrives.

use std::{
    collections::{BTreeMap, HashMap},
    future::pending,
    sync::Arc,
    time::Duration,
};

use perpacket_udp::{IcmpListener, MessageOptions, QuotedError, Tos};
use perpacket_webrtc::{Probe, ProbeResult, Prober};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use super::{
    is_refused,
    mark::Mark,
    place::MarkPath,
    report_back::{SILENCE, TosReports},
};
use crate::{MeasureError, running::Progress};

/// How often a hop that answers is asked for the marks that it has not shown yet. Linux answers six at once, and
/// then one a second.
const ROUNDS: usize = 6;

/// How often one that has never answered is.
const PATIENCE: usize = 2;

/// Between rounds: what a rate limit needs.
const PAUSE: Duration = Duration::from_secs(1);

/// For what has arrived and waits to be read.
const GRACE: Duration = Duration::from_millis(20);

/// More quotes than a round has probes.
const MAX_QUOTES: usize = 4096;

/// Where a probe is to end: at this hop, or at the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    Hop(u8),
    Peer,
}

type Transaction = [u8; 12];

/// A mark, by its place in the list, and where its probe ends.
type Question = (usize, End);

pub(super) struct Sweep<'a> {
    pub(super) prober: &'a Arc<Prober>,
    pub(super) marks: Vec<Mark>,
    /// How far away the peer is.
    pub(super) hops: u8,
    /// Shows what routers quote.
    pub(super) listener: Option<IcmpListener>,
    /// What the peer says.
    pub(super) reports: Option<&'a TosReports>,
    pub(super) timeout: Duration,
}

impl Sweep<'_> {
    /// What was seen of each mark; less than there is if it is stopped.
    pub(super) async fn run<E>(
        self,
        progress: &mut Progress<E>,
    ) -> Result<Vec<MarkPath>, MeasureError> {
        let path = |sent: &Mark| MarkPath {
            sent: *sent,
            seen: BTreeMap::new(),
        };
        let mut paths: Vec<_> = self.marks.iter().map(path).collect();
        for round in 0..ROUNDS {
            let questions = self.open_questions(&paths, round);
            if questions.is_empty() {
                break;
            }
            let pause = if round == 0 { Duration::ZERO } else { PAUSE };
            tokio::select! {
                biased;
                () = progress.stopped() => break,
                asked = async {
                    sleep(pause).await;
                    self.ask(&questions, &mut paths).await
                } => asked?,
            }
        }
        Ok(paths)
    }

    /// What is not known yet, and may still become so.
    fn open_questions(&self, paths: &[MarkPath], round: usize) -> Vec<Question> {
        let on_the_way = if self.listener.is_some() {
            self.hops.saturating_sub(1)
        } else {
            0
        };
        let at_the_peer = self.reports.map(|_| End::Peer);
        let ends = (1..=on_the_way).map(End::Hop).chain(at_the_peer);
        let hop = |end| {
            if let End::Hop(hop) = end {
                hop
            } else {
                self.hops
            }
        };
        let ends: Vec<_> = ends
            .filter(|end| {
                let speaks = paths.iter().any(|path| path.seen.contains_key(&hop(*end)));
                speaks || round < PATIENCE
            })
            .collect();
        // The probes of one hop are as far from each other as can be.
        let of_mark = |(mark, path): (usize, &MarkPath)| {
            let open = ends
                .iter()
                .filter(|end| !path.seen.contains_key(&hop(**end)));
            open.map(|end| (mark, *end)).collect::<Vec<_>>()
        };
        paths.iter().enumerate().flat_map(of_mark).collect()
    }

    async fn ask(
        &self,
        questions: &[Question],
        paths: &mut [MarkPath],
    ) -> Result<(), MeasureError> {
        let mut asked = JoinSet::new();
        for question in questions {
            asked.spawn(probe(
                Arc::clone(self.prober),
                self.probe(*question),
                *question,
            ));
        }
        let (mut on_the_way, mut at_peer) = (Vec::new(), Vec::new());
        let mut quoted = HashMap::new();
        loop {
            tokio::select! {
                answered = asked.join_next() => match answered {
                    Some(Ok(outcome)) => match outcome? {
                        Some(((mark, End::Hop(hop)), id, _)) => on_the_way.push((mark, hop, id)),
                        Some(((mark, End::Peer), id, true)) => at_peer.push((mark, id)),
                        Some(((_, End::Peer), _, false)) | None => {}
                    },
                    Some(Err(_)) => return Err(MeasureError::Aborted),
                    None => break,
                },
                quote = quote(self.listener.as_ref()) => note(quote, &mut quoted)?,
            }
        }
        let deadline = Instant::now() + GRACE;
        while let Ok(quote) = timeout_at(deadline, quote(self.listener.as_ref())).await {
            note(quote, &mut quoted)?;
        }
        for (mark, hop, id) in on_the_way {
            if let Some(tos) = quoted.get(&id) {
                paths[mark].seen.insert(hop, *tos);
            }
        }
        if let Some(reports) = self.reports {
            let ids = at_peer.iter().map(|(_, id)| *id);
            reports.wait_for(ids, SILENCE).await;
            for (mark, id) in at_peer {
                if let Some(with) = reports.get(&id) {
                    paths[mark].seen.insert(self.hops, with.tos);
                }
            }
        }
        Ok(())
    }

    fn probe(&self, (mark, end): Question) -> Probe {
        let marked = MessageOptions::NONE.with_tos(self.marks[mark].tos().byte());
        let options = match end {
            End::Hop(hop) => marked.with_ttl(hop),
            End::Peer => marked,
        };
        Probe::new()
            .with_options(options)
            .with_timeout(self.timeout)
    }
}

/// The probe's transaction, and whether the peer has answered; `None` where this host did not send it.
async fn probe(
    prober: Arc<Prober>,
    probe: Probe,
    question: Question,
) -> Result<Option<(Question, Transaction, bool)>, MeasureError> {
    let outcome = match prober.probe(probe).await {
        Err(error) if is_refused(&error) => return Ok(None),
        outcome => outcome?,
    };
    let arrived = matches!(outcome.result, ProbeResult::Answered(_));
    Ok(Some((question, outcome.transaction_id, arrived)))
}

async fn quote(listener: Option<&IcmpListener>) -> std::io::Result<QuotedError> {
    match listener {
        Some(listener) => listener.recv().await,
        None => pending().await,
    }
}

/// Takes note of what the packet that is quoted looked like, by its STUN transaction (RFC 8489 §5). What holds none
/// proves nothing: anyone could have sent it.
fn note(
    error: std::io::Result<QuotedError>,
    quoted: &mut HashMap<Transaction, Tos>,
) -> Result<(), MeasureError> {
    let QuotedError { quote, .. } = error.map_err(|source| MeasureError::Unavailable {
        what: "read from a raw ICMP socket",
        source,
    })?;
    let is_stun = quote.payload.get(4..8) == Some(&[0x21, 0x12, 0xa4, 0x42]);
    let id = quote.payload.get(8..20).and_then(|id| id.try_into().ok());
    if let Some(id) = id.filter(|_| is_stun && quoted.len() < MAX_QUOTES) {
        quoted.insert(id, quote.tos);
    }
    Ok(())
}
