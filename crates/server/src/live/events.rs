//! What happens, for everybody who listens.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use tokio::sync::broadcast;

use crate::model::Timestamp;

/// How many events one who comes back can catch up with.
pub(crate) const REMEMBERED: usize = 1_000;

/// How many events wait for one who does not read. It is as many as can be caught up with, so that nobody is behind
/// by more.
const WAITING: usize = REMEMBERED;

/// Something that has happened.
#[derive(Debug)]
pub(crate) struct Event {
    /// One more than that of the event before.
    pub(crate) id: u64,
    pub(crate) name: &'static str,
    /// Whom it is about; nobody if it is about the server.
    pub(crate) client: Option<Arc<str>>,
    /// JSON, made once for all who listen.
    pub(crate) data: String,
}

/// Hands on events, and remembers the newest.
#[derive(Debug)]
pub(crate) struct Events {
    newest: Mutex<Newest>,
    /// No event has this id, or one below: those are of a server before this one.
    before_first: u64,
    sender: broadcast::Sender<Arc<Event>>,
}

#[derive(Debug)]
struct Newest {
    events: VecDeque<Arc<Event>>,
    /// The id of the event that comes next is one more.
    last_id: u64,
}

/// What one who listens has missed, and what comes.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// What happened since the event that was named, the oldest first.
    pub(crate) missed: Vec<Arc<Event>>,
    /// How many more there were, which are forgotten.
    pub(crate) forgotten: u64,
    /// The id of the newest event that there was.
    pub(crate) last_id: u64,
    /// Everything after `missed`.
    pub(crate) coming: broadcast::Receiver<Arc<Event>>,
}

impl Default for Events {
    fn default() -> Self {
        // More than a server before this one can have counted to, if it told fewer than a thousand a millisecond; and a
        // number that JavaScript has.
        let millis = u64::try_from(Timestamp::now().millis()).unwrap_or_default();
        Self::after(millis * 1_000)
    }
}

impl Events {
    /// The id of the first event is one more.
    fn after(id: u64) -> Self {
        Self {
            newest: Mutex::new(Newest {
                events: VecDeque::new(),
                last_id: id,
            }),
            before_first: id,
            sender: broadcast::Sender::new(WAITING),
        }
    }

    /// Tells everybody.
    pub(crate) fn tell(
        &self,
        name: &'static str,
        client: Option<&Arc<str>>,
        data: &impl Serialize,
    ) {
        let data = match serde_json::to_string(data) {
            Ok(data) => data,
            Err(error) => {
                tracing::error!(%error, name, "an event has no JSON");
                return;
            }
        };
        let mut newest = self.newest();
        newest.last_id += 1;
        let event = Arc::new(Event {
            id: newest.last_id,
            name,
            client: client.cloned(),
            data,
        });
        if newest.events.len() == REMEMBERED {
            newest.events.pop_front();
        }
        newest.events.push_back(Arc::clone(&event));
        // Under the lock, so that all hear it in the order of the ids. An error says that nobody listens.
        let _ = self.sender.send(event);
    }

    /// What happens from now on, and what has happened since the event of that id. An id that no event here can have
    /// had is that of a server before this one: there is nothing to catch up with.
    pub(crate) fn subscribe(&self, after: Option<u64>) -> Subscription {
        let newest = self.newest();
        let coming = self.sender.subscribe();
        let known = self.before_first..=newest.last_id;
        let Some(after) = after.filter(|after| known.contains(after)) else {
            return Subscription {
                missed: Vec::new(),
                forgotten: 0,
                last_id: newest.last_id,
                coming,
            };
        };
        let missed: Vec<_> = newest
            .events
            .iter()
            .filter(|event| event.id > after)
            .cloned()
            .collect();
        let first = missed.first().map_or(newest.last_id + 1, |event| event.id);
        Subscription {
            forgotten: first - after - 1,
            last_id: newest.last_id,
            missed,
            coming,
        }
    }

    fn newest(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(events: &[Arc<Event>]) -> Vec<u64> {
        events.iter().map(|event| event.id).collect()
    }

    #[test]
    fn who_comes_back_hears_what_was_missed_and_nothing_twice() {
        let events = Events::after(0);
        for number in 1..=5 {
            events.tell("number", None, &number);
        }
        let mut subscription = events.subscribe(Some(3));
        assert_eq!(ids(&subscription.missed), [4, 5]);
        assert_eq!(subscription.forgotten, 0);
        events.tell("number", None, &6);
        let next = subscription.coming.try_recv().expect("one more");
        assert_eq!((next.id, next.data.as_str()), (6, "6"));
        assert!(subscription.coming.try_recv().is_err());
        assert!(events.subscribe(None).missed.is_empty());
        assert!(events.subscribe(Some(6)).missed.is_empty());
    }

    #[test]
    fn what_is_forgotten_is_counted() {
        let events = Events::after(0);
        let total = REMEMBERED as u64 + 10;
        for number in 0..total {
            events.tell("number", None, &number);
        }
        let subscription = events.subscribe(Some(4));
        assert_eq!(subscription.missed.len(), REMEMBERED);
        assert_eq!(subscription.forgotten, 6, "5 to 10");
        assert_eq!(events.subscribe(Some(10)).forgotten, 0);
    }

    #[test]
    fn an_id_of_another_server_is_no_place_to_go_on_from() {
        let earlier = Events::after(1_000);
        let events = Events::after(2_000);
        for number in 0..10 {
            earlier.tell("number", None, &number);
            events.tell("number", None, &number);
        }
        for id in [earlier.subscribe(None).last_id, 0, 1_999, 2_011, u64::MAX] {
            let subscription = events.subscribe(Some(id));
            assert_eq!((subscription.missed.len(), subscription.forgotten), (0, 0));
        }
        assert_eq!(events.subscribe(Some(2_000)).missed.len(), 10);
        let now = Events::default().subscribe(None).last_id;
        assert!(now > 1 << 50 && now < 1 << 53, "{now}");
    }
}
