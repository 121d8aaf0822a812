//! Notices from what a real store holds, through a real command.

mod hooks;
mod notified;
mod samples;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::SystemTime;

use super::*;
use crate::failure::Kind;
use crate::model::notice::{Fate, NoticeKind};
use crate::model::owner::OwnerSource;
use crate::model::period::milliseconds;
use crate::reading::{Output, Place};
use crate::report::document::Form;
use crate::report::tests::{BOT, Scene, local};

const HOUR: u64 = 3_600_000;

/// A store with a bot and its verdicts, a file of contacts, and a command that keeps what it gets.
struct Office {
    folder: tempfile::TempDir,
    place: Place,
}

impl Office {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        drop(Scene::in_file(&path("store.db")));
        fs::write(
            path("contacts.csv"),
            "prefix,name,mail\n192.0.2.64/26,Physics,it@physics.example\n",
        )
        .expect("written");
        let command = format!(
            "#!/bin/sh\nn=$(ls {0} | wc -l)\necho \"$@\" > {0}/$n.arguments\ncat > {0}/$n.mail\n",
            path("out").display()
        );
        fs::create_dir(path("out")).expect("a folder");
        fs::write(path("sendmail"), command).expect("written");
        fs::set_permissions(path("sendmail"), fs::Permissions::from_mode(0o700))
            .expect("a command");
        let mut config = Config::default();
        config.store.path = path("store.db");
        config.networks.local = local();
        config.owner.order = vec![OwnerSource::Contacts];
        config.owner.contacts = vec![path("contacts.csv")];
        config.notice.enabled = true;
        config.notice.severity = Severity::Notice;
        config.notice.from = Some("abuse@example.org".to_owned());
        config.notice.organisation = Some("Example University".to_owned());
        config.notice.sendmail = Some(path("sendmail"));
        config
            .validate()
            .unwrap_or_else(|failure| panic!("{failure}"));
        Self {
            folder,
            place: Place { config },
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ledger(&self) -> NoticeLedger {
        NoticeLedger::take(&self.path("store.db")).expect("a ledger")
    }

    fn subjects(&self, ledger: &NoticeLedger, now: u64) -> Vec<Subject> {
        let config = &self.place.config;
        let mut desk = Desk::new(&config.owner, None).expect("a desk");
        let book = ledger.book(now).expect("read");
        subjects(
            &ledger.reader().expect("a reader"),
            &book,
            &mut desk,
            &logs(&config.maillog),
            &samples(&ledger.reader().expect("a reader"), config, now).expect("samples"),
        )
        .expect("subjects")
    }

    fn look(&self, ledger: &NoticeLedger, now: u64) -> Plan {
        let config = &self.place.config;
        let composer = Composer::new(&config.notice).expect("texts");
        let subjects = self.subjects(ledger, now);
        look(
            ledger,
            &policy(config).expect("a policy"),
            &composer,
            &subjects,
            now,
        )
        .expect("written")
    }

    fn send(&self, ledger: &NoticeLedger, now: u64) -> usize {
        let config = &self.place.config;
        let sender = Sender::new(&config.notice).expect("a sender");
        let policy = policy(config).expect("a policy");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime");
        runtime
            .block_on(send(ledger, &policy, &sender, || now))
            .expect("sent")
            .len()
    }

    fn arrived(&self) -> usize {
        let files = fs::read_dir(self.path("out")).expect("a folder");
        let name = |file: std::io::Result<fs::DirEntry>| file.expect("a file").file_name();
        let is_mail = |name: &std::ffi::OsString| name.to_string_lossy().ends_with(".mail");
        files.map(name).filter(is_mail).count()
    }

    fn decide(&self, to: NoticeState) -> Result<String, Failure> {
        let decision = Decision {
            ids: vec![1],
            to,
            who: "ada".to_owned(),
            why: "seen".to_owned(),
        };
        decide(&self.place, &decision, false)
    }
}

fn now() -> u64 {
    milliseconds(SystemTime::now())
}

#[test]
fn what_is_known_of_a_flagged_host_is_what_was_counted() {
    let office = Office::new();
    let ledger = office.ledger();
    let subjects = office.subjects(&ledger, now());
    let bot: IpNet = IpNet::from(BOT.parse::<IpAddr>().expect("an address"));
    let found = subjects.iter().find(|subject| subject.facts.host == bot);
    let Subject {
        facts,
        standing,
        owner,
        sample: _,
    } = found.expect("the bot");
    assert_eq!(*standing, Standing::Flagged);
    // Thirty servers, four connections to each, in three hours; all took a message.
    assert_eq!((facts.connections, facts.servers), (360, 30));
    assert_eq!(
        (facts.conversations, facts.delivered, facts.rejected),
        (360, 360, 0)
    );
    assert_eq!((facts.packets, facts.bytes), (3600, 1_800_000));
    assert!(!facts.rules.is_empty() && facts.rules.iter().all(|rule| !rule.contains('\n')));
    let owner = owner.as_ref().expect("an owner");
    assert_eq!(
        (&*owner.name, owner.source),
        ("Physics", OwnerSource::Contacts)
    );
}

#[test]
fn a_notice_is_made_approved_and_sent_once() {
    let office = Office::new();
    let ledger = office.ledger();
    let now = now();
    office.look(&ledger, now);
    assert_eq!(office.send(&ledger, now), 0, "nobody has approved it");
    let listed = list(&office.place, &[], Output::Document(Form::Text)).expect("a list");
    assert!(
        listed.contains("waiting") && listed.contains("it@physics.example"),
        "{listed}"
    );
    let shown = show(&office.place, 1, Output::Document(Form::Text)).expect("a notice");
    assert!(
        shown.contains("Example University counts the mail connections"),
        "{shown}"
    );
    let said = office.decide(NoticeState::Approved).expect("approved");
    assert_eq!(said, "notice 1 is now approved\n");
    // It was approved by the clock of the machine.
    let now = now + 60_000;
    assert_eq!(office.send(&ledger, now), 1);
    assert_eq!(office.send(&ledger, now), 0);
    office.look(&ledger, now + HOUR);
    assert_eq!(office.send(&ledger, now + HOUR), 0);
    assert_eq!(office.arrived(), 1);
    let arguments = fs::read_to_string(office.path("out/0.arguments")).expect("arguments");
    assert_eq!(arguments, "-i -f abuse@example.org -- it@physics.example\n");
    let mail = fs::read(office.path("out/0.mail")).or_else(|_| fs::read(office.path("out/1.mail")));
    assert_eq!(
        mail.expect("a message"),
        message(&office.place, 1).expect("a message").as_bytes()
    );
    let (notice, events) = ledger
        .reader()
        .expect("a reader")
        .notice(1)
        .expect("read")
        .expect("there");
    assert_eq!(
        (notice.kind, notice.state),
        (NoticeKind::First, NoticeState::Sent)
    );
    assert_eq!(notice.recipients[0].fate, Fate::Taken);
    let who: Vec<&str> = events.iter().map(|event| &*event.who).collect();
    assert_eq!(who, ["smtpflow", "ada", "smtpflow"]);
    let failure = office
        .decide(NoticeState::Rejected)
        .expect_err("it has left");
    assert_eq!(failure.kind, Kind::Usage);
}

#[test]
fn who_dies_while_it_sends_does_not_send_again_within_the_hour() {
    let office = Office::new();
    let ledger = office.ledger();
    let now = now();
    office.look(&ledger, now);
    office.decide(NoticeState::Approved).expect("approved");
    let book = ledger.book(now + 1).expect("read");
    ledger
        .write(&[notice::before(&book.notices[0], now + 1)])
        .expect("written");
    drop(ledger);
    let ledger = office.ledger();
    for minutes in 0..60 {
        assert_eq!(office.send(&ledger, now + 1 + minutes * 60_000), 0);
    }
    assert_eq!(office.send(&ledger, now + 1 + HOUR), 1);
    assert_eq!(office.arrived(), 1);
    let (notice, _) = ledger
        .reader()
        .expect("a reader")
        .notice(1)
        .expect("read")
        .expect("there");
    assert_eq!((notice.attempts, notice.state), (2, NoticeState::Sent));
}

#[test]
fn a_preview_says_what_would_be_told_and_notes_nothing() {
    let office = Office::new();
    let bot: IpAddr = BOT.parse().expect("an address");
    let text = preview(&office.place, Some(bot), false).expect("a preview");
    assert!(
        text.starts_with("To: it@physics.example\nSubject: [case 1] 192.0.2.66: "),
        "{text}"
    );
    let json = preview(&office.place, None, true).expect("a preview");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["notices"][0]["recipients"][0], "it@physics.example");
    let failure = preview(
        &office.place,
        Some("192.0.2.1".parse().expect("an address")),
        false,
    );
    assert!(
        failure
            .expect_err("not flagged")
            .to_string()
            .contains("smtpflow why 192.0.2.1")
    );
    let reader = office.place.reader().expect("a reader");
    assert!(reader.notices(&[]).expect("read").is_empty());
}

