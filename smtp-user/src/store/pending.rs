//! What waits for a commit that succeeds: the windows that could not be written, merged.
//!
//! Contract: no more sources wait one by one than a list would take, and no count is lost: those of
//! later ones are untracked. What they add to history waits in at most [`ROOM`] octets: beyond that,
//! windows of one bin become one, then pairs are left out, the oldest first, then sources. The totals
//! of all windows are kept whatever happens.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ipnet::IpNet;
use smtp_common::flow::Totals;
use smtp_common::packet::Address;

use super::history::{Run, order};
use super::{Delta, Seen};
use crate::admission::Admission;
use crate::model::{Source, Tally, Window};

/// Octets of history that wait.
pub(super) const ROOM: usize = 32 << 20;

pub(super) struct Pending {
    admission: Admission,
    windows: u64,
    account: Tally,
    untracked: Totals,
    /// In the order in which they came.
    sources: Vec<Source>,
    seen: Vec<Seen>,
    places: HashMap<Address, usize>,
    /// In their order.
    runs: Vec<Run>,
}

/// Windows of which something was left out of history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) pairs: u64,
    pub(super) sources: u64,
}

impl Pending {
    pub(super) fn new(admission: Admission) -> Self {
        Self {
            admission,
            windows: 0,
            account: Tally::default(),
            untracked: Totals::default(),
            sources: Vec::new(),
            seen: Vec::new(),
            places: HashMap::new(),
            runs: Vec::new(),
        }
    }

    pub(super) fn set_local(&mut self, local: &[IpNet]) {
        self.admission.set_local(local);
    }

    #[cfg(test)]
    pub(super) fn of_runs(runs: Vec<Run>) -> Self {
        Self {
            runs,
            ..Self::new(Admission::new(Vec::new(), 1))
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.windows == 0
    }

    /// Sources that wait one by one.
    pub(super) const fn sources(&self) -> usize {
        self.sources.len()
    }

    /// Octets of history that wait.
    pub(super) fn octets(&self) -> usize {
        self.runs.iter().map(Run::octets).sum()
    }

    /// Leaves out of history what there is no room for.
    pub(super) fn coarsen(&mut self, room: usize) -> LeftOut {
        let mut left_out = LeftOut::default();
        while self.octets() > room {
            let same = self
                .runs
                .windows(2)
                .position(|two| two[0].is_of_bin(&two[1]));
            let with_pairs = self.runs.iter().position(|run| !run.coarsened.pairs);
            let with_sources = self.runs.iter().position(|run| !run.coarsened.sources);
            if let Some(first) = same {
                let later = self.runs.remove(first + 1);
                self.runs[first] = self.runs[first].join(&later);
            } else if let Some(place) = with_pairs {
                left_out.pairs += self.runs[place].windows;
                self.runs[place] = self.runs[place].without_pairs();
            } else if let Some(place) = with_sources {
                left_out.sources += self.runs[place].windows;
                self.runs[place] = self.runs[place].without_sources();
            } else {
                break;
            }
        }
        left_out
    }

    pub(super) fn add(&mut self, window: &Window, seen: Seen, run: Run) {
        self.windows += 1;
        self.runs.push(run);
        self.account.merge(&window.tally);
        for source in &window.sources {
            match self.places.entry(source.address) {
                Entry::Occupied(place) => {
                    let place = *place.get();
                    self.sources[place].totals.merge(&source.totals);
                    let (first, last) = &mut self.seen[place];
                    *first = seen.0.min(*first);
                    *last = seen.1.max(*last);
                }
                Entry::Vacant(place) => {
                    let scope = self.admission.scope(source.ip());
                    if !self.admission.admits(scope, self.sources.len()) {
                        self.untracked.merge(&source.totals);
                        continue;
                    }
                    place.insert(self.sources.len());
                    self.sources.push(*source);
                    self.seen.push(seen);
                }
            }
        }
    }

    pub(super) fn delta(&mut self) -> Delta<'_, impl Fn(usize) -> Seen> {
        Delta {
            account: &self.account,
            untracked: &self.untracked,
            sources: &self.sources,
            order: order(&self.sources),
            seen: |place| self.seen[place],
            runs: &mut self.runs,
        }
    }
}
