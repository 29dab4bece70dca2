use std::{error::Error, time::Duration};

/// What can go wrong with a history.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// That is no database.
    #[error("{text:?} cannot be the database: {reason}")]
    Url {
        /// What was given, without what may be secret.
        text: String,
        /// Why not.
        reason: String,
    },
    /// The database cannot be used.
    #[error("cannot open the database {database}: {source}")]
    Open {
        /// Which, without what may be secret.
        database: String,
        /// What the system or the database said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The database did not answer a question.
    #[error("cannot read {what} from the database: {source}")]
    Read {
        /// What was to be read.
        what: &'static str,
        /// What the database said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Not everything is in the database.
    #[error("recording has stopped: {reason}")]
    NotRecorded {
        /// What the database said.
        reason: String,
    },
    /// Closing took too long; not everything may be in the database.
    #[error("the history was not closed within {within:?}")]
    TimedOut {
        /// How long was waited.
        within: Duration,
    },
}
