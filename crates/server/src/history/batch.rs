use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};

use super::{Audit, Change, Client, Entry, Measurement, MeasurementRow, Sample};

/// About how many bytes a row takes beside its texts, with its places in indexes.
const ROW: usize = 100;

/// How many rows one statement writes at most.
const ROWS: usize = 128;

/// Milliseconds.
pub(super) const MINUTE: i64 = 60_000;

/// Inserts entries. The caller makes a transaction of it.
pub(super) async fn insert(
    connection: &mut AnyConnection,
    server: &str,
    entries: &[Entry],
) -> Result<(), sqlx::Error> {
    let mut volume = Volume::default();
    let mut samples = Vec::new();
    // One statement cannot write to the same row twice.
    let mut rows = HashMap::new();
    for entry in entries {
        match entry {
            Entry::Sample(sample) => samples.push(sample),
            Entry::MeasurementRow(row) => {
                rows.insert((&row.measurement, &row.name), row);
            }
            _ => {}
        }
    }
    self::samples(connection, &samples, &mut volume).await?;
    let rows: Vec<_> = rows.into_values().collect();
    measurement_rows(connection, &rows).await?;
    for entry in entries {
        match entry {
            Entry::Client(it) => client(connection, server, it, &mut volume).await?,
            Entry::Change(it) => change(connection, it, &mut volume).await?,
            Entry::Measurement(it) => measurement(connection, it, &mut volume).await?,
            Entry::Audit(it) => audit(connection, it, &mut volume).await?,
            Entry::Sample(_) | Entry::MeasurementRow(_) => {}
        }
    }
    volume.write(connection, server).await
}

