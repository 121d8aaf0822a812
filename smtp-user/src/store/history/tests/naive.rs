//! History against a naive model that keeps every window: each count is seen exactly once.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::period::Bucket;
use crate::store::history::clock::{Clock, Span};

/// Numbers by chance (SplitMix64).
pub(in crate::store) struct Chance(pub(in crate::store) u64);

impl Chance {
    pub(in crate::store) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub(in crate::store) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

fn counts(chance: &mut Chance, length: Duration) -> Counts {
    // Small and large, so that every length of a number comes.
    let mut number = || match chance.below(4) {
        0 => 0,
        1 => chance.below(300),
        2 => chance.below(1 << 20),
        _ => chance.below(1 << 40),
    };
    let mut counts = Counts {
        totals: Totals {
            connections: number() & 0xffff,
            syn_retx: number() & 0xff,
            c2s_packets: number(),
            c2s_bytes: number(),
            s2c_packets: number(),
            s2c_bytes: number(),
            answered: number(),
            refused: number(),
        },
        ..Counts::default()
    };
    for count in &mut counts.sessions.outcomes.0 {
        *count = number();
    }
    for count in &mut counts.sessions.said.0 {
        *count = number();
    }
    counts.sessions.unfollowed = number();
    counts.sessions.accepted = number();
    counts.peak = Counts::peak_of(counts.totals.connections, length);
    counts
}

/// A window whose sources and pairs are among a few hosts.
fn window(chance: &mut Chance, epoch: u64, start: u64, length: u64) -> (Window, Folded) {
    let length = Duration::from_millis(length);
    let mut folded = Folded::default();
    let mut sources = BTreeMap::new();
    for _ in 0..chance.below(6) {
        let address = host(chance.below(12));
        sources.insert(address.octets(), (address, counts(chance, length).totals));
    }
    for _ in 0..chance.below(6) {
        let client = host(chance.below(12));
        let sessions = counts(chance, length).sessions;
        folded.clients.insert(client, sessions);
        for _ in 0..chance.below(3) {
            let server = host(chance.below(12));
            folded
                .pairs
                .insert(PairKey { client, server }, counts(chance, length));
        }
    }
    let sources: Vec<Source> = sources
        .into_values()
        .rev()
        .map(|(address, totals)| Source { address, totals })
        .collect();
    (made(epoch, start, length, sources), folded)
}

/// A window: when it was, its sources and its pairs.
type Given = (Span, BTreeMap<Key, Counts>, BTreeMap<Pair, Counts>);

/// Every window, as it was given.
#[derive(Default)]
struct Naive {
    clock: Clock,
    /// The latest time that ages were ever measured from.
    latest: u64,
    windows: Vec<Given>,
}

impl Naive {
    fn add(&mut self, window: &Window, folded: &Folded) {
        let span = self.clock.place(window);
        self.latest = self.latest.max(self.clock.horizon);
        let mut sources: BTreeMap<Key, Counts> = BTreeMap::new();
        for source in &window.sources {
            let of = sources.entry(source.address.octets()).or_default();
            of.totals = source.totals;
            of.peak = Counts::peak_of(source.totals.connections, window.length);
        }
        for (client, sessions) in &folded.clients {
            sources.entry(client.octets()).or_default().sessions = *sessions;
        }
        let pairs = folded.pairs.iter();
        let pairs =
            pairs.map(|(key, counts)| ((key.client.octets(), key.server.octets()), *counts));
        self.windows.push((span, sources, pairs.collect()));
    }

    fn within(&self, period: Period) -> impl Iterator<Item = &Given> {
        let windows = self.windows.iter();
        windows.filter(move |(span, ..)| period.contains(span.start))
    }

    fn sources(&self, period: Period) -> BTreeMap<Key, Counts> {
        let mut sum: BTreeMap<Key, Counts> = BTreeMap::new();
        for (_, sources, _) in self.within(period) {
            for (key, counts) in sources {
                sum.entry(*key).or_default().merge(counts);
            }
        }
        sum
    }

    fn pairs(&self, period: Period) -> BTreeMap<Pair, Counts> {
        let mut sum: BTreeMap<Pair, Counts> = BTreeMap::new();
        for (.., pairs) in self.within(period) {
            for (key, counts) in pairs {
                sum.entry(*key).or_default().merge(counts);
            }
        }
        sum
    }

    fn series(&self, address: Address, tier: Tier, period: Period) -> BTreeMap<Bucket, Counts> {
        let mut sum: BTreeMap<Bucket, Counts> = BTreeMap::new();
        for (span, sources, _) in self.within(super::super::touched(period, tier)) {
            let bucket = Bucket {
                segment: span.segment,
                start: tier.start_of(span.start),
                tier,
            };
            if let Some(counts) = sources.get(&address.octets()) {
                sum.entry(bucket).or_default().merge(counts);
            }
        }
        sum
    }

