//! All of a client in one file: JSON, a table of samples, or a capture of headers.

use std::time::SystemTime;

use axum::{
    extract::State,
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_DISPOSITION, CONTENT_TYPE},
    },
    response::{IntoResponse as _, Response},
};
use pcap_file::{
    DataLink, TsResolution,
    pcap::{PcapHeader, PcapPacket, PcapWriter},
};
use serde_json::{Value, json};

use super::{
    App, ended,
    input::{Named, Parameters},
    packet,
};
use crate::{
    live::Found,
    model::{Sample, Timestamp},
    problem::{Problem, ProblemDetails},
};

/// All that is known of a client: `json` has samples, changes and measurements, `csv` the samples, `pcap` the headers of
/// its newest packets, with the first 48 bytes of what is in them.
#[utoipa::path(
    get,
    path = "/api/clients/{id}/export",
    tag = "history",
    params(
        ("id" = String, Path, description = "the client's name"),
        ("format" = Option<String>, Query, pattern = "^(json|csv|pcap)$", description = "`json`, `csv` or `pcap`; JSON if it is left out"),
    ),
    responses(
        (status = 200, content(
            (Value = "application/json"),
            (String = "text/csv"),
            (Vec<u8> = "application/vnd.tcpdump.pcap"),
        )),
        (status = 404, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, body = ProblemDetails, content_type = "application/problem+json", description = "packets are kept of clients that live only"),
        (status = 422, body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("token" = []))
)]
pub(super) async fn export(
    State(app): State<App>,
    Named(id): Named<String>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let parameters = parameters.known(&["format"])?;
    let format = parameters.text("format").unwrap_or("json");
    let (kind, body) = match format {
        "json" => ("application/json", json_of(&app, &id).await?),
        "csv" => {
            app.is_known(&id).await?;
            let samples = app.samples(&id, 0, i64::MAX, 1).await?;
            let table = table(&samples).map_err(|error| failed(&error))?;
            ("text/csv; charset=utf-8", table)
        }
        "pcap" => ("application/vnd.tcpdump.pcap", pcap_of(&app, &id).await?),
        other => return Err(Problem::about("format", other.into(), "json, csv, pcap")),
    };
    let mut response = (StatusCode::OK, body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    let short: String = id
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(8)
        .collect();
    let name = format!("attachment; filename=\"perpacket-{short}.{format}\"");
    if let Ok(name) = name.try_into() {
        headers.insert(CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

fn failed(error: &dyn std::fmt::Display) -> Problem {
    tracing::error!(%error, "nothing can be exported");
    Problem::internal()
}

async fn json_of(app: &App, id: &str) -> Result<Vec<u8>, Problem> {
    let client = match app.live.find(id) {
        Some(Found::Live(client)) => client.view(),
        Some(Found::Ended(client)) => *client,
        None => app
            .elsewhere(id)
            .await?
            .ok_or_else(|| Problem::not_found("client"))?,
    };
    let mut measurements: Vec<Value> = Vec::new();
    if let Some(live) = app.live.get(id) {
        let found = live.measurements.list().into_iter();
        let views = found.filter_map(|info| live.measurements.get(&info.id));
        measurements.extend(views.map(|measurement| json!(measurement.view())));
    } else if let Some(history) = app.history() {
        for info in &client.measurements {
            if let Some((recorded, _)) = history.measurement(id, &info.id).await? {
                let mut view = json!(info);
                view["report"] = recorded.measurement.report.unwrap_or_default();
                measurements.push(view);
            }
        }
    }
    let all = json!({
        "exported": Timestamp::now(),
        "client": client,
        "samples": app.samples(id, 0, i64::MAX, 1).await?,
        "changes": app.changes(id).await?,
        "measurements": measurements,
    });
    serde_json::to_vec_pretty(&all).map_err(|error| failed(&error))
}

/// A row a sample, with a header.
fn table(samples: &[Sample]) -> Result<Vec<u8>, csv::Error> {
    const OF_CLASS: [&str; 5] = [
        "sent_packets",
        "sent_bytes",
        "received_packets",
        "received_bytes",
        "dropped",
    ];
    let mut table = csv::Writer::from_writer(Vec::new());
    let mut header: Vec<_> = ["at", "rtt_ms", "jitter_ms", "loss"]
        .map(str::to_owned)
        .into();
    for class in crate::model::Rates::CLASSES {
        header.extend(OF_CLASS.map(|what| format!("{class}_{what}")));
    }
    let rest = [
        "received_ttl",
        "received_tos",
        "received_dscp",
        "received_ecn",
        "icmp_time_exceeded",
        "icmp_unreachable",
        "icmp_too_big",
        "icmp_other",
    ];
    header.extend(rest.map(str::to_owned));
    table.write_record(&header)?;
    for sample in samples {
        table.write_record(row(sample))?;
    }
    table
        .into_inner()
        .map_err(|error| error.into_error().into())
}

fn row(sample: &Sample) -> Vec<String> {
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let byte = |value: Option<u8>| value.map(|value| value.to_string()).unwrap_or_default();
    let mut row = vec![
        sample.at.to_string(),
        number(sample.rtt_ms),
        number(sample.jitter_ms),
        number(sample.loss),
    ];
    for (_, class) in sample.classes.by_class() {
        let counts = [
            class.sent_packets,
            class.sent_bytes,
            class.received_packets,
            class.received_bytes,
            class.dropped,
        ];
        row.extend(counts.map(|count| count.to_string()));
    }
    row.extend([
        byte(sample.received_ttl),
        byte(sample.received_tos),
        sample.received_dscp.clone().unwrap_or_default(),
        sample.received_ecn.clone().unwrap_or_default(),
    ]);
    let icmp = &sample.icmp;
    let said = [
        icmp.time_exceeded,
        icmp.unreachable,
        icmp.too_big,
        icmp.other,
    ];
    row.extend(said.map(|count| count.to_string()));
    row
}

async fn pcap_of(app: &App, id: &str) -> Result<Vec<u8>, Problem> {
    let client = match app.live.find(id) {
        Some(Found::Live(client)) => client,
        Some(Found::Ended(_)) => return Err(ended()),
        None => return app.living(id).await.and(Err(Problem::not_found("client"))),
    };
    let missed = client.capture.missed();
    if missed > 0 {
        tracing::debug!(missed, "packets are not in the capture");
    }
    let header = PcapHeader {
        datalink: DataLink::RAW,
        ts_resolution: TsResolution::NanoSecond,
        // No packet is longer. It is more than is kept of each: some readers refuse a packet that was longer.
        snaplen: u16::MAX.into(),
        ..PcapHeader::default()
    };
    let write = || -> Result<Vec<u8>, pcap_file::PcapError> {
        let mut writer = PcapWriter::with_header(Vec::new(), header)?;
        for kept in client.capture.packets() {
            let at = kept
                .at
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default();
            let (raw, length) = packet::rebuild(&kept);
            writer.write_packet(&PcapPacket::new(at, length, &raw))?;
        }
        Ok(writer.into_writer())
    };
    write().map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Icmp, Rates};

    #[test]
    fn each_row_has_what_the_header_names() {
        let sample = Sample {
            at: Timestamp::from_millis(0),
            rtt_ms: Some(12.3),
            jitter_ms: None,
            loss: Some(0.0),
            classes: Rates::default(),
            received_ttl: Some(57),
            received_tos: Some(184),
            received_dscp: Some("EF".to_owned()),
            received_ecn: Some("not-ect".to_owned()),
            icmp: Icmp::default(),
            dropped: 0,
        };
        let table = table(&[sample]).expect("a table");
        let mut read = csv::Reader::from_reader(table.as_slice());
        let header = read.headers().expect("a header").clone();
        let row = read.records().next().expect("a row").expect("CSV");
        let of = |name: &str| {
            let at = header.iter().position(|column| column == name);
            row.get(at.expect("a column")).expect("a cell").to_owned()
        };
        assert_eq!(of("rtt_ms"), "12.3");
        assert_eq!(of("jitter_ms"), "");
        assert_eq!(of("srtp_sent_packets"), "0");
        assert_eq!(of("received_dscp"), "EF");
        assert_eq!(of("icmp_other"), "0");
    }
}
