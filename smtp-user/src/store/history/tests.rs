//! History: single cases. Against a model of everything: [`naive`].

mod naive;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use smtp_common::flow::Totals;
use smtp_common::packet::Address;

use super::clock::Span;
use crate::model::period::{Period, Tier};
use crate::model::session::Servers;
use crate::model::{Counts, Folded, PairKey, Source, Tally, Window};
use crate::store::{Committed, Reader, Retention, Store};

const TABLE: u64 = 3;
/// 2026-11-24T00:00:00Z.
const BEGIN: u64 = 1_795_478_400_000;
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

pub(in crate::store) fn host(number: u64) -> Address {
    match number % 3 {
        0 => Address::from_ipv6((0x2001_0db8_u128 << 96 | u128::from(number)).to_be_bytes()),
        _ => Address::from_ipv4((0xc000_0200 + number as u32 * 7).to_be_bytes()),
    }
}

pub(in crate::store) fn made(
    epoch: u64,
    start: u64,
    length: Duration,
    sources: Vec<Source>,
) -> Window {
    let mut tally = Tally::default();
    for source in &sources {
        tally.sources.merge(&source.totals);
    }
    Window {
        epoch,
        started_at: SystemTime::UNIX_EPOCH + Duration::from_millis(start),
        length,
        tally,
        sources,
        flows: Vec::new(),
        lines_used: 0,
        flip: Duration::ZERO,
    }
}

type Key = [u8; 16];
type Pair = (Key, Key);

fn read<T>(result: Result<T, crate::failure::Failure>) -> T {
    result.unwrap_or_else(|failure| panic!("{failure}"))
}

fn sources(reader: &Reader, period: Period) -> BTreeMap<Key, Counts> {
    let mut sources = BTreeMap::new();
    read(reader.sources(period, &mut |address, counts| {
        let twice = sources.insert(address.octets(), *counts);
        assert_eq!(twice, None, "a source comes once");
    }));
    sources
}

fn pairs(reader: &Reader, period: Period) -> BTreeMap<Pair, Counts> {
    let mut pairs = BTreeMap::new();
    read(reader.pairs(period, &mut |key, counts| {
        let key = (key.client.octets(), key.server.octets());
        assert_eq!(pairs.insert(key, *counts), None, "a pair comes once");
    }));
    pairs
}

fn open(path: &Path, keep: &Retention) -> Store {
    let mut store = Store::open(path, 1000).unwrap_or_else(|failure| panic!("{failure}"));
    store.retain(*keep);
    store
}
fn totals(packets: u64) -> Totals {
    Totals {
        connections: packets / 4,
        c2s_packets: packets,
        c2s_bytes: 60 * packets,
        ..Totals::default()
    }
}

fn server(number: u64) -> Address {
    Address::from_ipv4((0xc633_6400 + number as u32).to_be_bytes())
}

/// A window in which a client has packets for these servers, more for the later ones.
fn wide(
    epoch: u64,
    start: u64,
    client: Address,
    servers: std::ops::Range<u64>,
) -> (Window, Folded) {
    let mut folded = Folded::default();
    let mut sum = Totals::default();
    for number in servers {
        let totals = totals(4 * (number + 1));
        sum.merge(&totals);
        let server = server(number);
        let counts = Counts {
            totals,
            ..Counts::default()
        };
        folded.pairs.insert(PairKey { client, server }, counts);
    }
    let source = Source {
        address: client,
        totals: sum,
    };
    let window = made(epoch, start, Duration::from_secs(10), vec![source]);
    (window, folded)
}

fn commit(store: &mut Store, (window, folded): (Window, Folded)) {
    assert_eq!(store.commit(TABLE, &window, &folded), Committed::Stored);
}

fn in_memory() -> Store {
    read(Store::in_memory(Vec::new(), 1000))
}

fn empty(epoch: u64, start: u64) -> (Window, Folded) {
    let window = made(epoch, start, Duration::from_secs(10), Vec::new());
    (window, Folded::default())
}

const ALWAYS: Period = Period {
    from: 0,
    to: u64::MAX >> 1,
};

#[test]
fn of_a_client_with_many_servers_the_largest_pairs_stay_and_the_number_is_estimated() {
    let mut store = in_memory();
    let (many, few) = (host(1), host(2));
    commit(&mut store, wide(1, BEGIN, many, 0..1_000));
    commit(&mut store, wide(2, BEGIN + 10_000, few, 0..1_024));
    commit(&mut store, wide(3, BEGIN + 20_000, many, 900..3_000));
    let reader = read(store.reader());
    let before = Servers {
        count: 3_000,
        exact: true,
    };
    assert_eq!(read(reader.servers_of(many, ALWAYS)), before);
    let all: u64 = read(reader.pairs_of(many, ALWAYS))
        .iter()
        .map(|(_, counts)| counts.totals.c2s_packets)
        .sum();
    commit(&mut store, empty(4, BEGIN + 2 * DAY));
    while store.tidy() {}
    for period in [
        ALWAYS,
        Period {
            from: BEGIN,
            to: BEGIN + HOUR,
        },
    ] {
        let servers = read(reader.servers_of(many, period));
        assert!(
            !servers.exact && servers.count.abs_diff(3_000) < 200,
            "{servers:?}"
        );
        let exact = Servers {
            count: 1_024,
            exact: true,
        };
        assert_eq!(read(reader.servers_of(few, period)), exact);
        let pairs = read(reader.pairs_of(many, period));
        assert_eq!(pairs.len(), super::fold::PAIRS + 1);
        let sum: u64 = pairs
            .iter()
            .map(|(_, counts)| counts.totals.c2s_packets)
            .sum();
        assert_eq!(sum, all, "nothing of the pairs is lost");
        let kept = |address| pairs.iter().any(|(key, _)| key.server == address);
        assert!(kept(server(2_999)) && !kept(server(0)), "the largest stay");
        assert!(kept(super::OTHERS));
    }
}

