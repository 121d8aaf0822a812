//! Notices in the store, on a real file.

use super::*;
use crate::failure::Kind;
use crate::model::notice::{Addressee, CaseHost, Facts, Fate, Hook, LogFacts, Recipient, Standing};
use crate::model::owner::OwnerSource;
use crate::model::period::Period;
use crate::model::person::SMTPFLOW;
use crate::model::verdict::Severity;
use crate::store::{Store, Unchanged};

/// 2026-11-27T00:00:00Z.
const NOW: u64 = 1_795_737_600_000;
const HOUR: u64 = 3_600_000;

/// A file, the agent that has it open, and who makes notices beside it.
struct Folder {
    folder: tempfile::TempDir,
    agent: Option<Store>,
    ledger: Option<NoticeLedger>,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut new = Self {
            folder,
            agent: None,
            ledger: None,
        };
        new.reopen();
        new
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("store.db")
    }

    fn ledger(&self) -> &NoticeLedger {
        self.ledger.as_ref().expect("taken")
    }

    /// As after a crash and a restart.
    fn reopen(&mut self) {
        (self.agent, self.ledger) = (None, None);
        self.agent = Some(Store::open(&self.path(), 100).expect("a store"));
        self.ledger = Some(NoticeLedger::take(&self.path()).expect("a ledger"));
    }

    fn book(&self, now: u64) -> Book {
        self.ledger().book(now).expect("read")
    }

    fn reader(&self) -> Reader {
        Reader::open(&self.path()).expect("a reader")
    }

    fn decide(&self, id: u64, to: NoticeState) -> Result<Notice, Unchanged> {
        let decision = NoticeDecision {
            id,
            to,
            who: "ada",
            why: "seen",
            at: NOW + HOUR,
            expires_after: 24 * HOUR,
        };
        decide_notice(&self.path(), &decision)
    }
}

fn case(id: u64, owner: &str) -> Case {
    let facts = Facts {
        host: "2001:db8:0:1::/64".parse().expect("a prefix"),
        verdicts: vec![3, 4],
        rules: vec!["a rule".to_owned()],
        severity: Severity::Critical,
        first_at: NOW - 1,
        last_at: NOW,
        period: Period { from: 0, to: NOW },
        connections: 1,
        conversations: 2,
        delivered: 3,
        rejected: 4,
        packets: 5,
        bytes: 6,
        servers: 7,
        log: Some(LogFacts {
            since: 1,
            messages: 8,
            recipients: 9,
            rejects: 10,
        }),
    };
    Case {
        id,
        owner: owner.to_owned(),
        addressee: Addressee {
            name: "Zoë".to_owned(),
            mail: vec![owner.to_owned()],
            source: OwnerSource::Rdap,
        },
        opened_at: NOW,
        closed_at: None,
        sequence: 1,
        pressed: 0,
        last_message_id: Some("a@b".to_owned()),
        hosts: vec![CaseHost {
            facts,
            standing: Standing::Flagged,
            told_at: Some(NOW),
            pressed_at: None,
        }],
    }
}

fn made(id: u64, case: Option<u64>) -> (Notice, NoticeEvent) {
    let notice = Notice {
        id,
        case,
        kind: NoticeKind::First,
        state: NoticeState::Waiting,
        recipients: vec![Recipient {
            mail: "a@x.example".to_owned(),
            fate: Fate::Pending,
        }],
        hosts: vec!["192.0.2.1/32".parse().expect("a prefix")],
        made_at: NOW,
        changed_at: NOW,
        expires_at: NOW + 72 * HOUR,
        next_at: NOW,
        attempts: 0,
        left_at: None,
        message_id: format!("{id}@example.org"),
        subject: "s".to_owned(),
        text: "t".to_owned(),
        message: vec![0, 13, 10, 255],
        last_reply: None,
    };
    let event = NoticeEvent {
        notice: id,
        at: NOW,
        who: SMTPFLOW.to_owned(),
        from: None,
        to: NoticeState::Waiting,
        why: "made".to_owned(),
    };
    (notice, event)
}

/// One case with one notice.
fn begun() -> Folder {
    let folder = Folder::new();
    let (notice, event) = made(1, Some(1));
    let changes = [
        NoticeChange::Case(case(1, "a@x.example")),
        NoticeChange::Made(notice, event),
    ];
    folder.ledger().write(&changes).expect("written");
    folder
}

#[test]
fn what_was_noted_is_there_after_a_restart_and_can_be_noted_twice() {
    let mut folder = Folder::new();
    assert_eq!(
        folder.book(NOW),
        Book {
            next_case: 1,
            next_notice: 1,
            ..Book::default()
        }
    );
    let (notice, event) = made(1, Some(1));
    let changes = [
        NoticeChange::Case(case(1, "a@x.example")),
        NoticeChange::Made(notice.clone(), event.clone()),
    ];
    for _ in 0..2 {
        folder.ledger().write(&changes).expect("written");
    }
    folder.reopen();
    let mut expected = Book::default();
    expected.apply(&changes);
    assert_eq!(folder.book(NOW), expected);
    assert_eq!(folder.reader().notice_book(NOW).expect("read"), expected);
    let (found, events) = folder.reader().notice(1).expect("read").expect("there");
    assert_eq!((found, events), (notice, vec![event]));
}

