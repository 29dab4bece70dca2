//! Changes of a client's options, under watch: one that cuts the client off is taken back by itself.
//!
//! What a client sends arrives whatever this server's packets look like, so hearing from it proves nothing. What does is
//! an answer to a check that went out with the very header that the changed packets have: consent, as RFC 7675 has it.
//! Checks with the header from before go out as well, and tell a change that cuts off from an outage.

mod drive;
mod watch;

use std::sync::{Mutex, MutexGuard, PoisonError};

use perpacket_webrtc::{Overrides, PacketClass, udp::MessageOptions};
use tokio::task::AbortHandle;

pub(crate) use drive::change;
pub(crate) use watch::{Reason, Watch};

use crate::model;

/// What is known of the changes of one client.
#[derive(Debug, Default)]
pub(crate) struct Guarding(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The change that was watched last.
    view: Option<model::Guard>,
    /// While one is watched.
    watching: Option<Watching>,
    /// How many changes there were: what watches one knows by this that it is still the newest.
    number: u64,
    /// Whether the client has ended, and nothing is watched any more.
    ended: bool,
}

#[derive(Debug)]
struct Watching {
    task: AbortHandle,
    /// What was set when all was well.
    before: Overrides,
    /// Whether something has come back with the options of the change.
    proved: bool,
}

impl Guarding {
    /// The change that was watched last.
    pub(crate) fn view(&self) -> Option<model::Guard> {
        self.lock().view.clone()
    }

    /// Watches nothing any more.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.number += 1;
        if let Some(watching) = state.watching.take() {
            watching.task.abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The options of a class, or of all of them together.
pub(crate) fn options_of(overrides: &Overrides, class: Option<PacketClass>) -> MessageOptions {
    match class {
        Some(class) => overrides.classes[class.index()],
        None => overrides.any,
    }
}
