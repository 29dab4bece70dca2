//! Something of every class to be sent.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use webrtc::api::media_engine::{MIME_TYPE_OPUS, MIME_TYPE_VP8};
use webrtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use webrtc::rtp::header::Header;
use webrtc::rtp::packet::Packet;
use webrtc::rtp_transceiver::rtp_codec::RTCRtpCodecCapability;
use webrtc::track::track_local::TrackLocalWriter as _;
use webrtc::track::track_local::track_local_static_rtp::TrackLocalStaticRTP;

use super::peer::{Peer, Task};

/// The payload types that webrtc-rs gives its default codecs.
pub(crate) const OPUS: u8 = 111;
pub(crate) const VP8: u8 = 96;

/// One packet of each kind, this often.
const PACE: Duration = Duration::from_millis(20);

/// An audio and a video track.
pub(crate) struct Tracks([Arc<TrackLocalStaticRTP>; 2]);

impl Tracks {
    /// To be added at both ends, before they negotiate.
    pub(crate) fn add(peer: &Peer) -> Result<Self> {
        let track = |mime_type: &str, id: &str| {
            let codec = RTCRtpCodecCapability {
                mime_type: mime_type.to_owned(),
                ..RTCRtpCodecCapability::default()
            };
            Arc::new(TrackLocalStaticRTP::new(
                codec,
                id.to_owned(),
                "lab".to_owned(),
            ))
        };
        let tracks = [
            track(MIME_TYPE_OPUS, "audio"),
            track(MIME_TYPE_VP8, "video"),
        ];
        for track in &tracks {
            peer.block_on(peer.connection.add_track(Arc::clone(track) as Arc<_>))?;
        }
        Ok(Self(tracks))
    }
}

/// Sends audio, video, feedback and messages until what is returned is dropped.
pub(crate) fn send_everything(peer: &Peer, tracks: &Tracks) -> [Task<()>; 2] {
    [send_media(peer, tracks), send_messages(peer)]
}

/// Sends audio, video and feedback until what is returned is dropped.
pub(crate) fn send_media(peer: &Peer, tracks: &Tracks) -> Task<()> {
    let connection = Arc::clone(&peer.connection);
    let tracks = tracks.0.clone();
    peer.spawn(async move {
        let mut pace = tokio::time::interval(PACE);
        let mut packet = Packet {
            header: Header {
                version: 2,
                ..Header::default()
            },
            payload: Bytes::from_static(&[7; 160]),
        };
        // What comes of each is judged on the wire. There is no way for a while where ICE restarts.
        loop {
            pace.tick().await;
            packet.header.sequence_number = packet.header.sequence_number.wrapping_add(1);
            packet.header.timestamp = packet.header.timestamp.wrapping_add(960);
            for track in &tracks {
                let _ = track.write_rtp(&packet).await;
            }
            let _ = connection
                .write_rtcp(&[Box::new(PictureLossIndication::default())])
                .await;
        }
    })
}

/// Sends messages until what is returned is dropped.
pub(crate) fn send_messages(peer: &Peer) -> Task<()> {
    let channel = Arc::clone(peer.channel.get());
    peer.spawn(async move {
        let mut pace = tokio::time::interval(PACE);
        loop {
            pace.tick().await;
            let _ = channel.send(&Bytes::from_static(&[9; 300])).await;
        }
    })
}
