//! The ledger on real files: what is committed is there again, once, whatever happens in between.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use smtp_common::counter::{Counter, Skip};
use smtp_common::packet::Address;

use super::*;

const TABLE: u64 = u64::MAX - 5;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("made/ledger.db");
    (folder, path)
}

fn open(path: &Path) -> Store {
    Store::open(path, 1000).unwrap_or_else(|failure| panic!("{failure}"))
}

fn refused(path: &Path) -> Failure {
    match Store::open(path, 1000) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(failure) => failure,
    }
}

fn address(number: u32) -> Address {
    match number % 2 {
        0 => IpAddr::from((0xc000_0200 + number).to_be_bytes()).into(),
        _ => IpAddr::from((0x2001_0db8_u128 << 96 | u128::from(number)).to_be_bytes()).into(),
    }
}

/// A window whose figures add up, in which every count of a source is different.
fn window(epoch: u64, sources: &[(u32, u64)]) -> Window {
    let sources: Vec<Source> = sources
        .iter()
        .map(|(number, packets)| Source {
            address: address(*number),
            totals: Totals {
                connections: packets / 2,
                syn_retx: packets / 3,
                c2s_packets: *packets,
                c2s_bytes: 41 * packets,
                s2c_packets: packets / 5,
                s2c_bytes: 43 * (packets / 5),
                answered: packets / 7,
                refused: packets / 11,
            },
        })
        .collect();
    let mut tally = Tally {
        overflow: Totals {
            c2s_packets: 2,
            c2s_bytes: 80,
            ..Totals::default()
        },
        spilled: 3,
        spill_refused: 1,
        ..Tally::default()
    };
    tally.place(&sources, None);
    let segments = tally.sources.packets() + tally.overflow.packets();
    tally.segment_bytes = tally.sources.bytes() + tally.overflow.bytes();
    tally.outcomes[Counter::Segment.index()] = segments;
    tally.outcomes[Counter::Skip(Skip::NotTcp).index()] = 9;
    tally.frames = segments + 9;
    assert_eq!(tally.conservation_error(), 0);
    Window {
        epoch,
        started_at: UNIX_EPOCH + Duration::from_secs(1_000_000 + 10 * epoch),
        length: Duration::from_secs(10),
        tally,
        sources,
        lines_used: 0,
        flows: Vec::new(),
        flip: Duration::ZERO,
    }
}

/// What a ledger has to hold.
#[derive(Debug, Default, PartialEq, Eq)]
struct Expected {
    account: Tally,
    sources: BTreeMap<[u8; 16], (Totals, u64, u64)>,
}

impl Expected {
    fn add(&mut self, window: &Window) {
        self.account.merge(&window.tally);
        let (first, last) = seen(window);
        for source in &window.sources {
            let (totals, _, until) = self.sources.entry(source.address.octets()).or_insert((
                Totals::default(),
                first,
                last,
            ));
            totals.merge(&source.totals);
            *until = last;
        }
    }

    fn of(windows: &[Window]) -> Self {
        let mut expected = Self::default();
        windows.iter().for_each(|window| expected.add(window));
        expected
    }
}

