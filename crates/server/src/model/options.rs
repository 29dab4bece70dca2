use perpacket_webrtc::{
    ClassCounters, Overrides, PacketClass, PeerCounters,
    udp::{MessageOptions, Tos},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Timestamp;

/// What the IP header of packets is to say; `null` is left to what is set elsewhere, and to the system.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct Options {
    /// The TTL, or hop limit.
    #[schema(minimum = 1, maximum = 255)]
    pub ttl: Option<u8>,
    /// Whether packets may not be fragmented.
    pub df_bit: Option<bool>,
    /// The whole TOS byte: the DSCP in the upper six bits, the ECN field in the lower two. Where only one of the two
    /// is set, the other counts as 0 here.
    #[schema(minimum = 0, maximum = 255)]
    pub tos: Option<u8>,
}

impl From<MessageOptions> for Options {
    fn from(options: MessageOptions) -> Self {
        Self {
            ttl: options.ttl,
            df_bit: options.df_bit,
            tos: options.tos_byte(),
        }
    }
}

/// The options of a session.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct Asked {
    /// For packets of any class.
    pub all: Options,
    /// For packets of one class; field by field they come before `all`.
    pub classes: AskedClasses,
}

/// The options of each class.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
#[serde(default)]
pub struct AskedClasses {
    /// ICE.
    pub stun: Options,
    /// Handshake and data channels.
    pub dtls: Options,
    /// Audio and video.
    pub srtp: Options,
    /// Reports and feedback.
    pub srtcp: Options,
}

impl From<&Overrides> for Asked {
    fn from(overrides: &Overrides) -> Self {
        let of = |class: PacketClass| overrides.classes[class.index()].into();
        Self {
            all: overrides.any.into(),
            classes: AskedClasses {
                stun: of(PacketClass::Stun),
                dtls: of(PacketClass::Dtls),
                srtp: of(PacketClass::Srtp),
                srtcp: of(PacketClass::Srtcp),
            },
        }
    }
}

/// The header that the newest datagram of a class went out with.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct Applied {
    /// The TTL, or hop limit.
    #[schema(minimum = 0, maximum = 255)]
    pub ttl: Option<u8>,
    /// The DF bit; on IPv6, which has none, whether it was asked for.
    pub df_bit: Option<bool>,
    /// The TOS byte, or traffic class.
    #[schema(minimum = 0, maximum = 255)]
    pub tos: Option<u8>,
    /// How many datagrams of the class have gone out.
    pub sent: u64,
}

impl From<&ClassCounters> for Applied {
    fn from(counters: &ClassCounters) -> Self {
        let header = counters.sent_header;
        Self {
            ttl: header.ttl,
            df_bit: header.df_bit,
            tos: header.tos.map(Tos::byte),
            sent: counters.sent,
        }
    }
}

/// What went out, by class.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct AppliedClasses {
    /// ICE; the count has the checks of this server in it, the header is that of ICE's own.
    pub stun: Applied,
    /// Handshake and data channels.
    pub dtls: Applied,
    /// Audio and video.
    pub srtp: Applied,
    /// Reports and feedback.
    pub srtcp: Applied,
}

impl From<&PeerCounters> for AppliedClasses {
    fn from(counters: &PeerCounters) -> Self {
        let of = |class| counters.class(class).into();
        Self {
            stun: of(PacketClass::Stun),
            dtls: of(PacketClass::Dtls),
            srtp: of(PacketClass::Srtp),
            srtcp: of(PacketClass::Srtcp),
        }
    }
}

/// What becomes of a change of options.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum GuardState {
    /// It is taken back if the client is cut off.
    Watching,
    /// The client has answered all along.
    Kept,
    /// It was taken back.
    Reverted,
}

/// A change of options that is watched, or was.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct Guard {
    /// What becomes of it.
    pub state: GuardState,
    /// When the change was made.
    pub since: Timestamp,
    /// When it will be taken back whatever happens, with `revert_after_s`.
    pub until: Option<Timestamp>,
    /// Why it was taken back: `revert_after_s`, or what was not heard.
    #[schema(example = "no consent for 3 s")]
    pub reason: Option<String>,
    /// What was set before, and is again once it was taken back.
    pub before: Asked,
}

/// What is set for a client, and what really goes out.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OptionsView {
    /// What is set.
    pub asked: Asked,
    /// The header of the newest datagram of each class.
    pub applied: AppliedClasses,
    /// The change that was watched last.
    pub guard: Option<Guard>,
}

/// A change of options. A field that is left out stays, `null` clears it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes what is read field by field")]
pub struct OptionsChange {
    /// The TTL, or hop limit.
    #[schema(required = false, minimum = 1, maximum = 255)]
    ttl: Option<u8>,
    /// Whether packets may not be fragmented.
    #[schema(required = false)]
    df_bit: Option<bool>,
    /// The whole TOS byte, or else `dscp` and `ecn`.
    #[schema(required = false, minimum = 0, maximum = 255)]
    tos: Option<u8>,
    /// A DSCP by name or number, 0 to 63.
    #[schema(required = false, value_type = Option<String>, example = "EF")]
    dscp: Option<String>,
    /// An ECN field: `not-ect`, `ect0`, `ect1` or `ce`.
    #[schema(required = false, example = "ect0")]
    ecn: Option<String>,
    /// Of which class, `stun`, `dtls`, `srtp` or `srtcp`; of all if it is left out.
    #[schema(required = false, example = "srtp")]
    class: Option<String>,
    /// After how many seconds the change is taken back. Another change of the client's options ends that: it is
    /// watched in place of this one.
    #[schema(required = false, minimum = 1, maximum = 86400)]
    revert_after_s: Option<u32>,
}
