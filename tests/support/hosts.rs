//! Two hosts with a router between them, and what peer connections on them need.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use perpacket_lab::{Chain, Node, NodeRuntime, Sniffer};
use perpacket_udp::MessageOptions;
use perpacket_webrtc::{AddressFamily, CustomMux, CustomNet, PacketClass};
use webrtc::api::setting_engine::SettingEngine;

use super::connection::DEADLINE;
use super::peer::Peer;
use super::wire::{CLASSES, count, sent_after};

/// How many datagrams of a class are enough to judge by.
pub(crate) const ENOUGH: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// The wildcard address.
    pub(crate) fn any(self) -> IpAddr {
        match self {
            Self::V4 => [0; 4].into(),
            Self::V6 => [0; 16].into(),
        }
    }
}

/// Host, router, host; a network of peer connections on each host.
pub(crate) struct Hosts {
    pub(crate) chain: Chain,
    pub(crate) sides: [Side; 2],
}

/// One of the hosts.
pub(crate) struct Side {
    pub(crate) node: Node,
    /// The interface towards the router.
    pub(crate) interface: String,
    pub(crate) address: IpAddr,
    /// The router's address on that link.
    pub(crate) gateway: IpAddr,
    pub(crate) runtime: Arc<NodeRuntime>,
    pub(crate) net: CustomNet,
    /// What passes the interface.
    pub(crate) wire: Sniffer,
}

impl Hosts {
    pub(crate) fn new(family: Family) -> Result<Self> {
        Self::with(family, [CustomNet::new(), CustomNet::new()])
    }

    /// With these networks, left and right.
    pub(crate) fn with(family: Family, [left, right]: [CustomNet; 2]) -> Result<Self> {
        let chain = Chain::new(1, 1500)?;
        let addresses = chain.pairs()[family as usize];
        let gateways = [(10, 0, 0, 2), (10, 0, 1, 1)].map(|(a, b, c, d)| match family {
            Family::V4 => IpAddr::from([a, b, c, d]),
            Family::V6 => IpAddr::from([0xfd00, 0, 0, u16::from(c), 0, 0, 0, u16::from(d)]),
        });
        let side = |node: &Node, interface: &str, address, gateway, net| {
            anyhow::Ok(Side {
                node: node.clone(),
                interface: interface.to_owned(),
                address,
                gateway,
                runtime: Arc::new(node.runtime()?),
                net,
                wire: Sniffer::on(node, interface)?,
            })
        };
        let [near, far] = [&chain.links[0].a, &chain.links[1].b];
        let sides = [
            side(&chain.left, near, addresses.0, gateways[0], left)?,
            side(&chain.right, far, addresses.1, gateways[1], right)?,
        ];
        Ok(Self { chain, sides })
    }

    /// A peer connection on each host, of the sessions `left` and `right`.
    pub(crate) fn peers(&self) -> Result<[Peer; 2]> {
        let [left, right] = &self.sides;
        Ok([left.peer("left")?, right.peer("right")?])
    }

    pub(crate) fn router(&self) -> &Node {
        &self.chain.routers[0]
    }

    /// Makes the router put addresses outside in the place of as many of the left host, and the other way round.
    pub(crate) fn translate(&self, inside: &[IpAddr], outside: &[IpAddr]) -> Result<()> {
        let ip = match self.sides[0].family() {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        };
        let map = |from: &[IpAddr], to: &[IpAddr]| {
            let pairs = from.iter().zip(to);
            let pairs = pairs.map(|(from, to)| format!("{from} : {to}"));
            pairs.collect::<Vec<_>>().join(", ")
        };
        let (into, out) = (map(outside, inside), map(inside, outside));
        Ok(self.router().nft(&format!(
            "table {ip} nat {{
                chain in {{ type nat hook prerouting priority -100; dnat to {ip} daddr map {{ {into} }}; }}
                chain out {{ type nat hook postrouting priority 100; snat to {ip} saddr map {{ {out} }}; }}
            }}"
        ))?)
    }

    /// How many routers there are.
    pub(crate) fn routers(&self) -> u8 {
        u8::try_from(self.chain.routers.len()).expect("few")
    }

    /// Sets the [`marking`] of every class on both sides; returns the moments before and after.
    pub(crate) fn mark(&self, phase: usize) -> Result<(SystemTime, SystemTime)> {
        let before = SystemTime::now();
        for (number, side) in self.sides.iter().enumerate() {
            for class in CLASSES {
                side.net
                    .set_class_options(class, marking(number, phase, class))?;
            }
        }
        Ok((before, SystemTime::now()))
    }
}

