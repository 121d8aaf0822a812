//! Mail logs of a real Postfix: what `smtpflow maillog` says of each client is what that client did, and a
//! follower loses and repeats no line while the log is rotated under a server that writes to it.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use smtp_user::maillog::follow::{Follower, Saved};
use xtask::command::finish;
use xtask::lab::{Lab, Messages, Postfix, REFUSED, Topology, smtpflow_binary};

const LIMIT: Duration = Duration::from_secs(60);

/// What `smtpflow maillog` says.
fn maillog(files: &[&Path], words: &[&str]) -> String {
    let mut command = Command::new(smtpflow_binary().expect("the program is built"));
    command.arg("maillog").args(files).args(words);
    let finished = finish(&mut command, LIMIT).expect("it ends");
    assert!(finished.status.success(), "{}", finished.stderr);
    finished.stdout
}

fn json(files: &[&Path], words: &[&str]) -> Value {
    let words: Vec<_> = words.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&maillog(files, &words)).expect("JSON")
}

fn client(report: &Value, address: IpAddr) -> &Value {
    let clients = report["clients"].as_array().expect("clients");
    clients
        .iter()
        .find(|row| row["addr"] == address.to_string())
        .unwrap_or_else(|| panic!("nothing of {address} in {report:#}"))
}

/// Waits until so many messages are out of the queue.
fn wait_removed(files: &dyn Fn() -> String, count: usize) {
    let start = Instant::now();
    loop {
        let text = files();
        let removed = text.matches(": removed\n").count();
        if removed >= count {
            return;
        }
        assert!(
            start.elapsed() < LIMIT,
            "{removed} of {count} messages are out of the queue:\n{text}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

struct Scene {
    lab: Lab,
    postfix: Postfix,
    servers: [SocketAddr; 2],
}

impl Scene {
    fn new(prefix: &str) -> Self {
        let topology = Topology {
            servers: 1,
            ..Topology::default()
        };
        let lab = Lab::gateway(prefix, topology).expect("a laboratory");
        let addresses = [lab.server_v4(0).into(), lab.server_v6(0).into()];
        let postfix = lab.postfix(&addresses).expect("postfix");
        Self {
            lab,
            postfix,
            servers: addresses.map(|address| SocketAddr::new(address, 25)),
        }
    }

    fn send(&self, client: &str, count: u32, reuse: bool) {
        let messages = Messages {
            count,
            parallel: 2,
            size: 2000,
            reuse,
        };
        self.lab
            .send(client, self.servers[0], messages, LIMIT)
            .expect("mail");
    }
}

#[test]
fn what_is_said_of_a_client_is_what_it_did() {
    let scene = Scene::new("sfmlogrd");
    let lab = &scene.lab;
    let [ordinary, bot] = ["ordinary", "bot"].map(|name| lab.add_client(name).expect("a client"));
    scene.send("bot", 25, false);
    for i in 0..3 {
        let body = "x".repeat(1000 * (i + 1));
        let to = [
            "--to",
            "ann@server.example,bob@other.example",
            "--body",
            &body,
        ];
        lab.swaks("ordinary", scene.servers[1], &to).expect("mail");
    }
    for helo in ["bot.example", "x[203.0.113.99]:"] {
        lab.swaks("bot", scene.servers[0], &["--to", REFUSED, "--helo", helo])
            .expect_err("refused");
    }
    wait_removed(&|| scene.postfix.log_text(), 28);

    let log = scene.postfix.log_path();
    let report = json(&[log], &[]);
    let clients = report["clients"].as_array().expect("clients");
    assert_eq!(clients.len(), 2, "{report:#}");
    let found = client(&report, bot.v4.into());
    for (field, value) in [
        ("messages", 25),
        ("recipients", 25),
        ("sent", 25),
        ("deferred", 0),
        ("bounced", 0),
        ("rejected", 2),
        // smtp-source sends one message again and again.
        ("bursts", 1),
        ("longest_burst", 25),
        ("may_be_forged", 0),
    ] {
        assert_eq!(found[field], value, "{field} of {found:#}");
    }
    assert_eq!(found["rejects"][0]["reason"], "recipient", "{found:#}");
    let found = client(&report, ordinary.v6.into());
    for (field, value) in [
        ("messages", 3),
        ("recipients", 6),
        ("sent", 6),
        ("bursts", 0),
    ] {
        assert_eq!(found[field], value, "{field} of {found:#}");
    }
    assert_eq!(report["lines"]["unclear"], 0, "{report:#}");
    assert_eq!(report["lines"]["headless"], 0, "{report:#}");

    // Mail addresses are kept only where somebody asks for them.
    for (words, expected) in [
        (&[][..], Value::Null),
        (&["--addresses", "domain"][..], "client.example".into()),
        (&["--addresses", "full"][..], "user@client.example".into()),
    ] {
        let report = json(&[log], words);
        let found = client(&report, ordinary.v6.into());
        assert_eq!(found["latest"][0]["sender"], expected, "{found:#}");
        let names = words == ["--addresses", "full"];
        assert_eq!(report.to_string().contains('@'), names, "{report:#}");
    }
    // One client, for people.
    let text = maillog(
        &[log],
        &["--addr", &bot.v4.to_string(), "--addresses", "domain"],
    );
    assert!(text.contains(&bot.v4.to_string()), "{text}");
    assert!(!text.contains(&ordinary.v6.to_string()), "{text}");
    assert!(!text.contains("203.0.113.99"), "{text}");
    assert!(
        text.contains("client.example") && !text.contains('@'),
        "{text}"
    );
}

/// All lines of these files.
fn lines(files: &[PathBuf]) -> Vec<String> {
    let texts = files
        .iter()
        .map(|file| fs::read_to_string(file).expect("a log"));
    texts
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn a_rotation_under_a_server_that_writes_loses_and_repeats_nothing() {
    let scene = Scene::new("sfmlogrt");
    scene.lab.add_client("bot").expect("a client");
    let log = scene.postfix.log_path();
    let rotated = log.with_file_name("maillog.1");
    let state = scene.lab.folder().join("position.json");
    let config = scene.postfix.config().display().to_string();

    let before = lines(&[log.to_owned()]).len();
    let mut follower = Follower::open(log, None).expect("a follower");
    let mut found = Vec::new();
    let mut read = |follower: &mut Follower| {
        while follower
            .poll(&mut |line| found.push(String::from_utf8_lossy(line).into_owned()))
            .expect("a read")
        {}
    };
    scene.send("bot", 50, false);
    read(&mut follower);
    fs::rename(log, &rotated).expect("renamed");
    // Postfix has not been told: it goes on in the old file.
    scene.send("bot", 50, true);
    read(&mut follower);
    scene
        .lab
        .run("servers", "postfix", &["-c", &config, "reload"], LIMIT)
        .expect("a reload");
    scene.send("bot", 50, true);
    read(&mut follower);
    // And a restart in the middle.
    follower.saved().save(&state).expect("saved");
    scene.send("bot", 50, false);
    let all = || {
        [&rotated, log]
            .map(|file| fs::read_to_string(file).unwrap_or_default())
            .concat()
    };
    wait_removed(&all, 200);
    let saved = Saved::load(&state).expect("a position");
    let mut follower = Follower::open(log, saved.as_ref()).expect("a follower");
    read(&mut follower);

    let written = lines(&[rotated, log.to_owned()]);
    let count = |lines: &[String]| {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for line in lines {
            *counts.entry(line.clone()).or_default() += 1;
        }
        counts
    };
    // Two files are written at a time for a moment, so only within each of them the order is one.
    assert_eq!(count(&found), count(&written[before..]));
    assert_eq!(follower.counts().gaps, 0);
    assert!(log.exists(), "postfix wrote no new log");
}
