//! The list of sources that the agent keeps: one compact row for each, found by address.
//!
//! Contract: rows are never removed, and never changed but by [`SourceList::begin_window`],
//! [`SourceList::count`] and [`SourceList::restore`], and there are at most `capacity` of them, of
//! 120 bytes each, and 5 to 10 more in the index. The index is a hash table with secret seeds, so
//! nobody outside can choose addresses that collide. It uses the hash of the kernel's table with
//! the same seeds: a drain hands sources over in the order of that table, and so finds its way
//! through this index almost in order, which is what makes a million look-ups cheap.
//!
//! The sources with the most of each count are known at any time (`top`), so that whoever asks for the
//! first ones does not have to look at a million.
//!
//! The list is shared under one lock. Who reads it holds up the recorder for the time of a scan, and
//! never the drain, which is on a thread of its own.

mod top;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::HashTable;
use ipnet::IpNet;
use smtp_common::flow::Totals;
use smtp_common::packet::Address;
use smtp_common::table::{AddressSeeds, hash_address};

use self::top::Tops;
pub use self::top::{COUNTS, TOP};
use crate::admission::Admission;
use crate::model::{Scope, Source, SourceRow};

/// Look-ups that are made before the rows they find are written to, so that the processor waits for
/// several of them at a time.
const BATCH: usize = 32;

/// What is known of one source.
#[derive(Clone, Copy)]
struct Row {
    address: Address,
    /// Counts of all windows.
    total: Totals,
    /// Counts of the latest window that had any, unless one does not fit: see `SourceList::wide`.
    window: WindowCounts,
    /// Which window that was.
    window_number: u32,
    scope: Scope,
}

const _: () = assert!(size_of::<Row>() == 120);

/// The eight counts of a window in 32 bits, in the order of the fields of [`Totals`].
#[derive(Clone, Copy)]
struct WindowCounts([u32; 8]);

impl WindowCounts {
    const EMPTY: Self = Self([0; 8]);

    /// `None` if a count does not fit.
    fn new(totals: &Totals) -> Option<Self> {
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
        let counts = [
            connections,
            syn_retx,
            c2s_packets,
            c2s_bytes,
            s2c_packets,
            s2c_bytes,
            answered,
            refused,
        ];
        // One branch for all eight.
        if counts.iter().fold(0, |all, count| all | count) > u64::from(u32::MAX) {
            return None;
        }
        Some(Self(counts.map(|count| count as u32)))
    }

    fn totals(self) -> Totals {
        let [
            connections,
            syn_retx,
            c2s_packets,
            c2s_bytes,
            s2c_packets,
            s2c_bytes,
            answered,
            refused,
        ] = self.0.map(u64::from);
        Totals {
            connections,
            syn_retx,
            c2s_packets,
            c2s_bytes,
            s2c_packets,
            s2c_bytes,
            answered,
            refused,
        }
    }
}

/// See the module.
pub struct SourceList {
    admission: Admission,
    seeds: AddressSeeds,
    rows: Vec<Row>,
    /// Numbers of rows, by the hash of their address.
    index: HashTable<u32>,
    /// Windows so far.
    windows: u32,
    /// By number of the row, counts of the last window that do not fit into 32 bits: a window of
    /// which a single source fills gigabytes, or one of hours without an agent.
    wide: HashMap<u32, Totals>,
    /// The first ones of all windows; `None` while sources are restored.
    tops: Option<Tops>,
    /// The first ones of the last window.
    window_tops: Tops,
}

impl SourceList {
    /// An empty list of at most `capacity` sources, for which 2^32 is the end; `local` are the
    /// operator's own prefixes, `seeds` those of the table that the sources come from.
    pub fn new(local: Vec<IpNet>, capacity: usize, seeds: AddressSeeds) -> Self {
        let capacity = capacity.min(u32::MAX as usize);
        Self {
            admission: Admission::new(local, capacity),
            seeds,
            rows: Vec::new(),
            // All at once: sources come in the order of their hash, so they would crowd one end of a
            // table that grows with them. Of its 10 bytes per place, untouched ones take one.
            index: HashTable::with_capacity(capacity),
            windows: 0,
            wide: HashMap::new(),
            tops: None,
            window_tops: Tops::default(),
        }
    }

    /// Makes these the operator's own prefixes. Who is in the list stays there.
    pub fn set_local(&mut self, local: &[IpNet]) {
        self.admission.set_local(local);
        for row in &mut self.rows {
            row.scope = self.admission.scope(row.address.into());
        }
    }

    /// Sources in the list.
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it has none.
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Puts a source there with counts of earlier windows; gives them back if the list is full.
    pub fn restore(&mut self, source: &Source) -> Option<Totals> {
        self.tops = None;
        match self.place_of(source.address) {
            Some(number) => {
                self.rows[number as usize].total.merge(&source.totals);
                None
            }
            None => Some(source.totals),
        }
    }

