use std::{sync::Arc, time::Duration};

use perpacket_webrtc::Prober;
use serde::Serialize;

use super::{PathMtuConfig, watching::Watching};
use crate::{MeasureError, Running};

/// How a [`PathMtuWatch`] watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathMtuWatchConfig {
    /// The path MTU, where it has been measured, bytes of IP packet. `None`: it is measured first.
    pub mtu: Option<usize>,
    /// How to search, at first and when something has changed.
    pub search: PathMtuConfig,
    /// How often a packet of that size is sent. A fall is noticed after this time, that after which a probe is
    /// lost, and a second or [`PathMtuConfig::timeout`]; so by default within 5 seconds where a round trip takes up
    /// to 600 ms. More than a year counts as a year.
    pub interval: Duration,
    /// How often to look whether more passes by now: `PMTU_RAISE_TIMER` of RFC 8899 §5.1.1, 600 seconds
    /// there. More than a year counts as a year.
    pub raise_interval: Duration,
    /// Whether to tell the session what passes, as [`PathMtuReport::apply`](crate::PathMtuReport::apply)
    /// does; in a black hole, while it is being searched for what passes, it is the least that is to be
    /// expected of a path (RFC 8899 §5.2): 1,200 bytes, or 1,280 on IPv6.
    pub apply: bool,
}

impl Default for PathMtuWatchConfig {
    fn default() -> Self {
        Self {
            mtu: None,
            search: PathMtuConfig::default(),
            interval: Duration::from_secs(2),
            raise_interval: Duration::from_mins(10),
            apply: false,
        }
    }
}

/// What a [`PathMtuWatch`] sees. Sizes are bytes of IP packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
#[non_exhaustive]
pub enum PathMtuChange {
    /// It begins: this much passes.
    Watching {
        /// The largest packet that passes.
        mtu: usize,
    },
    /// Packets of this size have stopped arriving, small ones arrive. What does pass is being searched
    /// for.
    BlackHole {
        /// What passed before.
        mtu: usize,
    },
    /// Less passes than before.
    Fell {
        /// What passed before.
        from: usize,
        /// What passes now.
        to: usize,
    },
    /// More passes than before.
    Rose {
        /// What passed before.
        from: usize,
        /// What passes now.
        to: usize,
    },
    /// A search has found the same again.
    Unchanged {
        /// What passes.
        mtu: usize,
    },
    /// The peer answers nothing any more, large or small.
    Unreachable,
    /// It answers again. What passes now is being searched for.
    Reachable,
}

/// What a [`PathMtuWatch`] has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PathMtuWatchReport {
    /// What passes, as far as it is known, bytes of IP packet.
    pub mtu: Option<usize>,
    /// How often a packet of that size was sent to see whether it still passes.
    pub checks: u64,
    /// How often it did not arrive, whatever the reason.
    pub lost: u64,
    /// How often less passed than before.
    pub falls: u64,
    /// How often more passed than before.
    pub rises: u64,
}

/// Keeps an eye on the [path MTU](crate::PathMtu) of a running session, until it is
/// [stopped](crate::Running::stop) or dropped.
///
/// A packet of the size that passes is sent at intervals, with DF. If one is lost, four more of its size and
/// two small ones decide: a black hole takes the large ones alone. Where packets are lost at random
/// that is rarely mistaken, and then the search that follows finds the same again.
#[derive(Clone, Debug)]
pub struct PathMtuWatch {
    prober: Arc<Prober>,
    config: PathMtuWatchConfig,
}

impl PathMtuWatch {
    /// A watch over the prober's path.
    #[must_use]
    pub const fn new(prober: Arc<Prober>, config: PathMtuWatchConfig) -> Self {
        Self { prober, config }
    }

    /// Starts it, on the current tokio runtime. It ends by itself only where the session cannot be probed
    /// any more.
    pub fn start(self) -> Running<PathMtuChange, PathMtuWatchReport> {
        Running::start(|mut progress| async move {
            self.config.check()?;
            // The addresses may be others by now. If there are none, the first probe says so.
            let _ = self.prober.refresh().await;
            let mut watching = Watching::new(self.prober, self.config);
            loop {
                let change = tokio::select! {
                    biased;
                    () = progress.stopped() => return Ok(watching.report),
                    change = watching.next() => change?,
                };
                progress.tell(change);
            }
        })
    }
}

impl PathMtuWatchConfig {
    fn check(&self) -> Result<(), MeasureError> {
        self.search.check()?;
        for (field, value) in [
            ("interval", self.interval),
            ("raise_interval", self.raise_interval),
        ] {
            if value.is_zero() {
                return Err(MeasureError::Config {
                    field,
                    value: "0".to_owned(),
                    expected: "longer than that",
                });
            }
        }
        Ok(())
    }
}
