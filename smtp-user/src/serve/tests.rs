//! The server as clients meet it, over real sockets on loopback.

use std::io::{Read as _, Write as _};
use std::net::TcpStream as Socket;
use std::time::Instant;

use serde_json::Value;

use super::*;
use crate::model::PointState;

mod acting;
mod complaining;
mod connections;
mod events;
mod known;
mod noticing;
mod reading;
mod screens;

/// A running server with a made-up snapshot, stopped when dropped.
struct Server {
    address: SocketAddr,
    snapshots: watch::Sender<Arc<Snapshot>>,
    list: SharedSources,
    events: broadcast::Sender<Event>,
    /// How often it was said that the store has changed.
    changed: Arc<std::sync::atomic::AtomicUsize>,
    shutdown: watch::Sender<bool>,
    runtime: tokio::runtime::Runtime,
    serving: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Server {
    fn start() -> Self {
        Self::start_with(None)
    }

    fn start_with(archive: Option<Arc<Archive>>) -> Self {
        let config = configuration::Serve {
            listen: "127.0.0.1:0".parse().expect("an address"),
            ..configuration::Serve::default()
        };
        Self::start_as(&config, archive)
    }

    fn start_as(config: &configuration::Serve, archive: Option<Arc<Archive>>) -> Self {
        let config = Config {
            serve: config.clone(),
            ..Config::default()
        };
        Self::start_of(config, archive)
    }

    fn start_of(config: Config, archive: Option<Arc<Archive>>) -> Self {
        let (listener, options) = bind(&config.serve).expect("a free port");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (snapshots, receiver) = watch::channel(Arc::new(fixture::snapshot(&fixture::rows())));
        let list = SharedSources::new(fixture::list(&fixture::rows()));
        let (shutdown, stop) = watch::channel(false);
        let address = options.listen;
        let connections = SharedConnections::new(fixture::connections());
        let changed = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = changed.clone();
        let feed = Feed {
            archive,
            config: watch::channel(Arc::new(config)).1,
            changed: Arc::new(move || {
                counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }),
            ..Feed::new(receiver, connections, list.clone())
        };
        let events = feed.events.clone();
        let serving = runtime.spawn(serve(
            listener,
            watch::channel(Arc::new(options)).1,
            feed,
            stop,
        ));
        Self {
            address,
            snapshots,
            list,
            events,
            changed,
            shutdown,
            runtime,
            serving,
        }
    }

    /// Takes over the open verdicts of a store, as the agent does.
    fn judge(&self, path: &std::path::Path) {
        let reader = crate::store::Reader::open(path).unwrap_or_else(|f| panic!("{f}"));
        let verdicts = reader
            .verdicts(&crate::model::verdict::VerdictFilter::default())
            .unwrap_or_else(|f| panic!("{f}"));
        let mut snapshot = fixture::snapshot(&fixture::rows());
        snapshot.open = verdicts
            .into_iter()
            .filter(|verdict| verdict.state.is_open())
            .collect();
        self.snapshots.send_replace(Arc::new(snapshot));
    }

    fn connect(&self) -> Socket {
        let socket = Socket::connect(self.address).expect("a connection");
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a limit");
        socket
    }

    /// Sends a request and returns status, head and body.
    fn send(&self, request: &str) -> (u16, String, String) {
        let mut socket = self.connect();
        socket.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("answered");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).expect("a status");
        (
            status.parse().expect("a number"),
            head.to_ascii_lowercase(),
            body.to_owned(),
        )
    }

    fn get(&self, path: &str) -> (u16, String, String) {
        self.send(&format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.address
        ))
    }

    fn json(&self, path: &str) -> Value {
        let (status, head, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        assert!(head.contains("content-type: application/json"), "{head}");
        serde_json::from_str(&body).expect("JSON")
    }
}

/// The paths of all values, those in lists once.
fn paths(value: &Value, prefix: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if prefix.is_empty() {
                    name.clone()
                } else {
                    format!("{prefix}.{name}")
                };
                paths(value, &path, found);
            }
        }
        Value::Array(items) if items.first().is_some_and(Value::is_object) => {
            paths(&items[0], prefix, found);
        }
        _ => found.push(prefix.to_owned()),
    }
}