#[test]
fn days_end_and_what_ended_takes_no_room() {
    let mut store = in_memory();
    store.retain(Retention {
        bins: Duration::from_secs(3600),
        hours: Duration::from_secs(86_400),
        days: Duration::from_secs(3 * 86_400),
    });
    let mut epoch = 0;
    for day in 0..10 {
        for part in 0..24 {
            epoch += 1;
            let start = BEGIN + day * DAY + part * HOUR;
            commit(&mut store, wide(epoch, start, host(day), 0..20));
            while store.tidy() {}
        }
    }
    let reader = read(store.reader());
    let span = reader.span().expect("a span");
    assert_eq!(
        span.from,
        BEGIN + 6 * DAY,
        "the day that ended three days ago is the first"
    );
    let listed: Vec<u64> = read(reader.coverage(Tier::Day, ALWAYS))
        .iter()
        .map(|coverage| (coverage.bucket.start - BEGIN) / DAY)
        .collect();
    assert_eq!(listed, [6, 7, 8, 9]);
    let number = |sql: &str| -> i64 {
        let row = store.connection.query_row(sql, [], |row| row.get(0));
        row.expect("a number")
    };
    let orphans = "SELECT count(*) FROM chunk WHERE id >> 27 NOT IN (SELECT id FROM bucket)";
    assert_eq!(number(orphans), 0);
    assert_eq!(
        number("SELECT count(*) FROM bucket WHERE state IN (0, 3)"),
        0
    );
    assert!(number("SELECT count(*) FROM bucket WHERE tier = 1") <= 13 * 2);
    assert!(number("SELECT count(*) FROM bucket WHERE tier = 2") <= 25 * 2);
}

#[test]
fn a_large_bucket_is_made_in_several_steps_and_not_read_before_the_last() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.db");
    let keep = Retention::default();
    let mut store = open(&path, &keep);
    let sources: Vec<Source> = (0..200_000)
        .map(|number| Source {
            address: Address::from_ipv4((number * 7_u32).to_be_bytes()),
            totals: totals(u64::from(number) % 50 + 1),
        })
        .collect();
    let length = Duration::from_secs(10);
    let window = made(1, BEGIN, length, sources);
    let expected = window.tally.sources;
    commit(&mut store, (window, Folded::default()));
    commit(&mut store, empty(2, BEGIN + HOUR));
    let mut steps = 0;
    loop {
        let reader = read(store.reader());
        let (mut sum, mut number) = (Totals::default(), 0);
        read(reader.sources(ALWAYS, &mut |_, counts| {
            sum.merge(&counts.totals);
            number += 1;
        }));
        assert_eq!((sum, number), (expected, 200_000), "after {steps} steps");
        let bins = read(reader.series(Address::from_ipv4([0, 0, 0, 7]), Tier::Bin, ALWAYS));
        assert_eq!(bins.len(), 1);
        // Whoever dies in between goes on where it was.
        drop(reader);
        drop(store);
        store = open(&path, &keep);
        if !store.tidy() {
            break;
        }
        steps += 1;
    }
    assert!(steps > 6, "{steps} steps");
}

#[test]
fn a_damaged_chunk_is_left_out_loudly_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.db");
    let keep = Retention::default();
    let mut store = open(&path, &keep);
    for (epoch, client) in [(1, host(1)), (2, host(2))] {
        commit(
            &mut store,
            wide(epoch, BEGIN + 10_000 * epoch, client, 0..3),
        );
    }
    let shard = super::shard(host(1));
    let range = super::table::Range::new(1, shard, super::Kind::Sources);
    let changed = store.connection.execute(
        "UPDATE chunk SET body = CAST(substr(body, 1, 6) || x'ff' || substr(body, 8) AS BLOB)
         WHERE id BETWEEN ?1 AND ?2",
        [range.first, range.last],
    );
    assert_eq!(changed.expect("changed"), 1);
    let reader = read(store.reader());
    let found = sources(&reader, ALWAYS);
    assert_eq!(found.keys().collect::<Vec<_>>(), [&host(2).octets()]);
    assert_eq!(reader.damaged(), 1);
    commit(&mut store, empty(3, BEGIN + HOUR));
    while store.tidy() {}
    assert_eq!(store.state().damaged_chunks, 1);
    let reader = read(store.reader());
    assert_eq!(
        sources(&reader, ALWAYS).len(),
        1,
        "the damage is not carried on"
    );
    assert_eq!(reader.damaged(), 0);
    assert_eq!(pairs(&reader, ALWAYS).len(), 6);
}

