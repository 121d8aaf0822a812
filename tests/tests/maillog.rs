//! Mail logs of a real Postfix: what `smtpflow maillog` says of each client is what that client did, and a
//! follower loses and repeats no line while the log is rotated under a server that writes to it. The agent
//! follows it as well, is killed and started again, and has each message once; so it does with a real journal.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use smtp_user::maillog::follow::{Follower, Saved};
use smtpflow_tests::journald::{self, Journalctl, Journald};
use xtask::command::{finish, poll_until};
use xtask::lab::{AgentOptions, Lab, Messages, Postfix, REFUSED, Topology, smtpflow_binary};

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
    let saved = serde_json::to_string(&follower.saved()).expect("JSON");
    scene.send("bot", 50, false);
    let all = || {
        [&rotated, log]
            .map(|file| fs::read_to_string(file).unwrap_or_default())
            .concat()
    };
    wait_removed(&all, 200);
    let saved: Saved = serde_json::from_str(&saved).expect("a position");
    let mut follower = Follower::open(log, Some(&saved)).expect("a follower");
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

/// What is logged there, and what is run behind it, which comes behind the script.
const LOGGED: &str = r#"
trap 'kill $journald; wait $journald || true' EXIT
say mail.info postfix/smtpd '4ABCDEF123: client=x[192.0.2.7]'
say mail.info postfix/qmgr '4ABCDEF123: from=<ann@client.example>, size=2345, nrcpt=1 (queue active)'
say mail.info postfix/smtp '4ABCDEF123: to=<bob@other.example>, relay=none, delay=1, delays=1/0/0/0, dsn=2.0.0, status=sent (ok)'
say mail.info postfix/qmgr '4ABCDEF123: removed'
escape=$(printf '\033\377')
say mail.info postfix/smtpd "NOQUEUE: reject: RCPT from unknown[192.0.2.8]: 554 no $escape; from=<a@b> to=<x@y> proto=SMTP helo=<h>"
long=$(printf '%8192s' '' | tr ' ' x)
say mail.info postfix/smtpd "NOQUEUE: reject: RCPT from unknown[192.0.2.9]: 554 no; from=<$long"
long=$(printf '%5000s' '' | tr ' ' x)
say mail.info postfix/smtpd "NOQUEUE: reject: RCPT from unknown[192.0.2.10]: 554 no; from=<$long"
# Another facility is none of mail servers.
say user.info postfix/smtpd 'NOQUEUE: reject: RCPT from unknown[192.0.2.11]: 554 no; from=<'
journalctl --sync
"$@"
"#;

#[test]
fn the_journal_is_read_as_files_are() {
    let script = format!("{}{LOGGED}", journald::START);
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", &script, "sh"])
        .arg(smtpflow_binary().expect("the program is built"))
        .args(["maillog", "--journal", "--addresses=domain", "--json"]);
    let finished = finish(&mut command, LIMIT).expect("it ends");
    assert!(finished.status.success(), "{}", finished.stderr);
    let report: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    let rows = report["clients"].as_array().expect("clients");
    let mut addresses: Vec<_> = rows.iter().map(|row| row["addr"].clone()).collect();
    addresses.sort_by_key(Value::to_string);
    assert_eq!(
        addresses,
        ["192.0.2.10", "192.0.2.7", "192.0.2.8"],
        "{report:#}"
    );
    let found = client(&report, IpAddr::from([192, 0, 2, 7]));
    for (field, value) in [
        ("messages", 1),
        ("recipients", 1),
        ("bytes", 2345),
        ("sent", 1),
    ] {
        assert_eq!(found[field], value, "{field} of {found:#}");
    }
    assert_eq!(found["latest"][0]["sender"], "client.example");
    for last in [8, 10] {
        let found = client(&report, IpAddr::from([192, 0, 2, last]));
        assert_eq!(found["rejected"], 1, "{found:#}");
    }
    assert_eq!(report["too_long"], 1, "{report:#}");
}