#[test]
fn answers_have_the_documented_fields_and_no_other() {
    let server = Server::start();
    for (path, fields) in [
        ("/api/v1/status", status_fields()),
        ("/api/v1/sources", sources_fields()),
        ("/api/v1/sources/192.0.2.7", source_fields()),
        ("/readyz", ready_fields()),
    ] {
        let mut have = Vec::new();
        paths(&server.json(path), "", &mut have);
        have.sort();
        let mut documented: Vec<String> = fields.iter().map(|(path, _)| path.clone()).collect();
        // An object that is not there is null as a whole.
        for null in have.clone() {
            let inside = format!("{null}.");
            let inner = documented.extract_if(.., |path| path.starts_with(&inside));
            if inner.count() != 0 {
                documented.push(null);
            }
        }
        documented.sort();
        assert_eq!(have, documented, "{path}");
        for (field, text) in fields {
            assert!(text.len() > 3, "{path} {field} is documented as {text:?}");
        }
    }
}

#[test]
fn a_source_has_its_pairs_and_its_last_connections() {
    let server = Server::start();
    let client = server.json("/api/v1/sources/192.0.2.7");
    for (pointer, expected) in [
        ("/addr", Value::from("192.0.2.7")),
        ("/scope", "local".into()),
        ("/total/connections", 100.into()),
        ("/outcomes/delivered", 1.into()),
        ("/outcomes/unknown", 1.into()),
        ("/visibility", 0.5.into()),
        ("/servers", 1.into()),
        ("/servers_exact", true.into()),
        ("/replies/2xx", 4.into()),
        ("/commands/rcpt", 1.into()),
        ("/accepted", 1.into()),
        ("/pairs_total", 1.into()),
        ("/pairs/0/client", "192.0.2.7".into()),
        ("/pairs/0/server", "2001:db8::25".into()),
        ("/pairs/0/connections", 2.into()),
        ("/pairs/0/c2s_bytes", 460.into()),
        ("/connections/0/client_port", 40_000.into()),
        ("/connections/0/outcome", "unknown".into()),
        ("/connections/0/open", true.into()),
        ("/connections/0/c2s_flags", "SYN".into()),
        ("/connections/1/outcome", "delivered".into()),
        ("/connections/1/open", false.into()),
        ("/connections/1/s2c_flags", "SYN ACK PSH FIN".into()),
        ("/connections/1/server_port", 25.into()),
    ] {
        assert_eq!(
            client.pointer(pointer),
            Some(&expected),
            "{pointer} of {client}"
        );
    }
    // The same address in another form, and one that is a server only.
    let mapped = server.json("/api/v1/sources/::ffff:192.0.2.7?limit=1");
    assert_eq!(
        (&mapped["addr"], &mapped["limit"]),
        (&"192.0.2.7".into(), &1.into())
    );
    let other = server.json("/api/v1/sources/2001:db8::25");
    assert_eq!(other["pairs"], client["pairs"]);
    assert_eq!(other["connections"], Value::Array(Vec::new()));
    assert_eq!(other["visibility"], Value::Null);
    let list = server.json("/api/v1/sources?filter=net:192.0.2.7");
    assert_eq!(list["sources"][0]["outcomes"], client["outcomes"]);
}

#[test]
fn what_is_no_source_is_told_from_what_is_no_address() {
    let server = Server::start();
    for (target, expected, text) in [
        ("192.0.2.8", 404, "192.0.2.8 was not seen"),
        ("mail.example", 400, "addr=mail.example is not understood"),
        ("192.0.2.0/24", 404, "there is no /api"),
        ("192.0.2.7?limit=0", 400, "1 to 10000"),
        ("192.0.2.7?sort=addr", 400, "the parameter limit"),
        ("192.0.2.7?limit=1&limit=2", 400, "once"),
    ] {
        let (status, _, body) = server.get(&format!("/api/v1/sources/{target}"));
        assert_eq!(status, expected, "{target}: {body}");
        assert!(body.contains(text), "{target}: {body}");
    }
}

