//! What the network does with a session's packets, asked on the media's own 5-tuple: where the path
//! goes, how large a packet it carries, and what it does with marks.

#![forbid(unsafe_code)]

mod extensions;
mod pmtu;
mod qos;
mod running;
mod statistics;
mod trace;
mod ttl;

pub use extensions::{
    ExtensionError, IcmpExtension, InterfaceInformation, InterfaceRole, MplsLabel,
};
pub use pmtu::{
    HintUse, PathMtu, PathMtuChange, PathMtuConfig, PathMtuEvent, PathMtuHint, PathMtuProbe,
    PathMtuPurpose, PathMtuReport, PathMtuResult, PathMtuWatch, PathMtuWatchConfig,
    PathMtuWatchReport, PeerLimit, Room, Whose,
};
pub use qos::{
    ArrivedWith, Behaviour, Comparison, DeadMark, DscpChange, EcnChange, Estimate, FallBackLevel,
    FallenBack, LoadEffect, Mark, MarkPath, MarkReport, Observation, Observe, Phase, Qos,
    QosConfig, QosEvent, QosReport, Remarking, Significance, TOS_REPORT_LABEL, TosReporter,
    TosReports, Verdict, Visibility, place_remarkings, telling_marks,
};
pub use running::{MeasureError, Running};
pub use statistics::{RttRecorder, RttStatistics};
pub use trace::{
    Checksum, HeaderChange, HeaderField, Hop, HopAddress, Names, QuotedHeader, RawMode, RawStatus,
    Trace, TraceConfig, TraceEvent, TraceReport,
};
pub use ttl::{Reach, ReachChange, ReachTtl, ReachTtlConfig, ReachTtlEvent, ReachTtlReport};
