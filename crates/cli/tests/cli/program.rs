//! The program under test.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read};
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use perpacket_lab::{Node, Process, until};
use serde_json::Value;
use tempfile::TempDir;

use crate::stub::forward;

/// What every wait is limited to, on a machine that is busy with something else.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// For `nft`: application data of DTLS (RFC 6347 §4.1), which data channels are, does not pass.
pub(crate) const NO_CHANNEL: &str = "table inet t { chain c { type filter hook forward priority 0; \
    meta l4proto udp @th,64,8 23 drop; }; }";

/// The program as a command. A test that was copied elsewhere is told where the program is.
pub(crate) fn perpacket() -> Command {
    let built = || OsString::from(env!("CARGO_BIN_EXE_perpacket"));
    let mut command = Command::new(std::env::var_os("PERPACKET_PROGRAM").unwrap_or_else(built));
    for variable in [
        "http_proxy",
        "HTTP_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "PERPACKET_LOG",
    ] {
        command.env_remove(variable);
    }
    command
}

/// The lines that a stream has given so far.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn read(stream: impl Read + Send + 'static) -> (Self, JoinHandle<()>) {
        let lines = Self::default();
        let to = lines.clone();
        let reading = std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                to.0.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
            }
        });
        (lines, reading)
    }

    fn get(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// One that runs. It is killed when this is dropped.
pub(crate) struct Program {
    process: Process,
    stdout: (Lines, JoinHandle<()>),
    stderr: (Lines, JoinHandle<()>),
}

/// What is left of one that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
}

impl Program {
    pub(crate) fn start(node: &Node, args: &[&str]) -> Result<Self> {
        Self::spawn(node, perpacket().args(args))
    }

    pub(crate) fn spawn(node: &Node, command: &mut Command) -> Result<Self> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = node.spawn(command)?;
        let child = process.child();
        let stdout = child.stdout.take().context("no pipe")?;
        let stderr = child.stderr.take().context("no pipe")?;
        Ok(Self {
            process,
            stdout: Lines::read(stdout),
            stderr: Lines::read(stderr),
        })
    }

    /// Runs it to its end.
    pub(crate) fn run(node: &Node, args: &[&str]) -> Result<Ended> {
        Self::start(node, args)?.end()
    }

    /// The rest of the first line on standard output that begins so, once it is there.
    pub(crate) fn line(&mut self, beginning: &str) -> Result<String> {
        let (lines, errors) = (self.stdout.0.clone(), self.stderr.0.clone());
        let found = until(
            DEADLINE,
            || {
                format!(
                    "a line {beginning:?}: {:?}, {:?}",
                    lines.get(),
                    errors.get()
                )
            },
            || {
                let found = lines
                    .get()
                    .iter()
                    .find_map(|line| Some(line.strip_prefix(beginning)?.to_owned()));
                Ok(found)
            },
        )?;
        Ok(found)
    }

    /// Waits until standard output has so many lines that begin so.
    pub(crate) fn lines(&mut self, beginning: &str, number: usize) -> Result<()> {
        self.lines_that(|line| line.starts_with(beginning), number, beginning)
    }

    /// Waits until standard output has so many lines with these words.
    pub(crate) fn says(&mut self, words: &str, number: usize) -> Result<()> {
        self.lines_that(|line| line.contains(words), number, words)
    }

    fn lines_that(&self, is_one: impl Fn(&str) -> bool, number: usize, what: &str) -> Result<()> {
        let lines = self.stdout.0.clone();
        let count = || lines.get().iter().filter(|line| is_one(line)).count();
        until(
            DEADLINE,
            || format!("{number} lines {what:?}: {:?}", lines.get()),
            || Ok((count() >= number).then_some(())),
        )?;
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(
            Pid::from_raw(self.process.id().cast_signed()),
            signal,
        )?)
    }

    /// What it is when it has ended by itself.
    pub(crate) fn end(mut self) -> Result<Ended> {
        let status = wait(&mut self.process, || {
            format!(
                "the end: {:?}, {:?}",
                self.stdout.0.get(),
                self.stderr.0.get()
            )
        })?;
        let mut texts = Vec::new();
        for (lines, reading) in [self.stdout, self.stderr] {
            reading.join().expect("it does not panic");
            texts.push(lines.get());
        }
        let stderr = texts.pop().unwrap_or_default();
        let stdout = texts.pop().unwrap_or_default();
        Ok(Ended {
            code: status.code(),
            stdout,
            stderr,
        })
    }
}

/// Waits until a program has ended.
pub(crate) fn wait(process: &mut Process, what: impl FnOnce() -> String) -> Result<ExitStatus> {
    let status = until(DEADLINE, what, || {
        Ok(process.child().try_wait().expect("it is ours"))
    })?;
    Ok(status)
}

