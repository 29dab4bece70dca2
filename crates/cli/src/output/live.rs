//! A terminal that is drawn on.

use std::{
    env,
    io::{self, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use ratatui::{
    DefaultTerminal, Frame,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
};
use tokio::sync::mpsc;

/// While the terminal is in another state than it was found: what is to be printed then.
static LATER: Mutex<Option<Vec<u8>>> = Mutex::new(None);

/// How many bytes of that are kept.
const KEPT: usize = 1 << 20;

/// How long the thread that reads keys does not look whether it is to end.
const POLL: Duration = Duration::from_millis(50);

/// Gives the terminal back as it was found, if it is drawn on, and prints what had to wait for that.
pub(crate) fn restore() {
    let mut later = later();
    if let Some(text) = later.take() {
        // The terminal may be gone, which must not keep the session from being ended.
        let _ = ratatui::try_restore();
        let _ = io::stderr().write_all(&text);
    }
}

fn later() -> MutexGuard<'static, Option<Vec<u8>>> {
    LATER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Standard error, but not while the terminal is drawn on: later then.
pub(crate) struct Aside;

impl Write for Aside {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match &mut *later() {
            Some(kept) => {
                if kept.len() < KEPT {
                    kept.extend_from_slice(text);
                }
                Ok(text.len())
            }
            None => io::stderr().write(text),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What somebody at the keyboard wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// A letter.
    Letter(char),
    /// To end: Ctrl-C, which is no signal here, or Escape.
    End,
    /// To see it in another size.
    Resized,
}

/// The whole terminal, until it is dropped: it is as it was then, after a panic too.
pub(crate) struct Screen {
    terminal: DefaultTerminal,
    keys: mpsc::UnboundedReceiver<Key>,
    closed: Arc<AtomicBool>,
}

impl Screen {
    pub(crate) fn open() -> Result<Self> {
        let terminal =
            ratatui::try_init().context("cannot draw on this terminal; --plain prints")?;
        *later() = Some(Vec::new());
        let (sender, keys) = mpsc::unbounded_channel();
        let closed = Arc::new(AtomicBool::new(false));
        let is_closed = Arc::clone(&closed);
        // Crossterm waits on the thread that asks it.
        thread::spawn(move || {
            while !is_closed.load(Relaxed) {
                let key = match next_key() {
                    Ok(Some(key)) => key,
                    Ok(None) => continue,
                    // The terminal is gone, and whoever looked at it.
                    Err(_) => Key::End,
                };
                if sender.send(key).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            terminal,
            keys,
            closed,
        })
    }

    pub(crate) fn draw(&mut self, frame: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(frame).map(|_| ())
    }

    /// The next key. Cancel-safe.
    pub(crate) async fn key(&mut self) -> Key {
        self.keys.recv().await.unwrap_or(Key::End)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.closed.store(true, Relaxed);
        restore();
    }
}

/// `None` where there is none for a while.
fn next_key() -> io::Result<Option<Key>> {
    if !event::poll(POLL)? {
        return Ok(None);
    }
    Ok(match event::read()? {
        Event::Resize(..) => Some(Key::Resized),
        Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
            KeyCode::Esc => Some(Key::End),
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::End),
            KeyCode::Char(letter) => Some(Key::Letter(letter.to_ascii_lowercase())),
            _ => None,
        },
        _ => None,
    })
}

/// Whether colours are wanted (<https://no-color.org>).
pub(crate) fn has_colours() -> bool {
    env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
