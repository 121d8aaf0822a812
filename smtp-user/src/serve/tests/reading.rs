//! Everything that is read, against a real store: what is documented is what is answered.

use std::collections::BTreeMap;
use std::path::Path;

use super::known::desk;
use super::*;
use crate::model::complaint::tests::complaint;
use crate::report::tests::{BOT, Scene};
use crate::serve::openapi;
use crate::store::NoticeLedger;
use crate::store::add_complaint;

/// A server with a day of a spam bot in its history, which it is asked for, and a complaint about it; the day is in
/// 2026-11.
pub(super) struct Served {
    pub(super) server: Server,
    _scene: Scene,
    _folder: tempfile::TempDir,
}

pub(super) fn served() -> Served {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let scene = Scene::in_file(&path);
    let ledger = NoticeLedger::take(&path).expect("a ledger");
    let notice = noticing::waiting(1, "a notice");
    ledger.write(&[notice]).expect("written");
    let told = complaint(BOT, 1_793_793_600_000)
        .checked(1_793_800_000_000)
        .expect("a complaint");
    add_complaint(&path, &told, "anna", 1_793_800_000_000)
        .unwrap_or_else(|error| panic!("{error:?}"));
    let server = Server::start_of(desk(folder.path()), archive(&path));
    server.judge(&path);
    Served {
        server,
        _scene: scene,
        _folder: folder,
    }
}

/// What is wrong with a value by a schema of the document.
fn faults(value: &Value, schema: &Value, document: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let pointer = reference.trim_start_matches('#');
        let other = document.pointer(pointer).expect("a reference");
        return faults(value, other, document, at, found);
    }
    if let Some(kinds) = schema.get("type") {
        let is = |kind: &Value| match kind.as_str().expect("text") {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            other => panic!("{other}"),
        };
        let one = match kinds {
            Value::Array(kinds) => kinds.iter().any(is),
            kind => is(kind),
        };
        if !one {
            found.push(format!("{at} is {value}, not {kinds}"));
        }
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        found.push(format!("{at} is {value}, none of {words:?}"));
    }
    match (schema["format"].as_str(), value.as_str()) {
        (Some("date-time"), Some(text)) if text.parse::<jiff::Timestamp>().is_err() => {
            found.push(format!("{at} is {value}, no time"));
        }
        (Some("ipv4"), Some(text)) if text.parse::<std::net::Ipv4Addr>().is_err() => {
            found.push(format!("{at} is {value}, not IPv4"));
        }
        (Some("ipv6"), Some(text)) if text.parse::<std::net::Ipv6Addr>().is_err() => {
            found.push(format!("{at} is {value}, not IPv6"));
        }
        _ => {}
    }
    if let Some(others) = schema["anyOf"].as_array() {
        let fits = others.iter().any(|other| {
            let mut inner = Vec::new();
            faults(value, other, document, at, &mut inner);
            inner.is_empty()
        });
        if !fits {
            found.push(format!("{at} is {value}, none of {others:?}"));
        }
    }
    if let (Some(items), Some(item)) = (value.as_array(), schema.get("items")) {
        for (i, inner) in items.iter().enumerate() {
            faults(inner, item, document, &format!("{at}[{i}]"), found);
        }
    }
    if let (Some(fields), Some(properties)) = (value.as_object(), schema["properties"].as_object())
    {
        for name in schema["required"].as_array().into_iter().flatten() {
            let name = name.as_str().expect("text");
            if !fields.contains_key(name) {
                found.push(format!("{at} has no {name}"));
            }
        }
        for (name, inner) in fields {
            match properties.get(name) {
                Some(property) => {
                    faults(inner, property, document, &format!("{at}.{name}"), found);
                }
                None => found.push(format!("{at}.{name} is not documented")),
            }
        }
    }
}

/// A path of the document with something in the place of its variables.
fn filled(path: &str) -> String {
    path.replace("{addr}", BOT)
        .replace("{month}", "2026-11")
        .replace("{id}", "1")
}

