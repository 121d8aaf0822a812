//! What the agent remembers: every source since it started, within a bound.
//!
//! Contract: no count of a window is forgotten. A source that comes when the list is full is not
//! listed, but its counts are, as `untracked`.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use smtp_common::flow::Totals;
use smtp_common::packet::Address;

use crate::model::{Scope, SourceRow, Tally, Window};

/// Sums over windows.
pub struct History {
    local: Vec<IpNet>,
    capacity: usize,
    sources: HashMap<Address, Entry>,
    since_start: Tally,
    untracked: Totals,
    windows: u64,
}

/// What is known of one source.
struct Entry {
    scope: Scope,
    total: Totals,
    /// The counts of its latest window, and which one that was.
    window: Totals,
    window_number: u64,
}

impl History {
    /// An empty history of at most `capacity` sources; `local` are the operator's own prefixes.
    pub fn new(local: Vec<IpNet>, capacity: usize) -> Self {
        Self {
            local,
            capacity,
            sources: HashMap::new(),
            since_start: Tally::default(),
            untracked: Totals::default(),
            windows: 0,
        }
    }

    /// Adds a window.
    pub fn add(&mut self, window: &Window) {
        self.windows += 1;
        self.since_start.merge(&window.tally);
        for source in &window.sources {
            if let Some(entry) = self.sources.get_mut(&source.address) {
                entry.total.merge(&source.totals);
                entry.window = source.totals;
                entry.window_number = self.windows;
            } else if self.sources.len() < self.capacity {
                let entry = Entry {
                    scope: scope_of(&self.local, source.ip()),
                    total: source.totals,
                    window: source.totals,
                    window_number: self.windows,
                };
                self.sources.insert(source.address, entry);
            } else {
                self.untracked.merge(&source.totals);
            }
        }
    }

    /// The account since the start.
    pub const fn since_start(&self) -> &Tally {
        &self.since_start
    }

    /// Counts of sources that are not listed.
    pub const fn untracked(&self) -> Totals {
        self.untracked
    }

    /// Every listed source, in no order.
    pub fn rows(&self) -> Vec<SourceRow> {
        let row = |(address, entry): (&Address, &Entry)| SourceRow {
            address: (*address).into(),
            scope: entry.scope,
            total: entry.total,
            window: if entry.window_number == self.windows {
                entry.window
            } else {
                Totals::default()
            },
        };
        self.sources.iter().map(row).collect()
    }
}

fn scope_of(local: &[IpNet], address: IpAddr) -> Scope {
    if local.is_empty() {
        Scope::Unknown
    } else if local.iter().any(|prefix| prefix.contains(&address)) {
        Scope::Local
    } else {
        Scope::Remote
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::model::Source;

    fn window(sources: &[(&str, u64)]) -> Window {
        let sources: Vec<_> = sources
            .iter()
            .map(|(address, packets)| Source {
                address: address.parse::<IpAddr>().unwrap().into(),
                totals: Totals {
                    c2s_packets: *packets,
                    ..Totals::default()
                },
            })
            .collect();
        let mut tally = Tally::default();
        for source in &sources {
            tally.sources.merge(&source.totals);
        }
        Window {
            epoch: 1,
            started_at: SystemTime::UNIX_EPOCH,
            length: Duration::from_secs(10),
            tally,
            sources,
            flows: Vec::new(),
            lines_used: 0,
            flip: Duration::ZERO,
        }
    }

    fn row(history: &History, address: &str) -> Option<SourceRow> {
        let address: IpAddr = address.parse().unwrap();
        history
            .rows()
            .into_iter()
            .find(|row| row.address == address)
    }

    #[test]
    fn a_source_shows_its_total_and_its_last_window_only() {
        let mut history = History::new(Vec::new(), 10);
        history.add(&window(&[("192.0.2.1", 3), ("192.0.2.2", 4)]));
        history.add(&window(&[("192.0.2.1", 5)]));
        let first = row(&history, "192.0.2.1").unwrap();
        assert_eq!((first.total.c2s_packets, first.window.c2s_packets), (8, 5));
        let second = row(&history, "192.0.2.2").unwrap();
        assert_eq!(
            (second.total.c2s_packets, second.window.c2s_packets),
            (4, 0)
        );
        assert_eq!(second.scope, Scope::Unknown);
    }

    #[test]
    fn what_is_not_listed_is_still_counted() {
        let mut history = History::new(Vec::new(), 1);
        history.add(&window(&[("192.0.2.1", 3), ("192.0.2.2", 4)]));
        history.add(&window(&[("192.0.2.3", 5), ("192.0.2.1", 1)]));
        let listed: u64 = history.rows().iter().map(|row| row.total.c2s_packets).sum();
        assert_eq!(history.rows().len(), 1);
        assert_eq!(listed + history.untracked().c2s_packets, 13);
        assert_eq!(history.since_start().sources.c2s_packets, 13);
    }

    #[test]
    fn scope_follows_the_prefix_list() {
        let local = vec![
            "192.0.2.0/24".parse().unwrap(),
            "2001:db8::/32".parse().unwrap(),
        ];
        let mut history = History::new(local, 10);
        history.add(&window(&[
            ("192.0.2.1", 1),
            ("198.51.100.1", 1),
            ("2001:db8::1", 1),
        ]));
        assert_eq!(row(&history, "192.0.2.1").unwrap().scope, Scope::Local);
        assert_eq!(row(&history, "198.51.100.1").unwrap().scope, Scope::Remote);
        assert_eq!(row(&history, "2001:db8::1").unwrap().scope, Scope::Local);
    }
}
