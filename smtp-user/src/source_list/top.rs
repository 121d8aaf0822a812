//! Which sources have the most of a count, known without looking at all of them.
//!
//! Contract: counts of all windows never fall, so whoever is among the first after a window was among
//! them before it or is in it; and whoever is among the first of a window is in it. So a window costs
//! a comparison for each of its sources and counts, and the first [`TOP`] are always exact: those with
//! more first, of equals those that come first by address, IPv4 before IPv6.

use smtp_common::flow::Totals;
use smtp_common::packet::Address;

/// How many are known.
pub const TOP: usize = 1000;
/// With so many at hand, those that are not among the first go.
const MANY: usize = 4 * TOP;

/// The counts, in the order of the fields of [`Totals`].
pub const COUNTS: [&str; 8] = [
    "connections",
    "syn_retx",
    "c2s_packets",
    "c2s_bytes",
    "s2c_packets",
    "s2c_bytes",
    "answered",
    "refused",
];

/// The same of one source.
pub(super) const fn counts(totals: &Totals) -> [u64; COUNTS.len()] {
    let Totals {
        connections,
        syn_retx,
        c2s_packets,
        c2s_bytes,
        s2c_packets,
        s2c_bytes,
        answered,
        refused,
    } = *totals;
    [
        connections,
        syn_retx,
        c2s_packets,
        c2s_bytes,
        s2c_packets,
        s2c_bytes,
        answered,
        refused,
    ]
}

/// The lowest comes first: the count turned over, the place of the address, the number of the row.
type Ranked = (u64, (bool, [u8; 16]), u32);

/// The first sources by one count.
#[derive(Clone, Default)]
struct Top {
    /// Among these are the first; of a source that was counted again, older ones are there as well.
    found: Vec<Ranked>,
    /// Whoever comes behind this one is not among the first.
    last: Option<Ranked>,
}

impl Top {
    fn offer(&mut self, count: u64, address: Address, number: u32) {
        if self.last.is_some_and(|(last, ..)| !count > last) {
            return;
        }
        let ranked = (!count, (!address.is_mapped(), address.octets()), number);
        if self.last.is_some_and(|last| ranked > last) {
            return;
        }
        self.found.push(ranked);
        if self.found.len() >= MANY {
            self.settle();
        }
    }

    /// Drops older entries, and those that are not among the first.
    fn settle(&mut self) {
        let found = &mut self.found;
        // Counts do not fall, so the lowest is the newest.
        found.sort_unstable_by_key(|(count, _, number)| (*number, *count));
        found.dedup_by_key(|(_, _, number)| *number);
        found.sort_unstable();
        if found.len() >= TOP {
            found.truncate(TOP);
            self.last = found.last().copied();
        }
    }
}

/// The first sources by each count.
#[derive(Clone, Default)]
pub(super) struct Tops([Top; COUNTS.len()]);

impl Tops {
    /// Notes what a source has now.
    pub(super) fn offer(&mut self, totals: &Totals, address: Address, number: u32) {
        for (top, count) in self.0.iter_mut().zip(counts(totals)) {
            top.offer(count, address, number);
        }
    }

    /// The first ones by a count, at most [`TOP`], with what they have of it.
    pub(super) fn first(&self, count: usize) -> Vec<(u32, u64)> {
        let mut top = self.0[count].clone();
        top.settle();
        let found = top.found.into_iter();
        found.map(|(count, _, number)| (number, !count)).collect()
    }
}
