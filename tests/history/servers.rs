//! What becomes of a history when a server starts again, or shares it with others.

use anyhow::{Context as _, Result, ensure};
use perpacket_server::history::{ClientFilter, ClientState, Entry, History};
use serde_json::json;

use super::place::{DEADLINE, Place, client, everything, measurement, row, run, sample};

/// What a server has left as live is ended when it starts again, and only then.
pub(crate) fn restarted(place: &Place) -> Result<()> {
    let database = place.database()?;
    run(async {
        let open = async |server| History::open(&database.url, server, everything()).await;
        let one = open("one").await?;
        one.record(Entry::Client(client("ended", 1_000, Some(1_500))));
        one.record(Entry::Client(client("silent", 1_000, None)));
        one.record(Entry::Client(client("live", 1_000, None)));
        for at in [1_100, 4_200, 3_100] {
            one.record(sample("live", at, json!({})));
        }
        one.record(Entry::Measurement(measurement(
            "done",
            "live",
            1_000,
            Some(1_200),
        )));
        one.record(Entry::Measurement(measurement("new", "live", 1_300, None)));
        one.record(Entry::Measurement(measurement(
            "running", "live", 1_000, None,
        )));
        one.record(Entry::MeasurementRow(row("running", "1", 2_000)));
        one.close(DEADLINE).await?;

        let two = open("two").await?;
        two.record(Entry::Client(client("other", 1_000, None)));
        two.record(Entry::Measurement(measurement(
            "others", "other", 1_000, None,
        )));
        two.flush().await?;
        let live = ClientFilter {
            state: ClientState::Live,
            ..ClientFilter::default()
        };
        ensure!(two.clients(&live).await?.len() == 3);

        let one = open("one").await?;
        let read = one.clients(&live).await?;
        ensure!(read.len() == 1 && read[0].server == "two", "{read:?}");
        for (id, ended) in [("ended", 1_500), ("silent", 1_000), ("live", 4_200)] {
            let read = one.client(id).await?.context("a client")?;
            ensure!(read.client.ended == Some(ended), "{read:?}");
            ensure!(read.client.state == "closed" && read.server == "one");
        }
        for (id, state, ended) in [
            ("done", "done", 1_200),
            ("new", "failed", 1_300),
            ("running", "failed", 2_000),
        ] {
            let (info, _) = one.measurement("live", id).await?.context("one")?;
            let read = info.measurement;
            ensure!(read.state == state && read.ended == Some(ended), "{read:?}");
            ensure!(read.error.is_some() == (state == "failed"), "{read:?}");
        }
        let (info, _) = one.measurement("other", "others").await?.context("one")?;
        ensure!(info.measurement.state == "running", "{info:?}");
        two.close(DEADLINE).await?;
        Ok(one.close(DEADLINE).await?)
    })
}

/// Servers that start at the same time, and record at the same time, each see what all have recorded.
pub(crate) fn shared(place: &Place) -> Result<()> {
    let database = place.database()?;
    run(async {
        let names = ["one", "two", "three", "four"];
        let mut starting = Vec::new();
        for name in names {
            let url = database.url.clone();
            starting.push(tokio::spawn(async move {
                History::open(&url, name, everything()).await
            }));
        }
        let mut servers = Vec::new();
        for server in starting {
            servers.push(server.await??);
        }
        for second in 0..100 {
            for server in &servers {
                if second == 0 {
                    server.record(Entry::Client(client(server.server(), 1, None)));
                }
                server.record(sample(server.server(), second, json!({})));
                server.record(sample("all", second, json!({})));
                server.flush().await?;
            }
        }
        for server in &servers {
            let read = server.clients(&ClientFilter::default()).await?;
            ensure!(read.len() == names.len(), "{read:?}");
            ensure!(
                read.iter().all(|row| row.server == row.client.id),
                "{read:?}"
            );
            for (client, count) in [(names[0], 100), (names[3], 100), ("all", 400)] {
                let read = server.samples(client, 0, 1_000, 1_000).await?;
                ensure!(read.len() == count, "{}", read.len());
            }
        }
        for server in servers {
            ensure!(server.status().recording && server.status().lost == 0);
            server.close(DEADLINE).await?;
        }
        Ok(())
    })
}
