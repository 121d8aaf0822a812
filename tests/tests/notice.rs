//! Notices through a real Postfix, into a real mailbox: what arrives is read by libraries that are not ours.

use std::cell::Cell;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use mailparse::{MailHeaderMap as _, parse_mail};
use smtp_user::model::notice::{
    Addressee, Facts, Fate, Notice, NoticeChange, NoticeState, Standing, Subject,
};
use smtp_user::model::owner::OwnerSource;
use smtp_user::model::period::Period;
use smtp_user::model::verdict::Severity;
use smtp_user::notice::{Composer, Policy, RelayServer, Sender, Settings};
use smtp_user::store::{NoticeDecision, Reader, Store, decide_notice};
use smtp_user::telling;
use xtask::lab::{Lab, Postfix, REFUSED, Relaying, Topology};

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
    store: Store,
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
        let store = Store::open(&folder.path().join("store.db"), 100).expect("a store");
        Self {
            lab,
            postfix: None,
            store,
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

    fn look(&mut self, subjects: &[Subject]) {
        let composer = Composer::new(&self.policy.settings).expect("texts");
        telling::look(
            &mut self.store,
            &self.policy,
            &composer,
            subjects,
            self.now.get(),
        )
        .expect("noted");
    }

    /// Sends from where Postfix is.
    fn send(&mut self) -> usize {
        let sender = Sender::new(&self.policy.settings).expect("a sender");
        let (store, policy, now) = (&mut self.store, &self.policy, self.now.get());
        let sent = self.lab.within("servers", move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime
                .expect("a runtime")
                .block_on(telling::send(store, policy, &sender, move || now))
        });
        sent.expect("the namespace").expect("noted")
    }

    fn approve(&self, id: u64) {
        let decision = NoticeDecision {
            id,
            to: NoticeState::Approved,
            who: "ada",
            why: "looked at it",
            at: self.now.get(),
            expires_after: 72 * HOUR,
        };
        decide_notice(&self.folder.path().join("store.db"), &decision).expect("approved");
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
        let json = part.get_body().expect("JSON");
        let read = xarf::parse(&json).expect("a report");
        assert!(read.errors.is_empty(), "{:?}", read.errors);
        assert_eq!(read.report.expect("a report").source_identifier, host);
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