#[test]
fn every_answer_is_as_the_document_says() {
    let served = served();
    let document = served.server.json("/api/openapi.json");
    let paths = document["paths"].as_object().expect("paths");
    let mut asked = 0;
    for (path, operations) in paths {
        let content = &operations["get"]["responses"]["200"]["content"];
        let Some(json) = content.get("application/json") else {
            continue;
        };
        // Of the bot in memory nothing is known, but of this one.
        let targets = match path.as_str() {
            "/api/v1/sources/{addr}" => vec!["/api/v1/sources/192.0.2.7".to_owned()],
            "/api/v1/sources" => vec![filled(path), format!("{path}?period=7d")],
            "/api/v1/distribution" => vec![
                format!("{path}?period=7d"),
                format!("{path}?item=pair&period=12h&compare=previous"),
            ],
            path if path.ends_with("series") => vec![
                format!("{}?period=7d", filled(path)),
                format!("{}?period=2d&tier=bin", filled(path)),
                format!("{}?period=2026-11&tier=day", filled(path)),
            ],
            path if path.ends_with("pairs") => vec![
                format!("{}?period=7d", filled(path)),
                "/api/v1/sources/203.0.113.1/pairs?period=7d".to_owned(),
            ],
            path => vec![filled(path)],
        };
        for target in targets {
            let answer = served.server.json(&target);
            let mut found = Vec::new();
            faults(&answer, &json["schema"], &document, "", &mut found);
            assert!(found.is_empty(), "{target}: {found:#?}\n{answer:#}");
            asked += 1;
        }
    }
    assert!(asked > 15, "{asked}");
}

#[test]
fn mistakes_are_refused_as_the_document_says() {
    let served = served();
    let document = openapi::document();
    let problem = &document["components"]["schemas"]["Problem"];
    for operation in openapi::operations() {
        if operation.method != "get" || !operation.path.starts_with("/api/v1") {
            continue;
        }
        let path = filled(operation.path);
        let responses = &document["paths"][operation.path]["get"]["responses"];
        let parameters = document["paths"][operation.path]["get"]["parameters"].clone();
        let mut wrong = vec![format!("{path}?nonsense=1"), format!("{path}?%ff=")];
        for parameter in parameters.as_array().expect("a list") {
            let name = parameter["name"].as_str().expect("text");
            if parameter["in"] == "query" {
                wrong.push(format!("{path}?{name}=%C3%A9"));
            } else {
                wrong.push(operation.path.replace(&format!("{{{name}}}"), "%C3%A9"));
            }
        }
        for target in wrong {
            let (status, head, body) = served.server.get(&target);
            assert_eq!(status, 400, "{target}: {body}");
            assert!(responses.get("400").is_some(), "{}", operation.path);
            assert!(head.contains("content-type: application/json"), "{head}");
            let body: Value = serde_json::from_str(&body).expect("JSON");
            let mut found = Vec::new();
            faults(&body, problem, &document, "", &mut found);
            assert!(found.is_empty(), "{target}: {found:#?}");
        }
    }
    let (status, _, body) = served
        .server
        .get("/api/v1/sources?filter=scope:local+connections%3Emany");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, &body["position"]), (400, &25.into()), "{body}");
}

#[test]
fn other_methods_are_refused_with_those_that_there_are_and_head_is_get_without_a_body() {
    let served = served();
    for operation in openapi::operations() {
        let path = filled(operation.path);
        let ask = |method: &str| {
            served.server.send(&format!(
                "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
                served.server.address
            ))
        };
        let (status, head, _) = ask("DELETE");
        assert_eq!(status, 405, "{path}");
        let allow = head.lines().find(|line| line.starts_with("allow: "));
        let allow = allow.unwrap_or_else(|| panic!("{path}: {head}"));
        assert!(allow.contains(operation.method), "{path}: {allow}");
        if operation.method == "get" && !path.ends_with("/events") {
            let (get, _, _) = ask("GET");
            let (status, _, body) = ask("HEAD");
            assert_eq!((status, &*body), (get, ""), "{path}");
        }
    }
}

