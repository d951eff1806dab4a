//! A plain text table: the first column is left-aligned, the others right-aligned, and missing values are explained below.

use super::Measured;
use std::fmt;

/// A cell of a [`Table`].
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// A text, shown unchanged.
    Text(String),
    /// Shown as "–", with the reason below the table.
    Missing(String),
}

impl Cell {
    /// A figure with `decimals` decimals, or the reason why it is undefined.
    pub fn number(value: &Measured, decimals: usize) -> Self {
        match value {
            Ok(x) => Cell::Text(fixed(*x, decimals)),
            Err(reason) => Cell::Missing(reason.to_string()),
        }
    }

    fn shown(&self) -> &str {
        match self {
            Cell::Text(text) => text,
            Cell::Missing(_) => "–",
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell::Text(text.into())
    }
}

/// Rows and columns of text, aligned by `Display`.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these column heads.
    pub fn new(header: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Table { header: header.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row. Missing cells stay empty; extra cells widen the table.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) -> &mut Self {
        self.rows.push(cells.into_iter().collect());
        self
    }

    /// Each distinct reason for a "–", with the cells it applies to: "column of row", or the row where it applies to all of it.
    fn reasons(&self) -> Vec<(&str, Vec<String>)> {
        let mut found: Vec<(&str, Vec<String>)> = Vec::new();
        for row in &self.rows {
            let whole = row.len() > 2 && row[1..].iter().all(|cell| matches!(cell, Cell::Missing(_)) && *cell == row[1]);
            for (column, cell) in row.iter().enumerate() {
                let Cell::Missing(reason) = cell else { continue };
                let head = self.header.get(column).map_or("", String::as_str);
                let location = match (whole, column) {
                    (true, 1) => row[0].shown().to_string(),
                    (true, _) => continue,
                    (false, _) => format!("{head} of {}", row[0].shown()),
                };
                match found.iter_mut().find(|(known, _)| known == reason) {
                    Some((_, locations)) => locations.push(location),
                    None => found.push((reason, vec![location])),
                }
            }
        }
        found
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).chain([self.header.len()]).max().unwrap_or(0);
        let head = |column: usize| self.header.get(column).map_or("", String::as_str);
        let cell = |row: &'_ [Cell], column: usize| row.get(column).map_or(String::new(), |c| c.shown().to_string());
        let widths: Vec<usize> = (0..columns)
            .map(|c| self.rows.iter().map(|r| width(&cell(r, c))).chain([width(head(c))]).max().unwrap_or(0))
            .collect();
        let line = |cells: &dyn Fn(usize) -> String| {
            let padded: Vec<String> = widths.iter().enumerate().map(|(c, &w)| pad(&cells(c), w, c > 0)).collect();
            padded.join("  ").trim_end().to_string()
        };
        writeln!(f, "{}", line(&|c| head(c).to_string()))?;
        writeln!(f, "{}", line(&|c| "─".repeat(widths[c])))?;
        for row in &self.rows {
            writeln!(f, "{}", line(&|c| cell(row, c)))?;
        }
        for (reason, locations) in self.reasons() {
            writeln!(f, "– {reason}: {}", locations.join(", "))?;
        }
        Ok(())
    }
}

/// `x` with a fixed number of decimals, and without a minus sign where it rounds to zero.
pub fn fixed(x: f64, decimals: usize) -> String {
    let text = format!("{x:.decimals$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| c == '0' || c == '.') => rest.to_string(),
        _ => text,
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn pad(text: &str, to: usize, right: bool) -> String {
    let space = " ".repeat(to.saturating_sub(width(text)));
    if right { space + text } else { text.to_string() + &space }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::Undefined;

    #[test]
    fn columns_are_aligned_and_reasons_listed() {
        let mut table = Table::new(["judge", "r", "RMSE"]);
        table.row(["trained".into(), Cell::number(&Ok(0.8134), 3), Cell::number(&Ok(0.71), 3)]);
        table.row(["constant".into(), Cell::number(&Err(Undefined::ConstantJudge), 3), Cell::number(&Ok(-0.0001), 2)]);
        let expected = "judge         r   RMSE\n────────  ─────  ─────\ntrained   0.813  0.710\nconstant      –   0.00\n\
                        – all judge scores are the same: r of constant\n";
        assert_eq!(table.to_string(), expected);
    }
}
