//! Where marks change, as far as this process may look, and as the peer says.

use std::sync::Arc;

use perpacket_udp::IcmpListener;
use perpacket_webrtc::Prober;

use super::{
    config::{Observe, QosConfig},
    place::place_remarkings,
    remark::telling_marks,
    report::{MarkReport, Observation, QosEvent, Visibility},
    report_back::TosReports,
    sweep::Sweep,
};
use crate::{MeasureError, running::Progress, ttl};

const STOPPED: &str = "the test was stopped";

pub(super) struct Observer<'a> {
    pub(super) prober: &'a Arc<Prober>,
    pub(super) config: &'a QosConfig,
    pub(super) reports: Option<&'a TosReports>,
}

impl Observer<'_> {
    /// A raw socket, or why there is none.
    pub(super) fn listener(&self) -> Result<Result<IcmpListener, Visibility>, MeasureError> {
        if self.config.observe == Observe::Never {
            return Ok(Err(Visibility::NotAsked));
        }
        match IcmpListener::open(self.prober.remote().ip()) {
            Ok(listener) => Ok(Ok(listener)),
            Err(source) if self.config.observe == Observe::Required => {
                Err(MeasureError::Unavailable {
                    what: "open a raw ICMP socket, to see marks on their way",
                    source,
                })
            }
            Err(error) => Ok(Err(unavailable(format!("no raw ICMP socket: {error}")))),
        }
    }

    /// Follows marks on their way: all those that tell re-markings apart, and the test's own. An error, which the
    /// observation has in words, is why there is less than was asked for.
    pub(super) async fn observe(
        &self,
        marks: &[MarkReport],
        progress: &mut Progress<QosEvent>,
    ) -> (Observation, Option<MeasureError>) {
        let wanted = self.config.observe != Observe::Never;
        let (on_the_way, at_the_peer) = match self.reports {
            _ if !wanted => (Visibility::NotAsked, Visibility::NotAsked),
            Some(_) => (Visibility::Observed, Visibility::Observed),
            None => (
                Visibility::Observed,
                unavailable("the peer reports nothing"),
            ),
        };
        let mut observation = Observation {
            on_the_way,
            at_the_peer,
            hops: None,
            paths: Vec::new(),
            remarkings: Vec::new(),
        };
        let looked = self.look(marks, &mut observation, progress).await;
        if let Err(error) = &looked {
            nowhere(&mut observation, &error.to_string());
        }
        (observation, looked.err())
    }

    async fn look(
        &self,
        marks: &[MarkReport],
        observation: &mut Observation,
        progress: &mut Progress<QosEvent>,
    ) -> Result<(), MeasureError> {
        let listener = match self.listener()? {
            Ok(listener) => Some(listener),
            Err(why_not) => {
                observation.on_the_way = why_not;
                None
            }
        };
        let reports = self
            .reports
            .filter(|_| self.config.observe != Observe::Never);
        if listener.is_none() && reports.is_none() {
            return Ok(());
        }
        let config = ttl::ReachTtlConfig {
            timeout: self.config.timeout,
            ..ttl::ReachTtlConfig::default()
        };
        let reach = tokio::select! {
            biased;
            () = progress.stopped() => {
                nowhere(observation, STOPPED);
                return Ok(());
            }
            reach = ttl::search(self.prober, &config) => reach?,
        };
        let Some(hops) = reach.map(|reach| reach.ttl) else {
            nowhere(observation, "the peer does not answer");
            return Ok(());
        };
        observation.hops = Some(hops);
        let mut observed = telling_marks();
        let own = marks.iter().map(|report| report.mark);
        observed.extend(own.filter(|mark| !telling_marks().contains(mark)));
        let may_see = listener.is_some();
        let sweep = Sweep {
            prober: self.prober,
            marks: observed,
            hops,
            listener,
            reports,
            timeout: self.config.timeout,
        };
        observation.paths = sweep.run(progress).await?;
        let mut seen = observation.paths.iter().flat_map(|path| path.seen.keys());
        let because = |reason| {
            unavailable(if progress.is_stopped() {
                STOPPED
            } else {
                reason
            })
        };
        if may_see && hops > 1 && !seen.clone().any(|hop| *hop < hops) {
            observation.on_the_way = because("no router shows what it has received");
        }
        if reports.is_some() && !seen.any(|hop| *hop == hops) {
            observation.at_the_peer = because("the peer has reported none of the probes");
        }
        observation.remarkings = place_remarkings(&observation.paths);
        for remarking in &observation.remarkings {
            progress.tell(QosEvent::Remarked(remarking.clone()));
        }
        Ok(())
    }
}

/// Nothing was seen, of what could have been.
fn nowhere(observation: &mut Observation, reason: &str) {
    for place in [&mut observation.on_the_way, &mut observation.at_the_peer] {
        if *place == Visibility::Observed {
            *place = unavailable(reason);
        }
    }
}

fn unavailable(reason: impl Into<String>) -> Visibility {
    Visibility::Unavailable {
        reason: reason.into(),
    }
}
