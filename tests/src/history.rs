//! A made-up history whose every window follows from its number.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use smtp_common::flow::Totals;
use smtp_common::packet::Address;
use smtp_user::model::period::Period;
use smtp_user::model::session::{Outcome, Sessions};
use smtp_user::model::{Counts, Folded, PairKey, Source, Tally, Window};
use smtp_user::store::{Reader, Retention};

/// The tables that its windows come from.
pub const TABLE: u64 = 1;
/// How long it is kept: short, so that all that there is to do is done within a day.
pub const RETENTION: Retention = Retention {
    bins: Duration::from_secs(2 * 3600),
    hours: Duration::from_secs(6 * 3600),
    days: Duration::from_secs(1000 * 86_400),
};
/// Length of a window in seconds: three to a bin.
pub const LENGTH: u64 = 100;
/// When it begins, 2026-11-24T00:00:00Z.
pub const BEGIN: u64 = 1_795_478_400;
/// All of it.
pub const ALWAYS: Period = Period {
    from: 0,
    to: u64::MAX >> 1,
};

fn host(number: u64) -> Address {
    match number % 4 {
        0 => Address::from_words(0x2001_0db8_0000_0000, number),
        _ => Address::from_ipv4((0xc000_0200 + number as u32).to_be_bytes()),
    }
}

fn counts(random: u64) -> Counts {
    let connections = random % 5;
    let mut sessions = Sessions::default();
    sessions.outcomes.0[Outcome::Delivered.index()] = connections;
    sessions.accepted = random % 3;
    Counts {
        totals: Totals {
            connections,
            c2s_packets: 10 * connections + 1,
            c2s_bytes: random % 10_000 + 40,
            s2c_packets: random % 7,
            s2c_bytes: 60 * (random % 7),
            ..Totals::default()
        },
        sessions,
        peak: Counts::peak_of(connections, Duration::from_secs(LENGTH)),
    }
}

/// The window with this number, from 1 on.
pub fn window(epoch: u64) -> (Window, Folded) {
    let mut folded = Folded::default();
    let mut sources: BTreeMap<[u8; 16], Source> = BTreeMap::new();
    let mut random = epoch.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..4 {
        random = random.rotate_left(23).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ epoch;
        let key = PairKey {
            client: host(random % 37),
            server: host(100 + (random >> 20) % 11),
        };
        let counts = counts(random >> 33);
        folded.pairs.entry(key).or_default().merge(&counts);
        let sessions = folded.clients.entry(key.client).or_default();
        sessions.merge(&counts.sessions);
        let source = sources.entry(key.client.octets()).or_insert(Source {
            address: key.client,
            totals: Totals::default(),
        });
        source.totals.merge(&counts.totals);
    }
    let sources: Vec<Source> = sources.into_values().collect();
    let mut tally = Tally::default();
    for source in &sources {
        tally.sources.merge(&source.totals);
    }
    let window = Window {
        epoch,
        started_at: SystemTime::UNIX_EPOCH + Duration::from_secs(BEGIN + LENGTH * (epoch - 1)),
        length: Duration::from_secs(LENGTH),
        tally,
        sources,
        flows: Vec::new(),
        lines_used: 0,
        flip: Duration::ZERO,
    };
    (window, folded)
}

/// Counts by source and by pair.
pub type Sums = (
    BTreeMap<[u8; 16], Counts>,
    BTreeMap<([u8; 16], [u8; 16]), Counts>,
);

/// What windows up to the one with this number add up to.
pub fn expected(last: u64) -> Sums {
    let (mut sources, mut pairs) = Sums::default();
    for epoch in 1..=last {
        let (window, folded) = window(epoch);
        for source in &window.sources {
            let counts = Counts {
                totals: source.totals,
                sessions: folded.clients[&source.address],
                peak: Counts::peak_of(source.totals.connections, window.length),
            };
            let of: &mut Counts = sources.entry(source.address.octets()).or_default();
            of.merge(&counts);
        }
        for (key, counts) in &folded.pairs {
            let key = (key.client.octets(), key.server.octets());
            let of: &mut Counts = pairs.entry(key).or_default();
            of.merge(counts);
        }
    }
    (sources, pairs)
}

/// What a store holds of a period.
pub fn held(reader: &Reader, period: Period) -> Sums {
    let (mut sources, mut pairs) = Sums::default();
    reader
        .sources(period, &mut |address, counts| {
            assert_eq!(sources.insert(address.octets(), *counts), None);
        })
        .and_then(|()| {
            reader.pairs(period, &mut |key, counts| {
                let key = (key.client.octets(), key.server.octets());
                assert_eq!(pairs.insert(key, *counts), None);
            })
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    (sources, pairs)
}
