//! The README says what the code does: its tables are those of the code, and every metric that it
//! names exists.
//!
//! `SMTPFLOW_UPDATE_README=1 cargo test -p smtpflow-tests --test docs` writes the tables anew.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use smtp_common::counter::Skip;
use smtp_user::config::Config;
use smtp_user::report::why::why_fields;
use smtp_user::serve::metrics::METRICS;
use smtp_user::{detect, serve};
use xtask::cost::{Report, readme_table};

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")
}

fn readme() -> String {
    std::fs::read_to_string(path()).expect("README.md")
}

fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut text = format!(
        "| {} |\n|{}\n",
        header.join(" | "),
        "---|".repeat(header.len())
    );
    for row in rows {
        writeln!(text, "| {} |", row.join(" | ")).expect("a string");
    }
    text
}

fn metrics() -> String {
    let rows = METRICS.iter().map(|metric| {
        let kind = metric.kind.name();
        let name = if metric.labels.is_empty() {
            format!("`{}`", metric.name)
        } else {
            format!("`{}{{{}}}`", metric.name, metric.labels.join(","))
        };
        vec![name, kind.to_owned(), metric.help.to_owned()]
    });
    table(&["metric", "type", "meaning"], rows)
}

fn fields(fields: Vec<(String, String)>) -> String {
    let rows = fields
        .into_iter()
        .map(|(name, meaning)| vec![format!("`{name}`"), meaning]);
    table(&["field", "meaning"], rows)
}

fn skips() -> String {
    let rows = Skip::ALL
        .iter()
        .map(|skip| vec![format!("`{}`", skip.name()), skip.meaning().to_owned()]);
    table(&["reason", "meaning"], rows)
}

fn detectors() -> String {
    let rows = detect::table().into_iter().map(Vec::from);
    table(&["detector", "looks at", "shipped", "because"], rows)
}

/// The report of the benchmark that is kept in the repository.
fn bench() -> Report {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/bench/bench.json");
    let json = std::fs::read_to_string(path).expect("docs/bench/bench.json");
    Report::from_json(&json).expect("a report of cargo xtask bench")
}

/// Where a table stands in the README, between its marker and the next end.
fn place(readme: &str, marker: &str) -> std::ops::Range<usize> {
    let marker = format!("<!-- {marker} -->\n");
    let start = readme
        .find(&marker)
        .unwrap_or_else(|| panic!("no {marker:?}"))
        + marker.len();
    let length = readme[start..].find("<!-- end -->").expect("an end");
    start..start + length
}

#[test]
fn the_tables_of_the_readme_are_those_of_the_code() {
    let report = bench();
    assert!(!report.quick, "a smoke run says nothing about cost");
    let tables = [
        ("metrics", metrics()),
        ("sources", fields(serve::sources_fields())),
        ("source", fields(serve::source_fields())),
        ("why", fields(why_fields())),
        ("status", fields(serve::status_fields())),
        ("skips", skips()),
        ("detectors", detectors()),
        ("cost", readme_table(&report)),
    ];
    let mut text = readme();
    let update = std::env::var_os("SMTPFLOW_UPDATE_README").is_some();
    for (marker, expected) in tables {
        let place = place(&text, marker);
        if update {
            text.replace_range(place, &expected);
        } else {
            assert_eq!(
                &text[place], expected,
                "table {marker} of README.md is out of date"
            );
        }
    }
    if update {
        std::fs::write(path(), text).expect("README.md can be written");
    }
}

#[test]
fn every_metric_that_the_readme_names_exists() {
    let text = readme();
    for (at, _) in text.match_indices("smtpflow_") {
        let name: String = text[at..]
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect();
        assert!(
            METRICS.iter().any(|metric| metric.name == name),
            "README.md names {name}"
        );
    }
}

#[test]
fn every_configuration_in_the_readme_is_good() {
    let text = readme();
    let blocks: Vec<&str> = text.split("```toml\n").skip(1).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let (toml, _) = block.split_once("```").expect("an end");
        if let Err(failure) = Config::from_toml("README.md", toml) {
            panic!("{failure}\n{toml}");
        }
    }
}