#[test]
fn a_step_is_noted_whole_or_not_at_all() {
    let folder = begun();
    let (notice, event) = made(2, Some(2));
    // The owner has an open case.
    let changes = [
        NoticeChange::Made(notice, event),
        NoticeChange::Case(case(2, "a@x.example")),
    ];
    let failure = folder.ledger().write(&changes).expect_err("no second case");
    assert!(failure.to_string().contains("store.db"), "{failure}");
    assert_eq!(folder.reader().notice(2).expect("read"), None);
    assert_eq!(folder.book(NOW).next_notice, 2);
}

#[test]
fn a_message_id_is_given_once() {
    let folder = begun();
    let (mut notice, event) = made(2, Some(1));
    notice.message_id = "1@example.org".to_owned();
    folder
        .ledger()
        .write(&[NoticeChange::Made(notice, event)])
        .expect_err("the same Message-ID");
}

#[test]
fn a_person_decides_once_and_who_it_was_is_kept() {
    let folder = begun();
    let approved = folder.decide(1, NoticeState::Approved).expect("approved");
    assert_eq!(approved.state, NoticeState::Approved);
    assert_eq!(
        (approved.next_at, approved.expires_at),
        (NOW + HOUR, NOW + 25 * HOUR)
    );
    assert_eq!(folder.book(NOW).notices, [approved]);
    let Err(Unchanged::Conflict(error)) = folder.decide(1, NoticeState::Approved) else {
        panic!("approved twice");
    };
    assert_eq!(error, "notice 1 is approved and cannot become approved");
    let Err(Unchanged::Absent(error)) = folder.decide(9, NoticeState::Rejected) else {
        panic!("there is none");
    };
    assert!(error.contains("smtpflow notice list"), "{error}");
    let (_, events) = folder.reader().notice(1).expect("read").expect("there");
    assert_eq!((&*events[1].who, &*events[1].why), ("ada", "seen"));
    // What the agent has planned meanwhile does not overwrite it.
    let (mut notice, _) = made(1, Some(1));
    let event = notice
        .move_to(NoticeState::Superseded, SMTPFLOW, "more", NOW)
        .expect("it can");
    folder
        .ledger()
        .write(&[NoticeChange::Moved(notice, event)])
        .expect("written");
    let (found, events) = folder.reader().notice(1).expect("read").expect("there");
    assert_eq!((found.state, events.len()), (NoticeState::Approved, 2));
    folder.decide(1, NoticeState::Rejected).expect("rejected");
    assert_eq!(folder.book(NOW).declined.len(), 1);
    assert!(folder.book(NOW).declined[0].by_person);
    assert!(folder.book(NOW + 31 * 24 * HOUR).declined.is_empty());
}

#[test]
fn nobody_decides_in_the_name_of_the_agent_or_without_a_reason() {
    let folder = begun();
    let decide = |who, why| {
        let decision = NoticeDecision {
            id: 1,
            to: NoticeState::Approved,
            who,
            why,
            at: NOW,
            expires_after: HOUR,
        };
        decide_notice(&folder.path(), &decision)
    };
    for (who, why) in [("smtpflow", "x"), ("ada", ""), ("ada", "a\nb")] {
        assert!(
            matches!(decide(who, why), Err(Unchanged::Invalid(_))),
            "{who} {why:?}"
        );
    }
}

#[test]
fn that_it_has_left_is_noted_whatever_was_decided_meanwhile() {
    let mut folder = begun();
    let approved = folder.decide(1, NoticeState::Approved).expect("approved");
    folder
        .decide(1, NoticeState::Rejected)
        .expect("rejected, too late");
    let mut sent = Notice {
        attempts: 1,
        left_at: Some(NOW + HOUR),
        last_reply: Some("250 2.0.0 OK".to_owned()),
        ..approved
    };
    sent.recipients[0].fate = Fate::Taken;
    let event = sent
        .move_to(NoticeState::Sent, SMTPFLOW, "250", NOW + HOUR)
        .expect("it can");
    folder
        .ledger()
        .write(&[NoticeChange::Moved(sent, event)])
        .expect("written");
    folder.reopen();
    let (found, events) = folder.reader().notice(1).expect("read").expect("there");
    assert_eq!(
        (found.state, found.left_at),
        (NoticeState::Rejected, Some(NOW + HOUR))
    );
    assert_eq!(found.recipients[0].fate, Fate::Taken);
    assert_eq!(events.len(), 3);
    let departures = folder.book(NOW + 2 * HOUR).departures;
    assert_eq!((departures.len(), departures[0].at), (1, NOW + HOUR));
    assert!(folder.book(NOW + 26 * HOUR).departures.is_empty());
    // A clock that was set back hides nothing.
    assert_eq!(folder.book(NOW - 10 * HOUR).departures.len(), 1);
}

