//! What history costs in the store: the ancestor's load, a million sources in an hour, and what is
//! asked of a month.
//!
//! `cargo bench -p smtpflow-tests --bench history_store`; `TMPDIR` chooses the disk. One part alone, in
//! a process of its own: `-- load`, `-- flood`, `-- month`, `-- long-month` (2 GB of disk and some
//! minutes; also run where `SMTPFLOW_LONG` is set).

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use smtp_common::flow::Totals;
use smtp_common::packet::Address;
use smtp_user::detect::{Policy, Settings};
use smtp_user::failure::Failure;
use smtp_user::model::period::{Period, Tier};
use smtp_user::model::session::{Outcome, Sessions};
use smtp_user::model::{Counts, Folded, PairKey, Source, Tally, Window};
use smtp_user::report::host::HostReport;
use smtp_user::report::month::PeriodReport;
use smtp_user::report::tune::{Limit, Measure, tune};
use smtp_user::report::why::why;
use smtp_user::store::{Committed, Reader, Retention, Store};
use smtpflow_tests::cost::{Cost, measure, median, resident_mib};
use smtpflow_tests::long;

/// 2026-11-01T00:00:00Z.
const BEGIN: u64 = 1_793_491_200;
const ROUNDS: usize = 9;
/// What a query may take.
const GOAL: Duration = Duration::from_millis(200);

