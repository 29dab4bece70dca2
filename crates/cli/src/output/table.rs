//! Tables for people.

use std::fmt::{self, Write as _};

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Columns that are as wide as what is in them.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; what it lacks is empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, cells: &[&str]) -> fmt::Result {
        let mut text = String::new();
        for (column, ((name, align), cell)) in self.columns.iter().zip(cells).enumerate() {
            let in_rows = self.rows.iter().map(|row| text_of(row, column));
            let width = in_rows
                .chain([*name])
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default();
            if column > 0 {
                text.push_str("  ");
            }
            match align {
                Align::Left => write!(text, "{cell:<width$}")?,
                Align::Right => write!(text, "{cell:>width$}")?,
            }
        }
        f.write_str(text.trim_end())
    }
}

/// What a row lacks is empty.
fn text_of(row: &[String], column: usize) -> &str {
    row.get(column).map_or("", String::as_str)
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.columns.iter().map(|(name, _)| *name).collect();
        self.write(f, &names)?;
        for row in &self.rows {
            let cells: Vec<_> = (0..names.len())
                .map(|column| text_of(row, column))
                .collect();
            f.write_str("\n")?;
            self.write(f, &cells)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&[
            ("hop", Align::Right),
            ("address", Align::Left),
            ("ms", Align::Right),
        ]);
        table.row(["1", "10.0.0.2", "0.5"].map(str::to_owned));
        table.row(["10", "…"].map(str::to_owned));
        assert_eq!(
            table.to_string(),
            "hop  address    ms\n  1  10.0.0.2  0.5\n 10  …"
        );
    }
}
