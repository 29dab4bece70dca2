//! Two peer connections whose code knows nothing of perpacket, and every datagram of theirs with the
//! IP header that a policy gives it.
//!
//! They exchange data-channel messages, audio and video over the loopback interface. Meanwhile the
//! policy changes four times, with no renegotiation, and a sniffer compares **every** datagram with
//! what was asked. It exits with 1 if one of them is wrong, or if a class was not seen.
//!
//! ```console
//! $ cargo run --release --example loopback
//! $ cargo run --release --example loopback -- --set srtp:ttl=7,df=0,tos=0xb8 --ipv6
//! ```
//!
//! Without root it moves into a network of its own to sniff there. Where that is not allowed either,
//! it goes by what the receiving sockets say, and says so: they do not see the DF bit.

#![forbid(unsafe_code)]

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use perpacket_examples::{
    Addresses, Arrived, Asked, Direction, Header, Observer, PhaseReport, Receivers, Report, Row,
    Traffic, open_sniffer, parse_set, saw_enough, system_defaults,
};
use perpacket_udp::{Dscp, MessageOptions, OptionsError};
use perpacket_webrtc::{CustomNet, MediaKind, PacketClass, Policy, Priority};
use tokio::time::{Instant, interval, sleep};
use webrtc::{
    api::{
        APIBuilder,
        interceptor_registry::register_default_interceptors,
        media_engine::{MIME_TYPE_OPUS, MIME_TYPE_VP8, MediaEngine},
        setting_engine::SettingEngine,
    },
    data_channel::{
        RTCDataChannel, data_channel_init::RTCDataChannelInit,
        data_channel_state::RTCDataChannelState,
    },
    ice::{mdns::MulticastDnsMode, network_type::NetworkType},
    interceptor::registry::Registry,
    peer_connection::{RTCPeerConnection, configuration::RTCConfiguration},
    rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication,
    rtp::packet::Packet as RtpPacket,
    rtp_transceiver::{rtp_codec::RTCRtpCodecCapability, rtp_sender::RTCRtpSender},
    track::{
        track_local::{TrackLocalWriter, track_local_static_rtp::TrackLocalStaticRTP},
        track_remote::TrackRemote,
    },
};

/// The payload types that webrtc-rs gives Opus and VP8: they are in the clear, so a policy can tell
/// audio from video.
const AUDIO: u8 = 111;
const VIDEO: u8 = 96;

/// How much longer than asked for a phase may last, waiting for them.
const PATIENCE: Duration = Duration::from_secs(15);

/// Two peer connections over loopback, every datagram checked against the policy.
#[derive(Debug, Parser)]
struct Args {
    /// What a class gets in the second phase, instead of the example's choice; can be repeated.
    /// CLASS is stun, dtls, srtp or srtcp; what is left out is the system's default.
    #[arg(long, value_name = "CLASS:ttl=N,df=0|1,tos=N", value_parser = parse_set)]
    set: Vec<(PacketClass, MessageOptions)>,

    /// Run on the IPv6 loopback address.
    #[arg(long)]
    ipv6: bool,

    /// How long each of the five phases lasts at least; it goes on until each class has been seen 5
    /// times each way, and fails if that takes 15 seconds more.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(..=86_400))]
    seconds: u64,

    /// Print one JSON document instead of the table.
    #[arg(long)]
    json: bool,

