//! Where the path of a session's packets goes.

mod config;
mod header;
mod hop;
mod names;
mod path;
mod quotes;
mod report;
mod run;

use std::sync::Arc;

pub use config::{Names, RawMode, TraceConfig};
pub use header::{Checksum, HeaderChange, HeaderField, QuotedHeader};
pub use hop::{Hop, HopAddress};
use perpacket_webrtc::Prober;
pub use report::{RawStatus, TraceEvent, TraceReport};

use crate::Running;

/// Finds the routers between this host and the peer, on the media's own 5-tuple: what a router balances
/// by addresses and ports takes the same way as the media. That is one path, by design; a new flow to the
/// same peer may well take another.
///
/// Probes with TTL 1, 2, 3 and so on go out at once, and each router tells where one of them ended. The
/// peer is known by its STUN answer, which no limit on ICMP hides. Further rounds go no further than the
/// peer, as long as it answers.
///
/// ```no_run
/// # async fn f(prober: std::sync::Arc<perpacket_webrtc::Prober>) -> Result<(), perpacket_path::MeasureError> {
/// use perpacket_path::{Trace, TraceConfig, TraceEvent};
///
/// let config = TraceConfig { rounds: Some(10), ..TraceConfig::default() };
/// let mut running = Trace::new(prober, config).start();
/// while let Some(event) = running.next().await {
///     if let TraceEvent::Picture { hops, after } = event {
///         println!("{} hops after {after:?}", hops.len());
///     }
/// }
/// for hop in running.finish().await?.hops {
///     println!("{:2} {:?} {:?}", hop.ttl, hop.address(), hop.rtt.median);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Trace {
    prober: Arc<Prober>,
    config: TraceConfig,
}

impl Trace {
    /// A trace that has not begun.
    #[must_use]
    pub fn new(prober: Arc<Prober>, config: TraceConfig) -> Self {
        Self { prober, config }
    }

    /// Begins, as a task of the current tokio runtime. Its end is told by
    /// [`finish`](Running::finish): a configuration that makes no sense, a session that cannot be probed,
    /// a privilege that was [required](RawMode::Required) and is not there.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(self) -> Running<TraceEvent, TraceReport> {
        Running::start(move |progress| run::run(self.prober, self.config, progress))
    }
}
