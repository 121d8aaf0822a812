//! Complaints in the store, on a real file.

use super::*;
use crate::failure::Failure;
use crate::model::complaint::ComplaintKind;
use crate::model::complaint::tests::{NOW, complaint};
use crate::model::period::Period;
use crate::store::personal::hold;
use crate::store::{Reader, Store};

const HOUR: u64 = 3_600_000;

/// A file that an agent has open.
struct Folder {
    folder: tempfile::TempDir,
    _agent: Store,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("store.db"), 1000).expect("a store");
        Self {
            folder,
            _agent: store,
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("store.db")
    }

    fn add(&self, complaints: &[Complaint]) -> Result<Noted, Unchanged> {
        let (who, at) = ("anna", NOW);
        add_complaints(
            &self.path(),
            &NewComplaints {
                complaints,
                headers: &BTreeMap::new(),
                who,
                at,
            },
        )
    }

    fn withdraw(&self, id: u64, why: &str) -> Result<StoredComplaint, Unchanged> {
        let (who, at) = ("bob", NOW + 1);
        withdraw_complaint(&self.path(), &Withdrawal { id, who, why, at })
    }

    fn list(&self, filter: &ComplaintFilter) -> Vec<StoredComplaint> {
        let reader = Reader::open(&self.path()).expect("a reader");
        reader.complaints(filter).expect("read")
    }

    fn all(&self) -> Vec<StoredComplaint> {
        self.list(&ComplaintFilter {
            withdrawn: true,
            ..ComplaintFilter::default()
        })
    }
}

fn noted(added: u64, known: u64) -> Noted {
    Noted { added, known }
}

#[test]
fn a_complaint_is_there_with_all_that_it_says_and_who_noted_it() {
    let folder = Folder::new();
    let whole = Complaint {
        happened_at: Some(NOW - HOUR),
        kind: ComplaintKind::Infringement,
        incidents: u32::MAX,
        reporter: "ünïcode.example".to_owned(),
        reference: "'; DROP TABLE complaint; --".to_owned(),
        ..complaint("2001:db8::66", NOW)
    };
    let bare = complaint("192.0.2.66", NOW - 1);
    let both = [whole.clone(), bare.clone()];
    assert_eq!(folder.add(&both).expect("noted"), noted(2, 0));
    let list = folder.all();
    assert_eq!([&list[0].complaint, &list[1].complaint], [&whole, &bare]);
    assert_eq!((&*list[0].added_by, list[0].added_at), ("anna", NOW));
    assert!(list.iter().all(|stored| stored.withdrawn.is_none()));
}

#[test]
fn a_complaint_that_comes_again_is_known_whatever_else_it_says() {
    let folder = Folder::new();
    let first = complaint("192.0.2.66", NOW);
    assert_eq!(
        folder.add(&[first.clone(), first.clone()]).expect("noted"),
        noted(1, 1)
    );
    let again = Complaint {
        at: NOW + 5,
        form: crate::model::complaint::ComplaintForm::Xarf,
        incidents: 9,
        ..first.clone()
    };
    assert_eq!(folder.add(&[again]).expect("noted"), noted(0, 1));
    assert_eq!(folder.all()[0].complaint, first, "as it came first");
    // Each of these makes it another one.
    let others = [
        complaint("192.0.2.67", NOW),
        Complaint {
            kind: ComplaintKind::SynFlood,
            ..first.clone()
        },
        Complaint {
            reporter: "other.example".to_owned(),
            ..first.clone()
        },
        Complaint {
            reference: "2".to_owned(),
            ..first
        },
    ];
    assert_eq!(folder.add(&others).expect("noted"), noted(4, 0));
}

#[test]
fn complaints_are_found_by_time_and_by_host() {
    let folder = Folder::new();
    let all: Vec<_> = (0..10)
        .map(|hour| {
            complaint(
                ["192.0.2.66", "2001:db8::66"][hour as usize % 2],
                NOW - hour * HOUR,
            )
        })
        .collect();
    folder.add(&all).expect("noted");
    let times = |filter: &ComplaintFilter| -> Vec<u64> {
        let found = folder.list(filter);
        found
            .iter()
            .map(|stored| (NOW - stored.complaint.at) / HOUR)
            .collect()
    };
    let period = Some(Period {
        from: NOW - 3 * HOUR,
        to: NOW,
    });
    let address = Some("::ffff:192.0.2.66".parse().expect("an address"));
    let filter = |period, address| ComplaintFilter {
        period,
        address,
        withdrawn: false,
    };
    assert_eq!(times(&filter(period, None)), [1, 2, 3]);
    assert_eq!(times(&filter(None, address)), [0, 2, 4, 6, 8]);
    assert_eq!(times(&filter(period, address)), [2]);
}