#[test]
fn the_agent_has_each_message_once_however_it_ends() {
    let scene = Scene::new("sfmlogag");
    let lab = &scene.lab;
    let bot = lab.add_client("bot").expect("a client");
    let log = scene.postfix.log_path();
    let rotated = log.with_file_name("maillog.1");
    let state = lab.folder().join("known");
    let file = lab.folder().join("smtpflow.toml");
    let text = format!(
        "[maillog]\nfiles = [{:?}, \"/var/log/no-such-log-of-a-test\"]\naddresses = \"domain\"\nstate = {:?}\n",
        log.display().to_string(),
        state.display().to_string()
    );
    fs::write(&file, text).expect("written");
    let config = file.display().to_string();
    let mut options = AgentOptions::new(lab).expect("options");
    options.extra = vec!["--config".to_owned(), config.clone()];

    let known = || {
        let report = json(&[], &["--followed", "--config", &config]);
        let clients = report["clients"].as_array().expect("clients");
        let found = clients.iter().find(|row| row["addr"] == bot.v4.to_string());
        let number = |name: &str| found.map_or(0, |row| row[name].as_u64().expect("a number"));
        (number("messages"), number("sent"), report)
    };
    let wait_for = |count: u64| {
        let mut last = Value::Null;
        let met = poll_until(LIMIT, || {
            let (messages, sent, report) = known();
            last = report;
            (messages, sent) == (count, count)
        });
        assert!(met, "expected {count} messages: {last:#}");
    };
    // What was there before anybody asked is none of it.
    scene.send("bot", 5, false);
    wait_removed(&|| scene.postfix.log_text(), 5);
    let mut agent = lab.agent(&options).expect("an agent");
    agent.wait_ready(LIMIT).expect("ready");
    assert!(
        poll_until(LIMIT, || state.join("books.json").exists()),
        "{}",
        agent.process().log_text()
    );

    // Killed while it reads, between what it read and what it has kept.
    scene.send("bot", 20, false);
    agent
        .process()
        .stop(Signal::SIGKILL, LIMIT)
        .expect("killed");
    // A rotation while nobody looks, and one while the server still writes to the old file.
    scene.send("bot", 20, false);
    fs::rename(log, &rotated).expect("renamed");
    let mut agent = lab.agent(&options).expect("an agent");
    agent.wait_ready(LIMIT).expect("ready");
    scene.send("bot", 20, true);
    let postfix = scene.postfix.config().display().to_string();
    lab.run("servers", "postfix", &["-c", &postfix, "reload"], LIMIT)
        .expect("a reload");
    scene.send("bot", 20, true);
    wait_for(80);
    // At a good end all that was read is kept at once.
    scene.send("bot", 20, false);
    let all = || {
        [&rotated, log]
            .map(|file| fs::read_to_string(file).unwrap_or_default())
            .concat()
    };
    wait_removed(&all, 105);
    std::thread::sleep(Duration::from_secs(2));
    let said = agent.process().log_text();
    assert!(agent.stop().expect("ended").success(), "{said}");
    let (messages, sent, report) = known();
    assert_eq!((messages, sent), (100, 100), "{report:#}");
    assert_eq!(report["gaps"], 0, "{report:#}");
    let text = fs::read_to_string(state.join("books.json")).expect("the books");
    assert!(!text.contains('@'), "a mail address is kept");
    assert!(said.contains("following mail logs"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn the_agent_has_each_entry_of_the_journal_once_however_it_ends() {
    let topology = Topology {
        servers: 1,
        ..Topology::default()
    };
    let lab = Lab::gateway("sfmlogjr", topology).expect("a laboratory");
    let journald = Journald::start(&lab);
    let state = lab.folder().join("known");
    let file = lab.folder().join("smtpflow.toml");
    let text = format!("[maillog]\njournal = true\nstate = {state:?}\n");
    fs::write(&file, text).expect("written");
    let config = file.display().to_string();
    let mut options = AgentOptions::new(&lab).expect("options");
    options.binary = journald.beside(lab.folder(), &options.binary);
    options.extra = ["--config", &config, "--user", "daemon"]
        .map(str::to_owned)
        .to_vec();
    journald.admit("daemon");
    let start = || {
        let mut agent = lab.agent(&options).expect("an agent");
        agent.wait_ready(LIMIT).expect("ready");
        agent
    };
    let known = || json(&[], &["--followed", "--config", &config]);
    let wait_for = |count: u64, gaps: u64| {
        let mut last = Value::Null;
        let met = poll_until(LIMIT, || {
            last = known();
            let clients = last["clients"].as_array().expect("clients");
            let of = |row: &&Value| row["addr"] == "192.0.2.7";
            clients
                .iter()
                .find(of)
                .map_or(0, |row| row["rejected"].as_u64().unwrap_or(0))
                == count
        });
        assert!(met, "expected {count}: {last:#}");
        assert_eq!(last["gaps"], gaps, "{last:#}");
        assert_eq!(
            last["clients"].as_array().map(Vec::len),
            Some(1),
            "{last:#}"
        );
    };

    // What was there before anybody asked is none of it.
    journald.refuse("192.0.2.1", 5);
    let mut agent = start();
    let books = state.join("books.json");
    let kept = poll_until(LIMIT, || books.exists());
    assert!(kept, "{}", agent.process().log_text());
    let journalctl = Journalctl::of(agent.process().id());
    // The agent itself has left the group by which journalctl reads.
    let group = journald.run("getent group systemd-journal | cut -d : -f 3");
    assert_eq!(journalctl.status("Groups"), group.trim());
    assert_eq!(journalctl.status("Uid"), "1\t1\t1\t1");
    assert_eq!(journalctl.status("CapPrm"), "0000000000000000");
    assert_eq!(journalctl.status("CapBnd"), "0000000000000000");
    assert_eq!(journalctl.status("NoNewPrivs"), "1");
    // Killed while it reads, between what it read and what it has kept.
    journald.refuse("192.0.2.7", 20);
    let process = agent.process();
    process.stop(Signal::SIGKILL, LIMIT).expect("killed");
    let ends = poll_until(LIMIT, || journalctl.has_ended());
    assert!(ends, "journalctl outlives the agent");
    journald.refuse("192.0.2.7", 20);
    let mut agent = start();
    journald.refuse("192.0.2.7", 20);
    wait_for(60, 0);

    // Its journalctl ends: that is said, and the agent counts all the same.
    Journalctl::of(agent.process().id()).kill();
    let mut last = Value::Null;
    let said = poll_until(LIMIT, || {
        last = known();
        last["journal_ended"].is_string()
    });
    assert!(said, "{last:#}");
    let log = agent.process().log_text();
    assert!(log.contains("not followed any more"), "{log}");
    agent.wait_ready(LIMIT).expect("it counts");
    assert!(agent.stop().expect("ended").success(), "{log}");

    // What came then is read in the next life, but for what the journal has no longer, and neither what was read last:
    // a gap, and no end.
    journald.refuse("192.0.2.7", 5);
    journald.vacuum();
    journald.refuse("192.0.2.7", 5);
    let mut agent = start();
    wait_for(65, 1);
    assert_eq!(known()["journal_ended"], Value::Null);
    let log = agent.process().log_text();
    assert!(log.contains("entries of the journal are missing"), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    assert!(agent.stop().expect("ended").success(), "{log}");
}
