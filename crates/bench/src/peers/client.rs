//! Clients of a [`Server`], all of webrtc-rs 0.17 without perpacket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use socket2::{Domain, SockFilter, Socket, Type};
use tokio::net::UdpSocket;
use webrtc::ice::udp_mux::{UDPMux as _, UDPMuxDefault, UDPMuxParams};
use webrtc::ice::udp_network::UDPNetwork;
use webrtc::rtp::header::Header;
use webrtc::rtp::packet::Packet;
use webrtc::rtp_transceiver::RTCRtpTransceiverInit;
use webrtc::rtp_transceiver::rtp_codec::RTPCodecType;
use webrtc::rtp_transceiver::rtp_transceiver_direction::RTCRtpTransceiverDirection;
use webrtc::track::track_local::TrackLocalWriter as _;
use webrtc::track::track_local::track_local_static_rtp::TrackLocalStaticRTP;

use super::channel::{End, Opening};
use super::classic::Peer;
use super::server::Server;
use super::way::{LOOPBACK, settings};

/// Packets come in bursts this far apart, as the pacer of a browser sends them.
const BURST: Duration = Duration::from_millis(5);

/// RTP payload, bytes: what a frame of video is cut into.
const PAYLOAD: &[u8] = &[7; 1_100];

/// A peer connection that sends a track.
pub(super) struct Publisher {
    _peer: Peer,
    track: Arc<TrackLocalStaticRTP>,
    packet: Packet,
}

impl Publisher {
    pub(super) async fn connect(server: &Server) -> Result<Self> {
        let peer = Peer::new(settings()).await?;
        let track = peer.add_track().await?;
        let answer = server.publish(peer.offer().await?).await?;
        peer.accept(answer).await?;
        peer.connected().await?;
        let header = Header {
            version: 2,
            ..Header::default()
        };
        let payload = Bytes::from_static(PAYLOAD);
        Ok(Self {
            _peer: peer,
            track,
            packet: Packet { header, payload },
        })
    }

    /// Sends so many packets, so many a second.
    pub(super) async fn send(&mut self, number: u64, per_second: u32) -> Result<()> {
        let per_burst = u64::from(per_second * 5 / 1_000);
        let mut pace = tokio::time::interval(BURST);
        for sent in 0..number {
            if sent % per_burst == 0 {
                pace.tick().await;
            }
            let header = &mut self.packet.header;
            header.sequence_number = header.sequence_number.wrapping_add(1);
            header.timestamp = header.timestamp.wrapping_add(90);
            self.track.write_rtp(&self.packet).await?;
        }
        Ok(())
    }
}

/// A peer connection that wants the track.
pub(super) struct Subscriber {
    peer: Peer,
    mux: Arc<UDPMuxDefault>,
    /// Packets of media that arrived at the application.
    arrived: Arc<AtomicU64>,
}

impl Subscriber {
    /// One that is connected. Unless it `listens`, the kernel drops the media at its socket: it costs the server the
    /// same, and the client next to nothing.
    pub(super) async fn connect(server: &Server, listens: bool) -> Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), None)?;
        socket.bind(&LOOPBACK.into())?;
        if !listens {
            socket.attach_filter(&no_media())?;
        }
        let socket = UdpSocket::from_std(socket.into())?;
        let mux = UDPMuxDefault::new(UDPMuxParams::new(socket));
        let mut settings = settings();
        settings.set_udp_network(UDPNetwork::Muxed(Arc::clone(&mux) as _));
        let peer = Peer::new(settings).await?;
        let receiving = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Recvonly,
            send_encodings: Vec::new(),
        };
        peer.connection
            .add_transceiver_from_kind(RTPCodecType::Video, Some(receiving))
            .await?;
        let arrived = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&arrived);
        peer.connection.on_track(Box::new(move |track, _, _| {
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                while track.read_rtp().await.is_ok() {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
            Box::pin(async {})
        }));
        let answer = server.subscribe(peer.offer().await?).await?;
        peer.accept(answer).await?;
        peer.connected().await?;
        Ok(Self { peer, mux, arrived })
    }

    /// How many packets of media arrived.
    pub(super) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    pub(super) async fn close(self) {
        // The server is gone, or will be: nobody waits for a farewell.
        let _ = self.peer.connection.close().await;
        let _ = self.mux.close().await;
    }
}

/// A filter that drops RTP and RTCP (RFC 7983 §7: first byte 128 to 191) and lets the rest pass. A filter of a UDP
/// socket sees the datagram from its UDP header on, which has 8 bytes.
fn no_media() -> [SockFilter; 5] {
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
    const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    [
        SockFilter::new(LOAD_BYTE, 0, 0, 8),
        SockFilter::new(AND, 0, 0, 0xc0),
        SockFilter::new(IF_EQUAL, 0, 1, 0x80),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
}

/// A peer connection with an open data channel, through which nothing goes.
pub(super) async fn idle(server: &Server) -> Result<End> {
    let peer = Peer::new(settings()).await?;
    let opening = Opening::offer(&peer).await?;
    let answer = server.idle(peer.offer().await?).await?;
    peer.accept(answer).await?;
    peer.connected().await?;
    opening.open(peer).await
}
