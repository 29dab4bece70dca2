//! Two connected peer connections of the same kind, with a data channel.

use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use tokio::time::sleep;

use super::channel::{End, Opening};
use super::classic::Peer;
use super::next;
use super::way::{Sockets, Way};

/// Two peer connections in this process.
pub(super) struct Pair {
    pub(super) near: End,
    pub(super) far: End,
    /// From before they were made until both said that they are connected.
    pub(super) connected_in: Duration,
    sockets: Vec<Sockets>,
}

impl Pair {
    /// Connects two.
    pub(super) async fn new(way: Way) -> Result<Self> {
        let mut pair = match way {
            Way::Next => Self::next().await,
            _ => Self::classic(way).await,
        }?;
        // Messages go both ways before anything is measured.
        pair.ping(&Bytes::from_static(&[0; 100])).await?;
        Ok(pair)
    }

    async fn classic(way: Way) -> Result<Self> {
        let begun = Instant::now();
        // Two muxes know a pair of peer connections by its two ports: each pair has its own.
        let sockets = vec![Sockets::new(way).await?, Sockets::new(way).await?];
        let near = Peer::new(sockets[0].settings("near")).await?;
        let far = Peer::new(sockets[1].settings("far")).await?;
        let of_near = Opening::offer(&near).await?;
        let of_far = Opening::expect(&far);
        let offer = near.offer().await?;
        sockets[0].signalled(&offer);
        let answer = far.answer(offer).await?;
        sockets[1].signalled(&answer);
        near.accept(answer).await?;
        near.connected().await?;
        far.connected().await?;
        let connected_in = begun.elapsed();
        Ok(Self {
            near: of_near.open(near).await?,
            far: of_far.open(far).await?,
            connected_in,
            sockets,
        })
    }

    async fn next() -> Result<Self> {
        let begun = Instant::now();
        let mut near = next::Peer::new().await?;
        let mut far = next::Peer::new().await?;
        let channel = near.offer_channel().await?;
        let answer = far.answer(near.offer().await?).await?;
        near.accept(answer).await?;
        near.connected().await?;
        far.connected().await?;
        let connected_in = begun.elapsed();
        let theirs = far.channel().await?;
        Ok(Self {
            near: next::open(channel, near).await?,
            far: next::open(theirs, far).await?,
            connected_in,
            sockets: Vec::new(),
        })
    }

    /// Sends so many messages from the near end to the far one, and waits until all have arrived.
    pub(super) async fn transfer(&mut self, message: &Bytes, number: usize) -> Result<()> {
        let channel = std::sync::Arc::clone(&self.near.channel);
        let message = message.clone();
        let sending = tokio::spawn(async move {
            for _ in 0..number {
                channel.send(&message).await?;
            }
            anyhow::Ok(())
        });
        for _ in 0..number {
            self.far.next().await?;
        }
        sending.await?
    }

    /// Sends a message there and back.
    pub(super) async fn ping(&mut self, message: &Bytes) -> Result<Duration> {
        let begun = Instant::now();
        self.near.channel.send(message).await?;
        self.far.next().await?;
        self.far.channel.send(message).await?;
        self.near.next().await?;
        Ok(begun.elapsed())
    }

    /// Closes both.
    pub(super) async fn close(self) {
        for end in [&self.near, &self.far] {
            // The second one says that it cannot tell the first, and is closed all the same.
            let _ = end.channel.close().await;
        }
        for sockets in &self.sockets {
            sockets.close().await;
        }
        // What they leave behind ends before the next is measured.
        sleep(Duration::from_millis(10)).await;
    }
}