    /// Brings restored sources into the order in which windows of a table of `sets` sets (a power of
    /// two) have them, which halves the cost of every window after. Numbers change, so this is for
    /// the time before the first window.
    pub fn arrange(&mut self, sets: u32) {
        let Self {
            seeds,
            rows,
            index,
            tops,
            ..
        } = self;
        *tops = None;
        rows.sort_unstable_by_key(|row| hash_address(seeds, row.address) & (sets - 1));
        index.clear();
        for (number, row) in rows.iter().enumerate() {
            // There is a place for each of them.
            index.insert_unique(hash(seeds, row.address), number as u32, |number| {
                hash(seeds, rows[*number as usize].address)
            });
        }
    }

    /// From here on, [`SourceList::count`] counts for a new window.
    pub fn begin_window(&mut self) {
        // A number comes again after 136 years of windows of a second.
        self.windows = self.windows.wrapping_add(1);
        self.wide.clear();
        self.window_tops = Tops::default();
        if self.tops.is_none() {
            let mut tops = Tops::default();
            for (row, number) in self.rows.iter().zip(0..) {
                tops.offer(&row.total, row.address, number);
            }
            self.tops = Some(tops);
        }
    }

    /// Adds the sources of the running window, each of which comes once; the sum of those that
    /// found the list full is what comes back.
    pub fn count(&mut self, sources: &[Source]) -> Totals {
        let mut untracked = Totals::default();
        let mut found = [None; BATCH];
        for batch in sources.chunks(BATCH) {
            for (found, source) in found.iter_mut().zip(batch) {
                *found = self.find(source.address);
            }
            for (found, source) in found.iter().zip(batch) {
                match found.or_else(|| self.place_of(source.address)) {
                    Some(number) => self.count_for(number, &source.totals),
                    None => untracked.merge(&source.totals),
                }
            }
        }
        untracked
    }

    fn count_for(&mut self, number: u32, totals: &Totals) {
        let row = &mut self.rows[number as usize];
        row.total.merge(totals);
        row.window_number = self.windows;
        row.window = WindowCounts::new(totals).unwrap_or_else(|| {
            self.wide.insert(number, *totals);
            WindowCounts::EMPTY
        });
        let (total, address) = (row.total, row.address);
        if let Some(tops) = &mut self.tops {
            tops.offer(&total, address, number);
        }
        self.window_tops.offer(totals, address, number);
    }

    /// The numbers of the first sources by the count of this place in [`COUNTS`], of all windows or of
    /// the last one: those with more first, of equals those that come first by address, IPv4 before
    /// IPv6. `None` if they are not known without looking at all: there are more than [`TOP`] asked for,
    /// or some have nothing of it in the window, as all have that were not in it.
    pub fn first(&self, count: usize, of_window: bool, most: usize) -> Option<Vec<u32>> {
        if most > TOP {
            return None;
        }
        let tops = if of_window {
            &self.window_tops
        } else {
            self.tops.as_ref()?
        };
        let mut first = tops.first(count);
        first.truncate(most);
        let enough = first.len() == most.min(self.rows.len());
        let counted = !of_window || first.iter().all(|(_, count)| *count > 0);
        (enough && counted).then(|| first.into_iter().map(|(number, _)| number).collect())
    }

    fn find(&self, address: Address) -> Option<u32> {
        let same = |number: &u32| self.rows[*number as usize].address == address;
        self.index.find(hash(&self.seeds, address), same).copied()
    }

    /// The row of this address, a new one if need be, or `None` if there is no place for one.
    fn place_of(&mut self, address: Address) -> Option<u32> {
        if let Some(number) = self.find(address) {
            return Some(number);
        }
        let scope = self.admission.scope(address.into());
        if !self.admission.admits(scope, self.rows.len()) {
            return None;
        }
        let number = self.rows.len() as u32;
        self.rows.push(Row {
            address,
            total: Totals::default(),
            window: WindowCounts::EMPTY,
            // No window: the next one gets another number.
            window_number: self.windows.wrapping_sub(1),
            scope,
        });
        let (seeds, rows) = (&self.seeds, &self.rows);
        self.index
            .insert_unique(hash(seeds, address), number, |number| {
                hash(seeds, rows[*number as usize].address)
            });
        Some(number)
    }

    /// Every source, in the order in which they came.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Listed<'_>> {
        self.rows.iter().enumerate().map(|(number, row)| Listed {
            list: self,
            number: number as u32,
            row,
        })
    }

    /// The source with this address.
    pub fn of(&self, address: Address) -> Option<Listed<'_>> {
        self.get(self.find(address)?)
    }

    /// The source with this number, see [`Listed::number`].
    pub fn get(&self, number: u32) -> Option<Listed<'_>> {
        let row = self.rows.get(number as usize)?;
        Some(Listed {
            list: self,
            number,
            row,
        })
    }
}

