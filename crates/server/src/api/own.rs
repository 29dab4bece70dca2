//! What a client may see of itself, by its own name, which nobody else can guess; and the result that it shares.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use futures_util::stream::unfold;
use serde_json::{Value, json};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Interval, MissedTickBehavior, interval},
};

use super::{
    App,
    events::{event, room, stream_of},
    input::{Named, Parameters},
};
use crate::{
    ids,
    live::{Found, LiveClient},
    model::{Client, SelfView},
    problem::{Problem, ProblemDetails},
};

/// How often a client hears of itself.
const EVERY: Duration = Duration::from_secs(1);

impl App {
    fn own(&self, id: &str) -> Result<Found, Problem> {
        if !ids::is_one(id) {
            return Err(Problem::not_found("client"));
        }
        self.find(id)
    }
}

fn view(found: &Found) -> SelfView {
    match found {
        Found::Live(client) => client.self_view(),
        Found::Ended(client) => of_ended(client),
    }
}

fn of_ended(client: &Client) -> SelfView {
    let sample = client.sample.as_ref();
    let hops = client.trace.as_ref().map(|trace| &trace["peer_ttl"]);
    SelfView {
        state: client.state,
        verdict: client.verdict.clone(),
        rtt_ms: sample.and_then(|sample| sample.rtt_ms),
        loss: sample.and_then(|sample| sample.loss),
        path_mtu: client.path_mtu.map(|mtu| mtu.mtu),
        hops: hops
            .and_then(Value::as_u64)
            .and_then(|hops| hops.try_into().ok()),
        shared: None,
        at: sample.map_or(client.since, |sample| sample.at),
        server: client.server.clone(),
    }
}

/// What the client of that name may see of itself.
#[utoipa::path(
    get,
    path = "/self/{id}",
    tag = "measured",
    params(("id" = String, Path, description = "the client's name")),
    responses(
        (status = 200, body = SelfView),
        (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = ProblemDetails, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(
    State(app): State<App>,
    Named(id): Named<String>,
    parameters: Parameters,
) -> Result<Json<SelfView>, Problem> {
    parameters.known(&[])?;
    Ok(Json(view(&app.own(&id)?)))
}

/// The same as server-sent events, `self`, once a second until it ends.
#[utoipa::path(
    get,
    path = "/self/{id}/events",
    tag = "measured",
    params(("id" = String, Path, description = "the client's name")),
    responses(
        (status = 200, body = String, content_type = "text/event-stream"),
        (status = 204, description = "the client has ended"),
        (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = ProblemDetails, content_type = "application/problem+json", description = "too many streams are open"),
    )
)]
pub(super) async fn events(
    State(app): State<App>,
    Named(id): Named<String>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.known(&[])?;
    let Found::Live(client) = app.own(&id)? else {
        // It makes an event source give up (HTML Standard, §9.2.3).
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let following = Following {
        permits: [room(&app.own_streams)?, room(&client.watching)?],
        stopping: app.stopping.subscribe(),
        client: Some(client),
        ticks,
    };
    Ok(stream_of(unfold(following, async |mut following| {
        let view = following.next().await?;
        Some((Ok::<_, Infallible>(event("self", &view)), following))
    })))
}

/// A client that follows itself.
struct Following {
    /// Until it has ended.
    client: Option<Arc<LiveClient>>,
    ticks: Interval,
    stopping: watch::Receiver<bool>,
    #[expect(dead_code, reason = "they are given back with this")]
    permits: [OwnedSemaphorePermit; 2],
}

impl Following {
    async fn next(&mut self) -> Option<SelfView> {
        let client = self.client.clone()?;
        tokio::select! {
            _ = self.stopping.wait_for(|stopping| *stopping) => return None,
            _ = self.ticks.tick() => {}
        }
        if client.has_ended() {
            self.client = None;
        }
        Some(client.self_view())
    }
}

/// Shares the result of the client of that name, as it is now.
#[utoipa::path(
    post,
    path = "/self/{id}/share",
    tag = "measured",
    params(("id" = String, Path, description = "the client's name")),
    responses(
        (status = 200, body = Shared),
        (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = ProblemDetails, content_type = "application/problem+json"),
    )
)]
pub(super) async fn share(
    State(app): State<App>,
    Named(id): Named<String>,
    parameters: Parameters,
) -> Result<Json<Shared>, Problem> {
    parameters.known(&[])?;
    let found = app.own(&id)?;
    let mut result = view(&found);
    result.shared = None;
    let share = app.live.shares.add(&id, result);
    if let Found::Live(client) = found {
        client.change_seen(|seen| seen.shared = Some(share.clone()));
    }
    Ok(Json(Shared {
        url: format!("/r/{share}"),
    }))
}

/// Where a result can be seen.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub(super) struct Shared {
    /// The page, on this server.
    #[schema(example = "/r/0123456789abcdef0123456789abcdef")]
    url: String,
}

/// A result that somebody has shared, as it was then.
#[utoipa::path(
    get,
    path = "/r/{share}/result",
    tag = "measured",
    params(("share" = String, Path, description = "the result's name")),
    responses(
        (status = 200, body = SelfView),
        (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = ProblemDetails, content_type = "application/problem+json"),
    )
)]
pub(super) async fn result(
    State(app): State<App>,
    Named(share): Named<String>,
    parameters: Parameters,
) -> Result<Json<Value>, Problem> {
    parameters.known(&[])?;
    let result = app.live.shares.get(&share);
    let result = result.ok_or_else(|| Problem::not_found("result"))?;
    Ok(Json(json!(result)))
}
