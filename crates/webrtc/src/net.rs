use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use perpacket_udp::{Batching, MessageOptions, OptionsError, UdpSocket, UdpSocketBuilder};
use tokio::sync::broadcast;

use crate::{
    Event, Overrides, PacketClass, PeerCounters, Policy, PolicySnapshot, Session, SessionId,
    Stream, port::Port, session::SessionState,
};

/// How many events wait for a subscriber that does not read. Older ones are lost to it.
const EVENTS: usize = 1024;

/// The network of peer connections: every socket that ICE makes through it is a
/// [`CustomConn`](crate::CustomConn) with one common [`Policy`], and counts what it does.
///
/// ```
/// # fn main() -> Result<(), perpacket_udp::OptionsError> {
/// use perpacket_udp::{Dscp, MessageOptions};
/// use perpacket_webrtc::{CustomNet, PacketClass};
///
/// let net = CustomNet::new();
/// net.set_class_options(PacketClass::Srtp, MessageOptions::default().with_dscp(Dscp::AF41))?;
///
/// # #[cfg(feature = "custom-net")] {
/// # use webrtc::api::{APIBuilder, setting_engine::SettingEngine};
/// let mut settings = SettingEngine::default();
/// net.session("alice").install(&mut settings);
/// let api = APIBuilder::new().with_setting_engine(settings).build();
/// # let _ = api;
/// # }
/// net.session("alice").set_options(MessageOptions::default().with_ttl(10))?;
/// # Ok(())
/// # }
/// ```
///
/// Clones are the same network.
#[derive(Clone, Debug)]
pub struct CustomNet {
    pub(crate) hub: Arc<Hub>,
    /// The session that its sockets belong to.
    pub(crate) session: Option<Arc<SessionState>>,
}

/// What all sockets of a network share.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) policy: Policy,
    icmp_errors: bool,
    pub(crate) dont_fragment: bool,
    batching: Option<Batching>,
    sessions: Mutex<HashMap<SessionId, Weak<SessionState>>>,
    ports: Mutex<Ports>,
    events: broadcast::Sender<Event>,
}

/// The sockets of a network or of a session that are open, and what those counted that are closed by now,
/// so that nothing is counted twice or not at all while one closes.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    open: Vec<Weak<Port>>,
    /// Most have closed none.
    past: Option<Box<PeerCounters>>,
}

/// How a [`CustomNet`] is to be made.
#[derive(Clone, Debug, Default)]
pub struct CustomNetBuilder {
    policy: Policy,
    icmp_errors: bool,
    dont_fragment: bool,
    batching: Option<Batching>,
}

/// One socket, as it was at one moment.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ConnSnapshot {
    /// The address that it is bound to.
    pub local: SocketAddr,
    /// The session that it belongs to.
    pub session: Option<SessionId>,
    /// What it counted, by peer.
    pub peers: Vec<(SocketAddr, PeerCounters)>,
    /// What it counted of peers that are too many to be told apart.
    pub others: PeerCounters,
}

/// A network, as it was at one moment.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct NetSnapshot {
    /// The policy.
    pub policy: PolicySnapshot,
    /// What is set for each session that exists, in the order of their names.
    pub sessions: Vec<(SessionId, Overrides)>,
    /// Every socket that is open.
    pub conns: Vec<ConnSnapshot>,
    /// What all sockets counted, those that are closed by now included.
    pub total: PeerCounters,
}

impl CustomNetBuilder {
    /// The policy of all sockets; it can be changed later.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Whether to count and report what the network and full queues of this host say of datagrams
    /// that did not arrive. Off by default: it costs each socket a descriptor, and a task.
    #[must_use]
    pub fn icmp_errors(mut self, icmp_errors: bool) -> Self {
        self.icmp_errors = icmp_errors;
        self
    }

    /// Whether to ask a TURN server to set the DF bit of what it sends to a peer, where the policy sets
    /// it for that peer: Send indications get a DONT-FRAGMENT attribute then (RFC 8656 §11.2, §18.9). Off
    /// by default, for there is little to win and a relay to lose:
    ///
    /// - A server that does not know the attribute drops the indication, and nothing tells so: webrtc-rs
    ///   does not ask for it when it allocates.
    /// - webrtc-rs sends indications only until it has bound a channel, and `ChannelData` has no place for
    ///   it (RFC 8656 §12.4). On Linux, a relay sets the bit of most datagrams by itself.
    /// - coturn 4.6.1 on Linux relays nothing more to any peer of an allocation, and says nothing, after
    ///   the first indication with the attribute that is above the MTU that its kernel knows of.
    #[must_use]
    pub fn dont_fragment(mut self, dont_fragment: bool) -> Self {
        self.dont_fragment = dont_fragment;
        self
    }

