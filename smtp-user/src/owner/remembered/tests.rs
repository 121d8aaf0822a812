//! What is kept comes back as it was and for as long as it may, and what others put there does not.

mod answers;
mod folder;
mod routes;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::*;
use crate::model::owner::{Outcome, OwnerSource};
use crate::owner::Desk;
use crate::owner::settings::Settings;
use crate::server::Server;

const SECOND: Duration = Duration::from_secs(1);
/// How long answers and routes are used.
const KEEP: Duration = Duration::from_secs(1000);

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn remembered(folder: &Path) -> Remembered {
    Remembered::new(folder.to_path_buf())
}

#[test]
fn the_next_desk_asks_nobody_who_has_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("an address");
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            counter.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 256]);
            let _ = stream.write_all(b"OrgName: Example\r\nOrgAbuseEmail: abuse@example.net\r\n");
        }
    });
    let folder = folder();
    let settings = |state: &Path| Settings {
        order: vec![OwnerSource::Whois],
        whois: vec![Server::parse(&at.to_string()).expect("a server")],
        state: state.to_path_buf(),
        ..Settings::default()
    };
    let desk = |state: &Path| Desk::new(&settings(state), None).expect("a desk");
    let ask = |mut desk: Desk| {
        let owner = desk.owner(ip("192.0.2.1"), false);
        let finding = owner.findings.into_iter().next().expect("a finding");
        assert!(
            matches!(&finding.outcome, Outcome::Found { .. }),
            "{finding:?}"
        );
        (finding, asked.load(Ordering::SeqCst))
    };
    let (first, count) = ask(desk(folder.path()));
    assert_eq!((first.age, count), (Some(0), 1));
    let (second, count) = ask(desk(folder.path()));
    assert_eq!(
        (&second.outcome, &second.provenance),
        (&first.outcome, &first.provenance)
    );
    assert_eq!(count, 1, "it was asked again");
    let (_, count) = ask(desk(folder.path()).fresh());
    assert_eq!(count, 2, "it was not asked");
    // Where nothing is kept it is asked each time.
    let none = folder.path().join("none");
    let (_, count) = ask(desk(&none));
    assert_eq!(count, 3);
    let (_, count) = ask(desk(&none));
    assert_eq!(count, 4);
    assert!(!none.exists());
}