/// The hash of the kernel's table, as the hash table wants it: it takes the place of an entry from
/// the lower bits, and compares the upper seven before it looks at the entry.
fn hash(seeds: &AddressSeeds, address: Address) -> u64 {
    let hash = u64::from(hash_address(seeds, address));
    hash | hash >> 25 << 57
}

/// A source in the list.
#[derive(Clone, Copy)]
pub struct Listed<'a> {
    list: &'a SourceList,
    number: u32,
    row: &'a Row,
}

impl<'a> Listed<'a> {
    /// Its number: sources are numbered from 0 as they come.
    pub const fn number(self) -> u32 {
        self.number
    }

    /// Its address.
    pub const fn address(self) -> Address {
        self.row.address
    }

    /// Whether it is the operator's own.
    pub const fn scope(self) -> Scope {
        self.row.scope
    }

    /// Counts of all windows.
    pub const fn total(self) -> &'a Totals {
        &self.row.total
    }

    /// Counts of the last window.
    pub fn window(self) -> Totals {
        if self.row.window_number != self.list.windows {
            return Totals::default();
        }
        match self.list.wide.get(&self.number) {
            Some(totals) => *totals,
            None => self.row.window.totals(),
        }
    }

    /// All of it, apart from the list.
    pub fn to_row(self) -> SourceRow {
        SourceRow {
            address: self.row.address.into(),
            scope: self.row.scope,
            total: self.row.total,
            window: self.window(),
        }
    }
}

/// The list as recorder and server share it.
#[derive(Clone)]
pub struct SharedSources(Arc<RwLock<SourceList>>);

impl SharedSources {
    /// Shares a list.
    pub fn new(list: SourceList) -> Self {
        Self(Arc::new(RwLock::new(list)))
    }

    /// To read it. No `await` while it is held.
    pub fn read(&self) -> RwLockReadGuard<'_, SourceList> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// To add a window to it.
    pub fn write(&self) -> RwLockWriteGuard<'_, SourceList> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use std::net::IpAddr;

    use super::*;

    const SEEDS: AddressSeeds = [3, 5, 7, 11, 13];

    fn source(address: &str, packets: u64) -> Source {
        Source {
            address: address.parse::<IpAddr>().expect("an address").into(),
            totals: Totals {
                c2s_packets: packets,
                c2s_bytes: 40 * packets,
                ..Totals::default()
            },
        }
    }

    fn row(list: &SourceList, address: &str) -> SourceRow {
        let address: IpAddr = address.parse().expect("an address");
        let mut rows = list.iter().filter(|row| row.address() == address.into());
        let found = rows.next().unwrap_or_else(|| panic!("{address}")).to_row();
        assert!(rows.next().is_none(), "{address} is there twice");
        found
    }

    #[test]
    fn a_source_shows_its_total_and_its_last_window_only() {
        let mut list = SourceList::new(Vec::new(), 10, SEEDS);
        list.begin_window();
        list.count(&[source("192.0.2.1", 3), source("192.0.2.2", 4)]);
        list.begin_window();
        list.count(&[source("192.0.2.1", 5)]);
        let first = row(&list, "192.0.2.1");
        assert_eq!((first.total.c2s_packets, first.window.c2s_packets), (8, 5));
        let second = row(&list, "192.0.2.2");
        assert_eq!(
            (second.total.c2s_packets, second.window.c2s_packets),
            (4, 0)
        );
        assert_eq!(second.scope, Scope::Unknown);
    }

    #[test]
    fn what_is_restored_is_in_no_window() {
        let mut list = SourceList::new(Vec::new(), 1, SEEDS);
        assert_eq!(list.restore(&source("192.0.2.1", 3)), None);
        assert_eq!(row(&list, "192.0.2.1").window, Totals::default());
        list.begin_window();
        assert_eq!(row(&list, "192.0.2.1").window, Totals::default());
        assert_eq!(row(&list, "192.0.2.1").total.c2s_packets, 3);
        let refused = list.restore(&source("192.0.2.2", 4));
        assert_eq!(refused.map(|totals| totals.c2s_packets), Some(4));
        assert_eq!(list.len(), 1);
    }

    #[test]
    fn restored_sources_are_found_in_whatever_order_they_stand() {
        let mut list = SourceList::new(Vec::new(), 1000, SEEDS);
        let sources: Vec<Source> = (0..1000)
            .map(|i| source(&format!("10.0.{}.{}", i / 250, i % 250), i))
            .collect();
        for source in &sources {
            assert_eq!(list.restore(source), None);
        }
        list.arrange(64);
        let set = |listed: Listed<'_>| hash_address(&SEEDS, listed.address()) % 64;
        assert!(list.iter().is_sorted_by_key(set));
        list.begin_window();
        assert_eq!(list.count(&sources), Totals::default());
        assert_eq!(list.len(), 1000);
        for source in sources {
            let row = row(&list, &source.ip().to_string());
            assert_eq!(row.window, source.totals);
            assert_eq!(row.total.c2s_packets, 2 * source.totals.c2s_packets);
        }
    }

