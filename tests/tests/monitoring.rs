//! What is shipped for Prometheus and Grafana works on a real agent: every expression of the dashboard
//! and of the rules is asked of a real Prometheus that scrapes one, as the example says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use serde_json::Value;
use smtp_user::model::period::milliseconds;
use smtp_user::model::verdict::{VerdictFilter, VerdictState};
use smtp_user::serve::metrics::{METRICS, Metric, SOURCE_METRICS};
use smtp_user::store::{PersonalChange, Reader, change_verdict};
use smtpflow_tests::suspect::{
    LIMIT, NEIGHBOUR, SUSPECT, Scene, free_port, wait_for_room_in_the_hour,
};
use xtask::command::{self, poll_until, tool};
use xtask::lab::{Agent, Lab, Process, http_get};

/// What the test may take of one UTC hour.
const NEEDED: Duration = Duration::from_secs(180);
/// Where the example says that the agent is.
const EXAMPLE: &str = "gateway.example.org:12525";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/monitoring")
        .join(name)
}

fn text(name: &str) -> String {
    let path = shipped(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every name of a sample that an agent serves.
fn sample_names() -> BTreeSet<String> {
    let metrics = METRICS.iter().chain(SOURCE_METRICS);
    metrics.flat_map(Metric::sample_names).collect()
}

/// The words of a text that are names of our metrics, with the selector behind each.
fn selectors(text: &str) -> Vec<(String, String)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = ["smtpflow_", "process_", "up{"]
        .iter()
        .filter_map(|begin| rest.find(begin))
        .min()
    {
        let word = &rest[start..];
        let end = word.find(|c| !is_name(c)).unwrap_or(word.len());
        let (name, behind) = word.split_at(end);
        let selector = match behind.starts_with('{') {
            true => &behind[..=behind.find('}').expect("an end of the selector")],
            false => "",
        };
        let whole = rest[..start].ends_with(|c| is_name(c) || c == '-' || c == '"');
        if !whole {
            found.push((name.to_owned(), selector.to_owned()));
        }
        rest = &behind[selector.len()..];
    }
    found
}

/// The expressions of the dashboard, with the title of the panel of each.
fn dashboard() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&text("grafana-dashboard.json")).expect("JSON");
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().expect("an expression");
            found.push((title.to_owned(), expression.to_owned()));
        }
    }
    found
}

/// What the variables of the dashboard are chosen from: a selector, and the label whose values it is.
fn variables() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&text("grafana-dashboard.json")).expect("JSON");
    let variables = dashboard["templating"]["list"].as_array().expect("a list");
    variables
        .iter()
        .filter(|variable| variable["type"] == "query")
        .map(|variable| {
            let query = variable["query"]["query"].as_str().expect("a query");
            let inner = query
                .strip_prefix("label_values(")
                .and_then(|rest| rest.strip_suffix(')'));
            let (selector, label) = inner
                .and_then(|inner| inner.rsplit_once(", "))
                .expect("label_values(SELECTOR, LABEL)");
            (selector.to_owned(), label.to_owned())
        })
        .collect()
}