#[test]
fn what_was_withdrawn_stays_so_when_its_mailbox_is_read_again() {
    let folder = Folder::new();
    let wrong = complaint("192.0.2.66", NOW);
    folder.add(std::slice::from_ref(&wrong)).expect("noted");
    let id = folder.all()[0].id;
    let stored = folder
        .withdraw(id, "it meant somebody else")
        .expect("withdrawn");
    let ended = stored.withdrawn.clone().expect("withdrawn");
    assert_eq!(
        (&*ended.by, &*ended.why, ended.at),
        ("bob", "it meant somebody else", NOW + 1)
    );
    assert_eq!(folder.add(&[wrong]).expect("noted"), noted(0, 1));
    assert!(folder.list(&ComplaintFilter::default()).is_empty());
    assert_eq!(folder.all(), [stored]);
    for (id, why, expected) in [
        (id, "again", "withdrawn already, by bob"),
        (77, "x", "there is no complaint 77"),
        (id, "a\nb", "control characters"),
    ] {
        let error = Failure::from(folder.withdraw(id, why).expect_err(expected));
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn many_are_written_in_parts_and_a_full_file_takes_no_more() {
    let folder = Folder::new();
    let of = |numbers: std::ops::Range<u64>| -> Vec<Complaint> {
        numbers
            .map(|number| complaint("192.0.2.66", NOW - number))
            .collect()
    };
    assert_eq!(folder.add(&of(0..1100)).expect("noted"), noted(1100, 0));
    // Three parts: the first is known, the second fits, the third does not.
    let error = Failure::from(folder.add(&of(600..2200)).expect_err("full"));
    assert!(error.to_string().contains("no place for"), "{error}");
    assert_eq!(folder.all().len(), 1600, "whole parts");
    assert_eq!(folder.add(&of(0..1600)).expect("known"), noted(0, 1600));
}

#[test]
fn nobody_and_the_agent_bring_in_no_complaints() {
    let folder = Folder::new();
    for who in ["", "smtpflow"] {
        let complaints = &[complaint("192.0.2.66", NOW)];
        let new = NewComplaints {
            complaints,
            headers: &BTreeMap::new(),
            who,
            at: NOW,
        };
        assert!(matches!(
            add_complaints(&folder.path(), &new),
            Err(Unchanged::Invalid(_))
        ));
    }
    assert!(folder.all().is_empty());
}

#[test]
fn a_file_that_is_written_to_is_waited_for_and_then_left_alone() {
    let folder = Folder::new();
    let held = hold(&folder.path());
    let error = Failure::from(
        folder
            .add(&[complaint("192.0.2.66", NOW)])
            .expect_err("busy"),
    );
    assert!(error.to_string().contains("try again"), "{error}");
    drop(held);
    folder.add(&[complaint("192.0.2.66", NOW)]).expect("noted");
}

#[test]
fn a_file_of_version_3_keeps_all_that_it_has_and_takes_complaints() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    std::fs::write(&path, include_bytes!("../data/version-3.db")).expect("written");
    let complaints = &[complaint("192.0.2.66", NOW)];
    let new = NewComplaints {
        complaints,
        headers: &BTreeMap::new(),
        who: "anna",
        at: NOW,
    };
    let early = Failure::from(add_complaints(&path, &new).expect_err("refused"));
    assert!(early.to_string().contains("earlier smtpflow"), "{early}");
    let store = Store::open(&path, 1000).expect("brought up to date");
    let relays = store.relays().expect("read");
    assert_eq!(relays[0].prefix.to_string(), "192.0.2.25/32");
    let verdicts = store.verdicts(&Default::default()).expect("read");
    assert_eq!(verdicts.len(), 2);
    assert_eq!(add_complaints(&path, &new).expect("noted"), noted(1, 0));
    drop(store);
    Store::open(&path, 1000).expect("opened again");
    let reader = Reader::open(&path).expect("a reader");
    assert_eq!(
        reader.complaints(&Default::default()).expect("read").len(),
        1
    );
}