#[test]
fn hosts_of_a_case_that_were_resolved_are_quiet_and_wrong_ones_mistaken() {
    let office = Office::new();
    let ledger = office.ledger();
    let now = now();
    office.look(&ledger, now);
    let book = ledger.book(now).expect("read");
    let verdicts: Vec<u64> = book.cases[0]
        .hosts
        .iter()
        .flat_map(|host| host.facts.verdicts.clone())
        .collect();
    let standing = |to, from: &NoticeLedger| {
        for id in &verdicts {
            let change = crate::store::PersonalChange {
                id: *id,
                to,
                who: "ada",
                why: "looked at it",
                at: now,
            };
            crate::store::change_verdict(&office.path("store.db"), &change).expect("changed");
        }
        let subjects = office.subjects(from, now);
        let hosts = book.cases[0].hosts.iter().map(|host| host.facts.host);
        let of = |host| subjects.iter().find(|subject| subject.facts.host == host);
        hosts
            .map(|host| of(host).map(|subject| subject.standing))
            .collect::<Vec<_>>()
    };
    let number = book.cases[0].hosts.len();
    assert_eq!(
        standing(VerdictState::Resolved, &ledger),
        vec![Some(Standing::Quiet); number]
    );
    assert_eq!(
        standing(VerdictState::FalsePositive, &ledger),
        vec![Some(Standing::Mistaken); number]
    );
}

#[test]
fn texts_that_are_shipped_can_be_printed() {
    assert!(templates("de").expect("German").contains("== first"));
    let failure = templates("tlh").expect_err("none");
    assert!(
        failure.to_string().contains("en, de, fr, zh_tw"),
        "{failure}"
    );
}