#[test]
fn the_dashboard_fits_every_grafana_and_knows_only_metrics_that_there_are() {
    let dashboard: Value = serde_json::from_str(&text("grafana-dashboard.json")).expect("JSON");
    assert_eq!(
        dashboard["uid"],
        Value::Null,
        "it would replace another one"
    );
    assert_eq!(dashboard["id"], Value::Null);
    assert!(dashboard["schemaVersion"].as_u64() >= Some(36));
    let variables: Vec<_> = dashboard["templating"]["list"]
        .as_array()
        .expect("variables")
        .iter()
        .map(|variable| variable["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(variables, ["datasource", "job", "instance"]);

    let mut ids = BTreeSet::new();
    let mut places: Vec<[u64; 4]> = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = &panel["title"];
        assert!(ids.insert(panel["id"].as_u64()), "{title}: its id is taken");
        let [x, y, w, h] =
            ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a number"));
        assert!(x + w <= 24, "{title} is beyond the edge");
        for [x2, y2, w2, h2] in &places {
            let apart = x + w <= *x2 || x2 + w2 <= x || y + h <= *y2 || y2 + h2 <= y;
            assert!(apart, "{title} lies over another panel");
        }
        places.push([x, y, w, h]);
        if panel["type"] != "row" {
            assert!(
                panel["description"]
                    .as_str()
                    .is_some_and(|text| text.ends_with('.')),
                "{title}"
            );
            for target in panel["targets"].as_array().expect("targets") {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            }
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
    let names = sample_names();
    for (title, expression) in self::dashboard() {
        let selectors = selectors(&expression);
        assert!(!selectors.is_empty(), "{title}: {expression}");
        for (name, selector) in selectors {
            assert!(names.contains(&name), "{title}: there is no {name}");
            let both = selector.contains("$job") && selector.contains("instance=~\"$instance\"");
            assert!(
                both,
                "{title}: {name}{selector} is not of the chosen agents"
            );
        }
    }
}

/// The alerts in a file of rules, or those that a file of tests is about.
fn named(text: &str, begin: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix(begin))
        .map(str::to_owned)
        .collect()
}

#[test]
fn rules_are_good_and_every_alert_is_tested() {
    let lab = tempfile::tempdir().expect("a folder");
    let (rules, tests) = (text("rules.yml"), text("rules_test.yml"));
    let alerts = named(&rules, "- alert: ");
    assert!(alerts.len() >= 15, "{alerts:?}");
    assert_eq!(alerts, named(&tests, "alertname: "));
    let names = sample_names();
    for (name, _) in selectors(&rules) {
        assert!(
            name == "up" || names.contains(&name),
            "rules.yml: there is no {name}"
        );
    }
    let example = prepared(lab.path(), free_port());
    let promtool = |words: &[&str]| {
        let mut command = tool("promtool", words);
        let finished = command::finish(command.current_dir(lab.path()), LIMIT).expect("promtool");
        let said = format!("{}{}", finished.stdout, finished.stderr);
        assert!(finished.status.success(), "{said}");
        assert!(said.contains("SUCCESS"), "{said}");
    };
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", "rules.yml"]);
    promtool(&["test", "rules", "rules_test.yml"]);
    let example = example.display().to_string();
    promtool(&["check", "config", "--lint=all", "--lint-fatal", &example]);
}

/// The example in this folder, with all that it needs, for an agent at this address.
fn prepared(folder: &Path, agent: SocketAddr) -> PathBuf {
    for name in ["rules.yml", "rules_test.yml"] {
        fs::write(folder.join(name), text(name)).expect("written");
    }
    let token = folder.join("smtpflow-token");
    fs::write(&token, TOKEN).expect("written");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("mode set");
    let example = text("prometheus.yml");
    assert_eq!(example.matches(EXAMPLE).count(), 2);
    let example = example
        .replace(EXAMPLE, &agent.to_string())
        .replace("interval: 15s", "interval: 1s");
    let path = folder.join("prometheus.yml");
    fs::write(&path, example).expect("written");
    path
}

/// What Prometheus' checker says about a page in the text format.
fn check_metrics(page: &str) {
    let mut child = tool("promtool", ["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(page.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.is_empty(), "{said}\n{page}");
}

/// A Prometheus that scrapes an agent.
struct Prometheus {
    listen: SocketAddr,
    process: Process,
}

impl Prometheus {
    fn start(lab: &Lab, agent: SocketAddr) -> Self {
        let listen = free_port();
        let folder = lab.folder().join("prometheus");
        fs::create_dir_all(&folder).expect("a folder");
        let config = prepared(&folder, agent);
        let mut command: Command = tool("prometheus", [] as [&str; 0]);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("data").display()
            ))
            .arg(format!("--web.listen-address={listen}"));
        let process = lab.start(&mut command, "prometheus").expect("Prometheus");
        let ready = poll_until(LIMIT, || {
            http_get(listen, "/-/ready", &[]).is_ok_and(|answer| answer.status == 200)
        });
        assert!(ready, "{}", process.log_text());
        Self { listen, process }
    }

    fn get(&self, path: &str) -> Value {
        let answer = http_get(self.listen, path, &[]).expect("an answer");
        let json = answer.json().expect("JSON");
        assert_eq!(json["status"], "success", "{path}: {json}");
        json["data"].clone()
    }

    /// What an expression gives now: each sample with its labels.
    fn query(&self, expression: &str) -> Vec<Value> {
        let data = self.get(&format!("/api/v1/query?query={}", encoded(expression)));
        match data["resultType"].as_str() {
            Some("vector") => data["result"].as_array().expect("a list").clone(),
            _ => panic!("{expression} gives {data}"),
        }
    }

    /// Waits until an expression gives something, which then comes back.
    fn wait(&self, expression: &str) -> Vec<Value> {
        let mut result = Vec::new();
        poll_until(LIMIT, || {
            result = self.query(expression);
            !result.is_empty()
        });
        assert!(
            !result.is_empty(),
            "{expression} gives nothing; targets: {:#}",
            self.get("/api/v1/targets")["activeTargets"]
        );
        result
    }
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// An expression of the dashboard, as Grafana would ask it for all agents.
fn substituted(expression: &str) -> String {
    let asked = expression
        .replace("$__rate_interval", "30s")
        .replace("$__range", "30s")
        .replace("$instance", ".*")
        .replace("$job", "smtpflow");
    assert!(
        !asked.contains('$'),
        "a variable that is not known: {asked}"
    );
    asked
}

/// Samples of the metrics page whose name begins so, by their labels.
fn scraped(agent: &Agent, name: &str) -> BTreeMap<String, f64> {
    let page = agent.get("/metrics").expect("a page").text();
    let samples = page.lines().filter_map(|line| line.strip_prefix(name));
    samples
        .filter_map(|rest| {
            let (labels, value) = rest.rsplit_once(' ')?;
            Some((labels.to_owned(), value.parse().ok()?))
        })
        .collect()
}

#[test]
fn every_expression_is_answered_by_a_prometheus_that_scrapes_an_agent() {
    let config = "[metrics]\nsources = 10\ntop = 5\n";
    let scene = Scene::new("tmonitor", config);
    wait_for_room_in_the_hour(NEEDED);
    let mut agent = scene.agent();
    let mut prometheus = Prometheus::start(&scene.lab, agent.listen());
    prometheus.wait("up{job=\"smtpflow\"} == 1");
    prometheus.wait("up{job=\"smtpflow-sources\"} == 1");
    // Counters that have begun before they grow.
    prometheus.wait("changes(smtpflow_drains_total[30s]) > 1");
    scene.knock(SUSPECT, 31);
    scene.knock(NEIGHBOUR, 2);
    agent.wait_drained(LIMIT).expect("a drain");
    scene.knock(NEIGHBOUR, 1);
    prometheus.wait("smtpflow_connections_total == 34");
    prometheus.wait(&format!(
        "smtpflow_source_flagged{{src=\"{SUSPECT}\",detector=\"volume\"}}"
    ));

    let page = agent.get("/metrics/sources").expect("a page").text();
    check_metrics(&page);
    let on_page: BTreeSet<_> = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next().map(str::to_owned))
        .collect();
    let known: BTreeSet<_> = SOURCE_METRICS
        .iter()
        .flat_map(Metric::sample_names)
        .collect();
    assert_eq!(on_page, known, "{page}");

    // The dashboard: no expression is wrong, and each shows something.
    for (title, expression) in dashboard() {
        let asked = substituted(&expression);
        let result = prometheus.wait(&asked);
        assert!(!result.is_empty(), "{title}: {asked}");
    }
    for (selector, label) in variables() {
        for series in prometheus.wait(&substituted(&selector)) {
            assert!(
                series["metric"][&label].is_string(),
                "{selector} has no {label}"
            );
        }
    }

    // The rules: Prometheus has evaluated each, and whatever it looks at is there.
    let rules = || prometheus.get("/api/v1/rules")["groups"][0]["rules"].clone();
    let evaluated = poll_until(LIMIT, || {
        let rules = rules();
        let rules = rules.as_array().expect("a list");
        rules.iter().all(|rule| rule["health"] == "ok")
    });
    assert!(evaluated, "{:#}", rules());
    let rules = rules();
    let rules = rules.as_array().expect("a list");
    assert_eq!(rules.len(), named(&text("rules.yml"), "- alert: ").len());
    for rule in rules {
        let expression = rule["query"].as_str().expect("an expression");
        prometheus.query(expression);
        for (name, selector) in selectors(expression) {
            prometheus.wait(&format!("{name}{selector}"));
        }
        // With an agent that is well, one only: somebody is flagged, if not yet for an hour.
        let flagged = rule["name"] == "SmtpflowSourcesFlagged";
        let state = if flagged { "pending" } else { "inactive" };
        assert_eq!(rule["state"], state, "{rule:#}");
    }

    // The distribution is that of these sources, and adds up to all connections.
    let [connections, in_bins, observed] = [
        "smtpflow_connections_total",
        "smtpflow_window_connections_total",
        "smtpflow_source_window_connections_sum",
    ]
    .map(|name| format!("sum({name})"));
    prometheus.wait(&format!(
        "{connections} == {in_bins} and {connections} == {observed}"
    ));
    let bins = scraped(&agent, "smtpflow_source_window_connections");
    assert_eq!(bins["_sum"], 34.0, "{bins:?}");

    // Who is not flagged any more loses its series.
    let store = scene.options.store.as_ref().expect("a store");
    let reader = Reader::open(store).unwrap_or_else(|failure| panic!("{failure}"));
    let verdicts = reader
        .verdicts(&VerdictFilter::default())
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert!(!verdicts.is_empty());
    for verdict in verdicts {
        change_verdict(
            store,
            &PersonalChange {
                id: verdict.id,
                to: VerdictState::FalsePositive,
                who: "test",
                why: "it knocks by order",
                at: milliseconds(SystemTime::now()),
            },
        )
        .expect("changed");
    }
    let gone = poll_until(LIMIT, || {
        let series = format!("smtpflow_source_connections_total{{src=\"{SUSPECT}\"}}");
        prometheus.query(&series).is_empty()
    });
    assert!(
        gone,
        "{}",
        agent.get("/metrics/sources").expect("a page").text()
    );

    // The distribution goes on after a restart, like all counts.
    assert!(agent.stop().expect("it obeys").success());
    let agent = scene.agent();
    let after = scraped(&agent, "smtpflow_source_window_connections");
    assert_eq!(after, bins);
    let status = prometheus.process.stop(Signal::SIGTERM, LIMIT);
    assert!(status.expect("it obeys").success());
}

#[test]
fn there_is_no_page_of_sources_unless_somebody_wants_it() {
    let scene = Scene::new("tmonsources", "");
    let agent = scene.agent();
    let answer = agent.get("/metrics/sources").expect("an answer");
    assert_eq!(answer.status, 404);
    assert!(
        answer.text().contains("metrics.sources"),
        "{}",
        answer.text()
    );
}