    /// Keep the captured packets in this file, for Wireshark.
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    // Before there is a second thread: without root, it moves this process into another network.
    let observer = match open_sniffer() {
        Ok(sniffer) => Observer::Wire(sniffer),
        Err(why) => {
            eprintln!("This program may not sniff here, and goes by what the receivers say.");
            eprintln!("They see TTL and TOS, but not the DF bit. Why: {why}");
            Observer::Receivers(Receivers::default())
        }
    };
    // One thread, so that no datagram is half sent while the policy changes: the next one complies.
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start tokio")
        .and_then(|runtime| runtime.block_on(run(&args, observer)));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args, mut observer: Observer) -> Result<bool> {
    let loopback: IpAddr = if args.ipv6 {
        Ipv6Addr::LOCALHOST.into()
    } else {
        Ipv4Addr::LOCALHOST.into()
    };
    let defaults = system_defaults(args.ipv6)?;
    if let Some(file) = &args.pcap {
        // Better now than when all is done.
        File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    }

    // All there is of perpacket in the set-up: one network, and one line for each peer connection.
    let net = CustomNet::new();
    let mut of_alice = settings(loopback);
    net.session("alice").install(&mut of_alice);
    let mut of_bob = settings(loopback);
    net.session("bob").install(&mut of_bob);

    let begin = observer.mark(&net);
    let alice = Peer::new(of_alice).await?;
    let bob = Peer::new(of_bob).await?;
    connect(&alice, &bob).await.context("cannot connect")?;
    let addresses = Addresses {
        alice: address_of("alice", &net)?,
        bob: address_of("bob", &net)?,
    };

    let mut finished = Vec::new();
    for (index, phase) in phases(args, defaults, addresses).into_iter().enumerate() {
        // Nothing is set in the first phase, so the handshakes are part of it.
        let from = if index == 0 {
            begin
        } else {
            (phase.change)(&net)?;
            observer.mark(&net)
        };
        let before = [alice.arrived(), bob.arrived()];
        let deadline = Instant::now() + Duration::from_secs(args.seconds);
        loop {
            sleep(Duration::from_millis(20)).await;
            let seen = observer.look(&net, from);
            let arrived = [
                alice.arrived().since(before[0]),
                bob.arrived().since(before[1]),
            ];
            let complete = saw_enough(&phase.rows, &seen, addresses)
                && arrived.iter().all(|arrived| arrived.of_everything());
            let now = Instant::now();
            if (complete && now >= deadline) || now >= deadline + PATIENCE {
                let until = SystemTime::now();
                finished.push((phase, from..until, arrived));
                break;
            }
        }
    }
    for peer in [&alice, &bob] {
        // The second one says that it cannot tell the first, and is closed all the same.
        let _ = peer.connection.close().await;
    }

    let sees_df = observer.sees_df() && !args.ipv6;
    let (seen, packets) = observer.finish()?;
    let ours = |from, to| addresses.direction(from, to).is_some();
    if let Some(file) = &args.pcap {
        let packets = packets.iter().filter(|p| ours(p.source, p.destination));
        perpacket_lab::write_pcap(file, packets)?;
    }
    let results = finished
        .into_iter()
        .map(|(phase, window, arrived)| {
            let seen = seen
                .iter()
                .filter(|seen| ours(seen.from, seen.to) && window.contains(&seen.at));
            PhaseReport::judge(phase.name, &phase.rows, seen, addresses, arrived)
        })
        .collect();
    let report = Report::new(results, args.ipv6, sees_df);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        report.print();
    }
    Ok(report.ok)
}

// What is asked.

type Change = Box<dyn Fn(&CustomNet) -> Result<(), OptionsError>>;

/// A change of the policy, and what has to be on the wire from then on.
struct Phase {
    name: &'static str,
    change: Change,
    rows: Vec<Row>,
}

const STUN: Traffic = Traffic::of("stun", PacketClass::Stun);
const DTLS: Traffic = Traffic::of("dtls", PacketClass::Dtls);
const SRTP: Traffic = Traffic::of("srtp", PacketClass::Srtp);
const SRTP_AUDIO: Traffic = Traffic::rtp("srtp audio", AUDIO);
const SRTP_VIDEO: Traffic = Traffic::rtp("srtp video", VIDEO);
const SRTCP: Traffic = Traffic::of("srtcp", PacketClass::Srtcp);

