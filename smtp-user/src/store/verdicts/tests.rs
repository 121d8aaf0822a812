//! Tests of verdicts in the store, with files and several connections.

use std::path::PathBuf;

use super::*;
use crate::model::period::Period;
use crate::model::person::SMTPFLOW;
use crate::model::verdict::{Figure, Holding, Rule};

struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("smtpflow.db")
    }

    fn open(&self) -> Store {
        Store::open(&self.path(), 100).expect("a store")
    }
}

fn verdict(id: u64, subject: &str, detector: &str) -> Verdict {
    Verdict {
        id,
        subject: subject.parse().expect("a prefix"),
        detector: detector.to_owned(),
        severity: Severity::Warning,
        size: Some(SizeClass::Small),
        failing: true,
        state: VerdictState::New,
        opened_at: 1000 * id,
        last_at: 1000 * id,
        changed_at: 1000 * id,
        reopened: 0,
        rule: Rule {
            detector: detector.to_owned(),
            text: "more than 100".to_owned(),
            severity: Severity::Warning,
            period: Period { from: 0, to: 1000 },
            figures: vec![Figure {
                name: "connections".to_owned(),
                value: 100.3,
                limit: 100.0,
                below: false,
                unit: "connections".to_owned(),
            }],
            holding: Holding::Holds,
        },
    }
}

fn opened(verdict: &Verdict) -> VerdictChange {
    let event = VerdictEvent {
        verdict: verdict.id,
        at: verdict.opened_at,
        who: SMTPFLOW.to_owned(),
        from: None,
        to: VerdictState::New,
        why: "more than 100".to_owned(),
    };
    VerdictChange::Opened(verdict.clone(), event)
}

fn by_person(id: u64, to: VerdictState) -> PersonalChange<'static> {
    PersonalChange {
        id,
        to,
        who: "ada",
        why: "looked at it",
        at: 5000,
    }
}

#[test]
fn verdicts_are_there_after_a_restart_as_they_were_written() {
    let folder = Folder::new();
    let verdicts = [
        verdict(1, "192.0.2.1/32", "volume"),
        verdict(2, "192.0.2.1/32", "fanout"),
        verdict(3, "2001:db8::/64", "volume"),
    ];
    let changes: Vec<_> = verdicts.iter().map(opened).collect();
    let mut store = folder.open();
    store.write_verdicts(&changes).expect("written");
    // Again, as after an error.
    store.write_verdicts(&changes).expect("written");
    drop(store);
    let store = folder.open();
    let (read, next) = store.load_verdicts(0).expect("read");
    assert_eq!((read.as_slice(), next), (verdicts.as_slice(), 4));
    let events = store.verdict_events(1).expect("read");
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].from, events[0].to), (None, VerdictState::New));
}

#[test]
fn a_second_open_verdict_of_a_subject_and_detector_is_refused_by_the_file() {
    let folder = Folder::new();
    let mut store = folder.open();
    let first = verdict(1, "192.0.2.1/32", "volume");
    let second = verdict(2, "192.0.2.1/32", "volume");
    let changes = [opened(&first), opened(&second)];
    store.write_verdicts(&changes).expect("written");
    let (read, _) = store.load_verdicts(0).expect("read");
    assert_eq!(read, [first]);
    assert!(store.verdict_events(2).expect("read").is_empty());
}

#[test]
fn filters_find_what_they_say() {
    let folder = Folder::new();
    let mut store = folder.open();
    let changes = [
        opened(&verdict(1, "192.0.2.1/32", "volume")),
        opened(&verdict(2, "192.0.2.2/32", "volume")),
        opened(&verdict(3, "2001:db8::/64", "fanout")),
        opened(&verdict(4, "2001:db8::1/128", "burst")),
    ];
    store.write_verdicts(&changes).expect("written");
    change_verdict(&folder.path(), &by_person(2, VerdictState::Resolved)).expect("changed");
    let ids = |filter: VerdictFilter| -> Vec<u64> {
        let found = store.verdicts(&filter).expect("read");
        found.iter().map(|verdict| verdict.id).collect()
    };
    let all = VerdictFilter::default();
    assert_eq!(ids(all.clone()), [4, 3, 2, 1]);
    assert_eq!(
        ids(VerdictFilter {
            states: vec![VerdictState::New, VerdictState::Acknowledged],
            ..all.clone()
        }),
        [4, 3, 1]
    );
    for (subject, expected) in [
        ("192.0.2.1/32", vec![1]),
        ("2001:db8::1/128", vec![4, 3]),
        ("2001:db8::2/128", vec![3]),
        ("2001:db8::/64", vec![3]),
        ("192.0.2.0/24", vec![]),
    ] {
        let subject = Some(subject.parse().expect("a prefix"));
        assert_eq!(
            ids(VerdictFilter {
                subject,
                ..all.clone()
            }),
            expected,
            "{subject:?}"
        );
    }
    assert_eq!(
        ids(VerdictFilter {
            detector: Some("volume".to_owned()),
            ..all.clone()
        }),
        [2, 1]
    );
    // The second one was changed at 5000.
    assert_eq!(
        ids(VerdictFilter {
            since: Some(4000),
            ..all
        }),
        [4, 2]
    );
}

