//! The clients that there are, and what happens to them.

mod capture;
mod client;
mod events;
mod recent;
mod shares;
mod user_agent;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

pub(crate) use capture::{Capture, Packet};
pub(crate) use client::LiveClient;
pub(crate) use events::{Event, Events, Subscription};
pub(crate) use recent::Recent;
pub(crate) use shares::Shares;

use crate::model;

/// How many clients that have ended are remembered here. History remembers more.
const ENDED: usize = 200;

/// How many entries of the audit trail are.
const AUDITED: usize = 1_000;

/// All clients of this server.
#[derive(Debug, Default)]
pub(crate) struct Live {
    clients: Mutex<HashMap<Arc<str>, Arc<LiveClient>>>,
    /// How many there are.
    count: watch::Sender<usize>,
    /// The newest first.
    ended: Mutex<VecDeque<model::Client>>,
    /// The newest first.
    audit: Mutex<VecDeque<model::AuditEntry>>,
    pub(crate) events: Events,
    pub(crate) shares: Shares,
}

/// A client, as far as it is known.
#[derive(Debug)]
pub(crate) enum Found {
    Live(Arc<LiveClient>),
    Ended(Box<model::Client>),
}

impl Live {
    /// Adds a client, unless it is there already.
    pub(crate) fn add(&self, client: &Arc<LiveClient>) -> bool {
        let mut clients = lock(&self.clients);
        if clients.contains_key(&client.id) {
            return false;
        }
        clients.insert(Arc::clone(&client.id), Arc::clone(client));
        self.count.send_replace(clients.len());
        true
    }

    /// Moves a client to those that have ended.
    pub(crate) fn end(&self, last: model::Client) {
        // Both locks, so that it is always in one of the two.
        let mut clients = lock(&self.clients);
        let mut ended = lock(&self.ended);
        clients.remove(last.id.as_str());
        self.count.send_replace(clients.len());
        ended.truncate(ENDED - 1);
        ended.push_front(last);
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<LiveClient>> {
        lock(&self.clients).get(id).cloned()
    }

    pub(crate) fn find(&self, id: &str) -> Option<Found> {
        let clients = lock(&self.clients);
        if let Some(client) = clients.get(id) {
            return Some(Found::Live(Arc::clone(client)));
        }
        let ended = lock(&self.ended);
        let client = ended.iter().find(|client| client.id == id)?;
        Some(Found::Ended(Box::new(client.clone())))
    }

    /// Those that live, the newest first.
    pub(crate) fn list(&self) -> Vec<Arc<LiveClient>> {
        let mut list: Vec<_> = lock(&self.clients).values().cloned().collect();
        list.sort_by(|a, b| b.since.cmp(&a.since).then_with(|| a.id.cmp(&b.id)));
        list
    }

    /// Those that have ended, the newest first.
    pub(crate) fn ended(&self) -> Vec<model::Client> {
        let mut list: Vec<_> = lock(&self.ended).iter().cloned().collect();
        list.sort_by(|a, b| b.since.cmp(&a.since).then_with(|| a.id.cmp(&b.id)));
        list
    }

    /// Keeps an entry of the audit trail.
    pub(crate) fn remember(&self, entry: &model::AuditEntry) {
        let mut audit = lock(&self.audit);
        audit.truncate(AUDITED - 1);
        audit.push_front(entry.clone());
    }

    /// The audit trail, the newest first.
    pub(crate) fn audit(&self) -> Vec<model::AuditEntry> {
        lock(&self.audit).iter().cloned().collect()
    }

    pub(crate) fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Returns once none lives.
    pub(crate) async fn emptied(&self) {
        // The sender is here, so there is no error.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