fn phases(args: &Args, defaults: Header, addresses: Addresses) -> Vec<Phase> {
    let none = MessageOptions::NONE;
    let row = |traffic, direction, options| Row {
        traffic,
        direction,
        asked: Asked::new(options, defaults),
    };
    let by_default = || [STUN, DTLS, SRTP, SRTCP].map(|traffic| row(traffic, None, none));

    let mut per_class = [
        (STUN, none.with_ttl(64).with_df_bit(false)),
        (DTLS, none.with_ttl(61).with_df_bit(true).with_tos(0x28)),
        (SRTP, none.with_ttl(62).with_df_bit(true).with_tos(0xb8)),
        (SRTCP, none.with_ttl(63).with_df_bit(false).with_tos(0x68)),
    ];
    for (class, options) in &args.set {
        for (traffic, own) in &mut per_class {
            if traffic.class == *class {
                *own = *options;
            }
        }
    }

    let marked = |dscp| none.with_dscp(dscp);
    let rfc8837 = [
        (STUN, marked(Dscp::CS0)),
        (DTLS, marked(Dscp::AF21)),
        (SRTP_AUDIO, marked(Dscp::EF)),
        (SRTP_VIDEO, marked(Dscp::AF41)),
        (SRTCP, marked(Dscp::EF)),
    ];
    let to_bob = rfc8837.map(|(traffic, options)| {
        let options = options.with_ttl(10).with_df_bit(false);
        row(traffic, Some(Direction::AliceToBob), options)
    });
    let to_alice =
        rfc8837.map(|(traffic, options)| row(traffic, Some(Direction::BobToAlice), options));

    vec![
        Phase {
            name: "1 nothing set",
            change: Box::new(|_| Ok(())),
            rows: by_default().into(),
        },
        Phase {
            name: "2 per class",
            change: Box::new(move |net| {
                per_class.iter().try_for_each(|(traffic, options)| {
                    net.set_class_options(traffic.class, *options)
                })
            }),
            rows: per_class
                .map(|(traffic, options)| row(traffic, None, options))
                .into(),
        },
        Phase {
            name: "3 RFC 8837",
            change: Box::new(|net| {
                let kinds = [
                    (AUDIO, MediaKind::Audio),
                    (VIDEO, MediaKind::InteractiveVideo),
                ];
                net.policy()
                    .replace(&Policy::rfc8837(Priority::High, &kinds));
                Ok(())
            }),
            rows: rfc8837
                .map(|(traffic, options)| row(traffic, None, options))
                .into(),
        },
        Phase {
            name: "4 one peer",
            // DSCP is left out here, so it stays what it was.
            change: Box::new(move |net| {
                let options = MessageOptions::default().with_ttl(10).with_df_bit(false);
                net.set_peer_options(addresses.bob, options)
            }),
            rows: to_bob.into_iter().chain(to_alice).collect(),
        },
        Phase {
            name: "5 back again",
            change: Box::new(|net| {
                net.policy().replace(&Policy::new());
                Ok(())
            }),
            rows: by_default().into(),
        },
    ]
}

// The peer connections, as anyone would write them.

fn settings(loopback: IpAddr) -> SettingEngine {
    let mut settings = SettingEngine::default();
    settings.set_include_loopback_candidate(true);
    settings.set_ip_filter(Box::new(move |address| address == loopback));
    settings.set_network_types(vec![match loopback {
        IpAddr::V4(_) => NetworkType::Udp4,
        IpAddr::V6(_) => NetworkType::Udp6,
    }]);
    settings.set_ice_multicast_dns_mode(MulticastDnsMode::Disabled);
    // STUN in every phase: a consent check ten times a second.
    settings.set_ice_timeouts(None, None, Some(Duration::from_millis(100)));
    settings
}

struct Peer {
    connection: Arc<RTCPeerConnection>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    messages: AtomicU64,
    audio: AtomicU64,
    video: AtomicU64,
}

impl Peer {
    async fn new(settings: SettingEngine) -> Result<Self> {
        let mut media = MediaEngine::default();
        media.register_default_codecs()?;
        let interceptors = register_default_interceptors(Registry::new(), &mut media)?;
        let api = APIBuilder::new()
            .with_media_engine(media)
            .with_interceptor_registry(interceptors)
            .with_setting_engine(settings)
            .build();
        let connection = Arc::new(api.new_peer_connection(RTCConfiguration::default()).await?);
        let counters = Arc::new(Counters::default());

        // Negotiated: both ends make it, and neither has to wait to be told of it.
        let negotiated = RTCDataChannelInit {
            negotiated: Some(0),
            ..Default::default()
        };
        let channel = connection
            .create_data_channel("messages", Some(negotiated))
            .await?;
        let counted = Arc::clone(&counters);
        channel.on_message(Box::new(move |_| {
            counted.messages.fetch_add(1, Relaxed);
            Box::pin(async {})
        }));
        tokio::spawn(send_messages(channel));

        for (mime_type, every, size) in [(MIME_TYPE_OPUS, 20, 160), (MIME_TYPE_VP8, 33, 1000)] {
            let codec = RTCRtpCodecCapability {
                mime_type: mime_type.to_owned(),
                ..Default::default()
            };
            let id = mime_type.replace('/', "-");
            let track = Arc::new(TrackLocalStaticRTP::new(codec, id, "example".to_owned()));
            let sender = connection.add_track(Arc::clone(&track) as _).await?;
            tokio::spawn(read_reports(sender));
            tokio::spawn(send_media(track, Duration::from_millis(every), size));
        }

        let counted = Arc::clone(&counters);
        let weak = Arc::downgrade(&connection);
        connection.on_track(Box::new(move |track, _, _| {
            tokio::spawn(receive_media(Arc::clone(&track), Arc::clone(&counted)));
            let weak = weak.clone();
            // Reports come about once a second by themselves; this makes SRTCP more frequent.
            tokio::spawn(async move {
                let mut ticks = interval(Duration::from_millis(100));
                while let Some(connection) = weak.upgrade() {
                    let please = PictureLossIndication {
                        sender_ssrc: 0,
                        media_ssrc: track.ssrc(),
                    };
                    if connection.write_rtcp(&[Box::new(please)]).await.is_err() {
                        break;
                    }
                    drop(connection);
                    ticks.tick().await;
                }
            });
            Box::pin(async {})
        }));
        Ok(Self {
            connection,
            counters,
        })
    }