#[test]
fn a_person_changes_a_verdict_while_the_agent_has_the_file() {
    let folder = Folder::new();
    let mut store = folder.open();
    let mut mine = verdict(1, "192.0.2.1/32", "volume");
    store.write_verdicts(&[opened(&mine)]).expect("written");
    let version = store.data_version().expect("read");
    store
        .write_verdicts(&[VerdictChange::Held(mine.clone())])
        .expect("written");
    assert_eq!(
        store.data_version().expect("read"),
        version,
        "own writes do not count"
    );

    let changed = change_verdict(&folder.path(), &by_person(1, VerdictState::FalsePositive));
    let (changed, events) = changed.expect("changed");
    assert_eq!(
        (changed.state, events.len()),
        (VerdictState::FalsePositive, 2)
    );
    assert_ne!(store.data_version().expect("read"), version);

    // What the agent finds does not overwrite what the person has decided.
    mine.last_at = 9000;
    mine.severity = Severity::Critical;
    store
        .write_verdicts(&[VerdictChange::Held(mine.clone())])
        .expect("written");
    let event = mine
        .move_to(VerdictState::Resolved, SMTPFLOW, "quiet", 9000)
        .expect("allowed");
    store
        .write_verdicts(&[VerdictChange::Moved(mine, event)])
        .expect("written");
    let (read, _) = store.load_verdicts(0).expect("read");
    assert_eq!(read[0].state, VerdictState::FalsePositive);
    assert_eq!(
        (read[0].last_at, read[0].severity),
        (9000, Severity::Critical)
    );
    let events = store.verdict_events(1).expect("read");
    let whos: Vec<_> = events.iter().map(|event| event.who.as_str()).collect();
    assert_eq!(whos, [SMTPFLOW, "ada"]);
}

#[test]
fn what_people_have_changed_is_told_apart_from_what_the_agent_has() {
    let folder = Folder::new();
    let mut store = folder.open();
    let changes = [
        opened(&verdict(1, "192.0.2.1/32", "volume")),
        opened(&verdict(2, "192.0.2.2/32", "volume")),
    ];
    store.write_verdicts(&changes).expect("written");
    let (news, last) = store.personal_events(0).expect("read");
    assert_eq!((news.as_slice(), last), (&[][..], 2));
    change_verdict(&folder.path(), &by_person(2, VerdictState::Acknowledged)).expect("changed");
    change_verdict(&folder.path(), &by_person(2, VerdictState::Resolved)).expect("changed");
    let (news, last) = store.personal_events(last).expect("read");
    assert_eq!(last, 4);
    let told: Vec<_> = news
        .iter()
        .map(|news| (news.event.verdict, news.event.to, news.verdict.state))
        .collect();
    // The verdict is as it is now.
    assert_eq!(
        told,
        [
            (2, VerdictState::Acknowledged, VerdictState::Resolved),
            (2, VerdictState::Resolved, VerdictState::Resolved)
        ]
    );
    assert_eq!(store.personal_events(last).expect("read"), (vec![], 4));
    assert_eq!(store.personal_events(u64::MAX).expect("read"), (vec![], 4));
}

#[test]
fn a_change_that_is_refused_changes_nothing_and_says_why() {
    let folder = Folder::new();
    let mut store = folder.open();
    store
        .write_verdicts(&[opened(&verdict(1, "192.0.2.1/32", "volume"))])
        .expect("written");
    let path = folder.path();
    let refused = |change: &PersonalChange<'_>| {
        let unchanged = change_verdict(&path, change).expect_err("refused");
        let failure = Failure::from(unchanged);
        (failure.kind, failure.to_string())
    };
    let (kind, text) = refused(&by_person(1, VerdictState::New));
    assert_eq!(kind, Kind::Usage);
    assert!(text.contains("is new and cannot become new"), "{text}");
    let (_, text) = refused(&by_person(9, VerdictState::Resolved));
    assert!(text.contains("no verdict 9"), "{text}");
    let change = PersonalChange {
        who: "",
        ..by_person(1, VerdictState::Resolved)
    };
    assert_eq!(refused(&change).0, Kind::Usage);

    // Another one was opened after this was resolved: it cannot be new again.
    change_verdict(&path, &by_person(1, VerdictState::Resolved)).expect("changed");
    store
        .write_verdicts(&[opened(&verdict(2, "192.0.2.1/32", "volume"))])
        .expect("written");
    let (_, text) = refused(&by_person(1, VerdictState::New));
    assert!(
        text.contains("another verdict of 192.0.2.1/32 by volume is open"),
        "{text}"
    );
    assert_eq!(store.verdict_events(1).expect("read").len(), 2);
}

#[test]
fn a_file_of_somebody_else_is_named_and_left_alone() {
    let folder = Folder::new();
    let path = folder.path();
    let change = by_person(1, VerdictState::Resolved);
    let failure = Failure::from(change_verdict(&path, &change).expect_err("nothing is there"));
    assert!(
        failure.to_string().contains(&path.display().to_string()),
        "{failure}"
    );
    assert!(!path.exists(), "it was made");
    let foreign = Connection::open(&path).expect("a database");
    foreign
        .execute_batch("CREATE TABLE verdict (id)")
        .expect("a table");
    let failure = Failure::from(change_verdict(&path, &change).expect_err("foreign"));
    assert!(
        failure.to_string().contains("of another program"),
        "{failure}"
    );
}
