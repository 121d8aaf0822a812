//! Known relays in the store, on a real file.

use super::*;
use crate::failure::Kind;
use crate::model::verdict::{VerdictFilter, VerdictState};
use crate::report::tests::{BOT, Scene};
use crate::store::Reader;

/// 2026-11-25T00:00:00Z.
const NOW: u64 = 1_795_564_800_000;
const DAY: u64 = 86_400_000;

/// A file with a spam bot, its verdicts, and the agent that has it open.
struct Folder {
    folder: tempfile::TempDir,
    scene: Option<Scene>,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let scene = Scene::in_file(&folder.path().join("store.db"));
        Self {
            folder,
            scene: Some(scene),
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("store.db")
    }

    fn list(&self) -> Vec<StoredRelay> {
        let reader = Reader::open(&self.path()).expect("a reader");
        reader.relays().expect("read")
    }

    fn add(&self, relay: &Relay, at: u64) -> Result<(StoredRelay, Vec<Verdict>), Unchanged> {
        let who = "anna";
        add_relay(&self.path(), &NewRelay { relay, who, at })
    }

    fn end(&self, prefix: &str, why: &str) -> Result<StoredRelay, Unchanged> {
        let end = RelayEnd {
            prefix: prefix.parse().expect("a prefix"),
            who: "bob",
            why,
            at: NOW + 1,
        };
        end_relay(&self.path(), &end)
    }
}

fn relay(prefix: &str) -> Relay {
    Relay {
        prefix: prefix.parse().expect("a prefix"),
        reason: "the relay of the staff".to_owned(),
        owner: "postmaster@example.org".to_owned(),
        expires: None,
        connections: Some(5000),
    }
}

#[test]
fn an_entry_is_there_with_who_added_and_who_ended_it_and_why() {
    let folder = Folder::new();
    let mine = Relay {
        expires: Some(jiff::civil::date(2027, 6, 30)),
        ..relay("192.0.2.25/32")
    };
    let (stored, resolved) = folder.add(&mine, NOW).expect("added");
    assert!(resolved.is_empty(), "{resolved:?}");
    assert_eq!(folder.list(), std::slice::from_ref(&stored));
    assert_eq!(
        (&stored.relay, stored.added_at, &*stored.added_by),
        (&mine, NOW, "anna")
    );
    let ended = folder.end("192.0.2.25/32", "it was moved").expect("ended");
    let expected = Ended {
        at: NOW + 1,
        by: "bob".to_owned(),
        why: "it was moved".to_owned(),
    };
    assert_eq!(ended.ended, Some(expected));
    assert_eq!(folder.list(), std::slice::from_ref(&ended));
    // It can be added again, and what was is still told.
    let (again, _) = folder.add(&mine, NOW + 2).expect("added");
    assert_eq!(folder.list(), [again, ended]);
}

#[test]
fn what_cannot_be_an_entry_is_refused_and_changes_nothing() {
    let folder = Folder::new();
    let good = relay("192.0.2.25/32");
    folder.add(&good, NOW).expect("added");
    let before = folder.list();
    let refused = |relay: &Relay| match folder.add(relay, NOW).expect_err("refused") {
        Unchanged::Invalid(text) => text,
        other => panic!("{other:?}"),
    };
    for (relay, text) in [
        (relay("192.0.2.25/24"), "bits set behind its length"),
        (relay("::ffff:192.0.2.25/128"), "IPv4 written as IPv6"),
        (
            Relay {
                reason: " ".to_owned(),
                ..good.clone()
            },
            "reason: ",
        ),
        (
            Relay {
                owner: "a\nb".to_owned(),
                ..good.clone()
            },
            "owner: ",
        ),
        (
            Relay {
                expires: Some(jiff::civil::date(2026, 11, 24)),
                ..relay("192.0.2.26/32")
            },
            "2026-11-24 is over",
        ),
    ] {
        let error = refused(&relay);
        assert!(error.contains(text), "{error}");
    }
    let twice = folder.add(&good, NOW).expect_err("twice");
    assert!(
        matches!(&twice, Unchanged::Conflict(text) if text.contains("added by anna")),
        "{twice:?}"
    );
    let new = NewRelay {
        relay: &relay("192.0.2.26/32"),
        who: "smtpflow",
        at: NOW,
    };
    let failure = Failure::from(add_relay(&folder.path(), &new).expect_err("no person"));
    assert_eq!(failure.kind, Kind::Usage);
    assert!(matches!(
        folder.end("192.0.2.26/32", "x"),
        Err(Unchanged::Absent(_))
    ));
    assert!(matches!(
        folder.end("192.0.2.25/32", ""),
        Err(Unchanged::Invalid(_))
    ));
    assert_eq!(folder.list(), before);
    folder.end("192.0.2.25/32", "x").expect("ended");
    assert!(matches!(
        folder.end("192.0.2.25/32", "x"),
        Err(Unchanged::Absent(_))
    ));
}

