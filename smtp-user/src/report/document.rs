//! A report as tables under titles, and its renderings as text and as CSV; HTML is in
//! `html`.
//!
//! Contract: all three are made from the same cells. Text from outside (names, reasons) can end no
//! line, cell or element of any of them: control characters are shown as U+FFFD, CSV is quoted as in
//! RFC 4180, and a text that a spreadsheet would take for a formula gets an apostrophe before it.

use std::fmt::Write as _;

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// For a terminal.
    #[default]
    Text,
    /// For a spreadsheet. The first field of every record is the name of its table, and each table
    /// begins with a record of its columns' names, so that `grep '^NAME,'` gives one table whole.
    Csv,
    /// For a browser and for paper: one file, without scripts, that loads nothing.
    Html,
}

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name in CSV, in snake_case; text and HTML have spaces in it.
    pub name: &'static str,
    /// Whether it holds text, not numbers.
    pub text: bool,
}

/// A column of text.
pub const fn text(name: &'static str) -> Column {
    Column { name, text: true }
}

/// A column of numbers.
pub const fn number(name: &'static str) -> Column {
    Column { name, text: false }
}

impl Column {
    /// As text and HTML have it.
    pub fn title(&self) -> String {
        self.name.replace('_', " ")
    }
}

/// A table with what it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Its name in CSV, in snake_case.
    pub name: &'static str,
    /// What is in it.
    pub title: String,
    /// What else is to be known about it.
    pub notes: Vec<String>,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its rows, with a cell for each column.
    pub rows: Vec<Vec<String>>,
}

/// A report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// What it is.
    pub title: String,
    /// What stands first: the answer, the period.
    pub notes: Vec<String>,
    /// Its tables.
    pub tables: Vec<Table>,
}

impl Table {
    /// A table of names and values.
    pub fn facts(name: &'static str, title: &str, facts: &[(&'static str, String)]) -> Self {
        Self {
            name,
            title: title.to_owned(),
            notes: Vec::new(),
            columns: vec![text("what"), number("value")],
            rows: facts
                .iter()
                .map(|(what, value)| vec![(*what).to_owned(), value.clone()])
                .collect(),
        }
    }

    fn write_text(&self, to: &mut String) {
        if self.rows.is_empty() {
            to.push_str("  (none)\n");
            return;
        }
        let mut lines = vec![self.columns.iter().map(Column::title).collect::<Vec<_>>()];
        lines.extend(
            self.rows
                .iter()
                .map(|row| row.iter().map(|cell| printable(cell)).collect()),
        );
        let width = |column: usize| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        for line in &lines {
            let mut text = String::new();
            for ((cell, width), column) in line.iter().zip(&widths).zip(&self.columns) {
                let _ = if column.text {
                    write!(text, "  {cell:<width$}")
                } else {
                    write!(text, "  {cell:>width$}")
                };
            }
            let _ = writeln!(to, "{}", text.trim_end());
        }
    }

    fn write_csv(&self, to: &mut String) {
        let names = self.columns.iter().map(|column| column.name.to_owned());
        record(to, self.name, names);
        for row in &self.rows {
            let cells = row.iter().zip(&self.columns).map(|(cell, column)| {
                if column.text {
                    no_formula(cell)
                } else {
                    cell.clone()
                }
            });
            record(to, self.name, cells);
        }
    }
}

impl Document {
    /// As this form has it.
    pub fn render(&self, form: Form) -> String {
        match form {
            Form::Text => self.text(),
            Form::Csv => self.csv(),
            Form::Html => super::html::render(self),
        }
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", printable(&self.title));
        for note in &self.notes {
            let _ = writeln!(text, "{}", printable(note));
        }
        for table in &self.tables {
            let _ = writeln!(text, "\n{}", printable(&table.title));
            for note in &table.notes {
                let _ = writeln!(text, "  {}", printable(note));
            }
            table.write_text(&mut text);
        }
        text
    }

