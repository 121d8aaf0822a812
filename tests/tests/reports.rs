//! The verbs that read, as people and scripts meet them: on a store with labelled traffic and the
//! verdicts about it, made by the parts of the agent, and on a running agent.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use smtp_user::connections::{Follower, Limits};
use smtp_user::detect::{Court, Settings};
use smtp_user::model::period::{Bucket, Tier, milliseconds};
use smtp_user::report::why::why_fields;
use smtp_user::store::Store;
use smtpflow_tests::evaluation::{WINDOW, local};
use smtpflow_tests::stream::Stream;
use xtask::command::{self, Finished, finish};
use xtask::lab::{AgentOptions, Lab, ensure_bpffs, smtpflow_binary};
use xtask::traffic::habit::MINUTE;
use xtask::traffic::kind::named;
use xtask::traffic::{Population, pcap};

const LIMIT: Duration = Duration::from_secs(60);
/// The user `nobody`, who owns nothing.
const NOBODY: u32 = 65534;

/// Three hours of small mail servers, of a host that hammers one server, and of a scanner.
fn population() -> Population {
    let kinds = [("mail_server", 3), ("hammer", 1), ("scanner", 1)];
    Population::of(
        3,
        180 * MINUTE,
        kinds.map(|(name, hosts)| (named(name), hosts)),
    )
}

/// The folder that everything here is in, and the addresses of the three kinds.
struct Scene {
    folder: tempfile::TempDir,
    innocent: String,
    hammer: String,
    scanner: String,
}

impl Scene {
    fn store(&self) -> String {
        self.path("smtpflow.db")
    }

