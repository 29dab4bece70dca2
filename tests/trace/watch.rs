//! Traces that run while the test does something else.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use perpacket_path::{Running, Trace, TraceConfig, TraceEvent, TraceReport};

use super::scene::Scene;
use crate::support::connection::DEADLINE;

/// Without end, one round close upon the other.
pub(crate) fn endless() -> TraceConfig {
    TraceConfig {
        rounds: None,
        interval: Duration::from_millis(50),
        ..TraceConfig::default()
    }
}

/// A trace that runs while the test does something else.
pub(crate) struct Watch<'a> {
    scene: &'a Scene,
    running: Running<TraceEvent, TraceReport>,
}

impl<'a> Watch<'a> {
    pub(crate) fn start(scene: &'a Scene) -> Self {
        Self::with(scene, endless())
    }

    pub(crate) fn with(scene: &'a Scene, config: TraceConfig) -> Self {
        let trace = Trace::new(Arc::clone(&scene.measured.prober), config);
        let running = scene.measured.left.block_on(async { trace.start() });
        Self { scene, running }
    }

    /// Reads events until there is one like this.
    pub(crate) fn until(
        &mut self,
        mut wanted: impl FnMut(&TraceEvent) -> bool + Send,
    ) -> Result<TraceEvent> {
        let running = &mut self.running;
        self.scene.measured.left.block_on(async {
            tokio::time::timeout(DEADLINE, async {
                loop {
                    let event = running.next().await.context("it has ended")?;
                    if wanted(&event) {
                        return anyhow::Ok(event);
                    }
                }
            })
            .await
            .context("no such event")?
        })
    }

    /// Lets so many more rounds pass.
    pub(crate) fn rounds(&mut self, mut number: u32) -> Result<()> {
        self.until(|event| {
            number -= u32::from(matches!(event, TraceEvent::Round { .. }));
            number == 0
        })?;
        Ok(())
    }

    /// What there is when it ends by itself.
    pub(crate) fn end(self) -> Result<TraceReport> {
        let left = &self.scene.measured.left;
        let end = async { tokio::time::timeout(DEADLINE, self.running.finish()).await };
        Ok(left.block_on(end)??)
    }

    pub(crate) fn finish(self) -> Result<TraceReport> {
        self.running.stop();
        let left = &self.scene.measured.left;
        Ok(left.block_on(self.running.finish())?)
    }
}

/// Whether it is the peer's row, this far away.
pub(crate) fn peer_at(ttl: u8) -> impl FnMut(&TraceEvent) -> bool + Send {
    move |event| matches!(event, TraceEvent::Hop(hop) if hop.peer && hop.ttl == ttl)
}