#[test]
fn answers_have_the_fields_of_the_documentation() {
    let served = served();
    let series = format!("/api/v1/sources/{BOT}/series?period=7d");
    let pairs = format!("/api/v1/sources/{BOT}/pairs?period=7d");
    for (path, fields) in [
        (&*series, series_fields()),
        ("/api/v1/series?period=7d", network_series_fields()),
        ("/api/v1/distribution?period=7d", distribution_fields()),
        ("/api/v1/reports/2026-11", report_fields()),
        ("/api/v1/interfaces", interfaces_fields()),
        (&*pairs, pairs_fields()),
    ] {
        let mut have = Vec::new();
        paths(&served.server.json(path), "", &mut have);
        for (field, text) in fields {
            assert!(text.len() > 3, "{path} {field} is documented as {text:?}");
            let there = have.iter().any(|name| {
                // An object or a list that is empty or null stands for what could be in it.
                field == *name || field.starts_with(&format!("{name}."))
            });
            assert!(there, "{path} has no {field}: {have:?}");
            have.retain(|name| *name != field);
        }
        have.retain(|name| !name.is_empty());
        let empty = |name: &String| ["previous", "clients", "lists", "cases"].contains(&&**name);
        have.retain(|name| !empty(name));
        assert!(
            have.is_empty(),
            "{path} has {have:?} beside what is documented"
        );
    }
}

#[test]
fn a_series_has_a_gap_where_nothing_was_counted_and_zero_where_nothing_came() {
    let served = served();
    let sum = |column: &Value| -> u64 {
        let cells = column.as_array().expect("a column").iter();
        cells.filter_map(Value::as_u64).sum()
    };
    let path = format!("/api/v1/sources/{BOT}/series?period=3d");
    let bot = served.server.json(&path);
    let coverage = bot["coverage"].as_array().expect("a column");
    let connections = bot["connections"].as_array().expect("a column");
    assert_eq!(coverage.len(), connections.len());
    assert_eq!(bot["times"].as_array().map(Vec::len), Some(coverage.len()));
    assert!((72..=73).contains(&coverage.len()), "{}", coverage.len());
    for (place, covered) in coverage.iter().enumerate() {
        let gap = covered.as_f64() == Some(0.0);
        for column in [
            "connections",
            "servers",
            "c2s_bytes",
            "accepted",
            "peak_per_second",
        ] {
            assert_eq!(bot[column][place].is_null(), gap, "{column} {place}");
        }
    }
    let has = |wanted: &dyn Fn(&Value) -> bool| connections.iter().any(wanted);
    assert!(has(&|cell| cell.is_null()), "a gap before the day");
    assert!(has(&|cell| cell.as_u64().is_some_and(|count| count > 0)));
    assert!(!bot["verdicts"].as_array().expect("verdicts").is_empty());
    let limits: Vec<_> = bot["limits"].as_array().expect("limits").iter().collect();
    assert!(
        limits
            .iter()
            .any(|limit| limit["figure"] == "connections" && limit["value"] == 30.0)
    );

    // The network is the sum of its sources, asked twice: the second time from what is kept.
    let all = served.server.json("/api/v1/sources?period=3d&limit=1000");
    let rows = all["sources"].as_array().expect("rows");
    let expected: u64 = rows
        .iter()
        .map(|row| row["total"]["connections"].as_u64().expect("n"))
        .sum();
    for _ in 0..2 {
        let network = served.server.json("/api/v1/series?period=3d");
        assert_eq!(sum(&network["connections"]), expected);
        assert_eq!(network["coverage"], bot["coverage"]);
        let flagged = network["flagged"].as_array().expect("a column");
        assert!(
            flagged.iter().any(|cell| cell.as_u64() > Some(0)),
            "{network}"
        );
        let published = fixture::snapshot(&fixture::rows());
        served.server.snapshots.send_replace(Arc::new(published));
    }
}

