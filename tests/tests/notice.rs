//! Notices through a real Postfix, into a real mailbox: what arrives is read by libraries that are not ours, and
//! held against the schemas of XARF by a validator that is not ours either. And the process that does all that.

use std::cell::Cell;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mailparse::{MailHeaderMap as _, parse_mail};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use smtp_user::model::notice::{
    Addressee, Facts, Fate, Notice, NoticeChange, NoticeState, Standing, Subject,
};
use smtp_user::model::owner::OwnerSource;
use smtp_user::model::period::Period;
use smtp_user::model::verdict::Severity;
use smtp_user::notice::{Composer, Policy, RelayServer, Sender, Settings};
use smtp_user::store::{NoticeDecision, NoticeLedger, Reader, Store, decide_notice};
use smtp_user::telling;
use smtpflow_tests::data;
use smtpflow_tests::watched::tools;
use xtask::lab::{Lab, Postfix, Process, REFUSED, Relaying, Topology, smtpflow_binary};

/// Of a certificate for 127.0.0.1, as in the unit tests.
const AUTHORITY: &str = include_str!("../../smtp-user/src/notice/send/tests/authority.pem");
const CERTIFICATE: &str = include_str!("../../smtp-user/src/notice/send/tests/relay.pem");
const KEY: &str = include_str!("../../smtp-user/src/notice/send/tests/relay.key");
/// 2026-11-27T00:00:00Z.
const NOW: u64 = 1_795_737_600_000;
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const ARRIVAL: Duration = Duration::from_secs(30);

/// A laboratory with a Postfix that keeps mail for desk.example, and a store.
struct Office {
    lab: Lab,
    postfix: Option<Postfix>,
    ledger: NoticeLedger,
    policy: Policy,
    now: Cell<u64>,
    folder: tempfile::TempDir,
}

impl Office {
    fn new(prefix: &str) -> Self {
        let lab = Lab::gateway(prefix, Topology::default()).expect("a laboratory");
        let folder = tempfile::tempdir().expect("a folder");
        let authorities = folder.path().join("authorities.pem");
        fs::write(&authorities, AUTHORITY).expect("written");
        let settings = Settings {
            enabled: true,
            from: Some("abuse@example.org".to_owned()),
            organisation: Some("Example University".to_owned()),
            languages: vec!["en".to_owned(), "zh_tw".to_owned()],
            relay: Some(RelayServer::parse("127.0.0.1:25").expect("a relay")),
            authorities,
            timeout_seconds: 30,
            ..Settings::default()
        };
        let local = vec!["192.0.2.0/24".parse().expect("a prefix")];
        Self {
            lab,
            postfix: None,
            ledger: ledger(&folder.path().join("store.db")),
            policy: Policy::new(settings, local).expect("a policy"),
            now: Cell::new(NOW),
            folder,
        }
    }