#[test]
fn status_says_what_the_snapshot_says() {
    let server = Server::start();
    let status = server.json("/api/v1/status");
    for (pointer, expected) in [
        ("/schema", Value::from(1)),
        ("/ports/0", 25.into()),
        ("/window_seconds", 10.0.into()),
        ("/interfaces/0/mode", "driver".into()),
        ("/interfaces/0/state", "attached".into()),
        ("/interfaces/0/reason", Value::Null),
        ("/interfaces/0/up", true.into()),
        ("/interfaces/0/fallback", Value::Null),
        ("/interfaces/1/mode", "skb".into()),
        ("/totals/connections", 111.into()),
        ("/totals/c2s_packets", 121.into()),
        ("/overflow/packets", 1.into()),
        ("/conservation/error", 0.into()),
        ("/conservation/frames", 1000.into()),
        ("/skipped/not_tcp", 770.into()),
        ("/skipped/ipv6_mapped", 0.into()),
        ("/flows/outcomes/delivered", 1.into()),
        ("/flows/visibility", 0.5.into()),
        ("/flows/pairs", 1.into()),
        ("/flows/window_flows", 2.into()),
        ("/table/spilled", 7.into()),
        ("/sources_kept", 4.into()),
        ("/last_drain/duration_seconds", 0.012.into()),
    ] {
        assert_eq!(status.pointer(pointer), Some(&expected), "{pointer}");
    }
    let at = status["last_drain"]["at"].as_str().expect("text");
    assert!(
        at.parse::<jiff::Timestamp>().is_ok() && at.ends_with('Z'),
        "{at}"
    );
}

#[test]
fn sources_are_sorted_and_a_bad_query_is_refused() {
    let server = Server::start();
    let sources = server.json("/api/v1/sources?limit=1&filter=scope%3Alocal");
    assert_eq!(sources["total"], 1);
    assert_eq!(sources["sources"][0]["addr"], "192.0.2.7");
    assert_eq!(sources["sources"][0]["total"]["answered"], 90);
    let (status, _, body) = server.get("/api/v1/sources?sort=size");
    assert_eq!(status, 400);
    let problem: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(problem["parameter"], "sort");
}

#[test]
fn readiness_needs_interfaces_fresh_drains_and_a_store_that_is_written() {
    let server = Server::start();
    assert_eq!(server.json("/readyz")["ready"], true);
    let mut without = fixture::snapshot(&fixture::rows());
    without.store = None;
    server.snapshots.send_replace(Arc::new(without));
    assert_eq!(server.json("/readyz")["ready"], true);
    assert!(server.json("/api/v1/status")["store"].is_null());
    let changes: [fn(&mut Snapshot); 5] = [
        |snapshot| snapshot.points.clear(),
        |snapshot| snapshot.points[1].state = PointState::Detached,
        |snapshot| snapshot.last_drain = None,
        |snapshot| snapshot.identity.window = Duration::from_nanos(1),
        |snapshot| {
            let store = snapshot.store.as_mut().expect("a store");
            store.failure = Some("database or disk is full".to_owned());
        },
    ];
    for change in changes {
        let mut snapshot = fixture::snapshot(&fixture::rows());
        change(&mut snapshot);
        server.snapshots.send_replace(Arc::new(snapshot));
        let (status, _, body) = server.get("/readyz");
        assert_eq!(status, 503, "{body}");
        let ready: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(ready["ready"], false);
    }
    // Being alive has no such condition.
    assert_eq!(server.get("/healthz").0, 200);
}

#[test]
fn every_answer_carries_the_security_headers() {
    let server = Server::start();
    for (path, expected) in [
        ("/", 200),
        ("/app.js", 200),
        ("/style.css", 200),
        ("/icon.svg", 200),
        ("/healthz", 200),
        ("/metrics", 200),
        ("/api/v1/status", 200),
        ("/api/v1/sources?limit=x", 400),
        ("/nothing", 404),
    ] {
        let (status, head, _) = server.get(path);
        assert_eq!(status, expected, "{path}");
        for (name, value) in SECURITY_HEADERS {
            assert!(
                head.contains(&format!("{name}: {}", value.to_ascii_lowercase())),
                "{name} at {path}: {head}"
            );
        }
        assert!(head.contains("cache-control: no-"), "{path}: {head}");
    }
}

