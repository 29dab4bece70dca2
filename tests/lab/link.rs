//! A cable between two nodes: a veth pair with addresses.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use crate::error::{Error, Result};
use crate::netlink::{self, VethEnd};
use crate::node::{Node, parse_prefix};
use crate::wait::until;

/// Interface indices that no two interfaces of this process's labs share. Namespaces count from the same
/// number, and a veth end whose peer has its own index counts as no pair to the kernel: it then announces
/// the carrier with up to a second's delay.
static NEXT_INDEX: AtomicU32 = AtomicU32::new(1000);

/// What a link between two nodes will be.
#[must_use = "there is no link before `up`"]
#[derive(Debug)]
pub struct LinkBuilder<'a> {
    nodes: [&'a Node; 2],
    names: Option<[&'a str; 2]>,
    mtu: u32,
    segments_whole: bool,
    addresses: Vec<[&'a str; 2]>,
}

/// A link that is up: the interface's name on either side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The interface on the first node.
    pub a: String,
    /// The interface on the second node.
    pub b: String,
}

impl<'a> LinkBuilder<'a> {
    pub(crate) fn new(a: &'a Node, b: &'a Node) -> Self {
        Self {
            nodes: [a, b],
            names: None,
            mtu: 1500,
            segments_whole: false,
            addresses: Vec::new(),
        }
    }

    /// Names the two interfaces, at most 15 bytes each; otherwise they are `eth0`, `eth1` and so on, in
    /// the order in which a node gets them.
    pub fn names(mut self, a: &'a str, b: &'a str) -> Self {
        self.names = Some([a, b]);
        self
    }

    /// The MTU of both ends, bytes of IP packet; 1,500 if not given.
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }

    /// An IPv4 address for each end, with prefix length. Can be called again for more.
    pub fn v4(mut self, a: &'a str, b: &'a str) -> Self {
        self.addresses.push([a, b]);
        self
    }

    /// An IPv6 address for each end, with prefix length. Can be called again for more.
    pub fn v6(self, a: &'a str, b: &'a str) -> Self {
        self.v4(a, b)
    }

    /// Lets segmented sends (`UDP_SEGMENT`) cross as one buffer of up to 64 KiB, as veth devices do. By
    /// default the kernel cuts them first, as it does for a network card, so that a
    /// [`Sniffer`](crate::Sniffer) sees the datagrams of a real wire.
    pub fn segments_whole(mut self) -> Self {
        self.segments_whole = true;
        self
    }

    /// Makes the link and waits until both ends carry traffic.
    ///
    /// # Errors
    /// When an address does not parse or the kernel refuses a step.
    pub fn up(self) -> Result<Link> {
        let [a, b] = self.nodes;
        let names = match self.names {
            Some(names) => names.map(str::to_owned),
            None => self.nodes.map(Node::next_interface),
        };
        let end = |name| VethEnd {
            name,
            index: NEXT_INDEX.fetch_add(1, Ordering::Relaxed),
            mtu: self.mtu,
        };
        a.run(|| netlink::add_veth(&end(&names[0]), &end(&names[1]), b.as_fd()))?;

        for (side, node) in self.nodes.into_iter().enumerate() {
            let addresses = self
                .addresses
                .iter()
                .map(|pair| parse_prefix(pair[side]))
                .collect::<Result<Vec<_>>>()?;
            let name = &names[side];
            node.run(|| {
                if !self.segments_whole {
                    netlink::cut_segments(name)?;
                }
                netlink::bring_up(name)?;
                addresses
                    .into_iter()
                    .try_for_each(|address| netlink::add_address(name, address))
            })?;
        }
        for (node, name) in self.nodes.into_iter().zip(&names) {
            node.run(|| wait_for_carrier(name))?;
        }
        let [a, b] = names;
        Ok(Link { a, b })
    }
}

/// An interface that is up drops what is sent until the kernel has noticed, a moment later, that the
/// other end is up as well.
fn wait_for_carrier(interface: &str) -> Result<()> {
    until(
        Duration::from_secs(5),
        || format!("carrier on {interface}"),
        || {
            let mut all =
                getifaddrs().map_err(|e| Error::system("list interfaces (getifaddrs)", e))?;
            Ok(all
                .any(|i| {
                    i.interface_name == interface && i.flags.contains(InterfaceFlags::IFF_RUNNING)
                })
                .then_some(()))
        },
    )?;
    // The flag shows a little before packets pass. Both happen under the lock for which this request,
    // that changes nothing, waits.
    netlink::bring_up(interface)
}
