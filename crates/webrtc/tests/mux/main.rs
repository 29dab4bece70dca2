//! `CustomMux` on loopback sockets, with STUN made by hand where a peer connection would make it.

mod addresses;
mod bounds;
mod discovery;
mod sockets;
mod support;
