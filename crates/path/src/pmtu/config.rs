use std::time::Duration;

use perpacket_udp::MessageOptions;

use crate::MeasureError;

/// The largest packet that is tried unless something else is asked for: what jumbo frames carry at most.
pub(super) const LARGEST: usize = 9216;

/// What the smallest search makes sense for (RFC 8899 §5.1.2, `BASE_PLPMTU`).
const SMALLEST_CAP: usize = 1200;

/// The largest IP packet that a probe can be.
const LARGEST_CAP: usize = 65_500;

/// How to measure the [path MTU](crate::PathMtu).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathMtuConfig {
    /// The largest packet to try, bytes of IP packet, 1200 to 65,500. `None`: what the interface carries,
    /// at most 9,216.
    pub cap: Option<usize>,
    /// Whether to go on until the answer is exact, where no router says what it is: some three probes more
    /// where it is one of the common sizes, some ten where it is not. Without it, the answer is the
    /// largest common size that passes.
    pub refine: bool,
    /// After what time without an answer a probe is lost. `None`: three round trips, at least 200 ms.
    ///
    /// RFC 8899 §5.1.1 has a transport wait for a second at least, because it searches all the time and a
    /// lost probe costs it nothing. Here somebody waits, and an answer that is late only makes a
    /// probe count as lost, of which it takes several.
    pub timeout: Option<Duration>,
    /// Whether to find out, where packets above 2,048 bytes get no answer, if it is the peer that does not
    /// take them: see [`PeerLimit`](crate::PeerLimit). It costs from two to eight probes more.
    pub peer_limit: bool,
    /// Bytes that SRTP adds to a packet: 16 with `AEAD_AES_128_GCM` (RFC 7714 §12), which webrtc-rs
    /// prefers, 10 with `AES_CM_128_HMAC_SHA1_80` (RFC 3711 §4.2).
    pub srtp_tag: usize,
    /// What else the IP header of the probes says: the marks of the media, for example. Its DF bit does
    /// not count.
    pub options: MessageOptions,
}

impl Default for PathMtuConfig {
    /// Up to what the interface carries, not refined.
    fn default() -> Self {
        Self {
            cap: None,
            refine: false,
            timeout: None,
            peer_limit: true,
            srtp_tag: 16,
            options: MessageOptions::NONE,
        }
    }
}

impl PathMtuConfig {
    pub(super) fn check(&self) -> Result<(), MeasureError> {
        let wrong = |field, value: String, expected| MeasureError::Config {
            field,
            value,
            expected,
        };
        let caps = SMALLEST_CAP..=LARGEST_CAP;
        if let Some(cap) = self.cap.filter(|cap| !caps.contains(cap)) {
            return Err(wrong(
                "cap",
                cap.to_string(),
                "1200 to 65500 bytes, or none",
            ));
        }
        if self.timeout.is_some_and(|timeout| timeout.is_zero()) {
            let expected = "longer than a round trip, or none";
            return Err(wrong("timeout", "0".to_owned(), expected));
        }
        self.options
            .validate()
            .map_err(|error| wrong("options", error.to_string(), "what an IP header can say"))
    }
}
