//! Aligned columns for people.
//!
//! Purpose: one way to print a table, for `calls` and `show`.
//! Invariants: nothing from the wire reaches the terminal as a control character.
//! Non-goals: wrapping, and the true width of wide scripts (a character counts as one column).
//! Sources: none.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::output::printable;

/// On which side a column is padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows under a head.
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    #[must_use]
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row: one cell a column.
    pub fn row<const N: usize>(&mut self, cells: &[String; N]) {
        self.rows.push(cells.iter().map(|cell| printable(cell)).collect());
    }

    /// Writes the head and the rows, each behind `indent`, without blanks at the ends of lines.
    pub fn write(&self, out: &mut dyn Write, indent: &str) -> io::Result<()> {
        let head: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let mut widths = vec![0; head.len()];
        for row in std::iter::once(&head).chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in std::iter::once(&head).chain(&self.rows) {
            let mut line = String::from(indent);
            for ((cell, width), (_, align)) in row.iter().zip(&widths).zip(&self.columns) {
                match align {
                    Align::Left => {
                        let _ = write!(line, "{cell:<width$}  ");
                    }
                    Align::Right => {
                        let _ = write!(line, "{cell:>width$}  ");
                    }
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_escape_sequences_are_shown_as_dots() {
        let mut table = Table::new(&[("name", Align::Left), ("n", Align::Right)]);
        table.row(&["é\x1b[1m".into(), "1".into()]);
        table.row(&["a".into(), "1000".into()]);
        let mut text = Vec::new();
        table.write(&mut text, " ").expect("memory");
        let expected = " name      n\n é·[1m     1\n a      1000\n";
        assert_eq!(String::from_utf8(text).expect("text"), expected);
    }
}
