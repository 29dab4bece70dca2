//! One UDP port for all peer connections.

mod builder;
mod check;
mod conn;
mod error;
mod flow;
mod inbound;
mod queue;
mod reflexive;
mod refused;
mod routes;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use perpacket_udp::UdpSocket;
use tokio::{sync::watch, task::JoinHandle};
use webrtc::{
    api::setting_engine::SettingEngine,
    ice::{udp_mux::UDPMux, udp_network::UDPNetwork},
};
use webrtc_util::Conn;

use self::{
    conn::MuxConn,
    flow::{Flow, Via, lock},
    queue::Queues,
    refused::LiveRefused,
    routes::Routes,
};
use crate::{CustomNet, Session, closable::Closable, port::Port, session::SessionState};

pub use builder::CustomMuxBuilder;
pub(crate) use check::{has_integrity, mapped_address};
pub use error::MuxError;
pub use reflexive::Reflexive;
pub(crate) use reflexive::credentials;
pub use refused::RefusedCounters;

/// How often it is looked whether a datagram is still being sent on a mux that closes, and for how
/// long: that keeps the sockets.
const SEND_POLL: Duration = Duration::from_millis(1);
const SEND_WAIT: Duration = Duration::from_secs(1);

/// One UDP port for all peer connections, each datagram of which has the options of the network's
/// [`Policy`](crate::Policy). It needs no fork: webrtc-ice takes it as its `UDPMux`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use perpacket_webrtc::{CustomMux, CustomNet};
/// use webrtc::api::{APIBuilder, setting_engine::SettingEngine};
///
/// let net = CustomNet::new();
/// let mux = CustomMux::bind(&net, "127.0.0.1:0".parse()?)?;
///
/// // For each peer connection:
/// let mut settings = SettingEngine::default();
/// mux.for_session(&net.session("alice")).install(&mut settings);
/// let api = APIBuilder::new().with_setting_engine(settings).build();
/// # let _ = api;
/// # Ok(())
/// # }
/// ```
///
/// # Whose a datagram is
///
/// A check (RFC 8445 §7.3) goes to the peer connection that its USERNAME names. Its source address
/// belongs to that peer connection from the moment when the integrity of the check has proved right:
/// by the password where the mux has it from [`learn`](Self::learn) or [`complete`](Self::complete),
/// otherwise by the peer connection's answer. All else goes by its source address. An address stays
/// with its peer connection until 30 seconds after the last proof (RFC 7675 §5.1). Earlier it goes only
/// to one that got an answer from there to a check of its own, if the owner never did, or was silent
/// for 8 seconds. What is nobody's is dropped and counted ([`MuxSnapshot::refused`]).
///
/// Two peer connections between the same two addresses and ports cannot be told apart: the other end
/// must not put several of its own on one port either.
///
/// # One address family for each peer connection
///
/// webrtc-ice 0.17 reads one mux with one loop for each of its candidates, and a loop understands
/// addresses of its candidate's family only, so what reaches the loop of the other family is lost.
/// [`install`](Self::install) therefore offers one family: IPv4 where the mux has it, unless
/// [`with_family`](Self::with_family) says otherwise. Sockets of both families serve peer connections
/// of both.
///
/// Clones are the same mux. It closes when it is told to, or when the last clone and the last peer
/// connection are gone.
#[derive(Clone, Debug)]
pub struct CustomMux {
    owner: Arc<Owner>,
    session: Option<Arc<SessionState>>,
    family: Option<AddressFamily>,
}

/// Closes the mux when nobody has it any more. The tasks of the mux do not count.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// `None` once the mux is closed.
    sockets: Closable<Vec<UdpSocket>>,
    locals: Vec<SocketAddr>,
    /// What belongs to no peer connection.
    port: Arc<Port>,
    net: CustomNet,
    routes: Routes,
    refused: LiveRefused,
    reflexive: ArcSwap<Vec<Reflexive>>,
    queues: Arc<Queues>,
    closed: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl AddressFamily {
    /// Whether the address is of this family.
    #[must_use]
    pub fn is_of(self, address: IpAddr) -> bool {
        address.to_canonical().is_ipv4() == (self == Self::V4)
    }
}

