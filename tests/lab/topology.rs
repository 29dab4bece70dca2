//! A network of hosts, routers and links.

use std::sync::{Mutex, PoisonError};

use crate::error::Result;
use crate::link::LinkBuilder;
use crate::node::Node;

/// A network of its own. It keeps its nodes alive; when it and all handles on its nodes are dropped,
/// also by a panic, the kernel removes every namespace and link. Any number of labs can exist at once,
/// with the same addresses and names.
///
/// ```no_run
/// # fn main() -> Result<(), perpacket_lab::Error> {
/// perpacket_lab::enter()?;
/// let lab = perpacket_lab::Lab::new();
/// let (a, b) = (lab.host("a")?, lab.host("b")?);
/// lab.link(&a, &b)
///     .v4("10.0.1.1/24", "10.0.1.2/24")
///     .v6("fd00:1::1/64", "fd00:1::2/64")
///     .up()?;
/// let socket = a.run(|| std::net::UdpSocket::bind("10.0.1.1:0"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Lab {
    nodes: Mutex<Vec<Node>>,
}

impl Lab {
    /// An empty network.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a host: a namespace that does not forward.
    ///
    /// # Errors
    /// When the kernel refuses the namespace; usually [`enter`](crate::enter) was not called.
    pub fn host(&self, name: &str) -> Result<Node> {
        Node::new(name, false).map(|node| self.keep(node))
    }

    /// Adds a router: a namespace that forwards IPv4 and IPv6 and answers every expired or oversized
    /// packet with an ICMP error.
    ///
    /// # Errors
    /// When the kernel refuses the namespace; usually [`enter`](crate::enter) was not called.
    pub fn router(&self, name: &str) -> Result<Node> {
        Node::new(name, true).map(|node| self.keep(node))
    }

    /// Starts a link between two nodes; nothing exists before [`LinkBuilder::up`].
    pub fn link<'a>(&self, a: &'a Node, b: &'a Node) -> LinkBuilder<'a> {
        LinkBuilder::new(a, b)
    }

    fn keep(&self, node: Node) -> Node {
        self.nodes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(node.clone());
        node
    }
}
