//! The whole thing, on Linux.

#[allow(unreachable_pub, reason = "public where it is fuzzed")]
pub mod cmsg;
mod control;
mod errors;
mod receive;
mod refused;
mod socket;
mod sys;
mod twins;

pub(crate) use errors::Subscription;
pub(crate) use socket::Socket;
