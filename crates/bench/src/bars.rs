//! What perpacket has to reach beside the plain socket, and whether it does.

use serde::Serialize;

use crate::report::Outcome;

/// A figure that has to be reached.
struct Rule {
    id: &'static str,
    what: &'static str,
    bar: f64,
    aim: f64,
    at_least: bool,
}

/// What the note of a bar without a value begins with.
pub(crate) const NOT_MEASURED: &str = "not measured: ";

const RULES: [Rule; 11] = [
    Rule {
        id: "unbatched",
        what: "one datagram, TTL+DF+TOS changing on each, CPU / stock send without options",
        bar: 1.10,
        aim: 1.00,
        at_least: false,
    },
    Rule {
        id: "batched-run",
        what: "runs of 16 to one peer, batched, CPU / stock send",
        bar: 0.40,
        aim: 0.25,
        at_least: false,
    },
    Rule {
        id: "batched-fanout",
        what: "fan-out to 64 peers, different options for each, batched, CPU / stock send",
        bar: 0.85,
        aim: 0.75,
        at_least: false,
    },
    Rule {
        id: "mux-receive",
        what: "mux receive, 100 peers, CPU per datagram / UDPMuxDefault",
        bar: 0.35,
        aim: 0.20,
        at_least: false,
    },
    Rule {
        id: "mux-scale",
        what: "mux receive, CPU per datagram, 1,000 peers / 10 peers",
        bar: 1.20,
        aim: 1.05,
        at_least: false,
    },
    Rule {
        id: "data-channel",
        what: "data-channel throughput, batched / stock",
        bar: 1.00,
        aim: 1.05,
        at_least: true,
    },
    Rule {
        id: "fan-out",
        what: "SFU fan-out, CPU per forwarded packet / stock",
        bar: 0.92,
        aim: 0.85,
        at_least: false,
    },
    Rule {
        id: "instructions",
        what: "user-space instructions of one CustomConn::send_to above the bare loop",
        bar: 900.0,
        aim: 500.0,
        at_least: false,
    },
    Rule {
        id: "lookup",
        what: "policy lookup, 100,000 peers with a busy writer, ns",
        bar: 100.0,
        aim: 40.0,
        at_least: false,
    },
    Rule {
        id: "threads",
        what: "throughput of two threads sending on one socket / one thread",
        bar: 1.5,
        aim: 1.8,
        at_least: true,
    },
    Rule {
        id: "memory",
        what: "resident memory per idle peer connection, bytes above stock",
        bar: 4096.0,
        aim: 0.0,
        at_least: false,
    },
];

/// A figure that has to be reached, and what it is.
#[derive(Clone, Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "that is what it is called")]
pub(crate) struct Bar {
    /// What benchmarks name it by.
    pub(crate) id: &'static str,
    /// What it is the figure of.
    pub(crate) what: &'static str,
    /// What was measured, if it was.
    pub(crate) value: Option<f64>,
    /// What has to be reached.
    pub(crate) bar: f64,
    /// What is worth reaching.
    pub(crate) aim: f64,
    /// Whether more is better.
    pub(crate) at_least: bool,
    /// Whether the bar is reached.
    pub(crate) met: bool,
    /// What has to be known of it; why it was not measured.
    pub(crate) note: Option<String>,
}

/// All bars, with what was found.
pub(crate) fn judge(outcome: &Outcome) -> Vec<Bar> {
    RULES.iter().map(|rule| rule.judge(outcome)).collect()
}

impl Rule {
    fn judge(&self, outcome: &Outcome) -> Bar {
        let found = |(id, _): &&(String, f64)| id == self.id;
        let value = outcome.bars.iter().find(found).map(|(_, value)| *value);
        let met = value.is_some_and(|value| {
            if self.at_least {
                value >= self.bar
            } else {
                value <= self.bar
            }
        });
        let remark = outcome.remarks.iter().find(|(id, _)| id == self.id);
        let remark = remark.map(|(_, text)| text.clone());
        let note = if value.is_some() {
            remark
        } else {
            let why = remark.unwrap_or_else(|| "not chosen, or it could not run".to_owned());
            Some(NOT_MEASURED.to_owned() + &why)
        };
        Bar {
            id: self.id,
            what: self.what,
            value,
            bar: self.bar,
            aim: self.aim,
            at_least: self.at_least,
            met,
            note,
        }
    }
}