/// Ends what a server of that name has left without an end: it is starting, so that nothing of it can be live.
pub(super) async fn end_what_was_left(
    connection: &mut AnyConnection,
    server: &str,
) -> Result<(), sqlx::Error> {
    let statements = [
        "UPDATE measurements SET state = 'failed', error = 'the server stopped', ended = \
            COALESCE((SELECT MAX(at) FROM measurement_rows WHERE measurement = measurements.id), started) \
         WHERE ended IS NULL AND client IN (SELECT id FROM clients WHERE server = $1)",
        "UPDATE clients SET state = 'closed', ended = \
            COALESCE((SELECT MAX(at) FROM samples WHERE client = clients.id), since) \
         WHERE ended IS NULL AND server = $1",
    ];
    for sql in statements {
        sqlx::query(sql)
            .bind(text(server))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn samples(
    connection: &mut AnyConnection,
    samples: &[&Sample],
    volume: &mut Volume,
) -> Result<(), sqlx::Error> {
    for piece in pieces(samples) {
        let sql = format!(
            "INSERT INTO samples (client, at, data) VALUES {}",
            places(piece.len(), 3)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for sample in piece {
            let data = sample.data.to_string();
            volume.add(sample.at, sample.client.len() + data.len());
            query = query.bind(text(&sample.client)).bind(sample.at).bind(data);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// What they take is counted when their measurement ends: until then each may be written many times.
async fn measurement_rows(
    connection: &mut AnyConnection,
    rows: &[&MeasurementRow],
) -> Result<(), sqlx::Error> {
    for piece in pieces(rows) {
        let sql = format!(
            "INSERT INTO measurement_rows (measurement, name, at, data) VALUES {} \
             ON CONFLICT (measurement, name) DO UPDATE SET at = excluded.at, data = excluded.data",
            places(piece.len(), 4)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for row in piece {
            query = query
                .bind(text(&row.measurement))
                .bind(text(&row.name))
                .bind(row.at)
                .bind(row.data.to_string());
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

async fn client(
    connection: &mut AnyConnection,
    server: &str,
    client: &Client,
    volume: &mut Volume,
) -> Result<(), sqlx::Error> {
    let data = client.data.to_string();
    if let Some(ended) = client.ended {
        volume.add(ended, client.id.len() + data.len());
    }
    sqlx::query(
        "INSERT INTO clients (id, server, name, user_agent, address, since, ended, state, data) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO UPDATE SET \
            server = excluded.server, name = excluded.name, user_agent = excluded.user_agent, \
            address = excluded.address, since = excluded.since, ended = excluded.ended, \
            state = excluded.state, data = excluded.data",
    )
    .bind(text(&client.id))
    .bind(text(server))
    .bind(optional(client.name.as_ref()))
    .bind(optional(client.user_agent.as_ref()))
    .bind(optional(client.address.as_ref()))
    .bind(client.since)
    .bind(client.ended)
    .bind(text(&client.state))
    .bind(data)
    .execute(connection)
    .await?;
    Ok(())
}

async fn change(
    connection: &mut AnyConnection,
    change: &Change,
    volume: &mut Volume,
) -> Result<(), sqlx::Error> {
    let (before, after) = (change.before.to_string(), change.after.to_string());
    volume.add(change.at, change.client.len() + before.len() + after.len());
    sqlx::query(
        "INSERT INTO changes (client, at, author, class, options_before, options_after, reason) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(text(&change.client))
    .bind(change.at)
    .bind(text(&change.by))
    .bind(optional(change.class.as_ref()))
    .bind(before)
    .bind(after)
    .bind(optional(change.reason.as_ref()))
    .execute(connection)
    .await?;
    Ok(())
}

async fn measurement(
    connection: &mut AnyConnection,
    measurement: &Measurement,
    volume: &mut Volume,
) -> Result<(), sqlx::Error> {
    let report = measurement.report.as_ref().map(Value::to_string);
    sqlx::query(
        "INSERT INTO measurements (id, client, kind, state, started, ended, config, error, report) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO UPDATE SET \
            client = excluded.client, kind = excluded.kind, state = excluded.state, \
            started = excluded.started, ended = excluded.ended, config = excluded.config, \
            error = excluded.error, report = excluded.report",
    )
    .bind(text(&measurement.id))
    .bind(text(&measurement.client))
    .bind(text(&measurement.kind))
    .bind(text(&measurement.state))
    .bind(measurement.started)
    .bind(measurement.ended)
    .bind(measurement.config.to_string())
    .bind(optional(measurement.error.as_ref()))
    .bind(&report)
    .execute(&mut *connection)
    .await?;
    if let Some(ended) = measurement.ended {
        let rows = sqlx::query(
            "SELECT CAST(COALESCE(SUM(LENGTH(data)), 0) + COUNT(*) * $1 AS BIGINT) \
             FROM measurement_rows WHERE measurement = $2",
        )
        .bind(signed(ROW))
        .bind(text(&measurement.id))
        .fetch_one(connection)
        .await?
        .try_get::<i64, _>(0)?;
        volume.add(ended, report.map_or(0, |report| report.len()));
        volume.add_bytes(ended, rows);
    }
    Ok(())
}

async fn audit(
    connection: &mut AnyConnection,
    audit: &Audit,
    volume: &mut Volume,
) -> Result<(), sqlx::Error> {
    let detail = audit.detail.to_string();
    volume.add(audit.at, audit.by.len() + detail.len());
    sqlx::query(
        "INSERT INTO audit (at, author, address, action, client, detail) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(audit.at)
    .bind(text(&audit.by))
    .bind(optional(audit.from.as_ref()))
    .bind(text(&audit.action))
    .bind(optional(audit.client.as_ref()))
    .bind(detail)
    .execute(connection)
    .await?;
    Ok(())
}

/// The bytes that a batch writes, by minute.
#[derive(Default)]
struct Volume(BTreeMap<i64, i64>);

impl Volume {
    fn add(&mut self, at: i64, texts: usize) {
        self.add_bytes(at, signed(ROW + texts));
    }

    fn add_bytes(&mut self, at: i64, bytes: i64) {
        let minute = self.0.entry(at.div_euclid(MINUTE)).or_default();
        *minute = minute.saturating_add(bytes);
    }

    async fn write(self, connection: &mut AnyConnection, server: &str) -> Result<(), sqlx::Error> {
        for (minute, bytes) in self.0 {
            sqlx::query(
                "INSERT INTO volume (server, minute, bytes) VALUES ($1, $2, $3) \
                 ON CONFLICT (server, minute) DO UPDATE SET bytes = volume.bytes + excluded.bytes",
            )
            .bind(text(server))
            .bind(minute)
            .bind(bytes)
            .execute(&mut *connection)
            .await?;
        }
        Ok(())
    }
}

/// Splits into pieces of 128, 64, 32… so that only eight different statements are ever prepared.
fn pieces<T>(mut rest: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let length = 1 << rest.len().min(ROWS).checked_ilog2()?;
        let (piece, left) = rest.split_at(length);
        rest = left;
        Some(piece)
    })
}

/// `($1,$2),($3,$4)`, for two rows of two columns.
fn places(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let places: Vec<_> = (1..=columns)
            .map(|column| format!("${}", row * columns + column))
            .collect();
        format!("({})", places.join(","))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(",")
}

/// As PostgreSQL can store it. JSON needs no such thing: there a NUL is written as an escape.
pub(super) fn text(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

fn optional(it: Option<&String>) -> Option<String> {
    it.map(|it| text(it))
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_powers_of_two() {
        let items = [0; 300];
        let lengths: Vec<_> = pieces(&items).map(<[_]>::len).collect();
        assert_eq!(lengths, [128, 128, 32, 8, 4]);
        assert_eq!(pieces::<u8>(&[]).count(), 0);
    }

    #[test]
    fn places_are_numbered() {
        assert_eq!(places(2, 3), "($1,$2,$3),($4,$5,$6)");
    }
}
