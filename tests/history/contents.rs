//! What is recorded is what is read.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use perpacket_server::history::ClientState::{All, Ended, Live};
use perpacket_server::history::{
    Audit, Change, Client, ClientFilter, Entry, History, HistoryError,
};
use serde_json::json;

use super::place::{DEADLINE, Place, client, measurement, row, run, sample};

pub(crate) fn all_is_read_back(place: &Place) -> Result<()> {
    let database = place.database()?;
    run(async {
        let history = database.open().await?;
        ensure!(history.server() == "here" && history.database() == database.url.kind());

        // Everything that can be there, then everything that can be missing.
        let whole = Client {
            name: Some("chrome on linux".into()),
            user_agent: Some("Mozilla/5.0".into()),
            address: Some("2001:db8::1".into()),
            data: json!({"pair": null, "rate": 0.1, "list": [1, {"a": "b"}]}),
            ..client("whole", 1_000, Some(9_000))
        };
        let bare = client("bare", 2_000, None);
        let change = Change {
            client: "whole".into(),
            at: 1_500,
            by: "token:ab12".into(),
            class: Some("srtp".into()),
            before: json!({"ttl": null}),
            after: json!({"ttl": 10}),
            reason: Some("no consent for 3 s".into()),
        };
        let bare_change = Change {
            at: 1_600,
            class: None,
            reason: None,
            ..change.clone()
        };
        let mut trace = measurement("m1", "whole", 1_700, Some(1_900));
        trace.error = Some("it was stopped".into());
        trace.report = Some(json!({"hops": []}));
        let running = measurement("m2", "whole", 1_800, None);
        let rows = [row("m1", "1", 1_750), row("m1", "2", 1_760)];
        let audit = Audit {
            at: 1_500,
            by: "token:ab12".into(),
            from: Some("198.51.100.1".into()),
            action: "options.set".into(),
            client: Some("whole".into()),
            detail: json!({"ttl": 10}),
        };
        let bare_audit = Audit {
            at: 1_400,
            from: None,
            client: None,
            detail: json!(null),
            ..audit.clone()
        };
        for it in [&whole, &bare] {
            history.record(Entry::Client(it.clone()));
        }
        for it in [&change, &bare_change] {
            history.record(Entry::Change(it.clone()));
        }
        for it in [&trace, &running] {
            history.record(Entry::Measurement(it.clone()));
        }
        for it in &rows {
            history.record(Entry::MeasurementRow(it.clone()));
        }
        for it in [&bare_audit, &audit] {
            history.record(Entry::Audit(it.clone()));
        }
        history.record(sample(
            "whole",
            3_000,
            json!({"rtt_ms": 12.3, "loss": null}),
        ));
        history.record(sample("whole", -5, json!({"rtt_ms": 1})));
        history.flush().await?;

        let read = history.client("whole").await?.context("a client")?;
        ensure!(read.client == whole && read.server == "here", "{read:?}");
        let read = history.client("bare").await?.context("a client")?;
        ensure!(read.client == bare, "{read:?}");
        ensure!(history.client("nobody").await?.is_none());

        ensure!(history.changes("whole").await? == [change, bare_change]);
        ensure!(history.changes("bare").await?.is_empty());

        let listed = history.measurements("whole").await?;
        ensure!(listed.len() == 2 && listed[0].measurement == running && listed[0].rows == 0);
        ensure!(listed[1].measurement.report.is_none() && listed[1].rows == 2);
        let (info, read) = history
            .measurement("whole", "m1")
            .await?
            .context("a measurement")?;
        ensure!(info.measurement == trace && info.rows == 2, "{info:?}");
        ensure!(read == rows, "{read:?}");
        ensure!(history.measurement("bare", "m1").await?.is_none());

        ensure!(history.audit(10, None).await? == [audit.clone(), bare_audit.clone()]);
        ensure!(history.audit(1, None).await? == [audit]);
        ensure!(history.audit(10, Some(1_500)).await? == [bare_audit]);

        let samples = history.samples("whole", i64::MIN, i64::MAX, 10).await?;
        let times: Vec<_> = samples.iter().map(|sample| sample.at).collect();
        ensure!(times == [-5, 3_000], "{times:?}");
        ensure!(samples[1].data == json!({"rtt_ms": 12.3, "loss": null}));

        let status = history.status();
        ensure!(status.recording && status.error.is_none(), "{status:?}");
        ensure!(status.lost == 0 && status.queued == 0, "{status:?}");
        Ok(history.close(DEADLINE).await?)
    })
}

