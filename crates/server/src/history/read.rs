use serde_json::Value;
use sqlx::{AnyConnection, Row as _, any::AnyRow};

use super::{
    Audit, Change, Client, ClientFilter, ClientRow, ClientState, Measurement, MeasurementInfo,
    MeasurementRow, Sample, batch::text, thin::thin,
};

/// How many samples are looked at for one answer, which is also the most that it can have.
pub(super) const SAMPLES: u16 = 20_000;

/// How much of anything else there is in one answer.
const MANY: i64 = 10_000;

macro_rules! select_clients {
    ($rest:literal) => {
        concat!(
            "SELECT server, id, name, user_agent, address, since, ended, state, data FROM clients ",
            $rest
        )
    };
}

macro_rules! live_clients {
    () => {
        select_clients!("WHERE ended IS NULL AND since < $1 ORDER BY since DESC, id LIMIT $2")
    };
}

macro_rules! ended_clients {
    () => {
        select_clients!("WHERE ended IS NOT NULL AND since < $1 ORDER BY since DESC, id LIMIT $2")
    };
}

macro_rules! select_measurements {
    ($report:literal, $rest:literal) => {
        concat!(
            "SELECT id, client, kind, state, started, ended, config, error, ",
            $report,
            ", (SELECT COUNT(*) FROM measurement_rows WHERE measurement = measurements.id) \
             FROM measurements ",
            $rest
        )
    };
}

pub(super) async fn clients(
    connection: &mut AnyConnection,
    filter: &ClientFilter,
) -> Result<Vec<ClientRow>, sqlx::Error> {
    let sql = match (filter.state, filter.before) {
        // As many of both as an index gives at once, so that not all that there are have to be sorted.
        (ClientState::All, None) => concat!(
            "SELECT * FROM (SELECT * FROM (",
            live_clients!(),
            ") AS live UNION ALL SELECT * FROM (",
            ended_clients!(),
            ") AS ended) AS clients \
             ORDER BY CASE WHEN ended IS NULL THEN 0 ELSE 1 END, since DESC, id LIMIT $2"
        ),
        (ClientState::Live, _) => live_clients!(),
        (ClientState::Ended, _) | (ClientState::All, Some(_)) => ended_clients!(),
    };
    let rows = sqlx::query(sql)
        .bind(filter.before.unwrap_or(i64::MAX))
        .bind(i64::from(filter.limit))
        .fetch_all(connection)
        .await?;
    rows.iter().map(client_row).collect()
}

pub(super) async fn client(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<ClientRow>, sqlx::Error> {
    let row = sqlx::query(select_clients!("WHERE id = $1"))
        .bind(text(id))
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(client_row).transpose()
}

/// Times and JSON texts of samples, in the order of time: of all, or of evenly chosen seconds where there are very many.
pub(super) async fn samples(
    connection: &mut AnyConnection,
    client: &str,
    from: i64,
    to: i64,
) -> Result<Vec<(i64, String)>, sqlx::Error> {
    let most = i64::from(SAMPLES);
    let count: i64 =
        sqlx::query("SELECT COUNT(*) FROM samples WHERE client = $1 AND at >= $2 AND at <= $3")
            .bind(text(client))
            .bind(from)
            .bind(to)
            .fetch_one(&mut *connection)
            .await?
            .try_get(0)?;
    let rows = sqlx::query(
        "SELECT at, data FROM samples WHERE client = $1 AND at >= $2 AND at <= $3 \
         AND (at / 1000) % $4 = 0 ORDER BY at LIMIT $5",
    )
    .bind(text(client))
    .bind(from)
    .bind(to)
    .bind(count / (most + 1) + 1)
    .bind(2 * most)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

/// Makes at most `limit` samples of what [`samples`] has read. It may take many milliseconds.
pub(super) fn parse_samples(client: &str, rows: Vec<(i64, String)>, limit: usize) -> Vec<Sample> {
    let sample = |(at, data): (i64, String)| Sample {
        client: client.to_owned(),
        at,
        data: parse(&data),
    };
    thin(rows.into_iter().map(sample).collect(), limit)
}

pub(super) async fn changes(
    connection: &mut AnyConnection,
    client: &str,
) -> Result<Vec<Change>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT client, at, author, class, options_before, options_after, reason FROM changes \
         WHERE client = $1 ORDER BY at DESC LIMIT $2",
    )
    .bind(text(client))
    .bind(MANY)
    .fetch_all(connection)
    .await?;
    let change = |row: &AnyRow| {
        Ok(Change {
            client: row.try_get(0)?,
            at: row.try_get(1)?,
            by: row.try_get(2)?,
            class: row.try_get(3)?,
            before: json(row, 4)?,
            after: json(row, 5)?,
            reason: row.try_get(6)?,
        })
    };
    rows.iter().rev().map(change).collect()
}

