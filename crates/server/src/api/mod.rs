//! The REST API, the events, and the pages, over HTTP.

mod about;
mod auth;
mod clients;
mod docs;
mod events;
mod export;
mod headers;
mod input;
mod measurements;
mod metrics;
mod options;
mod own;
mod packet;
mod pages;
mod past;
mod rate;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{Method, StatusCode, Uri},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::get,
};
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(crate) use metrics::Metrics;
pub(crate) use rate::{Rate, network};

use crate::{
    Sessions, Token,
    history::History,
    live::{Found, Live, LiveClient},
    model::Timestamp,
    notes::Notes,
    problem::Problem,
    whip,
};

/// How many streams of events operators may have open.
pub(crate) const STREAMS: usize = 64;

/// How many streams clients may have open about themselves: fewer than there may be connections, so that there is
/// room for operators.
pub(crate) const OWN_STREAMS: usize = 600;

/// How long a request may take, until its answer begins. All that is done here is done sooner: what takes so long is a
/// body that does not come.
const REQUEST: Duration = Duration::from_secs(20);

/// What all requests share. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct App(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) started: Timestamp,
    pub(crate) udp: Vec<SocketAddr>,
    pub(crate) sessions: Sessions,
    pub(crate) live: Arc<Live>,
    pub(crate) notes: Arc<Notes>,
    pub(crate) token: Token,
    /// Origins whose pages may ask what this server's own may.
    pub(crate) origins: Vec<String>,
    pub(crate) rate: Rate,
    /// Room for streams of events of operators.
    pub(crate) streams: Arc<Semaphore>,
    /// Room for streams of events of clients about themselves.
    pub(crate) own_streams: Arc<Semaphore>,
    /// Room for measurements.
    pub(crate) measuring: Arc<Semaphore>,
    /// How many measurements that is.
    pub(crate) measurements: usize,
    /// Whether the server is about to end.
    pub(crate) stopping: watch::Sender<bool>,
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    pub(crate) fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }

    fn history(&self) -> Option<&History> {
        self.notes.history.as_ref()
    }

    /// The client of that name, whether it lives or has ended, on this server.
    fn find(&self, id: &str) -> Result<Found, Problem> {
        self.live
            .find(id)
            .ok_or_else(|| Problem::not_found("client"))
    }

    /// The client of that name, which something is to be done with.
    async fn living(&self, id: &str) -> Result<Arc<LiveClient>, Problem> {
        match self.live.find(id) {
            Some(Found::Live(client)) if !client.has_ended() => Ok(client),
            Some(_) => Err(ended()),
            None => match self.elsewhere(id).await? {
                Some(client) if client.ended.is_some() => Err(ended()),
                Some(client) => Err(Problem::new(
                    StatusCode::CONFLICT,
                    format!("the client is connected to the server {}", client.server),
                )),
                None => Err(Problem::not_found("client")),
            },
        }
    }
}

fn ended() -> Problem {
    Problem::new(StatusCode::CONFLICT, "the client has ended")
}

/// Everything that this server answers.
pub(crate) fn router(app: App) -> Router {
    let (operators, mut document) = OpenApiRouter::with_openapi(docs::Document::openapi())
        .routes(routes!(clients::list))
        .routes(routes!(clients::get))
        .routes(routes!(options::get, options::set, options::clear))
        .routes(routes!(measurements::list, measurements::begin))
        .routes(routes!(measurements::get, measurements::stop))
        .routes(routes!(events::all))
        .routes(routes!(past::samples))
        .routes(routes!(past::changes))
        .routes(routes!(past::audit))
        .routes(routes!(export::export))
        .routes(routes!(about::server))
        .routes(routes!(metrics::scrape))
        .split_for_parts();
    let (everybody, public) = OpenApiRouter::new()
        .routes(routes!(own::get))
        .routes(routes!(own::events))
        .routes(routes!(own::share))
        .routes(routes!(own::result))
        .routes(routes!(about::health))
        .split_for_parts();
    document.merge(public);
    docs::finish(&mut document);

    let operators = operators
        .route_layer(from_fn_with_state(app.clone(), auth::operators_only))
        .route_layer(from_fn_with_state(app.clone(), auth::same_origin_only));
    let everybody = everybody
        .merge(docs::router(&document))
        .route_layer(from_fn_with_state(app.clone(), auth::same_origin_only));
    operators
        .merge(everybody)
        .with_state(app.clone())
        .layer(DefaultBodyLimit::max(input::LONGEST_BODY))
        .merge(whip::router(app.sessions.clone()))
        .merge(pages::router())
        .route("/favicon.ico", get(async || StatusCode::NO_CONTENT))
        .fallback(nothing)
        .method_not_allowed_fallback(not_allowed)
        .layer(from_fn(in_time))
        .layer(from_fn_with_state(app, rate::limit))
        .layer(from_fn(headers::secure))
}

/// Gives up on whoever does not come to the end of what is asked for.
async fn in_time(request: Request, next: Next) -> Response {
    let answer = timeout(REQUEST, next.run(request)).await;
    answer.unwrap_or_else(|_| {
        Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            format!(
                "the request was not complete within {} s",
                REQUEST.as_secs()
            ),
        )
        .into_response()
    })
}

async fn nothing(uri: Uri) -> Problem {
    // Somebody else's text, at a length that can be read.
    let path: String = uri.path().chars().take(80).collect();
    Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {path}"))
}

async fn not_allowed(method: Method) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{method} means nothing here"),
    )
}