/// A mux, as it was at one moment.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MuxSnapshot {
    /// The address of each socket.
    pub sockets: Vec<SocketAddr>,
    /// Peer connections; one that restarts ICE may be there twice for a moment.
    pub connections: usize,
    /// Addresses of peers that belong to one of them.
    pub addresses: usize,
    /// Requests that wait for an answer.
    pub transactions: usize,
    /// What was handed to nobody.
    pub refused: RefusedCounters,
    /// How STUN servers see the sockets.
    pub reflexive: Vec<Reflexive>,
}

impl CustomMux {
    /// A mux with one socket, and the policy of `net`. To be called on a tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn bind(net: &CustomNet, address: SocketAddr) -> Result<Self, MuxError> {
        Self::builder(net).bind(address).build()
    }

    /// A mux to be made, with the policy of `net`.
    #[must_use]
    pub fn builder(net: &CustomNet) -> CustomMuxBuilder {
        CustomMuxBuilder::new(net)
    }

    /// The same mux for one peer connection: what is sent through it has the session's options and is
    /// counted as the session's, which has to be one of the mux's [`net`](Self::net).
    #[must_use]
    pub fn for_session(&self, session: &Session) -> Self {
        Self {
            session: Some(Arc::clone(&session.state)),
            ..self.clone()
        }
    }

    /// The same mux for peer connections over that family.
    #[must_use]
    pub fn with_family(&self, family: AddressFamily) -> Self {
        Self {
            family: Some(family),
            ..self.clone()
        }
    }

    /// Makes every peer connection of these settings send through the mux: sets the UDP network, and
    /// an IP filter so that exactly the addresses of its family are offered that the mux is bound to. A
    /// loopback address is offered if the mux is bound to it, but not for an unspecified one.
    ///
    /// For a filter of one's own, set it afterwards, and ask [`offers`](Self::offers) in it. Relayed
    /// candidates do not go through a mux: webrtc-ice makes a socket of its own for each.
    pub fn install(&self, settings: &mut SettingEngine) {
        let mux = Self {
            family: Some(self.family()),
            ..self.clone()
        };
        let loopback = |local: &SocketAddr| local.ip().is_loopback() && mux.offers(local.ip());
        if self.shared().locals.iter().any(loopback) {
            settings.set_include_loopback_candidate(true);
        }
        // The filter must not keep the mux open: the settings may live longer than the application
        // wants the port.
        let (locals, family) = (self.shared().locals.clone(), self.family());
        settings.set_ip_filter(Box::new(move |ip| is_offered(&locals, family, ip)));
        settings.set_udp_network(UDPNetwork::Muxed(Arc::new(mux)));
    }

    /// Whether [`install`](Self::install) offers this address of this host as a candidate.
    #[must_use]
    pub fn offers(&self, ip: IpAddr) -> bool {
        is_offered(&self.shared().locals, self.family(), ip)
    }

    /// The address of each socket.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.shared().locals.clone()
    }

    /// Tells the mux the credentials in a local session description, so that it can check the
    /// integrity of checks itself (RFC 8489 §9.1.3) and drops forged ones before they cost the peer
    /// connection anything. To be called with each description that is signalled.
    pub fn learn(&self, description: &str) {
        for (ufrag, password) in reflexive::credentials(description) {
            self.shared().routes.learn(ufrag, password);
        }
    }

    /// Asks a STUN server how it sees the sockets of its address family (RFC 8489 §12), from these
    /// sockets, and remembers the answers for [`complete`](Self::complete). It retransmits for up to
    /// 39.5 seconds, and believes only that server. What is found is kept when it is dropped meanwhile.
    ///
    /// A NAT forgets an address that is not used: see [`CustomMuxBuilder::stun_server`].
    ///
    /// # Errors
    /// When there is no socket of that family, or no socket got a usable answer.
    pub async fn discover(&self, server: SocketAddr) -> Result<Vec<Reflexive>, MuxError> {
        reflexive::discover(self.shared(), server).await
    }

    /// How STUN servers see the sockets, where that is another address than the socket's own. What two
    /// servers agree about is there once.
    #[must_use]
    pub fn reflexive(&self) -> Vec<Reflexive> {
        let mut distinct: Vec<Reflexive> = Vec::new();
        for reflexive in self.shared().reflexive.load().iter() {
            let Reflexive { local, mapped, .. } = *reflexive;
            let is_same = |other: &Reflexive| (other.local, other.mapped) == (local, mapped);
            if mapped != local && !distinct.iter().any(is_same) {
                distinct.push(*reflexive);
            }
        }
        distinct
    }

    /// The server-reflexive candidates of the peer connection's family, as candidate attributes
    /// (RFC 8839 §5.1) without `a=`: what is signalled where candidates trickle.
    #[must_use]
    pub fn candidates(&self) -> Vec<String> {
        let family = self.family();
        let mut reflexive = self.reflexive();
        reflexive.retain(|reflexive| family.is_of(reflexive.mapped.ip()));
        reflexive::candidates(&reflexive)
    }

    /// A local session description with the server-reflexive candidates that the mux has discovered,
    /// of the peer connection's family, which is to be sent in place of the description. It
    /// [learns](Self::learn) from it as well.
    ///
    /// webrtc-ice gathers no server-reflexive candidates for a mux, and has no way to add one, but it
    /// need not know of them: a check that comes through the NAT arrives at the host candidate.
    #[must_use]
    pub fn complete(&self, description: &str) -> String {
        self.learn(description);
        reflexive::add_candidates(description, &self.candidates())
    }

    /// For `SettingEngine::set_nat_1to1_ips`, as `EXTERNAL/LOCAL`: what [`complete`](Self::complete)
    /// would add, where the NAT keeps the port. As type `Host` it offers the outer address in place of
    /// the inner one, so it suits a server that nobody reaches from inside its NAT. A socket that is
    /// bound to the unspecified address gives `EXTERNAL` alone, for all addresses of the host. Where
    /// servers disagree about a socket, the first that was asked is believed.
    #[must_use]
    pub fn nat_1to1_ips(&self) -> Vec<String> {
        let mut mapped_ones = Vec::new();
        let mut ips = Vec::new();
        for Reflexive { local, mapped, .. } in self.reflexive() {
            if mapped.port() != local.port() || mapped_ones.contains(&local) {
                continue;
            }
            mapped_ones.push(local);
            ips.push(if local.ip().is_unspecified() {
                mapped.ip().to_string()
            } else {
                format!("{}/{}", mapped.ip(), local.ip())
            });
        }
        ips
    }

    /// The network whose policy it has, and whose sessions are for it.
    #[must_use]
    pub fn net(&self) -> &CustomNet {
        &self.shared().net
    }

    /// What there is, and what was refused.
    #[must_use]
    pub fn snapshot(&self) -> MuxSnapshot {
        let shared = self.shared();
        let (connections, addresses, transactions) = shared.routes.sizes();
        MuxSnapshot {
            sockets: shared.locals.clone(),
            connections,
            addresses,
            transactions,
            refused: shared.refused.load(),
            reflexive: Vec::clone(&shared.reflexive.load()),
        }
    }

    /// Closes every peer connection's part of the mux, and the sockets: when it returns, the port is
    /// free. Closing again does nothing.
    pub async fn close(&self) {
        let sockets = self.shared().sockets.cloned();
        let sockets = sockets.map(|sockets| Arc::downgrade(&sockets));
        self.shared().shut();
        let tasks = std::mem::take(&mut *lock(&self.shared().tasks));
        for task in tasks {
            // An error says that the runtime is going down, and the task with it.
            let _ = task.await;
        }
        let sent = async {
            while sockets.as_ref().is_some_and(|s| s.strong_count() > 0) {
                tokio::time::sleep(SEND_POLL).await;
            }
        };
        // One that waits for room in a queue that does not move is not waited for.
        let _ = tokio::time::timeout(SEND_WAIT, sent).await;
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.owner.shared
    }

    fn family(&self) -> AddressFamily {
        self.family.unwrap_or_else(|| {
            let locals = &self.shared().locals;
            if locals.iter().any(SocketAddr::is_ipv4) {
                AddressFamily::V4
            } else {
                AddressFamily::V6
            }
        })
    }

    fn conn(&self, ufrag: &str) -> Option<Arc<MuxConn>> {
        let shared = self.shared();
        let conn = shared.routes.conn(ufrag, || {
            let net = CustomNet {
                session: self.session.clone(),
                ..shared.net.clone()
            };
            let port = net.new_port(shared.local_of(self.family()));
            let queues = Arc::clone(&shared.queues);
            let flow = Flow::new(ufrag, self.family, port, queues);
            let flow = Arc::new(flow);
            let conn = MuxConn {
                shared: Arc::clone(shared),
                flow: Arc::clone(&flow),
            };
            let conn = Arc::new(conn);
            flow.queue.is_read_through(&*conn);
            let egress = Arc::downgrade(&conn) as _;
            // It is new, so nobody has set it.
            let _ = flow.port.egress.set(egress);
            (flow, conn)
        });
        // After it is there, or else it could be made when all others have been closed.
        if *shared.closed.borrow() {
            shared.routes.remove(&conn.flow);
            return None;
        }
        Some(conn)
    }
}

