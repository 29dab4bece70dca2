//! Networks of hosts, routers and links for tests, and a sniffer that shows what is on their wires.
//!
//! - [`enter`], first thing in `main`, moves the process away from the machine's network; no root needed.
//! - [`Lab`] makes [`Node`]s, which are network namespaces, and [`Link`]s between them; [`Chain`] is the
//!   commonest shape, host, routers, host.
//! - [`Node::run`], [`Node::runtime`] and [`Node::spawn`] run code, a tokio runtime or a program inside.
//! - [`Wan`] is a network of routers of our own, with the delays, losses and faults that a [`Scenario`] gives them.
//! - [`Sniffer`] captures on an interface and yields parsed [`Packet`]s; [`write_pcap`] keeps them.
//! - [`main`] is the `main` of a test program (`harness = false`) that does all this.
//!
//! Nothing is named or mounted: everything is gone when the last handle is, after a panic or a `SIGKILL`
//! too. Only programs that [`Node::spawn`] started outlive a `SIGKILL`.
#![forbid(unsafe_code)]

mod chain;
mod enter;
mod error;
mod harness;
mod icmp;
mod link;
mod netlink;
mod node;
mod packet;
mod pcap;
mod process;
mod processors;
mod runtime;
mod sniffer;
mod socket;
mod sysctl;
mod topology;
mod wait;
mod wan;

pub use chain::Chain;
pub use enter::enter;
pub use error::{Error, Result, Skip};
pub use harness::{Test, main, require_program};
pub use icmp::Icmp;
pub use link::{Link, LinkBuilder};
pub use node::Node;
pub use packet::{Direction, Fragment, Packet, Udp};
pub use pcap::write_pcap;
pub use process::Process;
pub use processors::{Processors, STOLEN};
pub use runtime::NodeRuntime;
pub use sniffer::{Capture, Sniffer};
pub use topology::Lab;
pub use wait::until;
pub use wan::{
    Bandwidth, Counters, Hop, HopCounters, HopTruth, IcmpRate, Label, Mark, NatAddresses, Scenario,
    SlowDscp, Wan, WanLink, Willing,
};
