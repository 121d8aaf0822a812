//! Writes the history of [`smtpflow_tests::history`] into a store, from where it was left to the window
//! with a given number, and tidies after each: what a test kills.
//!
//! `history_writer STORE LAST`

use std::path::Path;

use smtp_user::store::{Committed, Store};
use smtpflow_tests::history::{RETENTION, TABLE, window};

fn main() {
    let mut words = std::env::args().skip(1);
    let (path, last) = (words.next(), words.next());
    let path = path.expect("the path of a store");
    let last: u64 = last
        .and_then(|word| word.parse().ok())
        .expect("the number of a window");
    let mut store =
        Store::open(Path::new(&path), 1000).unwrap_or_else(|failure| panic!("{failure}"));
    store.retain(RETENTION);
    let committed = store
        .committed(TABLE)
        .unwrap_or_else(|failure| panic!("{failure}"));
    for epoch in committed.map_or(1, |epoch| epoch + 1)..=last {
        let (window, folded) = window(epoch);
        assert_eq!(store.commit(TABLE, &window, &folded), Committed::Stored);
        while store.tidy() {}
    }
    while store.tidy() {}
}
