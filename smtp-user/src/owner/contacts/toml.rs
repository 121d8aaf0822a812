//! Contacts in TOML.

use serde::Deserialize;
use toml::Spanned;

use super::{Entry, Fields, Wrong};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    contact: Vec<Spanned<Table>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    prefix: Option<String>,
    next_hop: Option<String>,
    name: Option<String>,
    #[serde(default)]
    mail: Mail,
    phone: Option<String>,
    note: Option<String>,
}

/// One address, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a mail address, or a list of them")]
enum Mail {
    One(String),
    Several(Vec<String>),
}

impl Default for Mail {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

/// Reads a file.
pub(super) fn read(text: &str) -> Result<Vec<Entry>, Wrong> {
    let document: Document = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        // The parser's longer explanations have lines of their own.
        (line, error.message().trim().replace('\n', "; "))
    })?;
    document
        .contact
        .into_iter()
        .map(|table| {
            let line = line_of(text, table.span().start);
            let table = table.into_inner();
            Fields {
                prefix: table.prefix,
                next_hop: table.next_hop,
                name: table.name,
                mail: match table.mail {
                    Mail::One(mail) => vec![mail],
                    Mail::Several(mails) => mails,
                },
                phone: table.phone,
                note: table.note,
            }
            .entry(line)
        })
        .collect()
}

/// The line of a byte, counted from 1.
fn line_of(text: &str, byte: usize) -> usize {
    text.get(..byte).unwrap_or(text).matches('\n').count() + 1
}
