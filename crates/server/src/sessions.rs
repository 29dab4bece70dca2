use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use perpacket_webrtc::{AddressFamily, Session, SessionId};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, timeout},
};
use webrtc::{
    api::setting_engine::SettingEngine,
    ice_transport::ice_server::RTCIceServer,
    peer_connection::{RTCPeerConnection, peer_connection_state::RTCPeerConnectionState},
};

use crate::{
    CreateError, Transport,
    admission::{Admission, Room},
    answer::without_end_of_candidates,
    connection::{Connection, has_ended},
    ids,
    offer::Offer,
    reception::Reception,
    tos_report::TosReport,
};

/// Peer connections that answer offers and echo what they receive: each from
/// [`create`](Self::create) until somebody closes it, the peer is gone, or it does not connect in time; or until the peer
/// opens more than 64 data channels, those that it has closed included.
///
/// Clones are the same sessions.
#[derive(Clone, Debug)]
pub struct Sessions {
    shared: Arc<Shared>,
}

/// How [`Sessions`] are to be made.
#[derive(Clone, Debug)]
pub struct SessionsBuilder {
    transport: Transport,
    bind: Option<IpAddr>,
    ice_servers: Vec<RTCIceServer>,
    limit: u32,
    limit_of_address: u32,
    connect_timeout: Duration,
    gather_timeout: Duration,
    silence_timeout: Duration,
}

/// What is known of an offer beside its text.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Hints {
    /// Where it came from.
    pub client: Option<IpAddr>,
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// The address family of a session on a mux; that of `client` if it is not said.
    pub family: Option<AddressFamily>,
}

impl Hints {
    fn family(&self) -> Option<AddressFamily> {
        let of = |client: IpAddr| {
            if client.to_canonical().is_ipv4() {
                AddressFamily::V4
            } else {
                AddressFamily::V6
            }
        };
        self.family.or(self.client.map(of))
    }
}

/// A session that has begun.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answered {
    /// Its name, 128 random bits in hexadecimal: who knows it may end the session.
    pub id: SessionId,
    /// The SDP answer, with all candidates in it.
    pub answer: String,
}

/// What is known of a session, for whoever follows it to its end.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) id: SessionId,
    pub(crate) client: Option<IpAddr>,
    pub(crate) user_agent: Option<String>,
    pub(crate) since: SystemTime,
    pub(crate) session: Session,
    pub(crate) state: watch::Receiver<RTCPeerConnectionState>,
    pub(crate) connection: Weak<RTCPeerConnection>,
    pub(crate) reception: Arc<Reception>,
    /// An error says that nothing is left of the session.
    pub(crate) gone: watch::Receiver<()>,
}

/// A session, as it was at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Its name.
    pub id: SessionId,
    /// Where its offer came from.
    pub client: Option<IpAddr>,
    /// How far it has come.
    pub state: RTCPeerConnectionState,
    /// How long ago it began.
    pub age: Duration,
    /// Its options and counters.
    pub session: Session,
}

#[derive(Debug)]
struct Shared {
    settings: SessionsBuilder,
    permits: Arc<Semaphore>,
    of_address: Admission,
    live: Mutex<Live>,
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Live {
    shutting_down: bool,
    entries: HashMap<SessionId, Entry>,
}

#[derive(Debug)]
struct Entry {
    client: Option<IpAddr>,
    user_agent: Option<String>,
    since: SystemTime,
    reception: Arc<Reception>,
    state: watch::Receiver<RTCPeerConnectionState>,
    begun: Instant,
    session: Session,
    /// Whoever keeps it must not keep it from being freed when the session ends.
    connection: Weak<RTCPeerConnection>,
    end: End,
}

/// How to end a session, and to know that it has.
#[derive(Clone, Debug)]
struct End {
    ask: Arc<Notify>,
    /// Its sender goes when nothing is left of the session.
    gone: watch::Receiver<()>,
}

impl SessionsBuilder {
    /// The address to offer, and no other. The wildcard address of IPv4 stands for all addresses of its
    /// family, that of IPv6 for all of both, as do none. Those of the loopback interface are offered
    /// only when one is named here. A mux has addresses of its own.
    #[must_use]
    pub fn bind(mut self, address: IpAddr) -> Self {
        self.bind = Some(address);
        self
    }

    /// STUN and TURN servers, for the candidates of this side; [`whip::router`](crate::whip::router)
    /// tells clients of them as well.
    #[must_use]
    pub fn ice_servers(mut self, servers: Vec<RTCIceServer>) -> Self {
        self.ice_servers = servers;
        self
    }

    /// How many sessions there may be at a time; 1,000 unless told otherwise.
    #[must_use]
    pub fn limit(mut self, sessions: u32) -> Self {
        self.limit = sessions;
        self
    }

    /// How many sessions one address may have at a time; 250 unless told otherwise. All of an IPv6 network (64 bits) is
    /// one address.
    #[must_use]
    pub fn limit_of_address(mut self, sessions: u32) -> Self {
        self.limit_of_address = sessions;
        self
    }