    fn arrived(&self) -> Arrived {
        Arrived {
            messages: self.counters.messages.load(Relaxed),
            audio: self.counters.audio.load(Relaxed),
            video: self.counters.video.load(Relaxed),
        }
    }
}

async fn send_messages(channel: Arc<RTCDataChannel>) {
    let mut ticks = interval(Duration::from_millis(20));
    while channel.ready_state() != RTCDataChannelState::Closed {
        if channel.ready_state() == RTCDataChannelState::Open
            && channel.send_text("hello").await.is_err()
        {
            break;
        }
        ticks.tick().await;
    }
}

async fn send_media(track: Arc<TrackLocalStaticRTP>, every: Duration, size: usize) {
    let mut packet = RtpPacket::default();
    packet.header.version = 2;
    packet.payload = vec![0x2a; size].into();
    let mut ticks = interval(every);
    // The track fills in SSRC and payload type, and sends nothing while nobody is connected.
    while track.write_rtp(&packet).await.is_ok() {
        packet.header.sequence_number = packet.header.sequence_number.wrapping_add(1);
        packet.header.timestamp = packet.header.timestamp.wrapping_add(960);
        ticks.tick().await;
    }
}

/// The interceptors see only what is read.
async fn read_reports(sender: Arc<RTCRtpSender>) {
    let mut buffer = [0; 1500];
    while sender.read(&mut buffer).await.is_ok() {}
}

async fn receive_media(track: Arc<TrackRemote>, counters: Arc<Counters>) {
    while let Ok((packet, _)) = track.read_rtp().await {
        match packet.header.payload_type {
            AUDIO => &counters.audio,
            _ => &counters.video,
        }
        .fetch_add(1, Relaxed);
    }
}

/// Offer and answer, each with all its candidates, and then until something of everything arrived.
async fn connect(alice: &Peer, bob: &Peer) -> Result<()> {
    let mut gathered = alice.connection.gathering_complete_promise().await;
    let offer = alice.connection.create_offer(None).await?;
    alice.connection.set_local_description(offer).await?;
    gathered.recv().await;
    let offer = alice.connection.local_description().await;
    let offer = offer.context("no offer")?;
    bob.connection.set_remote_description(offer).await?;

    let mut gathered = bob.connection.gathering_complete_promise().await;
    let answer = bob.connection.create_answer(None).await?;
    bob.connection.set_local_description(answer).await?;
    gathered.recv().await;
    let answer = bob.connection.local_description().await;
    let answer = answer.context("no answer")?;
    alice.connection.set_remote_description(answer).await?;

    let deadline = Instant::now() + Duration::from_secs(30);
    while !(alice.arrived().of_everything() && bob.arrived().of_everything()) {
        if Instant::now() > deadline {
            bail!(
                "after 30 s alice got {}; bob got {}",
                alice.arrived(),
                bob.arrived()
            );
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// The one address at which ICE opened a socket for this session.
fn address_of(session: &str, net: &CustomNet) -> Result<SocketAddr> {
    let conns = net.snapshot().conns;
    let mut own = conns.iter().filter(|conn| {
        conn.session
            .as_ref()
            .is_some_and(|id| id.as_str() == session)
    });
    let conn = own
        .next()
        .context("no socket: is there a loopback address?")?;
    ensure!(own.next().is_none(), "more than one socket for {session}");
    Ok(conn.local)
}