fn held(store: &Store) -> (Expected, Totals) {
    let mut sources = BTreeMap::new();
    let ledger = store
        .load(|kept| {
            let value = (kept.source.totals, kept.first_seen, kept.last_seen);
            let twice = sources.insert(kept.source.address.octets(), value);
            assert_eq!(twice, None);
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    let account = ledger.account;
    (Expected { account, sources }, ledger.untracked)
}

fn sum(expected: &Expected) -> Totals {
    let mut sum = Totals::default();
    for (totals, ..) in expected.sources.values() {
        sum.merge(totals);
    }
    sum
}

/// Every source with its counts.
fn counts(expected: &Expected) -> Vec<([u8; 16], Totals)> {
    let sources = expected.sources.iter();
    sources
        .map(|(octets, (totals, ..))| (*octets, *totals))
        .collect()
}

#[test]
fn what_is_committed_is_there_after_a_restart_with_everything_in_it() {
    let (_folder, path) = folder();
    let windows = [
        window(1, &[(1, 1000), (2, 77)]),
        window(2, &[(2, 500), (3, 1), (4, 0)]),
        window(9, &[(1, 33)]),
    ];
    let begun = SystemTime::now();
    let mut store = open(&path);
    assert_eq!(store.committed(TABLE).expect("read"), None);
    for window in &windows {
        assert_eq!(
            store.commit(TABLE, window, &Folded::default()),
            Committed::Stored
        );
    }
    assert_eq!(store.state().committed_epoch, Some(9));
    assert!(store.state().commit_duration.is_some());
    drop(store);

    let mut store = open(&path);
    assert_eq!(store.committed(TABLE).expect("read"), Some(9));
    assert_eq!(store.committed(TABLE + 1).expect("read"), None);
    assert_eq!(held(&store), (Expected::of(&windows), Totals::default()));
    let age = begun.duration_since(store.state().since).expect("begun");
    assert!(age < Duration::from_secs(60), "{age:?}");
    assert_eq!(store.listed, 4);
}

#[test]
fn a_window_that_is_there_is_not_counted_again() {
    let (_folder, path) = folder();
    let windows = [window(5, &[(1, 10)]), window(6, &[(1, 20)])];
    let mut store = open(&path);
    for window in &windows {
        assert_eq!(
            store.commit(TABLE, window, &Folded::default()),
            Committed::Stored
        );
        assert_eq!(
            store.commit(TABLE, window, &Folded::default()),
            Committed::Again
        );
    }
    assert_eq!(
        store.commit(TABLE, &windows[0], &Folded::default()),
        Committed::Again
    );
    drop(store);
    let mut store = open(&path);
    assert_eq!(
        store.commit(TABLE, &windows[1], &Folded::default()),
        Committed::Again
    );
    assert_eq!(held(&store).0, Expected::of(&windows));
    // Other tables number their windows themselves.
    let other = window(1, &[(1, 5)]);
    assert_eq!(
        store.commit(TABLE + 1, &other, &Folded::default()),
        Committed::Stored
    );
    assert_eq!(
        store.commit(TABLE, &windows[1], &Folded::default()),
        Committed::Again
    );
}

#[test]
fn epochs_of_many_tables_are_a_bounded_number() {
    let (_folder, path) = folder();
    let mut store = open(&path);
    for table in 0..100 {
        assert_eq!(
            store.commit(table, &window(3, &[]), &Folded::default()),
            Committed::Stored
        );
    }
    assert_eq!(store.committed(99).expect("read"), Some(3));
    let known: i64 = store
        .connection
        .query_row("SELECT count(*) FROM epoch", [], |row| row.get(0))
        .expect("a number");
    assert_eq!(known, 64);
}

#[test]
fn two_agents_cannot_share_a_file() {
    let (_folder, path) = folder();
    let store = open(&path);
    let failure = refused(&path);
    assert_eq!(failure.kind, Kind::Unavailable);
    let text = failure.to_string();
    assert!(
        text.contains("--store") && text.contains("in use"),
        "{text}"
    );
    drop(store);
    open(&path);
}

#[test]
fn only_the_owner_can_read_it() {
    let (folder, path) = folder();
    let mut store = open(&path);
    store.commit(TABLE, &window(1, &[(1, 1)]), &Folded::default());
    let mode = |path: &Path| {
        let metadata = fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode(&folder.path().join("made")), 0o700);
    let mut files = 0;
    for entry in fs::read_dir(folder.path().join("made")).expect("a folder") {
        assert_eq!(mode(&entry.expect("an entry").path()), 0o600);
        files += 1;
    }
    assert!(files >= 3, "the file, its log, the lock: {files}");
    drop(store);
    // A file that others could read is closed to them.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("mode set");
    open(&path);
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn a_symbolic_link_is_refused() {
    let (folder, path) = folder();
    drop(open(&path));
    let link = folder.path().join("link.db");
    symlink(&path, &link).expect("a link");
    let text = refused(&link).to_string();
    assert!(
        text.contains("symbolic link") && text.contains("--store"),
        "{text}"
    );
    let nothing = folder.path().join("nothing.db");
    symlink(folder.path().join("elsewhere"), &nothing).expect("a link");
    refused(&nothing);
    assert!(!folder.path().join("elsewhere").exists());
}

#[test]
fn a_later_schema_and_a_foreign_database_are_refused_and_left_alone() {
    let (_folder, path) = folder();
    let mut store = open(&path);
    store.commit(TABLE, &window(1, &[(1, 1)]), &Folded::default());
    let version = schema::VERSION + 1;
    let set = store
        .connection
        .pragma_update(None, "user_version", version);
    set.expect("set");
    drop(store);
    let before = fs::read(&path).expect("read");
    let failure = refused(&path);
    assert_eq!(failure.kind, Kind::BadConfig);
    let text = failure.to_string();
    assert!(
        text.contains("later smtpflow") && text.contains("--store"),
        "{text}"
    );
    assert_eq!(fs::read(&path).expect("read"), before);

    let foreign = path.with_file_name("foreign.db");
    let connection = Connection::open(&foreign).expect("a database");
    connection
        .execute_batch("CREATE TABLE mail (a)")
        .expect("a table");
    drop(connection);
    let text = refused(&foreign).to_string();
    assert!(text.contains("another program"), "{text}");
}

/// The files that were set aside.
fn aside(path: &Path) -> Vec<PathBuf> {
    let folder = path.parent().expect("a folder");
    let entries = fs::read_dir(folder).expect("a folder");
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().contains(".corrupt-"))
        .collect();
    found.sort();
    found
}

#[test]
fn what_is_no_database_is_set_aside_and_a_new_one_begun() {
    for garbage in [&b"no database"[..], &[0x5a; 70_000]] {
        let (_folder, path) = folder();
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, garbage).expect("written");
        let mut store = open(&path);
        assert_eq!(held(&store), (Expected::default(), Totals::default()));
        store.commit(TABLE, &window(1, &[(1, 1)]), &Folded::default());
        let aside = aside(&path);
        assert_eq!(aside.len(), 1, "{aside:?}");
        assert_eq!(fs::read(&aside[0]).expect("read"), garbage);
    }
}

#[test]
fn counts_that_do_not_add_up_are_found() {
    let (_folder, path) = folder();
    let mut store = open(&path);
    store.commit(TABLE, &window(1, &[(1, 100), (2, 200)]), &Folded::default());
    let change = "UPDATE source SET c2s_bytes = c2s_bytes + 64 WHERE connections = 50";
    assert_eq!(store.connection.execute(change, []).expect("changed"), 1);
    drop(store);
    let store = open(&path);
    assert_eq!(held(&store).0, Expected::default());
    assert_eq!(aside(&path).len(), 1);
}

/// Flips single bits all over a file, each in a file of its own: it is refused, set aside, or holds
/// the very counts that were put in.
#[test]
fn a_bit_that_flips_never_changes_a_count_unnoticed() {
    let (_folder, path) = folder();
    let windows: Vec<Window> = (1..=3)
        .map(|epoch| {
            let sources: Vec<_> = (0..60).map(|i| (i, 100 * epoch + u64::from(i))).collect();
            window(epoch, &sources)
        })
        .collect();
    let mut store = open(&path);
    for window in &windows {
        assert_eq!(
            store.commit(TABLE, window, &Folded::default()),
            Committed::Stored
        );
    }
    drop(store);
    let whole = fs::read(&path).expect("read");
    let expected = Expected::of(&windows);
    let (mut set_aside, mut harmless) = (0, 0);
    for byte in (0..whole.len()).step_by(41) {
        let mut damaged = whole.clone();
        damaged[byte] ^= 1 << (byte % 8);
        let (_folder, path) = folder();
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, &damaged).expect("written");
        // Refused: it looks like a file of another program or a later version.
        let Ok(store) = Store::open(&path, 1000) else {
            continue;
        };
        if aside(&path).is_empty() {
            harmless += 1;
            assert_eq!(counts(&held(&store).0), counts(&expected), "byte {byte}");
        } else {
            set_aside += 1;
        }
    }
    assert!(set_aside > 20 && harmless > 20, "{set_aside}, {harmless}");
}

