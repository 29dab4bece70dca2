//! Sends the probes of a trace, and takes what comes.

use std::{
    future::pending,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use perpacket_udp::{IcmpErrorKind, Tos};
use perpacket_webrtc::{
    Attribution, Clock, Probe, ProbeError, ProbeOutcome, ProbeResult, Prober, Rtt,
};
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};

use super::{
    HeaderChange, TraceConfig, TraceEvent, TraceReport,
    header::SentHeader,
    names::Names,
    path::{Path, Reply, What},
    quotes::{Key, Quotes},
};
use crate::{
    IcmpExtension, MeasureError,
    running::{Follow, LONGEST, Progress},
};

/// How much longer than two round trips to the end the first picture waits for hops that are silent.
const GRACE: Duration = Duration::from_millis(25);

/// How much longer than two round trips to the end an answer is waited for while no other probe is out.
const ALONE: Duration = Duration::from_millis(250);

/// How many probes may be out, or wait for their turn, when a round begins.
const OUT: usize = 256;

/// How long the session can be without a pair of addresses, as it is while ICE restarts.
const GONE: Duration = Duration::from_secs(5);

/// How long the report waits for names.
const NAMES: Duration = Duration::from_secs(1);

/// How long the report waits for quoted headers. They come with the errors.
const QUOTES: Duration = Duration::from_millis(50);

pub(super) async fn run(
    prober: Arc<Prober>,
    config: TraceConfig,
    progress: Progress<TraceEvent>,
) -> Result<TraceReport, MeasureError> {
    config.check()?;
    let (started, start) = (SystemTime::now(), Instant::now());
    // The addresses may be others by now. If there are none, the first probe says so.
    let _ = prober.refresh().await;
    let mut trace = Tracer {
        path: Path::new(config.max_ttl),
        names: Names::new(&config.names),
        quotes: Quotes::open(config.raw, prober.remote())?,
        ends: (prober.local(), prober.remote()),
        started,
        start,
        round: 0,
        picture: None,
        mapped: None,
        follow: Follow::new(GONE),
        probes: JoinSet::new(),
        prober,
        config,
        progress,
    };
    let interrupted = match trace.rounds().await {
        Err(error) if trace.path.rows() == 0 => return Err(error),
        result => result.err().map(|error| error.to_string()),
    };
    trace.settle().await;
    Ok(trace.report(interrupted))
}

/// A probe that is done.
struct Done {
    ttl: u8,
    /// Whether no other was out.
    alone: bool,
    outcome: Result<ProbeOutcome, ProbeError>,
}

struct Tracer {
    prober: Arc<Prober>,
    config: TraceConfig,
    progress: Progress<TraceEvent>,
    path: Path,
    names: Names,
    quotes: Quotes,
    /// The 5-tuple: local and remote.
    ends: (SocketAddr, SocketAddr),
    started: SystemTime,
    start: Instant,
    round: u32,
    picture: Option<Duration>,
    /// The address that the peer sees.
    mapped: Option<SocketAddr>,
    follow: Follow,
    probes: JoinSet<Done>,
}

impl Tracer {
    async fn rounds(&mut self) -> Result<(), MeasureError> {
        loop {
            self.round += 1;
            let start = Instant::now();
            for ttl in self.path.side_by_side() {
                self.launch(ttl, false, self.config.timeout);
            }
            if self.picture.is_none() {
                self.first_picture().await?;
            }
            self.one_by_one().await?;
            let number = self.round;
            self.progress.tell(TraceEvent::Round { number });
            if self.progress.is_stopped() || self.config.rounds == Some(number) {
                break;
            }
            let next = start + self.config.interval.min(LONGEST);
            self.wait(Some(next), |_| false).await?;
            self.wait(None, |trace| trace.probes.len() <= OUT).await?;
            if self.progress.is_stopped() {
                break;
            }
            self.follow().await?;
        }
        self.wait(None, Self::none_is_out).await
    }

