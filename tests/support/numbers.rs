//! Numbers on a data channel, that must all arrive, in order, whatever happens below.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::BytesMut;
use webrtc::data_channel::data_channel_state::RTCDataChannelState;
use webrtc::peer_connection::peer_connection_state::RTCPeerConnectionState;

use super::peer::{Peer, Task};

/// How often a number is sent.
const PACE: Duration = Duration::from_millis(5);

/// The length of a message: in a datagram of more than 600 bytes, and less than any MTU of the lab.
const MESSAGE: usize = 1000;

/// How many numbers show that the channel works.
const SOME: u32 = 20;

/// Sends 0, 1, 2 and so on.
pub(crate) struct Numbers {
    task: Task<Result<()>>,
    sent: Arc<AtomicU32>,
    enough: Arc<AtomicBool>,
    arrived: u32,
}

impl Numbers {
    /// Starts sending.
    pub(crate) fn send(from: &Peer) -> Self {
        let channel = Arc::clone(from.channel.get());
        let sent = Arc::new(AtomicU32::new(0));
        let enough = Arc::new(AtomicBool::new(false));
        let (counter, stop) = (Arc::clone(&sent), Arc::clone(&enough));
        let task = from.spawn(async move {
            let mut pace = tokio::time::interval(PACE);
            for number in 0u32.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                pace.tick().await;
                let mut message = BytesMut::zeroed(MESSAGE);
                message[..4].copy_from_slice(&number.to_be_bytes());
                channel.send(&message.freeze()).await?;
                counter.store(number + 1, Ordering::SeqCst);
            }
            Ok(())
        });
        Self {
            task,
            sent,
            enough,
            arrived: 0,
        }
    }

    /// Receives what has been sent by now, each number after the one before, and some more.
    pub(crate) fn go_on(&mut self, at: &mut Peer) -> Result<()> {
        self.receive_until(at, self.sent.load(Ordering::SeqCst) + SOME)
    }

    /// Goes on for a bit, ends, and receives all that was sent. Both ends are well then.
    pub(crate) fn all_arrive(mut self, from: &Peer, at: &mut Peer) -> Result<()> {
        self.go_on(at)?;
        self.enough.store(true, Ordering::SeqCst);
        from.block_on(&mut self.task.0)??;
        self.receive_until(at, self.sent.load(Ordering::SeqCst))?;
        for peer in [from, at] {
            ensure!(peer.channel.get().ready_state() == RTCDataChannelState::Open);
            ensure!(peer.connection.connection_state() == RTCPeerConnectionState::Connected);
        }
        Ok(())
    }

    fn receive_until(&mut self, at: &mut Peer, number: u32) -> Result<()> {
        let expected = self.arrived..number;
        let Peer {
            channel, runtime, ..
        } = at;
        runtime.block_on(async {
            for expected in expected {
                let message = channel.message().await?;
                let got = message.first_chunk().copied().map(u32::from_be_bytes);
                ensure!(got == Some(expected), "{got:?} instead of {expected}");
            }
            Ok(())
        })?;
        self.arrived = self.arrived.max(number);
        Ok(())
    }
}
