//! What commands print: tables for people, JSON for programs.

use std::fmt;
use std::io::{self, BufWriter, Stdout, Write};

use serde_json::Value;

/// How a listing is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    #[value(alias = "pretty")]
    Table,
    /// For programs.
    Json,
}

/// Standard output, which may be closed by its reader at any time.
pub(crate) fn out() -> BufWriter<Stdout> {
    BufWriter::new(io::stdout())
}

/// Writes one line to standard error. Where nobody reads that any more, there is nobody to be told.
pub(crate) fn complain(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints JSON, indented, with a line end.
pub(crate) fn print_json(value: &Value) -> io::Result<()> {
    let mut out = out();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    out.flush()
}

/// Prints one line.
pub(crate) fn print_line(line: impl fmt::Display) -> io::Result<()> {
    let mut out = out();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Rows under a heading, each column as wide as its widest cell, two blanks apart.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with this heading.
    pub(crate) fn new<const N: usize>(heading: [&str; N]) -> Self {
        Table { rows: vec![heading.map(str::to_owned).to_vec()] }
    }

    /// A table without a heading.
    pub(crate) fn bare() -> Self {
        Table { rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// Prints it.
    pub(crate) fn print(&self) -> io::Result<()> {
        let mut out = out();
        write!(out, "{self}")?;
        out.flush()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| padded(cell, *width)).collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// A cell as wide as its column. The formatter's own widths end at 65,535.
fn padded(cell: &str, width: usize) -> String {
    let blanks = width.saturating_sub(cell.chars().count());
    let mut padded = String::with_capacity(cell.len() + blanks);
    padded.push_str(cell);
    padded.extend(std::iter::repeat_n(' ', blanks));
    padded
}

/// `k=v` pairs in the order of their keys, for one cell of a table.
pub(crate) fn pairs<'a>(map: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    let mut pairs: Vec<String> = map.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.sort();
    pairs.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_two_blanks_apart() {
        let mut table = Table::new(["Node", "ID", "DC"]);
        table.row(["a".into(), "8f5a7c0e".into(), "dc1".into()]);
        table.row(["größer".into(), String::new(), "dc1".into()]);
        assert_eq!(table.to_string(), "Node    ID        DC\na       8f5a7c0e  dc1\ngrößer            dc1\n");
    }

    #[test]
    fn a_cell_may_be_as_long_as_it_likes() {
        let long = "x".repeat(70_000);
        let mut table = Table::new(["Value", "Flags"]);
        table.row([long.clone(), "0".into()]);
        table.row(["y".into(), "1".into()]);
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], format!("{long}  0"));
        assert_eq!((lines[2].len(), lines[2].ends_with("  1")), (70_003, true));
    }

    #[test]
    fn pairs_are_sorted() {
        let map = std::collections::HashMap::from([("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())]);
        assert_eq!(pairs(&map), "a=1, b=2");
    }
}
