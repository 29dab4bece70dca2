//! Peer connections of webrtc 0.21, with its default codecs and interceptors.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::MIME_TYPE_VP8;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use tokio::sync::mpsc;
use webrtc_next::data_channel::{DataChannel, DataChannelEvent};
use webrtc_next::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc_next::media_stream::track_remote::TrackRemote;
use webrtc_next::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
    RTCIceGatheringState, RTCPeerConnectionState, RTCSessionDescription, Registry,
    register_default_interceptors,
};

use super::channel::{Channel, End, HIGH, LABEL};
use super::soon;
use super::way::LOOPBACK;

/// A peer connection, and what happens to it.
pub(super) struct Peer {
    connection: Arc<dyn PeerConnection>,
    events: Events,
}

/// What happens to a peer connection.
struct Events {
    gathered: mpsc::UnboundedReceiver<()>,
    connected: mpsc::UnboundedReceiver<()>,
    channels: mpsc::UnboundedReceiver<Arc<dyn DataChannel>>,
    tracks: mpsc::UnboundedReceiver<Arc<dyn TrackRemote>>,
}

/// Where it is told. Nobody listens only when it is over.
struct Handler {
    gathered: mpsc::UnboundedSender<()>,
    connected: mpsc::UnboundedSender<()>,
    channels: mpsc::UnboundedSender<Arc<dyn DataChannel>>,
    tracks: mpsc::UnboundedSender<Arc<dyn TrackRemote>>,
}

#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _ = self.gathered.send(());
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if state == RTCPeerConnectionState::Connected {
            let _ = self.connected.send(());
        }
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        let _ = self.channels.send(channel);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let _ = self.tracks.send(track);
    }
}

impl Peer {
    /// One with a socket of its own.
    pub(super) async fn new() -> Result<Self> {
        let mut media = MediaEngine::default();
        media.register_default_codecs()?;
        let interceptors = register_default_interceptors(Registry::new(), &mut media)?;
        let (gathering, gathered) = mpsc::unbounded_channel();
        let (connecting, connected) = mpsc::unbounded_channel();
        let (opening, channels) = mpsc::unbounded_channel();
        let (sending, tracks) = mpsc::unbounded_channel();
        let building = PeerConnectionBuilder::new()
            .with_media_engine(media)
            .with_interceptor_registry(interceptors)
            .with_handler(Arc::new(Handler {
                gathered: gathering,
                connected: connecting,
                channels: opening,
                tracks: sending,
            }))
            .with_udp_addrs(vec![LOOPBACK])
            .with_data_channel_send_buffer_limit(HIGH)
            .build();
        // 20 KB, which would be part of whatever waits for it.
        let connection = Box::pin(building).await?;
        Ok(Self {
            connection: Arc::new(connection),
            events: Events {
                gathered,
                connected,
                channels,
                tracks,
            },
        })
    }

    /// An offer with all candidates in it.
    pub(super) async fn offer(&mut self) -> Result<String> {
        let offer = self.connection.create_offer(None).await?;
        self.gathered(offer).await
    }

    /// The answer to an offer, with all candidates in it.
    pub(super) async fn answer(&mut self, offer: String) -> Result<String> {
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
    pub(super) async fn connected(&mut self) -> Result<()> {
        soon("a connection", self.events.connected.recv())
            .await?
            .context("the peer connection is gone")
    }

    /// Offers a data channel, before the offer is made.
    pub(super) async fn offer_channel(&self) -> Result<Arc<dyn DataChannel>> {
        Ok(self.connection.create_data_channel(LABEL, None).await?)
    }

    /// The data channel that the other end offered.
    pub(super) async fn channel(&mut self) -> Result<Arc<dyn DataChannel>> {
        soon("a data channel", self.events.channels.recv())
            .await?
            .context("the peer connection is gone")
    }

    /// The track that the other end sends.
    pub(super) async fn track(&mut self) -> Result<Arc<dyn TrackRemote>> {
        soon("a track", self.events.tracks.recv())
            .await?
            .context("the peer connection is gone")
    }

    /// Adds a VP8 track to be sent with this SSRC, before it is negotiated.
    pub(super) async fn add_track(&self, ssrc: u32) -> Result<Arc<TrackLocalStaticRTP>> {
        let encoding = RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters {
                ssrc: Some(ssrc),
                ..RTCRtpCodingParameters::default()
            },
            codec: RTCRtpCodec {
                mime_type: MIME_TYPE_VP8.to_owned(),
                clock_rate: 90_000,
                ..RTCRtpCodec::default()
            },
            ..RTCRtpEncodingParameters::default()
        };
        let track = TrackLocalStaticRTP::new(MediaStreamTrack::new(
            "bench".to_owned(),
            "video".to_owned(),
            "video".to_owned(),
            RtpCodecKind::Video,
            vec![encoding],
        ));
        let track = Arc::new(track);
        self.connection.add_track(Arc::clone(&track) as _).await?;
        Ok(track)
    }

    async fn gathered(&mut self, description: RTCSessionDescription) -> Result<String> {
        self.connection.set_local_description(description).await?;
        soon("candidates", self.events.gathered.recv()).await?;
        let complete = self.connection.local_description().await;
        Ok(complete.context("no description")?.sdp)
    }
}

/// The end of a data channel, once it is open.
pub(super) async fn open(inner: Arc<dyn DataChannel>, peer: Peer) -> Result<End> {
    let opened = async {
        loop {
            match inner.poll().await {
                Some(DataChannelEvent::OnOpen) => break Some(()),
                Some(_) => {}
                None => break None,
            }
        }
    };
    soon("a data channel", opened)
        .await?
        .context("the data channel is gone")?;
    let (arriving, arrived) = mpsc::unbounded_channel();
    let polled = Arc::clone(&inner);
    tokio::spawn(async move {
        while let Some(event) = polled.poll().await {
            if let DataChannelEvent::OnMessage(message) = event {
                let _ = arriving.send(message.data.len());
            }
        }
    });
    Ok(End {
        channel: Arc::new(Next { inner, peer }),
        arrived,
    })
}

/// An end of a data channel.
struct Next {
    inner: Arc<dyn DataChannel>,
    peer: Peer,
}

#[async_trait]
impl Channel for Next {
    async fn send(&self, message: &Bytes) -> Result<()> {
        // It waits by itself while as much is queued as the peer connection was told.
        Ok(self.inner.send(BytesMut::from(&message[..])).await?)
    }

    async fn close(&self) -> Result<()> {
        Ok(self.peer.connection.close().await?)
    }
}
