//! Figures as a reader wants them: in columns.

use std::io::{self, Write as _};

use crate::{
    bars::{Bar, NOT_MEASURED},
    report::Row,
};

/// Columns of text, each as wide as its widest cell; all but the first and the last to the right.
struct Table {
    lines: Vec<Vec<String>>,
}

impl Table {
    fn new(heads: &[&str]) -> Self {
        let heads = heads.iter().map(|head| (*head).to_owned()).collect();
        Self { lines: vec![heads] }
    }

    fn print(&self) {
        let columns = self.lines[0].len();
        let width = |column: usize| {
            let cells = self.lines.iter().map(|line| line[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for line in &self.lines {
            let cells = line.iter().zip(&widths).enumerate();
            let cells = cells.map(|(column, (cell, width))| match column {
                0 => format!("{cell:width$}"),
                last if last + 1 == columns => cell.clone(),
                _ => format!("{cell:>width$}"),
            });
            say(cells.collect::<Vec<_>>().join("  ").trim_end());
        }
    }
}

/// Prints a line. Whoever reads may have had enough: that is no error.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Prints figures.
pub(crate) fn print_rows(rows: &[Row]) {
    let heads = ["", "median", "min", "max", "", "a second", "ratio", ""];
    let mut table = Table::new(&heads);
    for row in rows {
        let (against, ratio) = match &row.against {
            Some((other, ratio)) => (format!("of {other}"), format!("{ratio:.2}")),
            None => (String::new(), String::new()),
        };
        let notes = [against, row.note.clone().unwrap_or_default()];
        let notes: Vec<_> = notes.into_iter().filter(|note| !note.is_empty()).collect();
        table.lines.push(vec![
            row.name.clone(),
            figure(row.median),
            figure(row.min),
            figure(row.max),
            row.unit.clone(),
            row.per_second.map(figure).unwrap_or_default(),
            ratio,
            notes.join("; "),
        ]);
    }
    table.print();
}

/// Prints what has to be reached.
pub(crate) fn print_bars(bars: &[Bar]) {
    let mut table = Table::new(&["bar", "value", "bar", "aim", "", "of"]);
    for bar in bars {
        let verdict = match (bar.value, bar.met) {
            (None, _) => "not measured",
            (Some(_), true) => "met",
            (Some(_), false) => "NOT MET",
        };
        let sign = if bar.at_least { ">=" } else { "<=" };
        let note = bar.note.as_ref().map(|note| {
            let why = note.strip_prefix(NOT_MEASURED).unwrap_or(note);
            format!(" ({why})")
        });
        table.lines.push(vec![
            bar.id.to_owned(),
            bar.value.map(figure).unwrap_or_default(),
            format!("{sign} {}", figure(bar.bar)),
            figure(bar.aim),
            verdict.to_owned(),
            format!("{}{}", bar.what, note.unwrap_or_default()),
        ]);
    }
    table.print();
}

/// Three digits that say something.
fn figure(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
