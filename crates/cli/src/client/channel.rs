//! A data channel, on which the server may send back what it gets.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use bytes::Bytes;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};
use webrtc::{
    data_channel::{RTCDataChannel, data_channel_init::RTCDataChannelInit},
    peer_connection::RTCPeerConnection,
};

/// How often a load is sent, and in messages of what size: they fit into a packet of any path.
const PACE: Duration = Duration::from_millis(10);
const MESSAGE: Bytes = Bytes::from_static(&[0; 1000]);

/// How many bytes of a load may wait to be sent.
const BACKLOG: usize = 1 << 18;

/// A data channel that loses what is lost: nothing is sent again, nothing waits for what is missing.
pub(crate) struct Channel {
    inner: Arc<RTCDataChannel>,
    opened: watch::Receiver<bool>,
    closed: watch::Receiver<bool>,
    back: mpsc::UnboundedReceiver<(Instant, u64)>,
    next: u64,
}

impl Channel {
    /// To be called before the offer is made.
    pub(super) async fn new(connection: &RTCPeerConnection) -> Result<Self> {
        let unreliable = RTCDataChannelInit {
            ordered: Some(false),
            max_retransmits: Some(0),
            ..RTCDataChannelInit::default()
        };
        let inner = connection
            .create_data_channel("perpacket", Some(unreliable))
            .await?;
        let (opening, opened) = watch::channel(false);
        inner.on_open(Box::new(move || {
            opening.send_replace(true);
            Box::pin(async {})
        }));
        let (closing, closed) = watch::channel(false);
        inner.on_close(Box::new(move || {
            closing.send_replace(true);
            Box::pin(async {})
        }));
        let (coming, back) = mpsc::unbounded_channel();
        inner.on_message(Box::new(move |message| {
            let now = Instant::now();
            // What is not ours is not what we sent.
            if let Ok(number) = <[u8; 8]>::try_from(&message.data[..]) {
                let _ = coming.send((now, u64::from_be_bytes(number)));
            }
            Box::pin(async {})
        }));
        Ok(Self {
            inner,
            opened,
            closed,
            back,
            next: 0,
        })
    }

    /// Whether it is closed, now and when that changes.
    pub(super) fn closed(&self) -> watch::Receiver<bool> {
        self.closed.clone()
    }

    /// Sends a message, and returns how long it took to come back, if it does in that time. To be called
    /// by one at a time; what comes back later is forgotten.
    pub(crate) async fn echo(&mut self, within: Duration) -> Option<Duration> {
        timeout(within, async {
            // An error says that the channel is gone, and a message that cannot go out is lost.
            self.opened.wait_for(|opened| *opened).await.ok()?;
            self.next += 1;
            let sent = Instant::now();
            let message = Bytes::copy_from_slice(&self.next.to_be_bytes());
            self.inner.send(&message).await.ok()?;
            loop {
                let (at, number) = self.back.recv().await?;
                if number == self.next {
                    return Some(at.saturating_duration_since(sent));
                }
            }
        })
        .await
        .ok()
        .flatten()
    }

    /// Sends so many kilobits a second of payload, as far as SCTP's congestion control lets it, until what is
    /// returned is dropped.
    pub(crate) fn load(&self, kilobits: u32) -> Load {
        let channel = Arc::clone(&self.inner);
        Load(tokio::spawn(async move {
            let mut pace = interval(PACE);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // Kilobits a second are bits a millisecond.
            let each_time = u128::from(kilobits) * PACE.as_millis() / 8;
            let mut due = 0;
            loop {
                pace.tick().await;
                due += each_time;
                while due >= MESSAGE.len() as u128 {
                    due -= MESSAGE.len() as u128;
                    if channel.buffered_amount().await < BACKLOG {
                        // What cannot be sent is no load.
                        let _ = channel.send(&MESSAGE).await;
                    }
                }
            }
        }))
    }
}

/// A load that is being sent, until this is dropped.
pub(crate) struct Load(JoinHandle<()>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.abort();
    }
}
