//! The `main` of a test program that needs the lab.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::enter::enter;
use crate::error::{Error, Skip};
use crate::processors::{Processors, STOLEN};

/// How often a test runs at most.
const TRIES: usize = 4;

/// A test: its name, and what it does.
pub type Test = (&'static str, fn() -> anyhow::Result<()>);

/// Runs tests inside [`enter`], each on a thread of its own, side by side, as `cargo test` does; understands its
/// arguments and those of nextest. Use it as the whole `main` of a test with `harness = false`:
///
/// ```no_run
/// use std::process::ExitCode;
///
/// fn two_hosts_talk() -> anyhow::Result<()> {
///     Ok(())
/// }
///
/// fn main() -> ExitCode {
///     perpacket_lab::main(vec![("two_hosts_talk", two_hosts_talk)])
/// }
/// ```
///
/// What fails while a hypervisor takes the processors away says nothing of what is tested: it is run again, some times,
/// which is said on stderr.
///
/// Where namespaces cannot be had it says so on stderr and succeeds, or fails where the environment says
/// `CI=true`.
#[must_use]
pub fn main(tests: Vec<Test>) -> ExitCode {
    let arguments = Arguments::from_args();
    // nextest asks for the list first, and needs no network for it.
    if !arguments.list
        && let Err(e) = enter()
    {
        eprintln!("NOT RUN: {} tests of the network lab: {e}", tests.len());
        return if required() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        };
    }
    let trials = tests
        .into_iter()
        .map(|(name, test)| Trial::ignorable_test(name, move || outcome(name, run(name, test))))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Finds a program that a test needs, on `PATH` or where the system's own are; `install` says how to get it.
///
/// # Errors
/// [`Skip`], to be passed on by the test with `?`.
pub fn require_program(program: &str, install: &str) -> Result<PathBuf, Skip> {
    // An ordinary user's PATH often lacks the last two.
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .ok_or_else(|| Skip(format!("{program} is not installed: {install}")))
}

fn run(name: &str, test: fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    for _ in 1..TRIES {
        let processors = Processors::now();
        let result = test();
        let stolen = processors.stolen_since();
        match result {
            Err(error) if stolen > STOLEN && skipped(&error).is_none() => {
                let error = format!("{error:#}");
                let line = error.lines().next().unwrap_or_default();
                eprintln!("{name} once more: {stolen:.2} of the time was stolen from it: {line}");
            }
            result => return result,
        }
    }
    test()
}

fn skipped(error: &anyhow::Error) -> Option<&Skip> {
    error.downcast_ref::<Skip>().or(match error.downcast_ref() {
        Some(Error::Skip(skip)) => Some(skip),
        _ => None,
    })
}

fn outcome(name: &str, result: anyhow::Result<()>) -> Result<Completion, Failed> {
    let Err(e) = result else {
        return Ok(Completion::Completed);
    };
    match skipped(&e) {
        None => Err(format!("{e:?}").into()),
        Some(skip) => {
            eprintln!("NOT RUN: {name}: {skip}");
            if required() {
                Err(skip.into())
            } else {
                Ok(Completion::ignored_with(skip))
            }
        }
    }
}

/// Whether a test that cannot run is a failure.
fn required() -> bool {
    env::var("CI").is_ok_and(|ci| ci == "true")
}
