use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Timestamp;

/// How far a measurement has come.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MeasurementState {
    /// It goes on.
    Running,
    /// It has come to its end.
    Done,
    /// It was stopped; the report has what there was by then.
    Stopped,
    /// There is no result.
    Failed,
}

/// A measurement of a client's path.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct MeasurementInfo {
    /// Its name.
    pub id: String,
    /// Whose path.
    pub client: String,
    /// `trace`, `pmtu`, `qos` or `ttl`.
    pub kind: String,
    /// How far it has come.
    pub state: MeasurementState,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// What was asked for, with the defaults of what was not.
    #[schema(value_type = Object)]
    pub config: serde_json::Value,
    /// Why there is no result.
    pub error: Option<String>,
    /// How many events there were.
    pub rows: u64,
}

/// A measurement and what it has found. Events and report are those of `perpacket … --json`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MeasurementView {
    /// What it is.
    #[serde(flatten)]
    pub info: MeasurementInfo,
    /// The newest event of each key: per hop for a trace, per size for a path MTU, per mark for `QoS`.
    #[schema(value_type = Vec<Object>)]
    pub events: Vec<serde_json::Value>,
    /// The result, once there is one.
    #[schema(value_type = Option<Object>)]
    pub report: Option<serde_json::Value>,
}

/// Measurements of a client, the newest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MeasurementList {
    /// The measurements.
    pub measurements: Vec<MeasurementInfo>,
}

/// A measurement to begin. Which fields there are depends on the kind; unknown ones are refused.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes what is read field by field")]
pub struct MeasurementRequest {
    /// `trace`: where the path goes. `pmtu`: how large a packet it carries. `qos`: what it does with marks. `ttl`:
    /// how many hops it has.
    #[schema(example = "trace")]
    kind: String,
    /// trace: how many rounds; 10 if it is left out.
    #[schema(required = false, minimum = 1, maximum = 1000)]
    rounds: Option<u32>,
    /// trace, ttl: the largest TTL; 30 if it is left out.
    #[schema(required = false, minimum = 1, maximum = 255)]
    max_ttl: Option<u8>,
    /// trace: from one round to the next, milliseconds; 1,000 if it is left out.
    #[schema(required = false, minimum = 100, maximum = 60000)]
    interval_ms: Option<u32>,
    /// trace: whether to look up the names of routers.
    #[schema(required = false)]
    names: Option<bool>,
    /// trace: whether to look at the headers that routers quote, where the kernel permits it.
    #[schema(required = false)]
    raw: Option<bool>,
    /// pmtu: the largest packet to try, bytes.
    #[schema(required = false, minimum = 1200, maximum = 65500)]
    cap: Option<u32>,
    /// pmtu: whether to find the size to the last four bytes.
    #[schema(required = false)]
    refine: Option<bool>,
    /// pmtu: whether what is larger goes out with DF 0 from then on.
    #[schema(required = false)]
    apply: Option<bool>,
    /// qos: at most 32 marks, each a DSCP, an ECN field or both: `EF`, `ect0`, `AF41+ect1`.
    #[schema(required = false, example = json!(["CS0", "EF", "ect0"]))]
    marks: Option<Vec<String>>,
    /// qos: probes of each mark; 50 if it is left out.
    #[schema(required = false, minimum = 1, maximum = 1000)]
    count: Option<u32>,
}