    /// Starts Postfix, for the first time or again.
    fn start(&mut self) {
        let config = self.lab.folder().join("postfix-mailbox/etc");
        fs::create_dir_all(&config).expect("a folder");
        fs::write(config.join("relay.pem"), CERTIFICATE).expect("written");
        let key = fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(config.join("relay.key"));
        std::io::Write::write_all(&mut key.expect("a file"), KEY.as_bytes()).expect("written");
        let readable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&config, readable).expect("a mode");
        let at = [IpAddr::from(Ipv4Addr::LOCALHOST)];
        self.postfix = Some(
            self.lab
                .postfix_for(Relaying::Mailbox, &at)
                .expect("postfix"),
        );
    }

    fn look(&self, subjects: &[Subject]) {
        let composer = Composer::new(&self.policy.settings).expect("texts");
        telling::look(
            &self.ledger,
            &self.policy,
            &composer,
            subjects,
            self.now.get(),
        )
        .expect("noted");
    }

    /// Sends from where Postfix is.
    fn send(&self) -> usize {
        let sender = Sender::new(&self.policy.settings).expect("a sender");
        let (ledger, policy, now) = (&self.ledger, &self.policy, self.now.get());
        let sent = self.lab.within("servers", move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(telling::send(
                ledger,
                policy,
                &sender,
                move || now,
            ))
        });
        sent.expect("the namespace").expect("noted")
    }

    fn approve(&self, id: u64) {
        approve(&self.folder.path().join("store.db"), id, self.now.get());
    }

    fn notice(&self, id: u64) -> Notice {
        let reader = Reader::open(&self.folder.path().join("store.db")).expect("a reader");
        reader.notice(id).expect("read").expect("there").0
    }

    /// The messages of the mailbox, once there are so many.
    fn mailbox(&self, number: usize) -> Vec<Vec<u8>> {
        let postfix = self.postfix.as_ref().expect("started");
        let begun = Instant::now();
        loop {
            let mails = mails(&postfix.mailbox().join("new"));
            if mails.len() >= number || begun.elapsed() > ARRIVAL {
                assert_eq!(mails.len(), number, "{}", postfix.log_text());
                return mails;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A new store, and its notices.
fn ledger(path: &Path) -> NoticeLedger {
    drop(Store::open(path, 100).expect("a store"));
    NoticeLedger::take(path).expect("a ledger")
}

fn approve(store: &Path, id: u64, at: u64) {
    let decision = NoticeDecision {
        id,
        to: NoticeState::Approved,
        who: "ada",
        why: "looked at it",
        at,
        expires_after: 72 * HOUR,
    };
    decide_notice(store, &decision).expect("approved");
}

/// What is wrong with a report in XARF, as the schemas say.
fn faults(report: &Value) -> String {
    let python = tools().join("python/bin/python");
    assert!(
        python.exists(),
        "{}: `cargo xtask test --stage packages` fetches it",
        python.display()
    );
    let mut check = Command::new(python)
        .args(["-B".into(), data("xarf").join("check.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python");
    let mut stdin = check.stdin.take().expect("its input");
    stdin
        .write_all(report.to_string().as_bytes())
        .expect("written");
    drop(stdin);
    let output = check.wait_with_output().expect("it ends");
    assert!(output.status.success(), "the check itself has failed");
    String::from_utf8(output.stdout).expect("text")
}

fn mails(folder: &Path) -> Vec<Vec<u8>> {
    let Ok(files) = fs::read_dir(folder) else {
        return Vec::new();
    };
    files
        .map(|file| fs::read(file.expect("a file").path()).expect("a message"))
        .collect()
}

fn subject(host: &str, mail: &[&str]) -> Subject {
    Subject {
        facts: Facts {
            host: host.parse().expect(host),
            verdicts: vec![7],
            rules: vec!["more than 100 connections in the hour (connections 412)".to_owned()],
            severity: Severity::Critical,
            first_at: NOW - 2 * HOUR,
            last_at: NOW,
            period: Period {
                from: NOW - 24 * HOUR,
                to: NOW,
            },
            connections: 412,
            conversations: 300,
            delivered: 120,
            rejected: 80,
            packets: 8000,
            bytes: 1_200_000,
            servers: 97,
            log: None,
        },
        standing: Standing::Flagged,
        owner: Some(Addressee {
            name: "the desk".to_owned(),
            mail: mail.iter().map(|mail| (*mail).to_owned()).collect(),
            source: OwnerSource::Contacts,
        }),
    }
}

#[test]
fn an_approved_notice_arrives_in_a_mailbox_and_others_can_read_it() {
    let mut office = Office::new("notmail");
    office.start();
    let hosts = ["192.0.2.7/32", "192.0.2.8/32"];
    let subjects = hosts.map(|host| subject(host, &["it@desk.example"]));
    office.look(&subjects);
    assert_eq!(office.send(), 0, "nobody has approved it");
    office.approve(1);
    assert_eq!(office.send(), 1);
    let notice = office.notice(1);
    assert_eq!(notice.state, NoticeState::Sent, "{:?}", notice.last_reply);
    let mails = office.mailbox(1);
    let mail = parse_mail(&mails[0]).expect("a message");
    assert_eq!(
        mail.headers.get_first_value("Message-ID"),
        Some(format!("<{}>", notice.message_id))
    );
    assert_eq!(
        mail.headers.get_first_value("Return-Path").as_deref(),
        Some("<abuse@example.org>")
    );
    assert_eq!(
        mail.headers.get_first_value("Auto-Submitted").as_deref(),
        Some("auto-generated")
    );
    let received = mail
        .headers
        .get_first_value("Received")
        .expect("Postfix says so");
    assert!(received.contains("ESMTPS"), "not through TLS: {received}");
    let text = mail.subparts[0]
        .get_body()
        .expect("text")
        .replace("\r\n", "\n");
    assert_eq!(text.trim_end(), notice.text.trim_end());
    let report = mailrs_arf::parse(&mails[0]).expect("a feedback report");
    assert_eq!(report.feedback_type, "xarf");
    let reports = &mail.subparts[2].subparts;
    assert_eq!(reports.len(), hosts.len());
    for (part, host) in reports.iter().zip(["192.0.2.7", "192.0.2.8"]) {
        let json: Value = serde_json::from_str(&part.get_body().expect("text")).expect("JSON");
        assert_eq!(faults(&json), "");
        assert_eq!(json["source_identifier"], host);
        assert_eq!(json["type"], "infected_host");
        // The check finds what is wrong, or it would be worth nothing.
        let mut broken = json.clone();
        broken["first_seen"] = json!("yesterday");
        broken["reporter"] = json!({"org": "somebody"});
        let found = faults(&broken);
        assert!(
            found.contains("first_seen: ") && found.contains("reporter: "),
            "{found}"
        );
    }
}

#[test]
fn a_relay_that_is_down_for_half_an_hour_gets_every_notice_once() {
    let mut office = Office::new("notdown");
    let subjects = [
        subject("192.0.2.7/32", &["one@desk.example"]),
        subject("192.0.2.8/32", &["two@desk.example"]),
    ];
    office.look(&subjects);
    office.approve(1);
    office.approve(2);
    for minute in 0..120 {
        office.now.set(NOW + minute * MINUTE);
        if minute == 30 {
            office.start();
        }
        office.send();
    }
    let mails = office.mailbox(2);
    let ids = mails.iter().map(|mail| {
        let mail = parse_mail(mail).expect("a message");
        mail.headers
            .get_first_value("Message-ID")
            .expect("a number")
    });
    let mut ids: Vec<String> = ids.collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 2);
}

#[test]
fn a_recipient_that_postfix_refuses_does_not_stop_the_other() {
    let mut office = Office::new("notrefused");
    office.start();
    office.look(&[subject("192.0.2.7/32", &[REFUSED, "it@desk.example"])]);
    office.approve(1);
    assert_eq!(office.send(), 1);
    let notice = office.notice(1);
    let fates: Vec<Fate> = notice
        .recipients
        .iter()
        .map(|recipient| recipient.fate)
        .collect();
    assert_eq!(
        fates,
        [Fate::Refused, Fate::Taken],
        "{:?}",
        notice.last_reply
    );
    assert_eq!(notice.state, NoticeState::Sent);
    office.mailbox(1);
}

#[test]
fn who_dies_behind_the_message_sends_the_same_one_again() {
    let mut office = Office::new("notagain");
    office.start();
    office.look(&[subject("192.0.2.7/32", &["it@desk.example"])]);
    office.approve(1);
    assert_eq!(office.send(), 1);
    // As if nothing had been noted behind the attempt but that it was begun.
    let sent = office.notice(1);
    let begun = smtp_user::notice::before(
        &Notice {
            state: NoticeState::Approved,
            attempts: 0,
            left_at: None,
            recipients: sent
                .recipients
                .iter()
                .map(|recipient| smtp_user::model::notice::Recipient {
                    fate: Fate::Pending,
                    ..recipient.clone()
                })
                .collect(),
            ..sent
        },
        NOW,
    );
    let NoticeChange::Tried(begun) = begun else {
        panic!("{begun:?}");
    };
    let sender = Sender::new(&office.policy.settings).expect("a sender");
    let attempt = office.lab.within("servers", || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(sender.send(&begun))
    });
    attempt.expect("the namespace");
    let mails = office.mailbox(2);
    let part = |mail: &[u8]| {
        let mail = parse_mail(mail).expect("a message");
        let bodies: Vec<Vec<u8>> = mail
            .subparts
            .iter()
            .map(|part| part.get_body_raw().expect("bytes"))
            .collect();
        (
            mail.headers.get_first_value("Message-ID"),
            mail.headers.get_first_value("Date"),
            bodies,
        )
    };
    assert_eq!(part(&mails[0]), part(&mails[1]));
}

/// A configuration, its store, and `smtpflow notice run` by it.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new(relay: SocketAddr, tls: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("authorities.pem"), AUTHORITY).expect("written");
        fs::write(at("contacts.csv"), "prefix,name,mail\n").expect("written");
        let config = format!(
            "[networks]\nlocal = [\"192.0.2.0/24\"]\n[store]\npath = {:?}\n[owner]\norder = [\"contacts\"]\n\
             contacts = [{:?}]\n[notice]\nenabled = true\nfrom = \"abuse@example.org\"\n\
             organisation = \"Example University\"\nrelay = \"{relay}\"\ntls = \"{tls}\"\n\
             authorities = {:?}\nevery_seconds = 1\n",
            at("store.db"),
            at("contacts.csv"),
            at("authorities.pem"),
        );
        fs::write(at("smtpflow.toml"), config).expect("written");
        Self { folder }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A store of this name with a notice that was approved.
    fn store(&self, name: &str) {
        let now = now();
        let settings = Settings {
            enabled: true,
            from: Some("abuse@example.org".to_owned()),
            organisation: Some("Example University".to_owned()),
            ..Settings::default()
        };
        let local = vec!["192.0.2.0/24".parse().expect("a prefix")];
        let policy = Policy::new(settings, local).expect("a policy");
        let composer = Composer::new(&policy.settings).expect("texts");
        let subjects = [subject("192.0.2.7/32", &["it@desk.example"])];
        let ledger = ledger(&self.at(name));
        telling::look(&ledger, &policy, &composer, &subjects, now).expect("noted");
        approve(&self.at(name), 1, now);
    }

    fn arguments(&self) -> Vec<String> {
        let config = self.at("smtpflow.toml").display().to_string();
        ["notice", "run", "--config", &config]
            .map(str::to_owned)
            .to_vec()
    }

    /// What `smtpflow notice run --once` ends with, and what it says.
    fn once(&self) -> (Option<i32>, String) {
        let output = Command::new(smtpflow_binary().expect("the program is built"))
            .args(self.arguments())
            .arg("--once")
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    }
}

fn now() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().expect("a clock");
    since.as_millis() as u64
}

/// Waits until a log says this.
fn wait_for(process: &Process, text: &str) {
    let begun = Instant::now();
    while !process.log_text().contains(text) {
        assert!(begun.elapsed() < ARRIVAL, "{text}: {}", process.log_text());
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_process_waits_for_its_store_sends_what_is_approved_and_ends_when_it_is_told() {
    let mut office = Office::new("notrun");
    office.start();
    let desk = Desk::new("127.0.0.1:25".parse().expect("an address"), "starttls");
    let program = smtpflow_binary().expect("the program is built");
    let words = desk.arguments();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut process = office
        .lab
        .spawn("servers", &program.display().to_string(), &words)
        .expect("it starts");
    wait_for(&process, "notices cannot be made for now");
    // One at a time.
    let (code, said) = desk.once();
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("another `smtpflow notice run`"), "{said}");
    // The store comes, as one that an agent has made meanwhile.
    desk.store("other.db");
    fs::rename(desk.at("other.db"), desk.at("store.db")).expect("moved");
    wait_for(&process, "notices can be made again");
    wait_for(&process, "a notice is sent");
    let mail = office.mailbox(1).pop().expect("one");
    assert!(parse_mail(&mail).is_ok());
    // A configuration that is no good changes nothing, nor does a good one end anything.
    let config = fs::read_to_string(desk.at("smtpflow.toml")).expect("read");
    fs::write(desk.at("smtpflow.toml"), "nonsense").expect("written");
    process.signal(Signal::SIGHUP).expect("a signal");
    wait_for(&process, "the configuration before stays in force");
    fs::write(desk.at("smtpflow.toml"), config).expect("written");
    process.signal(Signal::SIGHUP).expect("a signal");
    wait_for(&process, "the configuration was read anew");
    let begun = Instant::now();
    let status = process.stop(Signal::SIGTERM, ARRIVAL).expect("it ends");
    assert!(status.success(), "{}", process.log_text());
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(office.mailbox(1).len(), 1);
}

#[test]
fn it_ends_in_the_middle_of_a_conversation_and_does_not_begin_it_again_at_once() {
    let relay = TcpListener::bind("127.0.0.1:0").expect("a port");
    let desk = Desk::new(relay.local_addr().expect("an address"), "off");
    desk.store("store.db");
    let log = fs::File::create(desk.at("log")).expect("a log");
    let mut process = Command::new(smtpflow_binary().expect("the program is built"))
        .args(desk.arguments())
        .stderr(log)
        .spawn()
        .expect("it starts");
    // A relay that says nothing.
    let (client, _) = relay.accept().expect("the process");
    thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    let id = nix::unistd::Pid::from_raw(process.id().cast_signed());
    nix::sys::signal::kill(id, Signal::SIGTERM).expect("a signal");
    let status = process.wait().expect("it ends");
    let log = fs::read_to_string(desk.at("log")).expect("a log");
    assert!(status.success(), "{log}");
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}: {log}",
        begun.elapsed()
    );
    drop(client);
    let (code, said) = desk.once();
    assert_eq!(code, Some(0), "{said}");
    relay.set_nonblocking(true).expect("set");
    assert!(relay.accept().is_err(), "tried again at once: {said}");
    let reader = Reader::open(&desk.at("store.db")).expect("a reader");
    let (notice, _) = reader.notice(1).expect("read").expect("there");
    assert_eq!((notice.state, notice.attempts), (NoticeState::Approved, 1));
}
