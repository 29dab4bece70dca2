use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tokio::time::timeout;

use super::{
    App,
    auth::Operator,
    clients,
    input::{Body, Named, Parameters},
};
use crate::{
    live::Found,
    measurements::{self, Request},
    model::{
        MeasurementInfo, MeasurementList, MeasurementRequest, MeasurementState, MeasurementView,
    },
    problem::{Problem, ProblemDetails},
};

/// How long is waited for a measurement that is stopped: it has a probe or two out.
const STOPPING: Duration = Duration::from_secs(3);

/// The measurements of a client, the newest first.
#[utoipa::path(
    get,
    path = "/api/clients/{id}/measurements",
    tag = "measurements",
    params(("id" = String, Path, description = "the client's name")),
    responses(
        (status = 200, body = MeasurementList),
        (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("token" = []))
)]
pub(super) async fn list(
    State(app): State<App>,
    Named(id): Named<String>,
    parameters: Parameters,
) -> Result<Json<MeasurementList>, Problem> {
    parameters.known(&[])?;
    let mut measurements = match app.live.find(&id) {
        Some(Found::Live(client)) => client.measurements.list(),
        Some(Found::Ended(client)) => client.measurements,
        None => match app.elsewhere(&id).await? {
            Some(client) => client.measurements,
            None => return Err(Problem::not_found("client")),
        },
    };
    if let Some(history) = app.history() {
        let older = history.measurements(&id).await?.into_iter();
        let older: Vec<_> = older
            .map(clients::measurement)
            .filter(|old| measurements.iter().all(|it| it.id != old.id))
            .collect();
        measurements.extend(older);
    }
    Ok(Json(MeasurementList { measurements }))
}

/// Begins a measurement of a client's path.
#[utoipa::path(
    post,
    path = "/api/clients/{id}/measurements",
    tag = "measurements",
    params(("id" = String, Path, description = "the client's name")),
    request_body(content = MeasurementRequest, example = json!({"kind": "trace", "rounds": 3})),
    responses(
        (status = 201, body = MeasurementInfo, headers(("location" = String, description = "the measurement"))),
        (status = 400, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = ProblemDetails, content_type = "application/problem+json", description = "one of that kind is running, or the client cannot be measured"),
        (status = 413, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 415, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = ProblemDetails, content_type = "application/problem+json", description = "too many measurements are running"),
    ),
    security(("token" = []))
)]
pub(super) async fn begin(
    State(app): State<App>,
    Operator(by): Operator,
    Named(id): Named<String>,
    parameters: Parameters,
    Body(body): Body,
) -> Result<Response, Problem> {
    parameters.known(&[])?;
    let client = app.living(&id).await?;
    let request = Request::parse(&body)?;
    let info = measurements::begin(&client, &app.notes, &app.measuring, request).await?;
    let detail = json!({ "measurement": info.id, "kind": info.kind, "config": info.config });
    app.notes
        .audit(&by, "measurement.begun", Some(&client.id), detail);
    let location = format!("/api/clients/{id}/measurements/{}", info.id);
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(info)).into_response())
}

/// A measurement and what it has found.
#[utoipa::path(
    get,
    path = "/api/clients/{id}/measurements/{measurement}",
    tag = "measurements",
    params(
        ("id" = String, Path, description = "the client's name"),
        ("measurement" = String, Path, description = "the measurement's name"),
    ),
    responses(
        (status = 200, body = MeasurementView),
        (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("token" = []))
)]
pub(super) async fn get(
    State(app): State<App>,
    Named((id, measurement)): Named<(String, String)>,
    parameters: Parameters,
) -> Result<Json<MeasurementView>, Problem> {
    parameters.known(&[])?;
    if let Some(client) = app.live.get(&id)
        && let Some(found) = client.measurements.get(&measurement)
    {
        return Ok(Json(found.view()));
    }
    if let Some(recorded) = recorded(&app, &id, &measurement).await? {
        return Ok(Json(recorded));
    }
    app.is_known(&id).await?;
    Err(Problem::not_found("measurement"))
}

/// One that has ended, of which history alone knows: of each client the newest are in memory.
async fn recorded(
    app: &App,
    client: &str,
    measurement: &str,
) -> Result<Option<MeasurementView>, Problem> {
    let Some(history) = app.history() else {
        return Ok(None);
    };
    let recorded = history.measurement(client, measurement).await?;
    Ok(recorded.map(|(info, rows)| MeasurementView {
        report: info.measurement.report.clone(),
        info: clients::measurement(info),
        events: rows.into_iter().map(|row| row.data).collect(),
    }))
}

/// Stops a measurement; what it has found by then stays.
#[utoipa::path(
    delete,
    path = "/api/clients/{id}/measurements/{measurement}",
    tag = "measurements",
    params(
        ("id" = String, Path, description = "the client's name"),
        ("measurement" = String, Path, description = "the measurement's name"),
    ),
    responses(
        (status = 200, body = MeasurementInfo),
        (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = ProblemDetails, content_type = "application/problem+json", description = "the client has ended"),
        (status = 422, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("token" = []))
)]
pub(super) async fn stop(
    State(app): State<App>,
    Operator(by): Operator,
    Named((id, measurement)): Named<(String, String)>,
    parameters: Parameters,
) -> Result<Json<MeasurementInfo>, Problem> {
    parameters.known(&[])?;
    let client = app.living(&id).await?;
    let Some(found) = client.measurements.get(&measurement) else {
        let recorded = recorded(&app, &id, &measurement).await?;
        let recorded = recorded.ok_or_else(|| Problem::not_found("measurement"))?;
        return Ok(Json(recorded.info));
    };
    let was_running = found.info().state == MeasurementState::Running;
    found.stop();
    // It ends soon after that, in any case.
    let _ = timeout(STOPPING, found.done()).await;
    let info = found.info();
    if was_running {
        let detail = json!({ "measurement": info.id, "kind": info.kind });
        app.notes
            .audit(&by, "measurement.stopped", Some(&client.id), detail);
    }
    Ok(Json(info))
}
