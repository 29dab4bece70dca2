//! The newest packets of a client, as far as their headers go.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{
        Mutex, PoisonError, TryLockError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};

use perpacket_webrtc::{Sent, SentHeader, Tap, udp::RecvMeta};

/// How many packets are kept of a client: some ten seconds of a call.
pub(crate) const PACKETS: usize = 1_024;

/// How much of a packet's payload is kept, bytes: the headers of STUN, DTLS and RTP with its extensions, nothing that
/// anybody has said.
const PAYLOAD: usize = 48;

/// A packet that went or came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    pub(crate) at: SystemTime,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) header: SentHeader,
    /// Of the payload of UDP, bytes.
    pub(crate) length: usize,
    start: [u8; PAYLOAD],
}

impl Packet {
    pub(crate) fn new(
        source: SocketAddr,
        destination: SocketAddr,
        header: SentHeader,
        payload: &[u8],
    ) -> Self {
        let mut start = [0; PAYLOAD];
        let kept = payload.len().min(PAYLOAD);
        start[..kept].copy_from_slice(&payload[..kept]);
        Self {
            at: SystemTime::now(),
            source,
            destination,
            header,
            length: payload.len(),
            start,
        }
    }

    /// The beginning of the payload.
    pub(crate) fn start(&self) -> &[u8] {
        &self.start[..self.length.min(PAYLOAD)]
    }
}

/// Sees all packets of a session. It takes no part in them: where two come at one time, it may miss one rather than
/// have it wait.
#[derive(Debug, Default)]
pub(crate) struct Capture {
    packets: Mutex<VecDeque<Packet>>,
    missed: AtomicU64,
    /// Where packets arrive that do not say so themselves.
    local: Mutex<Option<SocketAddr>>,
}

impl Capture {
    /// The packets, the oldest first.
    pub(crate) fn packets(&self) -> Vec<Packet> {
        let packets = self.packets.lock().unwrap_or_else(PoisonError::into_inner);
        packets.iter().copied().collect()
    }

    /// How many packets were not kept, because another one was just being kept.
    pub(crate) fn missed(&self) -> u64 {
        self.missed.load(Relaxed)
    }

    /// Says what the address of this side is.
    pub(crate) fn set_local(&self, local: SocketAddr) {
        *self.local.lock().unwrap_or_else(PoisonError::into_inner) = Some(local);
    }

    fn keep(&self, packet: Packet) {
        let mut packets = match self.packets.try_lock() {
            Ok(packets) => packets,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.missed.fetch_add(1, Relaxed);
                return;
            }
        };
        if packets.len() == PACKETS {
            packets.pop_front();
        }
        packets.push_back(packet);
    }

    fn local(&self, ip: Option<IpAddr>, like: SocketAddr) -> SocketAddr {
        let known = self.local.try_lock().ok().and_then(|local| *local);
        let port = known.map_or(0, |local| local.port());
        let unspecified = || match like.ip().to_canonical() {
            IpAddr::V4(_) => IpAddr::from([0; 4]),
            IpAddr::V6(_) => IpAddr::from([0; 16]),
        };
        let ip = ip
            .or(known.map(|local| local.ip()))
            .unwrap_or_else(unspecified);
        SocketAddr::new(ip, port)
    }
}

impl Tap for Capture {
    fn claim(&self, datagram: &[u8], meta: &RecvMeta) -> bool {
        let mut header = SentHeader::default();
        (header.ttl, header.tos) = (meta.ttl, meta.tos);
        let local = self.local(meta.destination, meta.source);
        self.keep(Packet::new(meta.source, local, header, datagram));
        false
    }

    fn sent(&self, datagram: &[u8], sent: &Sent) {
        let is_known = !sent.local.ip().is_unspecified();
        let ip = sent.source.or(is_known.then(|| sent.local.ip()));
        let mut source = self.local(ip, sent.destination);
        source.set_port(sent.local.port());
        self.keep(Packet::new(source, sent.destination, sent.header, datagram));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    #[test]
    fn it_keeps_the_newest_and_no_more_than_their_beginning() {
        let capture = Capture::default();
        for number in 0..PACKETS + 3 {
            let payload = vec![number.to_le_bytes()[0]; number];
            let header = SentHeader::default();
            capture.keep(Packet::new(address(1), address(2), header, &payload));
        }
        let packets = capture.packets();
        assert_eq!(packets.len(), PACKETS);
        assert_eq!(packets[0].length, 3);
        assert_eq!(packets[0].start(), [3; 3]);
        assert_eq!(packets[PACKETS - 1].start().len(), PAYLOAD);
        assert_eq!(capture.missed(), 0);
    }

    #[test]
    fn it_never_waits() {
        let capture = Capture::default();
        let held = capture.packets.lock().unwrap();
        capture.keep(Packet::new(
            address(1),
            address(2),
            SentHeader::default(),
            &[],
        ));
        drop(held);
        assert_eq!((capture.packets().len(), capture.missed()), (0, 1));
    }

    #[test]
    fn an_address_that_a_packet_does_not_name_is_the_known_one() {
        let capture = Capture::default();
        assert!(capture.local(None, address(5)).ip().is_unspecified());
        capture.set_local(address(5000));
        assert_eq!(capture.local(None, address(5)), address(5000));
        let other = IpAddr::from([192, 0, 2, 9]);
        assert_eq!(capture.local(Some(other), address(5)).ip(), other);
    }
}
