use std::{collections::HashMap, sync::Arc, time::Duration};

use perpacket_udp::MessageOptions;
use perpacket_webrtc::{Policy, Probe, ProbeError, ProbeOutcome, ProbeResult, Prober};
use tokio::{
    task::{JoinError, JoinSet, spawn_blocking},
    time::{MissedTickBehavior, interval},
};

use super::{
    blocks::{Slot, blocks},
    compare::{Sample, Verdict, compare},
    config::{Observe, QosConfig},
    dead::{DeadMark, FallBack},
    is_refused,
    mark::Mark,
    observe::Observer,
    random,
    report::{MarkReport, QosEvent, QosReport},
    report_back::{SILENCE, TosReports},
};
use crate::{MeasureError, RttRecorder, Running, running::Progress};

/// What a path does with marks: whether it delays, drops or changes them.
///
/// Probes of all marks are interleaved in random order on the media's own 5-tuple and compared with best
/// effort; then, as far as this process may look, the marks are followed hop by hop. A verdict is about this
/// path at this time: run it idle and again [loaded](super::Phase::Loaded), where priorities show, and
/// see [`QosReport::under_load`].
///
/// ```no_run
/// # async fn example(prober: std::sync::Arc<perpacket_webrtc::Prober>) -> Result<(), perpacket_path::MeasureError> {
/// use perpacket_path::{Qos, QosConfig};
///
/// let report = Qos::new(prober, QosConfig::default()).start().finish().await?;
/// for mark in &report.marks {
///     for verdict in mark.comparison.iter().flat_map(|comparison| &comparison.verdicts) {
///         println!("{}: {verdict}", mark.mark);
///     }
/// }
/// for remarking in &report.observation.remarkings {
///     println!("{remarking}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Qos {
    prober: Arc<Prober>,
    config: QosConfig,
    fall_back: Option<FallBack>,
    reports: Option<TosReports>,
}

impl Qos {
    /// A test of this session's path.
    #[must_use]
    pub fn new(prober: Arc<Prober>, config: QosConfig) -> Self {
        Self {
            prober,
            config,
            fall_back: None,
            reports: None,
        }
    }

    /// The same, that also probes every DSCP that `policy`, the network's, has for the session, and goes
    /// back to DSCP 0 where one turns out to be dead (RFC 8835 §4.2), for each class that has it. One that is dead
    /// only together with an ECN field stays.
    #[must_use]
    pub fn with_fall_back(mut self, policy: &Policy) -> Self {
        self.fall_back = Some(FallBack::new(self.prober.session(), policy));
        self
    }

    /// The same, with what the peer says it has received: end to end, and without privileges.
    #[must_use]
    pub fn with_reports(mut self, reports: &TosReports) -> Self {
        self.reports = Some(reports.clone());
        self
    }

    /// Starts it, as a task of the current tokio runtime.
    pub fn start(self) -> Running<QosEvent, QosReport> {
        Running::start(|progress| self.run(progress))
    }

    async fn run(self, mut progress: Progress<QosEvent>) -> Result<QosReport, MeasureError> {
        self.config.validate()?;
        // ICE may have restarted since. Where it has no pair, the first probe says what is wrong.
        let _ = self.prober.refresh().await;
        let observer = Observer {
            prober: &self.prober,
            config: &self.config,
            reports: self.reports.as_ref(),
        };
        if self.config.observe == Observe::Required {
            // It is known now whether it can be had; a second one will have nothing old to read.
            drop(observer.listener()?);
        }
        let peer = self.prober.remote();
        let in_use = self
            .fall_back
            .as_ref()
            .map(|fall_back| fall_back.in_use(peer));
        let in_use = in_use.into_iter().flatten().map(|(_, dscp)| dscp);
        let marks = self.config.all_marks(in_use);
        let seed = self.config.seed.unwrap_or_else(random::seed);

        let probed = self.probe_all(&marks, seed, &mut progress).await?;
        let config = self.config.clone();
        // Sorting takes long enough to delay packets of this runtime.
        let evaluating = spawn_blocking(move || evaluate(&marks, &probed, &config));
        let marks = evaluating.await.map_err(panicked)?;
        for mark in &marks {
            progress.tell(QosEvent::Compared(mark.clone()));
        }
        let dead: Vec<_> = marks.iter().filter_map(dead_mark).collect();
        let mut fallen_back = Vec::new();
        for dead in &dead {
            progress.tell(QosEvent::Dead(*dead));
            if let Some(fall_back) = &self.fall_back
                && let Some(dscp) = dead.dscp()
            {
                fallen_back.extend(fall_back.leave(peer, dscp));
            }
        }
        for done in &fallen_back {
            progress.tell(QosEvent::FellBack(done.clone()));
        }
        let (observation, failed) = observer.observe(&marks, &mut progress).await;
        // Nothing can stand in the place of what takes a fall-back back.
        if let Some(error) = failed
            && self.config.observe == Observe::Required
            && fallen_back.is_empty()
        {
            return Err(error);
        }
        Ok(QosReport {
            phase: self.config.phase,
            config: self.config,
            seed,
            marks,
            dead,
            fallen_back,
            observation,
        })
    }