/// A client, a measurement and a row of it are what was recorded of them last: within one transaction and later.
pub(crate) fn the_last_counts(place: &Place) -> Result<()> {
    let database = place.database()?;
    run(async {
        let history = database.open().await?;
        for flush in [false, true] {
            for step in 1..=3 {
                let mut it = client("a", 1_000, None);
                it.state = format!("{step}");
                it.name = (step == 2).then(|| "b".into());
                it.ended = (step == 3).then_some(5_000);
                history.record(Entry::Client(it));
                let mut it = measurement("m", "a", 1_000, None);
                it.state = format!("{step}");
                it.error = (step == 3).then(|| "c".into());
                history.record(Entry::Measurement(it));
                history.record(Entry::MeasurementRow(row("m", "7", step)));
                if flush {
                    history.flush().await?;
                }
            }
            history.flush().await?;
            let read = history.client("a").await?.context("a client")?.client;
            ensure!(read.state == "3" && read.name.is_none() && read.ended == Some(5_000));
            let (info, rows) = history
                .measurement("a", "m")
                .await?
                .context("a measurement")?;
            ensure!(info.measurement.state == "3" && info.rows == 1, "{info:?}");
            ensure!(info.measurement.error.as_deref() == Some("c"), "{info:?}");
            ensure!(rows == [row("m", "7", 3)], "{rows:?}");
        }
        Ok(history.close(DEADLINE).await?)
    })
}

pub(crate) fn clients_are_listed(place: &Place) -> Result<()> {
    let database = place.database()?;
    run(async {
        let history = database.open().await?;
        for (id, since, ended) in [
            ("old", 1, Some(10)),
            ("live", 2, None),
            ("gone", 3, Some(4)),
            ("new", 4, None),
            ("newest", 5, Some(6)),
        ] {
            history.record(Entry::Client(client(id, since, ended)));
        }
        history.flush().await?;
        for (state, before, limit, expected) in [
            (All, None, 100, "new live newest gone old"),
            (All, None, 3, "new live newest"),
            (All, Some(5), 100, "gone old"),
            (Live, None, 100, "new live"),
            (Live, Some(4), 100, "live"),
            (Ended, None, 2, "newest gone"),
            (Ended, Some(3), 2, "old"),
            (Ended, None, 0, ""),
        ] {
            let filter = ClientFilter {
                state,
                before,
                limit,
            };
            let read = history.clients(&filter).await?;
            let ids: Vec<_> = read.into_iter().map(|row| row.client.id).collect();
            ensure!(ids.join(" ") == expected, "{filter:?}: {ids:?}");
        }
        Ok(history.close(DEADLINE).await?)
    })
}

/// Half a day of samples is read as a hundred, or as many as there may be, without any part of it missing.
pub(crate) fn samples_are_thinned(place: &Place) -> Result<()> {
    let database = place.database()?;
    run(async {
        let history = database.open().await?;
        let day = 12 * 60 * 60;
        let start = 1_700_000_000_123;
        for second in 0..day {
            let data = json!({"rtt_ms": second, "received_ttl": 57, "loss": null});
            history.record(sample("a", start + second * 1_000, data));
            if second % 10_000 == 0 {
                history.record(sample("b", start + second * 1_000, json!({})));
                history.flush().await?;
            }
        }
        history.flush().await?;
        let (from, to) = (start + 1_000, start + 10_000);
        let read = history.samples("a", from, to, 10).await?;
        ensure!(read.len() == 10 && read[0].at == from && read[9].at == to);

        for (limit, least) in [(100, 90), (5_000, 4_000), (usize::MAX, 10_000)] {
            let read = history.samples("a", 0, i64::MAX, limit).await?;
            ensure!(
                (least..=limit.min(20_000)).contains(&read.len()),
                "{}",
                read.len()
            );
            ensure!(read.is_sorted_by_key(|sample| sample.at));
            let gap = 2 * day * 1_000 / i64::try_from(least)?;
            let gaps = read.windows(2).map(|pair| pair[1].at - pair[0].at);
            ensure!(gaps.max().is_some_and(|it| it < gap), "a part is missing");
            for sample in &read {
                // It grows by one each second, so that a mean tells the time in the middle.
                let seconds = (sample.at - start) / 1_000;
                let rtt = sample.data["rtt_ms"].as_i64().context("a number")?;
                ensure!((rtt - seconds).abs() <= 1, "{sample:?}");
                ensure!(sample.data["received_ttl"] == 57 && sample.data["loss"].is_null());
            }
        }
        Ok(history.close(DEADLINE).await?)
    })
}

/// Closing writes what waits; a clone that is used afterwards says so.
pub(crate) fn closing(place: &Place) -> Result<()> {
    let database = place.database()?;
    run(async {
        let history = database.open().await?;
        let clone = history.clone();
        history.record(Entry::Client(client("a", 1, None)));
        history.close(DEADLINE).await?;

        clone.record(Entry::Client(client("b", 1, None)));
        let status = clone.status();
        ensure!(!status.recording && status.error.is_some(), "{status:?}");
        ensure!(status.lost == 1 && status.queued == 0, "{status:?}");
        ensure!(matches!(
            clone.flush().await,
            Err(HistoryError::NotRecorded { .. })
        ));
        ensure!(matches!(
            clone.client("a").await,
            Err(HistoryError::Read { .. })
        ));
        clone.close(Duration::from_secs(1)).await?;

        if !matches!(place, Place::Memory) {
            let history: History = database.open().await?;
            ensure!(history.client("a").await?.is_some());
            ensure!(history.client("b").await?.is_none());
            history.close(DEADLINE).await?;
        }
        Ok(())
    })
}
