//! A client that is a program of its own: commands on its stdin, answers on its stdout.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::{Node, Process, Skip, require_program, until};
use serde_json::Value;

use crate::support::connection::DEADLINE;

/// How to get what is not there.
pub(crate) const INSTALL: &str = "sh tests/clients/install.sh";

pub(crate) struct Program {
    process: Process,
    stdin: ChildStdin,
    answers: Receiver<String>,
}

impl Program {
    /// One for Python, in `python`.
    pub(crate) fn python(node: &Node, name: &str) -> Result<Self> {
        let script = folder().join("python").join(name).with_extension("py");
        let mut command = Command::new(installed("venv/bin/python")?);
        command.arg(script).env("PYTHONDONTWRITEBYTECODE", "1");
        Self::start(node, &mut command)
    }

    /// One for Node.js, in `js`.
    pub(crate) fn node(node: &Node, name: &str) -> Result<Self> {
        installed("node_modules")?;
        let script = folder().join("js").join(name).with_extension("js");
        Self::start(
            node,
            Command::new(require_program("node", INSTALL)?).arg(script),
        )
    }

    fn start(node: &Node, command: &mut Command) -> Result<Self> {
        let mut process = node.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let child = process.child();
        let stdin = child.stdin.take().context("no stdin")?;
        let stdout = child.stdout.take().context("no stdout")?;
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            let lines = BufReader::new(stdout).lines();
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            process,
            stdin,
            answers,
        })
    }

    pub(crate) fn command(&mut self, line: &str) -> Result<Value> {
        writeln!(self.stdin, "{line}")?;
        let answer = self
            .answers
            .recv_timeout(DEADLINE)
            .with_context(|| format!("no answer to {line}"))?;
        serde_json::from_str(&answer).with_context(|| answer)
    }

    /// Waits until it ends by itself, as it does after `close`.
    pub(crate) fn ended(mut self) -> Result<()> {
        let child = self.process.child();
        let status = until(
            DEADLINE,
            || "the program to end".to_owned(),
            || Ok(child.try_wait().ok().flatten()),
        )?;
        ensure!(status.success(), "{status}");
        Ok(())
    }
}

/// A file that the installer makes.
pub(crate) fn installed(file: &str) -> Result<PathBuf, Skip> {
    let path = folder().join(file);
    if path.exists() {
        return Ok(path);
    }
    Err(Skip(format!("{file} is not there: {INSTALL}")))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}