    fn coverage(&self, tier: Tier, period: Period) -> BTreeMap<Bucket, u64> {
        let mut sum: BTreeMap<Bucket, u64> = BTreeMap::new();
        let length = tier.length().expect("no windows");
        for (span, ..) in &self.windows {
            let mut at = span.start;
            loop {
                let start = tier.start_of(at);
                let end = span.end.min(start + length);
                let bucket = Bucket {
                    segment: span.segment,
                    start,
                    tier,
                };
                if super::super::touched(period, tier).contains(start) {
                    *sum.entry(bucket).or_default() += end - at;
                }
                at = end;
                if at >= span.end {
                    break;
                }
            }
        }
        sum
    }
}

/// Asks everything about a period.
fn compare(reader: &Reader, naive: &Naive, asked: Period, keep: &Retention) {
    let period = reader.snap(asked);
    assert!(
        period.from <= asked.from && period.to >= asked.to,
        "{asked:?}: {period:?}"
    );
    assert_eq!(reader.snap(period), period);
    assert_eq!(
        sources(reader, asked),
        naive.sources(period),
        "{asked:?}, {period:?}"
    );
    let all = naive.pairs(period);
    assert_eq!(pairs(reader, asked), all);
    for number in 0..12 {
        let client = host(number);
        let mine = all.iter().filter(|((of, _), _)| *of == client.octets());
        let mine: BTreeMap<Pair, Counts> = mine.map(|(key, counts)| (*key, *counts)).collect();
        let found = read(reader.pairs_of(client, asked));
        let found: BTreeMap<Pair, Counts> = found
            .into_iter()
            .map(|(key, counts)| ((key.client.octets(), key.server.octets()), counts))
            .collect();
        assert_eq!(found, mine);
        let servers = Servers {
            count: mine.len() as u64,
            exact: true,
        };
        assert_eq!(read(reader.servers_of(client, asked)), servers);
        for tier in [Tier::Bin, Tier::Hour, Tier::Day] {
            // What is certainly kept as finely.
            let kept = naive.latest.saturating_sub(keep.of(tier));
            let asked = Period {
                from: asked.from.max(kept),
                to: asked.to.max(kept),
            };
            let found: BTreeMap<Bucket, Counts> = read(reader.series(client, tier, asked))
                .into_iter()
                .collect();
            let expected: BTreeMap<Bucket, Counts> = naive.series(client, tier, asked);
            assert_eq!(found, expected, "{tier:?} {asked:?}");
        }
    }
    for tier in [Tier::Bin, Tier::Hour, Tier::Day] {
        let kept = naive.latest.saturating_sub(keep.of(tier));
        let asked = Period {
            from: asked.from.max(kept),
            to: asked.to.max(kept),
        };
        let found = read(reader.coverage(tier, asked));
        let found: BTreeMap<Bucket, u64> = found
            .into_iter()
            .map(|coverage| (coverage.bucket, coverage.up.as_millis() as u64))
            .collect();
        let expected = naive.coverage(tier, asked);
        assert_eq!(found, expected, "{tier:?}");
        for up in expected.values() {
            assert!(
                Some(*up) <= tier.length(),
                "a bucket holds more than its time"
            );
        }
    }
}

/// A history by chance, with restarts and with tidying that is cut short.
fn history(seed: u64, windows: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.db");
    let keep = Retention {
        bins: Duration::from_secs(2 * 3600),
        hours: Duration::from_secs(24 * 3600),
        days: Duration::from_secs(100 * 86_400),
    };
    let chance = &mut Chance(seed);
    let (mut store, mut naive) = (open(&path, &keep), Naive::default());
    let mut now = BEGIN + chance.below(DAY);
    for epoch in 1..=windows {
        // Mostly one after the other; sometimes late, asleep for hours, or with the clock set back.
        match chance.below(20) {
            0 => now += chance.below(30 * HOUR),
            1 => now -= chance.below(3 * HOUR),
            2 => now -= chance.below(1000),
            3 => now += chance.below(20_000),
            _ => {}
        }
        let length = match chance.below(8) {
            0 => chance.below(5 * HOUR),
            1 => 10_000,
            _ => chance.below(600_000),
        };
        let (window, folded) = window(chance, epoch, now, length);
        naive.add(&window, &folded);
        assert_eq!(store.commit(TABLE, &window, &folded), Committed::Stored);
        now += length;
        match chance.below(4) {
            0 => while store.tidy() {},
            1 => {
                for _ in 0..chance.below(4) {
                    store.tidy();
                }
            }
            _ => {}
        }
        if chance.below(10) == 0 {
            drop(store);
            store = open(&path, &keep);
        }
    }
    assert_eq!(store.state().history_failure, None);
    let reader = read(store.reader());
    let newest = naive.windows.last().expect("a window").0.end;
    assert_eq!(reader.now(), newest);
    let always = Period {
        from: 0,
        to: u64::MAX >> 1,
    };
    assert_eq!(sources(&reader, always), naive.sources(always));
    let span = reader.span().expect("a span");
    for round in 0..8 {
        if round == 4 {
            while store.tidy() {}
        }
        let from = span.from + chance.below(span.length() + 1);
        let to = from + chance.below(span.to - from + 1);
        compare(&reader, &naive, Period { from, to }, &keep);
    }
    // It adds up to what the ledger says of all windows.
    let mut sum = Totals::default();
    for counts in sources(&reader, always).values() {
        sum.merge(&counts.totals);
    }
    let ledger = read(store.load(|_| {}));
    assert_eq!(sum, ledger.account.sources);
    assert_eq!(reader.damaged(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn each_count_is_seen_once_whatever_happens_in_between(seed in any::<u64>()) {
        history(seed, 150);
    }
}