    /// How long a session may take to connect before it is closed; 30 seconds unless told otherwise.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long an answer waits for STUN and TURN servers; 5 seconds unless told otherwise.
    #[must_use]
    pub fn gather_timeout(mut self, timeout: Duration) -> Self {
        self.gather_timeout = timeout;
        self
    }

    /// How long a peer may be silent before its session ends, 12 seconds at least; 30 unless told
    /// otherwise, which is when consent to send expires (RFC 7675 §5.1).
    #[must_use]
    pub fn silence_timeout(mut self, timeout: Duration) -> Self {
        // A sixth of it makes a peer disconnected, and ICE says every two seconds that it is there.
        self.silence_timeout = timeout.max(Duration::from_secs(12));
        self
    }

    /// The sessions, none so far.
    #[must_use]
    pub fn build(self) -> Sessions {
        Sessions {
            shared: Arc::new(Shared {
                permits: Arc::new(Semaphore::new(self.limit as usize)),
                of_address: Admission::new(self.limit as usize, self.limit_of_address as usize),
                settings: self,
                live: Mutex::default(),
                count: watch::Sender::new(0),
            }),
        }
    }
}

impl Sessions {
    /// Sessions whose sockets come from this transport.
    #[must_use]
    pub fn builder(transport: Transport) -> SessionsBuilder {
        SessionsBuilder {
            transport,
            bind: None,
            ice_servers: Vec::new(),
            limit: 1_000,
            limit_of_address: 250,
            connect_timeout: Duration::from_secs(30),
            gather_timeout: Duration::from_secs(5),
            silence_timeout: Duration::from_secs(30),
        }
    }

    /// Answers an SDP offer. To be called on a tokio runtime; a caller that stops waiting leaves a
    /// session behind that ends when it does not connect in time.
    ///
    /// # Errors
    /// [`CreateError`] says whose fault it is.
    pub async fn create(&self, offer: &str, hints: Hints) -> Result<Answered, CreateError> {
        let settings = &self.shared.settings;
        if self.shared.live().shutting_down {
            return Err(CreateError::ShuttingDown);
        }
        let permit = Arc::clone(&self.shared.permits)
            .try_acquire_owned()
            .map_err(|_| CreateError::TooManySessions {
                limit: settings.limit,
            })?;
        let room = hints.client.map(|client| {
            let limit = settings.limit_of_address;
            let room = self.shared.of_address.room(client);
            room.ok_or(CreateError::TooManyOfAddress { limit })
        });
        let room = room.transpose()?;
        let offer = Offer::parse(offer)?;
        let begun = Arc::clone(&self.shared).begin(offer, hints, (permit, room));
        // A task, because a peer connection must not be dropped before it is closed.
        tokio::spawn(begun).await.unwrap_or_else(|error| {
            Err(CreateError::Internal(webrtc::Error::new(error.to_string())))
        })
    }

    /// Closes a session, and returns when nothing is left of it: whether there was one of that name.
    pub async fn close(&self, id: &SessionId) -> bool {
        let Some(end) = self
            .shared
            .live()
            .entries
            .get(id)
            .map(|entry| entry.end.clone())
        else {
            return false;
        };
        end.wait().await;
        true
    }

    /// Closes all sessions for good, and returns when nothing is left of any. New ones are refused from
    /// now on.
    pub async fn close_all(&self) {
        let ends: Vec<_> = {
            let mut live = self.shared.live();
            live.shutting_down = true;
            live.entries
                .values()
                .map(|entry| entry.end.clone())
                .collect()
        };
        for end in &ends {
            end.ask.notify_one();
        }
        // Those that are being made as well. An error would say that somebody has closed the semaphore.
        let _ = self
            .shared
            .permits
            .acquire_many(self.shared.settings.limit)
            .await;
    }

    /// The session of that name.
    #[must_use]
    pub fn get(&self, id: &SessionId) -> Option<SessionInfo> {
        self.shared
            .live()
            .entries
            .get(id)
            .map(|entry| entry.info(id))
    }

    /// All sessions, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<SessionInfo> {
        let mut list: Vec<_> = self
            .shared
            .live()
            .entries
            .iter()
            .map(|(id, entry)| entry.info(id))
            .collect();
        list.sort_by_key(|session| std::cmp::Reverse(session.age));
        list
    }

    /// The peer connection of the session of that name, once it is connected; for a
    /// [`Prober`](perpacket_webrtc::Prober), say. `None` if there is no such session, or it ends before it
    /// is connected.
    ///
    /// It is closed when the session ends, whoever still has it.
    pub async fn connected(&self, id: &SessionId) -> Option<Arc<RTCPeerConnection>> {
        let (mut state, connection) = {
            let live = self.shared.live();
            let entry = live.entries.get(id)?;
            (entry.state.clone(), Weak::clone(&entry.connection))
        };
        let is_decided =
            |state: &_| *state == RTCPeerConnectionState::Connected || has_ended(*state);
        let decided = *state.wait_for(is_decided).await.ok()?;
        if has_ended(decided) {
            return None;
        }
        connection.upgrade()
    }

