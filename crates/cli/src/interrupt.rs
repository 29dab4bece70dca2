//! Ctrl-C and SIGTERM.

use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::output::live;

/// Whether somebody wants the program to end. The first time it ends by itself, sessions closed and
/// results printed; the second time it is gone.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Listens from now on.
    pub(crate) fn install() -> Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for Ctrl-C")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        let (asked, receiver) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if asked.send_replace(true) {
                    live::restore();
                    std::process::exit(130);
                }
            }
        });
        Ok(Self(receiver))
    }

    /// Returns once somebody wants it. Cancel-safe.
    pub(crate) async fn asked(&mut self) {
        if self.0.wait_for(|asked| *asked).await.is_err() {
            // The runtime is going down, and whoever waits with it.
            std::future::pending::<()>().await;
        }
    }
}
