//! A data channel, on which the server may send back what it gets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use bytes::Bytes;
use perpacket_webrtc::{PacketClass, Session};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout, timeout_at},
};
use webrtc::{
    data_channel::{RTCDataChannel, data_channel_init::RTCDataChannelInit},
    peer_connection::RTCPeerConnection,
};

/// How long the server may take to open it, once somebody wants to send.
const OPENING: Duration = Duration::from_secs(10);

/// How many messages may wait to be read. A server that sends more has not got them from us.
const WAITING: usize = 16;

/// How often a load is sent, and in messages of what size: they fit into a packet of any path.
const PACE: Duration = Duration::from_millis(10);
const MESSAGE: Bytes = Bytes::from_static(&[0; 1000]);

/// How many bytes of a load may wait to be sent.
const BACKLOG: usize = 1 << 18;

/// When a message came, and its number.
type Back = (Instant, u64);

/// A data channel that loses what is lost: nothing is sent again, nothing waits for what is missing.
pub(crate) struct Channel {
    inner: Arc<RTCDataChannel>,
    opened: watch::Receiver<bool>,
    /// Until when that is waited for.
    patience: Option<Instant>,
    closed: watch::Receiver<bool>,
    back: mpsc::Receiver<Back>,
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
        let (coming, back) = mpsc::channel(WAITING);
        inner.on_message(Box::new(move |message| {
            keep(&coming, &message.data);
            Box::pin(async {})
        }));
        Ok(Self {
            inner,
            opened,
            patience: None,
            closed,
            back,
            next: 0,
        })
    }

    /// Whether it is closed, now and when that changes.
    pub(super) fn closed(&self) -> watch::Receiver<bool> {
        self.closed.clone()
    }

    /// Whether the server has opened it by now.
    pub(crate) fn is_open(&self) -> bool {
        *self.opened.borrow()
    }

    /// Waits until the server has opened it, and returns whether it has. Only the first time it is waited long.
    /// Cancel-safe.
    pub(crate) async fn opens(&mut self) -> bool {
        let until = *self
            .patience
            .get_or_insert_with(|| Instant::now() + OPENING);
        let opened = self.opened.wait_for(|opened| *opened);
        // An error says that the channel is gone.
        timeout_at(until.into(), opened)
            .await
            .is_ok_and(|opened| opened.is_ok())
    }

    /// Sends a message, and returns how long it took to come back, if it does in that time. To be called
    /// by one at a time; what comes back later is forgotten.
    pub(crate) async fn echo(&mut self, within: Duration) -> Option<Duration> {
        // What has come since the last time would leave no room.
        forget(&mut self.back);
        self.next += 1;
        timeout(within, async {
            let sent = Instant::now();
            let message = Bytes::copy_from_slice(&self.next.to_be_bytes());
            // A message that cannot go out is lost.
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
    /// returned is dropped. To be called once it is open; `session` counts what it sends.
    pub(crate) fn load(&self, kilobits: u32, session: &Session) -> Load {
        let channel = Arc::clone(&self.inner);
        let accepted = Arc::new(AtomicU64::new(0));
        let to = Arc::clone(&accepted);
        let task = tokio::spawn(async move {
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
                    if channel.buffered_amount().await < BACKLOG
                        && channel.send(&MESSAGE).await.is_ok()
                    {
                        to.fetch_add(MESSAGE.len() as u64, Relaxed);
                    }
                }
            }
        });
        Load {
            task,
            accepted,
            before: sent(session),
            session: session.clone(),
            begun: Instant::now(),
        }
    }
}

/// A load that is being sent, until this is dropped.
pub(crate) struct Load {
    task: JoinHandle<()>,
    /// Bytes that SCTP has taken.
    accepted: Arc<AtomicU64>,
    session: Session,
    /// Bytes that had left before.
    before: u64,
    begun: Instant,
}

impl Load {
    /// What has been sent so far, in kilobits a second: what SCTP has taken, as far as so much has left this
    /// host. Nothing, if no message has.
    pub(crate) fn kilobits(&self) -> u64 {
        let gone = sent(&self.session).saturating_sub(self.before);
        rate(self.accepted.load(Relaxed).min(gone), self.begun.elapsed())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Bytes that have left on data channels, and with them what DTLS and SCTP say of themselves.
fn sent(session: &Session) -> u64 {
    session.total().class(PacketClass::Dtls).sent_bytes
}

/// In kilobits a second, rounded up.
fn rate(bytes: u64, time: Duration) -> u64 {
    if bytes < MESSAGE.len() as u64 {
        return 0;
    }
    let rate = (u128::from(bytes) * 8_000).div_ceil(time.as_micros().max(1));
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// Takes note of a message that may be one of ours: others have another length.
fn keep(coming: &mpsc::Sender<Back>, message: &[u8]) {
    if let Ok(number) = <[u8; 8]>::try_from(message) {
        // Nobody has read those before.
        let _ = coming.try_send((Instant::now(), u64::from_be_bytes(number)));
    }
}

fn forget(back: &mut mpsc::Receiver<Back>) {
    while back.try_recv().is_ok() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_reads_is_not_kept() {
        let (coming, mut back) = mpsc::channel(WAITING);
        for number in 0..1000_u64 {
            keep(&coming, &number.to_be_bytes());
        }
        assert_eq!(back.len(), WAITING);
        forget(&mut back);
        keep(&coming, b"not ours");
        keep(&coming, b"nor this one");
        keep(&coming, &1000_u64.to_be_bytes());
        let numbers: Vec<_> = std::iter::from_fn(|| back.try_recv().ok())
            .map(|(_, number)| number)
            .collect();
        assert_eq!(numbers, [u64::from_be_bytes(*b"not ours"), 1000]);
    }

    #[test]
    fn a_rate_is_in_kilobits_a_second() {
        let second = Duration::from_secs(1);
        for (bytes, expected) in [(0, 0), (999, 0), (1000, 8), (25_000, 200)] {
            assert_eq!(rate(bytes, second), expected, "{bytes}");
        }
        assert_eq!(rate(1000, 10 * second), 1);
    }
}
