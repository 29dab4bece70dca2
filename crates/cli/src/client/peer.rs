//! The peer connection of a client.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use perpacket_webrtc::CustomMux;
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use webrtc::{
    api::{
        APIBuilder,
        interceptor_registry::register_default_interceptors,
        media_engine::{MIME_TYPE_OPUS, MediaEngine},
        setting_engine::SettingEngine,
    },
    ice::mdns::MulticastDnsMode,
    interceptor::registry::Registry,
    media::Sample,
    peer_connection::{
        RTCPeerConnection, configuration::RTCConfiguration,
        peer_connection_state::RTCPeerConnectionState,
    },
    rtp_transceiver::{
        RTCRtpTransceiverInit, rtp_codec::RTCRtpCodecCapability, rtp_codec::RTPCodecType,
        rtp_transceiver_direction::RTCRtpTransceiverDirection,
    },
    track::track_local::{TrackLocal, track_local_static_sample::TrackLocalStaticSample},
};

/// How often audio is sent, and how much of it.
const FRAME: Duration = Duration::from_millis(20);

/// A frame of Opus (RFC 6716 §3.1) in which there is nothing to hear.
const SILENCE: Bytes = Bytes::from_static(&[0xf8, 0xff, 0xfe]);

/// How long it may take to list the addresses of this host.
const GATHERING: Duration = Duration::from_secs(5);

/// A peer connection, and what it is doing.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) connection: Arc<RTCPeerConnection>,
    pub(super) state: watch::Receiver<RTCPeerConnectionState>,
    silence: Option<JoinHandle<()>>,
}

impl Peer {
    /// One whose datagrams go through the mux.
    pub(super) async fn new(mux: &CustomMux) -> Result<Self> {
        let mut settings = SettingEngine::default();
        mux.install(&mut settings);
        settings.set_ice_multicast_dns_mode(MulticastDnsMode::Disabled);
        let mut media = MediaEngine::default();
        media.register_default_codecs()?;
        let interceptors = register_default_interceptors(Registry::new(), &mut media)?;
        let connection = APIBuilder::new()
            .with_setting_engine(settings)
            .with_media_engine(media)
            .with_interceptor_registry(interceptors)
            .build()
            .new_peer_connection(RTCConfiguration::default())
            .await?;
        let (sender, state) = watch::channel(RTCPeerConnectionState::New);
        connection.on_peer_connection_state_change(Box::new(move |state| {
            sender.send_replace(state);
            Box::pin(async {})
        }));
        Ok(Self {
            connection: Arc::new(connection),
            state,
            silence: None,
        })
    }

    /// Offers to send audio, as a WHIP client does (RFC 9725 §4.2), and sends silence.
    pub(super) async fn send_silence(&mut self) -> Result<()> {
        let opus = RTCRtpCodecCapability {
            mime_type: MIME_TYPE_OPUS.to_owned(),
            clock_rate: 48_000,
            channels: 2,
            ..RTCRtpCodecCapability::default()
        };
        let name = || "perpacket".to_owned();
        let track = Arc::new(TrackLocalStaticSample::new(opus, name(), name()));
        let as_track = Arc::clone(&track) as Arc<dyn TrackLocal + Send + Sync>;
        self.connection
            .add_transceiver_from_track(
                as_track,
                Some(direction(RTCRtpTransceiverDirection::Sendonly)),
            )
            .await?;
        self.silence = Some(tokio::spawn(async move {
            let mut pace = tokio::time::interval(FRAME);
            loop {
                pace.tick().await;
                let frame = Sample {
                    data: SILENCE,
                    duration: FRAME,
                    ..Sample::default()
                };
                // There is nowhere to send it to before the connection, and nothing to be done about it.
                let _ = track.write_sample(&frame).await;
            }
        }));
        Ok(())
    }

    /// Offers to receive audio and video, as a WHEP client does, and reads what comes.
    pub(super) async fn receive_media(&self) -> Result<()> {
        for kind in [RTPCodecType::Audio, RTPCodecType::Video] {
            let init = direction(RTCRtpTransceiverDirection::Recvonly);
            self.connection
                .add_transceiver_from_kind(kind, Some(init))
                .await?;
        }
        self.connection.on_track(Box::new(|track, _, _| {
            tokio::spawn(async move { while track.read_rtp().await.is_ok() {} });
            Box::pin(async {})
        }));
        Ok(())
    }

    /// An offer with all candidates in it.
    pub(super) async fn offer(&self) -> Result<String> {
        let offer = self.connection.create_offer(None).await?;
        let mut complete = self.connection.gathering_complete_promise().await;
        self.connection.set_local_description(offer).await?;
        let _closed = timeout(GATHERING, complete.recv())
            .await
            .context("the addresses of this host are not found")?;
        let offer = self.connection.local_description().await;
        let offer = offer.context("there is no offer")?.sdp;
        ensure!(
            offer.contains("a=candidate:"),
            "this host has no address to offer of the kind that is asked for; see --ipv4, --ipv6 and --bind"
        );
        Ok(offer)
    }

    /// Frees everything.
    pub(super) async fn close(&self) {
        if let Some(silence) = &self.silence {
            silence.abort();
        }
        // Each part is closed all the same when one says that it cannot.
        let _ = self.connection.close().await;
    }
}

fn direction(direction: RTCRtpTransceiverDirection) -> RTCRtpTransceiverInit {
    RTCRtpTransceiverInit {
        direction,
        send_encodings: Vec::new(),
    }
}
