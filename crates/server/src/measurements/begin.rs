use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use perpacket_path::{
    MeasureError, PathMtu, PathMtuReport, Qos, ReachTtl, ReachTtlReport, Running, Trace,
    TraceReport,
};
use perpacket_webrtc::Prober;
use serde::Serialize;
use serde_json::Value;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{Key, Measurement, Request, key::key};
use crate::{
    live::LiveClient,
    model::{ClientState, MeasurementInfo, PathMtuView, Timestamp},
    notes::Notes,
};

/// Events of one key that come more often are left out of what is told: those of a `QoS` test come with every probe.
const SPACING: Duration = Duration::from_millis(250);

/// How long it may take until a client that is connected can be probed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a measurement does not begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the client is not connected")]
    NotConnected,
    #[error("the path of this client cannot be probed: {0}")]
    NoProber(String),
    #[error("a {0} of this client is running already")]
    Running(&'static str),
    #[error("too many measurements are running")]
    TooMany,
}

/// Begins a measurement, which goes on by itself.
pub(crate) async fn begin(
    client: &Arc<LiveClient>,
    notes: &Arc<Notes>,
    room: &Arc<Semaphore>,
    request: Request,
) -> Result<MeasurementInfo, Refusal> {
    if client.state() != ClientState::Connected {
        return Err(Refusal::NotConnected);
    }
    let prober = timeout(PATIENCE, client.make_prober()).await;
    let prober = prober
        .map_err(|_| Refusal::NoProber("it does not complete its connection".to_owned()))?
        .map_err(|error| Refusal::NoProber(error.to_string()))?;
    let permit = Arc::clone(room)
        .try_acquire_owned()
        .map_err(|_| Refusal::TooMany)?;
    let measurement = Arc::new(Measurement::new(&client.id, &request));
    if !client.measurements.add(&measurement) {
        return Err(if client.has_ended() {
            Refusal::NotConnected
        } else {
            Refusal::Running(request.kind())
        });
    }
    let info = measurement.info();
    notes.measurement(&client.id, &info, None);
    tokio::spawn(run(
        Arc::clone(client),
        Arc::clone(notes),
        Arc::clone(&measurement),
        prober,
        request,
        permit,
    ));
    Ok(info)
}

async fn run(
    client: Arc<LiveClient>,
    notes: Arc<Notes>,
    measurement: Arc<Measurement>,
    prober: Arc<Prober>,
    request: Request,
    permit: OwnedSemaphorePermit,
) {
    let follow = Follow {
        client: &client,
        notes: &notes,
        measurement: &measurement,
    };
    let result = match request {
        Request::Trace(config) => {
            let running = Trace::new(prober, config).start();
            follow
                .to_the_end(running, |report| keep_trace(&client, report))
                .await
        }
        Request::Pmtu { config, apply } => {
            let running = PathMtu::new(prober, config).start();
            let keep = |report: &PathMtuReport| keep_path_mtu(&client, report, apply);
            follow.to_the_end(running, keep).await
        }
        Request::Qos(config) => {
            let running = Qos::new(prober, config).start();
            follow.to_the_end(running, |_| Ok(())).await
        }
        Request::Ttl(config) => {
            let running = ReachTtl::new(prober, config).start();
            follow
                .to_the_end(running, |report| keep_reach(&client, report))
                .await
        }
    };
    let info = measurement.finish(result.map_err(|error| error.to_string()));
    drop(permit);
    notes.measurement(&client.id, &info, measurement.view().report.as_ref());
    if !client.has_ended() {
        notes.client(&client);
    }
}

struct Follow<'a> {
    client: &'a LiveClient,
    notes: &'a Notes,
    measurement: &'a Measurement,
}

impl Follow<'_> {
    /// Hands on what a measurement sees, until it is done or to be stopped, and what it has found.
    async fn to_the_end<E: Serialize, R: Serialize>(
        &self,
        mut running: Running<E, R>,
        keep: impl FnOnce(&R) -> Result<(), MeasureError>,
    ) -> Result<Value, MeasureError> {
        let mut stop = self.measurement.stop.subscribe();
        let mut told = HashMap::new();
        let info = self.measurement.info();
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => {
                    running.stop();
                    break;
                }
                event = running.next() => match event {
                    Some(event) => self.saw(&info, &event, &mut told),
                    None => break,
                },
            }
        }
        let report = running.finish().await?;
        keep(&report)?;
        Ok(serde_json::to_value(&report).unwrap_or_default())
    }

    fn saw(
        &self,
        info: &MeasurementInfo,
        event: &impl Serialize,
        told: &mut HashMap<Key, Instant>,
    ) {
        let event = serde_json::to_value(event).unwrap_or_default();
        let key = key(&event);
        let is_frequent = event["event"] == "probed";
        let now = Instant::now();
        let is_due = told
            .get(&key)
            .is_none_or(|last| now.duration_since(*last) >= SPACING);
        if !is_frequent || is_due {
            self.notes.row(&self.client.id, info, &key.1, &event);
            if is_frequent {
                told.insert(key.clone(), now);
            }
        }
        self.measurement.saw(key, event);
    }
}

#[expect(clippy::unnecessary_wraps, reason = "what else is kept may be refused")]
fn keep_trace(client: &LiveClient, report: &TraceReport) -> Result<(), MeasureError> {
    let trace = serde_json::to_value(report).ok().map(Arc::new);
    client.change_seen(|seen| {
        seen.trace = trace;
        seen.trace_at = Some(Timestamp::now());
        seen.hops = report.peer_ttl.or(seen.hops);
    });
    Ok(())
}

/// What was stopped early has found nothing yet.
pub(crate) fn keep_path_mtu(
    client: &LiveClient,
    report: &PathMtuReport,
    apply: bool,
) -> Result<(), MeasureError> {
    if !report.complete {
        return Ok(());
    }
    client.change_seen(|seen| {
        seen.path_mtu = Some(PathMtuView {
            mtu: report.mtu as u64,
            exact: report.exact,
            at: Timestamp::now(),
        });
    });
    if apply {
        report.apply(&client.session)?;
    }
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "what else is kept may be refused")]
pub(crate) fn keep_reach(client: &LiveClient, report: &ReachTtlReport) -> Result<(), MeasureError> {
    if let Some(reach) = report.reach {
        client.change_seen(|seen| seen.hops = Some(reach.ttl));
    }
    Ok(())
}
