use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use perpacket_webrtc::{
    Overrides, PacketClass, PeerCounters, Policy, ProbeError, Prober, Session, TapGuard,
    udp::MessageOptions,
};
use tokio::sync::{Semaphore, watch};
use webrtc::peer_connection::{RTCPeerConnection, peer_connection_state::RTCPeerConnectionState};

use super::{Capture, Recent, lock, user_agent};
use crate::{
    guard::Guarding,
    measurements::Measurements,
    model::{self, ClientState, Timestamp},
    reception::Reception,
    sessions::Followed,
};

/// How many streams of a client about itself there may be: it has one page, and an old one may not be gone yet.
const WATCHING: usize = 4;

/// A client that is connected, or about to be.
#[derive(Debug)]
pub(crate) struct LiveClient {
    pub(crate) id: Arc<str>,
    pub(crate) since: Timestamp,
    pub(crate) session: Session,
    pub(crate) capture: Arc<Capture>,
    pub(crate) reception: Arc<Reception>,
    pub(crate) guarding: Guarding,
    pub(crate) measurements: Measurements,
    pub(crate) recent: Recent,
    /// Room for streams of what it may see of itself.
    pub(crate) watching: Arc<Semaphore>,
    server: Arc<str>,
    policy: Policy,
    client: Option<IpAddr>,
    user_agent: Option<String>,
    state: watch::Receiver<RTCPeerConnectionState>,
    connection: Weak<RTCPeerConnection>,
    /// One for all that is asked of the path.
    prober: Mutex<Option<Arc<Prober>>>,
    /// Held by whoever makes it.
    making: tokio::sync::Mutex<()>,
    seen: Mutex<Seen>,
    ended: AtomicBool,
    _tap: TapGuard,
}

/// What was found out about a client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) pair: Option<model::Pair>,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) verdict: model::Verdict,
    pub(crate) sample: Option<model::Sample>,
    pub(crate) path_mtu: Option<model::PathMtuView>,
    /// It is large, and looked at far less often than the rest.
    pub(crate) trace: Option<Arc<serde_json::Value>>,
    pub(crate) trace_at: Option<Timestamp>,
    /// The smallest TTL that reaches it.
    pub(crate) hops: Option<u8>,
    /// The name of the result that it shares.
    pub(crate) shared: Option<String>,
}

impl LiveClient {
    pub(crate) fn new(server: &Arc<str>, policy: &Policy, followed: Followed) -> Self {
        let Followed {
            id,
            client,
            user_agent,
            since,
            session,
            state,
            connection,
            reception,
            ..
        } = followed;
        let capture = Arc::new(Capture::default());
        Self {
            id: id.as_str().into(),
            since: since.into(),
            _tap: session.tap(Arc::clone(&capture) as _),
            session,
            capture,
            reception,
            guarding: Guarding::default(),
            measurements: Measurements::default(),
            recent: Recent::default(),
            watching: Arc::new(Semaphore::new(WATCHING)),
            server: Arc::clone(server),
            policy: policy.clone(),
            client,
            user_agent,
            state,
            connection,
            prober: Mutex::default(),
            making: tokio::sync::Mutex::default(),
            seen: Mutex::default(),
            ended: AtomicBool::new(false),
        }
    }

    pub(crate) fn state(&self) -> ClientState {
        if self.has_ended() {
            return ClientState::Closed;
        }
        (*self.state.borrow()).into()
    }

    /// Whether nothing can be asked of it, or changed, any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    /// Forgets what keeps its connection, and stops what is under way.
    pub(crate) async fn end(&self) {
        self.ended.store(true, Relaxed);
        self.guarding.end();
        self.measurements.end().await;
        *lock(&self.prober) = None;
    }

    pub(crate) fn connection(&self) -> Option<Arc<RTCPeerConnection>> {
        self.connection.upgrade()
    }

    /// What asks its path, once it was [made](Self::make_prober).
    pub(crate) fn prober(&self) -> Option<Arc<Prober>> {
        lock(&self.prober).clone()
    }

    /// The same, made when it is first wanted. How long that takes is up to the client, see [`Prober::new`]: nothing
    /// that others rely on may wait for it.
    pub(crate) async fn make_prober(&self) -> Result<Arc<Prober>, ProbeError> {
        let _alone = self.making.lock().await;
        if let Some(prober) = self.prober() {
            return Ok(prober);
        }
        let connection = self.connection().ok_or(ProbeError::NotConnected)?;
        let new = Arc::new(Prober::new(&self.session, &connection).await?);
        let mut prober = lock(&self.prober);
        if self.has_ended() {
            return Err(ProbeError::NotConnected);
        }
        *prober = Some(Arc::clone(&new));
        Ok(new)
    }

    pub(crate) fn seen(&self) -> Seen {
        self.lock_seen().clone()
    }

    pub(crate) fn change_seen<R>(&self, change: impl FnOnce(&mut Seen) -> R) -> R {
        change(&mut self.lock_seen())
    }

    fn lock_seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    /// What a packet of a class gets, where the session has these options of its own.
    pub(crate) fn resolve(&self, overrides: &Overrides, class: PacketClass) -> MessageOptions {
        // Nothing is set for an address that is none.
        let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
        let peer = self.lock_seen().remote.unwrap_or(nobody);
        self.policy.resolve_in_session(peer, class, overrides)
    }

    /// What was counted between this server and the address that media goes to.
    pub(crate) fn counters(&self) -> PeerCounters {
        let remote = self.lock_seen().remote;
        let of_remote = remote.and_then(|remote| {
            let peers = self.session.peers();
            peers.into_iter().find(|(peer, _)| *peer == remote)
        });
        of_remote.map_or_else(|| self.session.total(), |(_, counters)| counters)
    }

    pub(crate) fn options(&self) -> model::OptionsView {
        model::OptionsView {
            asked: (&self.session.options()).into(),
            applied: (&self.counters()).into(),
            guard: self.guarding.view(),
        }
    }

    /// All there is to say of it.
    pub(crate) fn view(&self) -> model::Client {
        let seen = self.seen();
        let options = self.options();
        model::Client {
            id: self.id.to_string(),
            server: self.server.to_string(),
            name: self.user_agent.as_deref().and_then(user_agent::name),
            user_agent: self.user_agent.clone(),
            since: self.since,
            ended: None,
            state: self.state(),
            client: self.client,
            pair: seen.pair,
            verdict: seen.verdict,
            sample: seen.sample,
            asked: options.asked,
            applied: options.applied,
            path_mtu: seen.path_mtu,
            trace: seen.trace.map(Arc::unwrap_or_clone),
            trace_at: seen.trace_at,
            guard: options.guard,
            measurements: self.measurements.list(),
        }
    }

    /// What it may see of itself.
    pub(crate) fn self_view(&self) -> model::SelfView {
        let seen = self.seen();
        let sample = seen.sample.as_ref();
        model::SelfView {
            state: self.state(),
            verdict: seen.verdict,
            rtt_ms: sample.and_then(|sample| sample.rtt_ms),
            loss: sample.and_then(|sample| sample.loss),
            path_mtu: seen.path_mtu.map(|mtu| mtu.mtu),
            hops: seen.hops,
            shared: seen.shared.map(|share| format!("/r/{share}")),
            at: sample.map_or_else(Timestamp::now, |sample| sample.at),
            server: self.server.to_string(),
        }
    }
}