/// An address with the length of the prefix that all links have.
pub(crate) fn on_link(address: IpAddr) -> String {
    let length = if address.is_ipv4() { 24 } else { 64 };
    format!("{address}/{length}")
}

/// Options that no other side, phase or class has.
pub(crate) fn marking(side: usize, phase: usize, class: PacketClass) -> MessageOptions {
    let number = u8::try_from(phase * 16 + side * 8 + class.index()).expect("few");
    MessageOptions::NONE
        .with_ttl(100 + number)
        .with_df_bit((phase + class.index()).is_multiple_of(2))
        .with_tos((number << 2) | (number % 3))
}

impl Side {
    /// A peer connection of this session.
    pub(crate) fn peer(&self, session: &str) -> Result<Peer> {
        self.peer_with(session, |_| {})
    }

    /// One with changed settings.
    pub(crate) fn peer_with(
        &self,
        session: &str,
        change: impl FnOnce(&mut SettingEngine) + Send,
    ) -> Result<Peer> {
        let session = self.net.session(session);
        Peer::with(&self.runtime, self.address, |settings| {
            session.install(settings);
            change(settings);
        })
    }

    /// A mux on these addresses.
    pub(crate) fn mux(&self, addresses: &[SocketAddr]) -> Result<CustomMux> {
        let mut mux = CustomMux::builder(&self.net);
        for address in addresses {
            mux = mux.bind(*address);
        }
        Ok(self.runtime.block_on(async { mux.build() })?)
    }

    /// One that sends through a mux, with changed settings.
    pub(crate) fn mux_peer_with(
        &self,
        mux: &CustomMux,
        session: &str,
        change: impl FnOnce(&mut SettingEngine) + Send,
    ) -> Result<Peer> {
        let mux = mux
            .for_session(&self.net.session(session))
            .with_family(match self.family() {
                Family::V4 => AddressFamily::V4,
                Family::V6 => AddressFamily::V6,
            });
        Peer::with(&self.runtime, self.address, |settings| {
            mux.install(settings);
            change(settings);
        })
    }

    /// One that sends through webrtc-rs's own sockets.
    pub(crate) fn stock_peer_with(
        &self,
        change: impl FnOnce(&mut SettingEngine) + Send,
    ) -> Result<Peer> {
        Peer::with(&self.runtime, self.address, change)
    }

    /// Waits until enough datagrams have been sent of each class that `wanted` has, since a moment.
    pub(crate) fn wait_for(&mut self, wanted: &[PacketClass], since: SystemTime) -> Result<()> {
        let address = self.address;
        self.wire.wait_for(DEADLINE, |packets| {
            let counts = count(sent_after(packets, address, since));
            CLASSES
                .iter()
                .zip(counts)
                .all(|(class, count)| count >= ENOUGH || !wanted.contains(class))
        })?;
        Ok(())
    }

    pub(crate) fn family(&self) -> Family {
        match self.address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The destination of the default route.
    pub(crate) fn everywhere(&self) -> &'static str {
        match self.family() {
            Family::V4 => "0.0.0.0/0",
            Family::V6 => "::/0",
        }
    }

    /// The default route, which goes with the interface or its last address.
    pub(crate) fn restore_default_route(&self) -> Result<()> {
        // IPv6 keeps it where only the address went.
        let _ = self.node.route_del(self.everywhere());
        let gateway = self.gateway.to_string();
        Ok(self.node.route(self.everywhere(), &gateway)?)
    }

    /// Gives the host four more addresses of the family, and returns all five.
    pub(crate) fn five_addresses(&self) -> Result<Vec<IpAddr>> {
        let mut addresses = vec![self.address];
        for number in 1..5 {
            let address = match self.address {
                IpAddr::V4(_) => IpAddr::from([10, 0, 0, 10 + number]),
                IpAddr::V6(_) => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 10 + u16::from(number)]),
            };
            self.node.add_addr(&self.interface, &on_link(address))?;
            addresses.push(address);
        }
        Ok(addresses)
    }

    /// The port of each UDP socket that is open on the host, in order. A `CustomConn` is more than one.
    pub(crate) fn udp_ports(&self) -> Result<Vec<u16>> {
        let tables = self.node.run(|| {
            ["udp", "udp6"]
                .map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")))
        });
        let mut ports = Vec::new();
        for table in tables {
            for line in table?.lines().skip(1) {
                // `sl local_address rem_address …`, addresses in hexadecimal, proc(5).
                let local = line.split_whitespace().nth(1);
                let port = local.and_then(|local| local.rsplit_once(':'));
                let (_, port) = port.with_context(|| line.to_owned())?;
                ports.push(u16::from_str_radix(port, 16)?);
            }
        }
        ports.sort_unstable();
        Ok(ports)
    }
}