pub(super) async fn measurements(
    connection: &mut AnyConnection,
    client: &str,
) -> Result<Vec<MeasurementInfo>, sqlx::Error> {
    let rows = sqlx::query(select_measurements!(
        "CAST(NULL AS TEXT)",
        "WHERE client = $1 ORDER BY started DESC, id LIMIT $2"
    ))
    .bind(text(client))
    .bind(MANY)
    .fetch_all(connection)
    .await?;
    rows.iter().map(measurement_info).collect()
}

pub(super) async fn measurement(
    connection: &mut AnyConnection,
    client: &str,
    id: &str,
) -> Result<Option<(MeasurementInfo, Vec<MeasurementRow>)>, sqlx::Error> {
    let row = sqlx::query(select_measurements!(
        "report",
        "WHERE client = $1 AND id = $2"
    ))
    .bind(text(client))
    .bind(text(id))
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let rows = sqlx::query(
        "SELECT measurement, name, at, data FROM measurement_rows WHERE measurement = $1 \
         ORDER BY at, name LIMIT $2",
    )
    .bind(text(id))
    .bind(MANY)
    .fetch_all(connection)
    .await?;
    let part = |row: &AnyRow| {
        Ok(MeasurementRow {
            measurement: row.try_get(0)?,
            name: row.try_get(1)?,
            at: row.try_get(2)?,
            data: json(row, 3)?,
        })
    };
    let parts: Result<_, sqlx::Error> = rows.iter().map(part).collect();
    Ok(Some((measurement_info(&row)?, parts?)))
}

pub(super) async fn audit(
    connection: &mut AnyConnection,
    limit: u32,
    before: Option<i64>,
) -> Result<Vec<Audit>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT at, author, address, action, client, detail FROM audit \
         WHERE at < $1 ORDER BY at DESC LIMIT $2",
    )
    .bind(before.unwrap_or(i64::MAX))
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    let audit = |row: &AnyRow| {
        Ok(Audit {
            at: row.try_get(0)?,
            by: row.try_get(1)?,
            from: row.try_get(2)?,
            action: row.try_get(3)?,
            client: row.try_get(4)?,
            detail: json(row, 5)?,
        })
    };
    rows.iter().map(audit).collect()
}

fn client_row(row: &AnyRow) -> Result<ClientRow, sqlx::Error> {
    Ok(ClientRow {
        server: row.try_get(0)?,
        client: Client {
            id: row.try_get(1)?,
            name: row.try_get(2)?,
            user_agent: row.try_get(3)?,
            address: row.try_get(4)?,
            since: row.try_get(5)?,
            ended: row.try_get(6)?,
            state: row.try_get(7)?,
            data: json(row, 8)?,
        },
    })
}

fn measurement_info(row: &AnyRow) -> Result<MeasurementInfo, sqlx::Error> {
    let report: Option<String> = row.try_get(8)?;
    Ok(MeasurementInfo {
        measurement: Measurement {
            id: row.try_get(0)?,
            client: row.try_get(1)?,
            kind: row.try_get(2)?,
            state: row.try_get(3)?,
            started: row.try_get(4)?,
            ended: row.try_get(5)?,
            config: json(row, 6)?,
            error: row.try_get(7)?,
            report: report.as_deref().map(parse),
        },
        rows: row.try_get::<i64, _>(9)?.unsigned_abs(),
    })
}

fn json(row: &AnyRow, column: usize) -> Result<Value, sqlx::Error> {
    Ok(parse(&row.try_get::<String, _>(column)?))
}

/// What is nested too deeply to be read is not worth an error that would hide all the rest.
fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}
