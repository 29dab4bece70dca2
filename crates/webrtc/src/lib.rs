//! Per-packet IP options under webrtc-rs peer connections whose code does not change.
//!
//! Every datagram on its way out is told apart ([`classify`]: STUN, DTLS, SRTP, SRTCP, TURN and what
//! it wraps), gets what the [`Policy`] has for it at that moment, and is counted. What goes wrong is
//! counted too, and reported as an [`Event`]; to webrtc-rs it looks like a loss.
//!
//! # Two ways in
//!
//! - [`CustomMux`]: one UDP port for all peer connections, as most servers want it. It works on stock
//!   webrtc-rs, as its `UDPMux`.
//! - [`CustomNet`]: a socket for each candidate, each of them a [`CustomConn`], server-reflexive and
//!   relayed ones included. webrtc-rs has no way in for these but an enum that is closed, so its
//!   `install` stands behind the feature `custom-net`, which needs the fork of `webrtc-util`: one
//!   `[patch.crates-io]` line in the root `Cargo.toml` of whoever builds the program.
//!
//! Both take their options from a [`CustomNet`], which holds the policy, the [`Session`]s and the
//! counters.
//!
//! # What a peer connection is spared
//!
//! Both ways keep from webrtc-rs 0.17 what it does not survive: errors of a send or a receive; for a
//! relayed candidate whatever does not come from its TURN server; DTLS and SRTCP that the peer cannot
//! have sent ([`DropCause::Unprotected`]). The mux gives an address only to the peer connection that
//! has proved it.
//!
//! # See also
//!
//! The crate `perpacket-udp` for the sockets themselves and what the kernel can do.

#![forbid(unsafe_code)]

mod classify;
mod closable;
mod conn;
mod counters;
mod dont_fragment;
mod event;
mod guard;
mod header;
mod mux;
mod net;
mod policy;
mod port;
mod probe;
mod protection;
mod send_to;
mod session;
mod tap;

pub use classify::{
    Classified, PacketClass, Relayed, RtpStream, StunClass, StunHeader, StunMethod,
    UnknownPacketClass, channel_binding, classify, is_stun, relayed_payload,
};
pub use conn::CustomConn;
pub use counters::{ClassCounters, DropCause, IcmpCounters, PeerCounters};
pub use event::Event;
pub use header::{Sent, SentHeader};
pub use mux::{
    AddressFamily, CustomMux, CustomMuxBuilder, MuxError, MuxSnapshot, Reflexive, RefusedCounters,
};
pub use net::{ConnSnapshot, CustomNet, CustomNetBuilder, NetSnapshot};
pub use perpacket_udp as udp;
pub use policy::{MediaKind, Overrides, Policy, PolicySnapshot, Priority, Stream};
pub use probe::{
    Attribution, Clock, Probe, ProbeAnswer, ProbeError, ProbeOutcome, ProbeResult, Prober, Rtt,
};
pub use session::{Session, SessionId};
pub use tap::{Tap, TapGuard};