#[test]
fn attempts_are_counted_and_never_fewer() {
    let folder = begun();
    folder.decide(1, NoticeState::Approved).expect("approved");
    let tried = |attempts, next_at| {
        let (notice, _) = made(1, Some(1));
        NoticeChange::Tried(Notice {
            attempts,
            next_at,
            last_reply: Some(format!("attempt {attempts}")),
            ..notice
        })
    };
    for change in [tried(2, NOW + 2), tried(1, NOW + 1)] {
        folder.ledger().write(&[change]).expect("written");
    }
    let notice = &folder.book(NOW).notices[0];
    assert_eq!(
        (notice.attempts, notice.next_at, notice.state),
        (2, NOW + 2, NoticeState::Approved)
    );
    assert_eq!(notice.last_reply.as_deref(), Some("attempt 2"));
}

#[test]
fn a_closed_case_makes_room_for_another_one() {
    let folder = begun();
    let mut closed = case(1, "a@x.example");
    closed.closed_at = Some(NOW + 1);
    let changes = [
        NoticeChange::Case(closed),
        NoticeChange::Case(case(2, "a@x.example")),
    ];
    folder.ledger().write(&changes).expect("written");
    let book = folder.book(NOW);
    assert_eq!(
        (book.cases.len(), book.cases[0].id, book.next_case),
        (1, 2, 3)
    );
}

#[test]
fn notices_are_listed_by_state_the_latest_first() {
    let folder = begun();
    for id in 2..=4 {
        let (notice, event) = made(id, Some(1));
        folder
            .ledger()
            .write(&[NoticeChange::Made(notice, event)])
            .expect("written");
    }
    folder.decide(3, NoticeState::Approved).expect("approved");
    let ids = |states: &[NoticeState]| -> Vec<u64> {
        let notices = folder.reader().notices(states).expect("read");
        notices.iter().map(|notice| notice.id).collect()
    };
    assert_eq!(ids(&[]), [4, 3, 2, 1]);
    assert_eq!(ids(&[NoticeState::Waiting]), [4, 2, 1]);
    assert_eq!(ids(&[NoticeState::Approved]), [3]);
}

#[test]
fn one_process_has_the_notices_of_a_store() {
    let mut folder = Folder::new();
    let Err(failure) = NoticeLedger::take(&folder.path()) else {
        panic!("taken twice");
    };
    assert_eq!(failure.kind, Kind::Unavailable);
    assert!(
        failure
            .to_string()
            .contains("another `smtpflow notice run`"),
        "{failure}"
    );
    folder.ledger = None;
    NoticeLedger::take(&folder.path()).expect("free again");
    let nowhere = folder.path().join("nowhere/store.db");
    assert!(NoticeLedger::take(&nowhere).is_err());
}

#[test]
fn a_store_that_is_not_there_yet_is_an_error_until_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let ledger = NoticeLedger::take(&path).expect("a ledger");
    let (notice, event) = made(1, None);
    let changes = [NoticeChange::Made(notice, event)];
    assert!(ledger.book(NOW).is_err() && ledger.write(&changes).is_err());
    let _agent = Store::open(&path, 100).expect("a store");
    ledger.write(&changes).expect("written");
    assert_eq!(ledger.book(NOW).expect("read").next_notice, 2);
}

#[test]
fn a_hook_is_owed_what_waits_and_what_was_sent_until_it_has_taken_it() {
    let folder = begun();
    let due = |hook, now| {
        let calls = folder.ledger().calls(hook, now).expect("read");
        calls
            .iter()
            .map(|call| (call.event, call.to, call.attempts))
            .collect::<Vec<_>>()
    };
    let waits = (1, NoticeState::Waiting, 0);
    assert_eq!(due(Hook::Webhook, NOW), [waits]);
    let call = folder.ledger().calls(Hook::Webhook, NOW).expect("read")[0];
    // It failed, and is tried again in a minute.
    folder
        .ledger()
        .write_call(Hook::Webhook, &call, Some(NOW + 60_000))
        .expect("noted");
    assert_eq!(due(Hook::Webhook, NOW), []);
    assert_eq!(
        due(Hook::Webhook, NOW + 60_000),
        [(1, NoticeState::Waiting, 1)]
    );
    // The other hook is owed its own.
    assert_eq!(due(Hook::Command, NOW), [waits]);
    // What a person has decided is none of its business, that it was sent is.
    let approved = folder.decide(1, NoticeState::Approved).expect("approved");
    let mut sent = approved.clone();
    let event = sent
        .move_to(NoticeState::Sent, SMTPFLOW, "250", NOW + HOUR)
        .expect("it can");
    folder
        .ledger()
        .write(&[NoticeChange::Moved(sent, event)])
        .expect("written");
    let calls = folder
        .ledger()
        .calls(Hook::Webhook, NOW + HOUR)
        .expect("read");
    assert_eq!(calls.len(), 2);
    for call in &calls {
        folder
            .ledger()
            .write_call(Hook::Webhook, call, None)
            .expect("noted");
    }
    assert_eq!(due(Hook::Webhook, NOW + HOUR), []);
    assert_eq!(due(Hook::Command, NOW + HOUR).len(), 2);
    // After a day it is no news any more.
    assert_eq!(due(Hook::Command, NOW + 26 * HOUR), []);
}
