//! The server on webrtc 0.21.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use async_trait::async_trait;
use webrtc_next::media_stream::track_local::TrackLocal as _;
use webrtc_next::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc_next::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};

use super::{FORWARDED, Serve};
use crate::peers::next::Peer;

/// A track of a subscriber, and its SSRC, which 0.21 does not fill in.
type Track = (u32, Arc<TrackLocalStaticRTP>);

type Tracks = Arc<Mutex<Arc<[Track]>>>;

#[derive(Default)]
pub(super) struct Next {
    tracks: Tracks,
    peers: Arc<Mutex<Vec<Peer>>>,
}

impl Next {
    fn keep(&self, peer: Peer) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.push(peer);
    }
}

#[async_trait]
impl Serve for Next {
    async fn publish(&self, offer: String) -> Result<String> {
        let mut peer = Peer::new().await?;
        let answer = peer.answer(offer).await?;
        let tracks = Arc::clone(&self.tracks);
        let peers = Arc::clone(&self.peers);
        tokio::spawn(async move {
            if let Ok(track) = peer.track().await {
                tokio::spawn(forward(track, tracks));
            }
            peers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(peer);
        });
        Ok(answer)
    }

    async fn subscribe(&self, offer: String) -> Result<String> {
        let mut peer = Peer::new().await?;
        let ssrc = rand::random();
        let track = peer.add_track(ssrc).await?;
        let answer = peer.answer(offer).await?;
        self.keep(peer);
        let mut tracks = self.tracks.lock().unwrap_or_else(PoisonError::into_inner);
        *tracks = tracks.iter().cloned().chain([(ssrc, track)]).collect();
        Ok(answer)
    }

    async fn idle(&self, offer: String) -> Result<String> {
        let mut peer = Peer::new().await?;
        let answer = peer.answer(offer).await?;
        self.keep(peer);
        Ok(answer)
    }
}

/// Hands each packet to all subscribers, one after the other.
async fn forward(from: Arc<dyn TrackRemote>, to: Tracks) {
    while let Some(event) = from.poll().await {
        let TrackRemoteEvent::OnRtpPacket(packet) = event else {
            continue;
        };
        let tracks = Arc::clone(&to.lock().unwrap_or_else(PoisonError::into_inner));
        for (ssrc, track) in &*tracks {
            let mut packet = packet.clone();
            packet.header.ssrc = *ssrc;
            if track.write_rtp(packet).await.is_ok() {
                FORWARDED.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
