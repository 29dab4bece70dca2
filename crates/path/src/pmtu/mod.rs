//! How large a packet the path carries.

mod apply;
mod config;
mod measure;
mod peer_limit;
mod plan;
mod report;
mod room;
mod search;
mod vigil;
mod watch;
mod watching;

pub use config::PathMtuConfig;
pub use measure::PathMtu;
pub use peer_limit::{PeerLimit, Whose};
pub use report::{
    PathMtuEvent, PathMtuHint, PathMtuProbe, PathMtuPurpose, PathMtuReport, PathMtuResult,
};
pub use room::Room;
pub use search::HintUse;
pub use watch::{PathMtuChange, PathMtuWatch, PathMtuWatchConfig, PathMtuWatchReport};
