//! A report as one printable HTML page.
//!
//! Contract: no script, no external request; a policy in the page forbids both, should any text ever
//! break out. Every text is escaped.

use std::fmt::Write as _;

use super::document::{Column, Document, Table, printable};

/// Narrow enough for a page of A4 and of US Letter; head rows come again on every page.
const STYLE: &str = "
:root { color-scheme: light; }
body { font: 10pt/1.4 sans-serif; color: #111; background: #fff; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6em; margin: 0 0 .5rem; }
h2 { font-size: 1.15em; margin: 1.6rem 0 .4rem; break-after: avoid; }
p { margin: .2rem 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .4rem 0; }
th, td { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid #ccc; vertical-align: top; font-variant-numeric: tabular-nums; }
th { border-bottom: 2px solid #444; }
.t { text-align: left; overflow-wrap: anywhere; }
tr { break-inside: avoid; }
thead { display: table-header-group; }
footer { margin-top: 2rem; color: #555; }
@page { margin: 15mm; }
@media print { body { font-size: 8.5pt; max-width: none; margin: 0; padding: 0; } .wide { overflow: visible; } }
";

/// The page.
pub fn render(document: &Document) -> String {
    let Document {
        title,
        notes,
        tables,
    } = document;
    let title = escape(title);
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    );
    paragraphs(&mut html, notes);
    for table in tables {
        write_table(&mut html, table);
    }
    let _ = write!(
        html,
        "<footer>smtpflow {}</footer>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    );
    html
}

fn paragraphs(html: &mut String, notes: &[String]) {
    for note in notes {
        let _ = writeln!(html, "<p>{}</p>", escape(note));
    }
}

fn write_table(html: &mut String, table: &Table) {
    let Table {
        name,
        title,
        notes,
        columns,
        rows,
    } = table;
    let _ = writeln!(html, "<h2 id=\"{}\">{}</h2>", escape(name), escape(title));
    paragraphs(html, notes);
    if rows.is_empty() {
        html.push_str("<p>None.</p>\n");
        return;
    }
    html.push_str("<div class=\"wide\"><table>\n<thead><tr>");
    for column in columns {
        let class = class(column);
        let _ = write!(
            html,
            "<th scope=\"col\"{class}>{}</th>",
            escape(&column.title())
        );
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        html.push_str("<tr>");
        for (cell, column) in row.iter().zip(columns) {
            let _ = write!(html, "<td{}>{}</td>", class(column), escape(cell));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table></div>\n");
}

const fn class(column: &Column) -> &'static str {
    if column.text { " class=\"t\"" } else { "" }
}

/// Text in an element or in an attribute with quotation marks.
fn escape(text: &str) -> String {
    let text = printable(text);
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::document::tests::hostile;

    #[test]
    fn hostile_text_becomes_no_element() {
        let mut hostile = hostile();
        let with = super::render(&hostile);
        hostile.title = "x".to_owned();
        hostile.notes = vec!["x".to_owned()];
        let table = &mut hostile.tables[0];
        table.title = "x".to_owned();
        table.notes = vec!["x".to_owned()];
        table.rows[0][0] = "x".to_owned();
        let without = super::render(&hostile);
        for sign in ["<", ">", "\"", "'"] {
            assert_eq!(
                with.matches(sign).count(),
                without.matches(sign).count(),
                "{sign} got through:\n{with}"
            );
        }
        assert!(!with.contains(['\u{1b}', '\r', '\u{202e}']), "{with:?}");
    }

    #[test]
    fn a_page_loads_nothing_and_runs_nothing() {
        let page = super::render(&hostile());
        for forbidden in [
            "<script", "src=\"", "href=", "@import", "url(", "<iframe", "<img",
        ] {
            assert!(!page.contains(forbidden), "{forbidden} in:\n{page}");
        }
        assert!(page.contains("default-src 'none'"));
    }
}
