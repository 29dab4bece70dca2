use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use perpacket_udp::{IcmpError, IcmpErrorKind, RecvMeta, Tos};
use stun::attributes::ATTR_ERROR_CODE;
use tokio::sync::oneshot;

use super::Attribution;
use crate::{
    StunClass, StunHeader, StunMethod, Tap,
    classify::stun_attribute,
    mux::{has_integrity, mapped_address},
    policy::key,
};

/// How many probes are remembered, so that late answers do not get through to ICE, and for how long: later than that
/// nothing comes any more, and a session may be probed for days.
const REMEMBERED: usize = 8192;
const LATE: Duration = Duration::from_mins(1);

/// Where the transaction id stands in a STUN message (RFC 8489 §5).
const TRANSACTION_ID: std::ops::Range<usize> = 8..20;

type Id = [u8; 12];

/// Something came back.
#[derive(Debug)]
pub(super) struct Arrival {
    /// By the kernel's clock, where it says so.
    pub(super) stamped: Option<SystemTime>,
    pub(super) seen: Instant,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Answer {
        ttl: Option<u8>,
        tos: Option<Tos>,
        error_code: Option<u16>,
        mapped: Option<SocketAddr>,
    },
    Icmp(IcmpError, Attribution),
}

/// The probes that are out.
#[derive(Debug)]
pub(super) struct Pending {
    probes: Mutex<Probes>,
    /// Who has to answer, and the password that the answer is signed with.
    peer: ArcSwap<(SocketAddr, String)>,
    stray_icmp: AtomicU64,
}

#[derive(Debug, Default)]
struct Probes {
    /// `None` once something came back, or nobody waits for it any more.
    by_id: HashMap<Id, Option<oneshot::Sender<Arrival>>>,
    /// With the time when each was sent.
    oldest: VecDeque<(Id, Instant)>,
    in_flight: usize,
    /// What may be about the only probe that was out then.
    unproved: Option<(Id, Arrival)>,
}

impl Probes {
    fn take(&mut self, id: &Id) -> Option<oneshot::Sender<Arrival>> {
        let waiting = self.by_id.get_mut(id)?.take()?;
        self.in_flight -= 1;
        Some(waiting)
    }

    /// Forgets what is too old, and makes room for one more.
    fn forget(&mut self, now: Instant) {
        while let Some((id, sent)) = self.oldest.front().copied() {
            let waits = self.by_id.get(&id).is_some_and(Option::is_some);
            let is_late = !waits && now.saturating_duration_since(sent) > LATE;
            if !is_late && self.oldest.len() < REMEMBERED {
                break;
            }
            self.take(&id);
            self.by_id.remove(&id);
            self.oldest.pop_front();
        }
    }
}

/// Forgets a probe when nobody waits for it any more.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    pending: &'a Pending,
    id: Id,
}

impl Waiting<'_> {
    /// What the network said while no other probe was out.
    pub(super) fn unproved(&self) -> Option<Arrival> {
        let mut probes = self.pending.lock();
        probes
            .unproved
            .take_if(|(id, _)| *id == self.id)
            .map(|(_, arrival)| arrival)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.pending.lock().take(&self.id);
    }
}

impl Pending {
    pub(super) fn new(peer: SocketAddr, password: &str) -> Self {
        Self {
            probes: Mutex::default(),
            peer: ArcSwap::from_pointee((key(peer), password.to_owned())),
            stray_icmp: AtomicU64::new(0),
        }
    }

    /// Another peer has to answer from now on.
    pub(super) fn set_peer(&self, peer: SocketAddr, password: &str) {
        let peer = (key(peer), password.to_owned());
        self.peer.store(peer.into());
    }

    pub(super) fn stray_icmp(&self) -> u64 {
        self.stray_icmp.load(Relaxed)
    }

    pub(super) fn wait_for(&self, id: Id) -> (Waiting<'_>, oneshot::Receiver<Arrival>) {
        let (waiting, arrival) = oneshot::channel();
        let mut probes = self.lock();
        let now = Instant::now();
        probes.forget(now);
        probes.by_id.insert(id, Some(waiting));
        probes.oldest.push_back((id, now));
        probes.in_flight += 1;
        (Waiting { pending: self, id }, arrival)
    }

