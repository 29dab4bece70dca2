//! All measurements at once, again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use perpacket_path::{
    PathMtu, PathMtuChange, PathMtuConfig, PathMtuReport, PathMtuWatch, PathMtuWatchConfig,
    PathMtuWatchReport, Qos, QosConfig, QosReport, RawMode, ReachTtl, ReachTtlConfig,
    ReachTtlEvent, ReachTtlReport, Running, Trace, TraceConfig, TraceEvent, TraceReport,
};

use super::scene::{HOPS, NARROW};
use crate::support::measured::Measured;
use crate::support::peer::Task;

/// How many times each of those that end by themselves has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) rounds_of_trace: u32,
    pub(crate) path_mtu: usize,
    pub(crate) checks_of_watch: u64,
    pub(crate) qos: usize,
}

/// Runs on the left host until it is finished. All share one prober, and its limit.
pub(crate) struct Measuring {
    stop: Arc<AtomicBool>,
    trace: Running<TraceEvent, TraceReport>,
    watch: Running<PathMtuChange, PathMtuWatchReport>,
    reach: Running<ReachTtlEvent, ReachTtlReport>,
    path_mtu: Task<Result<Vec<PathMtuReport>>>,
    qos: Task<Result<Vec<QosReport>>>,
}

impl Measuring {
    pub(crate) fn start(measured: &Measured) -> Self {
        let left = &measured.left;
        let prober = || Arc::clone(&measured.prober);
        let trace = TraceConfig {
            rounds: None,
            interval: Duration::from_millis(200),
            raw: RawMode::IfPermitted,
            ..TraceConfig::default()
        };
        let watch = PathMtuWatchConfig {
            interval: Duration::from_millis(200),
            raise_interval: Duration::from_secs(1),
            ..PathMtuWatchConfig::default()
        };
        let mut reach = ReachTtlConfig::default();
        reach.watch = Some(Duration::from_millis(100));
        let mut qos = QosConfig::default();
        qos.count = 20;
        let path_mtu = PathMtuConfig {
            refine: true,
            ..PathMtuConfig::default()
        };
        let stop = Arc::new(AtomicBool::new(false));
        let [one, other] = [Arc::clone(&stop), Arc::clone(&stop)];
        let (for_path_mtu, for_qos) = (prober(), prober());
        left.block_on(async {
            Self {
                stop,
                trace: Trace::new(prober(), trace).start(),
                watch: PathMtuWatch::new(prober(), watch).start(),
                reach: ReachTtl::new(prober(), reach).start(),
                path_mtu: left.spawn(again_and_again(one, move || {
                    PathMtu::new(for_path_mtu.clone(), path_mtu.clone()).start()
                })),
                qos: left.spawn(again_and_again(other, move || {
                    Qos::new(for_qos.clone(), qos.clone()).start()
                })),
            }
        })
    }

    /// Ends them, once each has been done at least once. They were right.
    pub(crate) fn finish(mut self, measured: &Measured) -> Result<Done> {
        self.stop.store(true, Ordering::SeqCst);
        measured.left.block_on(async {
            let path_mtu = (&mut self.path_mtu.0).await??;
            let qos = (&mut self.qos.0).await??;
            self.trace.stop();
            self.watch.stop();
            self.reach.stop();
            let trace = self.trace.finish().await?;
            let watch = self.watch.finish().await?;
            let reach = self.reach.finish().await?;
            let is_right = |report: &&PathMtuReport| report.mtu == NARROW && report.exact;
            let wrong: Vec<_> = path_mtu.iter().filter(|it| !is_right(it)).collect();
            ensure!(wrong.is_empty(), "{wrong:#?}");
            ensure!(trace.peer_ttl == Some(HOPS), "{trace:#?}");
            ensure!(watch.mtu == Some(NARROW), "{watch:?}");
            ensure!(
                reach.reach.is_some_and(|reach| reach.ttl == HOPS),
                "{reach:?}"
            );
            Ok(Done {
                rounds_of_trace: trace.rounds,
                path_mtu: path_mtu.len(),
                checks_of_watch: watch.checks,
                qos: qos.len(),
            })
        })
    }
}

/// Each after the one before, until it is enough.
async fn again_and_again<E, R>(
    enough: Arc<AtomicBool>,
    start: impl Fn() -> Running<E, R>,
) -> Result<Vec<R>> {
    let mut reports = Vec::new();
    while reports.is_empty() || !enough.load(Ordering::SeqCst) {
        reports.push(start().finish().await?);
    }
    Ok(reports)
}
