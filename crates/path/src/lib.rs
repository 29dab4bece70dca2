//! What the network does with a session's packets, asked on the media's own 5-tuple: where the path
//! goes, how large a packet it carries, and what it does with marks.

#![forbid(unsafe_code)]

mod pmtu;
mod qos;
mod running;
mod statistics;
mod trace;
mod ttl;

pub use running::{MeasureError, Running};