#[test]
fn metrics_come_in_both_formats() {
    let server = Server::start();
    let (_, head, body) = server.get("/metrics");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("smtpflow_connections_total 111\n"));
    let (_, head, body) = server.send(&format!(
        "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
         Accept: application/openmetrics-text\r\n\r\n",
        server.address
    ));
    assert!(
        head.contains("application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    assert!(body.ends_with("# EOF\n"));
}

#[test]
fn only_reading_is_allowed_and_only_under_our_own_name() {
    let server = Server::start();
    for (request, expected) in [
        (
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n",
            405,
        ),
        ("DELETE /nothing HTTP/1.1\r\nHost: localhost\r\n", 405),
        ("HEAD / HTTP/1.1\r\nHost: localhost\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n", 421),
        (
            "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n",
            421,
        ),
        ("GET / HTTP/1.1\r\n", 421),
        ("GET / HTTP/1.0\r\n", 200),
    ] {
        let (status, head, _) = server.send(&format!("{request}Connection: close\r\n\r\n"));
        assert_eq!(status, expected, "{request}");
        if expected == 405 {
            assert!(head.contains("allow: get, head"), "{head}");
        }
    }
}

#[test]
fn an_unknown_path_is_told_with_those_that_exist() {
    let (status, _, body) = Server::start().get("/api/v2/status");
    assert_eq!(status, 404);
    let problem: Value = serde_json::from_str(&body).expect("JSON");
    let text = problem["error"].as_str().expect("text");
    assert!(
        text.contains("/api/v2/status") && text.contains("/api/v1/status"),
        "{text}"
    );
}

#[test]
fn a_port_in_use_and_a_public_address_without_a_token_are_refused() {
    let server = Server::start();
    let refused = |listen: &str| {
        bind(&configuration::Serve {
            listen: listen.parse().expect("an address"),
            ..configuration::Serve::default()
        })
        .expect_err(listen)
    };
    let failure = refused(&server.address.to_string());
    assert_eq!(failure.kind, Kind::Unavailable);
    let text = failure.to_string();
    assert!(
        text.contains(&server.address.to_string()) && text.contains("--listen"),
        "{text}"
    );

    for public in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        let failure = refused(public);
        assert_eq!(failure.kind, Kind::BadConfig);
        assert!(failure.to_string().contains("token"), "{failure}");
    }
}

/// The archive of a store at this path.
fn archive(path: &std::path::Path) -> Option<Arc<Archive>> {
    let mut config = Config::default();
    config.store.path = path.to_owned();
    config.networks.local = crate::report::tests::local();
    config.relay = vec![crate::model::relay::Relay {
        prefix: "192.0.2.128/25".parse().expect("a prefix"),
        reason: "the data centre".to_owned(),
        owner: "postmaster@example.org".to_owned(),
        expires: None,
        connections: Some(100_000),
    }];
    Archive::new(&config).map(Arc::new)
}

#[test]
fn why_is_answered_from_the_store_and_its_troubles_are_told() {
    use crate::report::tests::{BOT, Scene};
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let server = Server::start_with(archive(&path));
    let asked = format!("/api/v1/sources/{BOT}/why");
    let (status, _, body) = server.get(&asked);
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("store.db"), "{body}");

    // What could not be read is read when it is there.
    let scene = Scene::in_file(&path);
    let (status, _, body) = server.get(&asked);
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(status, 200, "{body}");
    assert_eq!(answer["subject"], BOT);
    assert_eq!(answer["verdicts"][0]["state"], "acknowledged", "{body}");
    for (path, expected, text) in [
        ("/api/v1/sources/nobody/why", 400, "no name"),
        ("/api/v1/sources/192.0.2.7/why?x=1", 400, "no parameters"),
    ] {
        let (status, _, body) = server.get(path);
        assert_eq!(status, expected, "{path}: {body}");
        assert!(body.contains(text), "{path}: {body}");
    }
    let (status, _, body) = Server::start().get("/api/v1/sources/192.0.2.7/why");
    assert_eq!(status, 404, "{body}");
    assert!(body.contains("store.enabled"), "{body}");
    drop(scene);
}

