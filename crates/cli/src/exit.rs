//! How the program ends, for scripts.

use std::{fmt, io, process::ExitCode};

use anyhow::Error;
use perpacket_path::MeasureError;

/// What `--help` says of it.
pub(crate) const HELP: &str = "\
Exit codes:
  0    what was asked for was done
  1    it was not: standard error says why
  2    the command line makes no sense
  3    the session was there, but nothing came back through it: the server was not reached by a probe,
       or was lost on the way; what was measured until then is printed
  130  ended at once by a second Ctrl-C, with the session left open";

/// The code of what `HELP` says as 3.
const NOT_REACHED: u8 = 3;

/// How a command has ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of it was done.
    Done,
    /// The server was not reached, or not to the end.
    NotReached,
}

/// The context of an error that came with the loss of the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost;

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection was lost")
    }
}

/// Says why, where something failed.
pub(crate) fn code(outcome: Result<Outcome, Error>) -> ExitCode {
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::NotReached) => NOT_REACHED.into(),
        // Who reads has had enough, as `head` has.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {}", sentence(&error));
            if is_not_reached(&error) {
                NOT_REACHED.into()
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// The error and its causes. Some errors have their cause in their own text: nobody wants to read it twice.
fn sentence(error: &Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if sentence.is_empty() {
            sentence = cause;
        } else if !sentence.ends_with(&cause) {
            sentence = format!("{sentence}: {cause}");
        }
    }
    sentence
}

fn is_not_reached(error: &Error) -> bool {
    let no_answer = matches!(error.downcast_ref(), Some(MeasureError::NoAnswer { .. }));
    no_answer || error.downcast_ref::<Lost>().is_some()
}

fn is_broken_pipe(error: &Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn nothing_is_said_twice() {
        let error = anyhow!("refused")
            .context("cannot open: refused")
            .context("no trace");
        assert_eq!(sentence(&error), "no trace: cannot open: refused");
        assert_eq!(sentence(&anyhow!("refused")), "refused");
    }
}