fn is_offered(locals: &[SocketAddr], family: AddressFamily, ip: IpAddr) -> bool {
    // Without its scope, which a candidate cannot say, nobody can use a link-local address.
    let is_link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let binds = |local: &SocketAddr| {
        let any = local.ip().is_unspecified() && local.is_ipv4() == ip.is_ipv4();
        local.ip() == ip || any && !is_link_local
    };
    family.is_of(ip) && locals.iter().any(binds)
}

#[async_trait]
impl UDPMux for CustomMux {
    async fn close(&self) -> webrtc_util::Result<()> {
        Self::close(self).await;
        Ok(())
    }

    async fn get_conn(
        self: Arc<Self>,
        ufrag: &str,
    ) -> webrtc_util::Result<Arc<dyn Conn + Send + Sync>> {
        match self.conn(ufrag) {
            Some(conn) => Ok(conn),
            None => Err(webrtc_util::Error::ErrUseClosedNetworkConn),
        }
    }

    async fn remove_conn_by_ufrag(&self, ufrag: &str) {
        if let Some(flow) = self.shared().routes.flow(ufrag) {
            self.shared().routes.remove(&flow);
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.shut();
    }
}

impl Shared {
    /// Ends all tasks, connections and sockets.
    fn shut(&self) {
        self.closed.send_replace(true);
        self.sockets.close();
        self.routes.clear();
    }

    fn local_of(&self, family: AddressFamily) -> SocketAddr {
        let of_family = self.locals.iter().find(|local| family.is_of(local.ip()));
        *of_family.unwrap_or(&self.locals[0])
    }

    /// The socket for what goes to an address that nothing came from: of several the one whose address
    /// the kernel would choose.
    fn via_towards(&self, target: SocketAddr) -> Option<Via> {
        let family = AddressFamily::of(target);
        let mut sockets = (0..self.locals.len()).filter(|n| family.is_of(self.locals[*n].ip()));
        let first = sockets.next()?;
        let socket = match sockets.next() {
            None => first,
            Some(_) => source_towards(target)
                .and_then(|source| self.locals.iter().position(|local| local.ip() == source))
                .unwrap_or(first),
        };
        Some(Via {
            socket,
            local: None,
        })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.port.hub.retire(&self.port);
    }
}

/// The address from which the kernel would send there. Nothing is sent.
fn source_towards(target: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match AddressFamily::of(target) {
        AddressFamily::V4 => std::net::Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::V6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = std::net::UdpSocket::bind((any, 0)).ok()?;
    socket.connect(target).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