#[test]
fn pairs_are_told_from_both_ends() {
    let served = served();
    let bot = served.server.json(&format!(
        "/api/v1/sources/{BOT}/pairs?period=7d&limit=10000"
    ));
    let servers = bot["servers"].as_array().expect("a list");
    assert_eq!(bot["servers_total"], servers.len());
    assert!(servers.len() > 1 && bot["clients_total"] == 0, "{bot}");
    let most = &servers[0];
    let other = most["addr"].as_str().expect("an address");
    let server = served
        .server
        .json(&format!("/api/v1/sources/{other}/pairs?period=7d"));
    let clients = server["clients"].as_array().expect("a list");
    let same = clients
        .iter()
        .find(|client| client["addr"] == BOT)
        .expect("the bot");
    assert_eq!(same["connections"], most["connections"]);
    assert_eq!(same["outcomes"], most["outcomes"]);
    let one = served
        .server
        .json(&format!("/api/v1/sources/{BOT}/pairs?period=7d&limit=1"));
    assert_eq!(one["servers"], Value::Array(vec![most.clone()]));
    assert_eq!(one["servers_total"], servers.len());
}

#[test]
fn a_distribution_is_that_of_the_sources() {
    let served = served();
    let all = served.server.json("/api/v1/sources?period=7d&limit=1000");
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    let rows = all["sources"].as_array().expect("rows");
    let connections = rows
        .iter()
        .map(|row| row["total"]["connections"].as_u64().expect("n"));
    for connections in connections.filter(|connections| *connections > 0) {
        let from = [1001, 201, 101, 71, 31, 11, 1]
            .into_iter()
            .find(|from| connections >= *from);
        *counts.entry(from.expect("one")).or_default() += 1;
    }
    let table = served.server.json("/api/v1/distribution?period=7d");
    for row in table["rows"].as_array().expect("rows") {
        let from = row["from"].as_u64().expect("a number");
        assert_eq!(
            row["items"],
            counts.get(&from).copied().unwrap_or(0),
            "{row}"
        );
    }
    let shares = |name: &str| -> f64 {
        let rows = table["rows"].as_array().expect("rows").iter();
        rows.map(|row| row[name].as_f64().expect("a share")).sum()
    };
    for name in ["item_share", "connection_share", "byte_share"] {
        assert!((shares(name) - 1.0).abs() < 1e-9, "{name}");
    }
    assert!(table["previous"].is_null());
    // Half a day has a half before it.
    let table = served
        .server
        .json("/api/v1/distribution?period=6h&compare=previous");
    assert_eq!(table["previous"]["period"]["to"], table["period"]["from"]);
    let (status, _, _) = served.server.get("/api/v1/distribution?compare=next");
    assert_eq!(status, 400);
}

#[test]
fn a_report_comes_in_four_forms() {
    let served = served();
    let json = served.server.json("/api/v1/reports/2026-11");
    assert_eq!(
        (&json["month"], &json["judged"]),
        (&"2026-11".into(), &true.into())
    );
    for (format, kind, text) in [
        ("csv", "text/csv", "hosts,"),
        ("html", "text/html", "<html"),
        ("text", "text/plain", "Mail traffic of 2026-11"),
    ] {
        let (status, head, body) = served
            .server
            .get(&format!("/api/v1/reports/2026-11?format={format}"));
        assert_eq!(status, 200, "{format}: {body}");
        assert!(head.contains(&format!("content-type: {kind}")), "{head}");
        assert!(
            head.contains("attachment; filename=\"smtpflow-2026-11."),
            "{head}"
        );
        assert!(
            body.contains(text) && body.contains(BOT),
            "{format}: {body}"
        );
    }
    let (status, _, _) = served.server.get("/api/v1/reports/2026-13");
    assert_eq!(status, 400);
}

