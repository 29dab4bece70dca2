//! Measurements of a client's path, asked for one by one.

mod begin;
mod key;
mod request;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{sync::watch, time::timeout};

pub(crate) use begin::{Refusal, begin, keep_path_mtu, keep_reach};
pub(crate) use request::Request;

use crate::{
    ids,
    model::{MeasurementInfo, MeasurementState, MeasurementView, Timestamp},
};

/// How many measurements of a client are remembered here. History remembers more.
const REMEMBERED: usize = 20;

/// How many events of a measurement are remembered: of each key the newest.
const KEYS: usize = 512;

/// How long measurements may take to end with their client: as long as their probes wait for an answer.
const LAST_PROBES: Duration = Duration::from_millis(1_500);

/// The measurements of one client.
#[derive(Debug, Default)]
pub(crate) struct Measurements(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    /// The newest first.
    all: VecDeque<Arc<Measurement>>,
    ended: bool,
}

/// One measurement.
#[derive(Debug)]
pub(crate) struct Measurement {
    progress: Mutex<Progress>,
    stop: watch::Sender<bool>,
    done: watch::Sender<bool>,
}

#[derive(Debug)]
struct Progress {
    info: MeasurementInfo,
    events: BTreeMap<Key, Value>,
    report: Option<Value>,
}

/// In the order in which they are listed.
type Key = (u32, String);

impl Measurements {
    /// The newest first.
    pub(crate) fn list(&self) -> Vec<MeasurementInfo> {
        self.lock().all.iter().map(|it| it.info()).collect()
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<Measurement>> {
        let list = self.lock();
        list.all.iter().find(|it| it.info().id == id).cloned()
    }

    /// Adds one, unless one of its kind runs, or the client has ended.
    fn add(&self, measurement: &Arc<Measurement>) -> bool {
        let kind = measurement.info().kind;
        let mut list = self.lock();
        let runs = |it: &Arc<Measurement>| {
            let info = it.info();
            info.kind == kind && info.state == MeasurementState::Running
        };
        if list.ended || list.all.iter().any(runs) {
            return false;
        }
        if list.all.len() == REMEMBERED {
            // What runs may be the oldest of all, and there are fewer kinds than places.
            let has_ended = |it: &Arc<Measurement>| it.info().state != MeasurementState::Running;
            let oldest = list.all.iter().rposition(has_ended);
            oldest.and_then(|oldest| list.all.remove(oldest));
        }
        list.all.push_front(Arc::clone(measurement));
        true
    }

    /// Ends all of them, and lets none begin any more. Returns when they have ended, or after a while.
    pub(crate) async fn end(&self) {
        let all = {
            let mut list = self.lock();
            list.ended = true;
            list.all.clone()
        };
        for measurement in &all {
            measurement.stop();
        }
        let ended = async {
            for measurement in &all {
                measurement.done().await;
            }
        };
        // What is left of them ends by itself, and has nobody to tell.
        let _ = timeout(LAST_PROBES, ended).await;
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        lock(&self.0)
    }
}

impl Measurement {
    fn new(client: &str, request: &Request) -> Self {
        Self {
            progress: Mutex::new(Progress {
                info: MeasurementInfo {
                    id: ids::random(),
                    client: client.to_owned(),
                    kind: request.kind().to_owned(),
                    state: MeasurementState::Running,
                    started: Timestamp::now(),
                    ended: None,
                    config: request.config(),
                    error: None,
                    rows: 0,
                },
                events: BTreeMap::new(),
                report: None,
            }),
            stop: watch::Sender::new(false),
            done: watch::Sender::new(false),
        }
    }

    pub(crate) fn info(&self) -> MeasurementInfo {
        self.progress().info.clone()
    }

    pub(crate) fn view(&self) -> MeasurementView {
        let progress = self.progress();
        MeasurementView {
            info: progress.info.clone(),
            events: progress.events.values().cloned().collect(),
            report: progress.report.clone(),
        }
    }

    /// Ends it with what there is.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Returns once it has ended.
    pub(crate) async fn done(&self) {
        // The sender is here, so there is no error.
        let _ = self.done.subscribe().wait_for(|done| *done).await;
    }

    fn saw(&self, key: Key, event: Value) {
        let mut progress = self.progress();
        progress.info.rows += 1;
        if progress.events.len() < KEYS || progress.events.contains_key(&key) {
            progress.events.insert(key, event);
        }
    }

    /// Returns what it is now.
    fn finish(&self, result: Result<Value, String>) -> MeasurementInfo {
        let mut progress = self.progress();
        progress.info.ended = Some(Timestamp::now());
        match result {
            Ok(report) => {
                progress.info.state = if *self.stop.borrow() {
                    MeasurementState::Stopped
                } else {
                    MeasurementState::Done
                };
                progress.report = Some(report);
            }
            Err(error) => {
                progress.info.state = MeasurementState::Failed;
                progress.info.error = Some(error);
            }
        }
        let info = progress.info.clone();
        drop(progress);
        self.done.send_replace(true);
        info
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        lock(&self.progress)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(kind: &str) -> Arc<Measurement> {
        let request = Request::parse(&serde_json::json!({ "kind": kind })).expect("valid");
        Arc::new(Measurement::new("alice", &request))
    }

    #[tokio::test]
    async fn there_is_one_of_a_kind_at_a_time() {
        let list = Measurements::default();
        let first = measurement("trace");
        assert!(list.add(&first));
        assert!(!list.add(&measurement("trace")));
        assert!(list.add(&measurement("pmtu")));
        first.finish(Ok(Value::Null));
        assert!(list.add(&measurement("trace")));
        assert_eq!(list.list().len(), 3);
        for one in list.lock().all.clone() {
            one.finish(Ok(Value::Null));
        }
        list.end().await;
        assert!(!list.add(&measurement("qos")));
    }

    #[test]
    fn memory_is_bounded() {
        let list = Measurements::default();
        for _ in 0..100 {
            let one = measurement("ttl");
            assert!(list.add(&one));
            for number in 0..1_000 {
                one.saw((number, String::new()), Value::Null);
            }
            one.finish(Err("no".to_owned()));
        }
        assert_eq!(list.list().len(), REMEMBERED);
        let newest = list.get(&list.list()[0].id).expect("there");
        assert_eq!(newest.view().events.len(), KEYS);
        assert_eq!(newest.info().rows, 1_000);
    }

    #[test]
    fn what_runs_is_not_forgotten() {
        let list = Measurements::default();
        let long = measurement("trace");
        assert!(list.add(&long));
        for _ in 0..2 * REMEMBERED {
            let one = measurement("pmtu");
            assert!(list.add(&one));
            one.finish(Ok(Value::Null));
        }
        assert_eq!(list.list().len(), REMEMBERED);
        assert!(list.get(&long.info().id).is_some());
        assert!(!list.add(&measurement("trace")), "one runs");
    }

    #[tokio::test]
    async fn what_was_stopped_says_so() {
        let one = measurement("qos");
        one.stop();
        assert_eq!(one.finish(Ok(Value::Null)).state, MeasurementState::Stopped);
        one.done().await;
    }
}