    /// The sessions that are there and new to whoever follows them.
    pub(crate) fn follow(&self, is_new: impl Fn(&SessionId) -> bool) -> Vec<Followed> {
        let live = self.shared.live();
        let follow = |(id, entry): (&SessionId, &Entry)| Followed {
            id: id.clone(),
            client: entry.client,
            user_agent: entry.user_agent.clone(),
            since: entry.since,
            session: entry.session.clone(),
            state: entry.state.clone(),
            connection: Weak::clone(&entry.connection),
            reception: Arc::clone(&entry.reception),
            gone: entry.end.gone.clone(),
        };
        let new = live.entries.iter().filter(|(id, _)| is_new(id));
        new.map(follow).collect()
    }

    /// Where the sockets of the sessions come from.
    pub(crate) fn transport(&self) -> &Transport {
        &self.shared.settings.transport
    }

    /// How many sessions there are, now and whenever that changes.
    #[must_use]
    pub fn count(&self) -> watch::Receiver<usize> {
        self.shared.count.subscribe()
    }

    /// The STUN and TURN servers.
    #[must_use]
    pub fn ice_servers(&self) -> &[RTCIceServer] {
        &self.shared.settings.ice_servers
    }
}

impl Entry {
    fn info(&self, id: &SessionId) -> SessionInfo {
        SessionInfo {
            id: id.clone(),
            client: self.client,
            state: *self.state.borrow(),
            age: self.begun.elapsed(),
            session: self.session.clone(),
        }
    }
}

impl End {
    async fn wait(mut self) {
        self.ask.notify_one();
        // Nothing is ever sent: the error that ends the wait says that the sender is gone.
        let _ = self.gone.changed().await;
    }
}

impl Shared {
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn begin(
        self: Arc<Self>,
        offer: Offer,
        hints: Hints,
        permit: (OwnedSemaphorePermit, Option<Room>),
    ) -> Result<Answered, CreateError> {
        let SessionsBuilder {
            transport,
            bind,
            ice_servers,
            gather_timeout,
            silence_timeout,
            ..
        } = &self.settings;
        let id = SessionId::from(ids::random());
        let mut settings = SettingEngine::default();
        let unit = *silence_timeout / 6;
        settings.set_ice_timeouts(Some(unit), Some(5 * unit), None);
        let attached = transport.attach(&id, *bind, hints.family(), &mut settings);
        let tos_report = TosReport::new(&attached.session);
        let begun = Instant::now();
        let (connection, answer) = Connection::answer(
            offer,
            settings,
            ice_servers.clone(),
            *gather_timeout,
            tos_report,
        )
        .await?;
        let answer = without_end_of_candidates(&attached.complete(answer));

        let (guard, gone) = watch::channel(());
        let end = End {
            ask: Arc::default(),
            gone,
        };
        let refused = {
            let mut live = self.live();
            if !live.shutting_down {
                live.entries.insert(
                    id.clone(),
                    Entry {
                        client: hints.client,
                        user_agent: hints.user_agent,
                        since: SystemTime::now(),
                        reception: Arc::clone(&connection.reception),
                        state: connection.state.clone(),
                        begun,
                        session: attached.session,
                        connection: Arc::downgrade(&connection.inner),
                        end: end.clone(),
                    },
                );
                self.count.send_replace(live.entries.len());
            }
            live.shutting_down
        };
        if refused {
            connection.close().await;
            return Err(CreateError::ShuttingDown);
        }
        let answered = Answered {
            id: id.clone(),
            answer,
        };
        tokio::spawn(async move {
            let why = self.run(&connection, &end.ask).await;
            tracing::debug!(%id, why, "a session ends");
            connection.close().await;
            drop(connection);
            {
                let mut live = self.live();
                live.entries.remove(&id);
                self.count.send_replace(live.entries.len());
            }
            drop((permit, guard));
        });
        Ok(answered)
    }

    /// Returns when a session is to end, and why.
    async fn run(&self, connection: &Connection, ask: &Notify) -> &'static str {
        let connected = |state: &_| *state == RTCPeerConnectionState::Connected;
        let mut state = connection.state.clone();
        // Both errors say that the connection is gone.
        let lives = async {
            let connects = state.wait_for(|state| connected(state) || has_ended(*state));
            if timeout(self.settings.connect_timeout, connects)
                .await
                .is_err()
            {
                return "it did not connect in time";
            }
            let _ = state.wait_for(|state| has_ended(*state)).await;
            "the connection failed"
        };
        tokio::select! {
            why = lives => why,
            () = ask.notified() => "it was closed",
            () = connection.too_many.notified() => "its client opened too many data channels",
        }
    }
}
