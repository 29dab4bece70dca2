//! A WHIP client over stock webrtc-rs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use hyper::header::LOCATION;
use hyper::{Method, Response, StatusCode};
use perpacket_lab::{NodeRuntime, until};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;
use webrtc::api::media_engine::{MIME_TYPE_OPUS, MIME_TYPE_VP8};
use webrtc::data_channel::RTCDataChannel;
use webrtc::data_channel::data_channel_message::DataChannelMessage;
use webrtc::data_channel::data_channel_state::RTCDataChannelState;
use webrtc::peer_connection::RTCPeerConnection;
use webrtc::peer_connection::configuration::RTCConfiguration;
use webrtc::peer_connection::sdp::session_description::RTCSessionDescription;
use webrtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use webrtc::rtp::header::Header;
use webrtc::rtp::packet::Packet;
use webrtc::rtp_transceiver::rtp_codec::RTCRtpCodecCapability;
use webrtc::rtp_transceiver::rtp_sender::RTCRtpSender;
use webrtc::track::track_local::TrackLocalWriter as _;
use webrtc::track::track_local::track_local_static_rtp::TrackLocalStaticRTP;
use webrtc::track::track_remote::TrackRemote;

use super::http;
use super::server::Server;
use crate::support::connection::{self, DEADLINE};
use crate::support::hosts::Side;
use crate::support::media::{OPUS, VP8};
use crate::support::peer::Task;

/// A sender that gets nothing through for so long is made to wait.
const QUIET: Duration = Duration::from_secs(2);

/// What is offered beside a data channel.
pub(crate) struct Offer(&'static [(&'static str, u8)]);

impl Offer {
    pub(crate) fn messages() -> Self {
        Self(&[])
    }

    pub(crate) fn everything() -> Self {
        Self(&[(MIME_TYPE_OPUS, OPUS), (MIME_TYPE_VP8, VP8)])
    }
}

/// A track that is sent, and where it comes back.
struct Sent {
    track: Arc<TrackLocalStaticRTP>,
    sender: Arc<RTCRtpSender>,
    payload_type: u8,
}

struct Parts {
    connection: RTCPeerConnection,
    channel: Arc<RTCDataChannel>,
    opened: UnboundedReceiver<()>,
    messages: UnboundedReceiver<DataChannelMessage>,
    /// While somebody holds this, nothing is read from the data channel.
    reading: Arc<Mutex<()>>,
    sent: Vec<Sent>,
    echoed: UnboundedReceiver<Arc<TrackRemote>>,
}

pub(crate) struct Client {
    /// What the server said.
    pub(crate) created: Response<String>,
    parts: Parts,
    server: SocketAddr,
    runtime: Arc<NodeRuntime>,
}

/// A data channel beside the first.
pub(crate) struct Opened {
    channel: Arc<RTCDataChannel>,
    messages: UnboundedReceiver<DataChannelMessage>,
    runtime: Arc<NodeRuntime>,
}

impl Opened {
    pub(crate) fn send(&self, text: &str) -> Result<()> {
        self.runtime.block_on(self.channel.send_text(text))?;
        Ok(())
    }

    pub(crate) fn next(&mut self) -> Result<DataChannelMessage> {
        self.runtime.block_on(next(&mut self.messages))
    }

    pub(crate) fn close(&self) -> Result<()> {
        Ok(self.runtime.block_on(self.channel.close())?)
    }
}

impl Parts {
    async fn new(side: &Side, offer: &Offer) -> Result<Self> {
        let configuration = RTCConfiguration::default();
        let connection = connection::new(side.address, configuration, |_| {}).await?;
        let channel = connection.create_data_channel("echo", None).await?;
        let (opening, opened) = mpsc::unbounded_channel();
        channel.on_open(Box::new(move || {
            let _ = opening.send(());
            Box::pin(async {})
        }));
        let (arriving, messages) = mpsc::unbounded_channel();
        let reading = Arc::new(Mutex::new(()));
        let read = Arc::clone(&reading);
        channel.on_message(Box::new(move |message| {
            let (arriving, read) = (arriving.clone(), Arc::clone(&read));
            Box::pin(async move {
                drop(read.lock().await);
                let _ = arriving.send(message);
            })
        }));
        let (coming, echoed) = mpsc::unbounded_channel();
        connection.on_track(Box::new(move |track, _, _| {
            let _ = coming.send(track);
            Box::pin(async {})
        }));
        let mut sent = Vec::new();
        for (mime_type, payload_type) in offer.0 {
            let codec = RTCRtpCodecCapability {
                mime_type: (*mime_type).to_owned(),
                ..RTCRtpCodecCapability::default()
            };
            let id = format!("track {payload_type}");
            let track = Arc::new(TrackLocalStaticRTP::new(codec, id, "lab".to_owned()));
            sent.push(Sent {
                sender: connection.add_track(Arc::clone(&track) as Arc<_>).await?,
                track,
                payload_type: *payload_type,
            });
        }
        Ok(Self {
            connection,
            channel,
            opened,
            messages,
            reading,
            sent,
            echoed,
        })
    }
}

