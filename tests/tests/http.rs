//! The running agent's HTTP server: every documented name is there and no other, Prometheus' own
//! checker is content, and whoever should not read does not.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use smtp_user::serve::metrics::{METRICS, Metric};
use smtp_user::serve::{ready_fields, sources_fields, status_fields};
use xtask::command;
use xtask::lab::{AgentOptions, GATEWAY_CLIENT_SIDE, Lab, Topology, http_get};

const LIMIT: Duration = Duration::from_secs(60);
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The names of the samples of a metrics page.
fn sampled(page: &str) -> BTreeSet<String> {
    page.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .map(str::to_owned)
        .collect()
}

/// The paths of all values; those of the objects in a list stand behind the name of the list.
fn paths(value: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = match prefix {
                    "" => name.clone(),
                    prefix => format!("{prefix}.{name}"),
                };
                paths(value, &path, found);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for item in items {
                paths(item, prefix, found);
            }
        }
        _ => {
            found.insert(prefix.to_owned());
        }
    }
}

/// What Prometheus' checker says about a page in the text format.
fn promtool(page: &str) {
    let mut child = command::tool("promtool", ["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, of the Debian package prometheus");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(page.as_bytes())
        .expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.is_empty(), "{said}\n{page}");
}

#[test]
fn a_scrape_has_every_documented_name_and_no_other() {
    let lab = Lab::gateway("thttpnames", Topology::default()).expect("a laboratory");
    let client = lab.add_client("client").expect("a client");
    let options = AgentOptions::new(&lab).expect("options");
    let mut agent = lab.agent(&options).expect("the agent starts");
    agent.wait_ready(LIMIT).expect("the agent is ready");
    // Nobody listens, so each connection is refused, and two sources are counted.
    let closed = SocketAddr::new(lab.server_v4(0).into(), 25);
    lab.within("client", || {
        for _ in 0..3 {
            TcpStream::connect_timeout(&closed, LIMIT).expect_err("the port is closed");
        }
    })
    .expect("a thread in the namespace");
    agent.wait_drained(LIMIT).expect("a drain");

    let documented: BTreeSet<String> = METRICS.iter().flat_map(Metric::sample_names).collect();
    let text = agent.get("/metrics").expect("a page");
    assert_eq!(
        text.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let page = text.text();
    assert_eq!(sampled(&page), documented);
    promtool(&page);
    let accept = [("Accept", "application/openmetrics-text; version=1.0.0")];
    let open = http_get(agent.listen(), "/metrics", &accept).expect("a page");
    assert_eq!(
        open.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert_eq!(sampled(&open.text()), documented);
    assert!(open.text().ends_with("# EOF\n"));
    let series = page.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series <= 300, "{series} series");
    for address in [client.v4.to_string(), closed.ip().to_string()] {
        assert!(!page.contains(&address), "an address is in the page");
    }
    for line in [
        "smtpflow_connections_total 3",
        "smtpflow_refused_total 3",
        "smtpflow_segments_total{direction=\"c2s\"} 3",
        "smtpflow_segments_total{direction=\"s2c\"} 3",
        "smtpflow_conservation_error 0",
        "smtpflow_sources_kept 2",
        "smtpflow_drain_failures_total 0",
    ] {
        assert!(page.lines().any(|l| l == line), "no {line} in:\n{page}");
    }

    for (path, fields) in [
        ("/api/v1/status", status_fields()),
        ("/api/v1/sources", sources_fields()),
        ("/readyz", ready_fields()),
    ] {
        let mut have = BTreeSet::new();
        paths(&agent.json(path).expect(path), "", &mut have);
        let mut documented: BTreeSet<String> = fields.into_iter().map(|(path, _)| path).collect();
        // An object that is not there is null as a whole.
        for null in &have {
            let inside = format!("{null}.");
            let before = documented.len();
            documented.retain(|path| !path.starts_with(&inside));
            if documented.len() != before {
                documented.insert(null.clone());
            }
        }
        assert_eq!(have, documented, "{path}");
    }
    let sources = agent
        .json("/api/v1/sources?filter=connections%3E0")
        .expect("sources");
    assert_eq!(sources["total"], 1, "{sources}");
    assert_eq!(sources["sources"][0]["addr"], client.v4.to_string());
    assert_eq!(sources["sources"][0]["total"]["refused"], 3);
    assert_eq!(sources["sources"][0]["scope"], "unknown");

    // The page is useful as it is sent.
    let page = agent.get("/").expect("a page").text();
    assert!(page.contains(&format!(">{}</a>", client.v4)), "{page}");
    for interface in ["gw-c", "gw-s"] {
        assert!(page.contains(interface), "no {interface} in {page}");
    }

    let stopped = agent.stop().expect("it obeys");
    assert!(stopped.success(), "{stopped}");
}

#[test]
fn a_client_that_dawdles_with_its_headers_is_cut_off_and_others_are_served() {
    let lab = Lab::gateway("thttpslow", Topology::default()).expect("a laboratory");
    let options = AgentOptions::new(&lab).expect("options");
    let mut agent = lab.agent(&options).expect("the agent starts");
    agent.wait_ready(LIMIT).expect("the agent is ready");
    let mut slow = TcpStream::connect(agent.listen()).expect("a connection");
    slow.set_read_timeout(Some(LIMIT)).expect("a limit");
    slow.write_all(b"GET / HTTP/1.1\r\nHost: local")
        .expect("sent");
    let start = Instant::now();
    assert_eq!(agent.get("/healthz").expect("an answer").status, 200);
    let mut answer = Vec::new();
    // Closed with or without a last word; a reset is an end as well.
    let _ = slow.read_to_end(&mut answer);
    let time = start.elapsed();
    assert!(time < Duration::from_secs(10), "{time:?}");
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn from_elsewhere_nobody_reads_without_the_token() {
    let lab = Lab::gateway("thttptoken", Topology::default()).expect("a laboratory");
    lab.add_client("client").expect("a client");
    let token = lab.folder().join("token");
    std::fs::write(&token, TOKEN).expect("written");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).expect("mode set");
    let config = lab.folder().join("smtpflow.toml");
    let text = format!("[serve]\ntoken_file = \"{}\"\n", token.display());
    std::fs::write(&config, text).expect("written");

    // The agent itself runs in the gateway's namespace, so that clients come from elsewhere; unlike
    // `ip netns exec`, nsenter leaves bpffs in sight.
    let options = AgentOptions::new(&lab).expect("options");
    lab.record_pins(&options.pins).expect("written down");
    let mut run = Command::new(command::find("nsenter").expect("nsenter, of util-linux"));
    run.arg(format!("--net=/run/netns/{}", lab.ns("gateway")))
        .arg(&options.binary)
        .args(["run", "--interface", GATEWAY_CLIENT_SIDE, "--window", "1s"])
        .args(["--listen", "0.0.0.0:12525", "--config"])
        .arg(&config)
        .arg("--pins")
        .arg(&options.pins)
        .arg("--store")
        .arg(options.store.as_ref().expect("a store"));
    let mut agent = lab.start(&mut run, "smtpflow").expect("it starts");
    let local = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 12525);
    let ready = lab
        .within("gateway", || {
            command::poll_until(LIMIT, || {
                http_get(local, "/readyz", &[]).is_ok_and(|answer| answer.status == 200)
            })
        })
        .expect("a thread in the namespace");
    assert!(ready && agent.is_running(), "{}", agent.log_text());

    let gateway = SocketAddr::new(IpAddr::from([198, 51, 100, 1]), 12525);
    let status = |path: &'static str, authorization: Option<String>| {
        lab.within("client", || {
            let headers: Vec<_> = authorization
                .iter()
                .map(|value| ("Authorization", value.as_str()))
                .collect();
            http_get(gateway, path, &headers).expect("an answer").status
        })
        .expect("a thread in the namespace")
    };
    for path in [
        "/",
        "/metrics",
        "/readyz",
        "/api/v1/status",
        "/api/v1/sources",
        "/nothing",
    ] {
        assert_eq!(status(path, None), 401, "{path}");
        assert_eq!(
            status(path, Some(format!("Bearer {TOKEN}x"))),
            401,
            "{path}"
        );
        let with_token = status(path, Some(format!("Bearer {TOKEN}")));
        assert_eq!(
            with_token,
            if path == "/nothing" { 404 } else { 200 },
            "{path}"
        );
    }
    assert_eq!(status("/healthz", None), 200);
    assert!(!agent.log_text().contains(TOKEN), "the token is in the log");
}

