//! Rows of all ways, each beside what it is compared with.

use super::way::Way;
use crate::measure::Spread;
use crate::report::Row;

/// A row of each way, named `NAME/WAY`.
pub(super) fn rows(
    name: &str,
    unit: &str,
    found: impl IntoIterator<Item = (Way, Spread)>,
) -> Vec<Row> {
    let found: Vec<(Way, Row)> = found
        .into_iter()
        .map(|(way, spread)| {
            (
                way,
                Row::new(format!("{name}/{}", way.name()), unit, spread),
            )
        })
        .collect();
    let stock = |way: Way| found.iter().find(|(other, _)| Some(*other) == way.stock());
    found
        .iter()
        .map(|(way, row)| match stock(*way) {
            Some((_, stock)) => row.clone().against(stock),
            None => row.clone(),
        })
        .collect()
}

/// The ratio of the medians of a way and what it is compared with.
pub(super) fn ratio(rows: &[Row], name: &str, way: Way) -> Option<f64> {
    let name = format!("{name}/{}", way.name());
    let row = rows.iter().find(|row| row.name == name)?;
    row.against.as_ref().map(|(_, ratio)| *ratio)
}
