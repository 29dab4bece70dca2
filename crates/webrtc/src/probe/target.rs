use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Weak},
};

use rand::random;
use webrtc::{
    ice_transport::{
        ice_candidate::RTCIceCandidate, ice_candidate_type::RTCIceCandidateType,
        ice_role::RTCIceRole,
    },
    peer_connection::{RTCPeerConnection, sdp::session_description::RTCSessionDescription},
};

use super::{Egress, Exit, ProbeError, request::Credentials};
use crate::{PacketClass, Session, mux, policy::key, port::Port};

/// Whom to ask, in whose name, and through which of the session's sockets.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) remote: SocketAddr,
    pub(super) credentials: Credentials,
    pub(super) port: Arc<Port>,
    /// What the probes must not keep open.
    egress: Weak<dyn Egress>,
}

impl Target {
    /// What the peer connection uses now.
    pub(super) async fn of(
        session: &Session,
        connection: &RTCPeerConnection,
    ) -> Result<Self, ProbeError> {
        let transport = connection.sctp().transport();
        let ice = transport.ice_transport();
        let pair = ice
            .get_selected_candidate_pair()
            .await
            .ok_or(ProbeError::NotConnected)?;
        if pair.local.typ == RTCIceCandidateType::Relay
            && let Some(relayed) = address(&pair.local)
        {
            return Err(ProbeError::Relayed(relayed));
        }
        let ports = session.state.ports().0;
        let remote = peer(&ports, &pair.remote)?;
        let (ufrag, _) = credentials("local", connection.local_description().await)?;
        let (remote_ufrag, password) =
            credentials("remote", connection.remote_description().await)?;
        let no_socket = || ProbeError::NoSocket {
            session: session.id().to_string(),
            remote,
        };
        let (port, egress) = sender(&ports, &pair.local, remote).ok_or_else(no_socket)?;
        Ok(Self {
            remote,
            credentials: Credentials {
                username: format!("{remote_ufrag}:{ufrag}"),
                password,
                controlling: ice.role().await == RTCIceRole::Controlling,
                tie_breaker: random(),
            },
            port,
            egress,
        })
    }

    /// The way out, while the socket is open.
    pub(super) fn exit(&self) -> Option<Exit> {
        self.egress.upgrade()?.towards(self.remote)
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.remote == other.remote
            && self.credentials.username == other.credentials.username
            && self.credentials.password == other.credentials.password
            && Arc::ptr_eq(&self.port, &other.port)
    }
}

fn credentials(
    which: &'static str,
    description: Option<RTCSessionDescription>,
) -> Result<(String, String), ProbeError> {
    let missing = || ProbeError::NoCredentials {
        which,
        what: "ice-ufrag and ice-pwd",
    };
    let description = description.ok_or_else(missing)?;
    // All sections are bundled, or the first is what the others fall back to.
    let credentials = mux::credentials(&description.sdp);
    let (ufrag, password) = credentials.first().ok_or_else(missing)?;
    Ok(((*ufrag).to_owned(), (*password).to_owned()))
}

fn address(candidate: &RTCIceCandidate) -> Option<SocketAddr> {
    let ip = candidate.address.parse().ok()?;
    Some(key(SocketAddr::new(ip, candidate.port)))
}

/// The address of the peer's candidate.
fn peer(ports: &[Arc<Port>], candidate: &RTCIceCandidate) -> Result<SocketAddr, ProbeError> {
    let RTCIceCandidate {
        address: name,
        port,
        ..
    } = candidate;
    address(candidate)
        .or_else(|| resolved(ports, *port))
        .ok_or_else(|| ProbeError::Unresolved {
            candidate: format!("{name}:{port}"),
        })
}

/// The address of a peer whose candidate has a name only (RFC 8828 §5.2): the one with its port that
/// most was exchanged with.
fn resolved(ports: &[Arc<Port>], port: u16) -> Option<SocketAddr> {
    let open = ports.iter().filter(|port| port.is_open());
    let peers = open.flat_map(|port| port.counters.load().0);
    peers
        .filter(|(peer, _)| peer.port() == port)
        .max_by_key(|(_, counters)| counters.total().sent)
        .map(|(peer, _)| peer)
}

