use serde::Serialize;

/// Bytes of a UDP header (RFC 768).
const UDP: usize = 8;

/// Bytes of an RTP header without CSRCs and extensions (RFC 3550 §5.1).
const RTP: usize = 12;

/// Bytes of a DTLS 1.2 record around its content: header (RFC 6347 §4.1), the explicit part of the nonce
/// and the tag of AES-GCM (RFC 5288 §3, RFC 5116 §5.1), which is what WebRTC stacks choose, webrtc-rs among
/// them.
const DTLS: usize = 13 + 8 + 16;

/// Bytes of SCTP's common header (RFC 9260 §3.1).
const SCTP: usize = 12;

/// Bytes of the header of a DATA chunk (RFC 9260 §3.3.1).
const SCTP_DATA: usize = 16;

/// What chunks are padded to (RFC 9260 §3.2).
const SCTP_PADDING: usize = 4;

/// What remains of an IP packet for those above it, bytes.
///
/// It counts no IP options and no extension headers, and no header of a TURN server: a session that is
/// relayed has 4 bytes fewer (RFC 8656 §12.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Room {
    /// The IP header: 20, or 40 on IPv6.
    pub ip_header: usize,
    /// The payload of a UDP datagram: less 8.
    pub udp_payload: usize,
    /// The payload of an RTP packet, header extensions included: less 12 for its header, and what SRTP
    /// adds.
    pub rtp_payload: usize,
    /// The data of one SCTP DATA chunk alone in its packet, as over data channels: of the UDP payload, less
    /// 37 for a DTLS 1.2 record with AES-GCM, to a multiple of 4, less 12 for SCTP's header and 16 for the
    /// chunk's.
    pub sctp: usize,
}

impl Room {
    /// In an IP packet of `mtu` bytes, of which headers of IP and UDP take `overhead`.
    pub(super) fn of(mtu: usize, overhead: usize, srtp_tag: usize) -> Self {
        let udp_payload = mtu.saturating_sub(overhead);
        let sctp_packet = udp_payload.saturating_sub(DTLS) / SCTP_PADDING * SCTP_PADDING;
        Self {
            ip_header: overhead.saturating_sub(UDP),
            udp_payload,
            rtp_payload: udp_payload.saturating_sub(RTP + srtp_tag),
            sctp: sctp_packet.saturating_sub(SCTP + SCTP_DATA),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_common_packets() {
        let ethernet = Room::of(1500, 28, 10);
        assert_eq!((ethernet.ip_header, ethernet.udp_payload), (20, 1472));
        assert_eq!((ethernet.rtp_payload, ethernet.sctp), (1450, 1432 - 28));
        let v6 = Room::of(1280, 48, 16);
        assert_eq!(
            (v6.ip_header, v6.udp_payload, v6.rtp_payload),
            (40, 1232, 1204)
        );
        // webrtc-rs fills 1,191 bytes with an SCTP packet, which fits even behind a TURN server: 4 less.
        assert_eq!(v6.sctp + SCTP + SCTP_DATA, 1192);
        assert_eq!(Room::of(20, 48, 16).sctp, 0);
    }
}
