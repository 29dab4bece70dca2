//! What goes back to whom it came from: messages of data channels, and RTP.

use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use webrtc::{
    data_channel::{RTCDataChannel, data_channel_message::DataChannelMessage},
    peer_connection::RTCPeerConnection,
    rtcp::payload_feedbacks::{
        full_intra_request::FullIntraRequest, picture_loss_indication::PictureLossIndication,
    },
    rtp::{header::EXTENSION_PROFILE_ONE_BYTE, packet::Packet},
    rtp_transceiver::{
        RTCRtpTransceiver,
        rtp_codec::{RTCRtpCodecParameters, RTPCodecType},
        rtp_sender::RTCRtpSender,
    },
    sdp::extmap::SDES_MID_URI,
    track::{
        track_local::{TrackLocal, TrackLocalContext, TrackLocalWriter},
        track_remote::TrackRemote,
    },
};

use crate::reception::Reception;

/// Sends back what arrives on a data channel, text as text. Nothing more is read while a message waits
/// to go back, so that SCTP makes the peer wait too.
pub(crate) fn messages(channel: &Arc<RTCDataChannel>, closing: &watch::Receiver<bool>) {
    // It owns its handler: that must not own it.
    let weak = Arc::downgrade(channel);
    let closing = closing.clone();
    channel.on_message(Box::new(move |message| {
        let (weak, mut closing) = (Weak::clone(&weak), closing.clone());
        Box::pin(async move {
            let Some(channel) = weak.upgrade() else {
                return;
            };
            tokio::select! {
                sent = send_back(&channel, message) => if let Err(error) = sent {
                    tracing::debug!(%error, "a message was not sent back");
                },
                // webrtc-rs cannot close a channel while something waits to be sent on it.
                _ = closing.wait_for(|closing| *closing) => {}
            }
        })
    }));
}

async fn send_back(
    channel: &RTCDataChannel,
    message: DataChannelMessage,
) -> Result<usize, webrtc::Error> {
    if !message.is_string {
        return channel.send(&message.data).await;
    }
    let text = String::from_utf8(message.data.into())
        .map_err(|error| webrtc::Error::new(error.to_string()))?;
    channel.send_text(text).await
}

/// A track that sends what it is given with the payload type that it has.
///
/// The answer gives every codec the payload type that the offer gave it (RFC 3264 §6.1), so what comes
/// from a peer can go back to it as it is, whichever codec the peer chooses and however often it
/// changes its mind.
#[derive(Debug)]
pub(crate) struct EchoTrack {
    kind: RTPCodecType,
    id: String,
    binding: Mutex<Option<Binding>>,
    taken: AtomicBool,
}

#[derive(Clone)]
struct Binding {
    ssrc: u32,
    /// The MID header extension, by which the peer finds the media section (RFC 9143 §9.2).
    mid: Option<(u8, Bytes)>,
    writer: Arc<dyn TrackLocalWriter + Send + Sync>,
}

impl std::fmt::Debug for Binding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Binding")
            .field("ssrc", &self.ssrc)
            .finish_non_exhaustive()
    }
}

impl EchoTrack {
    /// `index` tells the tracks of a connection apart.
    pub(crate) fn new(kind: RTPCodecType, index: usize) -> Self {
        Self {
            kind,
            id: format!("{kind}-{index}"),
            binding: Mutex::default(),
            taken: AtomicBool::new(false),
        }
    }

    /// Whether this is the first who asks. Of several encodings of one track (simulcast) the first to
    /// arrive is sent back: two on one SSRC would be neither.
    fn take(&self) -> bool {
        !self.taken.swap(true, Relaxed)
    }

    async fn send(&self, mut packet: Packet) -> Result<usize, webrtc::Error> {
        let Some(binding) = self.binding().clone() else {
            return Ok(0);
        };
        let header = &mut packet.header;
        header.ssrc = binding.ssrc;
        header.csrc.clear();
        header.extension = false;
        header.extensions.clear();
        header.extensions_padding = 0;
        if let Some((id, mid)) = binding.mid {
            header.extension_profile = EXTENSION_PROFILE_ONE_BYTE;
            header.set_extension(id, mid)?;
        }
        binding.writer.write_rtp(&packet).await
    }

