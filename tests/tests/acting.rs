//! Acting over HTTP on a running agent: what comes of it, and that it stays.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use smtp_user::model::period::{Tier, milliseconds};
use smtpflow_tests::long;
use smtpflow_tests::tokens::{ACT, READ, WRONG, configuration};
use xtask::command::poll_until;
use xtask::lab::{Agent, AgentOptions, Lab, ensure_bpffs, http_request};

const LIMIT: Duration = Duration::from_secs(60);
/// What a test may take of one UTC hour.
const NEEDED: u64 = 120_000;

const BOT: &str = "192.0.2.2";
const GATEWAY: &str = "192.0.2.1";

/// A client and a gateway, joined by `eth0` and `outer`.
fn lab(prefix: &str) -> Lab {
    ensure_bpffs().expect("bpffs");
    let lab = Lab::new(prefix).expect("a laboratory");
    for name in ["client", "gateway"] {
        lab.add_namespace(name).expect("a namespace");
    }
    lab.link(("client", "eth0"), ("gateway", "outer"), None)
        .expect("a link");
    lab.ip("client", &format!("addr add {BOT}/24 dev eth0"))
        .expect("an address");
    lab.ip("gateway", &format!("addr add {GATEWAY}/24 dev outer"))
        .expect("an address");
    lab
}

/// Opens this many connections to a port where nobody listens.
fn knock(lab: &Lab, times: u64) {
    let target: SocketAddr = format!("{GATEWAY}:25").parse().expect("an address");
    lab.within("client", || {
        for _ in 0..times {
            TcpStream::connect_timeout(&target, LIMIT).expect_err("the port is closed");
        }
    })
    .expect("a thread in the namespace");
}

fn start(lab: &Lab, options: &AgentOptions) -> Agent {
    let mut agent = lab.agent(options).expect("the agent starts");
    agent.wait_ready(LIMIT).expect("the agent is ready");
    agent
}

/// Detectors are about UTC hours, and the test is about one of them.
fn wait_for_room_in_the_hour() {
    let hour = Tier::Hour.length().expect("an hour has a length");
    let left = hour - milliseconds(SystemTime::now()) % hour;
    if left < NEEDED {
        std::thread::sleep(Duration::from_millis(left));
    }
}

/// A stream of events that is read.
struct Listener(BufReader<TcpStream>);

impl Listener {
    fn new(server: SocketAddr) -> Self {
        let mut socket = TcpStream::connect_timeout(&server, LIMIT).expect("a connection");
        socket.set_read_timeout(Some(LIMIT)).expect("a limit");
        let request = format!("GET /api/v1/events HTTP/1.1\r\nHost: {server}\r\n\r\n");
        socket.write_all(request.as_bytes()).expect("sent");
        Self(BufReader::new(socket))
    }

    /// The data of the next event of this name for which `is` holds.
    fn next(&mut self, event: &str, is: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        let (mut name, mut line) = (String::new(), String::new());
        while start.elapsed() < LIMIT {
            line.clear();
            let read = self.0.read_line(&mut line).expect("an event in time");
            assert_ne!(read, 0, "the stream has ended");
            if let Some(value) = line.trim_end().strip_prefix("event: ") {
                name = value.to_owned();
            } else if let Some(data) = line.trim_end().strip_prefix("data: ") {
                let data: Value = serde_json::from_str(data).expect("JSON");
                if name == event && is(&data) {
                    return data;
                }
            }
        }
        panic!("no event {event} for which it holds");
    }
}

/// Sends a change with this token.
fn post(server: SocketAddr, path: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
    let authorization = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("Content-Type", "application/json")];
    headers.extend(
        authorization
            .iter()
            .map(|value| ("Authorization", &**value)),
    );
    let answer =
        http_request(server, ("POST", path), &headers, Some(&body.to_string())).expect("an answer");
    (answer.status, answer.json().expect("JSON"))
}