#[test]
fn sources_of_a_period_come_from_history_with_what_it_knows_of_them() {
    use crate::report::tests::{BOT, Scene};
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let scene = Scene::in_file(&path);
    let server = Server::start_with(archive(&path));
    server.judge(&path);
    let all = server.json("/api/v1/sources?period=7d&limit=10000");
    let rows = all["sources"].as_array().expect("a list");
    assert_eq!(all["total"], rows.len());
    assert!(rows.len() > 2, "{all}");
    assert!(rows.iter().all(|row| row["hours"].is_null()), "{all}");

    // Few and many are read in two ways.
    let mut seen = Vec::new();
    for limit in [1, 2, 100] {
        seen.clear();
        for offset in (0..rows.len()).step_by(limit) {
            let page = format!("/api/v1/sources?period=7d&limit={limit}&offset={offset}");
            let page = server.json(&page);
            seen.extend(page["sources"].as_array().expect("a list").iter().cloned());
        }
        for (mine, other) in rows.iter().zip(&seen) {
            for field in [
                "rank", "addr", "total", "outcomes", "servers", "state", "verdicts",
            ] {
                assert_eq!(mine[field], other[field], "{field} of {}", mine["addr"]);
            }
        }
        assert_eq!(rows.len(), seen.len());
    }
    let bot = seen.iter().find(|row| row["addr"] == BOT).expect("the bot");
    assert_eq!(bot["scope"], "local");
    assert!(bot["state"].is_string() && bot["score"].as_f64().is_some_and(|score| score > 1.0));
    let hours = bot["hours"].as_array().expect("hours");
    assert_eq!(hours.len(), 24);
    let active = hours
        .iter()
        .filter(|hour| hour.as_u64().is_some_and(|count| count > 0));
    assert_eq!(bot["active_hours"], active.count());
    assert!(bot["first_seen"].as_str() <= bot["last_seen"].as_str());
    // Nothing is kept of the week before.
    assert!(bot["previous_connections"].is_null());

    for (filter, expected) in [
        ("state:open", vec![BOT]),
        ("servers%3E1000000", vec![]),
        ("active_hours%3E0+scope:local+state:open", vec![BOT]),
        ("previous_connections%3E=0", vec![]),
    ] {
        let found = server.json(&format!("/api/v1/sources?period=7d&filter={filter}"));
        let found: Vec<_> = found["sources"]
            .as_array()
            .expect("a list")
            .iter()
            .collect();
        let found: Vec<_> = found
            .iter()
            .map(|row| row["addr"].as_str().expect("text"))
            .collect();
        assert_eq!(found, expected, "{filter}");
    }

    // CSV has the same rows, and its columns are the fields.
    let (_, head, csv) = server.get("/api/v1/sources?period=7d&limit=100&format=csv");
    assert!(head.contains("content-type: text/csv"), "{head}");
    let mut lines = csv.split("\r\n");
    let columns: Vec<_> = lines.next().expect("a head").split(',').collect();
    let fields: Vec<_> = sources_fields()
        .into_iter()
        .filter_map(|(path, _)| Some(path.strip_prefix("sources.")?.to_owned()))
        .collect();
    assert_eq!(columns, fields);
    for row in &seen {
        let cells: Vec<_> = lines.next().expect("a row").split(',').collect();
        assert_eq!(cells.len(), columns.len());
        for (column, cell) in columns.iter().zip(cells) {
            let value = row.pointer(&format!("/{}", column.replace('.', "/")));
            let value = match value.unwrap_or(&Value::Null) {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                Value::Array(items) => {
                    let item = |item: &Value| match item {
                        Value::Null => String::new(),
                        other => other.to_string(),
                    };
                    items.iter().map(item).collect::<Vec<_>>().join(";")
                }
                other => other.to_string(),
            };
            assert_eq!(cell, value, "{column} of {row}");
        }
    }
    assert_eq!(lines.next(), Some(""));
    let (status, _, body) = Server::start().get("/api/v1/sources?period=1h");
    assert_eq!(status, 404, "{body}");
    drop(scene);
}
