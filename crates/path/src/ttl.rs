//! How many hops it is to the peer, and whether that changes.

mod search;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use perpacket_udp::MessageOptions;
use perpacket_webrtc::{ProbeAnswer, Prober};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::{
    MeasureError, Running,
    running::{CONSENT, Follow, LONGEST, Progress, may_pass},
    statistics,
};

use search::ask;
pub(crate) use search::search;

/// As far as `traceroute` looks.
const DEFAULT_MAX_TTL: u8 = 30;

/// How to look for the smallest TTL that reaches the peer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReachTtlConfig {
    /// The largest TTL to try, 1 to 255. Default 30.
    pub max_ttl: u8,
    /// What else the header of the probes says; the TTL in it does not count. Default: nothing.
    pub options: MessageOptions,
    /// After what time a probe is lost. Default 1 s.
    pub timeout: Duration,
    /// How many probes have to be lost before a TTL counts as too small, 1 to 20. Default 3: with 5% of loss
    /// that is wrong once in 8,000 times.
    pub confirmations: u8,
    /// After the first result, how often to look whether the path has changed; every time costs two
    /// probes. `None`, the default: never, and the measurement ends with the first result. More than a year counts
    /// as a year.
    pub watch: Option<Duration>,
}

impl Default for ReachTtlConfig {
    fn default() -> Self {
        Self {
            max_ttl: DEFAULT_MAX_TTL,
            options: MessageOptions::NONE,
            timeout: Duration::from_secs(1),
            confirmations: 3,
            watch: None,
        }
    }
}

/// The peer, as it was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Reach {
    /// The smallest TTL, or hop limit, that reaches it: the number of hops, itself included.
    pub ttl: u8,
    /// The TTL that its answers arrive with. It is what is left of 64, 128 or 255 after the way back.
    pub reply_ttl: Option<u8>,
    /// The round trip.
    #[serde(rename = "rtt_us", serialize_with = "statistics::microseconds")]
    pub rtt: Option<Duration>,
}

impl Reach {
    fn new(ttl: u8, answer: &ProbeAnswer) -> Self {
        Self {
            ttl,
            reply_ttl: answer.ttl,
            rtt: Some(answer.rtt.time),
        }
    }

    /// How many hops the way back is, if the peer sends with the next common TTL above what arrives.
    #[must_use]
    pub fn hops_back(&self) -> Option<u8> {
        let left = self.reply_ttl?;
        let initial = [64, 128, 255]
            .into_iter()
            .find(|initial| left <= *initial)?;
        Some((initial - left).saturating_add(1))
    }
}

/// What is seen while it runs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
#[non_exhaustive]
pub enum ReachTtlEvent {
    /// The first result. `None`: no TTL reaches the peer.
    Found {
        /// The peer.
        reach: Option<Reach>,
    },
    /// The number of hops has changed, and so the path. A new path of the same length stays unseen.
    Changed(ReachChange),
    /// The way back has another length, or begins with another TTL.
    WayBackChanged {
        /// The TTL that answers arrived with.
        from: Option<u8>,
        /// The TTL that they arrive with now.
        to: Option<u8>,
    },
}

/// Another number of hops than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReachChange {
    /// When it was noticed.
    pub at: SystemTime,
    /// The smallest TTL that reached the peer; `None` if it was out of reach.
    pub from: Option<u8>,
    /// The smallest TTL that reaches it now; `None` if it is out of reach.
    pub to: Option<u8>,
}

/// The result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReachTtlReport {
    /// The peer, as it was reached last. `None`: it did not answer.
    pub reach: Option<Reach>,
    /// The changes that a watch has noticed, at most the newest 1,000.
    pub changes: Vec<ReachChange>,
}

const MAX_CHANGES: usize = 1000;

/// The smallest TTL that reaches the peer, on the media's own 5-tuple: all are tried at once. The peer's STUN
/// answer is proof, so no ICMP is needed; what firewalls do to it does not matter.
///
/// ```no_run
/// # async fn example(prober: std::sync::Arc<perpacket_webrtc::Prober>) -> Result<(), perpacket_path::MeasureError> {
/// use std::time::Duration;
///
/// use perpacket_path::{ReachTtl, ReachTtlConfig, ReachTtlEvent};
///
/// let mut config = ReachTtlConfig::default();
/// config.watch = Some(Duration::from_secs(1));
/// let mut watch = ReachTtl::new(prober, config).start();
/// while let Some(event) = watch.next().await {
///     if let ReachTtlEvent::Changed(change) = event {
///         println!("the path has changed: {:?} hops, now {:?}", change.from, change.to);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ReachTtl {
    prober: Arc<Prober>,
    config: ReachTtlConfig,
}

impl ReachTtl {
    /// A test of this session's path.
    #[must_use]
    pub fn new(prober: Arc<Prober>, config: ReachTtlConfig) -> Self {
        Self { prober, config }
    }

    /// Starts it, as a task of the current tokio runtime. A watch runs until it is
    /// [stopped](Running::stop), or the session cannot be probed for half a minute; while it cannot, as while ICE
    /// restarts, the peer is out of reach.
    pub fn start(self) -> Running<ReachTtlEvent, ReachTtlReport> {
        Running::start(|progress| self.run(progress))
    }

