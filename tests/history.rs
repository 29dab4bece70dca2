//! The history of the server: the same tests on SQLite, in a file and in memory, and on a real PostgreSQL; then crashes,
//! a full disk, a database that goes away, and how much is kept.

mod history {
    pub(crate) mod contents;
    pub(crate) mod crash;
    pub(crate) mod full_disk;
    pub(crate) mod hostile;
    pub(crate) mod opening;
    pub(crate) mod outage;
    pub(crate) mod place;
    pub(crate) mod postgres;
    pub(crate) mod retention;
    pub(crate) mod servers;
}

use std::{env, process::ExitCode, sync::Arc};

use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use perpacket_lab::{Error, Skip};

use history::place::Place;
use history::postgres::Postgres;
use history::{contents, crash, full_disk, hostile, opening, outage, retention, servers};

type PlaceTest = (&'static str, fn(&Place) -> Result<()>);

/// What has to hold wherever the history is kept.
const EVERYWHERE: [PlaceTest; 8] = [
    ("all_is_read_back", contents::all_is_read_back),
    ("the_last_counts", contents::the_last_counts),
    ("clients_are_listed", contents::clients_are_listed),
    ("samples_are_thinned", contents::samples_are_thinned),
    ("closing", contents::closing),
    ("hostile_text", hostile::text),
    ("old_goes", retention::old_goes),
    ("too_much_goes", retention::too_much_goes),
];

/// What has to hold where it outlives the server.
const KEPT: [PlaceTest; 4] = [
    ("killed", crash::killed),
    ("restarted", servers::restarted),
    ("shared", servers::shared),
    ("refused_entry", hostile::refused_entry),
];

fn main() -> ExitCode {
    if let Some(end) = crash::child().or_else(full_disk::child) {
        return end;
    }
    let mut arguments = Arguments::from_args();
    // Most of them wait for something most of the time.
    arguments.test_threads.get_or_insert(4);
    // Who only asks for the list needs no database.
    let postgres = if arguments.list {
        None
    } else {
        Some(Postgres::start().map(Arc::new).map_err(Arc::new))
    };
    let places = [
        ("file", Place::File),
        ("memory", Place::Memory),
        ("postgres", Place::Postgres(postgres.clone())),
    ];

    let mut trials = vec![
        trial("full_disk", full_disk::recording_stops),
        trial("postgres_goes_and_comes", outage::goes_and_comes),
        trial("odd_paths", opening::odd_paths),
        trial("what_cannot_be_opened", opening::what_cannot_be_opened),
    ];
    for (name, place) in places {
        let kept: &[_] = if name == "memory" { &[] } else { &KEPT };
        for &(test, run) in EVERYWHERE.iter().chain(kept) {
            let place = place.clone();
            trials.push(trial(&format!("{test}_{name}"), move || run(&place)));
        }
    }
    // Before the server goes, which ends with the last who has it.
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(postgres);
    conclusion.exit_code()
}

/// A test of that name. What it cannot run without is `NOT RUN`, and with `CI=true` a failure.
fn trial(name: &str, test: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    let title = name.to_owned();
    Trial::ignorable_test(name, move || {
        let Err(error) = test() else {
            return Ok(Completion::Completed);
        };
        let skip = error.downcast_ref::<Skip>().or(match error.downcast_ref() {
            Some(Error::Skip(skip)) => Some(skip),
            _ => None,
        });
        let Some(skip) = skip else {
            return Err(Failed::from(format!("{error:?}")));
        };
        eprintln!("NOT RUN: {title}: {skip}");
        if env::var("CI").is_ok_and(|ci| ci == "true") {
            return Err(skip.into());
        }
        Ok(Completion::ignored_with(skip))
    })
}
