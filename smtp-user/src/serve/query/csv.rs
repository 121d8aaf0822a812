//! A list as CSV (RFC 4180).
//!
//! Contract: exactly the rows and columns of the JSON of the same view, since it is made from that:
//! one column for each field of a row, named by its path (`total.connections`). Null is an empty cell; a
//! list is one cell with `;` between its items. Text that a spreadsheet would take for a formula gets
//! a `'` before it.
#![forbid(unsafe_code)]

use serde::Serialize;
use serde_json::Value;

use crate::answer::{Field, flatten};
use crate::report::document::{csv_cell, no_formula};

/// Rows with these fields, with a head.
pub(in crate::serve) fn csv(
    fields: &[Field],
    rows: impl IntoIterator<Item = impl Serialize>,
) -> Result<String, serde_json::Error> {
    let paths: Vec<String> = flatten(fields).into_iter().map(|(path, _)| path).collect();
    let mut text = String::new();
    record(&mut text, paths.iter().cloned());
    for row in rows {
        let row = serde_json::to_value(row)?;
        record(&mut text, paths.iter().map(|path| cell(at(&row, path))));
    }
    Ok(text)
}

fn record(text: &mut String, cells: impl Iterator<Item = String>) {
    for (i, cell) in cells.enumerate() {
        if i != 0 {
            text.push(',');
        }
        csv_cell(text, &cell);
    }
    text.push_str("\r\n");
}

/// What is at a path; of a list of objects, what is there in each.
fn at(value: &Value, path: &str) -> Value {
    if path.is_empty() {
        return value.clone();
    }
    match value {
        Value::Array(items) => items.iter().map(|item| at(item, path)).collect(),
        Value::Object(fields) => {
            let (name, rest) = path.split_once('.').unwrap_or((path, ""));
            fields
                .get(name)
                .map_or(Value::Null, |inner| at(inner, rest))
        }
        _ => Value::Null,
    }
}

fn cell(value: Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => no_formula(&text),
        Value::Array(items) => {
            let items: Vec<_> = items.into_iter().map(plain).collect();
            no_formula(&items.join(";"))
        }
        other => other.to_string(),
    }
}

fn plain(value: Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text,
        other => other.to_string(),
    }
}
