//! Whose a datagram is: by the username of a check, by the transaction of an answer, and for all
//! else by the address that it comes from.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use tokio::{sync::oneshot, time::Instant};

use super::{
    conn::MuxConn,
    flow::{ADDRESSES, Flow, TransactionId, Via, lock},
};
use crate::policy::PeerKey;

/// How long an address stays with its flow after the last check that proved it: as long as consent
/// lasts (RFC 7675 §5.1).
const CONSENT: Duration = Duration::from_secs(30);

/// How long a peer that is alive says nothing at most: it checks every five seconds, more or less
/// (RFC 7675 §5.1).
const SILENCE: Duration = Duration::from_secs(8);

/// How many passwords are kept for connections that do not exist yet.
const CREDENTIALS: usize = 64;

#[derive(Debug)]
pub(super) struct Routes {
    flows: Mutex<HashMap<Arc<str>, Entry>>,
    /// Only addresses that were proved are in it, so nobody can fill it with those that collide.
    addresses: papaya::HashMap<SocketAddr, Arc<Binding>, RandomState>,
    /// Whose each of them is. It is apart from what else is known of them, so that who looks for many at a time
    /// reads no more memory than it has to. Whoever changes it holds the lock on the flows.
    owners: RwLock<Owners>,
    /// How often that has changed.
    changes: AtomicU64,
    transactions: Mutex<HashMap<TransactionId, Asked>>,
    /// Username fragments and passwords that were learnt before their connection was made.
    credentials: Mutex<VecDeque<(String, String)>>,
    started: Instant,
}

/// Flows by their peers' addresses.
pub(super) type Owners = HashMap<PeerKey, Arc<Flow>, RandomState>;

#[derive(Debug)]
struct Entry {
    flow: Arc<Flow>,
    conn: Weak<MuxConn>,
}

/// What is known of an address of a peer.
#[derive(Debug)]
struct Binding {
    /// As the kernel names it, with the scope of a link-local address.
    address: SocketAddr,
    via: ArcSwap<Via>,
    /// When a check or an answer last proved it, in milliseconds since the mux began.
    proved: AtomicU64,
    /// When an answer last proved it, or [`NEVER`].
    answered: AtomicU64,
}

const NEVER: u64 = u64::MAX;

/// What shows that the peer of a flow is at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// A check with the right integrity. Whoever has a flow of its own can send that in the name of
    /// any address.
    Check { nominates: bool },
    /// The answer to a check of the flow's own: whoever gave it can also read there.
    Answer,
}

/// A request that was sent, and not yet answered.
#[derive(Debug)]
struct Asked {
    target: SocketAddr,
    by: Asker,
}

#[derive(Debug)]
pub(super) enum Asker {
    Flow(Arc<Flow>),
    /// The mux itself asks for its address: who waits for the whole answer.
    Discovery(oneshot::Sender<Vec<u8>>),
}

/// An address belongs to another flow that is alive.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken;

impl Binding {
    fn renew(&self, now: u64, via: Via, proof: Proof) {
        self.proved.store(now, Relaxed);
        match proof {
            Proof::Answer => self.answered.store(now, Relaxed),
            Proof::Check { nominates } => {
                if nominates && **self.via.load() != via {
                    self.via.store(Arc::new(via));
                }
            }
        }
    }

    /// Whether its owner yields to another flow.
    fn yields_to(&self, owner: &Flow, flow: &Flow, now: u64, proof: Proof) -> bool {
        let within = |at: u64, time| at != NEVER && now.saturating_sub(at) < millis(time);
        let proved = self.proved.load(Relaxed);
        let of_one_session = match (&owner.port.session, &flow.port.session) {
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
            _ => false,
        };
        of_one_session
            || !within(proved, CONSENT)
            || proof == Proof::Answer
                && (!within(proved, SILENCE) || !within(self.answered.load(Relaxed), CONSENT))
    }
}

impl Routes {
    pub(super) fn new() -> Self {
        Self {
            flows: Mutex::default(),
            addresses: papaya::HashMap::builder()
                .hasher(RandomState::default())
                .resize_mode(papaya::ResizeMode::Blocking)
                .build(),
            owners: RwLock::default(),
            changes: AtomicU64::new(0),
            transactions: Mutex::default(),
            credentials: Mutex::default(),
            started: Instant::now(),
        }
    }

