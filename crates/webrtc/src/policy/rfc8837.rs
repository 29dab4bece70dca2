//! DSCP for WebRTC, RFC 8837 §5, table 1.

use perpacket_udp::{Dscp, MessageOptions};

use super::{Policy, Stream};
use crate::PacketClass;

/// How much a flow matters to the application (RFC 8835 §4.1; `priority` of an `RTCRtpEncodingParameters`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Below everything else on the path.
    VeryLow,
    /// Best effort.
    Low,
    /// What matters.
    Medium,
    /// What matters most.
    High,
}

/// What flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// Audio.
    Audio,
    /// Video of a conversation, with or without audio.
    InteractiveVideo,
    /// Video that is watched.
    NonInteractiveVideo,
    /// Data channels.
    Data,
}

impl MediaKind {
    /// The code point. Where the RFC leaves a choice by drop precedence, the lowest.
    #[must_use]
    pub const fn dscp(self, priority: Priority) -> Dscp {
        match (priority, self) {
            (Priority::VeryLow, _) => Dscp::LE,
            (Priority::Low, _) => Dscp::CS0,
            (Priority::Medium | Priority::High, Self::Audio) => Dscp::EF,
            (Priority::Medium, Self::InteractiveVideo) => Dscp::AF42,
            (Priority::High, Self::InteractiveVideo) => Dscp::AF41,
            (Priority::Medium, Self::NonInteractiveVideo) => Dscp::AF32,
            (Priority::High, Self::NonInteractiveVideo) => Dscp::AF31,
            (Priority::Medium, Self::Data) => Dscp::AF11,
            (Priority::High, Self::Data) => Dscp::AF21,
        }
    }
}

impl Policy {
    /// The standard's marking: every payload type by what it carries, data channels as data.
    ///
    /// Audio and video share the class [`PacketClass::Srtp`], so `payload_types` says which is
    /// which; one that is not listed stays unmarked. RTCP is marked like the first kind that is
    /// listed. DTLS has the mark of data from its handshake on: one association, one DSCP (RFC 8837
    /// §5). STUN stays at CS0, so that a connection comes about also where a path drops marked
    /// packets (RFC 8835 §4.2).
    #[must_use]
    pub fn rfc8837(priority: Priority, payload_types: &[(u8, MediaKind)]) -> Self {
        let marked = |kind: MediaKind| MessageOptions::NONE.with_dscp(kind.dscp(priority));
        let policy = Self::new();
        policy.change_base(|base| {
            base.all
                .set_class(PacketClass::Stun, MessageOptions::NONE.with_dscp(Dscp::CS0));
            base.all
                .set_class(PacketClass::Dtls, marked(MediaKind::Data));
            if let Some((_, first)) = payload_types.first() {
                base.all.set_class(PacketClass::Srtcp, marked(*first));
            }
            for (payload_type, kind) in payload_types {
                base.set_stream(Stream::PayloadType(*payload_type & 0x7f), marked(*kind));
            }
        });
        policy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Table 1 of the RFC, row by row.
    #[test]
    fn table_1() {
        let priorities = [
            Priority::VeryLow,
            Priority::Low,
            Priority::Medium,
            Priority::High,
        ];
        for (kind, row) in [
            (MediaKind::Audio, [1, 0, 46, 46]),
            (MediaKind::InteractiveVideo, [1, 0, 36, 34]),
            (MediaKind::NonInteractiveVideo, [1, 0, 28, 26]),
            (MediaKind::Data, [1, 0, 10, 18]),
        ] {
            assert_eq!(
                priorities.map(|priority| kind.dscp(priority).value()),
                row,
                "{kind:?}"
            );
        }
    }
}