    #[test]
    fn a_full_list_gives_back_what_it_has_no_place_for() {
        let mut list = SourceList::new(Vec::new(), 1, SEEDS);
        list.begin_window();
        let untracked = list.count(&[source("192.0.2.1", 3), source("192.0.2.2", 4)]);
        assert_eq!(untracked, source("192.0.2.2", 4).totals);
        let untracked = list.count(&[source("192.0.2.3", 5), source("192.0.2.1", 1)]);
        assert_eq!(untracked, source("192.0.2.3", 5).totals);
        assert_eq!(row(&list, "192.0.2.1").total.c2s_packets, 4);
    }

    #[test]
    fn counts_above_32_bits_are_exact_in_a_window_as_well() {
        let mut list = SourceList::new(Vec::new(), 10, SEEDS);
        let large = source("192.0.2.1", 1 << 40);
        list.begin_window();
        list.count(&[large, source("192.0.2.2", 4)]);
        assert_eq!(row(&list, "192.0.2.1").window, large.totals);
        assert_eq!(row(&list, "192.0.2.2").window.c2s_packets, 4);
        list.begin_window();
        assert_eq!(row(&list, "192.0.2.1").window, Totals::default());
        list.count(&[source("192.0.2.1", 2)]);
        assert_eq!(row(&list, "192.0.2.1").window.c2s_packets, 2);
        assert_eq!(row(&list, "192.0.2.1").total.c2s_packets, 2 + (1 << 40));
    }

    #[test]
    fn scope_follows_another_prefix_list() {
        let prefixes = |list: &[&str]| -> Vec<IpNet> {
            list.iter().map(|prefix| prefix.parse().unwrap()).collect()
        };
        let mut list = SourceList::new(prefixes(&["192.0.2.0/24"]), 10, SEEDS);
        for address in ["192.0.2.1", "198.51.100.1"] {
            list.restore(&source(address, 1));
        }
        let scopes = |list: &SourceList| list.iter().map(Listed::scope).collect::<Vec<_>>();
        assert_eq!(scopes(&list), [Scope::Local, Scope::Remote]);
        list.set_local(&prefixes(&["198.51.100.0/24"]));
        assert_eq!(scopes(&list), [Scope::Remote, Scope::Local]);
        list.set_local(&[]);
        assert_eq!(scopes(&list), [Scope::Unknown, Scope::Unknown]);
    }

    #[test]
    fn scope_follows_the_prefix_list() {
        let local = ["192.0.2.0/24", "2001:db8::/32"]
            .map(|prefix| prefix.parse().expect("a prefix"))
            .to_vec();
        let mut list = SourceList::new(local, 10, SEEDS);
        for (address, scope) in [
            ("192.0.2.1", Scope::Local),
            ("198.51.100.1", Scope::Remote),
            ("2001:db8::1", Scope::Local),
        ] {
            list.count(&[source(address, 1)]);
            assert_eq!(row(&list, address).scope, scope, "{address}");
        }
    }

    #[test]
    fn many_sources_are_all_found_again() {
        let mut list = SourceList::new(Vec::new(), 100_000, SEEDS);
        let mut expected = BTreeMap::new();
        for window in 1..=3 {
            let sources: Vec<Source> = (0..50_000_u32 * window)
                .map(|i| {
                    let address = if i % 2 == 0 {
                        Address::from_ipv4(i.to_be_bytes())
                    } else {
                        Address::from_words(u64::from(i) << 32, u64::from(window % 2))
                    };
                    Source {
                        address,
                        totals: Totals {
                            c2s_packets: u64::from(i % 9),
                            ..Totals::default()
                        },
                    }
                })
                .collect();
            list.begin_window();
            let untracked = list.count(&sources);
            let mut missed = Totals::default();
            for Source { address, totals } in sources {
                let room = expected.len() < 100_000;
                match expected.get_mut(&address.octets()) {
                    Some(sum) => *sum += totals.c2s_packets,
                    None if room => {
                        expected.insert(address.octets(), totals.c2s_packets);
                    }
                    None => missed.merge(&totals),
                }
            }
            assert_eq!(untracked, missed);
        }
        assert_eq!(list.len(), 100_000);
        let have: BTreeMap<_, _> = list
            .iter()
            .map(|listed| (listed.address().octets(), listed.total().c2s_packets))
            .collect();
        assert_eq!(have, expected);
    }
}