    /// Sends all probes, and returns what became of each, by mark and block. When it is stopped, the
    /// probes that are out do not count.
    async fn probe_all(
        &self,
        marks: &[Mark],
        seed: u64,
        progress: &mut Progress<QosEvent>,
    ) -> Result<Probed, MeasureError> {
        let mut probed = Probed::new(marks.len(), self.config.count);
        let mut slots = blocks(marks, self.config.count, seed).into_iter();
        let mut next = slots.next();
        let mut tick = interval(self.config.interval.max(Duration::from_micros(1)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut out = JoinSet::new();
        while next.is_some() || !out.is_empty() {
            tokio::select! {
                biased;
                () = progress.stopped() => break,
                Some(answered) = out.join_next() => {
                    let answered: (Slot, Result<ProbeOutcome, ProbeError>) =
                        answered.map_err(panicked)?;
                    let (slot, outcome) = answered;
                    let sample = match outcome {
                        Err(error) if is_refused(&error) => probed.refuse(slot, &error),
                        outcome => probed.add(slot, &outcome?),
                    };
                    let rtt_us = match sample {
                        Sample::Answered(rtt) => Some(rtt.as_secs_f64() * 1e6),
                        Sample::Lost | Sample::NotSent => None,
                    };
                    let (mark, block) = (marks[slot.mark], slot.block);
                    progress.tell(QosEvent::Probed { mark, block, rtt_us });
                }
                _ = tick.tick(), if next.is_some() => {
                    if let Some(slot) = next {
                        out.spawn(self.probe(slot, marks[slot.mark]));
                    }
                    next = slots.next();
                }
            }
        }
        if let Some(reports) = &self.reports {
            let answered = probed.answered.iter().copied();
            tokio::select! {
                biased;
                () = progress.stopped() => {}
                _ = reports.wait_for(answered, SILENCE) => {}
            }
            probed.count_arrived(reports);
        }
        Ok(probed)
    }

    fn probe(
        &self,
        slot: Slot,
        mark: Mark,
    ) -> impl Future<Output = (Slot, Result<ProbeOutcome, ProbeError>)> + use<> {
        let prober = Arc::clone(&self.prober);
        let probe = Probe::new()
            .with_options(MessageOptions::NONE.with_tos(mark.tos().byte()))
            .with_timeout(self.config.timeout);
        async move { (slot, prober.probe(probe).await) }
    }
}

/// What became of all probes.
struct Probed {
    /// By mark, and then by block.
    samples: Vec<Vec<Sample>>,
    /// The mark of each transaction.
    marks: HashMap<[u8; 12], usize>,
    /// The transactions that were answered.
    answered: Vec<[u8; 12]>,
    /// By mark, how many the peer says it has received; `None` if it says nothing at all.
    arrived: Option<Vec<u64>>,
}

impl Probed {
    fn new(marks: usize, count: usize) -> Self {
        Self {
            samples: vec![vec![Sample::NotSent; count]; marks],
            marks: HashMap::new(),
            answered: Vec::new(),
            arrived: None,
        }
    }

    fn add(&mut self, slot: Slot, outcome: &ProbeOutcome) -> Sample {
        self.marks.insert(outcome.transaction_id, slot.mark);
        let sample = match &outcome.result {
            ProbeResult::Answered(answer) => {
                self.answered.push(outcome.transaction_id);
                Sample::Answered(answer.rtt.time)
            }
            // Whoever says so: it has not arrived.
            ProbeResult::Icmp { .. } | ProbeResult::TooBigHere { .. } | ProbeResult::Lost => {
                Sample::Lost
            }
        };
        self.samples[slot.mark][slot.block] = sample;
        sample
    }

    /// This host did not send it.
    fn refuse(&mut self, slot: Slot, error: &ProbeError) -> Sample {
        tracing::debug!(%error, "a probe is lost before it leaves");
        self.samples[slot.mark][slot.block] = Sample::Lost;
        Sample::Lost
    }

    fn count_arrived(&mut self, reports: &TosReports) {
        let mut arrived = vec![0; self.samples.len()];
        for (id, mark) in &self.marks {
            arrived[*mark] += u64::from(reports.get(id).is_some());
        }
        self.arrived = arrived.iter().any(|count| *count > 0).then_some(arrived);
    }
}

fn evaluate(marks: &[Mark], probed: &Probed, config: &QosConfig) -> Vec<MarkReport> {
    let report = |(number, mark): (usize, &Mark)| {
        let samples = &probed.samples[number];
        let mut rtt = RttRecorder::new();
        for sample in samples.iter().filter(|sample| **sample != Sample::NotSent) {
            rtt.sent();
            match sample {
                Sample::Answered(time) => rtt.received(*time),
                Sample::Lost | Sample::NotSent => rtt.lost(),
            }
        }
        let compared = || {
            compare(
                samples,
                &probed.samples[0],
                marks.len() - 1,
                &config.significance,
            )
        };
        MarkReport {
            mark: *mark,
            rtt: rtt.statistics(),
            arrived: probed.arrived.as_ref().map(|arrived| arrived[number]),
            comparison: (number > 0).then(compared),
        }
    };
    marks.iter().enumerate().map(report).collect()
}

fn dead_mark(report: &MarkReport) -> Option<DeadMark> {
    let comparison = report.comparison.as_ref()?;
    comparison
        .verdicts
        .contains(&Verdict::Dead)
        .then_some(DeadMark {
            mark: report.mark,
            lost: report.rtt.lost,
            beside_answered: comparison.lost_alone,
        })
}

/// A task that nobody aborts ends without a result only by a panic.
fn panicked(_: JoinError) -> MeasureError {
    MeasureError::Aborted
}
