//! One who looks at all clients at once.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use perpacket_server::model::Timestamp;
use serde_json::Value;

use crate::api::operator::{Operator, Stream};

/// The times of the samples of each client, milliseconds, in the order they were told.
pub(crate) type Samples = BTreeMap<String, Vec<i64>>;

/// Follows the events until each of these clients has had so many samples. Fails when an event was lost.
pub(crate) fn follow(mut events: Stream, clients: &[&str], samples: usize) -> Result<Samples> {
    let hello = events.next()?.context("the end")?;
    let mut last = hello.id.context("no id")?;
    let none = |client: &&str| ((*client).to_owned(), Vec::new());
    let mut seen: Samples = clients.iter().map(none).collect();
    loop {
        let event = events.next()?.context("the end")?;
        ensure!(event.name != "lagged", "{event:?}");
        let id = event.id.context("no id")?;
        ensure!(id == last + 1, "{id} comes after {last}");
        last = id;
        if event.name != "sample" {
            continue;
        }
        let sample = &event.data["sample"];
        ensure!(sample["dropped"] == 0, "{event:?}");
        let client = event.data["client"].as_str().context("no client")?;
        // One that could not connect may not be gone yet.
        let Some(of_one) = seen.get_mut(client) else {
            continue;
        };
        of_one.push(time(sample)?);
        if seen.values().all(|of_one| of_one.len() >= samples) {
            return Ok(seen);
        }
    }
}

fn time(sample: &Value) -> Result<i64> {
    let at = sample["at"].as_str().context("no time")?;
    Ok(at.parse::<Timestamp>()?.millis())
}

/// What is recorded of a client.
pub(crate) fn recorded(operator: &Operator, client: &str) -> Result<Vec<i64>> {
    let path = format!("/api/clients/{client}/samples");
    let recorded = operator.get(&path)?.is(200)?;
    let samples = recorded["samples"].as_array().context("no samples")?;
    samples.iter().map(time).collect()
}
