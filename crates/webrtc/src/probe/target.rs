use std::{
    net::SocketAddr,
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
        let ports = session.hub.ports_of(session.id()).0;
        let remote = address(&pair.remote)
            .or_else(|| resolved(&ports, pair.remote.port))
            .ok_or(ProbeError::NotConnected)?;
        if pair.local.typ == RTCIceCandidateType::Relay {
            return Err(ProbeError::Relayed(address(&pair.local).unwrap_or(remote)));
        }
        let (ufrag, _) = credentials("local", connection.local_description().await)?;
        let (remote_ufrag, password) =
            credentials("remote", connection.remote_description().await)?;
        let no_socket = || ProbeError::NoSocket {
            session: session.id().to_string(),
            remote,
        };
        let (port, egress) = sender(&ports, address(&pair.local), remote).ok_or_else(no_socket)?;
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
    let missing = ProbeError::NoCredentials {
        which,
        what: "ice-ufrag and ice-pwd",
    };
    let description = description.ok_or(ProbeError::NotConnected)?;
    // All sections are bundled, or the first is what the others fall back to.
    let credentials = mux::credentials(&description.sdp);
    let (ufrag, password) = credentials.first().ok_or(missing)?;
    Ok(((*ufrag).to_owned(), (*password).to_owned()))
}

fn address(candidate: &RTCIceCandidate) -> Option<SocketAddr> {
    let ip = candidate.address.parse().ok()?;
    Some(key(SocketAddr::new(ip, candidate.port)))
}

/// The address of a peer whose candidate has a name only (RFC 8828 §5.2): the one with its port that
/// most was exchanged with.
fn resolved(ports: &[Arc<Port>], port: u16) -> Option<SocketAddr> {
    let peers = ports.iter().flat_map(|port| port.counters.load().0);
    peers
        .filter(|(peer, _)| peer.port() == port)
        .max_by_key(|(_, counters)| counters.total().sent)
        .map(|(peer, _)| peer)
}

/// The socket that the session's packets to a peer leave by: the one with the address of the selected
/// candidate, or else, as a candidate may have the address of a NAT, the one that has sent most.
fn sender(
    ports: &[Arc<Port>],
    local: Option<SocketAddr>,
    remote: SocketAddr,
) -> Option<(Arc<Port>, Weak<dyn Egress>)> {
    let sent = |port: &Port| {
        let peers = port.counters.load().0;
        let peer = peers.into_iter().find(|(peer, _)| key(*peer) == remote);
        peer.map_or(0, |(_, counters)| {
            let media = [PacketClass::Srtp, PacketClass::Dtls, PacketClass::Stun];
            media.map(|class| counters.class(class).sent).iter().sum()
        })
    };
    let open = ports
        .iter()
        .filter_map(|port| Some((port, port.egress.get()?)))
        .filter(|(_, egress)| egress.strong_count() > 0);
    let is_selected = |port: &Port| local.is_some_and(|local| key(port.local) == local);
    let (port, egress) = open
        .map(|(port, egress)| (is_selected(port), sent(port), port, egress))
        .filter(|(selected, sent, ..)| *selected || *sent > 0)
        .max_by_key(|(selected, sent, ..)| (*selected, *sent))
        .map(|(_, _, port, egress)| (port, egress))?;
    Some((Arc::clone(port), Weak::clone(egress)))
}
