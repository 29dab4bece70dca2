use std::{collections::BTreeSet, time::Duration};

use perpacket_udp::{Dscp, Ecn};
use serde::Serialize;

use super::{compare::Significance, mark::Mark};
use crate::MeasureError;

/// More would make blocks so long that their probes are no pairs any more.
const MAX_MARKS: usize = 32;

/// The round trips of two marks are compared in pairs of pairs: half a million.
const MAX_COUNT: usize = 1000;

/// The most probes that a run compares: of best effort, of the marks, and of every other DSCP, if all are in use.
pub(super) const MAX_PROBES: usize = MAX_COUNT * (1 + MAX_MARKS + 63);

/// What the session does meanwhile. The library makes no load: the application does, and says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing beside the probes, or little.
    #[default]
    Idle,
    /// It sends what it can, so that queues fill: where marks make a difference, they make it now.
    Loaded,
}

/// Whether to look where marks change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Observe {
    /// No.
    Never,
    /// As far as this process may, and as the peer reports.
    #[default]
    IfPossible,
    /// On the way, hop by hop, which needs `CAP_NET_RAW`; without it the measurement fails.
    Required,
}

/// How a [`Qos`](crate::Qos) test is done.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct QosConfig {
    /// What to compare with best effort, at most 32. [`Mark::REFERENCE`] is always there. Default:
    /// CS0, AF41, EF, LE, and CS0 with ECT(0) and with ECT(1).
    pub marks: Vec<Mark>,
    /// Probes of each mark, 1 to 1,000; below 20 there is hardly anything to be seen. Default 50.
    pub count: usize,
    /// Between one probe and the next. Default 10 ms, with which six marks of 50 probes take 3 seconds. The
    /// [`Prober`](perpacket_webrtc::Prober) has a limit of its own.
    #[serde(rename = "interval_us", serialize_with = "crate::qos::as_micros")]
    pub interval: Duration,
    /// After what time a probe is lost. Default 1 s.
    #[serde(rename = "timeout_us", serialize_with = "crate::qos::as_micros")]
    pub timeout: Duration,
    /// The label of the report.
    pub phase: Phase,
    /// How sure a verdict is, and what matters.
    pub significance: Significance,
    /// Whether to look where marks change.
    pub observe: Observe,
    /// What the order of probes is made from. Default: another one each time; the report has it.
    pub seed: Option<u64>,
}

impl Default for QosConfig {
    fn default() -> Self {
        let dscps = [Dscp::CS0, Dscp::AF41, Dscp::EF, Dscp::LE].map(Mark::from);
        let ecns = [Ecn::Ect0, Ecn::Ect1].map(Mark::from);
        Self {
            marks: dscps.into_iter().chain(ecns).collect(),
            count: 50,
            interval: Duration::from_millis(10),
            timeout: Duration::from_secs(1),
            phase: Phase::Idle,
            significance: Significance::default(),
            observe: Observe::IfPossible,
            seed: None,
        }
    }
}

impl QosConfig {
    pub(super) fn validate(&self) -> Result<(), MeasureError> {
        let Significance {
            confidence,
            false_dead,
            min_loss,
            ..
        } = &self.significance;
        let (count, marks) = (self.count, self.marks.len());
        check(
            "count",
            &count,
            (1..=MAX_COUNT).contains(&count),
            "1 to 1000",
        )?;
        check("marks", &marks, marks <= MAX_MARKS, "at most 32 marks")?;
        if let Some(ce) = self.marks.iter().find(|mark| mark.ecn == Ecn::Ce) {
            // RFC 3168 §5: it would tell the peer of congestion that there is none of.
            check(
                "marks",
                ce,
                false,
                "an ECN field that a sender may set: not ce",
            )?;
        }
        let sure = *confidence > 0.5 && *confidence < 1.0;
        check("confidence", confidence, sure, "above 0.5 and below 1")?;
        let rare = *false_dead > 0.0 && *false_dead < 0.5;
        check("false_dead", false_dead, rare, "above 0 and below 0.5")?;
        check(
            "min_loss",
            min_loss,
            (0.0..=1.0).contains(min_loss),
            "0 to 1",
        )?;
        let timeout = format!("{:?}", self.timeout);
        check(
            "timeout",
            &timeout,
            !self.timeout.is_zero(),
            "more than nothing",
        )
    }

    /// What to send: best effort first, and every mark once.
    pub(super) fn all_marks(&self, also: impl Iterator<Item = Dscp>) -> Vec<Mark> {
        let mut seen = BTreeSet::new();
        [Mark::REFERENCE]
            .into_iter()
            .chain(self.marks.iter().copied())
            .chain(also.map(Mark::from))
            .filter(|mark| seen.insert(*mark))
            .collect()
    }
}

fn check(
    field: &'static str,
    value: &impl ToString,
    right: bool,
    expected: &'static str,
) -> Result<(), MeasureError> {
    if right {
        return Ok(());
    }
    Err(MeasureError::Config {
        field,
        value: value.to_string(),
        expected,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused_by_name() {
        let refused = |change: fn(&mut QosConfig)| {
            let mut config = QosConfig::default();
            change(&mut config);
            config.validate().expect_err("refused").to_string()
        };
        assert!(QosConfig::default().validate().is_ok());
        assert_eq!(refused(|config| config.count = 0), "count is 0: 1 to 1000");
        assert!(refused(|config| config.marks.push(Ecn::Ce.into())).starts_with("marks is ce"));
        assert!(refused(|config| config.marks = vec![Mark::REFERENCE; 33]).contains("33"));
        assert!(refused(|config| config.significance.confidence = f64::NAN).contains("NaN"));
        assert!(refused(|config| config.significance.min_loss = -0.1).contains("min_loss"));
        assert!(refused(|config| config.significance.false_dead = 0.0).contains("false_dead"));
        assert!(refused(|config| config.timeout = Duration::ZERO).contains("timeout"));
    }

    #[test]
    fn best_effort_is_always_first() {
        let config = QosConfig {
            marks: vec![Dscp::EF.into(), Mark::REFERENCE, Dscp::EF.into()],
            ..QosConfig::default()
        };
        let marks = config.all_marks([Dscp::EF, Dscp::AF21].into_iter());
        assert_eq!(marks, [Dscp::CS0, Dscp::EF, Dscp::AF21].map(Mark::from));
    }
}
