//! Ctrl-C, SIGTERM, and the end of the terminal.

use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
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
        // Whoever ignores it, as nohup does, wants it to be ignored.
        let mut hangup = (!ignores_hangup())
            .then(|| signal(SignalKind::hangup()))
            .transpose()
            .context("cannot wait for SIGHUP")?;
        let (asked, receiver) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    () = heard(hangup.as_mut()) => {}
                }
                if asked.send_replace(true) {
                    live::restore();
                    std::process::exit(130);
                }
            }
        });
        Ok(Self(receiver))
    }

    /// Whether somebody wants it.
    pub(crate) fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once somebody wants it. Cancel-safe.
    pub(crate) async fn asked(&mut self) {
        if self.0.wait_for(|asked| *asked).await.is_err() {
            // The runtime is going down, and whoever waits with it.
            std::future::pending::<()>().await;
        }
    }
}

async fn heard(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether SIGHUP was ignored when the program began (`proc_pid_status(5)`), which tells nothing elsewhere.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 1 != 0))
}
