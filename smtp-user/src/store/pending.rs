//! What waits for a commit that succeeds: the windows that could not be written, merged.
//!
//! Contract: no more sources wait one by one than a list would take, and no count is lost: those of
//! later ones are untracked.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use smtp_common::flow::Totals;
use smtp_common::packet::Address;

use super::{Delta, Seen};
use crate::admission::Admission;
use crate::model::{Source, Tally, Window};

pub(super) struct Pending {
    admission: Admission,
    windows: u64,
    account: Tally,
    untracked: Totals,
    /// In the order in which they came.
    sources: Vec<Source>,
    seen: Vec<Seen>,
    places: HashMap<Address, usize>,
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
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.windows == 0
    }

    /// Sources that wait one by one.
    pub(super) const fn sources(&self) -> usize {
        self.sources.len()
    }

    pub(super) fn add(&mut self, window: &Window, seen: Seen) {
        self.windows += 1;
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

    pub(super) fn delta(&self) -> Delta<'_, impl Fn(usize) -> Seen> {
        Delta {
            account: &self.account,
            untracked: &self.untracked,
            sources: &self.sources,
            seen: |place| self.seen[place],
        }
    }
}