    fn config(&self) -> String {
        self.path("smtpflow.toml")
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

/// The store of an agent that has seen the population and has ended.
fn scene() -> &'static Scene {
    static SCENE: OnceLock<Scene> = OnceLock::new();
    SCENE.get_or_init(|| {
        let folder = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir()
            .expect("a folder");
        let population = population();
        let mut store = Store::open_for(&folder.path().join("smtpflow.db"), local(), 100_000)
            .unwrap_or_else(|failure| panic!("{failure}"));
        let mut follower = Follower::new(&Limits::default());
        let mut court = Court::new(&Settings::default(), local(), Vec::new());
        for window in Stream::new(population.traffic(), WINDOW) {
            let followed = follower.follow(&window);
            store.commit(1, &window, &followed.folded);
            let hour = Bucket {
                segment: 0,
                start: Tier::Hour.start_of(milliseconds(window.started_at)),
                tier: Tier::Hour,
            };
            let changes = court.add(&window, &followed.folded, hour);
            store
                .write_verdicts(&changes)
                .unwrap_or_else(|failure| panic!("{failure}"));
            while store.tidy() {}
        }
        let unsaved = court.docket.unsaved();
        store
            .write_verdicts(&unsaved)
            .unwrap_or_else(|failure| panic!("{failure}"));
        let prefixes: Vec<_> = local()
            .iter()
            .map(|prefix| format!("\"{prefix}\""))
            .collect();
        std::fs::write(
            folder.path().join("smtpflow.toml"),
            format!(
                "[networks]\nlocal = [{}]\n[store]\npath = \"{}\"\n",
                prefixes.join(", "),
                folder.path().join("smtpflow.db").display()
            ),
        )
        .expect("written");
        let address = |kind: &str| {
            let host = population.hosts.iter().find(|host| host.kind.name == kind);
            host.expect("a host of this kind").address.to_string()
        };
        Scene {
            innocent: address("mail_server"),
            hammer: address("hammer"),
            scanner: address("scanner"),
            folder,
        }
    })
}

/// `smtpflow` with these words.
fn smtpflow(words: &[&str]) -> Command {
    let mut command = Command::new(smtpflow_binary().expect("the program is built"));
    command.args(words);
    command
}

/// Runs it to its end and checks the exit code.
fn ends_with(code: i32, command: &mut Command) -> Finished {
    let finished = finish(command, LIMIT).expect("it ends");
    let line = command::line(command);
    assert_eq!(
        finished.status.code(),
        Some(code),
        "`{line}` wrote:\n{}{}",
        finished.stdout,
        finished.stderr
    );
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    finished
}

/// What it prints of the scene.
fn printed(words: &[&str]) -> String {
    let mut command = smtpflow(words);
    command.arg("--config").arg(scene().config());
    ends_with(0, &mut command).stdout
}

fn json(words: &[&str]) -> Value {
    let text = printed(&[words, &["--json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{words:?}: {error}\n{text}"))
}

/// The error that it ends with.
fn error(code: i32, words: &[&str]) -> String {
    ends_with(code, &mut smtpflow(words)).stderr
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

#[test]
fn every_reading_verb_writes_text_and_json() {
    let scene = scene();
    let verbs: [&[&str]; 7] = [
        &["report"],
        &["distribution"],
        &["distribution", "--by", "pair", "--month", "2026-03"],
        &["host", &scene.innocent],
        &["why", &scene.innocent],
        &["verdicts", "--all"],
        &["tune", "--threshold", "5,100"],
    ];
    for verb in verbs {
        assert_eq!(json(verb)["schema"], 1, "{verb:?}");
        let text = printed(verb);
        assert!(text.lines().count() > 3, "{verb:?}:\n{text}");
        let csv = printed(&[verb, &["--format", "csv"]].concat());
        assert!(csv.contains("\r\n"), "{verb:?}:\n{csv}");
        let html = printed(&[verb, &["--format", "html"]].concat());
        has(&html, &["<!DOCTYPE html>", "default-src 'none'", "</html>"]);
    }
}

#[test]
fn a_month_tells_spam_from_scans() {
    let scene = scene();
    let report = json(&["report", "--month", "2026-03"]);
    assert_eq!(report["to_date"], true, "the traffic is of one morning");
    let class = |address: &str| {
        let hosts = report["hosts"].as_array().expect("a list");
        let host = hosts.iter().find(|host| host["subject"] == address);
        host.map(|host| host["class"].as_str().expect("a class").to_owned())
    };
    assert_eq!(class(&scene.hammer).as_deref(), Some("spam"));
    assert_eq!(class(&scene.scanner).as_deref(), Some("scan"));
    assert_eq!(class(&scene.innocent), None);
    let sums = &report["distributions"];
    for distribution in sums.as_array().expect("a list") {
        // Of the scanner only the largest pairs are kept one by one.
        let number = |name: &str| distribution[name].as_u64().expect("a number");
        let all = number("connections") + number("unsorted_connections");
        assert_eq!(report["totals"]["connections"], all);
    }
    let empty = json(&["report", "--month", "2026-02"]);
    assert_eq!(empty["totals"]["connections"], 0);
    assert_eq!(
        empty["coverage"]["missing_milliseconds"],
        28 * 86_400_000_u64
    );
}

#[test]
fn a_host_and_why_it_is_flagged() {
    let scene = scene();
    let host = json(&["host", &scene.hammer]);
    assert_eq!(host["scope"], "local");
    assert_eq!(host["servers"], 1);
    assert!(host["totals"]["connections"].as_u64() > Some(100), "{host}");
    assert_eq!(host["verdicts"][0]["open"], true);
    let why = json(&["why", &scene.hammer]);
    assert_eq!(why["flagged"], true, "{why}");
    let scanner = printed(&["host", &scene.scanner]);
    has(
        &scanner,
        &["(all that are not)", "that are kept one by one"],
    );
    let text = printed(&["why", &scene.hammer]);
    has(
        &text,
        &[&scene.hammer, "is flagged", "volume", "its verdicts"],
    );
    let text = printed(&["why", &scene.innocent]);
    has(&text, &["is not flagged", "does not hold"]);
    // The list of own prefixes is what is judged by, and nothing of it is in the store.
    let strange = printed(&["why", &scene.innocent, "--local", "203.0.113.0/24"]);
    has(&strange, &["outside the own prefixes"]);
}

#[test]
fn an_unknown_address_is_told_what_is_kept() {
    let mut command = smtpflow(&["host", "203.0.113.250", "--config", &scene().config()]);
    let error = ends_with(1, &mut command).stderr;
    has(
        &error,
        &[
            "nothing was counted of 203.0.113.250",
            "history is kept of",
            "--since",
        ],
    );
    let answer = printed(&["why", "203.0.113.250"]);
    has(&answer, &["outside the own prefixes"]);
}

#[test]
fn a_verdict_goes_through_its_life() {
    // On a copy, for the other tests count verdicts.
    let scene = scene();
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("copy.db");
    std::fs::copy(scene.store(), &copy).expect("copied");
    let copy = copy.display().to_string();
    let in_copy = |words: &[&str]| {
        let mut command = smtpflow(words);
        command.args(["--store", &copy]);
        ends_with(0, &mut command).stdout
    };
    let list: Value = serde_json::from_str(&in_copy(&["verdicts", "--json"])).expect("JSON");
    let before = list["total"].as_u64().expect("a number");
    assert!(before >= 2, "{list}");
    let id = list["verdicts"][0]["id"].to_string();
    let subject = list["verdicts"][0]["subject"].as_str().expect("a text");
    let said = in_copy(&[
        "verdict",
        "acknowledge",
        &id,
        "--who",
        "anna",
        "--why",
        "seen",
    ]);
    has(
        &said,
        &[&format!("verdict {id} about "), "is now acknowledged"],
    );
    let said = in_copy(&[
        "verdict", "resolve", &id, "--who", "anna", "--why", "cleaned", "--json",
    ]);
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(
        (&said["state"], &said["open"]),
        (&"resolved".into(), &false.into())
    );
    let list: Value = serde_json::from_str(&in_copy(&["verdicts", "--json"])).expect("JSON");
    assert_eq!(list["total"], before - 1);
    let resolved = in_copy(&["verdicts", "--state", "resolved", "--host", subject]);
    has(&resolved, &["1 verdicts", "resolved", subject]);
    let host = in_copy(&["host", subject]);
    has(&host, &["anna", "cleaned"]);

    let refused = |code, words: &[&str]| {
        let mut command = smtpflow(words);
        command.args(["--store", &copy]);
        ends_with(code, &mut command).stderr
    };
    let again = refused(
        2,
        &["verdict", "acknowledge", &id, "--who", "anna", "--why", "x"],
    );
    has(&again, &["is resolved and cannot become acknowledged"]);
    let none = refused(
        1,
        &[
            "verdict", "resolve", "999999", "--who", "anna", "--why", "x",
        ],
    );
    has(&none, &["999999"]);
    let lines = refused(
        2,
        &["verdict", "reopen", &id, "--who", "anna", "--why", "a\nb"],
    );
    has(&lines, &["one line of text"]);
}

#[test]
fn limits_are_tried_on_history_and_on_a_capture_alike() {
    let from_store = json(&[
        "tune",
        "--threshold",
        "1,100",
        "--messages",
        "60",
        "--servers",
        "20",
    ]);
    let capture = scene().path("capture.pcap");
    let mut bytes = Vec::new();
    pcap::write(population().traffic(), &mut bytes).expect("a capture");
    std::fs::write(&capture, bytes).expect("written");
    let from_capture = json(&[
        "tune",
        "--threshold",
        "1,100",
        "--messages",
        "60",
        "--servers",
        "20",
        "--pcap",
        &capture,
    ]);
    assert_eq!(from_store["limits"], from_capture["limits"]);
    let limits = from_store["limits"].as_array().expect("a list");
    let of = |measure: &str, above: u64| {
        let found = limits
            .iter()
            .find(|limit| limit["measure"] == measure && limit["above"] == above);
        found.unwrap_or_else(|| panic!("no {measure} {above} in {limits:?}"))
    };
    assert_eq!(of("connections", 30)["in_effect"], true);
    assert!(
        of("connections", 1)["new_hosts"].as_u64() > Some(0),
        "the mail servers"
    );
    assert_eq!(of("connections", 100)["new_hosts"], 0);
    assert_eq!(of("servers", 20)["hosts"], 1, "the scanner");
}

#[test]
fn wrong_words_are_told_with_what_was_expected() {
    for (words, parts) in [
        (
            &["report", "--month", "2026-13"][..],
            &["such as 2026-11"][..],
        ),
        (
            &["report", "--month", "2026-03", "--since", "1d"],
            &["cannot be used with"],
        ),
        (&["report", "--format", "pdf"], &["text, csv, json, html"]),
        (
            &["report", "--json", "--format", "csv"],
            &["cannot be used with"],
        ),
        (&["distribution", "--by", "host"], &["source, pair"]),
        (&["host"], &["<ADDR>"]),
        (&["host", "mail.example"], &["mail.example"]),
        (
            &["host", "192.0.2.1", "--since", "30"],
            &["such as 90m, 24h, 30d"],
        ),
        (&["distribution", "--to", "2026-03-02"], &["--from"]),
        (&["verdicts", "--state", "open"], &["new, acknowledged"]),
        (&["verdicts", "--detector", "size"], &["volume"]),
        (&["verdict", "resolve", "1"], &["--why"]),
        (&["tune"], &["--threshold"]),
        (
            &["status", "--url", "https://127.0.0.1:1"],
            &["such as http://"],
        ),
    ] {
        has(&error(2, words), parts);
    }
    let order = error(
        2,
        &["distribution", "--from", "2026-03-02", "--to", "2026-03-01"],
    );
    has(&order, &["--to is not after --from"]);
}

#[test]
fn a_store_that_cannot_be_read_is_told_with_the_way_out() {
    let scene = scene();
    let missing = error(69, &["report", "--store", "/surely/not/there.db"]);
    has(&missing, &["/surely/not/there.db", "--store"]);

    let config = scene.path("none.toml");
    std::fs::write(&config, "[store]\nenabled = false\n").expect("written");
    let none = error(2, &["report", "--config", &config]);
    has(&none, &["store.enabled", "--store FILE"]);

    let no_store = scene.path("text.db");
    std::fs::write(
        &no_store,
        "this is text, of some length, and no database at all\n".repeat(99),
    )
    .expect("written");
    let text = error(1, &["verdicts", "--store", &no_store]);
    has(&text, &[&no_store]);

    let later = scene.path("later.db");
    std::fs::copy(scene.store(), &later).expect("copied");
    let bytes = std::fs::read(&later).expect("read");
    let mut bytes = bytes;
    // The user version in the header of a SQLite file (its file format, section 1.3).
    bytes[60..64].copy_from_slice(&9999_u32.to_be_bytes());
    std::fs::write(&later, bytes).expect("written");
    let version = error(78, &["report", "--store", &later]);
    has(&version, &[&later, "9999"]);

    let empty = scene.path("empty.db");
    drop(
        Store::open(std::path::Path::new(&empty), 10).unwrap_or_else(|failure| panic!("{failure}")),
    );
    for verb in [
        &["report"][..],
        &["distribution"],
        &["why", "192.0.2.1"],
        &["host", "192.0.2.1"],
        &["tune", "--threshold", "1"],
    ] {
        let words = [verb, &["--store", &empty]].concat();
        has(&error(1, &words), &["no history in the store", &empty]);
    }
    let verdicts = ends_with(0, &mut smtpflow(&["verdicts", "--store", &empty])).stdout;
    has(&verdicts, &["0 verdicts"]);

    let program = scene.path("smtpflow");
    std::fs::copy(smtpflow_binary().expect("the program is built"), &program).expect("copied");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("mode set");
    let closed = scene.path("closed.db");
    std::fs::copy(scene.store(), &closed).expect("copied");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o600)).expect("mode set");
    let mut nobody = Command::new(program);
    nobody
        .args(["report", "--store", &closed])
        .uid(NOBODY)
        .gid(NOBODY);
    has(&ends_with(77, &mut nobody).stderr, &[&closed]);
}

#[test]
fn who_asks_an_agent_that_is_not_there_is_told_so() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    // It takes the connection and says nothing.
    let silent = error(69, &["status", "--url", &url, "--timeout", "1"]);
    has(&silent, &[&url, "no answer within 1s", "smtpflow run"]);
    let line = ends_with(
        2,
        &mut smtpflow(&["check", "--url", &url, "--timeout", "1"]),
    )
    .stdout;
    assert!(
        line.starts_with("smtpflow CRITICAL - cannot ask the agent"),
        "{line}"
    );
    drop(listener);
    let gone = ends_with(2, &mut smtpflow(&["check", "--url", &url])).stdout;
    assert_eq!(gone.lines().count(), 1, "{gone}");
    for (words, begin) in [
        (&["check", "--warning-verdicts", "many"][..], ""),
        (
            &["check", "--config", "/surely/not/there.toml"],
            "smtpflow UNKNOWN - ",
        ),
        (
            &["check", "--token-file", "/surely/not/there"],
            "smtpflow UNKNOWN - ",
        ),
    ] {
        let line = ends_with(3, &mut smtpflow(words)).stdout;
        assert!(line.starts_with(begin), "{words:?}: {line}");
    }
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

#[test]
fn a_running_agent_says_how_it_is_and_why_a_host_is_flagged() {
    ensure_bpffs().expect("bpffs");
    let lab = Lab::new("sfreports").expect("a laboratory");
    for name in ["client", "gateway"] {
        lab.add_namespace(name).expect("a namespace");
    }
    lab.link(("client", "eth0"), ("gateway", "outer"), None)
        .expect("a link");
    lab.ip("client", "addr add 192.0.2.2/24 dev eth0")
        .expect("an address");
    lab.ip("gateway", "addr add 192.0.2.1/24 dev outer")
        .expect("an address");
    let mut options = AgentOptions::new(&lab).expect("options");
    options.interfaces = vec!["outer".to_owned()];
    options.window = "1s".to_owned();
    options.extra = vec!["--local".to_owned(), "192.0.2.0/24".to_owned()];
    let mut agent = lab.agent(&options).expect("the agent starts");
    agent.wait_ready(LIMIT).expect("the agent is ready");
    let closed: SocketAddr = "192.0.2.1:25".parse().expect("an address");
    lab.within("client", || {
        for _ in 0..120 {
            TcpStream::connect_timeout(&closed, LIMIT).expect_err("the port is closed");
        }
    })
    .expect("a thread in the namespace");
    agent.wait_drained(LIMIT).expect("a drain");

    let url = format!("http://{}", agent.listen());
    let status = ends_with(0, &mut smtpflow(&["status", "--url", &url])).stdout;
    has(
        &status,
        &["smtpflow is ready", "outer", "attached", "own_hosts_judged"],
    );
    let status = ends_with(0, &mut smtpflow(&["status", "--url", &url, "--json"])).stdout;
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["conservation"]["error"], 0);
    let open: u64 = ["notice", "warning", "critical"]
        .iter()
        .filter_map(|severity| status["verdicts"]["open"][severity].as_u64())
        .sum();
    assert!(open > 0, "{status}");

