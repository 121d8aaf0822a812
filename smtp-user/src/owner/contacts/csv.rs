//! Contacts in CSV.

use super::{Entry, Fields, Wrong};
use crate::model::owner::MAX_TEXT;

/// The longest field, in bytes: no good one comes near.
const MAX_FIELD: usize = 16 * MAX_TEXT;
/// Most fields of a record.
const MAX_FIELDS: usize = 16;

/// Reads a file.
pub(super) fn read(text: &str) -> Result<Vec<Entry>, Wrong> {
    let mut records = Records {
        // Spreadsheets put a mark before it.
        rest: text.strip_prefix('\u{feff}').unwrap_or(text),
        line: 1,
    };
    let no_names = || {
        let what = "the first record names the fields: prefix, next_hop, name, mail, phone, note";
        (1, what.to_owned())
    };
    let (line, names) = records.next_record()?.ok_or_else(no_names)?;
    for (i, name) in names.iter().enumerate() {
        let name = name.trim();
        if !["prefix", "next_hop", "name", "mail", "phone", "note"].contains(&name) {
            let what = "expected prefix, next_hop, name, mail, phone, note";
            return Err((line, format!("there is no field {name:?}: {what}")));
        }
        if names[..i].iter().any(|other| other.trim() == name) {
            return Err((line, format!("the field {name} is named twice")));
        }
    }
    let mut entries = Vec::new();
    while let Some((line, values)) = records.next_record()? {
        if values.len() != names.len() {
            let (have, expected) = (values.len(), names.len());
            let what = format!("{have} fields, but the first record names {expected}");
            return Err((line, what));
        }
        let mut fields = Fields::default();
        for (name, value) in names.iter().zip(values) {
            let value = value.trim();
            if value.is_empty() {
                continue;
            }
            let given = Some(value.to_owned());
            match name.trim() {
                "prefix" => fields.prefix = given,
                "next_hop" => fields.next_hop = given,
                "name" => fields.name = given,
                "phone" => fields.phone = given,
                "note" => fields.note = given,
                // As checked above, it is mail.
                _ => fields.mail = value.split_whitespace().map(str::to_owned).collect(),
            }
        }
        entries.push(fields.entry(line)?);
    }
    Ok(entries)
}

/// The records of a text.
struct Records<'a> {
    rest: &'a str,
    /// The line that `rest` begins in, counted from 1.
    line: usize,
}

impl Records<'_> {
    /// The next record that is neither empty nor a remark, with the line that it begins in.
    fn next_record(&mut self) -> Result<Option<(usize, Vec<String>)>, Wrong> {
        loop {
            let end = self.rest.find('\n');
            let line = &self.rest[..end.unwrap_or(self.rest.len())];
            if line.trim().is_empty() || line.starts_with('#') {
                let Some(end) = end else {
                    return Ok(None);
                };
                self.rest = &self.rest[end + 1..];
                self.line += 1;
                continue;
            }
            let begun = self.line;
            return self.fields().map(|fields| Some((begun, fields)));
        }
    }

    /// The fields up to the end of a record (RFC 4180, section 2).
    fn fields(&mut self) -> Result<Vec<String>, Wrong> {
        let begun = self.line;
        let mut fields = Vec::new();
        loop {
            let (field, last) = self.field(begun)?;
            fields.push(field);
            if last {
                return Ok(fields);
            }
            if fields.len() == MAX_FIELDS {
                return Err((begun, format!("more than {MAX_FIELDS} fields")));
            }
        }
    }

    /// A field, and whether it is the last one of its record.
    fn field(&mut self, begun: usize) -> Result<(String, bool), Wrong> {
        let long = || (begun, format!("a field is longer than {MAX_FIELD} bytes"));
        let mut field = String::new();
        if let Some(mut quoted) = self.rest.strip_prefix('"') {
            loop {
                let quote = quoted
                    .find('"')
                    .ok_or_else(|| (begun, "a quoted field does not end".to_owned()))?;
                if field.len() + quote > MAX_FIELD {
                    return Err(long());
                }
                field.push_str(&quoted[..quote]);
                quoted = &quoted[quote + 1..];
                match quoted.strip_prefix('"') {
                    Some(rest) => {
                        field.push('"');
                        quoted = rest;
                    }
                    None => break,
                }
            }
            self.line += field.matches('\n').count();
            self.rest = quoted;
        } else {
            let end = self.rest.find([',', '\n']).unwrap_or(self.rest.len());
            let plain = &self.rest[..end];
            if plain.len() > MAX_FIELD {
                return Err(long());
            }
            if plain.contains('"') {
                let what = "a quote inside a field: put the field into quotes, and write it twice";
                return Err((begun, what.to_owned()));
            }
            field.push_str(plain.strip_suffix('\r').unwrap_or(plain));
            self.rest = &self.rest[end..];
        }
        let rest = self.rest.strip_prefix('\r').unwrap_or(self.rest);
        if let Some(rest) = rest.strip_prefix('\n') {
            self.rest = rest;
            self.line += 1;
            return Ok((field, true));
        }
        if rest.is_empty() {
            self.rest = rest;
            return Ok((field, true));
        }
        match rest.strip_prefix(',') {
            Some(rest) => {
                self.rest = rest;
                Ok((field, false))
            }
            None => Err((
                begun,
                "a quote ends a field, but no comma follows".to_owned(),
            )),
        }
    }
}