/// The socket that the session's packets to a peer leave by.
///
/// It has the port of the selected candidate's base (RFC 8445 §5.1.1), but not always the address: a
/// candidate can have a name instead, and webrtc-ice puts that of a NAT into a host candidate. Among
/// several sockets with that port it is the one that has sent most to the peer; what only ICE and
/// probes sent decides last.
fn sender(
    ports: &[Arc<Port>],
    local: &RTCIceCandidate,
    remote: SocketAddr,
) -> Option<(Arc<Port>, Weak<dyn Egress>)> {
    let (ip, number) = base(local);
    let base = ip.map(|ip| key(SocketAddr::new(ip, number)));
    let sent = |port: &Port| {
        let peers = port.counters.load().0;
        let peer = peers.into_iter().find(|(peer, _)| *peer == remote);
        peer.map_or((0, 0), |(_, counters)| {
            let sent = |class| counters.class(class).sent;
            let media = sent(PacketClass::Srtp) + sent(PacketClass::Dtls);
            (media, sent(PacketClass::Stun))
        })
    };
    let open = ports
        .iter()
        .filter(|port| port.local.port() == number)
        .filter_map(|port| Some((port, port.egress.get()?)))
        .filter(|(_, egress)| {
            let egress = egress.upgrade();
            egress.is_some_and(|egress| egress.towards(remote).is_some())
        });
    let (port, egress) = open
        .map(|(port, egress)| (base == Some(key(port.local)), sent(port), port, egress))
        .filter(|(is_base, sent, ..)| *is_base || *sent != (0, 0))
        .max_by_key(|(is_base, sent, ..)| (*is_base, *sent))
        .map(|(_, _, port, egress)| (port, egress))?;
    Some((Arc::clone(port), Weak::clone(egress)))
}

