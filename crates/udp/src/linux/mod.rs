//! The whole thing, on Linux.

mod batching;
#[allow(unreachable_pub, reason = "public where it is fuzzed")]
pub mod cmsg;
mod control;
mod errors;
mod raw;
mod receive;
mod refused;
mod sent;
mod socket;
mod sys;
mod twins;

pub(crate) use errors::Subscription;
pub(crate) use raw::RawIcmp;
pub(crate) use socket::{BatchState, Socket, Stamping};
pub(crate) use sys::prefetch;
