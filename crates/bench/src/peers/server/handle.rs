//! A server as whoever started it sees it.

use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::Mutex;

use super::{Command, Reply, Usage};
use crate::again::this_program;
use crate::peers::soon;
use crate::peers::way::Way;

/// A running server. It ends when this is dropped.
pub(crate) struct Server {
    _child: Child,
    ends: Mutex<Ends>,
}

struct Ends {
    commands: ChildStdin,
    replies: Lines<BufReader<ChildStdout>>,
}

impl Server {
    /// Starts one. To be called on the runtime.
    pub(crate) fn start(way: Way) -> Result<Self> {
        let mut child = tokio::process::Command::new(this_program()?)
            .args(["--serve", way.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start this program again")?;
        let commands = child.stdin.take().context("no standard input")?;
        let replies = child.stdout.take().context("no standard output")?;
        let replies = BufReader::new(replies).lines();
        Ok(Self {
            _child: child,
            ends: Mutex::new(Ends { commands, replies }),
        })
    }

    /// Its answer to a publisher's offer.
    pub(crate) async fn publish(&self, offer: String) -> Result<String> {
        self.answer(Command::Publish { offer }).await
    }

    /// Its answer to a subscriber's offer.
    pub(crate) async fn subscribe(&self, offer: String) -> Result<String> {
        self.answer(Command::Subscribe { offer }).await
    }

    /// Its answer to the offer of a peer connection that will be idle.
    pub(crate) async fn idle(&self, offer: String) -> Result<String> {
        self.answer(Command::Idle { offer }).await
    }

    /// What it has used.
    pub(crate) async fn usage(&self) -> Result<Usage> {
        match self.ask(&Command::Usage).await? {
            Reply::Usage(usage) => Ok(usage),
            other => bail!("{other:?}"),
        }
    }

    /// Its resident memory that is no file's, bytes.
    pub(crate) async fn memory(&self) -> Result<u64> {
        match self.ask(&Command::Memory).await? {
            Reply::Memory(bytes) => Ok(bytes),
            other => bail!("{other:?}"),
        }
    }

    async fn answer(&self, command: Command) -> Result<String> {
        match self.ask(&command).await? {
            Reply::Answer(answer) => Ok(answer),
            other => bail!("{other:?}"),
        }
    }

    async fn ask(&self, command: &Command) -> Result<Reply> {
        let mut line = serde_json::to_string(command)?;
        line.push('\n');
        let mut ends = self.ends.lock().await;
        ends.commands.write_all(line.as_bytes()).await?;
        let reply = soon("the server", ends.replies.next_line()).await??;
        let reply = reply.context("the server has ended")?;
        match serde_json::from_str(&reply)? {
            Reply::Failed(why) => bail!("the server: {why}"),
            reply => Ok(reply),
        }
    }
}
