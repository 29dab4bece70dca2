use std::time::Duration;

use perpacket_path::{Mark, Names, PathMtuConfig, QosConfig, RawMode, ReachTtlConfig, TraceConfig};
use perpacket_webrtc::udp::Ecn;
use serde_json::{Value, json};

use crate::fields::{Field, FieldError, Fields};

const KINDS: &str = "trace, pmtu, qos, ttl";

/// How many rounds a trace has unless something else is asked for: enough to see loss and jitter.
const ROUNDS: u32 = 10;

const MAX_TTL: u8 = 30;

/// The most marks of a `QoS` test.
const MARKS: usize = 32;

const MARK: &str =
    "at most 32 marks, each a DSCP, an ECN field but ce, or both: EF, ect0, AF41+ect1";

/// What is to be measured, and how.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Trace(TraceConfig),
    Pmtu { config: PathMtuConfig, apply: bool },
    Qos(QosConfig),
    Ttl(ReachTtlConfig),
}

impl Request {
    /// # Errors
    /// What is wrong with a field.
    pub(crate) fn parse(body: &Value) -> Result<Self, FieldError> {
        let kind = match body.get("kind") {
            Some(Value::String(kind)) => kind.as_str(),
            Some(other) => return Err(FieldError::new("kind", other.clone(), KINDS)),
            // What is no object is refused here, too.
            None => {
                Fields::new(body, &["kind"])?;
                return Err(FieldError::new("kind", Value::Null, KINDS));
            }
        };
        match kind {
            "trace" => trace(body),
            "pmtu" => pmtu(body),
            "qos" => qos(body),
            "ttl" => ttl(body),
            _ => Err(FieldError::new("kind", kind.into(), KINDS)),
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Trace(_) => "trace",
            Self::Pmtu { .. } => "pmtu",
            Self::Qos(_) => "qos",
            Self::Ttl(_) => "ttl",
        }
    }

    /// All that can be asked for, as it is.
    pub(super) fn config(&self) -> Value {
        match self {
            Self::Trace(config) => json!({
                "rounds": config.rounds,
                "max_ttl": config.max_ttl,
                "interval_ms": u64::try_from(config.interval.as_millis()).unwrap_or(u64::MAX),
                "names": config.names != Names::Off,
                "raw": config.raw != RawMode::Off,
            }),
            Self::Pmtu { config, apply } => json!({
                "cap": config.cap,
                "refine": config.refine,
                "apply": apply,
            }),
            Self::Qos(config) => {
                let marks: Vec<_> = config.marks.iter().map(ToString::to_string).collect();
                json!({ "marks": marks, "count": config.count })
            }
            Self::Ttl(config) => json!({ "max_ttl": config.max_ttl }),
        }
    }
}

fn trace(body: &Value) -> Result<Request, FieldError> {
    let fields = Fields::new(
        body,
        &["kind", "rounds", "max_ttl", "interval_ms", "names", "raw"],
    )?;
    let rounds = fields.number::<u32>("rounds", 1..=1_000)?.value();
    let interval = fields.number::<u64>("interval_ms", 100..=60_000)?.value();
    let is_on = |field: Field<bool>| field.value().unwrap_or(false);
    Ok(Request::Trace(TraceConfig {
        rounds: Some(rounds.unwrap_or(ROUNDS)),
        max_ttl: fields
            .number("max_ttl", 1..=255)?
            .value()
            .unwrap_or(MAX_TTL),
        interval: Duration::from_millis(interval.unwrap_or(1_000)),
        names: if is_on(fields.boolean("names")?) {
            Names::System
        } else {
            Names::Off
        },
        raw: if is_on(fields.boolean("raw")?) {
            RawMode::IfPermitted
        } else {
            RawMode::Off
        },
        ..TraceConfig::default()
    }))
}

fn pmtu(body: &Value) -> Result<Request, FieldError> {
    let fields = Fields::new(body, &["kind", "cap", "refine", "apply"])?;
    let config = PathMtuConfig {
        cap: fields
            .number::<u32>("cap", 1_200..=65_500)?
            .value()
            .map(|cap| cap as usize),
        refine: fields.boolean("refine")?.value().unwrap_or(false),
        ..PathMtuConfig::default()
    };
    let apply = fields.boolean("apply")?.value().unwrap_or(false);
    Ok(Request::Pmtu { config, apply })
}

fn qos(body: &Value) -> Result<Request, FieldError> {
    let fields = Fields::new(body, &["kind", "marks", "count"])?;
    let mut config = QosConfig::default();
    if let Some(count) = fields.number::<u32>("count", 1..=1_000)?.value() {
        config.count = count as usize;
    }
    if let Some(marks) = fields.get("marks").value() {
        let refused = || FieldError::new("marks", marks.clone(), MARK);
        let list = marks.as_array().filter(|marks| marks.len() <= MARKS);
        config.marks = list
            .ok_or_else(refused)?
            .iter()
            .map(|mark| mark.as_str()?.parse::<Mark>().ok())
            // RFC 3168 §5: a sender never says that there is congestion.
            .map(|mark| mark.filter(|mark| mark.ecn != Ecn::Ce))
            .collect::<Option<_>>()
            .ok_or_else(refused)?;
    }
    Ok(Request::Qos(config))
}

fn ttl(body: &Value) -> Result<Request, FieldError> {
    let fields = Fields::new(body, &["kind", "max_ttl"])?;
    let mut config = ReachTtlConfig::default();
    if let Some(max_ttl) = fields.number("max_ttl", 1..=255)?.value() {
        config.max_ttl = max_ttl;
    }
    Ok(Request::Ttl(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_done() {
        for (body, config) in [
            (
                json!({"kind": "trace", "rounds": 3, "raw": true}),
                json!({"rounds": 3, "max_ttl": 30, "interval_ms": 1000, "names": false, "raw": true}),
            ),
            (
                json!({"kind": "pmtu", "cap": 9000, "apply": true}),
                json!({"cap": 9000, "refine": false, "apply": true}),
            ),
            (
                json!({"kind": "qos", "marks": ["ef", "ect0", "AF41+ect1"], "count": 7}),
                json!({"marks": ["EF", "ect0", "AF41+ect1"], "count": 7}),
            ),
            (json!({"kind": "ttl"}), json!({"max_ttl": 30})),
        ] {
            assert_eq!(Request::parse(&body).expect("valid").config(), config);
        }
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (body, field) in [
            (json!(null), "body"),
            (json!([]), "body"),
            (json!({}), "kind"),
            (json!({"kind": 3}), "kind"),
            (json!({"kind": "ping"}), "kind"),
            (json!({"kind": "trace", "rounds": 0}), "rounds"),
            (json!({"kind": "trace", "rounds": 1001}), "rounds"),
            (json!({"kind": "trace", "interval_ms": 1}), "interval_ms"),
            (json!({"kind": "trace", "cap": 1500}), "cap"),
            (json!({"kind": "pmtu", "cap": 100}), "cap"),
            (json!({"kind": "qos", "marks": "EF"}), "marks"),
            (json!({"kind": "qos", "marks": ["ce"]}), "marks"),
            (json!({"kind": "qos", "marks": vec!["EF"; 33]}), "marks"),
            (json!({"kind": "qos", "count": 1e9}), "count"),
            (json!({"kind": "ttl", "max_ttl": 256}), "max_ttl"),
        ] {
            let error = Request::parse(&body).expect_err("refused");
            assert_eq!(error.field, field, "{body}");
        }
    }
}
