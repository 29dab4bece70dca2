use axum::{Json, extract::State};
use serde_json::Value;

use super::{
    App,
    input::{Named, Parameters},
};
use crate::{
    history::{ClientFilter, ClientRow, ClientState},
    live::Found,
    model::{Client, ClientList, MeasurementInfo, MeasurementState, Timestamp},
    problem::{Problem, ProblemDetails},
};

/// Clients, those that live first, then the newest first.
#[utoipa::path(
    get,
    path = "/api/clients",
    tag = "clients",
    params(
        ("state" = Option<String>, Query, pattern = "^(live|ended|all)$", description = "`live`, `ended` or `all`; all if it is left out"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "how many; 100 if it is left out"),
        ("before" = Option<String>, Query, format = DateTime, description = "the `since` of the last one of the page before"),
    ),
    responses(
        (status = 200, body = ClientList),
        (status = 422, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("token" = []))
)]
pub(super) async fn list(
    State(app): State<App>,
    parameters: Parameters,
) -> Result<Json<ClientList>, Problem> {
    let parameters = parameters.known(&["state", "limit", "before"])?;
    let state = match parameters.text("state") {
        None | Some("all") => ClientState::All,
        Some("live") => ClientState::Live,
        Some("ended") => ClientState::Ended,
        Some(other) => return Err(Problem::about("state", other.into(), "live, ended, all")),
    };
    let limit = parameters.number("limit", 1..=1_000)?.unwrap_or(100);
    let before = parameters.time("before")?;

    // Those of this server are known better here than in the database, which hears of them a little later.
    let mut clients = own(&app, state, before);
    if let Some(history) = app.history() {
        let filter = ClientFilter {
            state,
            before: before.map(Timestamp::millis),
            limit,
        };
        let rows = history.clients(&filter).await?;
        // What was here is in the list by now, or not on this page.
        let is_new = |client: &Client| app.live.find(&client.id).is_none();
        clients.extend(rows.into_iter().map(from_row).filter(is_new));
    }
    clients.sort_by(|a, b| {
        let key = |client: &Client| (client.ended.is_some(), std::cmp::Reverse(client.since));
        key(a).cmp(&key(b)).then_with(|| a.id.cmp(&b.id))
    });
    // Those that live are all on the first page: no later one has any.
    let live = clients.iter().filter(|it| it.ended.is_none()).count();
    let least = if state == ClientState::All { live } else { 0 };
    clients.truncate(least.max(limit as usize));
    Ok(Json(ClientList {
        server: app.name.to_string(),
        now: Timestamp::now(),
        clients,
    }))
}

/// Those of this server, of the page that is asked for: what lives stands on the first page of all.
fn own(app: &App, state: ClientState, before: Option<Timestamp>) -> Vec<Client> {
    let mut clients = Vec::new();
    let live = match state {
        ClientState::All => before.is_none(),
        ClientState::Live => true,
        ClientState::Ended => false,
    };
    if live {
        clients.extend(app.live.list().iter().map(|client| client.view()));
    }
    if state != ClientState::Live {
        clients.extend(app.live.ended());
    }
    clients.retain(|client| before.is_none_or(|before| client.since < before));
    clients
}

/// A client and all that is known of it.
#[utoipa::path(
    get,
    path = "/api/clients/{id}",
    tag = "clients",
    params(("id" = String, Path, description = "the client's name")),
    responses(
        (status = 200, body = Client),
        (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 422, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("token" = []))
)]
pub(super) async fn get(
    State(app): State<App>,
    Named(id): Named<String>,
    parameters: Parameters,
) -> Result<Json<Client>, Problem> {
    parameters.known(&[])?;
    match app.live.find(&id) {
        Some(Found::Live(client)) => Ok(Json(client.view())),
        Some(Found::Ended(client)) => Ok(Json(*client)),
        None => match app.elsewhere(&id).await? {
            Some(client) => Ok(Json(client)),
            None => Err(Problem::not_found("client")),
        },
    }
}

impl App {
    /// A client that only the database knows: of another server, or of an earlier time.
    pub(super) async fn elsewhere(&self, id: &str) -> Result<Option<Client>, Problem> {
        let Some(history) = self.history() else {
            return Ok(None);
        };
        let Some(row) = history.client(id).await? else {
            return Ok(None);
        };
        let mut client = from_row(row);
        let measurements = history.measurements(id).await?;
        client.measurements = measurements.into_iter().map(measurement).collect();
        Ok(Some(client))
    }

    /// Fails unless somebody knows a client of that name.
    pub(super) async fn is_known(&self, id: &str) -> Result<(), Problem> {
        if self.live.find(id).is_some() || self.elsewhere(id).await?.is_some() {
            Ok(())
        } else {
            Err(Problem::not_found("client"))
        }
    }
}

/// What was recorded of a client. The columns are newer than the rest where the server has ended without a word.
fn from_row(row: ClientRow) -> Client {
    let ClientRow { server, client } = row;
    let mut data = client.data;
    if !data.is_object() {
        data = Value::Object(serde_json::Map::new());
    }
    for (name, value) in [
        ("id", client.id.into()),
        ("server", server.into()),
        ("name", client.name.into()),
        ("user_agent", client.user_agent.into()),
        ("since", time(client.since)),
        ("ended", client.ended.map_or(Value::Null, time)),
        ("state", client.state.into()),
    ] {
        data[name] = value;
    }
    serde_json::from_value(data.clone()).unwrap_or_else(|error| {
        tracing::warn!(%error, "a client was recorded by another version");
        let of = |name: &str| data[name].as_str().map(str::to_owned);
        Client {
            id: of("id").unwrap_or_default(),
            server: of("server").unwrap_or_default(),
            name: of("name"),
            user_agent: of("user_agent"),
            since: Timestamp::from_millis(client.since),
            ended: client.ended.map(Timestamp::from_millis),
            ..Client::default()
        }
    })
}

fn time(millis: i64) -> Value {
    Timestamp::from_millis(millis).to_string().into()
}

/// What was recorded of a measurement.
pub(super) fn measurement(info: crate::history::MeasurementInfo) -> MeasurementInfo {
    let crate::history::MeasurementInfo { measurement, rows } = info;
    MeasurementInfo {
        id: measurement.id,
        client: measurement.client,
        kind: measurement.kind,
        state: serde_json::from_value(measurement.state.into())
            .unwrap_or(MeasurementState::Stopped),
        started: Timestamp::from_millis(measurement.started),
        ended: measurement.ended.map(Timestamp::from_millis),
        config: measurement.config,
        error: measurement.error,
        rows,
    }
}
