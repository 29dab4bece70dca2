//! The classifier against packets from an independent encoder, and against arbitrary bytes.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot build its packet fails"
)]

use perpacket_webrtc::{Classified, channel_binding, classify, is_stun, relayed_payload};

mod packets;
mod properties;
mod relayed;
mod unwrapped;

/// Calls everything that reads datagrams, and proves that none of it allocates.
pub(crate) fn read(datagram: &[u8]) -> Classified {
    let mut classified = None;
    let allocations = allocation_counter::measure(|| {
        classified = Some(classify(datagram));
        std::hint::black_box((
            relayed_payload(datagram),
            channel_binding(datagram),
            is_stun(datagram),
        ));
    });
    assert_eq!(allocations.count_total, 0);
    classified.unwrap()
}
