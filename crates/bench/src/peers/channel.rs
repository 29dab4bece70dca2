//! One end of a data channel that is ordered and reliable, of either line of webrtc-rs.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};
use webrtc::data_channel::RTCDataChannel;

use super::classic::Peer;
use super::soon;

/// A sender stops when this much is queued, bytes.
pub(super) const HIGH: usize = 1 << 20;

/// It goes on when no more than this is queued, bytes.
const LOW: usize = HIGH / 2;

/// What it is called.
pub(super) const LABEL: &str = "bench";

/// What messages are sent through.
#[async_trait]
pub(super) trait Channel: Send + Sync {
    /// Sends a message, when less than [`HIGH`] is queued.
    async fn send(&self, message: &Bytes) -> Result<()>;

    /// Closes the peer connection.
    async fn close(&self) -> Result<()>;
}

/// An end that is open.
pub(super) struct End {
    pub(super) channel: Arc<dyn Channel>,
    /// The length of each message that arrives.
    pub(super) arrived: mpsc::UnboundedReceiver<usize>,
}

impl End {
    /// The length of the next message.
    pub(super) async fn next(&mut self) -> Result<usize> {
        soon("a message", self.arrived.recv())
            .await?
            .context("the data channel is gone")
    }
}

/// An end of webrtc-rs 0.17 that is not open yet.
pub(super) struct Opening {
    opened: oneshot::Receiver<Arc<RTCDataChannel>>,
    arrived: mpsc::UnboundedReceiver<usize>,
}

/// Where it is told.
struct Ends {
    opened: oneshot::Sender<Arc<RTCDataChannel>>,
    arrived: mpsc::UnboundedSender<usize>,
}

impl Opening {
    /// Offers a channel, before the offer is made.
    pub(super) async fn offer(peer: &Peer) -> Result<Self> {
        let (opening, ends) = Self::new();
        let channel = peer.connection.create_data_channel(LABEL, None).await?;
        ends.attach(&channel);
        Ok(opening)
    }

    /// Takes what will be offered.
    pub(super) fn expect(peer: &Peer) -> Self {
        let (opening, ends) = Self::new();
        let mut ends = Some(ends);
        peer.connection.on_data_channel(Box::new(move |channel| {
            if let Some(ends) = ends.take() {
                ends.attach(&channel);
            }
            Box::pin(async {})
        }));
        opening
    }

    fn new() -> (Self, Ends) {
        let (opening, opened) = oneshot::channel();
        let (arriving, arrived) = mpsc::unbounded_channel();
        let ends = Ends {
            opened: opening,
            arrived: arriving,
        };
        (Self { opened, arrived }, ends)
    }

    /// Waits until it is open.
    pub(super) async fn open(self, peer: Peer) -> Result<End> {
        let inner = soon("a data channel", self.opened).await??;
        let low = Arc::new(Notify::new());
        inner.set_buffered_amount_low_threshold(LOW).await;
        let notify = Arc::clone(&low);
        let handler = Box::new(move || {
            notify.notify_one();
            Box::pin(async {}) as _
        });
        inner.on_buffered_amount_low(handler).await;
        Ok(End {
            channel: Arc::new(Classic { inner, low, peer }),
            arrived: self.arrived,
        })
    }
}

impl Ends {
    fn attach(self, channel: &Arc<RTCDataChannel>) {
        // The channel owns its handlers: they must not own it.
        let weak = Arc::downgrade(channel);
        let mut opened = Some(self.opened);
        channel.on_open(Box::new(move || {
            if let (Some(opened), Some(channel)) = (opened.take(), weak.upgrade()) {
                // Nobody listens only when it is over.
                let _ = opened.send(channel);
            }
            Box::pin(async {})
        }));
        let arrived = self.arrived;
        channel.on_message(Box::new(move |message| {
            let _ = arrived.send(message.data.len());
            Box::pin(async {})
        }));
    }
}

/// An end of webrtc-rs 0.17.
struct Classic {
    inner: Arc<RTCDataChannel>,
    low: Arc<Notify>,
    peer: Peer,
}

#[async_trait]
impl Channel for Classic {
    async fn send(&self, message: &Bytes) -> Result<()> {
        while self.inner.buffered_amount().await > HIGH {
            soon("the queue to be sent", self.low.notified()).await?;
        }
        self.inner.send(message).await?;
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        Ok(self.peer.connection.close().await?)
    }
}
