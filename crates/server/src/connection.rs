//! A peer connection that answers an offer.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Notify, watch};
use webrtc::{
    api::{
        APIBuilder, interceptor_registry::register_default_interceptors, media_engine::MediaEngine,
        setting_engine::SettingEngine,
    },
    ice::mdns::MulticastDnsMode,
    ice_transport::ice_server::RTCIceServer,
    interceptor::registry::Registry,
    peer_connection::{
        RTCPeerConnection, configuration::RTCConfiguration,
        peer_connection_state::RTCPeerConnectionState,
    },
    rtp_transceiver::{
        RTCRtpTransceiverInit, rtp_transceiver_direction::RTCRtpTransceiverDirection,
    },
    track::track_local::TrackLocal,
};

use crate::{
    CreateError,
    echo::{self, EchoTrack},
    offer::Offer,
    reception::Reception,
    tos_report::TosReport,
};

/// The most data channels that a client opens, those that it has closed included: webrtc-rs keeps all of them until the
/// peer connection is closed. While one is open, it has 64 KiB to read into: 4 MiB for a session.
const DATA_CHANNELS: u32 = 64;

/// A peer connection, and what it is doing.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) inner: Arc<RTCPeerConnection>,
    pub(crate) state: watch::Receiver<RTCPeerConnectionState>,
    /// Told when the client has opened too many data channels.
    pub(crate) too_many: Arc<Notify>,
    /// What the client says of the media that goes back to it.
    pub(crate) reception: Arc<Reception>,
    closing: watch::Sender<bool>,
}

impl Connection {
    /// Answers an offer, with all candidates in the answer that were found within `gathering`.
    ///
    /// Not to be cancelled: webrtc-rs leaks the sockets of a peer connection that is dropped without
    /// being closed.
    pub(crate) async fn answer(
        offer: Offer,
        settings: SettingEngine,
        ice_servers: Vec<RTCIceServer>,
        gathering: Duration,
        tos_report: TosReport,
    ) -> Result<(Self, String), CreateError> {
        let inner = new(settings, ice_servers)
            .await
            .map_err(CreateError::Internal)?;
        let connection = Self {
            state: watch_state(&inner),
            inner: Arc::new(inner),
            too_many: Arc::default(),
            reception: Arc::default(),
            closing: watch::Sender::new(false),
        };
        connection.echo(tos_report);
        match connection.negotiate(offer, gathering).await {
            Ok(answer) => Ok((connection, answer)),
            Err(error) => {
                connection.close().await;
                Err(error)
            }
        }
    }

    /// Frees everything.
    pub(crate) async fn close(&self) {
        self.closing.send_replace(true);
        // Each part is closed all the same when one says that it cannot.
        if let Err(error) = self.inner.close().await {
            tracing::debug!(%error, "while closing");
        }
    }

    fn echo(&self, tos_report: TosReport) {
        let closing = self.closing.subscribe();
        let (mut opened, too_many) = (0, Arc::clone(&self.too_many));
        self.inner.on_data_channel(Box::new(move |channel| {
            opened += 1;
            if opened > DATA_CHANNELS {
                too_many.notify_one();
            } else if !tos_report.takes(&channel, &closing) {
                echo::messages(&channel, &closing);
            }
            Box::pin(async {})
        }));
        let weak = Arc::downgrade(&self.inner);
        let reception = Arc::clone(&self.reception);
        self.inner.on_track(Box::new(move |track, _, transceiver| {
            let reception = Arc::clone(&reception);
            tokio::spawn(echo::media(weak.clone(), track, transceiver, reception));
            Box::pin(async {})
        }));
    }

    async fn negotiate(&self, offer: Offer, gathering: Duration) -> Result<String, CreateError> {
        for (index, kind) in offer.echoed.into_iter().enumerate() {
            // Before the offer, because webrtc-rs makes transceivers that only receive by itself.
            let init = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Sendrecv,
                send_encodings: Vec::new(),
            };
            let track = Arc::new(EchoTrack::new(kind, index)) as Arc<dyn TrackLocal + Send + Sync>;
            self.inner
                .add_transceiver_from_track(track, Some(init))
                .await
                .map_err(CreateError::Internal)?;
        }
        self.inner
            .set_remote_description(offer.description)
            .await
            .map_err(CreateError::Malformed)?;
        let answer = async {
            let answer = self.inner.create_answer(None).await?;
            let mut complete = self.inner.gathering_complete_promise().await;
            self.inner.set_local_description(answer).await?;
            // A server that does not answer is not worth more: the candidates of this host are there.
            let _ = tokio::time::timeout(gathering, complete.recv()).await;
            let answer = self.inner.local_description().await;
            answer.ok_or_else(|| webrtc::Error::new("there is no answer".to_owned()))
        };
        let answer = answer.await.map_err(CreateError::Internal)?;
        Ok(answer.sdp)
    }
}

async fn new(
    mut settings: SettingEngine,
    ice_servers: Vec<RTCIceServer>,
) -> Result<RTCPeerConnection, webrtc::Error> {
    // Names under `.local` are found as peer-reflexive candidates, without a socket for multicast.
    settings.set_ice_multicast_dns_mode(MulticastDnsMode::Disabled);
    let mut media = MediaEngine::default();
    media.register_default_codecs()?;
    let interceptors = register_default_interceptors(Registry::new(), &mut media)?;
    let api = APIBuilder::new()
        .with_setting_engine(settings)
        .with_media_engine(media)
        .with_interceptor_registry(interceptors)
        .build();
    let configuration = RTCConfiguration {
        ice_servers,
        ..RTCConfiguration::default()
    };
    api.new_peer_connection(configuration).await
}

/// Whether a connection in this state never comes back.
pub(crate) fn has_ended(state: RTCPeerConnectionState) -> bool {
    matches!(
        state,
        RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed
    )
}

fn watch_state(connection: &RTCPeerConnection) -> watch::Receiver<RTCPeerConnectionState> {
    let (sender, receiver) = watch::channel(RTCPeerConnectionState::New);
    connection.on_peer_connection_state_change(Box::new(move |state| {
        sender.send_replace(state);
        Box::pin(async {})
    }));
    receiver
}