impl Client {
    /// An offer of somebody who then goes away.
    pub(crate) async fn offer(side: &Side, offer: &Offer) -> Result<String> {
        let parts = Parts::new(side, offer).await?;
        let offer = connection::offer(&parts.connection, false).await?;
        parts.connection.close().await?;
        Ok(offer.sdp)
    }

    /// Posts an offer, and waits for the data channel.
    pub(crate) fn connect(side: &Side, server: &Server, offer: &Offer) -> Result<Self> {
        Self::connect_to(side, server.address, offer)
    }

    /// The same with a server at this address.
    pub(crate) fn connect_to(side: &Side, address: SocketAddr, offer: &Offer) -> Result<Self> {
        let (created, parts) = side.runtime.block_on(async {
            let mut parts = Parts::new(side, offer).await?;
            let offer = connection::offer(&parts.connection, false).await?;
            let headers = [("content-type", "application/sdp")];
            let created =
                http::request(address, Method::POST, "/whip", &headers, offer.sdp).await?;
            ensure!(created.status() == StatusCode::CREATED, "{created:?}");
            let answer = RTCSessionDescription::answer(created.body().clone())?;
            parts.connection.set_remote_description(answer).await?;
            let open = timeout(DEADLINE, parts.opened.recv()).await;
            open.context("the data channel does not open")?
                .context("the data channel is gone")?;
            anyhow::Ok((created, parts))
        })?;
        Ok(Self {
            created,
            parts,
            server: address,
            runtime: Arc::clone(&side.runtime),
        })
    }

    /// Opens another data channel.
    pub(crate) fn open(&self, label: &str) -> Result<Opened> {
        let parts = &self.parts;
        let (channel, messages) = self.runtime.block_on(async {
            let channel = parts.connection.create_data_channel(label, None).await?;
            let (arriving, messages) = mpsc::unbounded_channel();
            channel.on_message(Box::new(move |message| {
                let _ = arriving.send(message);
                Box::pin(async {})
            }));
            anyhow::Ok((channel, messages))
        })?;
        Ok(Opened {
            channel,
            messages,
            runtime: Arc::clone(&self.runtime),
        })
    }

    pub(crate) fn location(&self) -> Result<&str> {
        http::header(&self.created, LOCATION)
    }

    /// Sends a text and fails unless it comes back as one.
    pub(crate) fn echo(&mut self, text: &str) -> Result<()> {
        let parts = &mut self.parts;
        self.runtime.block_on(async {
            parts.channel.send_text(text).await?;
            let back = next(&mut parts.messages).await?;
            ensure!(back.is_string && back.data == text.as_bytes(), "{back:?}");
            Ok(())
        })
    }

