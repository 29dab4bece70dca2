//! What the example programs share: where they look at IP headers, and how they print them.

#![forbid(unsafe_code)]

mod header;
mod observer;
mod report;
mod rows;
mod set;
mod sniffing;

pub use header::{Asked, Header, Values, system_defaults};
pub use observer::{Observer, Receivers, Seen};
pub use report::{Arrived, PhaseReport, Report};
pub use rows::{Addresses, Direction, Row, Traffic, saw_enough};
pub use set::parse_set;
pub use sniffing::open_sniffer;

use comfy_table::{LineStyle, Table, TableStyle};

/// A table with these column headings. Print it with [`Table::trim_fmt`].
#[must_use]
pub fn table(headings: &[&str]) -> Table {
    let line = LineStyle::none().fill('─').junction('─');
    let mut table = Table::new();
    table
        .load_style(TableStyle::new().header_separator(line))
        .set_header(headings);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}