    fn lock(&self) -> MutexGuard<'_, Probes> {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the network says of a datagram of the session's socket.
    pub(super) fn complained(&self, error: &IcmpError) {
        // What this host refuses fails the send, which has told already.
        if error.kind == IcmpErrorKind::LocalTooBig || key(error.destination) != self.peer.load().0
        {
            return;
        }
        let id: Option<Id> = error
            .payload
            .get(TRANSACTION_ID)
            .and_then(|id| id.try_into().ok());
        let arrival = |attribution| Arrival {
            stamped: Some(error.at),
            seen: Instant::now(),
            what: What::Icmp(error.clone(), attribution),
        };
        let mut probes = self.lock();
        match id {
            Some(id) if probes.by_id.contains_key(&id) => {
                if let Some(waiting) = probes.take(&id) {
                    // An error says that nobody waits any more.
                    let _ = waiting.send(arrival(Attribution::TransactionId));
                }
            }
            // The probe goes on waiting: anyone can say this, but only the peer can answer.
            None if probes.in_flight == 1 => {
                let only = probes.by_id.iter().find(|(_, waiting)| waiting.is_some());
                let only = only.map(|(id, _)| *id);
                probes.unproved = only.map(|id| (id, arrival(Attribution::OneInFlight)));
            }
            _ => {
                self.stray_icmp.fetch_add(1, Relaxed);
            }
        }
    }
}

impl Tap for Pending {
    fn claim(&self, datagram: &[u8], meta: &RecvMeta) -> bool {
        if !matches!(datagram.first(), Some(0..=3)) {
            return false;
        }
        let Some(header) = StunHeader::parse(datagram) else {
            return false;
        };
        let is_error = match header.class {
            StunClass::SuccessResponse => false,
            StunClass::ErrorResponse => true,
            StunClass::Request | StunClass::Indication => return false,
        };
        if header.method != StunMethod::BINDING
            || !self.lock().by_id.contains_key(&header.transaction_id)
        {
            return false;
        }
        let peer = self.peer.load();
        // Errors may have no integrity (RFC 8489 §9.1.4); nobody off the path can know the id.
        let is_genuine =
            peer.0 == key(meta.source) && (is_error || has_integrity(datagram, &peer.1));
        if is_genuine && let Some(waiting) = self.lock().take(&header.transaction_id) {
            // An error says that nobody waits any more.
            let _ = waiting.send(Arrival {
                stamped: meta.timestamp,
                seen: Instant::now(),
                what: What::Answer {
                    ttl: meta.ttl,
                    tos: meta.tos,
                    error_code: is_error.then(|| error_code(datagram)).flatten(),
                    mapped: mapped_address(datagram),
                },
            });
        }
        true
    }
}

/// RFC 8489 §14.8.
fn error_code(datagram: &[u8]) -> Option<u16> {
    let value = stun_attribute(datagram, ATTR_ERROR_CODE.value())?;
    let [_, _, class, number, ..] = *value else {
        return None;
    };
    Some(u16::from(class & 7) * 100 + u16::from(number))
}

#[cfg(test)]
mod tests {
    use stun::{
        agent::TransactionId,
        error_code::ErrorCodeAttribute,
        integrity::MessageIntegrity,
        message::{BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, Message, MessageType},
    };

    use super::*;

    const PEER: SocketAddr = SocketAddr::new(
        std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
        5000,
    );

    fn message(kind: MessageType, id: Id, password: Option<&str>) -> Vec<u8> {
        let mut message = Message::new();
        message
            .build(&[Box::new(kind), Box::new(TransactionId(id))])
            .expect("built");
        if kind == BINDING_ERROR {
            let code = ErrorCodeAttribute {
                code: stun::error_code::CODE_ROLE_CONFLICT,
                reason: b"no".to_vec(),
            };
            message
                .build(&[Box::new(kind), Box::new(TransactionId(id)), Box::new(code)])
                .expect("built");
        }
        if let Some(password) = password {
            use stun::message::Setter as _;
            MessageIntegrity::new_short_term_integrity(password.to_owned())
                .add_to(&mut message)
                .expect("signed");
        }
        message.raw
    }

