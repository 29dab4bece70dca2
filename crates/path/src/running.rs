mod follow;

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use perpacket_webrtc::ProbeError;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

pub(crate) use follow::{CONSENT, Follow, may_pass};

/// The longest time between two looks: much longer cannot be added to the time of day.
pub(crate) const LONGEST: Duration = Duration::from_hours(365 * 24);

/// Why a measurement gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeasureError {
    /// The session cannot be probed, or not any more.
    #[error("cannot probe the session: {0}")]
    Probe(#[from] ProbeError),
    /// The configuration makes no sense.
    #[error("{field} is {value}: {expected}")]
    Config {
        /// Which setting.
        field: &'static str,
        /// What it was.
        value: String,
        /// What it can be.
        expected: &'static str,
    },
    /// What was demanded needs a privilege, or a kernel, that is not there.
    #[error("cannot {what}: {source}")]
    Unavailable {
        /// What was demanded.
        what: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The peer is gone, or answers no probes at all.
    #[error("the peer {peer} answered none of {probes} probes")]
    NoAnswer {
        /// Who was asked.
        peer: std::net::SocketAddr,
        /// How often.
        probes: u32,
    },
    /// The measurement has panicked, or its runtime is gone.
    #[error("the measurement ended without a result")]
    Aborted,
}

/// A measurement that runs: a stream of what it sees, and then its result.
///
/// Dropping it ends the measurement: nothing more is sent. What it sees is kept until it is read, so one that goes
/// on for long is to be read, or left to [`finish`](Self::finish), which keeps nothing.
#[derive(Debug)]
#[must_use = "dropping it ends the measurement"]
pub struct Running<E, R> {
    events: mpsc::UnboundedReceiver<E>,
    result: oneshot::Receiver<Result<R, MeasureError>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// The side of [`Running`] that measures.
#[derive(Debug)]
pub(crate) struct Progress<E> {
    events: mpsc::UnboundedSender<E>,
    stop: watch::Receiver<bool>,
}

impl<E> Progress<E> {
    /// Tells who listens.
    pub(crate) fn tell(&self, event: E) {
        // An error says that nobody does.
        let _ = self.events.send(event);
    }

    /// Returns once the measurement is to end with what there is. Cancel-safe.
    pub(crate) async fn stopped(&mut self) {
        // An error says that `Running` is gone, and this task with it.
        let _ = self.stop.wait_for(|stop| *stop).await;
    }

    /// Whether the measurement is to end with what there is.
    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }
}

impl<E: Send + 'static, R: Send + 'static> Running<E, R> {
    /// Runs `measure` as a task of the current tokio runtime.
    pub(crate) fn start<F, T>(measure: F) -> Self
    where
        F: FnOnce(Progress<E>) -> T,
        T: Future<Output = Result<R, MeasureError>> + Send + 'static,
    {
        let (events_in, events) = mpsc::unbounded_channel();
        let (result_in, result) = oneshot::channel();
        let (stop, stopped) = watch::channel(false);
        let measuring = measure(Progress {
            events: events_in,
            stop: stopped,
        });
        let task = tokio::spawn(async move {
            // An error says that nobody waits for it.
            let _ = result_in.send(measuring.await);
        });
        Self {
            events,
            result,
            stop,
            task,
        }
    }
}

impl<E, R> Running<E, R> {
    /// What the measurement sees next; `None` once it is done. Cancel-safe.
    pub async fn next(&mut self) -> Option<E> {
        self.events.recv().await
    }

    /// Ends the measurement early: [`finish`](Self::finish) then gives what there is.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// The result, once the measurement is done.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn finish(mut self) -> Result<R, MeasureError> {
        self.events.close();
        while self.events.try_recv().is_ok() {}
        (&mut self.result)
            .await
            .unwrap_or(Err(MeasureError::Aborted))
    }
}

impl<E, R> Drop for Running<E, R> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<E, R> Stream for Running<E, R> {
    type Item = E;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<E>> {
        self.events.poll_recv(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::ready, sync::Arc};

    use super::*;

    #[tokio::test]
    async fn what_nobody_can_read_is_not_kept() {
        let (told, kept) = (Arc::new(()), Arc::new(()));
        let (begun_in, begun) = oneshot::channel();
        let (go_on, goes_on) = oneshot::channel::<()>();
        let (early, late) = (Arc::clone(&told), Arc::clone(&kept));
        let running = Running::start(|progress: Progress<Arc<()>>| async move {
            progress.tell(early);
            let _ = begun_in.send(());
            let _ = goes_on.await;
            progress.tell(Arc::clone(&late));
            Ok(Arc::strong_count(&late))
        });
        begun.await.expect("it runs");
        let finishing = running.finish();
        tokio::pin!(finishing);
        tokio::select! {
            biased;
            _ = &mut finishing => panic!("it cannot be done yet"),
            () = ready(()) => {}
        }
        assert_eq!(Arc::strong_count(&told), 1, "what was told before");
        go_on.send(()).expect("it waits");
        let owners = finishing.await.expect("a result");
        assert_eq!(owners, 2, "what is told afterwards");
    }
}
