//! The server on webrtc-rs 0.17.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use async_trait::async_trait;
use webrtc::track::track_local::TrackLocalWriter as _;
use webrtc::track::track_local::track_local_static_rtp::TrackLocalStaticRTP;
use webrtc::track::track_remote::TrackRemote;

use super::{FORWARDED, Serve};
use crate::peers::classic::Peer;
use crate::peers::way::{Sockets, Way};

type Tracks = Arc<Mutex<Arc<[Arc<TrackLocalStaticRTP>]>>>;

pub(super) struct Classic {
    sockets: Sockets,
    tracks: Tracks,
    peers: Mutex<Vec<Peer>>,
}

impl Classic {
    pub(super) async fn new(way: Way) -> Result<Self> {
        Ok(Self {
            sockets: Sockets::new(way).await?,
            tracks: Tracks::default(),
            peers: Mutex::default(),
        })
    }

    async fn peer(&self) -> Result<Peer> {
        let number = self
            .peers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len();
        Peer::new(self.sockets.settings(&number.to_string())).await
    }

    async fn answer(&self, peer: Peer, offer: String) -> Result<String> {
        let answer = peer.answer(offer).await?;
        self.sockets.signalled(&answer);
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.push(peer);
        Ok(answer)
    }
}

#[async_trait]
impl Serve for Classic {
    async fn publish(&self, offer: String) -> Result<String> {
        let peer = self.peer().await?;
        let tracks = Arc::clone(&self.tracks);
        peer.connection.on_track(Box::new(move |track, _, _| {
            tokio::spawn(forward(track, Arc::clone(&tracks)));
            Box::pin(async {})
        }));
        self.answer(peer, offer).await
    }

    async fn subscribe(&self, offer: String) -> Result<String> {
        let peer = self.peer().await?;
        let track = peer.add_track().await?;
        let answer = self.answer(peer, offer).await?;
        let mut tracks = self.tracks.lock().unwrap_or_else(PoisonError::into_inner);
        *tracks = tracks.iter().cloned().chain([track]).collect();
        Ok(answer)
    }

    async fn idle(&self, offer: String) -> Result<String> {
        self.answer(self.peer().await?, offer).await
    }
}

/// Hands each packet to all subscribers, one after the other.
async fn forward(from: Arc<TrackRemote>, to: Tracks) {
    while let Ok((packet, _)) = from.read_rtp().await {
        let tracks = Arc::clone(&to.lock().unwrap_or_else(PoisonError::into_inner));
        for track in &*tracks {
            if track.write_rtp(&packet).await.is_ok_and(|sent| sent > 0) {
                FORWARDED.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