    /// For a spreadsheet, see [`Form::Csv`].
    pub fn csv(&self) -> String {
        let mut csv = String::new();
        for table in &self.tables {
            table.write_csv(&mut csv);
        }
        csv
    }
}

fn record(to: &mut String, table: &str, cells: impl Iterator<Item = String>) {
    to.push_str(table);
    for cell in cells {
        to.push(',');
        csv_cell(to, &cell);
    }
    to.push_str("\r\n");
}

/// Writes a cell of CSV, in quotes where it needs them (RFC 4180, section 2).
pub(crate) fn csv_cell(to: &mut String, cell: &str) {
    if cell.contains([',', '"', '\n', '\r']) {
        let _ = write!(to, "\"{}\"", cell.replace('"', "\"\""));
    } else {
        to.push_str(cell);
    }
}

/// A text that no spreadsheet takes for a formula.
pub(crate) fn no_formula(cell: &str) -> String {
    let cell = printable(cell);
    if cell.starts_with(['=', '+', '-', '@']) && cell != "-" {
        format!("'{cell}")
    } else {
        cell
    }
}

/// A text that does nothing to a terminal and stays on its line.
pub fn printable(text: &str) -> String {
    text.replace(is_harmful, "\u{fffd}")
}

/// Control characters, and those that turn the direction of text (Unicode Standard Annex 9).
fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Text that tries to break out of every rendering.
    pub const HOSTILE: &str = "=1+1,\"</td><script src=//x.example/a.js>alert('x')</script>&\u{1b}[2J\r\nsources,9\u{202e}";

    pub fn hostile() -> Document {
        Document {
            title: HOSTILE.to_owned(),
            notes: vec![HOSTILE.to_owned()],
            tables: vec![Table {
                name: "sources",
                title: HOSTILE.to_owned(),
                notes: vec![HOSTILE.to_owned()],
                columns: vec![text("owner"), number("c2s_bytes")],
                rows: vec![
                    vec![HOSTILE.to_owned(), "17".to_owned()],
                    vec!["-".to_owned(), "4".to_owned()],
                ],
            }],
        }
    }

    #[test]
    fn columns_stand_under_their_titles() {
        let document = Document {
            title: "hosts".to_owned(),
            notes: vec!["two of them".to_owned()],
            tables: vec![
                Table {
                    name: "hosts",
                    title: "all".to_owned(),
                    notes: vec!["by address".to_owned()],
                    columns: vec![text("address"), number("c2s_bytes")],
                    rows: vec![
                        vec!["192.0.2.100".to_owned(), "7".to_owned()],
                        vec!["::1".to_owned(), "1000000000".to_owned()],
                    ],
                },
                Table {
                    name: "none",
                    title: "others".to_owned(),
                    columns: vec![text("address")],
                    ..Table::default()
                },
            ],
        };
        assert_eq!(
            document.text(),
            "hosts\ntwo of them\n\nall\n  by address\n  address       c2s bytes\n  192.0.2.100           7\n  \
             ::1          1000000000\n\nothers\n  (none)\n"
        );
        assert_eq!(
            document.csv(),
            "hosts,address,c2s_bytes\r\nhosts,192.0.2.100,7\r\nhosts,::1,1000000000\r\nnone,address\r\n"
        );
    }

    #[test]
    fn hostile_text_ends_no_line_and_reaches_no_terminal() {
        let text = hostile().text();
        assert_eq!(text.lines().count(), 8, "{text:?}");
        assert!(!text.contains(['\u{1b}', '\r', '\u{202e}']), "{text:?}");
    }

    #[test]
    fn hostile_text_is_one_cell_and_no_formula() {
        let csv = hostile().csv();
        let records: Vec<_> = csv.split("\r\n").collect();
        assert_eq!(records.len(), 4, "{csv:?}");
        assert!(records[1].starts_with("sources,\"'=1+1,\"\"</td>"), "{csv}");
        assert!(records[1].ends_with("\",17"), "{csv}");
        assert_eq!(records[2], "sources,-,4");
    }
}