    /// ICE may have taken other addresses.
    async fn follow(&mut self) -> Result<(), MeasureError> {
        self.follow.refresh(&self.prober).await?;
        let ends = (self.prober.local(), self.prober.remote());
        if ends != self.ends {
            self.ends = ends;
            self.probes = JoinSet::new();
            self.path = Path::new(self.config.max_ttl);
            self.mapped = None;
            let (local, remote) = ends;
            self.progress.tell(TraceEvent::Moved { local, remote });
        }
        Ok(())
    }

    fn launch(&mut self, ttl: u8, alone: bool, timeout: Duration) {
        self.path.sent(ttl, alone);
        let prober = Arc::clone(&self.prober);
        let probe = Probe::new()
            .with_options(self.config.options.with_ttl(ttl))
            .with_timeout(timeout);
        self.probes.spawn(async move {
            Done {
                ttl,
                alone,
                outcome: prober.probe(probe).await,
            }
        });
    }

    /// Waits until the end and every hop before it are known; once the end is, for the others not much
    /// longer.
    async fn first_picture(&mut self) -> Result<(), MeasureError> {
        let decided = |trace: &Self| trace.path.is_decided();
        self.wait(None, |trace| decided(trace) || trace.path.end().is_some())
            .await?;
        if let Some(rtt) = self.path.end_rtt() {
            let enough = self.start + 2 * rtt.time + GRACE;
            self.wait(Some(enough), decided).await?;
        }
        let after = self.start.elapsed();
        self.picture = Some(after);
        let hops = self.path.hops(&self.names);
        self.progress.tell(TraceEvent::Picture { after, hops });
        Ok(())
    }

    /// Asks the hops whose answers can be told apart in no other way.
    async fn one_by_one(&mut self) -> Result<(), MeasureError> {
        if self.path.one_by_one().is_empty() {
            return Ok(());
        }
        self.wait(None, Self::none_is_out).await?;
        let patience = self.path.end_rtt().map_or(self.config.timeout, |rtt| {
            (2 * rtt.time + ALONE).min(self.config.timeout)
        });
        for ttl in self.path.one_by_one() {
            if self.progress.is_stopped() {
                break;
            }
            self.quotes.forget_nameless();
            self.launch(ttl, true, patience);
            self.wait(None, Self::none_is_out).await?;
        }
        Ok(())
    }

    /// What is still on its way when all probes are done.
    async fn settle(&mut self) {
        let deadline = Instant::now() + QUOTES;
        let quoted = |trace: &Self| !trace.quotes.is_awaited();
        let named = |trace: &Self| !trace.names.is_busy();
        let mut settled = self.wait(Some(deadline), quoted).await;
        if settled.is_ok() {
            settled = self.wait(Some(Instant::now() + NAMES), named).await;
        }
        if let Err(error) = settled {
            tracing::debug!(%error, "after the last round");
        }
    }

    fn none_is_out(&self) -> bool {
        self.probes.is_empty()
    }

