//! The README says what the code does: its tables are those of the code, and every metric that it
//! names exists.
//!
//! `SMTPFLOW_UPDATE_README=1 cargo test -p smtpflow-tests --test docs` writes the tables anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use smtp_common::counter::Skip;
use smtp_user::config::Config;
use smtp_user::report::why::why_fields;
use smtp_user::serve::metrics::{METRICS, Metric, SOURCE_METRICS};
use smtp_user::{detect, relay_test, serve};
use xtask::cost::{Report, readme_table};

/// The documents with tables and metrics in them.
const README: &str = "README.md";
const MONITORING: &str = "docs/monitoring/README.md";
const API: &str = "docs/api.md";
const RELAY_TEST: &str = "docs/relay-test.md";
const ABUSE_DESK: &str = "docs/abuse-desk.md";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
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

fn metrics(metrics: &[Metric]) -> String {
    let rows = metrics.iter().map(|metric| {
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

/// The routes of the document that the agent serves: method and path, parameters, what it is.
fn routes() -> String {
    let document: serde_json::Value =
        serde_json::from_str(&read("smtp-user/src/serve/openapi/openapi.json")).expect("JSON");
    let mut rows = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in ["get", "post"] {
            let Some(operation) = methods.get(method) else {
                continue;
            };
            let parameters = operation["parameters"].as_array();
            let parameters = parameters.into_iter().flatten();
            let query: Vec<_> = parameters
                .filter(|parameter| parameter["in"] == "query")
                .filter_map(|parameter| parameter["name"].as_str())
                .map(|name| format!("`{name}`"))
                .collect();
            rows.push(vec![
                format!("`{} {path}`", method.to_uppercase()),
                query.join(" "),
                operation["summary"].as_str().expect("a summary").to_owned(),
            ]);
        }
    }
    table(&["route", "query", "what it is"], rows)
}

/// A heading and the fields of an answer.
type Answer = (&'static str, fn() -> Vec<(String, String)>);

const ANSWERS: &[Answer] = &[
    ("GET /api/v1/status", serve::status_fields),
    ("GET /api/v1/sources", serve::sources_fields),
    ("GET /api/v1/sources/{addr}", serve::source_fields),
    ("GET /api/v1/sources/{addr}/why", why_fields),
    (
        "GET /api/v1/sources/{addr}/evidence",
        serve::evidence_fields,
    ),
    ("GET /api/v1/sources/{addr}/series", serve::series_fields),
    ("GET /api/v1/sources/{addr}/owner", serve::owner_fields),
    ("GET /api/v1/sources/{addr}/pairs", serve::pairs_fields),
    ("GET /api/v1/series", serve::network_series_fields),
    ("GET /api/v1/distribution", serve::distribution_fields),
    ("GET /api/v1/verdicts", serve::verdicts_fields),
    ("GET and POST /api/v1/verdicts/{id}", serve::verdict_fields),
    ("GET /api/v1/relays", serve::relays_fields),
    (
        "POST /api/v1/relays and /api/v1/relays/expire",
        serve::relay_change_fields,
    ),
    ("GET /api/v1/notices", serve::notices_fields),
    ("GET and POST /api/v1/notices/{id}", serve::notice_fields),
    ("GET /api/v1/complaints", serve::complaints_fields),
    (
        "POST /api/v1/complaints and /api/v1/complaints/{id}/withdraw",
        serve::complaint_change_fields,
    ),
    ("GET /api/v1/reports/{month}", serve::report_fields),
    ("GET /api/v1/interfaces", serve::interfaces_fields),
    ("GET /api/v1/config", serve::config_fields),
    (
        "GET /api/v1/events: the data of an event drain",
        serve::drain_event_fields,
    ),
    (
        "GET /api/v1/events: the data of an event verdict",
        serve::verdict_event_fields,
    ),
    (
        "GET /api/v1/events: the data of an event config",
        serve::config_event_fields,
    ),
    ("GET /readyz", serve::ready_fields),
];

fn api() -> String {
    let answers = ANSWERS.iter();
    let sections = answers.map(|(heading, of)| format!("\n## {heading}\n\n{}", fields(of())));
    sections.collect()
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

/// The patterns of a relay test, with names that stand for others.
fn patterns() -> String {
    let rows = relay_test::patterns().into_iter().map(|pattern| {
        let commands = format!("`{}`<br>`{}`", pattern.mail, pattern.rcpt);
        vec![
            format!("`{}`", pattern.name),
            commands,
            pattern.why.to_owned(),
        ]
    });
    table(&["pattern", "commands", "why"], rows)
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
        (README, "metrics", metrics(METRICS)),
        (README, "routes", routes()),
        (API, "api", api()),
        (README, "skips", skips()),
        (README, "detectors", detectors()),
        (README, "cost", readme_table(&report)),
        (MONITORING, "source metrics", metrics(SOURCE_METRICS)),
        (RELAY_TEST, "patterns", patterns()),
    ];
    let update = std::env::var_os("SMTPFLOW_UPDATE_README").is_some();
    for (name, marker, expected) in tables {
        let mut text = read(name);
        let place = place(&text, marker);
        if update {
            text.replace_range(place, &expected);
            std::fs::write(path(name), text).expect("it can be written");
        } else {
            assert_eq!(
                &text[place], expected,
                "table {marker} of {name} is out of date"
            );
        }
    }
}

#[test]
fn every_metric_that_is_named_exists() {
    let metrics = METRICS.iter().chain(SOURCE_METRICS);
    let mut known: BTreeSet<String> = metrics.clone().flat_map(Metric::sample_names).collect();
    known.extend(metrics.map(|metric| metric.name.to_owned()));
    for document in [README, MONITORING] {
        let text = read(document);
        for (at, _) in text.match_indices("smtpflow_") {
            let name: String = text[at..]
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            let package = text[at..].starts_with("smtpflow_*.deb");
            assert!(package || known.contains(&name), "{document} names {name}");
        }
    }
}

#[test]
fn every_configuration_that_is_shown_is_good() {
    for name in [README, MONITORING, RELAY_TEST, ABUSE_DESK] {
        let text = read(name);
        let blocks: Vec<&str> = text.split("```toml\n").skip(1).collect();
        assert!(!blocks.is_empty(), "{name}");
        for block in blocks {
            let (toml, _) = block.split_once("```").expect("an end");
            if let Err(failure) = Config::from_toml(name, toml) {
                panic!("{failure}\n{toml}");
            }
        }
    }
}

/// Every test that the document about faults names exists, under that name, in that stage.
#[test]
fn every_fault_has_its_test() {
    let text = read("docs/faults.md");
    let (_, table) = text.split_once("|---|").expect("a table");
    let named: Vec<(&str, &str)> = table
        .split('`')
        .filter_map(|word| word.split_once("::"))
        .collect();
    assert!(named.len() > 20, "{named:?}");
    for (stage, name) in named {
        let (file, sign) = match stage {
            "vm" => (
                "tests/src/guest/checks.rs".to_owned(),
                format!("(\"{name}\","),
            ),
            _ => (
                format!("tests/tests/{stage}.rs"),
                format!("#[test]\nfn {name}()"),
            ),
        };
        assert!(read(&file).contains(&sign), "no {stage}::{name}");
    }
}
