//! `webrtc-util` 0.17 with one type replaced: [`vnet::net::Net`] has a third variant, `Custom`,
//! so that an application can make the sockets of its peer connections itself.
//!
//! In webrtc-rs every socket of ICE, and the one of the TURN client, comes from the `Net` that
//! `SettingEngine::set_vnet` was given. Upstream's `Net` is an enum of two variants, the virtual
//! network of its tests and the operating system, and nothing can be added to it from outside.
//! This crate has the name and the version of upstream's, and cargo puts it in upstream's place
//! for the whole dependency graph:
//!
//! ```toml
//! [patch.crates-io]
//! webrtc-util = { git = "…" } # the repository that holds this crate; or a path to it
//! ```
//!
//! It holds none of upstream's source. All but `Net` and [`vnet::net::NetProvider`] is re-exported
//! from `webrtc-util` 0.12.0, which differs from 0.17.2 in the name of `Net::dial` (`dail` there)
//! and in how `conn_udp_listener` treats an error of Windows. The older release is the upstream
//! here because cargo cannot hold a crate of a version and the patch for that version at once.
//!
//! The features are upstream's. `vnet` alone also compiles here: it enables `conn`, which it needs.
#![forbid(unsafe_code)]

pub use upstream::*;

#[cfg(feature = "vnet")]
pub mod vnet;
