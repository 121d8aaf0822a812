//! An office that tells owners: a laboratory with a real Postfix that has their mailbox, a store, and what there is to
//! tell.

use std::cell::Cell;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use smtp_user::model::notice::{Addressee, Facts, Notice, NoticeState, Standing, Subject};
use smtp_user::model::owner::OwnerSource;
use smtp_user::model::period::Period;
use smtp_user::model::verdict::Severity;
use smtp_user::notice::{Composer, Policy, Sender, Settings};
use smtp_user::server::Server;
use smtp_user::store::{NoticeDecision, NoticeLedger, Reader, Store, decide_notice};
use smtp_user::telling;
use xtask::lab::{Lab, Postfix, Relaying, Topology};

/// Of a certificate for 127.0.0.1, as in the unit tests.
pub const AUTHORITY: &str = include_str!("../../smtp-user/src/notice/send/tests/authority.pem");
/// The certificate itself.
const CERTIFICATE: &str = include_str!("../../smtp-user/src/notice/send/tests/relay.pem");
/// Its key.
const KEY: &str = include_str!("../../smtp-user/src/notice/send/tests/relay.key");
/// 2026-11-27T00:00:00Z.
pub const NOW: u64 = 1_795_737_600_000;
/// A minute, in milliseconds.
pub const MINUTE: u64 = 60_000;
/// An hour, in milliseconds.
pub const HOUR: u64 = 60 * MINUTE;
/// How long a message may take to arrive.
pub const ARRIVAL: Duration = Duration::from_secs(30);

/// Gives a Postfix with this folder of configuration, which Postfix's users can read, a certificate for 127.0.0.1.
pub fn certify(config: &Path) {
    fs::create_dir_all(config).expect("a folder");
    fs::set_permissions(config, fs::Permissions::from_mode(0o755)).expect("a mode");
    fs::write(config.join("relay.pem"), CERTIFICATE).expect("written");
    let key = fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(config.join("relay.key"));
    key.expect("a file")
        .write_all(KEY.as_bytes())
        .expect("written");
}

/// A laboratory with a Postfix that keeps mail for desk.example, and a store.
pub struct Office {
    /// The laboratory.
    pub lab: Lab,
    postfix: Option<Postfix>,
    ledger: NoticeLedger,
    /// Who is told what.
    pub policy: Policy,
    /// The time, in milliseconds since 1970.
    pub now: Cell<u64>,
    folder: tempfile::TempDir,
}

impl Office {
    /// Without a Postfix yet.
    pub fn new(prefix: &str) -> Self {
        let lab = Lab::gateway(prefix, Topology::default()).expect("a laboratory");
        let folder = tempfile::tempdir().expect("a folder");
        let authorities = folder.path().join("authorities.pem");
        fs::write(&authorities, AUTHORITY).expect("written");
        let settings = Settings {
            enabled: true,
            from: Some("abuse@example.org".to_owned()),
            organisation: Some("Example University".to_owned()),
            languages: vec!["en".to_owned(), "zh_tw".to_owned()],
            relay: Some(Server::parse("127.0.0.1:25").expect("a relay")),
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
    pub fn start(&mut self) {
        let config = self.lab.folder().join("postfix-mailbox/etc");
        certify(&config);
        let at = [IpAddr::from(Ipv4Addr::LOCALHOST)];
        self.postfix = Some(
            self.lab
                .postfix_for(Relaying::Mailbox, &at)
                .expect("postfix"),
        );
    }

    /// Makes what there is to tell of these.
    pub fn look(&self, subjects: &[Subject]) {
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

    /// Sends from where Postfix is; gives how many were tried.
    pub fn send(&self) -> usize {
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
        sent.expect("the namespace").expect("noted").len()
    }

    /// A person lets it leave.
    pub fn approve(&self, id: u64) {
        approve(&self.folder.path().join("store.db"), id, self.now.get());
    }

    /// As it is in the store.
    pub fn notice(&self, id: u64) -> Notice {
        let reader = Reader::open(&self.folder.path().join("store.db")).expect("a reader");
        reader.notice(id).expect("read").expect("there").0
    }

    /// The messages of the mailbox, once there are so many.
    pub fn mailbox(&self, number: usize) -> Vec<Vec<u8>> {
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
pub fn ledger(path: &Path) -> NoticeLedger {
    drop(Store::open(path, 100).expect("a store"));
    NoticeLedger::take(path).expect("a ledger")
}

/// A person lets a notice of this store leave.
pub fn approve(store: &Path, id: u64, at: u64) {
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

fn mails(folder: &Path) -> Vec<Vec<u8>> {
    let Ok(files) = fs::read_dir(folder) else {
        return Vec::new();
    };
    files
        .map(|file| fs::read(file.expect("a file").path()).expect("a message"))
        .collect()
}

/// A flagged host, and who looks after it.
pub fn subject(host: &str, mail: &[&str]) -> Subject {
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
        sample: None,
    }
}