impl Ended {
    /// Fails unless it has ended so.
    pub(crate) fn with(self, code: i32) -> Result<Self> {
        ensure!(self.code == Some(code), "not {code}: {self:#?}");
        Ok(self)
    }

    /// Fails unless standard error, of one line, has these words.
    pub(crate) fn complains(&self, words: &str) -> Result<()> {
        let [line] = &self.stderr[..] else {
            bail!("not one line: {self:#?}");
        };
        ensure!(line.contains(words), "not {words:?}: {line}");
        Ok(())
    }

    /// The JSON objects on standard output, each of which has one key: session first, report last, event
    /// between.
    pub(crate) fn json(&self) -> Result<Json> {
        let mut objects = Vec::new();
        for line in &self.stdout {
            let object: Value = serde_json::from_str(line).with_context(|| line.clone())?;
            let object = object.as_object().with_context(|| line.clone())?;
            let [(key, value)] = &object.iter().collect::<Vec<_>>()[..] else {
                bail!("not one key: {line}");
            };
            objects.push((key.as_str().to_owned(), Value::clone(value)));
        }
        let keys: Vec<_> = objects.iter().map(|(key, _)| key.as_str()).collect();
        let [("session", session), events @ .., ("report", report)] = &objects
            .iter()
            .map(|(key, value)| (key.as_str(), value))
            .collect::<Vec<_>>()[..]
        else {
            bail!("{keys:?}");
        };
        ensure!(events.iter().all(|(key, _)| *key == "event"), "{keys:?}");
        Ok(Json {
            session: Value::clone(session),
            events: events
                .iter()
                .map(|(_, value)| Value::clone(value))
                .collect(),
            report: Value::clone(report),
        })
    }

    /// The fields of the CSV on standard output, which has no quotes in it, header first.
    pub(crate) fn csv(&self) -> Result<Vec<Vec<&str>>> {
        let rows: Vec<Vec<_>> = self
            .stdout
            .iter()
            .map(|line| line.split(',').collect())
            .collect();
        let columns = rows.first().context("no header")?.len();
        ensure!(rows.iter().all(|row| row.len() == columns), "{rows:?}");
        Ok(rows)
    }
}

/// What `--json` has printed.
pub(crate) struct Json {
    pub(crate) session: Value,
    pub(crate) events: Vec<Value>,
    pub(crate) report: Value,
}

/// A server, its endpoint, and how to ask it.
pub(crate) struct Server {
    pub(crate) program: Program,
    pub(crate) endpoint: String,
    node: Node,
    token: String,
    _folder: TempDir,
}

impl Server {
    pub(crate) fn start(node: &Node, address: IpAddr) -> Result<Self> {
        Self::with(node, address, &[])
    }

    /// With more options.
    pub(crate) fn with(node: &Node, address: IpAddr, options: &[&str]) -> Result<Self> {
        let folder = TempDir::new()?;
        let file = folder.path().join("token");
        let mut command = perpacket();
        command
            .args(["serve", "--bind", &address.to_string(), "--port", "0"])
            .args(["--database", ":memory:", "--token-file"])
            .arg(&file)
            .args(options);
        let mut program = Program::spawn(node, &mut command)?;
        let token = program.line("token ")?;
        Self::running(node, program, token, folder)
    }

    /// One that was started, with what it keeps in this folder.
    pub(crate) fn running(
        node: &Node,
        mut program: Program,
        token: String,
        folder: TempDir,
    ) -> Result<Self> {
        Ok(Self {
            endpoint: program.line("endpoint ")?,
            node: node.clone(),
            token,
            program,
            _folder: folder,
        })
    }

    /// The address of HTTP.
    pub(crate) fn socket(&self) -> Result<SocketAddr> {
        let socket = self.endpoint.strip_prefix("http://");
        let socket = socket.and_then(|it| it.strip_suffix("/whip"));
        Ok(socket.context("another URL")?.parse()?)
    }

    /// What it answers to an operator.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Result<Value> {
        let socket = self.socket()?;
        let Self { token, node, .. } = self;
        let length = body.len();
        let answer = forward(
            node,
            socket,
            &format!(
                "{method} {path} HTTP/1.1\r\nhost: {socket}\r\nauthorization: Bearer {token}\r\n\
                 content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            ),
        );
        let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
        serde_json::from_str(body).with_context(|| answer.clone())
    }

    /// Waits until so many sessions have come and gone.
    pub(crate) fn has_seen(&self, sessions: usize) -> Result<()> {
        let gone = || {
            let answer = self.ask("GET", "/api/clients?state=all", "").ok()?;
            let clients = answer["clients"].as_array()?;
            let is_over = |client: &Value| client["ended"] != Value::Null;
            (clients.len() == sessions && clients.iter().all(is_over)).then_some(())
        };
        let what = || format!("{sessions} sessions, and none left");
        until(DEADLINE, what, || Ok(gone()))?;
        Ok(())
    }
}