    /// Has every socket gather what is sent, for fewer system calls: see [`Batching`]. Off by default: it pays on a
    /// [`CustomMux`](crate::CustomMux) that sends to many peers, or in bursts; a lone datagram now and then costs a bit
    /// more.
    ///
    /// A datagram counts as sent once it is queued. Where it turns out that it cannot go out, it is taken off
    /// [`ClassCounters::sent`](crate::ClassCounters::sent) again, and counted and reported as dropped.
    #[must_use]
    pub fn batching(mut self, batching: Batching) -> Self {
        self.batching = Some(batching);
        self
    }

    /// The network.
    #[must_use]
    pub fn build(self) -> CustomNet {
        CustomNet {
            hub: Arc::new(Hub {
                policy: self.policy,
                icmp_errors: self.icmp_errors,
                dont_fragment: self.dont_fragment,
                batching: self.batching,
                sessions: Mutex::default(),
                ports: Mutex::default(),
                events: broadcast::Sender::new(EVENTS),
            }),
            session: None,
        }
    }
}

impl Default for CustomNet {
    fn default() -> Self {
        Self::new()
    }
}

impl CustomNet {
    /// A network with an empty policy.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A network to be made.
    #[must_use]
    pub fn builder() -> CustomNetBuilder {
        CustomNetBuilder::default()
    }

    /// The policy of all sockets.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.hub.policy
    }

    /// Sets the options of everything that goes to a peer; see [`Policy::set_peer_options`].
    ///
    /// # Errors
    /// The field that is out of range; nothing is changed then.
    pub fn set_peer_options(
        &self,
        peer: SocketAddr,
        options: MessageOptions,
    ) -> Result<(), OptionsError> {
        self.policy().set_peer_options(peer, options)
    }

    /// Sets the options of a class; see [`Policy::set_class_options`].
    ///
    /// # Errors
    /// The field that is out of range; nothing is changed then.
    pub fn set_class_options(
        &self,
        class: PacketClass,
        options: MessageOptions,
    ) -> Result<(), OptionsError> {
        self.policy().set_class_options(class, options)
    }

    /// Sets the options of RTP streams; see [`Policy::set_stream_options`].
    ///
    /// # Errors
    /// The field that is out of range; nothing is changed then.
    pub fn set_stream_options(
        &self,
        stream: Stream,
        options: MessageOptions,
    ) -> Result<(), OptionsError> {
        self.policy().set_stream_options(stream, options)
    }

    /// The session of that name, new if there is none.
    pub fn session(&self, id: impl Into<SessionId>) -> Session {
        let id = id.into();
        let mut sessions = lock(&self.hub.sessions);
        let state = sessions
            .get(&id)
            .and_then(Weak::upgrade)
            .unwrap_or_else(|| {
                let state = Arc::new(SessionState::new(id.clone(), Arc::downgrade(&self.hub)));
                sessions.insert(id, Arc::downgrade(&state));
                state
            });
        Session {
            state,
            hub: Arc::clone(&self.hub),
        }
    }

    /// What happens to datagrams of all sockets, from now on. A receiver that does not keep up
    /// misses events; the counters miss none.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.hub.events.subscribe()
    }

    /// What is set, and what was counted.
    #[must_use]
    pub fn snapshot(&self) -> NetSnapshot {
        let hub = &self.hub;
        let (ports, mut total) = hub.ports();
        for port in &ports {
            total.add(&port.counters.total());
        }
        let conns = ports
            .iter()
            .filter(|port| port.is_open())
            .map(|port| {
                let (peers, others) = port.counters.load();
                ConnSnapshot {
                    local: port.local,
                    session: port.session_id().cloned(),
                    peers,
                    others,
                }
            })
            .collect();
        let states: Vec<_> = lock(&hub.sessions)
            .values()
            .filter_map(Weak::upgrade)
            .collect();
        let mut sessions: Vec<_> = states
            .iter()
            .map(|state| (state.id.clone(), Overrides::clone(&state.overrides.load())))
            .collect();
        sessions.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        NetSnapshot {
            policy: hub.policy.snapshot(),
            sessions,
            conns,
            total,
        }
    }

    /// A socket to be bound to `address`. It leaves IPv4 alone on the IPv6 wildcard address: ICE knows no v4-mapped
    /// addresses.
    pub(crate) fn socket(&self, address: SocketAddr) -> UdpSocketBuilder {
        let socket = UdpSocket::builder(address).only_v6(true);
        match self.hub.batching {
            Some(batching) => socket.batching(batching),
            None => socket,
        }
    }

    pub(crate) fn wants_icmp_errors(&self) -> bool {
        self.hub.icmp_errors
    }

    /// What a new socket at this address counts by.
    pub(crate) fn new_port(&self, local: SocketAddr) -> Arc<Port> {
        let port = Arc::new(Port::new(
            local,
            self.session.clone(),
            Arc::clone(&self.hub),
        ));
        lock(&self.hub.ports).open.push(Arc::downgrade(&port));
        if let Some(session) = &self.session {
            lock(&session.ports).open.push(Arc::downgrade(&port));
        }
        port
    }
}

