//! Keeps from a peer connection what nobody with its keys can have sent.
//!
//! webrtc-rs 0.17 believes a DTLS record of epoch 0 at any time: an alert in the clear, which anyone
//! can send in the peer's name, closes the connection, as does a record that makes no sense; records
//! of a later epoch, and pieces of handshake messages, are kept in memory for ever. SRTCP that is
//! shorter than its own trailer ends the task that reads SRTCP, and of every SSRC that it ever sees it
//! keeps something, whether or not the packet proves right. A receiver should discard what is invalid
//! (RFC 6347 §4.1.2.7, RFC 3711 §3.4).

use std::{
    collections::HashSet,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use foldhash::fast::RandomState;
use perpacket_udp::prefetch;

/// RFC 6347 §4.1: type, version, epoch, sequence number, length.
const RECORD_HEADER: usize = 13;

const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// How many datagrams of a handshake that is over may come: a peer that did not get the last flight
/// sends its own again, at longer and longer intervals (RFC 6347 §4.2.4).
const LATE_FLIGHTS: u32 = 64;

/// RFC 3711 §3.4: the first eight bytes of RTCP, the index, and a tag of at least ten bytes.
const SRTCP_MIN_LEN: usize = 8 + 4 + 10;

/// How many sources of media a peer may have, in its life. A large conference has hundreds.
const SSRCS: usize = 2048;

/// RFC 5246 §7.4: the handshake messages that begin a handshake.
const HELLOS: [u8; 3] = [1, 2, 3];

/// One DTLS association and the media that it protects, as far as they can be seen from outside. DTLS
/// 1.2 without renegotiation has two epochs: 0 in the clear, 1 protected.
#[derive(Debug, Default)]
pub(crate) struct Protection {
    established: AtomicBool,
    late_flights: AtomicU32,
    ssrcs: Ssrcs,
}

/// The sources of media that a peer has shown.
#[derive(Debug, Default)]
struct Ssrcs {
    seen: Mutex<HashSet<u32, RandomState>>,
    /// Some of them, each at a place of its own, with a bit that says that there is one: of few sources
    /// nearly every packet is found here.
    recent: [AtomicU64; 16],
}

impl Ssrcs {
    const KNOWN: u64 = 1 << 32;

    /// Whether it was seen, or is now.
    #[inline]
    fn admit(&self, ssrc: u32) -> bool {
        let recent = self.recent(ssrc);
        let known = Self::KNOWN | u64::from(ssrc);
        recent.load(Relaxed) == known || self.admit_slowly(ssrc, recent, known)
    }

    #[inline]
    fn recent(&self, ssrc: u32) -> &AtomicU64 {
        &self.recent[ssrc as usize % self.recent.len()]
    }

    fn admit_slowly(&self, ssrc: u32, recent: &AtomicU64, known: u64) -> bool {
        let mut seen = self.seen();
        let admitted = seen.contains(&ssrc) || (seen.len() < SSRCS && seen.insert(ssrc));
        if admitted {
            recent.store(known, Relaxed);
        }
        admitted
    }

    fn clear(&self) {
        let mut seen = self.seen();
        for recent in &self.recent {
            recent.store(0, Relaxed);
        }
        *seen = HashSet::default();
    }

    fn seen(&self) -> MutexGuard<'_, HashSet<u32, RandomState>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Protection {
    /// This end sends DTLS. Protected data shows that its handshake is over, and a hello that one
    /// begins; nobody else can make it send either.
    pub(crate) fn sends_dtls(&self, datagram: &[u8]) {
        let Some((record, _)) = Record::parse(datagram) else {
            return;
        };
        match record {
            Record {
                epoch: 1..,
                kind: APPLICATION_DATA,
                ..
            } => self.sends_media(),
            Record {
                epoch: 0,
                kind: HANDSHAKE,
                body: [message, ..],
            } if HELLOS.contains(message) => {
                self.established.store(false, Relaxed);
                self.late_flights.store(0, Relaxed);
                self.ssrcs.clear();
            }
            _ => {}
        }
    }

    /// This end sends what has the keys of a handshake that is over.
    #[inline]
    pub(crate) fn sends_media(&self) {
        if !self.established.load(Relaxed) {
            self.established.store(true, Relaxed);
        }
    }

    /// Asks for what media of that source is looked up in.
    #[inline]
    pub(crate) fn prefetch(&self, ssrc: u32) {
        prefetch(std::ptr::from_ref(self.ssrcs.recent(ssrc)).addr(), 1);
    }

    /// Whether a datagram that came in may be handed on. Which protocol it is goes by what the stack
    /// takes it for (RFC 7983 §7, RFC 5761 §4), whether or not it is well-formed.
    #[inline]
    pub(crate) fn admits(&self, datagram: &[u8]) -> bool {
        match *datagram {
            [20..=63, ..] => self.admits_dtls(datagram),
            [128..=191, 192..=223, _, _, s0, s1, s2, s3, ..] => {
                datagram.len() >= SRTCP_MIN_LEN
                    && self.ssrcs.admit(u32::from_be_bytes([s0, s1, s2, s3]))
            }
            [128..=191, second, _, _, _, _, _, _, s0, s1, s2, s3, ..] if !is_rtcp(second) => {
                self.ssrcs.admit(u32::from_be_bytes([s0, s1, s2, s3]))
            }
            // Shorter than their headers (RFC 3550 §5.1, §6.4.1).
            [128..=191, ..] => false,
            _ => true,
        }
    }

    fn admits_dtls(&self, datagram: &[u8]) -> bool {
        if !self.established.load(Relaxed) {
            return true;
        }
        let mut rest = datagram;
        let mut late = false;
        while !rest.is_empty() {
            let Some((record, after)) = Record::parse(rest) else {
                return false;
            };
            match record {
                Record { epoch: 1, .. } => {}
                Record {
                    epoch: 0,
                    kind: HANDSHAKE,
                    ..
                }
                | Record {
                    epoch: 0,
                    kind: CHANGE_CIPHER_SPEC,
                    body: [1],
                } => late = true,
                _ => return false,
            }
            rest = after;
        }
        !late || self.late_flights.fetch_add(1, Relaxed) < LATE_FLIGHTS
    }
}

/// RFC 5761 §4.
const fn is_rtcp(second: u8) -> bool {
    matches!(second, 192..=223)
}

struct Record<'a> {
    kind: u8,
    epoch: u16,
    body: &'a [u8],
}

