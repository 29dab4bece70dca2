//! A WebRTC server that answers offers over WHIP (RFC 9725), echoes what it receives, and gives every
//! datagram the IP options of a perpacket policy.
//!
//! [`Sessions`] makes a peer connection of an SDP offer and frees it when it ends; [`whip::router`] is
//! the same as an HTTP service for axum. Each session's sockets belong to a
//! [`Session`](perpacket_webrtc::Session) of the [`Transport`], so that its options can be changed
//! while it lives, and its packets are counted. A client that opens a data channel labelled
//! [`TOS_REPORT_LABEL`](perpacket_path::TOS_REPORT_LABEL) is told with which marks its checks arrive.
//!
//! # With the fork, and without
//!
//! With [`Transport::Mux`] all of it works on stock webrtc-rs. The feature `custom-net` adds
//! `Transport::Net`, and with it the fork of `webrtc-util` that [`perpacket_webrtc`] describes.

#![forbid(unsafe_code)]

mod connection;
mod echo;
mod error;
mod offer;
mod sessions;
mod tos_report;
mod transport;
pub mod whip;

pub use error::CreateError;
pub use perpacket_webrtc;
pub use sessions::{Answered, Hints, SessionInfo, Sessions, SessionsBuilder};
pub use transport::Transport;
