//! What is printed, and how.

pub(crate) mod live;
pub(crate) mod progress;
mod table;

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use clap::Args as ClapArgs;
use serde::Serialize;

pub(crate) use table::{Align, Table};

/// Which way results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
    /// Rows under a header, when all is done.
    Csv,
}

#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Print JSON, one object a line: {"session": …} first, {"event": …} for what is seen, as it is
    /// seen, and {"report": …} last.
    #[arg(long, conflicts_with = "csv")]
    json: bool,

    /// Print comma-separated values, with a header, when all is done.
    #[arg(long)]
    csv: bool,
}

impl OutputArgs {
    pub(crate) fn format(&self) -> Format {
        if self.json {
            Format::Json
        } else if self.csv {
            Format::Csv
        } else {
            Format::Text
        }
    }

    /// Whether there is somebody to watch a table, and to press keys.
    pub(crate) fn is_watched(&self) -> bool {
        self.format() == Format::Text && io::stdout().is_terminal() && io::stdin().is_terminal()
    }
}

/// Prints a line. An error says that nobody reads.
pub(crate) fn line(text: fmt::Arguments<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_fmt(text)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Prints `{"key": value}` on a line.
pub(crate) fn json<T: Serialize>(key: &str, value: &T) -> io::Result<()> {
    let object = std::collections::BTreeMap::from([(key, value)]);
    let text = serde_json::to_string(&object)?;
    line(format_args!("{text}"))
}

/// Prints rows, under the header that their fields make where it is not there yet.
pub(crate) fn csv<T: Serialize>(
    rows: impl IntoIterator<Item = T>,
    header: bool,
) -> anyhow::Result<()> {
    let mut writer = csv::WriterBuilder::new()
        .has_headers(header)
        .from_writer(io::stdout().lock());
    for row in rows {
        writer.serialize(row).map_err(as_io)?;
    }
    writer.flush()?;
    Ok(())
}

/// So that a closed pipe is told from what is wrong.
fn as_io(error: csv::Error) -> anyhow::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error.into(),
        kind => anyhow::anyhow!("{kind:?}"),
    }
}

/// A time in milliseconds, for people.
pub(crate) fn millis(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 9.9995 {
        format!("{ms:.3}")
    } else if ms < 99.995 {
        format!("{ms:.2}")
    } else {
        format!("{ms:.1}")
    }
}

/// A time in microseconds, for programs: to the nanosecond.
pub(crate) fn micros(time: Duration) -> f64 {
    thousandths(time.as_secs_f64() * 1e6)
}

/// Without the digits that are rounding errors.
pub(crate) fn thousandths(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}