impl<'a> Record<'a> {
    /// The first record of a datagram, and what follows it.
    fn parse(datagram: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (header, rest) = datagram.split_first_chunk::<RECORD_HEADER>()?;
        let [kind, _, _, e0, e1, .., l0, l1] = *header;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let (body, rest) = rest.split_at_checked(length)?;
        let epoch = u16::from_be_bytes([e0, e1]);
        // An empty record tells nothing, and webrtc-rs takes it for a broken one.
        (!body.is_empty()).then_some((Self { kind, epoch, body }, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
        let length = u8::try_from(body.len()).expect("short");
        let header = [kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 1, 0, length];
        [&header[..], body].concat()
    }

    fn established() -> Protection {
        let protection = Protection::default();
        protection.sends_dtls(&record(APPLICATION_DATA, 1, b"secret"));
        protection
    }

    const ALERT: u8 = 21;

    #[test]
    fn a_handshake_passes() {
        let protection = Protection::default();
        protection.sends_dtls(&record(HANDSHAKE, 0, b"hello"));
        protection.sends_dtls(&record(HANDSHAKE, 1, b"finished"));
        protection.sends_dtls(&record(APPLICATION_DATA, 0, b"no secret"));
        for datagram in [
            record(ALERT, 0, &[2, 40]),
            record(HANDSHAKE, 0, b"hello"),
            record(APPLICATION_DATA, 2, b"x"),
            vec![22],
        ] {
            assert!(protection.admits(&datagram), "{datagram:?}");
        }
    }

    #[test]
    fn what_is_forged_does_not_pass() {
        let protection = established();
        for datagram in [
            record(ALERT, 0, &[2, 40]),
            record(ALERT, 0, &[1, 0]),
            record(APPLICATION_DATA, 0, b"x"),
            record(CHANGE_CIPHER_SPEC, 0, &[2]),
            record(CHANGE_CIPHER_SPEC, 0, &[1, 1]),
            record(HANDSHAKE, 2, b"x"),
            record(25, 0, b"x"),
            record(HANDSHAKE, 0, b""),
            vec![22],
            [record(HANDSHAKE, 0, b"hello"), record(ALERT, 0, &[2, 40])].concat(),
            [record(APPLICATION_DATA, 1, b"x"), vec![1]].concat(),
        ] {
            assert!(!protection.admits(&datagram), "{datagram:?}");
        }
    }

    #[test]
    fn srtp_has_a_length() {
        let protection = Protection::default();
        let of_length = |second: u8, length: usize| {
            let mut datagram = vec![0; length];
            [0x80, second][..length.min(2)]
                .iter()
                .zip(&mut datagram)
                .for_each(|(from, to)| *to = *from);
            datagram
        };
        for (second, least) in [(96, 12), (201, 22), (192, 22), (223, 22), (191, 12)] {
            for length in 1..30 {
                let admits = protection.admits(&of_length(second, length));
                assert_eq!(admits, length >= least, "{second} {length}");
            }
        }
        assert!(protection.admits(&[]));
        assert!(protection.admits(&[0]));
    }

    #[test]
    fn media_shows_that_the_handshake_is_over() {
        let protection = Protection::default();
        protection.sends_media();
        assert!(!protection.admits(&record(ALERT, 0, &[1, 0])));
    }

    /// The same session connects again: a handshake is heard from its beginning.
    #[test]
    fn a_hello_begins_anew() {
        let protection = established();
        let hello = record(HANDSHAKE, 0, &[2, 0, 0]);
        for _ in 0..2 * LATE_FLIGHTS {
            protection.admits(&hello);
        }
        assert!(!protection.admits(&hello));
        // What is sent again when a peer missed the last flight is no hello.
        protection.sends_dtls(&record(HANDSHAKE, 0, &[16, 0, 0]));
        assert!(!protection.admits(&hello));
        protection.sends_dtls(&record(HANDSHAKE, 0, &[1, 0, 0]));
        assert!(protection.admits(&hello) && protection.admits(&record(ALERT, 0, &[2, 40])));
    }

    #[test]
    fn sources_are_bounded() {
        let protection = Protection::default();
        let media = |ssrc: u32| {
            let mut packet = [0x80; 40];
            packet[1] = 96;
            packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
            packet
        };
        let admitted = (0..100_000).filter(|ssrc| protection.admits(&media(*ssrc)));
        assert_eq!(admitted.count(), SSRCS);
        assert!(protection.admits(&media(7)));
    }

    #[test]
    fn a_peer_that_missed_the_last_flight_is_heard_for_a_while() {
        let protection = established();
        let flight = [
            record(HANDSHAKE, 0, b"key"),
            record(CHANGE_CIPHER_SPEC, 0, &[1]),
            record(HANDSHAKE, 1, b"finished"),
        ]
        .concat();
        for _ in 0..LATE_FLIGHTS {
            assert!(protection.admits(&flight));
        }
        assert!(!protection.admits(&flight));
        assert!(protection.admits(&record(APPLICATION_DATA, 1, b"data")));
        assert!(protection.admits(&record(ALERT, 1, b"sealed")));
    }
}
