use std::{
    fmt::{self, Write as _},
    path::{Path, PathBuf},
    str::FromStr,
};

use url::Url;

use super::HistoryError;

/// Where a history is kept.
///
/// ```
/// use perpacket_server::history::DatabaseUrl;
///
/// for text in ["/var/lib/perpacket/history.db", ":memory:", "postgres://user:secret@db.example/perpacket"] {
///     let database: DatabaseUrl = text.parse()?;
///     println!("{database}"); // never with a password
/// }
/// # Ok::<(), perpacket_server::history::HistoryError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// SQLite, in this file. It and its folder are made if they are not there, for this user alone.
    File(PathBuf),
    /// SQLite, in memory: gone when the history is closed.
    Memory,
    /// PostgreSQL: `postgres://user:password@host:port/database`, with the parameters of libpq after a `?`, such as
    /// `sslmode` and, for a socket, `host`.
    Postgres(Url),
}

impl DatabaseUrl {
    /// `sqlite`, `memory` or `postgres`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "sqlite",
            Self::Memory => "memory",
            Self::Postgres(_) => "postgres",
        }
    }

    /// As the database library wants it.
    pub(super) fn to_url(&self) -> Result<Url, HistoryError> {
        let text = match self {
            Self::Postgres(url) => return Ok(url.clone()),
            Self::Memory => "sqlite::memory:".to_owned(),
            Self::File(path) => {
                sqlite(path).ok_or_else(|| self.refused("its path is not UTF-8".to_owned()))?
            }
        };
        Url::parse(&text).map_err(|error| self.refused(error.to_string()))
    }

    fn refused(&self, reason: String) -> HistoryError {
        HistoryError::Url {
            text: self.to_string(),
            reason,
        }
    }
}

/// Every byte is escaped, because there is no character that a path cannot have.
fn sqlite(path: &Path) -> Option<String> {
    let path = std::path::absolute(path).ok()?;
    let mut url = "sqlite://".to_owned();
    for byte in path.to_str()?.bytes() {
        write!(url, "%{byte:02X}").ok()?;
    }
    Some(url + "?mode=rwc")
}

impl FromStr for DatabaseUrl {
    type Err = HistoryError;

    fn from_str(text: &str) -> Result<Self, HistoryError> {
        let error = |text: &str, reason: &str| HistoryError::Url {
            text: text.to_owned(),
            reason: reason.to_owned(),
        };
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        match (scheme, text) {
            (Some("postgres" | "postgresql"), _) => Url::parse(text)
                .map(Self::Postgres)
                // Its text may have a password in it.
                .map_err(|reason| error("postgres://…", &reason.to_string())),
            (Some("sqlite"), _) => Self::from_str(&text["sqlite://".len()..]),
            (Some(scheme), _) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                Err(error(
                    &format!("{scheme}://…"),
                    "it can be the path of a file, :memory:, or postgres://…",
                ))
            }
            (_, "") => Err(error(text, "it is empty")),
            (_, ":memory:") => Ok(Self::Memory),
            (_, path) => Ok(Self::File(path.into())),
        }
    }
}

impl fmt::Display for DatabaseUrl {
    /// Without what may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Memory => f.write_str(":memory:"),
            Self::Postgres(url) => {
                write!(f, "postgres://{}", url.host_str().unwrap_or_default())?;
                if let Some(port) = url.port() {
                    write!(f, ":{port}")?;
                }
                f.write_str(url.path())
            }
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_understood() {
        let of = |text: &str| text.parse::<DatabaseUrl>().unwrap();
        assert_eq!(of(":memory:"), DatabaseUrl::Memory);
        assert_eq!(of("a b?c.db"), DatabaseUrl::File("a b?c.db".into()));
        assert_eq!(of("/x/y.db"), of("sqlite:///x/y.db"));
        assert_eq!(of("postgresql://host/name").kind(), "postgres");
    }

    #[test]
    fn what_is_no_database_is_refused() {
        for text in ["", "mysql://host/name", "postgres://host:port/name"] {
            let error = text.parse::<DatabaseUrl>().unwrap_err().to_string();
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let url = "postgres://user:secret@host:5433/name?password=secret";
        let database: DatabaseUrl = url.parse().unwrap();
        assert_eq!(database.to_string(), "postgres://host:5433/name");
        assert!(!format!("{database:?}").contains("secret"));
        let error = "postgres://user:secret@host:x/name"
            .parse::<DatabaseUrl>()
            .unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"));
    }

    #[test]
    fn a_path_can_have_any_character() {
        let path = "/tmp/a b?mode=ro#%41/../ü.db";
        let url = DatabaseUrl::File(path.into()).to_url().unwrap();
        assert_eq!(url.query(), Some("mode=rwc"));
        assert_eq!(url.fragment(), None);
    }
}
