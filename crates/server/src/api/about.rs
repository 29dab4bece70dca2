use axum::{Json, extract::State};

use super::{App, input::Parameters};
use crate::{
    model::ServerView,
    problem::{Problem, ProblemDetails},
};

/// What this server is.
#[utoipa::path(
    get,
    path = "/api/server",
    tag = "server",
    responses(
        (status = 200, body = ServerView),
        (status = 422, body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("token" = []))
)]
pub(super) async fn server(
    State(app): State<App>,
    parameters: Parameters,
) -> Result<Json<ServerView>, Problem> {
    parameters.known(&[])?;
    let status = app.history().map(crate::history::History::status);
    Ok(Json(ServerView {
        name: app.name.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: app.started,
        udp: app.udp.clone(),
        clients: app.live.count(),
        database: app
            .history()
            .map_or("memory", |it| it.database())
            .to_owned(),
        recording: status.as_ref().is_some_and(|status| status.recording),
        recording_error: match status {
            Some(status) => status.error,
            None => Some("this server keeps no history".to_owned()),
        },
    }))
}

/// Whether the server answers.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "server",
    responses((status = 200, body = String, content_type = "text/plain"))
)]
pub(super) async fn health() -> &'static str {
    "ok"
}
