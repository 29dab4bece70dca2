//! Questions to the path on the session's own 5-tuple: STUN Binding requests that the peer answers as
//! it answers any check of ICE, each with its own IP options.

mod egress;
mod error;
mod outcome;
mod pace;
mod pending;
mod prober;
mod request;
mod target;

pub(crate) use egress::{Egress, Exit, ExitSocket};
pub use error::ProbeError;
pub use outcome::{Attribution, Clock, Probe, ProbeAnswer, ProbeOutcome, ProbeResult, Rtt};
pub use prober::Prober;
