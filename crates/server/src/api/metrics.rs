//! What Prometheus asks for. Names and units are as its documentation has them: base units, `_total` for what only
//! grows. Nothing here names a client: there may be very many.

use axum::{
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use perpacket_webrtc::{DropCause, PacketClass};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::{App, input::Parameters};
use crate::{
    model::{ClientState, Level, Sample},
    problem::{Problem, ProblemDetails},
};

/// Upper ends of what round trips are counted in, seconds.
const ROUND_TRIPS: [f64; 12] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2,
];

/// Upper ends of what loss is counted in, 0 to 1.
const LOSSES: [f64; 8] = [0.0, 0.01, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0];

/// What is counted as it happens; the rest is looked up when it is asked for.
#[derive(Debug)]
pub(crate) struct Metrics {
    round_trip: Histogram,
    loss: Histogram,
    /// Changes of options that this server has taken back.
    reverted: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            round_trip: Histogram::new(ROUND_TRIPS),
            loss: Histogram::new(LOSSES),
            reverted: Counter::default(),
        }
    }
}

impl Metrics {
    pub(crate) fn sample(&self, sample: &Sample) {
        if let Some(rtt) = sample.rtt_ms {
            self.round_trip.observe(rtt / 1e3);
        }
        if let Some(loss) = sample.loss {
            self.loss.observe(loss);
        }
    }

    pub(crate) fn reverted(&self) {
        self.reverted.inc();
    }
}

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Counters<const N: usize> = Family<Labels<N>, Counter>;
type Gauges<const N: usize> = Family<Labels<N>, Gauge>;

/// What Prometheus asks for.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "server",
    responses(
        (status = 200, body = String, content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (status = 422, body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("token" = []))
)]
pub(super) async fn scrape(
    State(app): State<App>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.known(&[])?;
    let mut registry = Registry::with_prefix("perpacket");
    clients(&app, &mut registry);
    packets(&app, &mut registry);
    server(&app, &mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|_| Problem::internal())?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(CONTENT_TYPE, kind)], text).into_response())
}

fn clients(app: &App, registry: &mut Registry) {
    let (states, verdicts) = (Gauges::<1>::default(), Gauges::<1>::default());
    for state in [
        "new",
        "connecting",
        "connected",
        "disconnected",
        "failed",
        "closed",
    ] {
        states.get_or_create(&[("state", state)]).set(0);
    }
    for level in ["good", "fair", "bad", "unknown"] {
        verdicts.get_or_create(&[("verdict", level)]).set(0);
    }
    for client in app.live.list() {
        states
            .get_or_create(&[("state", state(client.state()))])
            .inc();
        let level = level(client.seen().verdict.level);
        verdicts.get_or_create(&[("verdict", level)]).inc();
    }
    let counted = &app.notes.metrics;
    registry.register(
        "clients",
        "Clients by the state of their connection",
        states,
    );
    registry.register(
        "client_verdicts",
        "Clients by how good their path is",
        verdicts,
    );
    registry.register_with_unit(
        "round_trip",
        "Round trips of clients, each second's mean",
        Unit::Seconds,
        counted.round_trip.clone(),
    );
    registry.register_with_unit(
        "loss",
        "Loss of clients, each second's share",
        Unit::Ratios,
        counted.loss.clone(),
    );
    registry.register(
        "option_changes_reverted",
        "Changes of options that the server has taken back",
        counted.reverted.clone(),
    );
}

fn packets(app: &App, registry: &mut Registry) {
    let total = app.sessions.transport().net().snapshot().total;
    let datagrams = Counters::<2>::default();
    let bytes = Counters::<2>::default();
    let dropped = Counters::<2>::default();
    let oversize = Counters::<1>::default();
    for class in PacketClass::ALL {
        let of = total.class(class);
        let name = class.as_str();
        for (direction, packets, payload) in [
            ("sent", of.sent, of.sent_bytes),
            ("received", of.received, of.received_bytes),
        ] {
            let labels = [("class", name), ("direction", direction)];
            datagrams.get_or_create(&labels).inc_by(packets);
            bytes.get_or_create(&labels).inc_by(payload);
        }
        for cause in DropCause::ALL {
            let labels = [("class", name), ("cause", cause.as_str())];
            dropped.get_or_create(&labels).inc_by(of.dropped_for(cause));
        }
        oversize
            .get_or_create(&[("class", name)])
            .inc_by(of.oversize);
    }
    let icmp = Counters::<1>::default();
    for (kind, count) in [
        ("time_exceeded", total.icmp.time_exceeded),
        ("unreachable", total.icmp.unreachable),
        ("too_big", total.icmp.too_big),
        ("other", total.icmp.other),
    ] {
        icmp.get_or_create(&[("kind", kind)]).inc_by(count);
    }
    registry.register(
        "datagrams",
        "Datagrams that were sent and received",
        datagrams,
    );
    registry.register_with_unit(
        "payload",
        "Their payload, without the headers of IP and UDP",
        Unit::Bytes,
        bytes,
    );
    registry.register(
        "datagrams_dropped",
        "Datagrams that were dropped here",
        dropped,
    );
    registry.register(
        "datagrams_oversize",
        "Datagrams that were larger than the path of their session carries whole",
        oversize,
    );
    registry.register(
        "icmp_errors",
        "What the network said of what was sent",
        icmp,
    );
}

fn server(app: &App, registry: &mut Registry) {
    let info = Gauges::<1>::default();
    info.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))])
        .set(1);
    registry.register("build_info", "What this is", info);
    let start: Gauge<f64, std::sync::atomic::AtomicU64> = Gauge::default();
    #[expect(clippy::cast_precision_loss, reason = "it is exact for ages to come")]
    start.set(app.started.millis() as f64 / 1e3);
    registry.register_with_unit(
        "start_time",
        "When the server was started, since 1970",
        Unit::Seconds,
        start,
    );
    let streams: Gauge = Gauge::default();
    streams.set(in_use(super::STREAMS, app.streams.available_permits()));
    registry.register("event_streams", "Operators who follow the events", streams);
    let measuring: Gauge = Gauge::default();
    measuring.set(in_use(app.measurements, app.measuring.available_permits()));
    registry.register("measurements_running", "Measurements under way", measuring);
    if let Some(history) = app.history() {
        let status = history.status();
        let (recording, queued): (Gauge, Gauge) = (Gauge::default(), Gauge::default());
        recording.set(status.recording.into());
        queued.set(status.queued.try_into().unwrap_or(i64::MAX));
        let lost: Counter = Counter::default();
        lost.inc_by(status.lost);
        registry.register(
            "history_recording",
            "Whether what happens gets into the database",
            recording,
        );
        registry.register("history_queued", "Entries that wait to be written", queued);
        registry.register("history_lost", "Entries that were not written", lost);
    }
}

fn in_use(all: usize, free: usize) -> i64 {
    all.saturating_sub(free).try_into().unwrap_or(i64::MAX)
}

fn state(state: ClientState) -> &'static str {
    match state {
        ClientState::New => "new",
        ClientState::Connecting => "connecting",
        ClientState::Connected => "connected",
        ClientState::Disconnected => "disconnected",
        ClientState::Failed => "failed",
        ClientState::Closed => "closed",
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Unknown => "unknown",
        Level::Good => "good",
        Level::Fair => "fair",
        Level::Bad => "bad",
    }
}
