//! What can be opened, and what is said of what cannot.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use perpacket_server::history::{DatabaseUrl, Entry, History};
use tokio::time::timeout;

use super::place::{DEADLINE, client, everything, run};

pub(crate) fn odd_paths() -> Result<()> {
    let folder = tempfile::tempdir()?;
    run(async {
        for name in [
            "with a space.db",
            "what?mode=ro&cache=shared",
            "100%41#fragment",
            "漢字 🦀/new/folder/'quoted\".db",
            "a/../b:c;d\\e.db",
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(folder.path().join("a"))?;
            let url = DatabaseUrl::File(path.clone());
            for expected in [0, 1] {
                let history = History::open(&url, "here", everything()).await?;
                let read = history.client("a").await?;
                ensure!(read.iter().len() == expected, "{name}: {read:?}");
                history.record(Entry::Client(client("a", 1, None)));
                history.close(DEADLINE).await?;
            }
            let folder = path.parent().context("a folder")?;
            let mode = |path: &Path| anyhow::Ok(fs::metadata(path)?.permissions().mode() & 0o777);
            ensure!(mode(&path)? == 0o600, "{name}");
            // SQLite's own are gone with the last who has it open.
            let files = fs::read_dir(folder)?.filter_map(Result::ok);
            let files = files.filter(|file| file.path().is_file()).count();
            ensure!(files >= 1, "{name}");
            if name.contains('/') && !name.contains("..") {
                ensure!(mode(folder)? == 0o700 && files == 1, "{name}");
            }
        }
        Ok(())
    })
}

/// In one line, soon, and without a password.
pub(crate) fn what_cannot_be_opened() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let garbage = folder.path().join("garbage");
    fs::write(&garbage, "this is no database. ".repeat(1_000))?;
    // Somebody who listens, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let silent = silent.local_addr()?.port();
    let closed = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    run(async {
        for (url, why) in [
            (folder.path().display().to_string(), "directory"),
            (garbage.display().to_string(), "not a database"),
            (format!("{}/file", garbage.display()), "exists"),
            (
                format!("postgres://user:secret@127.0.0.1:{closed}/name"),
                "refused",
            ),
            (
                format!("postgres://user:secret@127.0.0.1:{silent}/name"),
                "did not answer",
            ),
            (
                "postgres://user:secret@127.0.0.1/name?sslmode=secure".to_owned(),
                "secure",
            ),
        ] {
            let database: DatabaseUrl = url.parse()?;
            let opening = History::open(&database, "here", everything());
            let error = timeout(Duration::from_secs(20), opening)
                .await?
                .err()
                .with_context(|| format!("{url} was opened"))?
                .to_string();
            ensure!(error.to_lowercase().contains(why), "{url}: {error}");
            ensure!(
                !error.contains("secret") && !error.contains('\n'),
                "{error}"
            );
        }
        Ok(())
    })
}
