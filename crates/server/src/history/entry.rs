use serde_json::Value;

/// Something that is to be kept. What is read back has the same types.
///
/// Times are milliseconds since the epoch. Text may be anything and of any length; a NUL, which PostgreSQL has not, is
/// kept as U+FFFD. JSON is kept as it is; what is nested more than 127 deep is read as `null`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Entry {
    /// A client came, changed or ended. It takes the place of what was recorded of that client before, so that an entry
    /// that got lost is made up for by the next.
    Client(Client),
    /// What a client's connection did in one second, or whatever the interval is.
    Sample(Sample),
    /// A client's options were changed.
    Change(Change),
    /// A measurement started, went on or ended. It takes the place of what was recorded of it before.
    Measurement(Measurement),
    /// A part of a measurement's result.
    MeasurementRow(MeasurementRow),
    /// Somebody did something.
    Audit(Audit),
}

/// A client.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    /// Its name, which no other client of any server has.
    pub id: String,
    /// What people call it.
    pub name: Option<String>,
    /// The user agent it gave.
    pub user_agent: Option<String>,
    /// Where its offer came from.
    pub address: Option<String>,
    /// When it came.
    pub since: i64,
    /// When it went; it is live as long as there is nothing here.
    pub ended: Option<i64>,
    /// The state of its connection.
    pub state: String,
    /// What else is to be kept of it.
    pub data: Value,
}

/// What a client's connection did in an interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Whose.
    pub client: String,
    /// When the interval ended.
    pub at: i64,
    /// What was seen.
    pub data: Value,
}

/// A change of a client's options.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Whose.
    pub client: String,
    /// When.
    pub at: i64,
    /// By whom, or by what.
    pub by: String,
    /// Of which packets; of all, if it is not said.
    pub class: Option<String>,
    /// The options until then.
    pub before: Value,
    /// The options since.
    pub after: Value,
    /// Why, when nobody had asked for it.
    pub reason: Option<String>,
}

/// A measurement of a client's path.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// Its name, which no other measurement of any server has.
    pub id: String,
    /// Whose path.
    pub client: String,
    /// What is measured.
    pub kind: String,
    /// `running`, or how it ended.
    pub state: String,
    /// When it started.
    pub started: i64,
    /// When it ended.
    pub ended: Option<i64>,
    /// What it was asked to do.
    pub config: Value,
    /// Why it failed.
    pub error: Option<String>,
    /// What came out. Lists of measurements leave it out.
    pub report: Option<Value>,
}

/// A part of a measurement's result: of each name the last is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasurementRow {
    /// Of which measurement.
    pub measurement: String,
    /// Of which part: a hop, a size, a mark.
    pub name: String,
    /// When.
    pub at: i64,
    /// The result.
    pub data: Value,
}

/// Who did what.
#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    /// When.
    pub at: i64,
    /// Who.
    pub by: String,
    /// From which address.
    pub from: Option<String>,
    /// What was done.
    pub action: String,
    /// To which client.
    pub client: Option<String>,
    /// What else there is to say.
    pub detail: Value,
}

/// A client, and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientRow {
    /// The name of the server that it is, or was, connected to.
    pub server: String,
    /// The client.
    pub client: Client,
}

/// A measurement, and how much of its result there is.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasurementInfo {
    /// The measurement.
    pub measurement: Measurement,
    /// How many [`MeasurementRow`]s.
    pub rows: u64,
}

impl Entry {
    /// Whether it is one of many, which can be missed sooner than what is told only once.
    pub(super) fn is_of_many(&self) -> bool {
        matches!(self, Self::Sample(_) | Self::MeasurementRow(_))
    }

    /// About how many bytes of memory it takes.
    pub(super) fn weight(&self) -> usize {
        let content = match self {
            Self::Client(it) => {
                it.id.len()
                    + optional(&[&it.name, &it.user_agent, &it.address])
                    + it.state.len()
                    + json(&it.data)
            }
            Self::Sample(it) => it.client.len() + json(&it.data),
            Self::Change(it) => {
                it.client.len()
                    + it.by.len()
                    + optional(&[&it.class, &it.reason])
                    + json(&it.before)
                    + json(&it.after)
            }
            Self::Measurement(it) => {
                it.id.len()
                    + it.client.len()
                    + it.kind.len()
                    + it.state.len()
                    + optional(&[&it.error])
                    + json(&it.config)
                    + it.report.as_ref().map_or(0, json)
            }
            Self::MeasurementRow(it) => it.measurement.len() + it.name.len() + json(&it.data),
            Self::Audit(it) => {
                it.by.len() + optional(&[&it.from, &it.client]) + it.action.len() + json(&it.detail)
            }
        };
        size_of::<Self>() + content
    }
}

fn optional(texts: &[&Option<String>]) -> usize {
    texts.iter().copied().flatten().map(String::len).sum()
}

fn json(value: &Value) -> usize {
    let content = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(json).sum(),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| size_of::<String>() + name.len() + json(value))
            .sum(),
    };
    size_of::<Value>() + content
}
