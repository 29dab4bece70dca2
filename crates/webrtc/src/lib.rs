//! Per-packet IP options under webrtc-rs peer connections whose code does not change.
//!
//! [`CustomNet`] makes the sockets of ICE. Each of them, a [`CustomConn`], tells STUN from DTLS from
//! SRTP ([`classify`]), asks the [`Policy`] what the IP header of this datagram is to say, sends it
//! so, and counts.
//!
//! # With the fork, and without
//!
//! webrtc-rs has no way in for sockets of one's own but an enum that is closed, so the feature
//! `custom-net` needs the fork of `webrtc-util`: one `[patch.crates-io]` line in the root
//! `Cargo.toml` of whoever builds the program. All else is there on stock webrtc-rs: a
//! [`CustomConn`] serves as the socket of its `UDPMuxDefault`.
//!
//! # See also
//!
//! The crate `perpacket-udp` for the sockets themselves and what the kernel can do.

#![forbid(unsafe_code)]

mod classify;
mod conn;
mod counters;
mod dont_fragment;
mod event;
mod guard;
mod mux;
mod net;
mod policy;
mod port;
mod protection;
mod session;
mod tap;

pub use classify::{
    Classified, PacketClass, Relayed, RtpStream, StunClass, StunHeader, StunMethod,
    UnknownPacketClass, channel_binding, classify, is_stun, relayed_payload,
};
pub use conn::CustomConn;
pub use counters::{ClassCounters, DropCause, IcmpCounters, PeerCounters};
pub use event::Event;
pub use mux::{
    AddressFamily, CustomMux, CustomMuxBuilder, MuxError, MuxSnapshot, Reflexive, RefusedCounters,
};
pub use net::{ConnSnapshot, CustomNet, CustomNetBuilder, NetSnapshot};
pub use perpacket_udp as udp;
pub use policy::{MediaKind, Overrides, Policy, PolicySnapshot, Priority, Stream};
pub use session::{Session, SessionId};
pub use tap::{Tap, TapGuard};
