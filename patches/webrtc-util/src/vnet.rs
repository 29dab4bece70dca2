//! Upstream's virtual network, and [`net`], in which `Net` is this crate's.

pub use upstream::vnet::*;

pub mod net;
