//! Peer connections of webrtc-rs 0.17, with its default codecs and interceptors.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::sync::Notify;
use webrtc::api::APIBuilder;
use webrtc::api::interceptor_registry::register_default_interceptors;
use webrtc::api::media_engine::{MIME_TYPE_VP8, MediaEngine};
use webrtc::api::setting_engine::SettingEngine;
use webrtc::interceptor::registry::Registry;
use webrtc::peer_connection::RTCPeerConnection;
use webrtc::peer_connection::configuration::RTCConfiguration;
use webrtc::peer_connection::peer_connection_state::RTCPeerConnectionState;
use webrtc::peer_connection::sdp::session_description::RTCSessionDescription;
use webrtc::rtp_transceiver::rtp_codec::RTCRtpCodecCapability;
use webrtc::rtp_transceiver::rtp_sender::RTCRtpSender;
use webrtc::track::track_local::track_local_static_rtp::TrackLocalStaticRTP;

use super::soon;

/// A peer connection, and what says when it is connected.
pub(super) struct Peer {
    pub(super) connection: Arc<RTCPeerConnection>,
    connected: Arc<Notify>,
}

impl Peer {
    /// One with these settings.
    pub(super) async fn new(settings: SettingEngine) -> Result<Self> {
        let mut media = MediaEngine::default();
        media.register_default_codecs()?;
        let interceptors = register_default_interceptors(Registry::new(), &mut media)?;
        let api = APIBuilder::new()
            .with_media_engine(media)
            .with_interceptor_registry(interceptors)
            .with_setting_engine(settings)
            .build();
        let configuration = RTCConfiguration::default();
        let connection = Arc::new(api.new_peer_connection(configuration).await?);
        let connected = Arc::new(Notify::new());
        let notify = Arc::clone(&connected);
        connection.on_peer_connection_state_change(Box::new(move |state| {
            if state == RTCPeerConnectionState::Connected {
                notify.notify_one();
            }
            Box::pin(async {})
        }));
        Ok(Self {
            connection,
            connected,
        })
    }

    /// An offer with all candidates in it.
    pub(super) async fn offer(&self) -> Result<String> {
        let offer = self.connection.create_offer(None).await?;
        self.gathered(offer).await
    }

    /// The answer to an offer, with all candidates in it.
    pub(super) async fn answer(&self, offer: String) -> Result<String> {
        let offer = RTCSessionDescription::offer(offer)?;
        self.connection.set_remote_description(offer).await?;
        let answer = self.connection.create_answer(None).await?;
        self.gathered(answer).await
    }

    /// Takes the answer to its offer.
    pub(super) async fn accept(&self, answer: String) -> Result<()> {
        let answer = RTCSessionDescription::answer(answer)?;
        Ok(self.connection.set_remote_description(answer).await?)
    }

    /// Waits until it is connected. To be called once.
    pub(super) async fn connected(&self) -> Result<()> {
        soon("a connection", self.connected.notified()).await
    }

    /// Adds a VP8 track to be sent, before it is negotiated.
    pub(super) async fn add_track(&self) -> Result<Arc<TrackLocalStaticRTP>> {
        let codec = RTCRtpCodecCapability {
            mime_type: MIME_TYPE_VP8.to_owned(),
            clock_rate: 90_000,
            ..RTCRtpCodecCapability::default()
        };
        let track = TrackLocalStaticRTP::new(codec, "video".to_owned(), "bench".to_owned());
        let track = Arc::new(track);
        let sender = self.connection.add_track(Arc::clone(&track) as _).await?;
        tokio::spawn(read_reports(sender));
        Ok(track)
    }

    async fn gathered(&self, description: RTCSessionDescription) -> Result<String> {
        let mut complete = self.connection.gathering_complete_promise().await;
        self.connection.set_local_description(description).await?;
        let _closed = soon("candidates", complete.recv()).await?;
        let complete = self.connection.local_description().await;
        Ok(complete.context("no description")?.sdp)
    }
}

/// The interceptors see only what is read.
async fn read_reports(sender: Arc<RTCRtpSender>) {
    let mut buffer = [0; 1500];
    while sender.read(&mut buffer).await.is_ok() {}
}