impl Session {
    /// A network whose sockets all belong to this session.
    #[must_use]
    pub fn net(&self) -> CustomNet {
        CustomNet {
            hub: Arc::clone(&self.hub),
            session: Some(Arc::clone(&self.state)),
        }
    }
}

impl Ports {
    fn load(&self) -> (Vec<Arc<Port>>, PeerCounters) {
        let open = self.open.iter().filter_map(Weak::upgrade);
        (
            open.collect(),
            self.past.as_deref().copied().unwrap_or_default(),
        )
    }

    fn retire(&mut self, closing: &Arc<Port>, counted: &PeerCounters) {
        self.open
            .retain(|port| port.as_ptr() != Arc::as_ptr(closing));
        self.past.get_or_insert_default().add(counted);
    }
}

impl SessionState {
    /// The same of this session as [`Hub::ports`].
    pub(crate) fn ports(&self) -> (Vec<Arc<Port>>, PeerCounters) {
        lock(&self.ports).load()
    }
}

impl Hub {
    /// The sockets that there are, and what those counted that are gone. Who closes one may keep it:
    /// see [`Port::is_open`].
    pub(crate) fn ports(&self) -> (Vec<Arc<Port>>, PeerCounters) {
        lock(&self.ports).load()
    }

    /// Forgets a socket that closes, and keeps what it counted.
    pub(crate) fn retire(&self, closing: &Arc<Port>) {
        let total = closing.counters.total();
        lock(&self.ports).retire(closing, &total);
        if let Some(session) = &closing.session {
            lock(&session.ports).retire(closing, &total);
        }
    }

    /// Forgets a session that nobody holds any more.
    pub(crate) fn forget_session(&self, id: &SessionId) {
        let mut sessions = lock(&self.sessions);
        // Another of the same name may have begun meanwhile.
        if sessions
            .get(id)
            .is_some_and(|state| state.strong_count() == 0)
        {
            sessions.remove(id);
        }
    }

    pub(crate) fn emit(&self, event: impl FnOnce() -> Event) {
        if self.events.receiver_count() > 0 {
            // An error says that the last receiver has just gone.
            let _ = self.events.send(event());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(feature = "custom-net")]
mod provider {
    use std::{net::SocketAddr, sync::Arc};

    use async_trait::async_trait;
    use webrtc::api::setting_engine::SettingEngine;
    use webrtc_util::{Conn, vnet::net::Net};
    // Not found? Your Cargo.toml needs: [patch.crates-io] webrtc-util = { git = "<perpacket>" }
    use webrtc_util::vnet::net::NetProvider; // needs the fork of webrtc-util: see the README

    use super::CustomNet;
    use crate::{CustomConn, Session};

    impl CustomNet {
        /// Makes every peer connection of these settings send through this network.
        ///
        /// Host, server-reflexive and relayed candidates are covered, over UDP, on IPv4 and IPv6.
        /// mDNS is not: webrtc-rs opens that socket itself. Neither is a `UDPMux` in the settings,
        /// which brings its own socket.
        pub fn install(&self, settings: &mut SettingEngine) {
            settings.set_vnet(Some(Arc::new(Net::Custom(Arc::new(self.clone())))));
        }
    }

    impl Session {
        /// Makes the peer connection of these settings send as this session; see
        /// [`CustomNet::install`].
        pub fn install(&self, settings: &mut SettingEngine) {
            self.net().install(settings);
        }
    }

    #[async_trait]
    impl NetProvider for CustomNet {
        async fn bind(
            &self,
            address: SocketAddr,
        ) -> webrtc_util::Result<Arc<dyn Conn + Send + Sync>> {
            let conn = CustomConn::bind(self, address).map_err(std::io::Error::from)?;
            Ok(Arc::new(conn))
        }
    }
}
