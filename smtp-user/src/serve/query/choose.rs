//! Which rows of many are shown, without keeping many.
//!
//! Contract: the order is total, since ties are broken by a key that no two rows share; so pages of
//! the same rows neither repeat nor miss one. What is kept is at most twice what is skipped and shown.
#![forbid(unsafe_code)]

use super::List;
use super::filter::{Rank, Table};

/// Fewer than this are never worth dropping.
const FEW: usize = 1024;

/// See the module. `K` is the key by which equal rows are ordered; it may carry more behind.
pub(in crate::serve) struct Chooser<'l, T: Table, K> {
    list: &'l List<T>,
    found: Vec<(Rank, K)>,
    /// Whoever comes behind this one is not shown.
    last: Option<(Rank, K)>,
    total: usize,
}

impl<'l, T: Table, K: Ord + Copy> Chooser<'l, T, K> {
    pub(in crate::serve) const fn new(list: &'l List<T>) -> Self {
        Self {
            list,
            found: Vec::new(),
            last: None,
            total: 0,
        }
    }

    /// The rows skipped and shown.
    fn end(&self) -> usize {
        self.list.offset.saturating_add(self.list.limit)
    }

    /// Looks at a row.
    pub(in crate::serve) fn add(&mut self, row: &T::Row<'_>, key: K) {
        if !self.list.filter.holds(row) {
            return;
        }
        self.total += 1;
        let ranked = (self.list.sort.rank(row, self.list.ascending), key);
        if self.last.is_some_and(|last| last < ranked) {
            return;
        }
        self.found.push(ranked);
        let end = self.end();
        if self.found.len() >= end.saturating_mul(2).max(FEW) {
            self.found.select_nth_unstable(end - 1);
            self.found.truncate(end);
            self.last = self.found.last().copied();
        }
    }

    /// The keys of the rows shown, in their order, and how many pass the filter.
    pub(in crate::serve) fn finish(mut self) -> (Vec<K>, usize) {
        let end = self.end();
        if self.found.len() > end {
            self.found.select_nth_unstable(end - 1);
            self.found.truncate(end);
        }
        let start = self.list.offset.min(self.found.len());
        if (1..self.found.len()).contains(&start) {
            self.found.select_nth_unstable(start);
        }
        let shown = &mut self.found[start..];
        shown.sort_unstable();
        (shown.iter().map(|(_, key)| *key).collect(), self.total)
    }
}