#[test]
fn a_file_that_was_cut_off_is_set_aside() {
    let (_folder, path) = folder();
    let mut store = open(&path);
    let sources: Vec<_> = (0..900).map(|i| (i, 5)).collect();
    store.commit(TABLE, &window(1, &sources), &Folded::default());
    drop(store);
    let length = fs::metadata(&path).expect("a file").len();
    let file = fs::OpenOptions::new().write(true).open(&path);
    file.and_then(|file| file.set_len(length / 2 + 100))
        .expect("cut");
    let store = open(&path);
    assert_eq!(held(&store).0, Expected::default());
    assert_eq!(aside(&path).len(), 1);
}

#[test]
fn sources_behind_the_bound_are_untracked_in_the_order_of_arrival() {
    let (_folder, path) = folder();
    let mut store = Store::open(&path, 3).unwrap_or_else(|failure| panic!("{failure}"));
    // 9 comes before 2, whatever the order of their addresses.
    store.commit(TABLE, &window(1, &[(9, 100), (2, 10)]), &Folded::default());
    store.commit(
        TABLE,
        &window(2, &[(8, 1000), (9, 1), (4, 7), (6, 8)]),
        &Folded::default(),
    );
    let (have, untracked) = held(&store);
    let mut listed: Vec<_> = have.sources.keys().copied().collect();
    let mut expected = [9, 2, 8].map(|number| address(number).octets());
    listed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    assert_eq!(untracked.c2s_packets, 15);
    let mut all = sum(&have);
    all.merge(&untracked);
    assert_eq!(all, have.account.sources);
    drop(store);

    // With a lower bound, whoever was not seen for the longest time is no longer listed.
    let mut store = Store::open(&path, 2).unwrap_or_else(|failure| panic!("{failure}"));
    let (have, untracked) = held(&store);
    assert!(!have.sources.contains_key(&address(2).octets()));
    assert_eq!((have.sources.len(), untracked.c2s_packets), (2, 25));
    store.commit(TABLE, &window(3, &[(2, 1), (8, 1)]), &Folded::default());
    drop(store);
    let store = open(&path);
    let (have, untracked) = held(&store);
    assert_eq!(untracked.c2s_packets, 26);
    let mut all = sum(&have);
    all.merge(&untracked);
    assert_eq!(all, have.account.sources);
    assert!(aside(&path).is_empty());
}