#[test]
fn what_people_do_over_http_counts_at_once_and_stays() {
    let lab = lab("tact");
    let config = configuration(
        lab.folder(),
        "[networks]\nlocal = [\"192.0.2.0/24\"]\n[[relay]]\nprefix = \"192.0.2.77/32\"\n\
         reason = \"of the file\"\nowner = \"postmaster\"\n",
    );
    let mut options = AgentOptions::new(&lab).expect("options");
    options.interfaces = vec!["outer".to_owned()];
    options.window = "1s".to_owned();
    options.extra = vec!["--config".to_owned(), config.display().to_string()];
    let store = options.store.clone().expect("a store");
    let smtpflow = |words: &[&str]| {
        let mut command = Command::new(&options.binary);
        command.args(words).arg("--config").arg(&config);
        command.arg("--store").arg(&store);
        let output = command.output().expect("it runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (
            output.status.code().expect("a code"),
            text(output.stdout),
            text(output.stderr),
        )
    };
    wait_for_room_in_the_hour();
    let mut agent = start(&lab, &options);
    let server = agent.listen();
    let mut events = Listener::new(server);
    // The last drain comes at once, and then each.
    let drains = |data: &Value| data["drains"].as_u64().expect("a number");
    let first = drains(&events.next("drain", |_| true));
    events.next("drain", |data| drains(data) == first + 1);

    // A bot is flagged, and whoever listens hears of it.
    knock(&lab, 40);
    let of_volume = |data: &Value| data["detector"] == "volume" && data["subject"] == BOT;
    let told = events.next("verdict", of_volume);
    assert_eq!(
        (&told["event"]["who"], &told["state"]),
        (&"smtpflow".into(), &"new".into())
    );
    let id = told["id"].as_u64().expect("a number");
    let path = format!("/api/v1/verdicts/{id}");

    // Only the act token changes anything.
    let acknowledge = json!({ "state": "acknowledged", "who": "anna", "why": "called the owner" });
    for (token, expected) in [(None, 401), (Some(READ), 403), (Some(WRONG), 401)] {
        let (status, answer) = post(server, &path, token, &acknowledge);
        assert_eq!(status, expected, "{answer}");
    }
    let crossed = http_request(
        server,
        ("POST", &path),
        &[
            ("Content-Type", "application/json"),
            ("Authorization", &*format!("Bearer {ACT}")),
            ("Sec-Fetch-Site", "cross-site"),
        ],
        Some(&acknowledge.to_string()),
    );
    assert_eq!(crossed.expect("an answer").status, 403);
    assert_eq!(
        agent.json(&path).expect("a verdict")["verdict"]["state"],
        "new"
    );
    let sent = Instant::now();
    let (status, life) = post(server, &path, Some(ACT), &acknowledge);
    let answered = sent.elapsed();
    assert_eq!(
        (status, &life["verdict"]["state"]),
        (200, &"acknowledged".into()),
        "{life}"
    );
    let told = events.next("verdict", |data| data["state"] == "acknowledged");
    println!(
        "a change: answered after {answered:.1?}, told after {:.1?}",
        sent.elapsed()
    );
    assert_eq!(
        (&told["id"], &told["event"]["who"], &told["event"]["why"]),
        (&id.into(), &"anna".into(), &"called the owner".into())
    );

    // The command line sees the same, and what it does is told as well.
    let (code, list, _) = smtpflow(&["verdicts", "--json", "--state", "acknowledged"]);
    let list: Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!(
        (code, &list["verdicts"][0]["id"]),
        (0, &id.into()),
        "{list}"
    );
    let id_text = id.to_string();
    let (code, _, error) = smtpflow(&[
        "verdict",
        "notify",
        &id_text,
        "--who",
        "bob",
        "--why",
        "wrote to them",
    ]);
    assert_eq!(code, 0, "{error}");
    let told = events.next("verdict", |data| data["state"] == "notified");
    assert_eq!(told["event"]["who"], "bob");

    // A known relay: its verdicts are resolved, and it is not judged from the next window on.
    let relay = json!({
        "prefix": format!("{BOT}/32"), "reason": "the relay of the staff",
        "owner": "postmaster@example.org", "expires": "2999-12-31", "who": "anna"
    });
    assert_eq!(post(server, "/api/v1/relays", Some(READ), &relay).0, 403);
    let (status, added) = post(server, "/api/v1/relays", Some(ACT), &relay);
    assert_eq!(status, 201, "{added}");
    assert!(
        added["resolved"]
            .as_array()
            .is_some_and(|ids| ids.contains(&id.into())),
        "{added}"
    );
    let told = events.next("verdict", |data| {
        data["id"] == id && data["state"] == "resolved"
    });
    let why = told["event"]["why"].as_str().unwrap_or_default();
    assert_eq!(why, format!("known relay {BOT}: the relay of the staff"));
    let excused = |agent: &mut Agent| {
        let why = agent
            .json(&format!("/api/v1/sources/{BOT}/why"))
            .expect("why");
        assert_eq!(why["flagged"], false, "{why}");
        assert_eq!(
            (&why["unjudged"], &why["excused_by"]["origin"]),
            (&"excused".into(), &"store".into()),
            "{why}"
        );
        let rows = agent
            .json(&format!("/api/v1/sources?filter=addr:{BOT}%20relay:yes"))
            .expect("sources");
        assert_eq!(rows["total"], 1, "{rows}");
    };
    knock(&lab, 100);
    agent.wait_drained(LIMIT).expect("a drain");
    let opened =
        |agent: &mut Agent| agent.json("/api/v1/status").expect("status")["verdicts"].clone();
    let after = opened(&mut agent);
    assert_eq!(
        after["open"],
        json!({ "notice": 0, "warning": 0, "critical": 0 }),
        "the relay is judged: {after}"
    );
    excused(&mut agent);
    let before = agent.json(&path).expect("a verdict");

    // All of it is there after a restart.
    assert!(agent.stop().expect("the agent ends").success());
    // The stream has ended with it.
    let mut rest = Vec::new();
    let _ = std::io::Read::read_to_end(&mut events.0, &mut rest);
    let mut agent = start(&lab, &options);
    let server = agent.listen();
    assert_eq!(agent.json(&path).expect("a verdict"), before);
    let trail: Vec<_> = before["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|event| {
            (
                event["who"].as_str().unwrap_or_default(),
                event["to"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    assert_eq!(
        trail,
        [
            ("smtpflow", "new"),
            ("anna", "acknowledged"),
            ("bob", "notified"),
            ("anna", "resolved")
        ]
    );
    knock(&lab, 100);
    agent.wait_drained(LIMIT).expect("a drain");
    excused(&mut agent);
    let list = agent.json("/api/v1/relays").expect("relays");
    let (code, printed, error) = smtpflow(&["relay", "list", "--json"]);
    assert_eq!(code, 0, "{error}");
    let printed: Value = serde_json::from_str(&printed).expect("JSON");
    let entries = |list: &Value| -> BTreeSet<String> {
        let entries = list["relays"].as_array().expect("a list");
        entries.iter().map(Value::to_string).collect()
    };
    assert_eq!(entries(&printed), entries(&list));
    assert_eq!(entries(&list).len(), 2, "{list}");

    // What is ended is judged again, by all that it did; the command line says it, the agent sees it.
    let mut events = Listener::new(server);
    let own = format!("{BOT}/32");
    let (code, said, error) =
        smtpflow(&["relay", "expire", &own, "--who", "bob", "--why", "moved"]);
    assert_eq!(
        (code, &*said),
        (0, &*format!("{own} is no known relay any more\n")),
        "{error}"
    );
    let (code, _, error) = smtpflow(&["relay", "expire", &own, "--who", "bob", "--why", "moved"]);
    assert_eq!(code, 1, "{error}");
    let (code, _, error) = smtpflow(&[
        "relay",
        "expire",
        "192.0.2.77/32",
        "--who",
        "bob",
        "--why",
        "moved",
    ]);
    assert!(
        code == 2 && error.contains("of the configuration"),
        "{error}"
    );
    let judged = poll_until(LIMIT, || {
        let why = agent
            .json(&format!("/api/v1/sources/{BOT}/why"))
            .expect("why");
        why["unjudged"].is_null()
    });
    assert!(judged, "what was ended still excuses");
    let list = agent
        .json("/api/v1/relays?filter=origin:store")
        .expect("relays");
    assert_eq!(
        (
            &list["relays"][0]["ended_by"],
            &list["relays"][0]["ended_why"]
        ),
        (&"bob".into(), &"moved".into())
    );
    // Which verdict: it was resolved by a person in this hour, so the detector is heard again in the next
    // one; another detector is heard at once.
    for change in [&format!("addr del {BOT}/24"), "addr add 192.0.2.9/24"] {
        lab.ip("client", &format!("{change} dev eth0"))
            .expect("another address");
    }
    let (code, _, error) = smtpflow(&[
        "relay",
        "add",
        "192.0.2.9/32",
        "--reason",
        "a printer",
        "--owner",
        "the office",
        "--connections",
        "50",
        "--who",
        "bob",
    ]);
    assert_eq!(code, 0, "{error}");
    knock(&lab, 51);
    let told = events.next("verdict", |data| data["subject"] == "192.0.2.9");
    assert_eq!(
        told["severity"], "warning",
        "by the limit of its own: {told}"
    );
    let log = agent.process().log_text();
    assert!(!log.contains(ACT), "a token is in the log");

    if long() {
        // A stream outlives other connections, which end after a minute.
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(90) {
            events.next("drain", |_| true);
        }
    }
    assert!(agent.stop().expect("the agent ends").success());
}