    /// The connection of that username fragment, made by `make` if there is none.
    pub(super) fn conn(
        &self,
        ufrag: &str,
        make: impl FnOnce() -> (Arc<Flow>, Arc<MuxConn>),
    ) -> Arc<MuxConn> {
        let mut flows = lock(&self.flows);
        let known = flows.get(ufrag).and_then(|entry| entry.conn.upgrade());
        if let Some(conn) = known {
            return conn;
        }
        let (flow, conn) = make();
        let mut credentials = lock(&self.credentials);
        if let Some(at) = credentials.iter().position(|(known, _)| known == ufrag)
            && let Some((_, password)) = credentials.remove(at)
        {
            flow.set_password(&password);
        }
        drop(credentials);
        let entry = Entry {
            flow: Arc::clone(&flow),
            conn: Arc::downgrade(&conn),
        };
        // The last handle of another is just being dropped, and will find this one in its place.
        if let Some(old) = flows.insert(Arc::clone(&flow.ufrag), entry) {
            self.shut(&old.flow);
        }
        conn
    }

    /// Remembers the password of a connection, which may be made later.
    pub(super) fn learn(&self, ufrag: &str, password: &str) {
        let flows = lock(&self.flows);
        if let Some(entry) = flows.get(ufrag) {
            return entry.flow.set_password(password);
        }
        // With the lock on the flows, so that it is not made meanwhile.
        let mut credentials = lock(&self.credentials);
        credentials.retain(|(known, _)| known != ufrag);
        if credentials.len() == CREDENTIALS {
            credentials.pop_front();
        }
        credentials.push_back((ufrag.to_owned(), password.to_owned()));
    }

    pub(super) fn flow(&self, ufrag: &str) -> Option<Arc<Flow>> {
        lock(&self.flows)
            .get(ufrag)
            .map(|entry| Arc::clone(&entry.flow))
    }

    /// The flow that an address belongs to.
    pub(super) fn owner(&self, address: SocketAddr) -> Option<Arc<Flow>> {
        self.owners().get(&address.into()).map(Arc::clone)
    }

