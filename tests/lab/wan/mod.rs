//! A simulated wide area network: two hosts, and between them routers of our own on TUN devices, whose
//! delay, loss, MTU and faults are what a scenario says.
//!
//! - [`Scenario`] is what a network is to do; a TOML file in `tests/scenarios` each.
//! - [`Wan`] is a running one, which [`Wan::change`] changes.
//! - `engine` moves packets from router to router in virtual time; `clockwork` runs it in real time.

mod agenda;
mod clockwork;
mod counters;
mod engine;
mod fragment;
mod header;
mod icmp;
mod link;
mod mark;
mod nat;
mod network;
mod queue;
mod random;
mod router;
mod scenario;
mod truth;
mod tun;
mod validate;

pub use counters::{Counters, HopCounters};
pub use mark::Mark;
pub use network::Wan;
pub use scenario::{
    Bandwidth, Hop, IcmpRate, Label, NatAddresses, Scenario, SlowDscp, WanLink, Willing,
};
pub use truth::HopTruth;
