use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwapOption;
use perpacket_udp::prefetch;

use super::{
    AddressFamily,
    queue::{Queue, Queues},
};
use crate::port::Port;

/// How many checks of one flow can wait for their answer, in each direction.
const CHECKS: usize = 128;

/// How many addresses of its peer a flow can have. ICE rarely sees more than a handful.
pub(super) const ADDRESSES: usize = 32;

/// Bytes of what each datagram needs of a flow, and from the counts of references to there.
const HOT: usize = std::mem::offset_of!(Flow, ufrag);
const COUNTS: usize = 2 * size_of::<usize>();

pub(super) type TransactionId = [u8; 12];

/// What one peer connection has of the mux, from when ICE gathers until it restarts or ends: one
/// username fragment.
///
/// What each datagram needs comes first, on as few cache lines as it takes.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Flow {
    pub(super) queue: Queue,
    pub(super) port: Arc<Port>,
    /// The only family it is served with, if it is so.
    pub(super) family: Option<AddressFamily>,
    pub(super) ufrag: Arc<str>,
    /// Whether an address has ever belonged to it.
    proved: AtomicBool,
    password: ArcSwapOption<String>,
    /// Inbound checks that the peer connection has not answered.
    checks: Mutex<VecDeque<Check>>,
    /// Its own checks that nobody has answered.
    asked: Mutex<VecDeque<TransactionId>>,
    /// The addresses that belong to it.
    pub(super) addresses: Mutex<Vec<SocketAddr>>,
}

/// A connectivity check that came in.
#[derive(Clone, Debug)]
pub(super) struct Check {
    /// Who sent it, as its peer connection knows it.
    pub(super) source: SocketAddr,
    /// The same as the kernel names it.
    pub(super) address: SocketAddr,
    pub(super) transaction_id: TransactionId,
    /// Whether it has USE-CANDIDATE (RFC 8445 §7.1.2).
    pub(super) nominates: bool,
    pub(super) via: Via,
}

/// Where a datagram came in, and so where what answers it goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Via {
    /// The socket, by its place among the mux's.
    pub(super) socket: usize,
    /// On a wildcard socket: the address of this host that was addressed.
    pub(super) local: Option<IpAddr>,
}

impl Flow {
    pub(super) fn new(
        ufrag: &str,
        family: Option<AddressFamily>,
        port: Arc<Port>,
        queues: Arc<Queues>,
    ) -> Self {
        Self {
            ufrag: ufrag.into(),
            family,
            port,
            queue: Queue::new(queues),
            proved: AtomicBool::new(false),
            password: ArcSwapOption::empty(),
            checks: Mutex::default(),
            asked: Mutex::default(),
            addresses: Mutex::default(),
        }
    }

    /// Asks for what each datagram needs, and the counts of references, which lie before it.
    #[inline]
    pub(super) fn prefetch(self: &Arc<Self>) {
        let flow = Arc::as_ptr(self).addr();
        prefetch(flow.wrapping_sub(COUNTS), COUNTS + HOT);
    }

    pub(super) fn serves(&self, address: IpAddr) -> bool {
        self.family.is_none_or(|family| family.is_of(address))
    }

    pub(super) fn set_password(&self, password: &str) {
        self.password.store(Some(Arc::new(password.to_owned())));
    }

    pub(super) fn password(&self) -> Option<Arc<String>> {
        self.password.load_full()
    }

    /// Remembers a check, so that the answer tells that the peer connection has accepted it.
    pub(super) fn checked(&self, check: Check) {
        let mut checks = lock(&self.checks);
        if checks.len() == CHECKS {
            checks.pop_front();
        }
        checks.push_back(check);
    }

    /// The check that an answer of this transaction to that address answers.
    pub(super) fn answered(&self, target: SocketAddr, id: &TransactionId) -> Option<Check> {
        let mut checks = lock(&self.checks);
        let of_this = |check: &Check| check.transaction_id == *id && check.source == target;
        let at = checks.iter().position(of_this)?;
        checks.remove(at)
    }

    /// Remembers a check of its own, and names one that is forgotten in its place.
    pub(super) fn asks(&self, id: TransactionId) -> Option<TransactionId> {
        let mut asked = lock(&self.asked);
        let forgotten = (asked.len() == CHECKS).then(|| asked.pop_front()).flatten();
        asked.push_back(id);
        forgotten
    }

    pub(super) fn got_answer(&self, id: &TransactionId) {
        lock(&self.asked).retain(|asked| asked != id);
    }

    /// All its own checks that nobody has answered; they are forgotten.
    pub(super) fn take_asked(&self) -> VecDeque<TransactionId> {
        std::mem::take(&mut lock(&self.asked))
    }

    pub(super) fn is_proved(&self) -> bool {
        self.proved.load(Relaxed)
    }

    pub(super) fn set_proved(&self) {
        self.proved.store(true, Relaxed);
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
