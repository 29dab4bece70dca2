use std::{fmt, time::Duration};

use serde::Serialize;

use super::{
    compare::Comparison,
    config::{Phase, QosConfig},
    dead::{DeadMark, FallenBack},
    mark::Mark,
    place::{MarkPath, Remarking},
};
use crate::RttStatistics;

/// What a [`Qos`](crate::Qos) test sees while it runs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
#[non_exhaustive]
pub enum QosEvent {
    /// A probe is answered, or lost.
    Probed {
        /// Its mark.
        mark: Mark,
        /// Its block, from 0.
        block: usize,
        /// The round trip in microseconds; `None` if it is lost.
        rtt_us: Option<f64>,
    },
    /// All probes of a mark are evaluated.
    Compared(MarkReport),
    /// A mark does not arrive.
    Dead(DeadMark),
    /// A class has gone back to DSCP 0.
    FellBack(FallenBack),
    /// Marks change on the way.
    Remarked(Remarking),
}

/// What is known of one mark.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct MarkReport {
    /// The mark.
    pub mark: Mark,
    /// Its probes. Only the way there has the mark: the peer marks its answers as it likes.
    pub rtt: RttStatistics,
    /// How many of its probes the peer has received, where it reports: what is missing among these was
    /// lost on the way there, the rest of the losses on the way back.
    pub arrived: Option<u64>,
    /// Beside best effort. `None` for best effort itself.
    pub comparison: Option<Comparison>,
}

/// Where marks were looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Visibility {
    /// They were.
    Observed,
    /// They could not be.
    Unavailable {
        /// Why.
        reason: String,
    },
    /// Nobody wanted to know.
    NotAsked,
}

/// What happens to marks on the way to the peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Observation {
    /// Hop by hop, from the packets that routers quote.
    pub on_the_way: Visibility,
    /// What arrived, by the peer's own report.
    pub at_the_peer: Visibility,
    /// The smallest TTL that reaches the peer; `None` if it has not answered.
    pub hops: Option<u8>,
    /// What was seen.
    pub paths: Vec<MarkPath>,
    /// Where marks change, in the order of the path. Nothing between two hops that show them means that
    /// nothing happens there.
    pub remarkings: Vec<Remarking>,
}

/// The result of a [`Qos`](crate::Qos) test.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct QosReport {
    /// What the session did meanwhile, as the configuration says.
    pub phase: Phase,
    /// How it was done.
    pub config: QosConfig,
    /// What the order of probes was made from.
    pub seed: u64,
    /// Each mark, best effort first.
    pub marks: Vec<MarkReport>,
    /// The marks that do not arrive.
    pub dead: Vec<DeadMark>,
    /// What has been done about it.
    pub fallen_back: Vec<FallenBack>,
    /// What happens to marks on the way.
    pub observation: Observation,
}

impl QosReport {
    /// What is known of this mark.
    #[must_use]
    pub fn mark(&self, mark: impl Into<Mark>) -> Option<&MarkReport> {
        let mark = mark.into();
        self.marks.iter().find(|report| report.mark == mark)
    }

    /// What load does to each mark that both reports have, this one without it.
    #[must_use]
    pub fn under_load(&self, loaded: &Self) -> Vec<LoadEffect> {
        let effect = |idle: &MarkReport| {
            let loaded = loaded.mark(idle.mark)?;
            let growth = |of: fn(&RttStatistics) -> Option<Duration>| {
                let micros = |time: Duration| time.as_secs_f64() * 1e6;
                Some(micros(of(&loaded.rtt)?) - micros(of(&idle.rtt)?))
            };
            Some(LoadEffect {
                mark: idle.mark,
                median_growth_us: growth(|rtt| rtt.median),
                p95_growth_us: growth(|rtt| rtt.p95),
                loss_growth: loaded.rtt.loss()? - idle.rtt.loss()?,
            })
        };
        self.marks.iter().filter_map(effect).collect()
    }
}

/// What load does to a mark.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LoadEffect {
    /// The mark.
    pub mark: Mark,
    /// By how many microseconds the median round trip grows.
    pub median_growth_us: Option<f64>,
    /// By how many the 95th percentile does: the queue that a mark waits in.
    pub p95_growth_us: Option<f64>,
    /// By how much the loss grows, -1 to 1.
    pub loss_growth: f64,
}

impl fmt::Display for Remarking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dscp = self.dscp.iter().map(ToString::to_string);
        let ecn = self.ecn.iter().map(ToString::to_string);
        let what: Vec<_> = dscp.chain(ecn).collect();
        let Self {
            from_hop, to_hop, ..
        } = self;
        write!(
            f,
            "{} between hop {from_hop} and hop {to_hop}",
            what.join(", ")
        )
    }
}