#[test]
fn the_configuration_and_the_interfaces_are_told() {
    let server = Server::start();
    let config = server.json("/api/v1/config");
    assert_eq!(config["config"]["detect"]["volume"]["notice"], 30);
    assert_eq!(config["config"]["meter"]["window"], "10s");
    assert_eq!(config["hidden"], Value::Array(Vec::new()));
    let interfaces = server.json("/api/v1/interfaces");
    assert_eq!(
        interfaces["interfaces"],
        server.json("/api/v1/status")["interfaces"]
    );
}

#[test]
fn an_answer_is_made_once_for_everybody_until_there_is_news() {
    let server = Server::start();
    let first = server.json("/api/v1/sources");
    assert_eq!(server.json("/api/v1/sources?limit=100"), first);
    // The list has other figures, but nobody has published them.
    let more = crate::model::Source {
        address: "198.51.100.77"
            .parse::<IpAddr>()
            .expect("an address")
            .into(),
        totals: smtp_common::flow::Totals {
            connections: 9,
            ..Default::default()
        },
    };
    server.list.write().count(&[more]);
    assert_eq!(server.json("/api/v1/sources"), first);
    assert_eq!(
        server.json("/api/v1/sources?limit=99")["total"],
        5,
        "another question"
    );
    let published = fixture::snapshot(&fixture::rows());
    server.snapshots.send_replace(Arc::new(published));
    let next = server.json("/api/v1/sources");
    assert_eq!(next["total"], 5);
}

/// A store that cannot be read is told, and asked again for the next one.
#[test]
fn what_could_not_be_made_is_not_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let path: &Path = &folder.path().join("store.db");
    let server = Server::start_with(archive(path));
    let asked = "/api/v1/sources?period=7d";
    assert_eq!(server.get(asked).0, 503);
    let scene = Scene::in_file(path);
    assert!(server.json(asked)["total"].as_u64() > Some(0));
    drop(scene);
}

#[test]
fn an_answer_that_is_there_is_given_while_the_recorder_has_the_list() {
    let server = Server::start();
    let first = server.json("/api/v1/sources");
    let list = server.list.write();
    assert_eq!(server.json("/api/v1/sources"), first);
    assert_eq!(server.json("/api/v1/status")["drains"], 10);
    drop(list);
}

/// Readers wait for the recorder, never the other way round for longer than a scan or two.
#[test]
fn two_hundred_readers_let_the_recorder_in() {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    let server = Server::start();
    let over = AtomicBool::new(false);
    let answered = AtomicU64::new(0);
    let request = |number: u64| {
        format!(
            "GET /api/v1/sources?limit={} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            1 + number % 500,
            server.address
        )
    };
    std::thread::scope(|scope| {
        for reader in 0..200_u64 {
            let (server, over, answered, request) = (&server, &over, &answered, &request);
            scope.spawn(move || {
                let mut number = reader;
                while !over.load(Ordering::Relaxed) {
                    let (status, _, body) = server.send(&request(number));
                    assert_eq!(status, 200, "{body}");
                    answered.fetch_add(1, Ordering::Relaxed);
                    number += 7;
                }
            });
        }
        // As many windows as it takes that all have had answers of different ones.
        let mut windows = 0_u64;
        let started = Instant::now();
        while answered.load(Ordering::Relaxed) < 1000 || windows < 20 {
            assert!(
                started.elapsed() < Duration::from_secs(120),
                "{windows} windows"
            );
            {
                let mut list = server.list.write();
                list.begin_window();
                let published = fixture::snapshot(&fixture::rows());
                server.snapshots.send_replace(Arc::new(published));
            }
            windows += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
        over.store(true, Ordering::Relaxed);
    });
}
