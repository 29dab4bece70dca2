//! Hosts far from each other, with a STUN and TURN server in between.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Result;
use perpacket_lab::{Lab, Node, NodeRuntime, Sniffer};
use perpacket_webrtc::CustomNet;
use webrtc::api::setting_engine::SettingEngine;
use webrtc::peer_connection::configuration::RTCConfiguration;

use super::connection::{self, Channel};
use super::coturn::Coturn;
use super::peer::Peer;

/// A host with a network of peer connections.
pub(crate) struct Host {
    pub(crate) node: Node,
    pub(crate) address: IpAddr,
    pub(crate) runtime: Arc<NodeRuntime>,
    pub(crate) net: CustomNet,
    /// What passes its interface.
    pub(crate) wire: Sniffer,
}

impl Host {
    /// On a node with one interface, that has this address.
    pub(crate) fn new(node: &Node, address: IpAddr, net: CustomNet) -> Result<Self> {
        Ok(Self {
            node: node.clone(),
            address,
            runtime: Arc::new(node.runtime()?),
            net,
            wire: Sniffer::on(node, "eth0")?,
        })
    }

    /// A peer connection of a session.
    pub(crate) fn peer(
        &self,
        session: &str,
        configuration: RTCConfiguration,
        change: impl FnOnce(&mut SettingEngine) + Send,
    ) -> Result<Peer> {
        let session = self.net.session(session);
        self.stock_peer(configuration, |settings| {
            session.install(settings);
            change(settings);
        })
    }

    /// One that sends through webrtc-rs's own sockets.
    pub(crate) fn stock_peer(
        &self,
        configuration: RTCConfiguration,
        change: impl FnOnce(&mut SettingEngine) + Send,
    ) -> Result<Peer> {
        let address = self.address;
        let (connection, channel) = self.runtime.block_on(async {
            let connection = connection::new(address, configuration, change).await?;
            let channel = Channel::new(&connection);
            anyhow::Ok((Arc::new(connection), channel))
        })?;
        Ok(Peer {
            connection,
            channel,
            runtime: Arc::clone(&self.runtime),
        })
    }
}

/// Four networks that one router connects. In each there is one host:
pub(crate) struct Internet {
    _lab: Lab,
    pub(crate) coturn: Coturn,
    pub(crate) alice: Host,
    pub(crate) bob: Host,
    /// where coturn runs,
    pub(crate) server: Node,
    /// and one that has no business with the others.
    pub(crate) neighbour: Node,
}

impl Internet {
    pub(crate) fn new() -> Result<Self> {
        Self::with([CustomNet::new(), CustomNet::new()])
    }

    /// With these networks of peer connections on the hosts of Alice and Bob.
    pub(crate) fn with([alice, bob]: [CustomNet; 2]) -> Result<Self> {
        let lab = Lab::new();
        let router = lab.router("router")?;
        let host = |name: &str, number: u8| {
            let node = lab.host(name)?;
            let [own, gateway] = [1, 2].map(|host| format!("10.0.{number}.{host}"));
            lab.link(&node, &router)
                .v4(&format!("{own}/24"), &format!("{gateway}/24"))
                .up()?;
            node.route("0.0.0.0/0", &gateway)?;
            anyhow::Ok((node, own.parse()?))
        };
        let (alice_node, alice_address) = host("alice", 1)?;
        let (bob_node, bob_address) = host("bob", 2)?;
        let (server, address) = host("server", 3)?;
        let (neighbour, _) = host("neighbour", 4)?;
        Ok(Self {
            coturn: Coturn::start(&server, address)?,
            alice: Host::new(&alice_node, alice_address, alice)?,
            bob: Host::new(&bob_node, bob_address, bob)?,
            server,
            neighbour,
            _lab: lab,
        })
    }
}