#[test]
fn drains_go_on_under_two_hundred_readers_and_no_answer_fails() {
    const READERS: u64 = 200;
    const WINDOWS: u64 = 5;
    let lab = Lab::gateway("thttpread", Topology::default()).expect("a laboratory");
    let options = AgentOptions::new(&lab).expect("options");
    let mut agent = lab.agent(&options).expect("the agent starts");
    agent.wait_ready(LIMIT).expect("the agent is ready");
    let listen = agent.listen();
    let status = || -> Value {
        let answer = http_get(listen, "/api/v1/status", &[]).expect("an answer");
        answer.json().expect("JSON")
    };
    let drains = || status()["drains"].as_u64().expect("a count");
    let over = AtomicBool::new(false);
    let (answered, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for reader in 0..READERS {
            let (over, answered, refused) = (&over, &answered, &refused);
            scope.spawn(move || {
                // Every reader asks the common question and one of its own.
                let own = format!("/api/v1/sources?limit={}", reader + 1);
                let targets = ["/api/v1/sources?limit=100", &own, "/api/v1/status"];
                for target in targets.iter().cycle() {
                    match http_get(listen, target, &[]) {
                        Ok(answer) if answer.status == 200 => answered,
                        _ => refused,
                    }
                    .fetch_add(1, Ordering::Relaxed);
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        let first = drains();
        let gone_on = command::poll_until(LIMIT, || drains() >= first + WINDOWS);
        over.store(true, Ordering::Relaxed);
        assert!(gone_on, "{} windows in {LIMIT:?}", drains() - first);
    });
    let answered = answered.into_inner();
    assert!(answered >= READERS, "{answered} answers");
    assert_eq!(refused.into_inner(), 0, "of {answered} answers and more");
    assert_eq!(status()["drain_failures"], 0);
}