/// Bits of a number, spread (the finaliser of SplitMix64).
fn scatter(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// What is there, or a panic that says why it is not.
trait Good<T> {
    fn good(self) -> T;
}

impl<T> Good<T> for Result<T, Failure> {
    fn good(self) -> T {
        self.unwrap_or_else(|failure| panic!("{failure}"))
    }
}

fn client(number: u64) -> Address {
    if number % 8 == 7 {
        Address::from_words(0x2001_0db8_0000_0000 | number >> 8, scatter(number))
    } else {
        Address::from_ipv4((0x0a00_0000 + number as u32).to_be_bytes())
    }
}

fn server(number: u64) -> Address {
    Address::from_ipv4((scatter(number) as u32 | 0x8000_0000).to_be_bytes())
}

/// The counts of a few connections.
fn counts(random: u64, length: Duration) -> Counts {
    let connections = 1 + random % 4;
    let packets = 9 * connections + random / 5 % 30;
    let mut sessions = Sessions::default();
    sessions.outcomes.0[Outcome::Delivered.index()] = connections;
    sessions.said.0 = [
        connections,
        connections,
        4 * connections,
        connections,
        0,
        random / 7 % 2,
    ];
    sessions.accepted = connections;
    Counts {
        totals: Totals {
            connections,
            syn_retx: random / 11 % 2,
            c2s_packets: packets,
            c2s_bytes: 60 * packets + random / 13 % 40_000,
            s2c_packets: packets - 2,
            s2c_bytes: 70 * packets,
            answered: connections,
            refused: 0,
        },
        sessions,
        peak: Counts::peak_of(connections, length),
    }
}

/// Collects what one window says.
#[derive(Default)]
struct Maker {
    sources: std::collections::HashMap<Address, Totals>,
    folded: Folded,
}

impl Maker {
    fn add(&mut self, key: PairKey, counts: &Counts) {
        self.folded.pairs.entry(key).or_default().merge(counts);
        self.sources
            .entry(key.client)
            .or_default()
            .merge(&counts.totals);
        let sessions = self.folded.clients.entry(key.client).or_default();
        sessions.merge(&counts.sessions);
    }

    fn window(self, epoch: u64, start: u64, length: Duration) -> (Window, Folded) {
        let sources = self.sources.into_iter();
        let sources: Vec<Source> = sources
            .map(|(address, totals)| Source { address, totals })
            .collect();
        let mut tally = Tally::default();
        for source in &sources {
            tally.sources.merge(&source.totals);
        }
        let window = Window {
            epoch,
            started_at: SystemTime::UNIX_EPOCH + Duration::from_secs(start),
            length,
            tally,
            sources,
            flows: Vec::new(),
            lines_used: 0,
            flip: Duration::ZERO,
        };
        (window, self.folded)
    }
}

fn total(costs: &[Cost]) -> Cost {
    Cost {
        time: costs.iter().map(|cost| cost.time).sum(),
        cpu: costs.iter().map(|cost| cost.cpu).sum(),
    }
}

fn open(path: &Path, sources: u32) -> Store {
    let mut store = Store::open(path, sources).good();
    store.retain(Retention {
        // So that the sizes of all tiers can be seen side by side.
        bins: Duration::from_secs(48 * 3600),
        ..Retention::default()
    });
    store
}

/// Commits and tidies windows, and says what that costs.
fn write(store: &mut Store, windows: impl Iterator<Item = (Window, Folded)>) {
    let (mut commits, mut steps): (Vec<Cost>, Vec<Cost>) = (Vec::new(), Vec::new());
    let mut resident = 0.0_f64;
    for (window, folded) in windows {
        let (committed, cost) = measure(|| store.commit(1, &window, &folded));
        assert_eq!(committed, Committed::Stored);
        commits.push(cost);
        loop {
            let (more, cost) = measure(|| store.tidy());
            steps.push(cost);
            if !more {
                break;
            }
        }
        resident = resident.max(resident_mib());
    }
    let state = store.state();
    assert_eq!((state.failure, state.history_failure), (None, None));
    println!(
        "  commits          {}, the median {}",
        total(&commits),
        median(&commits)
    );
    let longest = steps.iter().map(|cost| cost.cpu).max().unwrap_or_default();
    println!(
        "  merging          {}, {} steps of at most {longest:.1?} CPU",
        total(&steps),
        steps.len()
    );
    println!("  resident         {resident:.0} MiB at most, with the window");
}

fn sizes(path: &Path, reader: &Reader, period: Period) {
    let bytes = std::fs::metadata(path).expect("a file").len();
    println!("  file             {:.1} MB", bytes as f64 / 1e6);
    for (tier, kind, octets, records) in reader.sizes(period).good() {
        println!(
            "  {:6} {kind:7}   {records:10} records, {:7.1} MB, {:5.1} MB a million",
            tier.name(),
            octets as f64 / 1e6,
            octets as f64 / records.max(1) as f64
        );
    }
}

/// The ancestor's load: 143,492 pairs of 20,000 sources an hour, in 360 windows.
fn load(folder: &Path) {
    const PAIRS: u64 = 143_492;
    const SOURCES: u64 = 20_000;
    println!("{PAIRS} pairs of {SOURCES} sources in an hour of 360 windows");
    let path = folder.join("load.db");
    let mut store = open(&path, 1_000_000);
    let length = Duration::from_secs(10);
    let hour = |hour: u64| {
        (0..360).map(move |number| {
            let mut maker = Maker::default();
            for pair in (0..PAIRS).filter(|pair| scatter(*pair) % 360 == number) {
                let key = PairKey {
                    client: client(scatter(pair) / 360 % SOURCES),
                    server: server(pair % 50_000),
                };
                maker.add(key, &counts(scatter(pair ^ hour), length));
            }
            let start = BEGIN + 3600 * hour + 10 * number;
            maker.window(1 + 360 * hour + number, start, length)
        })
    };
    let windows: Vec<_> = hour(0).collect();
    let (mut plain, mut costs) = (open(&folder.join("plain.db"), 1_000_000), Vec::new());
    for (window, _) in &windows {
        let mut alone = window.clone();
        alone.sources.truncate(window.sources.len());
        costs.push(measure(|| plain.commit(1, &alone, &Folded::default())).1);
    }
    println!(
        "  without pairs    {}, the median {}",
        total(&costs),
        median(&costs)
    );
    drop(plain);
    write(&mut store, windows.into_iter());
    let reader = store.reader().good();
    let period = Period {
        from: 1000 * BEGIN,
        to: 1000 * (BEGIN + 3600),
    };
    let mut all = 0;
    let (asked, cost) = measure(|| reader.pairs(period, &mut |_, _| all += 1));
    asked.good();
    println!("  all pairs        {cost}, {all} of them");
    let mut all = 0;
    let (asked, cost) = measure(|| reader.sources(period, &mut |_, _| all += 1));
    asked.good();
    println!("  all sources      {cost}, {all} of them");
    sizes(&path, &reader, period);
}

/// A million sources in an hour, each with a pair, as a flood with forged addresses brings them.
fn flood(folder: &Path) {
    const SOURCES: u64 = 1_000_000;
    println!("{SOURCES} sources in an hour of 360 windows, a pair each");
    let path = folder.join("flood.db");
    let mut store = open(&path, 1_000_000);
    let length = Duration::from_secs(10);
    let windows = (0..366).map(|number| {
        let mut maker = Maker::default();
        for source in (0..SOURCES).skip(number as usize).step_by(360) {
            if number >= 360 {
                break;
            }
            let key = PairKey {
                client: Address::from_ipv4((scatter(source) as u32).to_be_bytes()),
                server: server(source % 3),
            };
            maker.add(key, &counts(scatter(source), length));
        }
        maker.window(1 + number, BEGIN + 10 * number, length)
    });
    write(&mut store, windows);
    let reader = store.reader().good();
    let period = Period {
        from: 1000 * BEGIN,
        to: 1000 * (BEGIN + 3600),
    };
    let mut all = 0;
    let (asked, cost) = measure(|| reader.sources(period, &mut |_, _| all += 1));
    asked.good();
    println!("  all sources      {cost}, {all} of them");
    sizes(&path, &reader, period);
}

/// A month with so many sources and pairs in every hour, of twice as many sources, each of which
/// has 40 servers in all.
fn month(folder: &Path, sources: u64, pairs: u64) {
    const HOURS: u64 = 720;
    println!("a month: {sources} sources and {pairs} pairs in each of {HOURS} hours");
    let path = folder.join(format!("month-{pairs}.db"));
    let mut store = open(&path, 1_000_000);
    let length = Duration::from_secs(3600);
    let windows = (0..=HOURS).map(|hour| {
        let mut maker = Maker::default();
        for number in 0..if hour == HOURS { 0 } else { pairs } {
            let random = scatter((hour << 32) | number);
            // Half of all sources are there in an hour.
            let of = 2 * (number % sources) + scatter((hour << 20) | (number % sources)) % 2;
            let key = PairKey {
                client: client(of),
                server: server(40 * of + random % 40),
            };
            maker.add(key, &counts(random >> 8, length));
        }
        maker.window(1 + hour, BEGIN + 3600 * hour, length)
    });
    write(&mut store, windows);
    let reader = store.reader().good();
    let month = Period {
        from: 1000 * BEGIN,
        to: 1000 * (BEGIN + 3600 * HOURS),
    };
    assert_eq!(reader.snap(month), month);
    sizes(&path, &reader, month);
    let ragged = Period {
        from: month.from + 5 * 3_600_000,
        to: month.to - 7 * 3_600_000,
    };
    let one = client(40);
    type Query<'a> = (&'a str, Box<dyn Fn() -> u64 + 'a>);
    let policy = Policy::new(
        Settings::default(),
        vec!["10.0.0.0/8".parse().expect("a prefix")],
        Vec::new(),
    );
    let local = ["10.0.0.0/8".parse().expect("a prefix")];
    let limits = [30, 100].map(|above| Limit {
        measure: Measure::Connections,
        above,
        in_effect: above == 30,
    });
    let queries: [Query<'_>; 15] = [
        (
            "sources of the month",
            Box::new(|| {
                let mut number = 0;
                reader.sources(month, &mut |_, _| number += 1).good();
                number
            }),
        ),
        (
            "sources of 29 days and hours",
            Box::new(|| {
                let mut number = 0;
                reader.sources(ragged, &mut |_, _| number += 1).good();
                number
            }),
        ),
        (
            "pairs of the month",
            Box::new(|| {
                let mut number = 0;
                reader.pairs(month, &mut |_, _| number += 1).good();
                number
            }),
        ),
        (
            "pairs of 29 days and hours",
            Box::new(|| {
                let mut number = 0;
                reader.pairs(ragged, &mut |_, _| number += 1).good();
                number
            }),
        ),
        (
            "sources hour by hour",
            Box::new(|| {
                let mut number = 0;
                reader.hours(month, &mut |_, _, _| number += 1).good();
                number
            }),
        ),
        (
            "a host hour by hour",
            Box::new(|| reader.series(one, Tier::Hour, month).good().len() as u64),
        ),
        (
            "a host day by day",
            Box::new(|| reader.series(one, Tier::Day, month).good().len() as u64),
        ),
        (
            "the pairs of a host",
            Box::new(|| reader.pairs_of(one, month).good().len() as u64),
        ),
        (
            "the servers of a host",
            Box::new(|| reader.servers_of(one, month).good().count),
        ),
        (
            "the pairs of a host, 29 days and hours",
            Box::new(|| reader.pairs_of(one, ragged).good().len() as u64),
        ),
        (
            "coverage by hours",
            Box::new(|| reader.coverage(Tier::Hour, month).good().len() as u64),
        ),
        (
            "the report of the month",
            Box::new(|| {
                let report = PeriodReport::read(&reader, None, month, &policy).good();
                report.document().text().len() as u64
            }),
        ),
        (
            "the report of a host",
            Box::new(|| {
                let host = HostReport::read(&reader, one.into(), month, &local).good();
                host.document().text().len() as u64
            }),
        ),
        (
            "why a host is flagged",
            Box::new(|| {
                let why = why(&reader, &policy, one.into()).good();
                why.rules.len() as u64
            }),
        ),
        (
            "two limits on the month",
            Box::new(|| {
                let tuning = tune(&reader, &policy, &local, &limits, month).good();
                tuning.hosts
            }),
        ),
    ];
    for (name, query) in queries {
        let mut costs = Vec::new();
        let mut number = 0;
        for _ in 0..ROUNDS {
            let (found, cost) = measure(&query);
            number = found;
            costs.push(cost);
        }
        let middle = median(&costs);
        let verdict = if middle.time <= GOAL {
            ""
        } else {
            "  MORE THAN 200 ms"
        };
        println!("  {name:40} {middle}, {number:9} answers{verdict}");
    }
    assert_eq!(reader.damaged(), 0);
    drop(store);
    let _ = std::fs::remove_file(path);
}

fn main() {
    let parts = ["load", "flood", "month", "long-month"];
    let chosen = std::env::args()
        .skip(1)
        .find(|word| parts.contains(&word.as_str()));
    if let Some(part) = chosen {
        let folder = tempfile::tempdir().expect("a folder");
        match part.as_str() {
            "load" => load(folder.path()),
            "flood" => flood(folder.path()),
            "month" => month(folder.path(), 2_000, 10_000),
            _ => month(folder.path(), 20_000, 143_492),
        }
        return;
    }
    let me = std::env::current_exe().expect("this program");
    for part in parts.iter().filter(|part| **part != "long-month" || long()) {
        let status = Command::new(&me).arg(part).status();
        assert!(status.expect("a start").success());
    }
}
