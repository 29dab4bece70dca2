use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Options, Timestamp};

/// Who did what.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// `token:` and four digits that tell tokens apart, `guard` for what this server has taken back, or `timer`.
    #[schema(example = "token:ab12")]
    pub by: String,
    /// From where.
    #[schema(value_type = Option<String>, example = "198.51.100.1")]
    pub from: Option<IpAddr>,
    /// What.
    #[schema(example = "options.set")]
    pub action: String,
    /// To which client.
    pub client: Option<String>,
    /// The rest.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
}

/// The audit trail, the newest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AuditList {
    /// The entries.
    pub audit: Vec<AuditEntry>,
}

/// A change of a client's options.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// Who, as in the audit trail.
    #[schema(example = "token:ab12")]
    pub by: String,
    /// Of which class; of all if there is none.
    #[schema(example = "srtp")]
    pub class: Option<String>,
    /// What was set.
    pub before: Options,
    /// What is set since.
    pub after: Options,
    /// Why, where this server did it.
    pub reason: Option<String>,
}

/// Changes of a client's options, the oldest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChangeList {
    /// The changes.
    pub changes: Vec<Change>,
}