/// What a candidate sends from, as far as it says so.
fn base(candidate: &RTCIceCandidate) -> (Option<IpAddr>, u16) {
    let (address, port) = match candidate.typ {
        RTCIceCandidateType::Srflx | RTCIceCandidateType::Prflx => {
            (&candidate.related_address, candidate.related_port)
        }
        _ => (&candidate.address, candidate.port),
    };
    (address.parse().ok(), port)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use perpacket_udp::UdpSocket;

    use super::*;
    use crate::{CustomNet, probe::ExitSocket};

    const NAT: &str = "203.0.113.5";

    /// Sends nothing.
    #[derive(Debug)]
    struct Socket {
        inner: Arc<UdpSocket>,
        open: AtomicBool,
    }

    impl Egress for Socket {
        fn towards(&self, peer: SocketAddr) -> Option<Exit> {
            self.is_open().then(|| Exit {
                socket: ExitSocket::Own(Arc::clone(&self.inner)),
                source: None,
                target: peer,
            })
        }

        fn is_open(&self) -> bool {
            self.open.load(Relaxed)
        }
    }

    /// What a session has at these addresses.
    fn sockets(locals: [&str; 2]) -> ([Arc<Socket>; 2], [Arc<Port>; 2]) {
        let net = CustomNet::new();
        let ports = locals.map(|local| net.new_port(local.parse().expect("an address")));
        let sockets = ports.each_ref().map(|port| {
            let inner = UdpSocket::bind(([127, 0, 0, 1], 0).into()).expect("a socket");
            let socket = Arc::new(Socket {
                inner: Arc::new(inner),
                open: AtomicBool::new(true),
            });
            let egress: Weak<Socket> = Arc::downgrade(&socket);
            port.egress.set(egress).expect("new");
            socket
        });
        (sockets, ports)
    }

    fn remote() -> SocketAddr {
        ([192, 0, 2, 1], 5000).into()
    }

    fn sends(port: &Port, class: PacketClass, datagrams: usize) {
        for _ in 0..datagrams {
            port.counters.sent(remote(), class, 100);
        }
    }

    fn host(address: &str, port: u16) -> RTCIceCandidate {
        RTCIceCandidate {
            typ: RTCIceCandidateType::Host,
            address: address.to_owned(),
            port,
            ..RTCIceCandidate::default()
        }
    }

    fn reflexive(related_port: u16) -> RTCIceCandidate {
        RTCIceCandidate {
            typ: RTCIceCandidateType::Srflx,
            related_address: "0.0.0.0".to_owned(),
            related_port,
            ..host(NAT, 61_000)
        }
    }

    /// The place of the one that is chosen.
    fn chosen(ports: &[Arc<Port>], local: &RTCIceCandidate) -> Option<usize> {
        let (chosen, _) = sender(ports, local, remote())?;
        ports.iter().position(|port| Arc::ptr_eq(port, &chosen))
    }

    /// Whatever another has sent to the peer before the pair changed.
    #[tokio::test]
    async fn the_port_of_the_candidate_decides() {
        let (_sockets, ports) = sockets(["0.0.0.0:4001", "0.0.0.0:4002"]);
        sends(&ports[0], PacketClass::Srtp, 100);
        sends(&ports[1], PacketClass::Stun, 1);
        for (number, port) in [4001, 4002].into_iter().enumerate() {
            let candidates = [reflexive(port), host(NAT, port), host("a-b-c.local", port)];
            for candidate in candidates {
                assert_eq!(chosen(&ports, &candidate), Some(number), "{candidate:?}");
            }
        }
        assert_eq!(chosen(&ports, &host(NAT, 4003)), None);
        assert_eq!(chosen(&ports, &reflexive(61_000)), None);
    }

    #[tokio::test]
    async fn on_one_port_the_address_decides_or_else_the_media() {
        let (_sockets, ports) = sockets(["10.0.0.1:4000", "10.0.0.2:4000"]);
        assert_eq!(chosen(&ports, &host(NAT, 4000)), None);
        sends(&ports[0], PacketClass::Stun, 100);
        assert_eq!(chosen(&ports, &host(NAT, 4000)), Some(0));
        sends(&ports[1], PacketClass::Dtls, 1);
        assert_eq!(chosen(&ports, &host(NAT, 4000)), Some(1), "probes are STUN");
        assert_eq!(chosen(&ports, &host("10.0.0.1", 4000)), Some(0));
    }

    #[tokio::test]
    async fn what_is_closed_does_not_count() {
        let (sockets, ports) = sockets(["10.0.0.1:4000", "10.0.0.2:4000"]);
        sends(&ports[0], PacketClass::Srtp, 100);
        sends(&ports[1], PacketClass::Srtp, 1);
        ports[0]
            .counters
            .sent(([192, 0, 2, 2], 5000).into(), PacketClass::Srtp, 100);
        sockets[0].open.store(false, Relaxed);
        assert_eq!(chosen(&ports, &host(NAT, 4000)), Some(1));
        assert_eq!(chosen(&ports, &host("10.0.0.1", 4000)), Some(1));
        assert_eq!(resolved(&ports, 5000), Some(remote()));
        sockets[1].open.store(false, Relaxed);
        assert_eq!(chosen(&ports, &host("10.0.0.2", 4000)), None);
        assert_eq!(resolved(&ports, 5000), None);
    }

    #[tokio::test]
    async fn a_name_is_the_address_that_was_sent_to() {
        let (_sockets, ports) = sockets(["10.0.0.1:4000", "10.0.0.2:4000"]);
        let candidate = host("a-b-c.local", 5000);
        let error = peer(&ports, &candidate).expect_err("nothing was sent");
        assert!(matches!(error, ProbeError::Unresolved { .. }), "{error:?}");
        assert!(error.to_string().contains("a-b-c.local:5000"), "{error}");
        sends(&ports[1], PacketClass::Stun, 1);
        assert_eq!(peer(&ports, &candidate).ok(), Some(remote()));
    }
}
