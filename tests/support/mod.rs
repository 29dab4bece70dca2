//! What the tests of peer connections have in common.
#![allow(
    dead_code,
    reason = "each test is a program of its own, and uses a part"
)]

pub(crate) mod churn;
pub(crate) mod connection;
pub(crate) mod coturn;
pub(crate) mod description;
pub(crate) mod exchange;
pub(crate) mod forged_icmp;
pub(crate) mod forged_too_big;
pub(crate) mod hosts;
pub(crate) mod internet;
pub(crate) mod measured;
pub(crate) mod media;
pub(crate) mod nat;
pub(crate) mod numbers;
pub(crate) mod peer;
pub(crate) mod processors;
pub(crate) mod relayed;
pub(crate) mod wire;