    async fn run(
        self,
        mut progress: Progress<ReachTtlEvent>,
    ) -> Result<ReachTtlReport, MeasureError> {
        self.config.validate()?;
        let mut report = ReachTtlReport {
            reach: None,
            changes: Vec::new(),
        };
        tokio::select! {
            biased;
            () = progress.stopped() => return Ok(report),
            found = async {
                // The addresses may be others by now. If there are none, the first probe says so.
                let _ = self.prober.refresh().await;
                search(&self.prober, &self.config).await
            } => report.reach = found?,
        }
        progress.tell(ReachTtlEvent::Found {
            reach: report.reach,
        });
        let Some(every) = self.config.watch else {
            return Ok(report);
        };
        let every = every.clamp(Duration::from_millis(1), LONGEST);
        let mut tick = interval_at(Instant::now() + every, every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut follow = Follow::new(CONSENT);
        loop {
            let now = tokio::select! {
                biased;
                () = progress.stopped() => return Ok(report),
                now = async {
                    tick.tick().await;
                    self.look_again(report.reach, &mut follow).await
                } => now?,
            };
            let before = std::mem::replace(&mut report.reach, now);
            Self::tell_changes(before, &mut report, &progress);
        }
    }

    fn tell_changes(
        before: Option<Reach>,
        report: &mut ReachTtlReport,
        progress: &Progress<ReachTtlEvent>,
    ) {
        let (from, to) = (before.map(|r| r.ttl), report.reach.map(|r| r.ttl));
        if from != to {
            let at = SystemTime::now();
            let change = ReachChange { at, from, to };
            if report.changes.len() == MAX_CHANGES {
                report.changes.remove(0);
            }
            report.changes.push(change);
            progress.tell(ReachTtlEvent::Changed(change));
        }
        if let (Some(before), Some(now)) = (before, report.reach)
            && before.reply_ttl != now.reply_ttl
        {
            progress.tell(ReachTtlEvent::WayBackChanged {
                from: before.reply_ttl,
                to: now.reply_ttl,
            });
        }
    }

    /// Whether the TTL still is the smallest that reaches the peer, and which one is otherwise.
    async fn look_again(
        &self,
        before: Option<Reach>,
        follow: &mut Follow,
    ) -> Result<Option<Reach>, MeasureError> {
        let Some(moved) = follow.refresh(&self.prober).await? else {
            return Ok(None);
        };
        match self.look(before.filter(|_| !moved)).await {
            // What cannot be sent reaches nobody.
            Err(MeasureError::Probe(error)) if may_pass(&error) => Ok(None),
            seen => seen,
        }
    }

    async fn look(&self, before: Option<Reach>) -> Result<Option<Reach>, MeasureError> {
        let Some(before) = before else {
            return search(&self.prober, &self.config).await;
        };
        let below = async {
            match before.ttl.checked_sub(1).filter(|below| *below > 0) {
                Some(below) => ask(&self.prober, &self.config, below).await,
                None => Ok(None),
            }
        };
        match tokio::join!(ask(&self.prober, &self.config, before.ttl), below) {
            (Ok(Some(now)), Ok(None)) => Ok(Some(now)),
            (Err(error), _) | (_, Err(error)) => Err(error),
            _ => search(&self.prober, &self.config).await,
        }
    }
}

impl ReachTtlConfig {
    fn validate(&self) -> Result<(), MeasureError> {
        let wrong = |field, value: String, expected| {
            Err(MeasureError::Config {
                field,
                value,
                expected,
            })
        };
        if self.max_ttl == 0 {
            return wrong("max_ttl", self.max_ttl.to_string(), "1 to 255");
        }
        if !(1..=20).contains(&self.confirmations) {
            return wrong("confirmations", self.confirmations.to_string(), "1 to 20");
        }
        if self.timeout.is_zero() {
            return wrong(
                "timeout",
                format!("{:?}", self.timeout),
                "more than nothing",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_is_what_is_missing_of_a_common_ttl() {
        let back = |reply_ttl| {
            let reach = Reach {
                ttl: 5,
                reply_ttl,
                rtt: None,
            };
            reach.hops_back()
        };
        assert_eq!(back(Some(64)), Some(1));
        assert_eq!(back(Some(60)), Some(5));
        assert_eq!(back(Some(120)), Some(9));
        assert_eq!(back(Some(250)), Some(6));
        assert_eq!(back(Some(0)), Some(65));
        assert_eq!(back(None), None);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let refused = |config: ReachTtlConfig| config.validate().expect_err("refused").to_string();
        let config = ReachTtlConfig::default();
        assert!(config.validate().is_ok());
        let no_ttl = ReachTtlConfig {
            max_ttl: 0,
            ..config.clone()
        };
        assert_eq!(refused(no_ttl), "max_ttl is 0: 1 to 255");
        let never_sure = ReachTtlConfig {
            confirmations: 0,
            ..config.clone()
        };
        assert!(refused(never_sure).starts_with("confirmations is 0"));
        let no_time = ReachTtlConfig {
            timeout: Duration::ZERO,
            ..config
        };
        assert!(refused(no_time).starts_with("timeout is 0ns"));
    }
}
