//! A WebRTC server that answers offers over WHIP (RFC 9725), echoes what it receives, and gives every
//! datagram the IP options of a perpacket policy.
//!
//! [`Sessions`] makes a peer connection of an SDP offer and frees it when it ends; [`whip::router`] is
//! the same as an HTTP service for axum. Each session's sockets belong to a
//! [`Session`](perpacket_webrtc::Session) of the [`Transport`], so that its options can be changed
//! while it lives, and its packets are counted. A client that opens a data channel labelled
//! [`TOS_REPORT_LABEL`](perpacket_path::TOS_REPORT_LABEL) is told with which marks its checks arrive.
//!
//! [`Server`] is what an operator starts: the sessions, watched once a second, with a REST API to look at them, change
//! their options under a [watch](model::Guard) and measure their paths, events as they happen, a dashboard, and a page for
//! whoever is measured. What happens can be kept in a [`history`].
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::{net::TcpListener, path::Path};
//!
//! use perpacket_server::{
//!     Server, Sessions, Token, Transport,
//!     history::{DatabaseUrl, History, Retention},
//!     perpacket_webrtc::{CustomMux, CustomNet},
//! };
//!
//! let net = CustomNet::builder().icmp_errors(true).build();
//! let mux = CustomMux::bind(&net, "0.0.0.0:5000".parse()?)?;
//! let sessions = Sessions::builder(Transport::Mux(mux)).build();
//!
//! let (token, _) = Token::load_or_create(Path::new("token"))?;
//! let database: DatabaseUrl = "history.db".parse()?;
//! let history = History::open(&database, "edge-1", Retention::default()).await?;
//! let server = Server::builder(sessions, token)
//!     .name("edge-1")
//!     .history(history)
//!     .build();
//! // Or `server.router()`, in an axum of your own.
//! server.serve(TcpListener::bind("127.0.0.1:8080")?, None).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # With the fork, and without
//!
//! With [`Transport::Mux`] all of it works on stock webrtc-rs. The feature `custom-net` adds
//! `Transport::Net`, and with it the fork of `webrtc-util` that [`perpacket_webrtc`] describes.

#![forbid(unsafe_code)]

mod admission;
mod answer;
mod api;
mod connection;
mod echo;
mod error;
mod fields;
mod guard;
pub mod history;
mod ids;
mod live;
mod measurements;
pub mod model;
mod monitor;
mod notes;
mod offer;
mod problem;
mod reception;
mod server;
mod sessions;
mod tls;
mod token;
mod tos_report;
mod transport;
pub mod whip;

pub use error::CreateError;
pub use perpacket_webrtc;
pub use server::{Server, ServerBuilder};
pub use sessions::{Answered, Hints, SessionInfo, Sessions, SessionsBuilder};
pub use tls::{Tls, TlsError};
pub use token::{NotAToken, Token};
pub use transport::Transport;
