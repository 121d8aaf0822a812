//! The kernel's tables in ordinary memory.
//!
//! Contract: the line tables and the SYN memory are those of one CPU and one half. Every address is
//! an own one here, so that all whose set is full are counted in the spill, and nothing overflows
//! below [`SPILL_LIMIT`]. Flows whose set is full get a set of their own, up to
//! [`FLOW_SPILL_LIMIT`]. The clock is that of the capture.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use smtp_common::flow::{FlowKey, FlowLine, FlowSet, Memory, SourceStats};
use smtp_common::packet::Address;
use smtp_common::table::{Geometry, Set, WAYS};

/// Addresses that the spill holds in one window: what a hash map of 2^22 places takes before it
/// grows, about 270 MB.
pub const SPILL_LIMIT: usize = (1 << 22) / 8 * 7;

/// Flows beyond the table in one window: about 300 MB.
pub const FLOW_SPILL_LIMIT: usize = 1 << 20;

/// Length of a tick, by which flows tell times.
pub const TICK: Duration = Duration::from_millis(1);

/// Memory for [`observe`](smtp_common::flow::observe).
pub struct OrdinaryMemory {
    sets: Vec<Set>,
    /// Sets with a line in use, so that the drain of a quiet window does not walk the whole table.
    touched: Vec<u32>,
    syns: Vec<u64>,
    spill: HashMap<Address, SourceStats>,
    spill_limit: usize,
    flow_sets: Vec<FlowSet>,
    /// Sets of flows with a line in use, likewise.
    touched_flows: Vec<u32>,
    flow_spill: HashMap<FlowKey, FlowSet>,
    /// Capture time since 1970.
    now: Duration,
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
            flow_sets: vec![FlowSet::default(); geometry.flow_sets as usize],
            touched_flows: Vec::new(),
            flow_spill: HashMap::new(),
            now: Duration::ZERO,
        }
    }

    /// The same with another limit for the spill.
    pub fn with_spill_limit(geometry: Geometry, spill_limit: usize) -> Self {
        Self {
            spill_limit,
            ..Self::new(geometry)
        }
    }

    /// Sets the clock.
    pub const fn set_time(&mut self, now: Duration) {
        self.now = now;
    }

    /// Hands over the line of every flow and forgets them.
    pub fn drain_flows(&mut self, mut take: impl FnMut(&FlowLine)) {
        let sets = &mut self.flow_sets;
        let touched = self.touched_flows.drain(..);
        let sets = touched.map(|index| std::mem::take(&mut sets[index as usize]));
        let spilled = std::mem::take(&mut self.flow_spill);
        for set in sets.chain(spilled.into_values()) {
            set.lines
                .iter()
                .filter(|line| !line.is_empty())
                .for_each(&mut take);
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

    fn flow_set(&mut self, index: u32, key: &FlowKey) -> Option<&mut FlowSet> {
        let set = self.flow_sets.get_mut(index as usize)?;
        if set.lines[0].is_empty() {
            self.touched_flows.push(index);
        }
        if set.has_room_for(key) {
            return Some(set);
        }
        let full = self.flow_spill.len() >= FLOW_SPILL_LIMIT;
        match self.flow_spill.entry(*key) {
            Entry::Occupied(entry) => Some(entry.into_mut()),
            Entry::Vacant(_) if full => None,
            Entry::Vacant(entry) => Some(entry.insert(FlowSet::default())),
        }
    }

    fn tick(&mut self) -> u32 {
        // Differences of ticks are meant, so what 32 bits do not hold may go.
        (self.now.as_nanos() / TICK.as_nanos()) as u32
    }

    fn nanoseconds(&mut self) -> u64 {
        u64::try_from(self.now.as_nanos()).unwrap_or(u64::MAX)
    }

    fn remember(&mut self, slot: u32, fingerprint: u64) -> u64 {
        std::mem::replace(&mut self.syns[slot as usize], fingerprint)
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
    use smtp_common::packet::{Direction, Packet, Segment};

    /// One set of two lines and a spill of three: the sixth address overflows.
    const TINY: Geometry = Geometry {
        cpus: 1,
        sets: 1,
        syn_slots: 1,
        flow_sets: 1,
    };

    fn count(addresses: std::ops::Range<u8>, header: &mut Header, memory: &mut OrdinaryMemory) {
        let tables = Tables {
            sets: TINY.sets,
            flow_sets: TINY.flow_sets,
            syn_slots: TINY.syn_slots,
            address_seeds: || [0; 5],
            syn_seeds: || [0; 11],
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
                payload: u32::from(host),
            };
            let payload = Packet::from_slice(&[]);
            observe(&segment, payload, &tables, header, memory);
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
            let mut flows = Vec::new();
            memory.drain_flows(|line| flows.push((line.key().client, line.c2s_packets)));
            assert_eq!(flows.len(), 8, "window {window}");
            assert!(flows.iter().all(|(_, packets)| *packets == 2));
            assert_eq!(header.flow_refused_packets, 0);
        }
    }

    #[test]
    fn a_drain_forgets_the_counts_and_keeps_the_syns() {
        let mut memory = OrdinaryMemory::new(TINY);
        count(0..3, &mut Header::new(0), &mut memory);
        assert_eq!(memory.remember(0, 77), 0);
        memory.drain(|_, _| {});
        memory.drain(|address, _| panic!("{address:?} is still there"));
        assert_eq!(memory.remember(0, 77), 77);
    }
}