#[test]
fn a_file_of_version_1_is_brought_up_to_date_and_keeps_its_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.db");
    std::fs::write(&path, include_bytes!("../data/version-1.db")).expect("written");
    let failure = Reader::open(&path).err().expect("refused");
    assert!(
        failure.to_string().contains("earlier smtpflow"),
        "{failure}"
    );
    let mut store = open(&path, &Retention::default());
    let (mut listed, mut sum) = (0, Totals::default());
    let ledger = read(store.load(|kept| {
        listed += 1;
        sum.merge(&kept.source.totals);
    }));
    // As it was made: 40 sources in three windows, and one in a window of other tables.
    assert_eq!(listed, 41);
    assert_eq!(sum, ledger.account.sources);
    assert_eq!(sum.c2s_packets, 3 * (39 * 20) + 40 * (100 + 200 + 300) + 5);
    assert_eq!(read(store.committed(7)), Some(3));
    assert_eq!(read(store.committed(8)), Some(9));
    let reader = read(store.reader());
    assert_eq!((reader.now(), reader.span()), (0, None));
    commit(&mut store, wide(1, BEGIN, host(1), 0..3));
    assert_eq!(sources(&reader, ALWAYS).len(), 1);
    assert!(read(store.load_verdicts(0)).0.is_empty());
    drop(store);
    assert_eq!(sources(&read(Reader::open(&path)), ALWAYS).len(), 1);
}

/// The counts of a run, by kind.
fn sums(run: &super::Run) -> (Totals, Totals, usize) {
    let mut sums = (Totals::default(), Totals::default(), 0);
    super::run::each_shard(&[run], |sources, pairs| {
        let mut row = super::Row::ZERO;
        while let Ok(Some(_)) = sources.next(&mut row, &mut None) {
            sums.0.merge(&row.counts().totals);
            sums.2 += 1;
        }
        while let Ok(Some(_)) = pairs.next(&mut row, &mut None) {
            sums.1.merge(&row.counts().totals);
        }
    });
    sums
}

#[test]
fn what_waits_is_coarsened_pairs_first_the_oldest_first_and_adds_up() {
    let run = |epoch: u64, start: u64| {
        let (mut window, mut folded) = (
            made(epoch, start, Duration::from_secs(10), Vec::new()),
            Folded::default(),
        );
        for number in 0..300 {
            let client = host(epoch * 1_000 + number);
            let totals = totals(number + 1);
            window.sources.push(Source {
                address: client,
                totals,
            });
            for to in 0..20 {
                let counts = Counts {
                    totals,
                    ..Counts::default()
                };
                let server = server(to);
                folded.pairs.insert(PairKey { client, server }, counts);
            }
        }
        let span = Span {
            segment: 0,
            start,
            end: start + 10_000,
        };
        super::Run::new(span, &window, &super::order(&window.sources), &folded)
    };
    // Two of one bin, then one of the next.
    let runs = [
        run(1, BEGIN),
        run(2, BEGIN + 10_000),
        run(3, BEGIN + 300_000),
    ];
    let whole = sums(&runs[0]);
    let same_bin = runs[0].is_of_bin(&runs[1]) && !runs[1].is_of_bin(&runs[2]);
    assert!(same_bin);
    let joined = runs[0].join(&runs[1]);
    assert_eq!(
        (joined.windows, joined.spans.len(), sums(&joined).2),
        (2, 1, 600)
    );
    let without_pairs = runs[0].without_pairs();
    assert!(
        without_pairs.octets() < runs[0].octets() / 2,
        "{}",
        without_pairs.octets()
    );
    assert_eq!(
        sums(&without_pairs),
        whole,
        "sums stay, by source and by client"
    );
    let without_sources = without_pairs.without_sources();
    assert!(without_sources.octets() < 1_000);
    assert_eq!(
        (sums(&without_sources).0, sums(&without_sources).2),
        (whole.0, 1)
    );

    let all: usize = runs.iter().map(super::Run::octets).sum();
    let of_window = runs[2].octets();
    let bin = joined.without_pairs().octets();
    let without = bin + runs[2].without_pairs().octets();
    let mut pending = crate::store::pending::Pending::of_runs(runs.into());
    let left_out = pending.coarsen(all);
    assert_eq!((left_out.pairs, left_out.sources), (0, 0));
    let left_out = pending.coarsen(bin + of_window);
    assert_eq!((left_out.pairs, left_out.sources), (2, 0), "the oldest bin");
    let left_out = pending.coarsen(without);
    assert_eq!((left_out.pairs, left_out.sources), (1, 0));
    let left_out = pending.coarsen(4_000);
    assert_eq!((left_out.pairs, left_out.sources), (0, 3));
    assert!(pending.octets() <= 4_000);
}