    /// A received datagram's metadata can come from a socket only.
    async fn meta(source: &perpacket_udp::UdpSocket) -> RecvMeta {
        let itself = source.local_addr();
        let options = perpacket_udp::MessageOptions::NONE;
        source.send_to(b"x", itself, &options).await.expect("sent");
        source.recv_from(&mut [0; 10]).await.expect("received")
    }

    async fn socket() -> (perpacket_udp::UdpSocket, RecvMeta) {
        let socket = perpacket_udp::UdpSocket::bind(([127, 0, 0, 1], 0).into()).expect("a socket");
        let meta = meta(&socket).await;
        (socket, meta)
    }

    #[tokio::test]
    async fn answers_are_claimed_once_and_believed_with_integrity_only() {
        let (socket, meta) = socket().await;
        let pending = Pending::new(socket.local_addr(), "secret");
        let (_waiting, mut arrival) = pending.wait_for([1; 12]);
        let forged = message(BINDING_SUCCESS, [1; 12], Some("guess"));
        assert!(pending.claim(&forged, &meta), "ICE has not asked this");
        assert!(arrival.try_recv().is_err(), "and is not believed");
        let right = message(BINDING_SUCCESS, [1; 12], Some("secret"));
        assert!(pending.claim(&right, &meta));
        assert!(matches!(
            arrival.try_recv().expect("an answer").what,
            What::Answer {
                error_code: None,
                ..
            }
        ));
        assert!(pending.claim(&right, &meta), "a duplicate is not for ICE");

        let other = message(BINDING_SUCCESS, [2; 12], Some("secret"));
        assert!(!pending.claim(&other, &meta), "of ICE itself");
        let request = message(BINDING_REQUEST, [1; 12], Some("secret"));
        assert!(!pending.claim(&request, &meta));
        assert!(!pending.claim(b"", &meta));
    }

    #[tokio::test]
    async fn an_error_response_is_proof_of_delivery() {
        let (socket, meta) = socket().await;
        let pending = Pending::new(socket.local_addr(), "secret");
        let (_waiting, mut arrival) = pending.wait_for([1; 12]);
        assert!(pending.claim(&message(BINDING_ERROR, [1; 12], None), &meta));
        assert!(matches!(
            arrival.try_recv().expect("an answer").what,
            What::Answer {
                error_code: Some(487),
                ..
            }
        ));
    }

    #[tokio::test]
    async fn answers_from_elsewhere_are_not_believed() {
        let (_socket, meta) = socket().await;
        let pending = Pending::new(PEER, "secret");
        let (_waiting, mut arrival) = pending.wait_for([1; 12]);
        let right = message(BINDING_SUCCESS, [1; 12], Some("secret"));
        assert!(pending.claim(&right, &meta));
        assert!(arrival.try_recv().is_err());
    }

    #[test]
    fn nobody_waits_for_what_was_dropped() {
        let pending = Pending::new(PEER, "secret");
        let (waiting, _arrival) = pending.wait_for([1; 12]);
        assert_eq!(pending.lock().in_flight, 1);
        drop(waiting);
        assert_eq!(pending.lock().in_flight, 0);
        for number in 0..=REMEMBERED {
            let mut id = [0; 12];
            id[..8].copy_from_slice(&number.to_be_bytes());
            drop(pending.wait_for(id));
        }
        assert_eq!(pending.lock().by_id.len(), REMEMBERED);
        assert_eq!(pending.lock().in_flight, 0);
    }

    #[test]
    fn what_was_sent_long_ago_is_forgotten_unless_somebody_waits() {
        let pending = Pending::new(PEER, "secret");
        drop(pending.wait_for([1; 12]));
        let (_waiting, _arrival) = pending.wait_for([2; 12]);
        drop(pending.wait_for([3; 12]));
        let mut probes = pending.lock();
        probes.forget(Instant::now());
        assert_eq!(probes.by_id.len(), 3);
        probes.forget(Instant::now() + LATE + Duration::from_secs(1));
        assert!(!probes.by_id.contains_key(&[1; 12]));
        assert_eq!((probes.by_id.len(), probes.in_flight), (2, 1));
    }
}