    fn binding(&self) -> std::sync::MutexGuard<'_, Option<Binding>> {
        self.binding.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl TrackLocal for EchoTrack {
    async fn bind(
        &self,
        context: &TrackLocalContext,
    ) -> webrtc::error::Result<RTCRtpCodecParameters> {
        let codec = context
            .codec_parameters()
            .first()
            .cloned()
            .ok_or(webrtc::Error::ErrUnsupportedCodec)?;
        let mid = context
            .header_extensions()
            .iter()
            .find(|extension| extension.uri == SDES_MID_URI)
            .and_then(|extension| u8::try_from(extension.id).ok())
            .zip(context.mid())
            .map(|(id, mid)| (id, Bytes::copy_from_slice(mid.as_bytes())));
        *self.binding() = Some(Binding {
            ssrc: context.ssrc(),
            mid,
            writer: context.write_stream(),
        });
        Ok(codec)
    }

    async fn unbind(&self, _: &TrackLocalContext) -> webrtc::error::Result<()> {
        *self.binding() = None;
        Ok(())
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn rid(&self) -> Option<&str> {
        None
    }

    fn stream_id(&self) -> &'static str {
        "echo"
    }

    fn kind(&self) -> RTPCodecType {
        self.kind
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// Sends back the RTP that arrives on a track, until the connection is closed. A peer that asks for a
/// key frame of what it gets back is asked for one itself.
pub(crate) async fn media(
    connection: Weak<RTCPeerConnection>,
    remote: Arc<TrackRemote>,
    transceiver: Arc<RTCRtpTransceiver>,
    reception: Arc<Reception>,
) {
    let sender = transceiver.sender().await;
    drop(transceiver);
    let track = sender.track().await;
    let Some(echo) = track
        .as_ref()
        .and_then(|track| track.as_any().downcast_ref::<EchoTrack>())
        .filter(|echo| echo.take())
    else {
        while remote.read_rtp().await.is_ok() {}
        return;
    };
    if remote.kind() == RTPCodecType::Video {
        request_key_frame(&connection, &remote).await;
        tokio::spawn(key_frames(
            connection,
            Arc::clone(&remote),
            Arc::clone(&sender),
            reception,
        ));
    } else {
        tokio::spawn(async move {
            // Requests to send again are dealt with on the way.
            while let Ok((packets, _)) = sender.read_rtcp().await {
                reception.heard(&packets);
            }
        });
    }
    while let Ok((packet, _)) = remote.read_rtp().await {
        if let Err(error) = echo.send(packet).await {
            tracing::debug!(%error, "a packet was not sent back");
        }
    }
}

/// Hands on what the peer says of the video that it gets back.
async fn key_frames(
    connection: Weak<RTCPeerConnection>,
    remote: Arc<TrackRemote>,
    sender: Arc<RTCRtpSender>,
    reception: Arc<Reception>,
) {
    while let Ok((packets, _)) = sender.read_rtcp().await {
        reception.heard(&packets);
        let asked = packets.iter().any(|packet| {
            let packet = packet.as_any();
            packet.is::<PictureLossIndication>() || packet.is::<FullIntraRequest>()
        });
        if asked {
            request_key_frame(&connection, &remote).await;
        }
    }
}

async fn request_key_frame(connection: &Weak<RTCPeerConnection>, remote: &TrackRemote) {
    let Some(connection) = connection.upgrade() else {
        return;
    };
    let request = PictureLossIndication {
        sender_ssrc: 0,
        media_ssrc: remote.ssrc(),
    };
    if let Err(error) = connection.write_rtcp(&[Box::new(request)]).await {
        tracing::debug!(%error, "no key frame was asked for");
    }
}
