//! What the agent remembers: the account of all windows, and every source within a bound.
//!
//! Contract: no count of a window is forgotten. A source that comes when the list is full is not
//! listed, but its counts are, as `untracked`: `sources of the account = sum over the list +
//! untracked`. What a store has kept of earlier runs comes first, by [`History::restore`].

use smtp_common::flow::Totals;

use crate::model::{Source, Tally, Window};
use crate::source_list::SourceList;

/// The account of all windows, beside the list of their sources.
#[derive(Default)]
pub struct History {
    account: Tally,
    untracked: Totals,
}

impl History {
    /// Takes over an account of earlier runs, and what of it is not listed.
    pub fn restore(&mut self, account: &Tally, untracked: &Totals) {
        self.account.merge(account);
        self.untracked.merge(untracked);
    }

    /// Takes over a source of an earlier run, whose counts are in the account already.
    pub fn restore_source(&mut self, source: &Source, list: &mut SourceList) {
        if let Some(totals) = list.restore(source) {
            self.untracked.merge(&totals);
        }
    }

    /// Adds a window.
    pub fn add(&mut self, window: &Window, list: &mut SourceList) {
        self.account.merge(&window.tally);
        list.begin_window();
        self.untracked.merge(&list.count(&window.sources));
    }

    /// The account of all windows.
    pub const fn account(&self) -> &Tally {
        &self.account
    }

    /// Counts of sources that are not listed.
    pub const fn untracked(&self) -> Totals {
        self.untracked
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::{Duration, SystemTime};

    use super::*;

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

    #[test]
    fn what_is_not_listed_is_still_counted() {
        let mut list = SourceList::new(Vec::new(), 1, [1, 2, 3, 4, 5]);
        let mut history = History::default();
        history.add(&window(&[("192.0.2.1", 3), ("192.0.2.2", 4)]), &mut list);
        history.add(&window(&[("192.0.2.3", 5), ("192.0.2.1", 1)]), &mut list);
        let listed: u64 = list.iter().map(|row| row.total().c2s_packets).sum();
        assert_eq!((list.len(), listed), (1, 4));
        assert_eq!(history.untracked().c2s_packets, 9);
        assert_eq!(history.account().sources.c2s_packets, 13);
    }

    #[test]
    fn what_was_kept_is_gone_on_with() {
        let mut list = SourceList::new(Vec::new(), 1, [1, 2, 3, 4, 5]);
        let mut history = History::default();
        let kept = window(&[("192.0.2.1", 3), ("192.0.2.2", 4)]);
        history.restore(&kept.tally, &Totals::default());
        for source in &kept.sources {
            history.restore_source(source, &mut list);
        }
        history.add(&window(&[("192.0.2.1", 10)]), &mut list);
        let listed: u64 = list.iter().map(|row| row.total().c2s_packets).sum();
        assert_eq!((list.len(), listed), (1, 13));
        assert_eq!(history.untracked().c2s_packets, 4);
        assert_eq!(history.account().sources.c2s_packets, 17);
    }
}
