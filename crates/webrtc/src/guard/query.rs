use std::{
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{same, walk};
use crate::{DropCause, StunClass, StunHeader, StunMethod};

/// RFC 8489 §6.2.1: the first wait for an answer, which doubles with every request; how many
/// requests there are at most; how many of the first waits follow the last of them.
const RTO: Duration = Duration::from_millis(500);
const RC: u32 = 7;
const RM: u32 = 16;

/// RFC 8489 §14.2.
const ATTR_XOR_MAPPED_ADDRESS: u16 = 0x0020;

const WAITING: u8 = 0;
const ANSWERED: u8 = 1;
const RELEASED: u8 = 2;

/// A Binding request to a STUN server, which the stack sends once and to which it takes the first
/// datagram that comes for the answer.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) server: SocketAddr,
    pub(crate) request: Box<[u8]>,
    transaction_id: [u8; 12],
    phase: AtomicU8,
    /// How many requests were sent, and when the next is due.
    sent: Mutex<(u32, Instant)>,
}

impl Query {
    pub(super) fn new(request: &[u8], server: SocketAddr, transaction_id: [u8; 12]) -> Self {
        Self {
            server,
            request: request.into(),
            transaction_id,
            phase: AtomicU8::new(WAITING),
            sent: Mutex::new((1, Instant::now() + RTO)),
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.phase.load(Relaxed) == WAITING
    }

    /// Whoever sends something else does not wait for the answer alone.
    pub(super) fn sending(&self, datagram: &[u8]) {
        if self.is_waiting() && *datagram != *self.request {
            self.leave_waiting(RELEASED);
        }
    }

    pub(super) fn refuses(&self, datagram: &[u8], source: SocketAddr) -> Option<DropCause> {
        match self.phase.load(Relaxed) {
            WAITING if !same(source, self.server) => Some(DropCause::Stranger),
            WAITING if !self.is_answered_by(datagram) => Some(DropCause::Unexpected),
            WAITING => {
                self.leave_waiting(ANSWERED);
                None
            }
            // A server answers every request of a transaction that was sent again.
            ANSWERED if same(source, self.server) && self.is_ours(datagram) => {
                Some(DropCause::Unexpected)
            }
            _ => None,
        }
    }

    /// When the request is to be sent again, or given up.
    pub(crate) fn due(&self) -> Instant {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    /// Goes on to the next wait. `false`: that was the last one.
    pub(crate) fn advance(&self) -> bool {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, due) = &mut *sent;
        if *count == RC {
            self.leave_waiting(RELEASED);
            return false;
        }
        *count += 1;
        let wait = if *count == RC { RM } else { 1 << (*count - 1) };
        *due = Instant::now() + RTO * wait;
        true
    }

    fn leave_waiting(&self, phase: u8) {
        // Fails where the answer has come, or something else was sent, at the same moment.
        let _ = self
            .phase
            .compare_exchange(WAITING, phase, Relaxed, Relaxed);
    }

    fn is_ours(&self, datagram: &[u8]) -> bool {
        StunHeader::parse(datagram).is_some_and(|header| {
            header.transaction_id == self.transaction_id
                && header.method == StunMethod::BINDING
                && matches!(
                    header.class,
                    StunClass::SuccessResponse | StunClass::ErrorResponse
                )
        })
    }

    /// Whether this is what the server has to say: the mapped address, or that there is none to be had.
    fn is_answered_by(&self, datagram: &[u8]) -> bool {
        let mut mapped = None;
        let is_whole = walk(datagram, |attribute, value| {
            if attribute == ATTR_XOR_MAPPED_ADDRESS {
                mapped.get_or_insert(value);
            }
        });
        let is_success =
            StunHeader::parse(datagram).is_some_and(|h| h.class == StunClass::SuccessResponse);
        self.is_ours(datagram) && is_whole && (!is_success || mapped.is_some_and(is_address))
    }
}

/// RFC 8489 §14.1, §14.2: family 1 with four bytes of address, or family 2 with sixteen, after the
/// port.
fn is_address(value: &[u8]) -> bool {
    matches!((value, value.len()), ([0, 1, ..], 8) | ([0, 2, ..], 20))
}
