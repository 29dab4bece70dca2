use perpacket_webrtc::{PacketClass, PeerCounters, udp::Tos};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Timestamp;

/// What was seen of a client in one second.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct Sample {
    /// The end of that second.
    pub at: Timestamp,
    /// The mean round trip of STUN checks, milliseconds. They go with the header that ICE's own checks have.
    pub rtt_ms: Option<f64>,
    /// The mean difference between one round trip and the next, milliseconds.
    pub jitter_ms: Option<f64>,
    /// The share of packets that were lost, 0 to 1: of the media that goes to the client, by its receiver reports, if
    /// there is one that is not older than 5 s; or else of STUN checks, there or back.
    pub loss: Option<f64>,
    /// What went and came, by class.
    pub classes: Rates,
    /// The TTL, or hop limit, that packets of the client arrive with.
    #[schema(minimum = 0, maximum = 255)]
    pub received_ttl: Option<u8>,
    /// The TOS byte that they arrive with.
    #[schema(minimum = 0, maximum = 255)]
    pub received_tos: Option<u8>,
    /// The name of its DSCP, or the number.
    #[schema(example = "CS0")]
    pub received_dscp: Option<String>,
    /// Its ECN field.
    #[schema(example = "not-ect")]
    pub received_ecn: Option<String>,
    /// What the network said in that second.
    pub icmp: Icmp,
    /// Datagrams that were dropped here in that second, both ways.
    pub dropped: u64,
}

impl Sample {
    /// Names the TOS byte that packets arrive with.
    pub fn set_received_tos(&mut self, tos: Option<Tos>) {
        self.received_tos = tos.map(Tos::byte);
        self.received_dscp = tos.map(|tos| tos.dscp().to_string());
        self.received_ecn = tos.map(|tos| tos.ecn().to_string());
    }
}

/// Rates by class of packets.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct Rates {
    /// ICE checks, and those of this server.
    pub stun: ClassRates,
    /// Handshake and data channels.
    pub dtls: ClassRates,
    /// Audio and video.
    pub srtp: ClassRates,
    /// Reports and feedback.
    pub srtcp: ClassRates,
}

/// What went and came of one class, in a second.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct ClassRates {
    /// Datagrams that the kernel took.
    pub sent_packets: u64,
    /// Their payload.
    pub sent_bytes: u64,
    /// Datagrams that came in.
    pub received_packets: u64,
    /// Their payload.
    pub received_bytes: u64,
    /// Datagrams that were dropped here.
    pub dropped: u64,
}

/// ICMP errors about datagrams to the client.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct Icmp {
    /// The TTL ran out.
    pub time_exceeded: u64,
    /// Nobody there, no way there, or not allowed there.
    pub unreachable: u64,
    /// Larger than a link on the way carries.
    pub too_big: u64,
    /// Anything else.
    pub other: u64,
}

/// Samples, the oldest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SampleList {
    /// At most 5,000.
    pub samples: Vec<Sample>,
}

impl Rates {
    /// The classes that are told apart, in the order of the fields.
    pub const CLASSES: [PacketClass; 4] = [
        PacketClass::Stun,
        PacketClass::Dtls,
        PacketClass::Srtp,
        PacketClass::Srtcp,
    ];

    /// What was counted between two moments.
    #[must_use]
    pub fn between(before: &PeerCounters, now: &PeerCounters) -> Self {
        let [stun, dtls, media, reports] = Self::CLASSES.map(|class| {
            let (before, now) = (before.class(class), now.class(class));
            let dropped = |counters: &[u64]| counters.iter().sum::<u64>();
            ClassRates {
                sent_packets: now.sent.saturating_sub(before.sent),
                sent_bytes: now.sent_bytes.saturating_sub(before.sent_bytes),
                received_packets: now.received.saturating_sub(before.received),
                received_bytes: now.received_bytes.saturating_sub(before.received_bytes),
                dropped: dropped(&now.dropped).saturating_sub(dropped(&before.dropped)),
            }
        });
        Self {
            stun,
            dtls,
            srtp: media,
            srtcp: reports,
        }
    }

    /// With the names of the classes.
    #[must_use]
    pub fn by_class(&self) -> [(PacketClass, ClassRates); 4] {
        let rates = [self.stun, self.dtls, self.srtp, self.srtcp];
        std::array::from_fn(|index| (Self::CLASSES[index], rates[index]))
    }
}

impl Icmp {
    /// What was said between two moments.
    #[must_use]
    pub fn between(before: &PeerCounters, now: &PeerCounters) -> Self {
        let (before, now) = (&before.icmp, &now.icmp);
        Self {
            time_exceeded: now.time_exceeded.saturating_sub(before.time_exceeded),
            unreachable: now.unreachable.saturating_sub(before.unreachable),
            too_big: now.too_big.saturating_sub(before.too_big),
            other: now.other.saturating_sub(before.other),
        }
    }
}
