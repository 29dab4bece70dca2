//! Media that say when they were sent, and when they arrived.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use bytes::Bytes;
use perpacket_lab::Packet as Captured;
use webrtc::api::media_engine::{MIME_TYPE_OPUS, MIME_TYPE_VP8};
use webrtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use webrtc::rtp::header::Header;
use webrtc::rtp::packet::Packet;
use webrtc::rtp_transceiver::rtp_codec::RTCRtpCodecCapability;
use webrtc::track::track_local::TrackLocalWriter as _;
use webrtc::track::track_local::track_local_static_rtp::TrackLocalStaticRTP;

use crate::support::peer::{Peer, Task};

/// One packet of each track and one of feedback, this often.
const PACE: Duration = Duration::from_millis(20);

/// An RTP packet that the application of the other end has got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub(crate) at: SystemTime,
    pub(crate) ssrc: u32,
    pub(crate) sequence: u16,
    /// Since the application of this end has sent it.
    pub(crate) took: Duration,
}

/// An audio and a video track from one peer, and what arrives of the other's.
pub(crate) struct Media {
    tracks: [Arc<TrackLocalStaticRTP>; 2],
    received: Arc<Mutex<Vec<Received>>>,
    failed: Arc<AtomicU64>,
}

impl Media {
    /// To be added at both ends, before they negotiate.
    pub(crate) fn add(peer: &Peer) -> Result<Self> {
        let received = Arc::new(Mutex::new(Vec::new()));
        let arriving = Arc::clone(&received);
        peer.connection.on_track(Box::new(move |track, _, _| {
            let arriving = Arc::clone(&arriving);
            tokio::spawn(async move {
                while let Ok((packet, _)) = track.read_rtp().await {
                    let at = SystemTime::now();
                    let one = Received {
                        at,
                        ssrc: packet.header.ssrc,
                        sequence: packet.header.sequence_number,
                        took: since(packet.header.timestamp, at),
                    };
                    let mut arriving = arriving.lock().unwrap_or_else(PoisonError::into_inner);
                    arriving.push(one);
                }
            });
            Box::pin(async {})
        }));
        let tracks = [(MIME_TYPE_OPUS, "audio"), (MIME_TYPE_VP8, "video")].map(|(mime, id)| {
            let codec = RTCRtpCodecCapability {
                mime_type: mime.to_owned(),
                ..RTCRtpCodecCapability::default()
            };
            let stream = "lab".to_owned();
            Arc::new(TrackLocalStaticRTP::new(codec, id.to_owned(), stream))
        });
        for track in &tracks {
            peer.block_on(peer.connection.add_track(Arc::clone(track) as Arc<_>))?;
        }
        Ok(Self {
            tracks,
            received,
            failed: Arc::default(),
        })
    }

    /// Sends until what is returned is dropped.
    pub(crate) fn send(&self, peer: &Peer) -> Task<()> {
        let connection = Arc::clone(&peer.connection);
        let tracks = self.tracks.clone();
        let failed = Arc::clone(&self.failed);
        peer.spawn(async move {
            let mut pace = tokio::time::interval(PACE);
            let mut packet = Packet {
                header: Header {
                    version: 2,
                    ..Header::default()
                },
                payload: Bytes::from_static(&[7; 160]),
            };
            loop {
                pace.tick().await;
                packet.header.sequence_number = packet.header.sequence_number.wrapping_add(1);
                for track in &tracks {
                    packet.header.timestamp = clock(SystemTime::now());
                    count(&failed, track.write_rtp(&packet).await.is_ok());
                }
                let feedback = PictureLossIndication::default();
                let sent = connection.write_rtcp(&[Box::new(feedback)]).await;
                count(&failed, sent.is_ok());
            }
        })
    }

    /// How many sends have failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }

    /// What has arrived so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        let received = self.received.lock();
        received.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How long before it was captured a packet of RTP was handed over by the application.
pub(crate) fn took_to_the_wire(packet: &Captured) -> Option<Duration> {
    let timestamp = packet.payload.get(4..8)?.try_into().ok()?;
    Some(since(u32::from_be_bytes(timestamp), packet.at))
}

fn count(failed: &AtomicU64, sent: bool) {
    failed.fetch_add(u64::from(!sent), Ordering::SeqCst);
}

/// Microseconds, as many as a timestamp of RTP holds, which SRTP leaves in the clear.
fn clock(at: SystemTime) -> u32 {
    let now = at.duration_since(SystemTime::UNIX_EPOCH).expect("after it");
    u32::try_from(now.as_micros() & u128::from(u32::MAX)).expect("cut")
}

fn since(timestamp: u32, at: SystemTime) -> Duration {
    let micros = clock(at).wrapping_sub(timestamp);
    // The capture's clock ends below the microsecond: a difference below zero is none.
    Duration::from_micros(i32::try_from(micros).map_or(0, |_| micros.into()))
}