    let check = |words: &[&str], code| {
        let words = [&["check", "--url", &url], words].concat();
        ends_with(code, &mut smtpflow(&words)).stdout
    };
    let line = check(&[], 0);
    assert!(
        line.starts_with("smtpflow OK - 1 sources, 1 interfaces"),
        "{line}"
    );
    has(
        &line,
        &[" | sources=1;;;0 segments=", "conservation_error=0;;0;0"],
    );
    let line = check(&["--warning-verdicts", "0"], 1);
    has(&line, &["smtpflow WARNING", "open verdicts (limit 0)"]);
    let line: Value =
        serde_json::from_str(&check(&["--critical-verdicts", "0", "--json"], 2)).expect("JSON");
    assert_eq!(
        (&line["state"], &line["exit_code"]),
        (&"CRITICAL".into(), &2.into())
    );

    let answer = agent
        .json("/api/v1/sources/192.0.2.2/why")
        .expect("an answer");
    assert_eq!(answer["subject"], "192.0.2.2");
    assert_eq!(answer["flagged"], true, "{answer}");
    let mut have = BTreeSet::new();
    paths(&answer, "", &mut have);
    let mut documented: BTreeSet<String> = why_fields().into_iter().map(|(path, _)| path).collect();
    // Null here, since no known relay excuses it.
    documented.retain(|path| !path.starts_with("excused_by."));
    documented.insert("excused_by".to_owned());
    assert_eq!(have, documented);
    // The store says the same, beside the agent that writes to it.
    let store = options
        .store
        .as_ref()
        .expect("a store")
        .display()
        .to_string();
    let words = [
        "why",
        "192.0.2.2",
        "--store",
        &store,
        "--local",
        "192.0.2.0/24",
        "--json",
    ];
    let from_store = ends_with(0, &mut smtpflow(&words)).stdout;
    let from_store: Value = serde_json::from_str(&from_store).expect("JSON");
    assert_eq!(from_store["answer"], answer["answer"]);

    lab.ip("gateway", "link del outer").expect("deleted");
    let gone = command::poll_until(LIMIT, || {
        let words = ["check", "--url", &url];
        let finished = finish(&mut smtpflow(&words), LIMIT).expect("it ends");
        finished.status.code() == Some(2) && finished.stdout.contains("outer is missing")
    });
    assert!(gone, "a missing interface is not critical");
    agent
        .process()
        .stop(Signal::SIGTERM, LIMIT)
        .expect("the agent ends");
    let line = check(&[], 2);
    has(&line, &["CRITICAL", "is it running"]);
}
