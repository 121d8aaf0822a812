//! Notices through a real Postfix, into a real mailbox: what arrives is read by libraries that are not ours, and
//! held against the schemas of XARF by a validator that is not ours either. And the process that does all that.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mailparse::{MailHeaderMap as _, parse_mail};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use smtp_user::model::mail::KeptAddresses;
use smtp_user::model::notice::{Fate, Notice, NoticeChange, NoticeState};
use smtp_user::model::sample::{KeptHeader, Sample};
use smtp_user::notice::{Composer, Policy, Sender, Settings};
use smtp_user::store::Reader;
use smtp_user::telling;
use smtpflow_tests::data;
use smtpflow_tests::office::{ARRIVAL, AUTHORITY, MINUTE, NOW, Office, approve, ledger, subject};
use smtpflow_tests::watched::tools;
use xtask::lab::{Process, REFUSED, smtpflow_binary};

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

#[test]
fn an_approved_notice_arrives_in_a_mailbox_and_others_can_read_it() {
    let mut office = Office::new("notmail");
    office.start();
    let hosts = ["192.0.2.7/32", "192.0.2.8/32"];
    let mut subjects = hosts.map(|host| subject(host, &["it@desk.example"]));
    subjects[1].sample = Some(Sample {
        address: "192.0.2.8".parse().expect("an address"),
        happened_at: Some(NOW),
        header: KeptHeader {
            addresses: KeptAddresses::Domain,
            domain: None,
            text: "From: <redacted-0123456789abcdef@shop.example>\r\nSubject: Earn money\r\n"
                .to_owned(),
        },
    });
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
    let [xarf, arf] = &mail.subparts[..] else {
        panic!("{} parts", mail.subparts.len());
    };
    let text = xarf.subparts[0]
        .get_body()
        .expect("text")
        .replace("\r\n", "\n");
    assert_eq!(text.trim_end(), notice.text.trim_end());
    let report = mailrs_arf::parse(xarf.raw_bytes).expect("a feedback report");
    assert_eq!(report.feedback_type, "xarf");
    // What somebody has complained about, as its header came.
    let report = mailrs_arf::parse(arf.raw_bytes).expect("a feedback report");
    assert_eq!(report.feedback_type, "abuse");
    assert_eq!(report.source_ip.as_deref(), Some("192.0.2.8"));
    let header = arf.subparts[2].get_body_raw().expect("bytes");
    let (fields, _) = mailparse::parse_headers(&header).expect("a header");
    assert_eq!(
        fields.get_first_value("Subject").as_deref(),
        Some("Earn money")
    );
    let reports = &xarf.subparts[2].subparts;
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