    /// Takes what comes until `done`, until a moment, or until the trace is to stop.
    async fn wait(
        &mut self,
        deadline: Option<Instant>,
        done: impl Fn(&Self) -> bool,
    ) -> Result<(), MeasureError> {
        let over = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
        };
        tokio::pin!(over);
        while !self.progress.is_stopped() && !done(self) {
            // In this order: a storm of errors from the network comes last.
            tokio::select! {
                biased;
                () = self.progress.stopped() => {}
                Some(probe) = self.probes.join_next() => self.done(probe)?,
                () = &mut over => break,
                named = self.names.next() => {
                    for ttl in named.map_or_else(Vec::new, |at| self.path.places_of(at)) {
                        self.tell(ttl);
                    }
                }
                error = Quotes::next(self.quotes.listener()) => match error {
                    Ok(error) => {
                        if let Some((ttl, header)) = self.quotes.come(error, self.ends.1) {
                            self.path.quoted(ttl, header);
                            self.tell(ttl);
                        }
                    }
                    Err(error) => self.quotes.give_up(&error),
                },
            }
        }
        Ok(())
    }

    fn done(&mut self, probe: Result<Done, JoinError>) -> Result<(), MeasureError> {
        let Done {
            ttl,
            alone,
            outcome,
        } = probe.map_err(|_| MeasureError::Aborted)?;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            // Whether the session is over shows before the next round.
            Err(error) if self.round > 1 || self.path.end().is_some() => {
                tracing::debug!(%error, "a probe could not be sent");
                self.path.lost(ttl);
                self.tell(ttl);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let id = Key::Id(outcome.transaction_id);
        let (reply, key) = match outcome.result {
            ProbeResult::Answered(answer) => {
                self.mapped = answer.mapped.or(self.mapped);
                let reply = Reply {
                    from: self.ends.1.ip(),
                    what: What::Peer,
                    rtt: answer.rtt,
                    way_back: answer.ttl,
                    mtu: None,
                    extensions: Vec::new(),
                    attribution: Attribution::TransactionId,
                };
                (Some(reply), None)
            }
            ProbeResult::Icmp {
                error,
                rtt,
                attribution,
            } => {
                let proved = attribution == Attribution::TransactionId;
                // What anyone could forge is believed where the hop is silent otherwise, and no more
                // than necessary.
                let hop = alone && error.kind == IcmpErrorKind::TimeExceeded;
                let from = error.offender.filter(|_| proved || hop);
                let key = from.map(|from| if proved { id } else { Key::From(from) });
                let reply = from.map(|from| Reply {
                    from,
                    what: What::Icmp(error.kind),
                    rtt,
                    way_back: error.reply_ttl,
                    mtu: error.next_hop_mtu.filter(|_| proved),
                    extensions: extensions(&error.extensions),
                    attribution,
                });
                (reply, key)
            }
            // A NAT may have given the error to the host in such a form that only the raw socket saw
            // whose it was.
            ProbeResult::TooBigHere { .. } | ProbeResult::Lost => {
                let quoted = self.quotes.take(id);
                let reply = quoted.map(|error| {
                    let header = super::QuotedHeader::new(&error.quote);
                    self.path.quoted(ttl, header);
                    let time = error.at.duration_since(outcome.sent);
                    Reply {
                        from: error.from,
                        what: What::Icmp(error.kind),
                        rtt: Rtt {
                            time: time.unwrap_or_default(),
                            clock: Clock::User,
                        },
                        way_back: error.reply_ttl,
                        mtu: error.next_hop_mtu,
                        extensions: extensions(&error.extensions),
                        attribution: Attribution::TransactionId,
                    }
                });
                (reply, None)
            }
        };
        match reply {
            None => self.path.lost(ttl),
            Some(reply) => self.answered(ttl, reply, key),
        }
        self.tell(ttl);
        Ok(())
    }

    fn answered(&mut self, ttl: u8, reply: Reply, key: Option<Key>) {
        let to = reply.from;
        self.names.ask(to);
        if let Some(from) = self.path.answered(ttl, reply) {
            self.progress.tell(TraceEvent::Changed { ttl, from, to });
        }
        if let Some(header) = key.and_then(|key| self.quotes.expect(key, ttl)) {
            self.path.quoted(ttl, header);
        }
    }

    /// Tells of a row, if the place is one.
    fn tell(&self, ttl: u8) {
        if let Some(hop) = self.path.hop(ttl, &self.names) {
            self.progress.tell(TraceEvent::Hop(Box::new(hop)));
        }
    }

    fn report(&self, interrupted: Option<String>) -> TraceReport {
        let (local, remote) = self.ends;
        let hops = self.path.hops(&self.names);
        let sent = SentHeader {
            tos: Tos::from_byte(self.config.options.tos_byte().unwrap_or(0)),
            source: local,
            destination: remote,
        };
        TraceReport {
            local,
            remote,
            note: TraceReport::NOTE,
            started: self.started,
            peer_ttl: self.path.peer(),
            mapped: self.mapped,
            rounds: self.round,
            picture: self.picture,
            changes: HeaderChange::between(sent, &hops),
            hops,
            raw: self.quotes.status(),
            interrupted,
        }
    }
}

/// What cannot be read says nothing.
fn extensions(bytes: &[u8]) -> Vec<IcmpExtension> {
    IcmpExtension::read(bytes).unwrap_or_default()
}