/// Strangers come first and in plenty; the own hosts, IPv6 here, are listed all the same, in the list of
/// the agent as in the file.
#[test]
fn own_hosts_are_not_crowded_out() {
    let (_folder, path) = folder();
    let local = vec!["2001:db8::/32".parse().expect("a prefix")];
    let mut store =
        Store::open_for(&path, local.clone(), 16).unwrap_or_else(|failure| panic!("{failure}"));
    let mut list = crate::source_list::SourceList::new(local, 16, [3, 5, 7, 11, 13]);
    let strangers: Vec<_> = (0..40).map(|number| (2 * number, 10)).collect();
    let windows = [
        window(1, &strangers),
        window(2, &[(50, 1), (101, 7), (52, 1), (103, 8), (105, 9)]),
    ];
    let mut untracked_by_list = Totals::default();
    for window in &windows {
        store.commit(TABLE, window, &Folded::default());
        list.begin_window();
        untracked_by_list.merge(&list.count(&window.sources));
    }
    let (have, untracked) = held(&store);
    assert_eq!(untracked, untracked_by_list);
    assert_eq!((have.sources.len(), list.len()), (16, 16));
    for (own, packets) in [(101, 7), (103, 8)] {
        let listed = list.of(address(own)).expect("an own host is listed");
        assert_eq!(listed.total().c2s_packets, packets);
        assert!(have.sources.contains_key(&address(own).octets()));
    }
    // The reserve has an end as well.
    assert!(list.of(address(105)).is_none());
    assert!(!have.sources.contains_key(&address(105).octets()));
}

