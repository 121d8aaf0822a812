//! The line table: one 64-byte cache line per source address, set-associative, never deleted from.
//!
//! Contract: a [`Set`] of two lines has one writer at a time, because every CPU and every half has
//! a segment of its own; so additions are plain. A line belongs to an address from its first count
//! on and until user space clears the silent half; no line is ever evicted. A full set says `None`,
//! and the caller counts elsewhere.
//!
//! ```text
//! index of a set = ((half x CPUs) + this CPU) x sets + hash(address) mod sets
//! ```

use crate::flow::FlowKey;
use crate::packet::{Address, Segment};
use crate::source::SourceStats;

/// Lines in one set.
pub const WAYS: usize = 2;

/// The counts of one source address in one window on one CPU: exactly one cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Line {
    /// Whose counts these are; meaningful only where the line is not empty.
    pub address: Address,
    /// The counts. All zero: the line is empty.
    pub stats: SourceStats,
}

/// The lines that one hash value may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Set {
    /// Taken from the first to the last.
    pub lines: [Line; WAYS],
}

const _: () = assert!(size_of::<Line>() == 64 && size_of::<Set>() == WAYS * 64);

impl Set {
    /// The counts of `address` in this set, on a line that is taken for it if need be; `None` if
    /// the set is full with others.
    ///
    /// A line that was taken must be counted on before the next call: an empty line is one without
    /// counts.
    #[inline(always)]
    pub fn stats_of(&mut self, address: Address) -> Option<&mut SourceStats> {
        for line in &mut self.lines {
            if line.address == address {
                return Some(&mut line.stats);
            }
            // Lines are taken in order and never given back, so nothing of this address can stand
            // behind an empty one.
            if line.stats.is_empty() {
                line.address = address;
                return Some(&mut line.stats);
            }
        }
        None
    }
}

/// The shape of the table, fixed when the program is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Possible CPUs: how many segments each half has.
    pub cpus: u32,
    /// Sets in one segment; a power of two.
    pub sets: u32,
    /// Slots of the SYN memory; a power of two.
    pub syn_slots: u32,
    /// Sets of flows in one segment; a power of two, or 0 where flows are not counted.
    pub flow_sets: u32,
}

impl Geometry {
    /// How many sets the two halves have together: `max_entries` of the map.
    pub const fn total_sets(&self) -> u32 {
        2 * self.cpus * self.sets
    }

    /// The same for the table of flows, which is never without an entry.
    pub const fn total_flow_sets(&self) -> u32 {
        let sets = 2 * self.cpus * self.flow_sets;
        if sets == 0 { 1 } else { sets }
    }

    /// The index of the first set of flows of a segment.
    #[inline(always)]
    pub const fn flow_segment(&self, half: u32, cpu: u32) -> u32 {
        (half * self.cpus + cpu) * self.flow_sets
    }

    /// The index of the first set of a segment.
    #[inline(always)]
    pub const fn segment(&self, half: u32, cpu: u32) -> u32 {
        (half * self.cpus + cpu) * self.sets
    }
}

/// The index of the set of this hash among `sets` (a power of two) from `first` on.
#[inline(always)]
pub const fn set_of(first: u32, sets: u32, hash: u32) -> u32 {
    first + (hash & sets.wrapping_sub(1))
}

/// Random numbers for [`hash_address`], drawn when the program is loaded, so that nobody outside
/// can choose addresses that share a set.
pub type AddressSeeds = [u64; 5];

/// Random numbers for [`fingerprint_syn`] and [`hash_flow`], drawn when the program is loaded.
pub type SynSeeds = [u64; 11];

/// One step of pair-multiply-shift over 32-bit words with 64-bit random numbers (Thorup, "High
/// Speed Hashing for Integers and Strings", section 3.5). The sum of such steps is strongly
/// universal in its upper 32 bits: any two inputs share them with probability 2^-32.
#[inline(always)]
const fn pair(seeds: [u64; 2], words: [u64; 2]) -> u64 {
    seeds[0]
        .wrapping_add(words[1])
        .wrapping_mul(seeds[1].wrapping_add(words[0]))
}

/// Chooses the set of an address.
#[inline(always)]
pub const fn hash_address(seeds: &AddressSeeds, address: Address) -> u32 {
    let [s0, s1, s2, s3, s4] = *seeds;
    let [w0, w1, w2, w3] = address.words();
    let sum = pair([s0, s1], [w0, w1])
        .wrapping_add(pair([s2, s3], [w2, w3]))
        .wrapping_add(s4);
    (mix(sum) >> 32) as u32
}

/// Breaks up rows. The sum alone is linear in a row of addresses, and with some seeds a whole
/// subnet would share few sets. Folding and multiplying are both one to one, so nothing collides
/// here that did not before.
#[inline(always)]
const fn mix(sum: u64) -> u64 {
    (sum ^ sum >> 32).wrapping_mul(MIX)
}

/// 2^64 divided by the golden ratio, made odd (Knuth, "The Art of Computer Programming", 6.4).
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// The fingerprint of a SYN: both addresses, both ports, the initial sequence number. Never 0,
/// which marks an empty slot.
///
/// The slot is chosen by its upper 32 bits.
#[inline(always)]
pub const fn fingerprint_syn(seeds: &SynSeeds, segment: &Segment) -> u64 {
    // A pure SYN goes from a client to a server, whatever its ports.
    let ports = (segment.source_port as u32) << 16 | segment.destination_port as u32;
    let pair_of = (segment.source, segment.destination);
    hash_tuple(seeds, pair_of, ports, segment.sequence) | 1
}

/// Chooses the set of a flow.
#[inline(always)]
pub const fn hash_flow(seeds: &SynSeeds, key: &FlowKey) -> u32 {
    (hash_tuple(seeds, (key.client, key.server), key.ports(), 0) >> 32) as u32
}

#[inline(always)]
const fn hash_tuple(
    seeds: &SynSeeds,
    (client, server): (Address, Address),
    ports: u32,
    sequence: u32,
) -> u64 {
    let [s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10] = *seeds;
    let [a0, a1, a2, a3] = client.words();
    let [b0, b1, b2, b3] = server.words();
    let sum = pair([s0, s1], [a0, a1])
        .wrapping_add(pair([s2, s3], [a2, a3]))
        .wrapping_add(pair([s4, s5], [b0, b1]))
        .wrapping_add(pair([s6, s7], [b2, b3]))
        .wrapping_add(pair([s8, s9], [ports as u64, sequence as u64]))
        .wrapping_add(s10);
    mix(sum)
}

/// The slot of a fingerprint in a SYN memory of `slots` places (a power of two).
#[inline(always)]
pub const fn syn_slot(fingerprint: u64, slots: u32) -> u32 {
    (fingerprint >> 32) as u32 & (slots - 1)
}
