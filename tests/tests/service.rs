//! The agent under a service manager: what it says of itself, and how its log reads in the journal.
//! The other ends of both are the test's own; systemd itself is met where packages are tested.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use xtask::lab::{Agent, AgentOptions, Lab, http_get, smtpflow_binary};

const LIMIT: Duration = Duration::from_secs(60);

/// A gateway with one interface, and a socket on which the agent speaks to the test.
struct Rig {
    options: AgentOptions,
    lab: Lab,
    socket: UnixDatagram,
    /// What was received, with the times.
    heard: Vec<(Instant, HashMap<String, String>)>,
}

impl Rig {
    fn new(prefix: &str) -> Self {
        let lab = Lab::new(prefix).expect("a laboratory");
        for name in ["client", "gateway"] {
            lab.add_namespace(name).expect("a namespace");
        }
        lab.link(("client", "eth0"), ("gateway", "outer"), None)
            .expect("a link");
        let path = lab.folder().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(LIMIT)).expect("a limit");
        let mut options = AgentOptions::new(&lab).expect("options");
        options.interfaces = vec!["outer".to_owned()];
        options.window = "1s".to_owned();
        let path = path.display().to_string();
        options.environment = vec![("NOTIFY_SOCKET".to_owned(), path)];
        Self {
            options,
            lab,
            socket,
            heard: Vec::new(),
        }
    }

    fn start(&self) -> Agent {
        self.lab.agent(&self.options).expect("the agent starts")
    }

    /// Waits for the next message.
    fn hear(&mut self) -> HashMap<String, String> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("a message in time");
        let text = String::from_utf8_lossy(&buffer[..length]);
        let message: HashMap<_, _> = text
            .lines()
            .map(|line| {
                let (name, value) = line.split_once('=').expect("NAME=VALUE");
                (name.to_owned(), value.to_owned())
            })
            .collect();
        self.heard.push((Instant::now(), message.clone()));
        message
    }

    /// Waits for a message with this assignment.
    fn wait_for(&mut self, name: &str, value: &str) -> HashMap<String, String> {
        loop {
            let message = self.hear();
            if message.get(name).is_some_and(|is| is == value) {
                return message;
            }
        }
    }
}

#[test]
fn it_is_ready_when_it_counts_and_answers_and_lives_by_its_drains() {
    let mut rig = Rig::new("svcr");
    let mut agent = rig.start();
    let first = rig.hear();
    assert_eq!(first["READY"], "1", "nothing comes before that");
    // At this moment, not some time later.
    let points = agent.json("/api/v1/interfaces").expect("an answer");
    assert_eq!(points["interfaces"][0]["state"], "attached", "{points}");
    for _ in 0..3 {
        let message = rig.hear();
        assert_eq!(message["WATCHDOG"], "1", "{message:?}");
        let status = &message["STATUS"];
        assert!(
            status.starts_with("outer (driver); last window: "),
            "{status}"
        );
        assert!(status.ends_with("; 0 open verdicts"), "{status}");
    }
    // Stopped, it does not drain, and a watchdog would see that.
    agent.process().signal(Signal::SIGSTOP).expect("stopped");
    rig.socket
        .set_read_timeout(Some(Duration::from_millis(1500)))
        .expect("a limit");
    let mut buffer = [0; 4096];
    // One may have been under way.
    let _ = rig.socket.recv(&mut buffer);
    let silence = rig.socket.recv(&mut buffer).expect_err("silence");
    assert_eq!(silence.kind(), std::io::ErrorKind::WouldBlock);
    rig.socket.set_read_timeout(Some(LIMIT)).expect("a limit");
    agent.process().signal(Signal::SIGCONT).expect("going on");
    rig.wait_for("WATCHDOG", "1");
    agent.process().signal(Signal::SIGTERM).expect("ending");
    rig.wait_for("STOPPING", "1");
    // The last drain is one as well, and it comes after that.
    let last = rig.hear();
    assert_eq!(last["WATCHDOG"], "1", "{last:?}");
    assert!(agent.stop().expect("it ends").success());
    let readies = rig.heard.iter().filter(|(_, m)| m.contains_key("READY"));
    assert_eq!(readies.count(), 1);
}

#[test]
fn a_watchdog_with_too_little_patience_is_asked_for_more() {
    let mut rig = Rig::new("svcw");
    for (micros, asked) in [("1999999", Some("3000000")), ("2000000", None)] {
        let variable = ("WATCHDOG_USEC".to_owned(), micros.to_owned());
        rig.options.environment.truncate(1);
        rig.options.environment.push(variable);
        let mut agent = rig.start();
        assert_eq!(rig.hear()["READY"], "1");
        let next = rig.hear();
        assert_eq!(next.get("WATCHDOG_USEC").map(String::as_str), asked);
        let log = agent.process().log_text();
        assert_eq!(log.contains("WatchdogSec="), asked.is_some(), "{log}");
        agent.stop().expect("it ends");
        rig.wait_for("STOPPING", "1");
        rig.hear();
    }
}