#[test]
fn an_entry_whose_last_day_is_over_makes_place_for_another() {
    let folder = Folder::new();
    let until = |day| Relay {
        expires: Some(jiff::civil::date(2026, 11, day)),
        ..relay("192.0.2.25/32")
    };
    folder.add(&until(25), NOW).expect("added");
    let (_, _) = folder.add(&until(30), NOW + DAY).expect("in its place");
    let list = folder.list();
    assert_eq!(list.len(), 2);
    assert!(list[0].ended.is_none());
    let ended = list[1].ended.as_ref().expect("ended");
    assert_eq!((&*ended.by, ended.at), ("anna", NOW + DAY));
    assert!(ended.why.contains("last day"), "{}", ended.why);
}

#[test]
fn the_open_verdicts_of_its_hosts_are_resolved_by_who_adds_it() {
    let folder = Folder::new();
    let reader = Reader::open(&folder.path()).expect("a reader");
    let all = |reader: &Reader| reader.verdicts(&VerdictFilter::default()).expect("read");
    let bot: IpNet = format!("{BOT}/32").parse().expect("a prefix");
    let before = all(&reader);
    let (of_bot, others): (Vec<_>, Vec<_>) =
        before.iter().partition(|verdict| verdict.subject == bot);
    assert!(!of_bot.is_empty() && !others.is_empty());
    assert!(before.iter().all(|verdict| verdict.state.is_open()));
    let (_, resolved) = folder.add(&relay(&bot.to_string()), NOW).expect("added");
    assert_eq!(resolved.len(), of_bot.len());
    for verdict in all(&reader) {
        let events = reader.verdict_events(verdict.id).expect("read");
        let last = events.last().expect("an event");
        if verdict.subject == bot {
            assert_eq!(verdict.state, VerdictState::Resolved);
            assert_eq!((&*last.who, last.at), ("anna", NOW));
            assert_eq!(
                last.why,
                format!("known relay {BOT}: the relay of the staff")
            );
        } else {
            assert!(verdict.state.is_open(), "{verdict:?}");
        }
    }
}

#[test]
fn a_file_of_version_2_keeps_all_that_it_has_and_takes_relays() {
    let mut folder = Folder::new();
    folder.scene = None;
    for name in ["store.db", "store.db-wal", "store.db-shm"] {
        let _ = std::fs::remove_file(folder.folder.path().join(name));
    }
    std::fs::write(folder.path(), include_bytes!("../data/version-2.db")).expect("written");
    let early = folder
        .add(&relay("192.0.2.25/32"), NOW)
        .expect_err("refused");
    assert!(
        Failure::from(early)
            .to_string()
            .contains("earlier smtpflow"),
        "a file of another version was written to"
    );
    let store = Store::open(&folder.path(), 1000).expect("brought up to date");
    // As it was made: a day of a spam bot, one of its verdicts resolved by a person.
    let (mut sources, mut connections) = (0, 0);
    let ledger = store.load(|kept| {
        sources += 1;
        connections += kept.source.totals.connections;
    });
    assert!(ledger.is_ok());
    assert_eq!((sources, connections), (6, 15_048));
    assert!(store.relays().expect("read").is_empty());
    let reader = store.reader().expect("a reader");
    let (first, events) = reader.verdict(1).expect("read").expect("a verdict");
    assert_eq!(first.state, VerdictState::Resolved);
    let people: Vec<_> = events
        .iter()
        .map(|event| (&*event.who, &*event.why))
        .collect();
    assert_eq!(people[1..], [("anna", "seen"), ("anna", "cleaned")]);
    assert_eq!(
        reader
            .verdicts(&VerdictFilter::default())
            .expect("read")
            .len(),
        2
    );
    assert!(reader.span().is_some_and(|span| span.to > span.from));
    folder.add(&relay("192.0.2.25/32"), NOW).expect("added");
    assert_eq!(store.relays().expect("read").len(), 1);
    drop((store, reader));
    let store = Store::open(&folder.path(), 1000).expect("opened again");
    assert_eq!(store.relays().expect("read"), [relay("192.0.2.25/32")]);
}

#[test]
fn a_file_of_version_1_takes_relays() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    std::fs::write(&path, include_bytes!("../data/version-1.db")).expect("written");
    let store = Store::open(&path, 1000).expect("brought up to date");
    let new = NewRelay {
        relay: &relay("2001:db8::25/128"),
        who: "anna",
        at: NOW,
    };
    add_relay(&path, &new).expect("added");
    assert_eq!(store.relays().expect("read"), [relay("2001:db8::25/128")]);
}
