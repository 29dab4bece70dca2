//! What an idle peer connection takes of a server's memory.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::sleep;

use super::client::idle;
use super::compare::rows;
use super::runtime;
use super::server::Server;
use super::way::Way;
use crate::measure::{Spread, as_f64};
use crate::report::{Options, Outcome, Row};

/// How many connect at a time.
const AT_A_TIME: usize = 4;

/// How long the server is left alone before it is looked at.
const SETTLE: Duration = Duration::from_secs(1);

/// Connects many to a new server of each way, and looks at what it has grown by.
pub(super) fn run(options: &Options) -> Result<Outcome> {
    let number = if options.quick { 50 } else { 500 };
    let runtime = runtime()?;
    let mut found = Vec::new();
    for way in Way::ALL {
        let bytes = runtime.block_on(growth(way, number));
        let kibibytes = bytes.with_context(|| way.name())? / 1024.0;
        found.push((way, Spread::of([kibibytes])));
    }
    let mut rows = rows("memory", "KiB/peer connection", found);
    for row in &mut rows {
        *row = row
            .clone()
            .note(format!("at {number} peer connections, measured once"));
    }
    let median = |way: Way| {
        let name = format!("memory/{}", way.name());
        let row: Option<&Row> = rows.iter().find(|row| row.name == name);
        row.map(|row| row.median * 1024.0)
    };
    // The worse of the two ways.
    let more = [Way::Net, Way::Mux]
        .into_iter()
        .filter_map(|way| Some(median(way)? - median(way.stock()?)?))
        .reduce(f64::max);
    let mut outcome = Outcome {
        rows,
        ..Outcome::default()
    };
    if let Some(more) = more {
        outcome.bar("memory", more);
    }
    Ok(outcome)
}

/// Bytes for each of so many peer connections, all that they share included.
async fn growth(way: Way, number: u64) -> Result<f64> {
    let server = Server::start(way)?;
    let before = server.memory().await?;
    let clients: Vec<_> = stream::iter(0..number)
        .map(|_| idle(&server))
        .buffer_unordered(AT_A_TIME)
        .try_collect()
        .await?;
    sleep(SETTLE).await;
    let after = server.memory().await?;
    drop(server);
    for client in clients {
        // The server is gone: nobody waits for a farewell.
        let _ = client.channel.close().await;
    }
    Ok(as_f64(after.saturating_sub(before)) / as_f64(number))
}
