//! Server-sent events: what happens to all clients, for operators.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream::unfold;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};

use super::{App, input::Parameters};
use crate::{
    live,
    model::Timestamp,
    problem::{Problem, ProblemDetails},
};

/// How often something is said when there is nothing to say.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What happens, as server-sent events. `hello` comes first, then `client`, `sample`, `options`, `measurement`, `row`
/// and `audit`; `lagged` where some were lost. `Last-Event-ID` goes on from there, within the last 1,000.
#[utoipa::path(
    get,
    path = "/api/events",
    tag = "events",
    params(
        ("client" = Option<String>, Query, description = "only what is about this client"),
        ("last-event-id" = Option<String>, Header, description = "the id of the last event that was read"),
    ),
    responses(
        (status = 200, body = String, content_type = "text/event-stream"),
        (status = 422, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = ProblemDetails, content_type = "application/problem+json", description = "too many follow the events"),
    ),
    security(("token" = []))
)]
pub(super) async fn all(
    State(app): State<App>,
    headers: HeaderMap,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let parameters = parameters.known(&["client"])?;
    let permit = room(&app.streams)?;
    // What is no id is that of another server: there is nothing to go on from.
    let last = headers.get("last-event-id");
    let last = last.and_then(|id| id.to_str().ok()?.trim().parse().ok());
    let live::Subscription {
        missed,
        forgotten,
        last_id,
        coming,
    } = app.live.events.subscribe(last);
    let mut waiting = VecDeque::new();
    let hello = json!({
        "server": &*app.name,
        "now": Timestamp::now(),
        "version": env!("CARGO_PKG_VERSION"),
    });
    let hello = event("hello", &hello);
    // Who has missed something goes on from there, if this stream ends before that was read.
    waiting.push_back(if missed.is_empty() {
        hello.id(last_id.to_string())
    } else {
        hello
    });
    if forgotten > 0 {
        waiting.push_back(lagged(forgotten));
    }
    let following = Following {
        client: parameters.text("client").map(Arc::from),
        coming,
        stopping: app.stopping.subscribe(),
        _permit: permit,
        waiting,
    };
    let missed = missed.iter().filter(|event| following.wants(event));
    let missed: Vec<_> = missed.map(|event| told(event)).collect();
    let mut following = following;
    following.waiting.extend(missed);
    let stream = unfold(following, async |mut following| {
        let event = following.next().await?;
        Some((Ok::<_, Infallible>(event), following))
    });
    Ok(stream_of(stream))
}

/// An answer that goes on.
pub(super) fn stream_of<S>(stream: S) -> Response
where
    S: futures_util::Stream<Item = Result<Event, Infallible>> + Send + 'static,
{
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    let events = Sse::new(stream).keep_alive(keep_alive);
    // nginx would wait until it has a page full of them.
    ([("x-accel-buffering", "no")], events).into_response()
}

/// Room for one more stream.
pub(super) fn room(streams: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Problem> {
    Arc::clone(streams).try_acquire_owned().map_err(|_| {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many streams of events are open",
        )
    })
}

/// An event with this JSON.
pub(super) fn event(name: &str, data: &impl serde::Serialize) -> Event {
    // Nothing here has keys that are no text.
    let data = serde_json::to_string(data).unwrap_or_default();
    Event::default().event(name).data(data)
}

fn lagged(missed: u64) -> Event {
    event("lagged", &json!({ "missed": missed }))
}

fn told(happened: &live::Event) -> Event {
    Event::default()
        .event(happened.name)
        .id(happened.id.to_string())
        .data(&happened.data)
}

/// One who follows the events.
struct Following {
    client: Option<Arc<str>>,
    coming: broadcast::Receiver<Arc<live::Event>>,
    stopping: watch::Receiver<bool>,
    waiting: VecDeque<Event>,
    _permit: OwnedSemaphorePermit,
}

impl Following {
    fn wants(&self, happened: &live::Event) -> bool {
        self.client
            .as_ref()
            .is_none_or(|client| happened.client.as_ref() == Some(client))
    }

    /// `None` once the server is about to end.
    async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.waiting.pop_front() {
            return Some(event);
        }
        loop {
            let happened = tokio::select! {
                biased;
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
                happened = self.coming.recv() => happened,
            };
            match happened {
                Ok(happened) if self.wants(&happened) => return Some(told(&happened)),
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(missed)) => return Some(lagged(missed)),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
