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
use crate::screen::Screen;

/// What xterm and all like it take to show another screen, and the first one again.
const ENTERED: &str = "\x1b[?1049h";
const LEFT: &str = "\x1b[?1049l";

const ROWS: u16 = 24;
const COLUMNS: u16 = 120;

/// What the table tells.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// The last complete picture.
    picture: Vec<String>,
    round: u32,
    /// How often it was less than before.
    restarts: u32,
}

impl Seen {
    fn look(&mut self, screen: &Screen) {
        self.picture = screen.rows().collect();
        let round = self.picture[0]
            .split_once("   round ")
            .and_then(|(_, rest)| rest.split_once("   q ends"))
            .and_then(|(round, _)| round.parse().ok());
        if let Some(round) = round {
            self.restarts += u32::from(round < self.round);
            self.round = round;
        }
    }
}

/// A terminal with the program on it.
struct Terminal {
    keyboard: File,
    /// The side of the program, whose settings are looked at.
    slave: std::os::fd::OwnedFd,
    shown: Arc<Mutex<String>>,
    seen: Arc<Mutex<Seen>>,
    before: Termios,
    process: Process,
    _server: Server,
}

impl Terminal {
    fn start(chain: &Chain, options: &[&str], no_color: bool) -> Result<Self> {
        let server = Server::start(&chain.right, chain.right_v4())?;
        let size = Winsize {
            ws_row: ROWS,
            ws_col: COLUMNS,
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
        let (mut written, to) = (File::from(master.try_clone()?), Arc::clone(&shown));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let looking = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            let mut screen = Screen::new(ROWS.into(), COLUMNS.into());
            let mut bytes = Vec::new();
            while let Ok(length @ 1..) = written.read(&mut buffer) {
                bytes.extend_from_slice(&buffer[..length]);
                // The rest is the beginning of a character.
                let whole = str::from_utf8(&bytes).map_or_else(|e| e.valid_up_to(), str::len);
                let rest = bytes.split_off(whole);
                let text = String::from_utf8(std::mem::replace(&mut bytes, rest))
                    .expect("it has been looked at");
                for character in text.chars() {
                    if screen.write(character) {
                        let mut seen = looking.lock().unwrap_or_else(PoisonError::into_inner);
                        seen.look(&screen);
                    }
                }
                to.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push_str(&text);
            }
        });
        Ok(Self {
            keyboard: File::from(master),
            slave,
            shown,
            seen,
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

    /// Waits until a row of the picture has this.
    fn pictures(&self, what: &str) -> Result<()> {
        self.has_seen(what, |seen| {
            seen.picture.iter().any(|row| row.contains(what))
        })
    }

    fn seen(&self) -> Seen {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until the table is so.
    fn has_seen(&self, what: &str, is_so: impl Fn(&Seen) -> bool) -> Result<()> {
        until(
            DEADLINE,
            || format!("{what}: {:?}", self.seen()),
            || Ok(is_so(&self.seen()).then_some(())),
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
    let options = ["--interval", "0.2", "--wait", "0.3", "-vvv"];
    let mut terminal = Terminal::start(&chain, &options, false)?;
    terminal.shows(ENTERED)?;
    terminal.pictures("10.0.2.2")?;
    terminal.pictures("the server")?;
    ensure!(terminal.is_raw()?);
    // Grey, for the silent router: the 8th of the bright colours.
    terminal.shows("38;5;8;")?;
    terminal.keyboard.write_all(b"q")?;
    let shown = terminal.ends_well()?;
    let (_, printed) = shown.rsplit_once(LEFT).expect("it has left");
    for words in ["10.0.1.2", "10.0.2.2", "the server", "the one path"] {
        ensure!(printed.contains(words), "{words}: {printed:?}");
    }
    // What is logged meanwhile comes afterwards.
    let (_, drawn) = shown.split_once(ENTERED).expect("it was entered");
    let (drawn, _) = drawn.rsplit_once(LEFT).expect("it has left");
    let logs = |text: &str| text.contains("TRACE") || text.contains("DEBUG");
    ensure!(!logs(drawn), "{drawn:?}");
    ensure!(logs(printed), "{printed:?}");
    Ok(())
}

pub(crate) fn begins_anew() -> Result<()> {
    let chain = chain()?;
    let options = ["--interval", "0.2", "--wait", "0.3"];
    let mut terminal = Terminal::start(&chain, &options, false)?;
    terminal.has_seen("some rounds", |seen| seen.round >= 5)?;
    let before = terminal.seen().restarts;
    ensure!(before == 0, "{before}");
    terminal.keyboard.write_all(b"r")?;
    terminal.has_seen("an early round", |seen| seen.restarts == 1)?;
    terminal.has_seen("the next", |seen| seen.round > 0)?;
    terminal.keyboard.write_all(b"q")?;
    terminal.ends_well()?;
    Ok(())
}

pub(crate) fn sigterm() -> Result<()> {
    let chain = chain()?;
    let terminal = Terminal::start(&chain, &["--interval", "0.2", "--wait", "0.3"], true)?;
    terminal.pictures("the server")?;
    terminal.pictures("…")?;
    kill(
        Pid::from_raw(terminal.process.id().cast_signed()),
        Signal::SIGTERM,
    )?;
    let shown = terminal.ends_well()?;
    ensure!(!shown.contains("38;5;"), "{shown:?}");
    Ok(())
}
