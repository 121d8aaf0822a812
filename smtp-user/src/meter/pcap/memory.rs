//! The kernel's tables in ordinary memory.
//!
//! Contract: the line table and the SYN memory are those of one CPU and one half. Every address is
//! an own one here, so that all whose set is full are counted in the spill, and nothing overflows
//! below [`SPILL_LIMIT`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use smtp_common::flow::{Memory, SourceStats};
use smtp_common::packet::Address;
use smtp_common::table::{Geometry, Set, WAYS};

/// Addresses that the spill holds in one window: what a hash map of 2^22 places takes before it
/// grows, about 270 MB.
pub const SPILL_LIMIT: usize = (1 << 22) / 8 * 7;

/// Memory for [`observe`](smtp_common::flow::observe).
pub struct OrdinaryMemory {
    sets: Vec<Set>,
    /// Sets with a line in use, so that the drain of a quiet window does not walk the whole table.
    touched: Vec<u32>,
    syns: Vec<u64>,
    spill: HashMap<Address, SourceStats>,
    spill_limit: usize,
}

impl OrdinaryMemory {
    /// Empty tables for the first half of one CPU.
    pub fn new(geometry: Geometry) -> Self {
        Self {
            sets: vec![Set::default(); geometry.sets as usize],
            touched: Vec::new(),
            syns: vec![0; geometry.syn_slots as usize],
            spill: HashMap::new(),
            spill_limit: SPILL_LIMIT,
        }
    }

    /// The same with another limit for the spill.
    pub fn with_spill_limit(geometry: Geometry, spill_limit: usize) -> Self {
        Self {
            spill_limit,
            ..Self::new(geometry)
        }
    }

    /// The most addresses that the next drain can hand over.
    pub fn addresses(&self) -> usize {
        self.touched.len() * WAYS + self.spill.len()
    }

    /// Hands over the counts of every address and forgets them, but not the SYN memory, which
    /// outlives windows. Gives the number of lines that were in use.
    pub fn drain(&mut self, mut take: impl FnMut(Address, &SourceStats)) -> u64 {
        let mut lines_used = 0;
        for index in self.touched.drain(..) {
            let set = std::mem::take(&mut self.sets[index as usize]);
            for line in set.lines.iter().filter(|line| !line.stats.is_empty()) {
                lines_used += 1;
                take(line.address, &line.stats);
            }
        }
        // Taken and not drained: a flood is rare, and its memory goes back when it is over.
        for (address, stats) in std::mem::take(&mut self.spill) {
            take(address, &stats);
        }
        lines_used
    }
}

impl Memory for OrdinaryMemory {
    fn set(&mut self, index: u32) -> Option<&mut Set> {
        let set = self.sets.get_mut(index as usize)?;
        // Lines are taken from the first to the last, and who asks for a set counts on it.
        const { assert!(WAYS > 0) }
        if set.lines[0].stats.is_empty() {
            self.touched.push(index);
        }
        Some(set)
    }

    fn remember(&mut self, slot: u32, fingerprint: u64) -> bool {
        std::mem::replace(&mut self.syns[slot as usize], fingerprint) == fingerprint
    }

    fn is_own(&mut self, _address: Address) -> bool {
        true
    }

    fn spill(&mut self, _half: u32, address: Address) -> Option<&mut SourceStats> {
        let full = self.spill.len() >= self.spill_limit;
        match self.spill.entry(address) {
            Entry::Occupied(entry) => Some(entry.into_mut()),
            Entry::Vacant(_) if full => None,
            Entry::Vacant(entry) => Some(entry.insert(SourceStats::EMPTY)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smtp_common::counter::Counter;
    use smtp_common::flow::{Header, Tables, Totals, observe};
    use smtp_common::packet::{Direction, Segment};

    /// One set of two lines and a spill of three: the sixth address overflows.
    const TINY: Geometry = Geometry {
        cpus: 1,
        sets: 1,
        syn_slots: 1,
    };

    fn count(addresses: std::ops::Range<u8>, header: &mut Header, memory: &mut OrdinaryMemory) {
        let tables = Tables {
            geometry: TINY,
            cpu: 0,
            address_seeds: [0; 5],
        };
        for host in addresses {
            let segment = Segment {
                source: Address::from_ipv4([10, 0, 0, host]),
                destination: Address::from_ipv4([10, 0, 1, 1]),
                source_port: 40_000,
                destination_port: 25,
                sequence: 1,
                flags: 0x10,
                direction: Direction::ClientToServer,
                bytes: 40 + u32::from(host),
            };
            observe(&segment, &tables, || [0; 11], header, memory);
        }
    }

    #[test]
    fn a_full_set_spills_a_full_spill_overflows_and_nothing_is_lost() {
        let mut memory = OrdinaryMemory::with_spill_limit(TINY, 3);
        for window in 0..2 {
            let mut header = Header::new(0);
            count(0..8, &mut header, &mut memory);
            count(0..8, &mut header, &mut memory);
            let mut placed = Totals::default();
            let mut addresses = Vec::new();
            let lines = memory.drain(|address, stats| {
                addresses.push(address);
                placed.merge(&stats.into());
            });
            assert_eq!(lines, 2, "window {window}");
            assert_eq!(addresses.len(), 2 + 3, "window {window}");
            assert_eq!((header.spilled, header.spill_refused), (6, 6));
            assert_eq!(header.outcomes[Counter::Segment.index()], 16);
            assert_eq!(placed.packets() + header.overflow.c2s_packets, 16);
            assert_eq!(
                placed.bytes() + header.overflow.c2s_bytes,
                header.segment_bytes
            );
        }
    }

    #[test]
    fn a_drain_forgets_the_counts_and_keeps_the_syns() {
        let mut memory = OrdinaryMemory::new(TINY);
        count(0..3, &mut Header::new(0), &mut memory);
        assert!(!memory.remember(0, 77));
        memory.drain(|_, _| {});
        memory.drain(|address, _| panic!("{address:?} is still there"));
        assert!(memory.remember(0, 77));
    }
}
