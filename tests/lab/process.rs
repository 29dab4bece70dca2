//! Programs inside a node.

use std::io::Write;
use std::process::{Child, Command, Output, Stdio};

use crate::error::{Error, Result};
use crate::harness::require_program;
use crate::node::Node;

/// A program that runs inside a [`Node`], and is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    program: String,
}

impl Node {
    /// Starts a program inside this node.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Process> {
        let program = command.get_program().to_string_lossy().into_owned();
        // A child is born into the namespace of the thread that starts it.
        let child = self
            .run(|| command.spawn())
            .map_err(|e| Error::system(format!("start {program} in {}", self.name()), e))?;
        Ok(Process { child, program })
    }

    /// Runs a program inside this node to its end, and returns what it printed.
    ///
    /// # Errors
    /// When it cannot be started, or fails.
    pub fn output(&self, command: &mut Command) -> Result<Output> {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.spawn(command)?.wait()
    }

    /// Adds nftables rules: the text is a file for `nft -f`. An IPv4 and IPv6 packet that leaves this
    /// node, for example, is refused with `EPERM` by
    /// `table inet t { chain c { type filter hook output priority 0; udp dport 5000 drop; }; }`.
    ///
    /// # Errors
    /// [`Error::Skip`] when `nft` is missing, [`Error::Program`] with its words when it does not accept
    /// the rules.
    pub fn nft(&self, rules: &str) -> Result<()> {
        let nft = require_program("nft", "apt-get install nftables")?;
        let mut command = Command::new(nft);
        command
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = self.spawn(&mut command)?;
        let stdin = process.child.stdin.take();
        let written = stdin.map_or(Ok(()), |mut stdin| stdin.write_all(rules.as_bytes()));
        // Where nft gave up before it had read everything, its own words tell more than a broken pipe.
        process.wait()?;
        written.map_err(|e| Error::system("write to nft", e))
    }
}

impl Process {
    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits until it ends by itself, and returns what it wrote to the pipes it was given.
    ///
    /// # Errors
    /// [`Error::Program`] when it does not end with success.
    pub fn wait(mut self) -> Result<Output> {
        let failed = |e| Error::system(format!("wait for {}", self.program), e);
        self.child.stdin.take();
        // Two pipes are read one after the other: a reader thread for one keeps the other from filling up.
        let stderr = self.child.stderr.take().map(reader);
        let stdout = self.child.stdout.take().map(reader);
        let status = self.child.wait().map_err(failed)?;
        let output = Output {
            status,
            stdout: stdout.map(collect).unwrap_or_default(),
            stderr: stderr.map(collect).unwrap_or_default(),
        };
        if output.status.success() {
            return Ok(output);
        }
        Err(Error::Program {
            program: self.program.clone(),
            status,
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn reader(mut pipe: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is still worth showing.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

fn collect(reader: std::thread::JoinHandle<Vec<u8>>) -> Vec<u8> {
    reader.join().unwrap_or_default()
}
