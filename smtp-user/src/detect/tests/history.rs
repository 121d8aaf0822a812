//! Facts from history, and a judge that begins with it, are those of a judge that saw it all.

use std::collections::HashMap;

use proptest::prelude::*;

use super::judge::{Deeds, HOSTS, seen, windows};
use super::*;
use crate::model::period::Coverage;

/// What a store keeps of windows: sources and pairs by hour.
#[derive(Default)]
struct Shelf {
    now: u64,
    hours: Vec<Coverage>,
    sources: HashMap<(Bucket, Address), Counts>,
    pairs: HashMap<(Bucket, PairKey), Counts>,
}

impl Shelf {
    fn add(&mut self, seen: &Seen) {
        let Window {
            sources, length, ..
        } = &seen.window;
        let bucket = hour_of(0, seen.start());
        match self.hours.last_mut() {
            Some(hour) if hour.bucket == bucket => hour.up += *length,
            _ => self.hours.push(Coverage {
                bucket,
                up: *length,
            }),
        }
        self.now = seen.start() + length.as_millis() as u64;
        for source in sources {
            let counts = Counts {
                totals: source.totals,
                peak: Counts::peak_of(source.totals.connections, *length),
                ..Counts::default()
            };
            self.sources
                .entry((bucket, source.address))
                .or_default()
                .merge(&counts);
        }
        for (client, sessions) in &seen.folded.clients {
            let counts = self.sources.entry((bucket, *client)).or_default();
            counts.sessions.merge(sessions);
        }
        for (pair, counts) in &seen.folded.pairs {
            self.pairs.entry((bucket, *pair)).or_default().merge(counts);
        }
    }

    fn facts(&self, policy: &Policy, host: &str) -> Facts {
        let subject = policy.subject_of(host.parse().expect("an address"));
        let of_subject = |address: Address| subject.contains(&IpAddr::from(address));
        let (running, closed) = self.hours.split_last().expect("windows");
        let hours: Vec<_> = self
            .sources
            .iter()
            .filter(|((_, address), _)| of_subject(*address))
            .map(|((bucket, _), counts)| (*bucket, *counts))
            .collect();
        let pairs: Vec<_> = self
            .pairs
            .iter()
            .filter(|((bucket, pair), _)| *bucket == running.bucket && of_subject(pair.client))
            .map(|((_, pair), counts)| (*pair, *counts))
            .collect();
        Facts::from_history(&Kept {
            now: self.now,
            running: *running,
            closed,
            hours: &hours,
            pairs: &pairs,
            servers: None,
        })
    }

    fn judge(&self) -> Judge {
        let mut judge = Bench::new().judge;
        let (running, closed) = self.hours.split_last().expect("windows");
        judge.begin(self.now, closed, Some(*running));
        for ((bucket, address), counts) in &self.sources {
            judge.remember(*bucket, *address, counts);
        }
        for ((bucket, pair), counts) in &self.pairs {
            if *bucket == running.bucket {
                judge.remember_pair(*pair, counts);
            }
        }
        judge
    }
}

/// Hours, some of them without a window.
fn hours() -> impl Strategy<Value = Vec<(bool, Vec<Deeds>)>> {
    proptest::collection::vec((proptest::bool::weighted(0.8), windows()), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn history_and_the_judge_have_the_same_facts(hours in hours(), next in windows()) {
        let mut court = Bench::new();
        let mut shelf = Shelf::default();
        for (number, (up, windows)) in hours.iter().enumerate() {
            if !up && number > 0 {
                continue;
            }
            for (at, deeds) in windows.iter().enumerate() {
                let at = MIDNIGHT + number as u64 * HOUR + 300_000 * at as u64;
                let seen = seen(at, 300, deeds);
                court.add(&seen);
                shelf.add(&seen);
            }
        }
        let mut restarted = Bench::new();
        restarted.judge = shelf.judge();
        for host in HOSTS {
            let ip = host.parse().expect("an address");
            let live = court.judge.facts_of(ip).expect("windows");
            prop_assert_eq!(&shelf.facts(court.judge.policy(), host), &live);
            prop_assert_eq!(&restarted.judge.facts_of(ip).expect("windows"), &live);
        }
        // A restart changes nothing for what follows, in this hour or in a later one.
        for (number, deeds) in next.iter().enumerate() {
            let seen = seen(shelf.now + 700_000 * number as u64, 300, deeds);
            prop_assert_eq!(court.add(&seen), restarted.add(&seen));
        }
        for host in HOSTS {
            prop_assert_eq!(court.rules(host), restarted.rules(host));
        }
    }
}

#[test]
fn where_not_all_pairs_are_kept_the_estimate_of_servers_counts() {
    let running = Coverage {
        bucket: hour_of(0, MIDNIGHT),
        up: Duration::from_hours(1),
    };
    let counts = |connections| Counts {
        totals: Totals {
            connections,
            c2s_packets: connections,
            ..Totals::default()
        },
        ..Counts::default()
    };
    let pair = |server| PairKey {
        client: address(HOST),
        server,
    };
    let pairs = [
        (pair(server(1)), counts(5)),
        (pair(address("::")), counts(3000)),
    ];
    let servers = crate::model::session::Servers {
        count: 2900,
        exact: false,
    };
    let facts = Facts::from_history(&Kept {
        now: MIDNIGHT + HOUR,
        running,
        closed: &[],
        hours: &[(running.bucket, counts(3005))],
        pairs: &pairs,
        servers: Some(servers),
    });
    assert_eq!(facts.peers.servers, servers);
    assert_eq!(facts.peers.busiest, Some((server(1), 5)));
    assert_eq!(facts.peers.paired, 3005);
}
