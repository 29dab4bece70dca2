//! A disk that is full, and then is not: a small file system of the child's own.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use perpacket_lab::{Error, Skip, enter};
use perpacket_server::history::{DatabaseUrl, Entry, History, HistoryError};
use serde_json::json;

use super::place::{DEADLINE, client, eventually, everything, run, sample};

/// Says to this program that it is the child, and where it is to mount its disk.
const CHILD: &str = "PERPACKET_HISTORY_ON_A_FULL_DISK";

/// What the child ends with when this machine does not let it.
const REFUSED: u8 = 77;

/// Of the disk, in bytes.
const SIZE: usize = 256 << 20;

pub(crate) fn recording_stops() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let output = Command::new(env::current_exe()?)
        .env(CHILD, folder.path())
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(REFUSED.into()) {
        return Err(Skip(said.trim().to_owned()).into());
    }
    ensure!(output.status.success(), "{said}");
    Ok(())
}

/// What the child does; `None` in any other process.
pub(crate) fn child() -> Option<ExitCode> {
    let folder = env::var_os(CHILD)?;
    if let Err(error) = enter() {
        eprintln!("{error}");
        return Some(match error {
            Error::Refused { .. } => ExitCode::from(REFUSED),
            _ => ExitCode::FAILURE,
        });
    }
    Some(match fill(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    })
}

fn fill(folder: &Path) -> Result<()> {
    let options = format!("size={SIZE}");
    let none = None::<&str>;
    mount(
        none,
        folder,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(&*options),
    )
    .context("mount")?;
    let filler = folder.join("filler");
    run(async {
        let url = DatabaseUrl::File(folder.join("history.db"));
        let history = History::open(&url, "here", everything()).await?;
        history.record(Entry::Client(client("a", 0, None)));
        history.flush().await?;
        let full = write_until_full(&filler);
        ensure!(full.kind() == io::ErrorKind::StorageFull, "{full}");

        // Until the queue has no room either. Who records notices nothing.
        let text = "x".repeat(20_000);
        let mut at = 0;
        let mut longest = Duration::ZERO;
        eventually("the first loss", async || {
            for _ in 0..100 {
                let begin = Instant::now();
                history.record(sample("a", at, json!(text)));
                longest = longest.max(begin.elapsed());
                at += 1;
            }
            Ok((history.status().lost > 0).then_some(()))
        })
        .await?;
        ensure!(longest < Duration::from_secs(1), "it took {longest:?}");
        let flushed = history.flush().await;
        ensure!(matches!(flushed, Err(HistoryError::NotRecorded { .. })));
        // Samples leave some room for what is told only once.
        let lost = history.status().lost;
        let mut ended = client("a", 0, Some(1));
        ended.data = json!([text, text]);
        history.record(Entry::Client(ended));
        let status = history.status();
        ensure!(status.lost == lost, "{status:?}");
        let error = status.error.context("an error")?;
        ensure!(!status.recording && error.contains("full"), "{error}");
        // What is there can still be read.
        ensure!(history.client("a").await?.is_some());

        fs::remove_file(&filler)?;
        eventually("recording again", async || {
            Ok(history.status().recording.then_some(()))
        })
        .await?;
        history.flush().await?;
        let status = history.status();
        ensure!(status.queued == 0 && status.lost > 0, "{status:?}");
        let read = history.samples("a", 0, i64::MAX, 20_000).await?;
        ensure!(read.len() as u64 + status.lost == u64::try_from(at)?);
        let read_client = history.client("a").await?.context("a client")?;
        ensure!(read_client.client.ended == Some(1), "{read_client:?}");
        // All that were taken, and none that came later.
        ensure!(read.iter().zip(0..).all(|(read, at)| read.at == at));
        history.close(DEADLINE).await?;

        let history = History::open(&url, "here", everything()).await?;
        ensure!(history.samples("a", 0, i64::MAX, 20_000).await?.len() == read.len());
        Ok(history.close(DEADLINE).await?)
    })
}

fn write_until_full(path: &Path) -> io::Error {
    let zeros = vec![0; 1 << 20];
    let written = File::create(path).and_then(|mut file| {
        // By ever less, until there is no room for a page.
        let mut length = zeros.len();
        loop {
            match file.write(&zeros[..length]) {
                Ok(_) => {}
                Err(_) if length > 4096 => length /= 2,
                Err(error) => return Err::<(), _>(error),
            }
        }
    });
    written.err().unwrap_or_else(|| io::ErrorKind::Other.into())
}
