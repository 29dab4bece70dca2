//! What was: samples, changes of options, who did what.

use axum::{Json, extract::State};
use serde_json::Value;

use super::{
    App,
    input::{Named, Parameters},
};
use crate::{
    history,
    live::Found,
    model::{AuditEntry, AuditList, Change, ChangeList, Sample, SampleList, Timestamp},
    problem::{Problem, ProblemDetails},
};

/// The most samples of an answer.
const SAMPLES: usize = 5_000;

/// The samples of a client, the oldest first: at most 5,000, of which each stands for several seconds where there are
/// more.
#[utoipa::path(
    get,
    path = "/api/clients/{id}/samples",
    tag = "history",
    params(
        ("id" = String, Path, description = "the client's name"),
        ("from" = Option<String>, Query, format = DateTime, description = "from this time on"),
        ("to" = Option<String>, Query, format = DateTime, description = "up to this time"),
        ("step_s" = Option<u32>, Query, minimum = 1, maximum = 86400, description = "how many seconds each stands for, at least; 1 if it is left out"),
    ),
    responses(
        (status = 200, body = SampleList),
        (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("token" = []))
)]
pub(super) async fn samples(
    State(app): State<App>,
    Named(id): Named<String>,
    parameters: Parameters,
) -> Result<Json<SampleList>, Problem> {
    let parameters = parameters.known(&["from", "to", "step_s"])?;
    let from = parameters.time("from")?.map_or(0, Timestamp::millis);
    let to = parameters.time("to")?.map_or(i64::MAX, Timestamp::millis);
    let step = parameters.number("step_s", 1..=86_400)?.unwrap_or(1);
    app.is_known(&id).await?;
    let samples = app.samples(&id, from, to, step).await?;
    Ok(Json(SampleList { samples }))
}

/// How a client's options were changed, the oldest first.
#[utoipa::path(
    get,
    path = "/api/clients/{id}/changes",
    tag = "history",
    params(("id" = String, Path, description = "the client's name")),
    responses(
        (status = 200, body = ChangeList),
        (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("token" = []))
)]
pub(super) async fn changes(
    State(app): State<App>,
    Named(id): Named<String>,
    parameters: Parameters,
) -> Result<Json<ChangeList>, Problem> {
    parameters.known(&[])?;
    app.is_known(&id).await?;
    let changes = app.changes(&id).await?;
    Ok(Json(ChangeList { changes }))
}

/// Who did what, the newest first.
#[utoipa::path(
    get,
    path = "/api/audit",
    tag = "history",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "how many; 100 if it is left out"),
        ("before" = Option<String>, Query, format = DateTime, description = "the `at` of the last one of the page before"),
    ),
    responses(
        (status = 200, body = AuditList),
        (status = 422, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("token" = []))
)]
pub(super) async fn audit(
    State(app): State<App>,
    parameters: Parameters,
) -> Result<Json<AuditList>, Problem> {
    let parameters = parameters.known(&["limit", "before"])?;
    let limit = parameters.number("limit", 1..=1_000)?.unwrap_or(100);
    let before = parameters.time("before")?;
    let Some(history) = app.history() else {
        let mut audit = app.live.audit();
        audit.retain(|entry| before.is_none_or(|before| entry.at < before));
        audit.truncate(limit as usize);
        return Ok(Json(AuditList { audit }));
    };
    let audit = history.audit(limit, before.map(Timestamp::millis)).await?;
    let audit = audit.into_iter().map(entry).collect();
    Ok(Json(AuditList { audit }))
}

fn entry(recorded: history::Audit) -> AuditEntry {
    AuditEntry {
        at: Timestamp::from_millis(recorded.at),
        by: recorded.by,
        from: recorded.from.and_then(|from| from.parse().ok()),
        action: recorded.action,
        client: recorded.client,
        detail: recorded.detail,
    }
}

impl App {
    /// What was recorded of a client, or else what is remembered.
    pub(super) async fn samples(
        &self,
        id: &str,
        from: i64,
        to: i64,
        step: u32,
    ) -> Result<Vec<Sample>, Problem> {
        let Some(history) = self.history() else {
            let Some(Found::Live(client)) = self.live.find(id) else {
                return Ok(Vec::new());
            };
            let mut samples = client.recent.samples();
            samples.retain(|sample| (from..=to).contains(&sample.at.millis()));
            let step = usize::try_from(step).unwrap_or(usize::MAX);
            return Ok(samples.into_iter().step_by(step).collect());
        };
        let span = to.min(Timestamp::now().millis()).saturating_sub(from);
        let steps = span / (i64::from(step) * 1_000) + 1;
        let limit = usize::try_from(steps).unwrap_or(1).clamp(1, SAMPLES);
        // Where nothing is to be averaged, all are wanted, with the one that is a little early, too.
        let limit = if step == 1 { SAMPLES } else { limit };
        let samples = history.samples(id, from, to, limit).await?;
        Ok(samples.into_iter().filter_map(read).collect())
    }

    pub(super) async fn changes(&self, id: &str) -> Result<Vec<Change>, Problem> {
        let Some(history) = self.history() else {
            return Ok(match self.live.find(id) {
                Some(Found::Live(client)) => client.recent.changes(),
                _ => Vec::new(),
            });
        };
        let changes = history.changes(id).await?.into_iter();
        Ok(changes
            .map(|change| Change {
                at: Timestamp::from_millis(change.at),
                by: change.by,
                class: change.class,
                before: serde_json::from_value(change.before).unwrap_or_default(),
                after: serde_json::from_value(change.after).unwrap_or_default(),
                reason: change.reason,
            })
            .collect())
    }
}

/// A sample as it was recorded. One that was averaged has the time of the middle.
fn read(recorded: history::Sample) -> Option<Sample> {
    let mut data = recorded.data;
    data.as_object_mut()?.insert(
        "at".to_owned(),
        Value::from(Timestamp::from_millis(recorded.at).to_string()),
    );
    serde_json::from_value(data)
        .inspect_err(|error| tracing::debug!(%error, "a sample was recorded by another version"))
        .ok()
}