    /// Sends bytes and fails unless they come back as such.
    pub(crate) fn echo_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let parts = &mut self.parts;
        self.runtime.block_on(async {
            parts.channel.send(&Bytes::copy_from_slice(bytes)).await?;
            let back = next(&mut parts.messages).await?;
            ensure!(
                !back.is_string && back.data == bytes,
                "{} bytes",
                back.data.len()
            );
            Ok(())
        })
    }

    /// Sends these messages and reads none, until no more goes out. Reads again when the guard is dropped, and sends
    /// as long as the task is kept.
    pub(crate) fn flood(&self, messages: &[Bytes]) -> Result<(OwnedMutexGuard<()>, Task<()>)> {
        let reading = Arc::clone(&self.parts.reading);
        let stop = self.runtime.block_on(reading.lock_owned());
        let channel = Arc::clone(&self.parts.channel);
        let (all, sent) = (messages.len(), Arc::new(AtomicUsize::new(0)));
        let (count, messages) = (Arc::clone(&sent), messages.to_vec());
        let sending = Task(self.runtime.spawn(async move {
            for message in messages {
                channel.send(&message).await.expect("it is open");
                count.fetch_add(1, Relaxed);
            }
        }));
        let (mut last, mut since) = (0, Instant::now());
        until(
            DEADLINE,
            || "the server to stop reading".to_owned(),
            || {
                let now = sent.load(Relaxed);
                if now != last {
                    (last, since) = (now, Instant::now());
                }
                Ok((now > 0 && since.elapsed() > QUIET).then_some(()))
            },
        )?;
        ensure!(last < all, "the server has read everything");
        Ok((stop, sending))
    }

    /// Sends RTP on all tracks and fails unless it comes back on as many, as it was.
    pub(crate) fn media_comes_back(&mut self) -> Result<()> {
        const ENOUGH: usize = 50;
        let sending = self.send_media();
        let parts = &mut self.parts;
        let mut expected: Vec<_> = parts.sent.iter().map(|sent| sent.payload_type).collect();
        self.runtime.block_on(async {
            while !expected.is_empty() {
                let track = next(&mut parts.echoed).await?;
                let payload_type = track.payload_type();
                let at = expected
                    .iter()
                    .position(|expected| *expected == payload_type);
                expected.swap_remove(at.with_context(|| format!("{track:?}"))?);
                for _ in 0..ENOUGH {
                    let (packet, _) = timeout(DEADLINE, track.read_rtp())
                        .await
                        .context("no media comes back")??;
                    let sent = packet_of(payload_type, packet.header.sequence_number);
                    let same = packet.payload == sent.payload
                        && packet.header.payload_type == payload_type
                        && packet.header.timestamp == sent.header.timestamp
                        && packet.header.marker == sent.header.marker;
                    ensure!(same, "{packet:?}");
                }
            }
            Ok(())
        })?;
        drop(sending);
        Ok(())
    }

    /// Fails unless the server asks for a key frame, and again when it is asked for one.
    pub(crate) fn key_frames_are_asked_for(&self) -> Result<()> {
        let video = self.parts.sent.iter().find(|sent| sent.payload_type == VP8);
        let sender = &video.context("no video")?.sender;
        self.runtime.block_on(async {
            wait_for_request(sender).await.context("at first")?;
            // Of all tracks that come back, because nobody looks at their names.
            for transceiver in self.parts.connection.get_transceivers().await {
                for track in transceiver.receiver().await.tracks().await {
                    let request = PictureLossIndication {
                        sender_ssrc: 0,
                        media_ssrc: track.ssrc(),
                    };
                    self.parts
                        .connection
                        .write_rtcp(&[Box::new(request)])
                        .await?;
                }
            }
            wait_for_request(sender).await.context("handed on")
        })
    }

    /// Sends RTP on all tracks, as long as what is returned is kept.
    pub(crate) fn send_media(&self) -> Task<()> {
        let sent = self.parts.sent.iter();
        let tracks: Vec<_> = sent
            .map(|sent| (Arc::clone(&sent.track), sent.payload_type))
            .collect();
        Task(self.runtime.spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_millis(10));
            for number in 0.. {
                pace.tick().await;
                for (track, payload_type) in &tracks {
                    let _ = track.write_rtp(&packet_of(*payload_type, number)).await;
                }
            }
        }))
    }

    /// Ends the session at the server.
    pub(crate) fn delete(&self) -> Result<Response<String>> {
        let location = self.location()?;
        let request = http::request(self.server, Method::DELETE, location, &[], String::new());
        self.runtime.block_on(request)
    }

    /// Whether the server has closed the connection, as far as is seen here.
    pub(crate) fn has_lost_its_peer(&self) -> bool {
        self.parts.channel.ready_state() != RTCDataChannelState::Open
    }

    /// Ends the connection without a word to the server.
    pub(crate) fn close(self) -> Result<()> {
        Ok(self.runtime.block_on(self.parts.connection.close())?)
    }
}

/// What is sent with this number.
fn packet_of(payload_type: u8, number: u16) -> Packet {
    Packet {
        header: Header {
            version: 2,
            marker: number.is_multiple_of(7),
            sequence_number: number,
            timestamp: u32::from(number) * 960,
            ..Header::default()
        },
        payload: Bytes::from(vec![payload_type ^ number.to_le_bytes()[0]; 100]),
    }
}

async fn next<T>(receiver: &mut UnboundedReceiver<T>) -> Result<T> {
    timeout(DEADLINE, receiver.recv())
        .await
        .context("nothing comes back")?
        .context("nobody is there")
}

async fn wait_for_request(sender: &RTCRtpSender) -> Result<()> {
    timeout(DEADLINE, async {
        loop {
            let (packets, _) = sender.read_rtcp().await?;
            if packets
                .iter()
                .any(|p| p.as_any().is::<PictureLossIndication>())
            {
                return anyhow::Ok(());
            }
        }
    })
    .await?
}