    /// How often it has changed whose an address is.
    #[inline]
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Acquire)
    }

    /// Whose addresses are: not to be held while anything is done that could wait, or call what is not ours.
    pub(super) fn owners(&self) -> RwLockReadGuard<'_, Owners> {
        self.owners.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whose an address is, or that it is nobody's: whose it was. To be called with the lock on the flows.
    fn set_owner(&self, address: SocketAddr, owner: Option<&Arc<Flow>>) -> Option<Arc<Flow>> {
        let mut owners = self.owners.write().unwrap_or_else(PoisonError::into_inner);
        self.changes.fetch_add(1, Release);
        match owner {
            Some(owner) => owners.insert(address.into(), Arc::clone(owner)),
            None => owners.remove(&address.into()),
        }
    }

    /// Whether an address belongs to that flow.
    pub(super) fn belongs_to(&self, address: SocketAddr, flow: &Arc<Flow>) -> bool {
        let owners = self.owners();
        let owner = owners.get(&address.into());
        owner.is_some_and(|owner| Arc::ptr_eq(owner, flow))
    }

    /// From where to send to an address that something came from, and its full name.
    #[inline]
    pub(super) fn towards(&self, address: SocketAddr) -> Option<(Via, SocketAddr)> {
        let addresses = self.addresses.pin();
        let binding = addresses.get(&address)?;
        Some((**binding.via.load(), binding.address))
    }

    /// Gives an address to a flow.
    ///
    /// It stays with another that has proved it within the time of consent, so that nobody can take
    /// over an address whose owner is alive by sending in its name; but to one who got an answer there
    /// an owner yields who never did, or who is silent for longer than peers are.
    pub(super) fn bind(
        &self,
        flow: &Arc<Flow>,
        key: SocketAddr,
        address: SocketAddr,
        via: Via,
        proof: Proof,
    ) -> Result<(), Taken> {
        let now = self.now();
        let addresses = self.addresses.pin();
        // If it goes to another now, this renews what is forgotten.
        if let Some(binding) = addresses.get(&key)
            && self.belongs_to(key, flow)
        {
            binding.renew(now, via, proof);
            return Ok(());
        }
        // Whoever changes what belongs to whom holds this lock.
        let flows = lock(&self.flows);
        if let Some(binding) = addresses.get(&key)
            && let Some(owner) = self.owner(key)
        {
            // Another socket's reader was faster.
            if Arc::ptr_eq(&owner, flow) {
                binding.renew(now, via, proof);
                return Ok(());
            }
            if !binding.yields_to(&owner, flow, now, proof) {
                return Err(Taken);
            }
        }
        if flow.queue.is_closed() {
            return Ok(());
        }
        let binding = Arc::new(Binding {
            address,
            via: ArcSwap::from_pointee(via),
            proved: now.into(),
            answered: AtomicU64::new(if proof == Proof::Answer { now } else { NEVER }),
        });
        addresses.insert(key, binding);
        if let Some(loser) = self.set_owner(key, Some(flow)) {
            lock(&loser.addresses).retain(|address| *address != key);
        }
        let mut of_flow = lock(&flow.addresses);
        if of_flow.len() == ADDRESSES {
            let proved = |key: &SocketAddr| {
                addresses
                    .get(key)
                    .map_or(0, |binding| binding.proved.load(Relaxed))
            };
            let oldest = (0..of_flow.len()).min_by_key(|at| proved(&of_flow[*at]));
            if let Some(oldest) = oldest {
                self.free(of_flow.swap_remove(oldest));
            }
        }
        of_flow.push(key);
        flow.set_proved();
        drop(of_flow);
        drop(flows);
        Ok(())
    }

    /// Forgets a flow, and all that leads to it.
    pub(super) fn remove(&self, flow: &Arc<Flow>) {
        let mut flows = lock(&self.flows);
        if flows
            .get(&flow.ufrag)
            .is_some_and(|entry| Arc::ptr_eq(&entry.flow, flow))
        {
            flows.remove(&flow.ufrag);
        }
        self.shut(flow);
        drop(flows);
        let mut transactions = lock(&self.transactions);
        for id in flow.take_asked() {
            transactions.remove(&id);
        }
    }

    /// Takes what a flow has away from it; to be called with the lock on the flows.
    fn shut(&self, flow: &Flow) {
        flow.queue.close();
        for address in std::mem::take(&mut *lock(&flow.addresses)) {
            self.free(address);
        }
    }

    fn free(&self, address: SocketAddr) {
        self.set_owner(address, None);
        self.addresses.pin().remove(&address);
    }

    /// Remembers whom the answer to a request is for, and from where it has to come.
    pub(super) fn asked(&self, id: TransactionId, target: SocketAddr, by: Asker) {
        let forgotten = match &by {
            Asker::Flow(flow) => flow.asks(id),
            Asker::Discovery(_) => None,
        };
        let mut transactions = lock(&self.transactions);
        if let Some(forgotten) = forgotten {
            transactions.remove(&forgotten);
        }
        transactions.insert(id, Asked { target, by });
    }

    /// Who asked what is answered from that address.
    pub(super) fn answer(&self, id: &TransactionId, source: SocketAddr) -> Option<Asker> {
        let mut transactions = lock(&self.transactions);
        if transactions.get(id)?.target != source {
            return None;
        }
        let by = transactions.remove(id)?.by;
        drop(transactions);
        if let Asker::Flow(flow) = &by {
            flow.got_answer(id);
        }
        Some(by)
    }

    /// Nobody waits for this answer any more.
    pub(super) fn forget_asked(&self, id: &TransactionId) {
        lock(&self.transactions).remove(id);
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        let flows: Vec<_> = lock(&self.flows)
            .values()
            .map(|entry| Arc::clone(&entry.flow))
            .collect();
        for flow in flows {
            self.remove(&flow);
        }
        lock(&self.transactions).clear();
    }

    /// How many flows, addresses and unanswered requests there are.
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        let flows = lock(&self.flows).len();
        let transactions = lock(&self.transactions).len();
        (flows, self.owners().len(), transactions)
    }

    fn now(&self) -> u64 {
        millis(self.started.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CustomNet;
    use crate::mux::queue::Queues;

    fn flow(net: &CustomNet, ufrag: &str) -> Arc<Flow> {
        let port = net.new_port(([127, 0, 0, 1], 1).into());
        Arc::new(Flow::new(ufrag, None, port, Queues::new(1000)))
    }

    /// RFC 7675 §5.1: consent expires 30 seconds after the last proof.
    #[test]
    fn an_address_is_free_when_consent_is_gone() {
        let net = CustomNet::new();
        let (owner, other) = (flow(&net, "owner"), flow(&net, "other"));
        let check = Proof::Check { nominates: true };
        let via = Via {
            socket: 0,
            local: None,
        };
        let binding = Binding {
            address: ([192, 0, 2, 1], 1).into(),
            via: ArcSwap::from_pointee(via),
            proved: AtomicU64::new(5_000),
            answered: AtomicU64::new(NEVER),
        };
        assert!(!binding.yields_to(&owner, &other, 34_999, check));
        assert!(binding.yields_to(&owner, &other, 35_000, check));
        assert!(
            binding.yields_to(&owner, &other, 6_000, Proof::Answer),
            "never answered"
        );

        binding.renew(7_000, via, Proof::Answer);
        assert!(!binding.yields_to(&owner, &other, 36_999, check));
        assert!(!binding.yields_to(&owner, &other, 14_999, Proof::Answer));
        assert!(
            binding.yields_to(&owner, &other, 15_000, Proof::Answer),
            "silent"
        );
        assert!(binding.yields_to(&owner, &other, 37_000, check));
    }
}
