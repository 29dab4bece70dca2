use std::{collections::VecDeque, sync::Mutex};

use super::lock;
use crate::model::{Change, Sample};

/// How many samples of a client are kept here: five minutes. History keeps more.
const SAMPLES: usize = 300;

/// How many changes of its options.
const CHANGES: usize = 200;

/// What has happened to a client lately, for a server that keeps no history.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    samples: Mutex<VecDeque<Sample>>,
    changes: Mutex<VecDeque<Change>>,
}

impl Recent {
    pub(crate) fn sample(&self, sample: &Sample) {
        push(&self.samples, SAMPLES, sample.clone());
    }

    pub(crate) fn change(&self, change: Change) {
        push(&self.changes, CHANGES, change);
    }

    /// The oldest first.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        lock(&self.samples).iter().cloned().collect()
    }

    /// The oldest first.
    pub(crate) fn changes(&self) -> Vec<Change> {
        lock(&self.changes).iter().cloned().collect()
    }
}

fn push<T>(newest: &Mutex<VecDeque<T>>, most: usize, one: T) {
    let mut newest = lock(newest);
    if newest.len() == most {
        newest.pop_front();
    }
    newest.push_back(one);
}