#[test]
fn a_service_manager_that_is_gone_is_no_reason_to_end() {
    let mut rig = Rig::new("svcg");
    std::fs::remove_file(rig.lab.folder().join("notify")).expect("removed");
    let mut agent = rig.start();
    agent.wait_ready(LIMIT).expect("ready");
    agent.wait_drained(LIMIT).expect("drains");
    let log = agent.process().log_text();
    assert_eq!(log.matches("NOTIFY_SOCKET").count(), 1, "{log}");
    assert!(agent.stop().expect("it ends").success());
    rig.options.environment.clear();
}

#[test]
fn a_reload_is_announced_and_its_end_whatever_came_of_it() {
    let mut rig = Rig::new("svch");
    let file = rig.lab.folder().join("smtpflow.toml");
    rig.options.extra = vec!["--config".to_owned(), file.display().to_string()];
    std::fs::write(&file, "").expect("written");
    let mut agent = rig.start();
    assert_eq!(rig.hear()["READY"], "1");
    for config in ["[detect.volume]\nnotice = 5\n", "nonsense"] {
        std::fs::write(&file, config).expect("written");
        agent.process().signal(Signal::SIGHUP).expect("a signal");
        let reloading = rig.wait_for("RELOADING", "1");
        let at = reloading["MONOTONIC_USEC"].parse::<u64>();
        assert!(at.expect("a number") > 0);
        rig.wait_for("READY", "1");
    }
    agent.stop().expect("it ends");
}

/// What an agent logs from its start to its end, into a file that it is told is the journal, or is not.
fn logged(rig: &mut Rig, number: u32, words: &[&str], is_journal: bool) -> String {
    // Where the laboratory is going to write its log; what is there is emptied, and stays the same file.
    let path = rig.lab.folder().join(format!("smtpflow-{number}.log"));
    let metadata = File::create(&path).and_then(|file| file.metadata());
    let metadata = metadata.expect("a file");
    let inode = metadata.ino() + u64::from(!is_journal);
    let stream = format!("{}:{inode}", metadata.dev());
    rig.options.environment = vec![("JOURNAL_STREAM".to_owned(), stream)];
    rig.options.extra = words.iter().map(|word| (*word).to_owned()).collect();
    let mut agent = rig.start();
    agent.wait_ready(LIMIT).expect("it is ready");
    agent.stop().expect("it ends");
    assert_eq!(agent.process().log(), path);
    agent.process().log_text()
}

#[test]
fn lines_for_the_journal_begin_with_their_priority_and_have_no_time() {
    let mut rig = Rig::new("svcj");
    let log = logged(&mut rig, 0, &[], true);
    for line in log.lines() {
        assert!(line.starts_with('<') && line[2..].starts_with('>'), "{log}");
        assert!(!line.contains('\u{1b}') && !line.contains("WARN"), "{log}");
    }
    assert!(log.contains("<6>smtp_user::agent: attached "), "{log}");
    assert!(
        log.contains("<4>smtp_user::agent::judging: no host is judged"),
        "{log}"
    );

    let json = logged(&mut rig, 1, &["--log-format", "json"], true);
    let warning = json.lines().find_map(|line| line.strip_prefix("<4>"));
    let event: serde_json::Value = serde_json::from_str(warning.expect("<4>")).expect("JSON");
    assert_eq!(event["level"], "WARN", "{event}");

    // The variable is inherited by what writes elsewhere.
    let log = logged(&mut rig, 2, &[], false);
    assert!(!log.contains("<4>") && log.contains(" WARN "), "{log}");
}

#[test]
fn the_error_that_it_ends_with_has_its_priority_as_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal");
    let file = File::create(&path).expect("a file");
    let metadata = file.metadata().expect("its metadata");
    let status = Command::new(smtpflow_binary().expect("the program is built"))
        .args(["config", "check", "/nonexistent/config.toml"])
        .env(
            "JOURNAL_STREAM",
            format!("{}:{}", metadata.dev(), metadata.ino()),
        )
        .stderr(file)
        .status()
        .expect("it runs");
    assert_eq!(status.code(), Some(78));
    let log = std::fs::read_to_string(&path).expect("what it wrote");
    assert!(log.starts_with("<3>smtpflow: cannot read "), "{log}");
}

#[test]
fn the_status_names_what_is_not_counted_on() {
    let mut rig = Rig::new("svcs");
    let mut agent = rig.start();
    rig.wait_for("WATCHDOG", "1");
    rig.lab.ip("gateway", "link del outer").expect("deleted");
    let begun = Instant::now();
    loop {
        let message = rig.wait_for("WATCHDOG", "1");
        if message["STATUS"].starts_with("outer (NOT COUNTED ON)") {
            break;
        }
        assert!(begun.elapsed() < LIMIT, "{message:?}");
    }
    // It serves on.
    let answer = http_get(agent.listen(), "/healthz", &[]).expect("an answer");
    assert_eq!(answer.status, 200);
    agent.stop().expect("it ends");
}
