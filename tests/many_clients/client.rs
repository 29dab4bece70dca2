//! A client with a data channel and a track, which counts what comes back.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU16, Ordering::Relaxed},
};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use hyper::header::LOCATION;
use hyper::{Method, StatusCode};
use tokio::sync::{Notify, watch};
use tokio::time::{interval, timeout};
use webrtc::api::media_engine::MIME_TYPE_OPUS;
use webrtc::peer_connection::RTCPeerConnection;
use webrtc::peer_connection::configuration::RTCConfiguration;
use webrtc::peer_connection::sdp::session_description::RTCSessionDescription;
use webrtc::rtp::header::Header;
use webrtc::rtp::packet::Packet;
use webrtc::rtp_transceiver::rtp_codec::RTCRtpCodecCapability;
use webrtc::track::track_local::TrackLocalWriter as _;
use webrtc::track::track_local::track_local_static_rtp::TrackLocalStaticRTP;

use crate::support::connection::{self, DEADLINE};
use crate::support::media::OPUS;
use crate::support::peer::Task;
use crate::whip::http;

/// How long a connection may take. One of webrtc-rs is never made once eight checks of ICE, which is 1.6 seconds, were
/// answered too late: a server that shares its cores with all its clients may be that busy.
const OPENING: Duration = Duration::from_secs(10);
const ATTEMPTS: usize = 12;

/// How often is looked whether all has come back.
const LOOK: Duration = Duration::from_millis(100);

/// A comfortable silence (RFC 6716): the table of contents of Opus, and nothing.
const SILENCE: [u8; 3] = [0xf8, 0xff, 0xfe];

/// What webrtc-rs says a client is there with; it gives up after as long.
const KEEPALIVE: Duration = Duration::from_secs(2);
const NEVER: Duration = Duration::from_mins(10);

pub(crate) struct Client {
    pub(crate) id: String,
    connection: RTCPeerConnection,
    media: Arc<Media>,
    stop: watch::Sender<bool>,
    sending: Task<()>,
}

/// Numbers of packets.
#[derive(Default)]
struct Media {
    /// That of the next one to be sent.
    next: AtomicU16,
    /// Of those that came back.
    back: Mutex<BTreeSet<u16>>,
}

impl Client {
    /// Connects, and sends a packet this often from then on. Returns when both a message and media have come back.
    pub(crate) async fn connect(
        address: IpAddr,
        server: SocketAddr,
        pace: Duration,
    ) -> Result<Self> {
        for _ in 0..ATTEMPTS {
            if let Some(client) = Self::attempt(address, server, pace).await? {
                return Ok(client);
            }
        }
        bail!("ICE does not come to an end, {ATTEMPTS} times");
    }

    async fn attempt(address: IpAddr, server: SocketAddr, pace: Duration) -> Result<Option<Self>> {
        let configuration = RTCConfiguration::default();
        let connection = connection::new(address, configuration, |settings| {
            settings.set_ice_timeouts(Some(NEVER), Some(NEVER), Some(KEEPALIVE));
        })
        .await?;
        let channel = connection.create_data_channel("echo", None).await?;
        let (opened, greeted) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let opening = Arc::clone(&opened);
        channel.on_open(Box::new(move || {
            opening.notify_one();
            Box::pin(async {})
        }));
        let greeting = Arc::clone(&greeted);
        channel.on_message(Box::new(move |_| {
            greeting.notify_one();
            Box::pin(async {})
        }));
        let codec = RTCRtpCodecCapability {
            mime_type: MIME_TYPE_OPUS.to_owned(),
            ..RTCRtpCodecCapability::default()
        };
        let track = TrackLocalStaticRTP::new(codec, "silence".to_owned(), "lab".to_owned());
        let track = Arc::new(track);
        connection.add_track(Arc::clone(&track) as Arc<_>).await?;
        let media = Arc::<Media>::default();
        let (coming, heard) = (Arc::clone(&media), Arc::new(Notify::new()));
        let hearing = Arc::clone(&heard);
        connection.on_track(Box::new(move |track, _, _| {
            let (coming, hearing) = (Arc::clone(&coming), Arc::clone(&hearing));
            tokio::spawn(async move {
                while let Ok((packet, _)) = track.read_rtp().await {
                    let mut back = coming.back.lock().unwrap_or_else(PoisonError::into_inner);
                    back.insert(packet.header.sequence_number);
                    hearing.notify_one();
                }
            });
            Box::pin(async {})
        }));

        let offer = connection::offer(&connection, false).await?;
        let headers = [("content-type", "application/sdp")];
        let created = http::request(server, Method::POST, "/whip", &headers, offer.sdp).await?;
        ensure!(created.status() == StatusCode::CREATED, "{created:?}");
        let location = http::header(&created, LOCATION)?.to_owned();
        let id = location.strip_prefix("/whip/").context("another path")?;
        let id = id.to_owned();
        let answer = RTCSessionDescription::answer(created.into_body())?;
        connection.set_remote_description(answer).await?;
        if timeout(OPENING, opened.notified()).await.is_err() {
            http::request(server, Method::DELETE, &location, &[], String::new()).await?;
            connection.close().await?;
            return Ok(None);
        }
        let within = async |what: &Notify, name: &str| {
            let happened = timeout(DEADLINE, what.notified()).await;
            happened.with_context(|| format!("{name} of {id}"))
        };
        let (stop, stopped) = watch::channel(false);
        let sending = Task(tokio::spawn(send(track, pace, Arc::clone(&media), stopped)));
        channel.send_text("hello").await?;
        within(&greeted, "no message comes back").await?;
        within(&heard, "no media comes back").await?;
        Ok(Some(Self {
            id,
            connection,
            media,
            stop,
            sending,
        }))
    }

    /// Sends no more. How many packets came back, and which did not.
    pub(crate) async fn finish(&mut self) -> Result<(usize, Vec<u16>)> {
        self.stop.send_replace(true);
        (&mut self.sending.0).await?;
        let all = timeout(DEADLINE, async {
            let mut look = interval(LOOK);
            while !self.media.missing().is_empty() {
                look.tick().await;
            }
        });
        // Who does not come in time is missing.
        let _ = all.await;
        Ok((self.media.back().len(), self.media.missing()))
    }

    pub(crate) async fn close(self) -> Result<()> {
        Ok(self.connection.close().await?)
    }
}

impl Media {
    fn back(&self) -> BTreeSet<u16> {
        let back = self.back.lock().unwrap_or_else(PoisonError::into_inner);
        back.clone()
    }

    /// What was sent after the first that came back, and has not come back: before that the two tracks were not there.
    fn missing(&self) -> Vec<u16> {
        let back = self.back();
        let first = back.first().copied().unwrap_or_default();
        let sent = first..self.next.load(Relaxed);
        sent.filter(|number| !back.contains(number)).collect()
    }
}

async fn send(
    track: Arc<TrackLocalStaticRTP>,
    pace: Duration,
    media: Arc<Media>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut pace = interval(pace);
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            _ = pace.tick() => {}
        }
        let number = media.next.load(Relaxed);
        let packet = Packet {
            header: Header {
                version: 2,
                payload_type: OPUS,
                sequence_number: number,
                timestamp: u32::from(number) * 4_800,
                ..Header::default()
            },
            payload: Bytes::from_static(&SILENCE),
        };
        // What is not sent does not come back.
        let _ = track.write_rtp(&packet).await;
        media.next.store(number + 1, Relaxed);
    }
}
