use std::time::Duration;

use sqlx::{AnyConnection, Row as _};

use super::{
    batch::MINUTE,
    store::{ANSWER, Kind, Store, TRANSACTION, patiently},
};

/// How much is kept.
///
/// Servers that share a database each apply theirs to all of it.
#[derive(Clone, Debug)]
pub struct Retention {
    /// What is older goes. A client, or a measurement, is as old as its end.
    pub age: Duration,
    /// When there is more, the oldest goes. On SQLite these are the bytes of the file that are in use; on PostgreSQL, which
    /// cannot tell what is in use, the bytes that were recorded.
    pub bytes: u64,
    /// How often that is looked at.
    pub every: Duration,
}

impl Default for Retention {
    /// Thirty days, 1 GiB, and once a minute.
    fn default() -> Self {
        Self {
            age: Duration::from_hours(30 * 24),
            bytes: 1 << 30,
            every: Duration::from_mins(1),
        }
    }
}

/// How many pages of a SQLite file are given back at a time: 4 MiB.
const PAGES: &str = "PRAGMA incremental_vacuum(1024)";

/// Each takes some of the oldest, so that what is recorded meanwhile does not wait for long. A measurement goes after its
/// rows, a client after all that was about it.
const DELETE: [&str; 6] = [
    "DELETE FROM samples WHERE at < $1 AND at <= \
        (SELECT MAX(at) FROM (SELECT at FROM samples ORDER BY at LIMIT 1000) AS oldest)",
    "DELETE FROM changes WHERE at < $1 AND at <= \
        (SELECT MAX(at) FROM (SELECT at FROM changes ORDER BY at LIMIT 1000) AS oldest)",
    "DELETE FROM audit WHERE at < $1 AND at <= \
        (SELECT MAX(at) FROM (SELECT at FROM audit ORDER BY at LIMIT 1000) AS oldest)",
    "DELETE FROM measurement_rows WHERE measurement IN \
        (SELECT id FROM measurements WHERE ended < $1 AND EXISTS \
            (SELECT 1 FROM measurement_rows WHERE measurement = measurements.id) ORDER BY ended LIMIT 10)",
    "DELETE FROM measurements WHERE id IN \
        (SELECT id FROM measurements WHERE ended < $1 ORDER BY ended LIMIT 100)",
    "DELETE FROM clients WHERE id IN \
        (SELECT id FROM clients WHERE ended < $1 ORDER BY ended LIMIT 1000)",
];

impl Store {
    /// Before when all has to go: the beginning of a minute.
    pub(super) async fn cutoff(&self, keep: &Retention, now: i64) -> Result<i64, sqlx::Error> {
        let kind = self.kind();
        let age = i64::try_from(keep.age.as_millis()).unwrap_or(i64::MAX);
        let by_age = now.saturating_sub(age).div_euclid(MINUTE);
        let mut writer = self.writer().await;
        let by_size = patiently(ANSWER, async {
            minute_by_size(writer.connected().await?, kind, keep.bytes).await
        })
        .await;
        let by_size = writer.settle(by_size).await?;
        Ok(by_size
            .map_or(by_age, |it| it.max(by_age))
            .saturating_mul(MINUTE))
    }

    /// Deletes some of what is from before then; whether there may be more.
    pub(super) async fn delete_some(
        &self,
        cutoff: i64,
        keep: &Retention,
    ) -> Result<bool, sqlx::Error> {
        let kind = self.kind();
        let mut writer = self.writer().await;
        let more = patiently(TRANSACTION, async {
            delete_some(writer.connected().await?, kind, cutoff, keep.bytes).await
        })
        .await;
        writer.settle(more).await
    }
}

async fn delete_some(
    connection: &mut AnyConnection,
    kind: Kind,
    cutoff: i64,
    limit: u64,
) -> Result<bool, sqlx::Error> {
    for sql in DELETE {
        let done = sqlx::query(sql)
            .bind(cutoff)
            .execute(&mut *connection)
            .await?;
        if done.rows_affected() > 0 {
            return Ok(true);
        }
    }
    sqlx::query("DELETE FROM volume WHERE minute < $1")
        .bind(cutoff.div_euclid(MINUTE))
        .execute(&mut *connection)
        .await?;
    // Pages that are free are used again; they are given back only where the file is larger than it may be.
    let size = match kind {
        Kind::File => sqlite_bytes(connection, false).await?,
        Kind::Memory | Kind::Postgres => return Ok(false),
    };
    if !exceeds(size, limit) {
        return Ok(false);
    }
    sqlx::raw_sql(PAGES).execute(&mut *connection).await?;
    Ok(sqlite_bytes(connection, false).await? < size)
}

/// The minute before which all has to go, so that no more is left than may be.
async fn minute_by_size(
    connection: &mut AnyConnection,
    kind: Kind,
    limit: u64,
) -> Result<Option<i64>, sqlx::Error> {
    let recorded: i64 = sqlx::query("SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM volume")
        .fetch_one(&mut *connection)
        .await?
        .try_get(0)?;
    let used = match kind {
        Kind::File | Kind::Memory => sqlite_bytes(connection, true).await?,
        Kind::Postgres => recorded,
    };
    if !exceeds(used, limit) || recorded == 0 {
        return Ok(None);
    }
    // What was recorded takes a little more, or less, of a file.
    let left = i128::from(limit) * i128::from(recorded) / i128::from(used);
    let mut too_much = i128::from(recorded) - left;
    let minutes = sqlx::query(
        "SELECT minute, CAST(SUM(bytes) AS BIGINT) FROM volume \
         GROUP BY minute ORDER BY minute LIMIT 1000",
    )
    .fetch_all(connection)
    .await?;
    let mut cutoff = None;
    for row in &minutes {
        if too_much <= 0 {
            break;
        }
        too_much -= i128::from(row.try_get::<i64, _>(1)?);
        cutoff = Some(row.try_get::<i64, _>(0)?.saturating_add(1));
    }
    Ok(cutoff)
}

/// How large a SQLite database is, with or without its free pages.
async fn sqlite_bytes(connection: &mut AnyConnection, in_use: bool) -> Result<i64, sqlx::Error> {
    let sql = if in_use {
        "SELECT CAST((page_count - freelist_count) * page_size AS BIGINT) \
         FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
    } else {
        "SELECT CAST(page_count * page_size AS BIGINT) FROM pragma_page_count, pragma_page_size"
    };
    sqlx::query(sql).fetch_one(connection).await?.try_get(0)
}

fn exceeds(bytes: i64, limit: u64) -> bool {
    u64::try_from(bytes).is_ok_and(|bytes| bytes > limit)
}
