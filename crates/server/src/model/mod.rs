//! What the REST API says: the JSON of clients, samples, options and measurements.
//!
//! Times are RFC 3339 in UTC with milliseconds; durations say their unit in their name; sizes are bytes, shares
//! 0 to 1. What is not known is `null`.

mod audit;
mod client;
mod measurement;
mod options;
mod sample;
mod time;

pub use audit::{AuditEntry, AuditList, Change, ChangeList};
pub use client::{
    Client, ClientList, ClientState, Level, Pair, PathMtuView, SelfView, ServerView, Verdict,
};
pub use measurement::{
    MeasurementInfo, MeasurementList, MeasurementRequest, MeasurementState, MeasurementView,
};
pub use options::{
    Applied, AppliedClasses, Asked, AskedClasses, Guard, GuardState, Options, OptionsChange,
    OptionsView,
};
pub use sample::{ClassRates, Icmp, Rates, Sample, SampleList};
pub use time::Timestamp;
