//! What tests share that have WHIP clients.

#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod client;
pub(crate) mod http;
pub(crate) mod server;
