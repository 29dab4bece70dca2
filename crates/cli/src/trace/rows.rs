//! The rows of a trace.

use std::time::Duration;

use perpacket_path::{HeaderChange, HeaderField, Hop, IcmpExtension};
use perpacket_webrtc::udp::Tos;
use serde::Serialize;

use crate::output::{Align, Table, micros, millis};

/// The columns of the table, and how they stand.
pub(super) const COLUMNS: [(&str, Align); 11] = [
    ("hop", Align::Right),
    ("address", Align::Left),
    ("loss", Align::Right),
    ("sent", Align::Right),
    ("last", Align::Right),
    ("best", Align::Right),
    ("mean", Align::Right),
    ("worst", Align::Right),
    ("p95", Align::Right),
    ("jitter", Align::Right),
    ("", Align::Left),
];

/// The rows under them, times in milliseconds. A hop with several addresses has a row for each.
pub(super) fn rows(hops: &[Hop], names: bool) -> Vec<[String; COLUMNS.len()]> {
    let mut rows = Vec::new();
    for hop in hops {
        let mut addresses = hop.addresses.iter().map(|address| match &address.name {
            // Whoever runs the router has chosen its name.
            Some(name) if names => format!(
                "{} ({})",
                name.replace(char::is_control, "?"),
                address.address
            ),
            _ => address.address.to_string(),
        });
        let first = addresses.next().unwrap_or_else(|| "…".to_owned());
        let rtt = &hop.rtt;
        let time = |time: Option<Duration>| time.map(millis).unwrap_or_default();
        rows.push([
            hop.ttl.to_string(),
            first,
            rtt.loss().map(percent).unwrap_or_default(),
            rtt.sent.to_string(),
            time(rtt.last),
            time(rtt.best),
            time(rtt.mean),
            time(rtt.worst),
            time(rtt.p95),
            time(rtt.jitter),
            notes(hop).join(", "),
        ]);
        for other in addresses {
            let mut row = [const { String::new() }; COLUMNS.len()];
            row[1] = other;
            rows.push(row);
        }
    }
    rows
}

pub(super) fn table(hops: &[Hop], names: bool) -> Table {
    let mut table = Table::new(&COLUMNS);
    for row in rows(hops, names) {
        table.row(row);
    }
    table
}

/// What there is to say of a hop beside its numbers.
fn notes(hop: &Hop) -> Vec<String> {
    let mut notes = Vec::new();
    if hop.peer {
        notes.push("the server".to_owned());
    }
    if let Some(error) = hop.error {
        notes.push(error.to_string());
    }
    if !hop.peer && !hop.silent && !hop.proved() {
        notes.push("not proved".to_owned());
    }
    let spared = |path_loss: f64| hop.rtt.loss().is_some_and(|loss| loss > path_loss + 0.005);
    if !hop.silent && hop.path_loss.is_some_and(spared) {
        notes.push("answers are limited".to_owned());
    }
    if let Some(mtu) = hop.mtu {
        notes.push(format!("MTU {mtu}"));
    }
    for extension in &hop.extensions {
        if let IcmpExtension::Mpls { labels } = extension {
            for label in labels {
                notes.push(format!("MPLS {}", label.label));
            }
        }
    }
    if let Some(quote) = &hop.quote
        && quote.tos != Tos::default()
    {
        notes.push(format!("TOS {}", quote.tos));
    }
    notes
}

/// A sentence.
pub(super) fn change(change: &HeaderChange) -> String {
    let HeaderChange {
        after,
        before,
        field,
        ..
    } = change;
    let what = match field {
        HeaderField::Tos { from, to } => format!("TOS {from} becomes {to}"),
        HeaderField::DfBit { from, to } => {
            format!("DF {} becomes {}", u8::from(*from), u8::from(*to))
        }
        HeaderField::Source { from, to } => format!("the source {from} becomes {to} (NAT)"),
        HeaderField::Destination { from, to } => {
            format!("the destination {from} becomes {to} (NAT)")
        }
        HeaderField::Checksum => "the checksum no longer fits (NAT)".to_owned(),
        other => format!("{other:?}"),
    };
    format!("between hop {after} and hop {before}: {what}")
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// A hop as comma-separated values.
#[derive(Clone, Debug, Serialize)]
pub(super) struct CsvRow {
    ttl: u8,
    address: Option<String>,
    name: Option<String>,
    peer: bool,
    silent: bool,
    proved: bool,
    sent: u64,
    received: u64,
    lost: u64,
    path_loss: Option<f64>,
    last_us: Option<f64>,
    best_us: Option<f64>,
    mean_us: Option<f64>,
    median_us: Option<f64>,
    p95_us: Option<f64>,
    worst_us: Option<f64>,
    jitter_us: Option<f64>,
    reply_ttl: Option<u8>,
    mtu: Option<u32>,
}

impl CsvRow {
    pub(super) fn of(hop: &Hop) -> Self {
        let rtt = &hop.rtt;
        let newest = hop.addresses.first();
        Self {
            ttl: hop.ttl,
            address: newest.map(|newest| newest.address.to_string()),
            name: newest.and_then(|newest| newest.name.clone()),
            peer: hop.peer,
            silent: hop.silent,
            proved: hop.proved(),
            sent: rtt.sent,
            received: rtt.received,
            lost: rtt.lost,
            path_loss: hop.path_loss,
            last_us: rtt.last.map(micros),
            best_us: rtt.best.map(micros),
            mean_us: rtt.mean.map(micros),
            median_us: rtt.median.map(micros),
            p95_us: rtt.p95.map(micros),
            worst_us: rtt.worst.map(micros),
            jitter_us: rtt.jitter.map(micros),
            reply_ttl: hop.reply_ttl,
            mtu: hop.mtu,
        }
    }
}