#[test]
fn what_cannot_be_written_waits_and_comes_with_the_next_commit() {
    let (_folder, path) = folder();
    let mut store = open(&path);
    let windows: Vec<Window> = (1..=5)
        .map(|epoch| window(epoch, &[(epoch as u32, 10), (7, 100), (8, epoch)]))
        .collect();
    assert_eq!(
        store.commit(TABLE, &windows[0], &Folded::default()),
        Committed::Stored
    );
    // Somebody writes by hand, and does not come to an end.
    let other = Connection::open(&path).expect("a connection");
    other.execute_batch("BEGIN IMMEDIATE").expect("begun");
    store.connection.busy_timeout(Duration::ZERO).expect("set");
    for waiting in &windows[1..4] {
        assert_eq!(
            store.commit(TABLE, waiting, &Folded::default()),
            Committed::Waiting
        );
        assert_eq!(
            store.commit(TABLE, waiting, &Folded::default()),
            Committed::Again
        );
    }
    let state = store.state();
    assert_eq!((state.errors, state.committed_epoch), (3, Some(1)));
    assert_eq!(state.pending_sources, 5);
    assert!(state.failure.is_some());
    other.execute_batch("ROLLBACK").expect("ended");
    drop(other);
    assert_eq!(
        store.commit(TABLE, &windows[4], &Folded::default()),
        Committed::Stored
    );
    let state = store.state();
    assert_eq!((state.errors, state.committed_epoch), (3, Some(5)));
    assert_eq!((state.pending_sources, state.failure), (0, None));
    drop(store);
    assert_eq!(
        held(&open(&path)),
        (Expected::of(&windows), Totals::default())
    );
}

#[test]
fn what_waits_is_bounded_and_still_adds_up() {
    let mut pending = Pending::new(Admission::new(Vec::new(), 2));
    let mut clock = Clock::default();
    for epoch in 1..=3 {
        let window = window(epoch, &[(1, 10), (2, 20), (3, 30), (4, 40)]);
        let span = clock.place(&window);
        let order = history::order(&window.sources);
        let run = Run::new(span, &window, &order, &Folded::default());
        pending.add(&window, seen(&window), run);
    }
    assert_eq!(pending.sources(), 2);
    let delta = pending.delta();
    assert_eq!(delta.untracked.c2s_packets, 3 * 70);
    let listed: u64 = delta.sources.iter().map(|s| s.totals.c2s_packets).sum();
    assert_eq!(listed + 210, delta.account.sources.c2s_packets);
    assert_eq!((delta.seen)(0), (1_000_010, 1_000_040));
}

#[test]
fn a_long_log_is_moved_into_the_file() {
    let (_folder, path) = folder();
    let mut store = Store::open(&path, 100_000).unwrap_or_else(|failure| panic!("{failure}"));
    let sources: Vec<_> = (0..100_000).map(|i| (i, 5)).collect();
    store.commit(TABLE, &window(1, &sources), &Folded::default());
    let before = fs::metadata(&path).expect("a file").len();
    assert!(store.place.wal_bytes() > WAL_BYTES);
    store.tidy();
    assert!(fs::metadata(&path).expect("a file").len() > before + WAL_BYTES / 2);
    // The log begins anew, and is short again.
    store.commit(TABLE, &window(2, &[(1, 1)]), &Folded::default());
    assert!(store.place.wal_bytes() <= WAL_BYTES);
}

