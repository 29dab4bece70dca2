//! What is shown on standard error, where that is a terminal, while something takes longer than a second.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

/// How long something may take without a word.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often what is shown moves.
const TICK: Duration = Duration::from_millis(100);

/// Says what is waited for, until it is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    bar: ProgressBar,
    shown: JoinHandle<()>,
}

impl Waiting {
    /// For as long as it takes.
    pub(crate) fn new(what: String) -> Self {
        Self::with(ProgressBar::no_length(), "{spinner} {msg}, {elapsed}", what)
    }

    /// For so many steps.
    pub(crate) fn steps(what: String, steps: u64) -> Self {
        let template = "{spinner} {msg} {wide_bar} {pos}/{len}, {eta} to go";
        Self::with(ProgressBar::new(steps), template, what)
    }

    /// That many are done.
    pub(crate) fn done(&self, steps: u64) {
        self.bar.set_position(steps);
    }

    /// What is waited for now.
    pub(crate) fn says(&self, what: String) {
        self.bar.set_message(what);
    }

    /// Prints, where what is shown might be in the way.
    pub(crate) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// No more is to be shown.
    pub(crate) fn end(&self) {
        self.shown.abort();
        self.bar.finish_and_clear();
    }

    fn with(bar: ProgressBar, template: &str, what: String) -> Self {
        bar.set_draw_target(ProgressDrawTarget::hidden());
        // An error says that the template is wrong: the bar has its own then.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        let later = bar.clone();
        let shown = tokio::spawn(async move {
            tokio::time::sleep(PATIENCE).await;
            later.set_draw_target(ProgressDrawTarget::stderr());
            later.enable_steady_tick(TICK);
        });
        Self { bar, shown }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.end();
    }
}
