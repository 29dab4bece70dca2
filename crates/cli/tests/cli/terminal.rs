//! The table that is kept up to date, on a terminal that is the test's.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::Pid;
use perpacket_lab::{Chain, Process, until};

use crate::program::{DEADLINE, Server, perpacket, wait};

/// What xterm and all like it take to show another screen, and the first one again.
const ENTERED: &str = "\x1b[?1049h";
const LEFT: &str = "\x1b[?1049l";

/// A terminal with the program on it.
struct Terminal {
    keyboard: File,
    /// The side of the program, whose settings are looked at.
    slave: std::os::fd::OwnedFd,
    shown: Arc<Mutex<String>>,
    before: Termios,
    process: Process,
    _server: Server,
}

impl Terminal {
    fn start(chain: &Chain, options: &[&str], no_color: bool) -> Result<Self> {
        let server = Server::start(&chain.right, chain.right_v4())?;
        let size = Winsize {
            ws_row: 24,
            ws_col: 120,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let OpenptyResult { master, slave } = openpty(Some(&size), None)?;
        let before = tcgetattr(slave.as_fd())?;
        let mut command = perpacket();
        command
            .args(["trace", &server.endpoint, "-n"])
            .args(options)
            .env("TERM", "xterm-256color")
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(slave.try_clone()?);
        if no_color {
            command.env("NO_COLOR", "1");
        } else {
            command.env_remove("NO_COLOR");
        }
        let process = chain.left.spawn(&mut command)?;
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut screen, to) = (File::from(master.try_clone()?), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                to.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push_str(&text);
            }
        });
        Ok(Self {
            keyboard: File::from(master),
            slave,
            shown,
            before,
            process,
            _server: server,
        })
    }

    fn shown(&self) -> String {
        self.shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn shows(&self, what: &str) -> Result<()> {
        until(
            DEADLINE,
            || format!("{what:?}: {:?}", self.shown()),
            || Ok(self.shown().contains(what).then_some(())),
        )?;
        Ok(())
    }

    /// Waits until what is on the screen has changed some more.
    fn shows_more(&self) -> Result<()> {
        let before = self.shown().len();
        until(
            DEADLINE,
            || format!("more: {:?}", self.shown()),
            || Ok((self.shown().len() > before + 500).then_some(())),
        )?;
        Ok(())
    }

    fn is_raw(&self) -> Result<bool> {
        let flags = tcgetattr(self.slave.as_fd())?.local_flags;
        Ok(!flags.contains(LocalFlags::ICANON))
    }

    /// Fails unless the program ends so, and leaves the terminal as it was.
    fn ends_well(mut self) -> Result<String> {
        let shown = Arc::clone(&self.shown);
        let status = wait(&mut self.process, || format!("the end: {shown:?}"))?;
        ensure!(status.code() == Some(0), "{status:?}: {:?}", self.shown());
        self.shows(LEFT)?;
        let after = tcgetattr(self.slave.as_fd())?;
        let (before, after) = (libc_like(&self.before), libc_like(&after));
        ensure!(before == after, "{before:?} and {after:?}");
        Ok(self.shown())
    }
}

/// What can be compared of the settings.
fn libc_like(termios: &Termios) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        termios.input_flags,
        termios.output_flags,
        termios.control_flags,
        termios.local_flags,
        termios.control_chars,
    )
}

/// Host, router that says nothing, router, host.
fn chain() -> Result<Chain> {
    let chain = Chain::new(2, 1500)?;
    chain.routers[0].nft(
        "table inet t { chain c { type filter hook output priority 0; meta l4proto icmp drop; }; }",
    )?;
    Ok(chain)
}

pub(crate) fn live() -> Result<()> {
    let chain = chain()?;
    let mut terminal = Terminal::start(&chain, &["--interval", "0.2", "--wait", "0.3"], false)?;
    terminal.shows(ENTERED)?;
    terminal.shows("10.0.2.2")?;
    terminal.shows("the server")?;
    ensure!(terminal.is_raw()?);
    // Grey, for the silent router: the 8th of the bright colours.
    terminal.shows("38;5;8;")?;
    terminal.keyboard.write_all(b"q")?;
    let shown = terminal.ends_well()?;
    let (_, printed) = shown.rsplit_once(LEFT).expect("it has left");
    for words in ["10.0.1.2", "10.0.2.2", "the server", "the one path"] {
        ensure!(printed.contains(words), "{words}: {printed:?}");
    }
    Ok(())
}

pub(crate) fn sigterm() -> Result<()> {
    let chain = chain()?;
    let mut terminal = Terminal::start(&chain, &["--interval", "0.2", "--wait", "0.3"], true)?;
    terminal.shows("the server")?;
    terminal.shows("…")?;
    // It goes on after a new beginning.
    terminal.keyboard.write_all(b"rn")?;
    terminal.shows_more()?;
    kill(
        Pid::from_raw(terminal.process.id().cast_signed()),
        Signal::SIGTERM,
    )?;
    let shown = terminal.ends_well()?;
    ensure!(!shown.contains("38;5;"), "{shown:?}");
    Ok(())
}