#[test]
fn the_cache_is_as_large_as_it_is_told() {
    let (_folder, path) = folder();
    let store = open(&path);
    let kib = || {
        let size: rusqlite::Result<i64> =
            store
                .connection
                .pragma_query_value(None, "cache_size", |row| row.get(0));
        -size.expect("a size")
    };
    assert_eq!(kib(), 64 << 10);
    store
        .set_cache(2)
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(kib(), 2 << 10);
}

#[test]
fn counts_at_the_end_of_their_range_stay_there() {
    let (_folder, path) = folder();
    let mut store = open(&path);
    let mut large = window(1, &[(1, 0)]);
    large.sources[0].totals.c2s_bytes = u64::MAX;
    large.tally.sources.c2s_bytes = u64::MAX;
    assert_eq!(
        store.commit(TABLE, &large, &Folded::default()),
        Committed::Stored
    );
    let mut more = large.clone();
    more.epoch = 2;
    assert_eq!(
        store.commit(TABLE, &more, &Folded::default()),
        Committed::Stored
    );
    drop(store);
    let (have, _) = held(&open(&path));
    assert_eq!(have.account.sources.c2s_bytes, u64::MAX >> 1);
    assert!(aside(&path).is_empty());
}

#[test]
fn a_log_that_was_damaged_loses_windows_from_the_end_only() {
    let (_folder, path) = folder();
    let windows: Vec<Window> = (1..=4)
        .map(|epoch| window(epoch, &[(1, 10 * epoch)]))
        .collect();
    let mut store = open(&path);
    for window in &windows {
        store.commit(TABLE, window, &Folded::default());
    }
    // As if the agent were killed: the log stays.
    let (copy, mut log) = (path.with_file_name("copy.db"), Vec::new());
    fs::copy(&path, &copy).expect("copied");
    let mut file = fs::File::open(beside_log(&path)).expect("a log");
    file.read_to_end(&mut log).expect("read");
    drop(store);
    for cut in [
        0,
        40,
        log.len() / 3,
        log.len() / 2,
        log.len() - 1,
        log.len(),
    ] {
        let path = path.with_file_name(format!("cut-{cut}.db"));
        fs::copy(&copy, &path).expect("copied");
        let mut file = fs::File::create(beside_log(&path)).expect("a log");
        file.write_all(&log[..cut]).expect("written");
        file.seek(SeekFrom::Start(0)).expect("there");
        let mut store = open(&path);
        let epoch = store.committed(TABLE).expect("read").unwrap_or(0) as usize;
        assert_eq!(held(&store).0, Expected::of(&windows[..epoch]), "{cut}");
        assert!(cut < log.len() || epoch == 4, "{epoch}");
    }
}

fn beside_log(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// As of a file that is too large to be checked whole at every start.
#[test]
fn of_a_large_file_all_but_the_chunks_is_checked_and_those_after_trouble() {
    let (_folder, path) = folder();
    let mut store = open(&path);
    for epoch in 1..=20 {
        let sources: Vec<_> = (0..900).map(|i| (i, 5 + epoch)).collect();
        store.commit(TABLE, &window(epoch, &sources), &Folded::default());
    }
    let large = check::CHECKED + 1;
    let check = |store: &Store, bytes| check::check_structure(&store.connection, bytes).is_ok();
    assert!(check(&store, large) && check(&store, 1));
    // A page of chunks that is no page of a table any more.
    let number: i64 = store
        .connection
        .query_row(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'chunk'",
            [],
            |row| row.get(0),
        )
        .expect("a page");
    drop(store);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("a file");
    file.seek(SeekFrom::Start((number as u64 - 1) * 4096))
        .expect("there");
    file.write_all(&[0xa5; 64]).expect("written");
    let connection = Connection::open(&path).expect("a database");
    assert!(check::check_structure(&connection, large).is_ok());
    history::suspect(&connection, true).expect("noted");
    assert!(check::check_structure(&connection, large).is_err());
    drop(connection);
    let store = open(&path);
    assert_eq!(
        (aside(&path).len(), held(&store).0),
        (1, Expected::default())
    );
}
