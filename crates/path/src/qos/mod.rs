//! What the path does with marks.

mod blocks;
mod compare;
mod config;
mod dead;
mod mark;
mod observe;
mod paired;
mod place;
mod random;
mod remark;
mod report;
mod report_back;
mod run;
mod sweep;

pub use compare::{Comparison, Significance, Verdict};
pub use config::{Observe, Phase, QosConfig};
pub use dead::{DeadMark, FallBackLevel, FallenBack};
pub use mark::Mark;
pub use paired::Estimate;
pub use place::{MarkPath, Remarking, place_remarkings};
pub use remark::{Behaviour, DscpChange, EcnChange, telling_marks};
pub use report::{LoadEffect, MarkReport, Observation, QosEvent, QosReport, Visibility};
pub use report_back::{ArrivedWith, TOS_REPORT_LABEL, TosReporter, TosReports};
pub use run::Qos;

/// Whether this host did not take a probe: what its own filter drops (`EPERM`), or has no room or route for, arrives
/// as little as what a router drops.
fn is_refused(error: &perpacket_webrtc::ProbeError) -> bool {
    use perpacket_webrtc::ProbeError::Socket;

    matches!(error, Socket(perpacket_udp::Error::Send { .. }))
}

/// As a number of microseconds.
fn as_micros<S: serde::Serializer>(
    time: &std::time::Duration,
    output: S,
) -> Result<S::Ok, S::Error> {
    output.serialize_f64(time.as_secs_f64() * 1e6)
}
