//! Text that was written to do harm, or that a database cannot store.

use anyhow::{Context as _, Result, ensure};
use perpacket_server::history::{Audit, Change, Client, Entry, History};
use serde_json::{Value, json};

use super::place::{DEADLINE, Place, client, measurement, row, run, sample};

/// What names of clients, hops and the like may be.
const SHORT: [&str; 9] = [
    "a NUL\0in the middle\0",
    "'; DROP TABLE clients; --",
    "\"quoted\" 'twice' `thrice`",
    "$1 $2 ? ?1 :name @name %s {} \\",
    "\\u0000 \\0 \\x00",
    "\u{202E}right to left\u{200B}\u{FEFF}\u{FFFF}\u{10FFFF}",
    "e\u{301} é 漢字 🦀 👩‍👩‍👧",
    "two\nlines\r\n\tand a tab\u{7F}\u{1B}[31m",
    "",
];

pub(crate) fn text(place: &Place) -> Result<()> {
    let database = place.database()?;
    run(async {
        let history = database.open().await?;
        for text in SHORT {
            everywhere(&history, text, text)
                .await
                .with_context(|| format!("{text:?}"))?;
        }
        let long = "x'\"\0\\é\u{1F980}".repeat(20_000);
        everywhere(&history, "a", &long).await?;

        // What is too deep to be read hides nothing else.
        let deep = (0..200).fold(Value::Null, |inner, _| json!([inner]));
        history.record(sample("deep", 1, deep));
        history.record(sample("deep", 2, json!(2)));
        history.flush().await?;
        let read = history.samples("deep", 0, 9, 9).await?;
        ensure!(read.len() == 2 && read[0].data.is_null() && read[1].data == 2);

        let status = history.status();
        ensure!(status.recording && status.lost == 0, "{status:?}");
        Ok(history.close(DEADLINE).await?)
    })
}

/// Records such a text wherever one can be, beside the largest and the smallest numbers, and reads it again.
async fn everywhere(history: &History, id: &str, text: &str) -> Result<()> {
    let name: String = text.chars().take(100).collect();
    let json = json!({"text": text, "list": [{name: null}]});
    let it = Client {
        id: id.into(),
        name: Some(text.into()),
        user_agent: Some(text.into()),
        address: Some(text.into()),
        since: i64::MIN,
        ended: Some(i64::MAX),
        state: text.into(),
        data: json.clone(),
    };
    let change = Change {
        client: id.into(),
        at: i64::MAX,
        by: text.into(),
        class: Some(text.into()),
        before: json.clone(),
        after: Value::String(text.into()),
        reason: Some(text.into()),
    };
    let mut trace = measurement(id, id, i64::MIN, Some(i64::MAX));
    trace.kind = text.into();
    trace.state = text.into();
    trace.config = json.clone();
    trace.error = Some(text.into());
    trace.report = Some(json.clone());
    let mut hop = row(id, id, i64::MAX);
    hop.data = json.clone();
    let audit = Audit {
        at: i64::MAX - 1,
        by: text.into(),
        from: Some(text.into()),
        action: text.into(),
        client: Some(id.into()),
        detail: json.clone(),
    };
    history.record(Entry::Client(it));
    history.record(Entry::Change(change.clone()));
    history.record(Entry::Measurement(trace.clone()));
    history.record(Entry::MeasurementRow(hop));
    history.record(Entry::Audit(audit));
    history.record(sample(id, i64::MAX, json.clone()));
    history.flush().await?;

    let stored = |text: &str| text.replace('\0', "\u{FFFD}");
    let read = history.client(id).await?.context("a client")?.client;
    ensure!(read.id == stored(id) && read.state == stored(text));
    ensure!((read.since, read.ended) == (i64::MIN, Some(i64::MAX)));
    ensure!(read.data == json);
    for read in [read.name, read.user_agent, read.address] {
        ensure!(read == Some(stored(text)));
    }
    let read = history.changes(id).await?;
    ensure!(read[0].by == stored(text) && read[0].reason == Some(stored(text)));
    ensure!(read[0].before == change.before && read[0].after == change.after);
    let (read, rows) = history.measurement(id, id).await?.context("one")?;
    ensure!(read.measurement.error == Some(stored(text)) && read.rows == 1);
    ensure!(read.measurement.report == trace.report);
    ensure!(rows[0].name == stored(id) && rows[0].data == json);
    let read = history.audit(u32::MAX, None).await?;
    let read = read.iter().find(|read| read.by == stored(text));
    ensure!(read.is_some_and(|read| read.detail == json));
    let read = history.samples(id, i64::MAX, i64::MAX, 10).await?;
    ensure!(read[0].data == json);
    Ok(())
}

/// PostgreSQL has a limit for what is in an index. Whatever is beyond it is lost, and nothing that came with it.
pub(crate) fn refused_entry(place: &Place) -> Result<()> {
    let database = place.database()?;
    run(async {
        let history = database.open().await?;
        let mut random = 1_u32;
        let incompressible: String = (0..100_000)
            .map(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                char::from(b'!' + u8::try_from(random >> 24).unwrap_or(0) % 90)
            })
            .collect();
        for id in ["before", &incompressible, "after"] {
            history.record(Entry::Client(client(id, 1, None)));
            history.record(sample(id, 1, json!({})));
        }
        history.flush().await?;
        for id in ["before", "after"] {
            ensure!(history.client(id).await?.is_some());
            ensure!(history.samples(id, 0, 9, 9).await?.len() == 1);
        }
        let status = history.status();
        let lost = if matches!(place, Place::File) { 0 } else { 2 };
        ensure!(status.recording && status.lost == lost, "{status:?}");
        Ok(history.close(DEADLINE).await?)
    })
}
