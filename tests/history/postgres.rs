//! A PostgreSQL of Debian's package, run by the test as an ordinary user and reached through a socket in its folder.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use perpacket_lab::{Skip, require_program, until};
use perpacket_server::history::DatabaseUrl;
use tempfile::TempDir;

/// "nobody": initdb and the server refuse to be run by root.
const USER: u32 = 65534;

/// On a machine that is busy with something else.
const DEADLINE: Duration = Duration::from_mins(1);

/// A server that runs until this is dropped.
#[derive(Debug)]
pub(crate) struct Postgres {
    programs: PathBuf,
    folder: TempDir,
    server: Mutex<Option<Child>>,
    databases: AtomicU32,
}

impl Postgres {
    /// Makes a cluster of its own, and starts its server.
    pub(crate) fn start() -> Result<Self> {
        let postgres = Self {
            programs: programs()?,
            folder: tempfile::Builder::new().prefix("perpacket").tempdir()?,
            server: Mutex::default(),
            databases: AtomicU32::new(0),
        };
        fs::set_permissions(postgres.folder.path(), Permissions::from_mode(0o700))?;
        if geteuid().is_root() {
            chown(postgres.folder.path(), Some(USER), Some(USER))?;
        }
        let made = postgres
            .command("initdb")?
            .args(["--username=test", "--auth=trust", "--encoding=UTF8"])
            .args(["--locale=C", "--no-sync", "--pgdata=data"])
            .output()?;
        ensure!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        postgres.run()?;
        Ok(postgres)
    }

    /// Starts the server, and waits until it answers. It ends with the thread that has started it, if not before.
    pub(crate) fn run(&self) -> Result<()> {
        let log = self.folder.path().join("log");
        let output = File::create(&log)?;
        let child = self
            .command("postgres")?
            .args(["-D", "data", "-k"])
            .arg(self.folder.path())
            .args(["-c", "listen_addresses=", "-c", "max_connections=200"])
            // It is never the machine that goes down here.
            .args(["-c", "fsync=off"])
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        let answers = || {
            Ok(self
                .client("psql", &["--command=SELECT 1", "postgres"])
                .ok())
        };
        until(DEADLINE, || "PostgreSQL's answer".to_owned(), answers)
            .with_context(|| fs::read_to_string(log).unwrap_or_default())
    }

    /// Stops the server, as `pg_ctl stop --mode=fast` does: who is connected is cut off.
    pub(crate) fn stop(&self) -> Result<()> {
        let child = self
            .server
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(mut child) = child {
            kill(Pid::from_raw(child.id().try_into()?), Signal::SIGINT)?;
            child.wait()?;
        }
        Ok(())
    }

    /// A database that is empty.
    pub(crate) fn database(&self) -> Result<DatabaseUrl> {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.client("createdb", &[&name])?;
        let folder = self.folder.path().display();
        Ok(format!("postgres:///{name}?host={folder}&user=test").parse()?)
    }

    fn client(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let output = self
            .command(program)?
            .arg("--host")
            .arg(self.folder.path())
            .args(["--username=test", "--no-password"])
            .args(arguments)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program}: {said}");
        Ok(())
    }

    fn command(&self, program: &str) -> Result<Command> {
        let setpriv = require_program("setpriv", "apt-get install util-linux")?;
        let mut command = Command::new(setpriv);
        command.args(["--pdeathsig", "INT"]);
        if geteuid().is_root() {
            command.args(["--clear-groups", "--reuid", &USER.to_string()]);
            command.args(["--regid", &USER.to_string()]);
        }
        command
            .arg(self.programs.join(program))
            .current_dir(self.folder.path())
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        Ok(command)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("PostgreSQL is not stopped: {error:#}");
        }
    }
}

/// Where Debian has the programs of the newest version.
fn programs() -> Result<PathBuf> {
    let version = |folder: &Path| -> Option<u32> {
        let version = folder.file_name()?.to_str()?.parse().ok()?;
        folder.join("bin/initdb").is_file().then_some(version)
    };
    let folders = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let newest = folders
        .filter_map(|folder| Some(folder.ok()?.path()))
        .filter_map(|folder| Some((version(&folder)?, folder)))
        .max();
    let (_, folder) = newest.ok_or_else(|| {
        Skip(
            "PostgreSQL is not installed: sh tests/install.sh, or apt-get install postgresql"
                .into(),
        )
    })?;
    Ok(folder.join("bin"))
}
