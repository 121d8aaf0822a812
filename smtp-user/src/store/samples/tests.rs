//! Headers in a real file.

use super::*;
use crate::model::complaint::Complaint;
use crate::model::complaint::tests::{NOW, complaint};
use crate::model::mail::KeptAddresses::{Domain, Full, None as Nothing};
use crate::store::{
    NewComplaints, NoticeLedger, Store, Withdrawal, add_complaints, withdraw_complaint,
};

const HOUR: u64 = 3_600_000;

fn header(addresses: KeptAddresses, text: &str) -> KeptHeader {
    KeptHeader {
        addresses,
        domain: Some("shop.example".to_owned()),
        text: format!("Subject: {text}\r\n"),
    }
}

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

    fn add(&self, of: &[(Complaint, Option<KeptHeader>)], at: u64) {
        let complaints: Vec<Complaint> =
            of.iter().map(|(complaint, _)| complaint.clone()).collect();
        let headers = of
            .iter()
            .enumerate()
            .filter_map(|(place, (_, header))| Some((place, header.clone()?)))
            .collect();
        let new = NewComplaints {
            complaints: &complaints,
            headers: &headers,
            who: "anna",
            at,
        };
        add_complaints(&self.path(), &new).expect("noted");
    }

    fn reader(&self) -> Reader {
        Reader::open(&self.path()).expect("a reader")
    }

    /// The subjects of those that there are for whoever may have so much of addresses.
    fn subjects(&self, addresses: KeptAddresses, now: u64) -> Vec<String> {
        let reader = self.reader();
        let latest = reader.samples(addresses, now).expect("read");
        latest
            .into_iter()
            .map(|(address, complaint)| {
                let sample = reader.sample(complaint).expect("read").expect("there");
                assert_eq!(sample.address, address);
                sample.header.text.trim().replace("Subject: ", "")
            })
            .collect()
    }

    fn count(&self) -> i64 {
        let count = "SELECT count(*) FROM complaint_header";
        let read = |connection: &Connection| connection.query_row(count, [], |row| row.get(0));
        self.reader().read(read).expect("read")
    }
}

#[test]
fn the_latest_of_each_host_is_there_for_who_may_have_it() {
    let folder = Folder::new();
    let of = |address: &str, ago: u64, header| (complaint(address, NOW - ago * HOUR), header);
    folder.add(
        &[
            of("192.0.2.66", 3, Some(header(Domain, "old"))),
            of("192.0.2.66", 1, Some(header(Domain, "new"))),
            of("192.0.2.66", 0, None),
            of("192.0.2.67", 2, Some(header(Full, "full"))),
            of("2001:db8::66", 2, Some(header(Nothing, "nothing"))),
        ],
        NOW,
    );
    assert_eq!(folder.subjects(Full, NOW), ["new", "full", "nothing"]);
    assert_eq!(folder.subjects(Domain, NOW), ["new", "nothing"]);
    assert_eq!(folder.subjects(Nothing, NOW), ["nothing"]);
    let reader = folder.reader();
    let host: IpAddr = "192.0.2.67".parse().expect("an address");
    let id = reader.samples(Full, NOW).expect("read")[&host];
    let sample = reader.sample(id).expect("read").expect("there");
    assert_eq!(sample.header, header(Full, "full"));
    assert_eq!(reader.sample(4711).expect("read"), None);
}

#[test]
fn a_header_goes_with_its_complaint_and_does_not_come_back() {
    let folder = Folder::new();
    let one = (complaint("192.0.2.66", NOW), Some(header(Domain, "one")));
    folder.add(std::slice::from_ref(&one), NOW);
    let id = *folder
        .reader()
        .samples(Full, NOW)
        .expect("read")
        .values()
        .next()
        .expect("one");
    let (who, why, at) = ("bob", "it meant somebody else", NOW + 1);
    withdraw_complaint(&folder.path(), &Withdrawal { id, who, why, at }).expect("withdrawn");
    assert_eq!(folder.count(), 0);
    folder.add(&[one], NOW + 2);
    assert_eq!(folder.count(), 0, "what is known brings nothing");
}

#[test]
fn after_a_week_it_is_forgotten_by_whoever_comes() {
    let folder = Folder::new();
    let ledger = NoticeLedger::take(&folder.path()).expect("a ledger");
    let one = (complaint("192.0.2.66", NOW), Some(header(Domain, "one")));
    folder.add(&[one], NOW);
    ledger.forget_samples(NOW + SAMPLE_AGE - 1).expect("looked");
    assert_eq!(folder.subjects(Domain, NOW + SAMPLE_AGE - 1), ["one"]);
    assert!(folder.subjects(Domain, NOW + SAMPLE_AGE).is_empty());
    ledger.forget_samples(NOW + SAMPLE_AGE).expect("written");
    assert_eq!(folder.count(), 0);
    let one = (complaint("192.0.2.67", NOW), Some(header(Domain, "one")));
    folder.add(&[one], NOW);
    let later = (complaint("192.0.2.68", NOW + SAMPLE_AGE), None);
    folder.add(&[later], NOW + SAMPLE_AGE);
    assert_eq!(folder.count(), 0);
}

#[test]
fn of_too_many_the_latest_stay() {
    let folder = Folder::new();
    let many: Vec<_> = (0..MOST.unsigned_abs() + 100)
        .map(|number| {
            let one = complaint("192.0.2.66", NOW - number * 1000);
            (one, Some(header(Domain, &number.to_string())))
        })
        .collect();
    folder.add(&many, NOW);
    assert_eq!(folder.count(), MOST);
    assert_eq!(folder.subjects(Domain, NOW), ["0"]);
}

#[test]
fn the_key_is_made_once_and_is_another_in_another_file() {
    let (one, other) = (Folder::new(), Folder::new());
    let key = redaction_key(&one.path()).expect("a key");
    assert_eq!(redaction_key(&one.path()).expect("a key"), key);
    assert_ne!(redaction_key(&other.path()).expect("a key"), key);
    assert_ne!(key, [0; 32]);
}
