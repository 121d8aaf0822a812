//! What is counted: the layouts, [`observe`] and [`Totals::merge`].
//!
//! Contract: [`observe`] counts every segment exactly once, on the line of its source, in the spill
//! or as overflow, so that `segments = sum over sources + overflow` holds in every window to the
//! packet and to the byte. [`Totals::merge`] is plain addition: the counts of k windows, or of k
//! CPUs, merged in any order, equal those of one long window on one CPU.

use crate::counter::Counter;
use crate::packet::{Address, Direction, Segment};
use crate::table::{self, AddressSeeds, Geometry, Set, SynSeeds};

/// The counts of one source address in one window on one CPU.
///
/// Packets and bytes are counted where the address is the sender: `c2s` what it sent as a client,
/// `s2c` what it sent as a server. Answers and refusals are credited to the client that they
/// reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SourceStats {
    /// Segments sent to a mail port.
    pub c2s_packets: u64,
    /// Layer-3 bytes of these.
    pub c2s_bytes: u64,
    /// Segments sent from a mail port.
    pub s2c_packets: u64,
    /// Layer-3 bytes of these.
    pub s2c_bytes: u64,
    /// Pure SYNs that were not seen before: connections opened by this address.
    pub connections: u32,
    /// Pure SYNs that were seen before, with the same initial sequence number.
    pub syn_retx: u32,
    /// SYN-ACKs that were sent to this address.
    pub answered: u32,
    /// Resets that answered a SYN of this address.
    pub refused: u32,
}

const _: () = assert!(size_of::<SourceStats>() == 48);

impl SourceStats {
    /// Nothing counted.
    pub const EMPTY: Self = Self {
        c2s_packets: 0,
        c2s_bytes: 0,
        s2c_packets: 0,
        s2c_bytes: 0,
        connections: 0,
        syn_retx: 0,
        answered: 0,
        refused: 0,
    };

    /// Nothing was counted.
    #[inline(always)]
    pub const fn is_empty(&self) -> bool {
        // Every pure SYN is a c2s packet as well, so these four tell all.
        self.c2s_packets | self.s2c_packets == 0 && self.answered | self.refused == 0
    }

    /// Counts a segment that this address sent; `syn` says what its SYN was.
    #[inline(always)]
    fn count(&mut self, segment: &Segment, syn: Syn) {
        match segment.direction {
            Direction::ClientToServer => {
                self.c2s_packets += 1;
                self.c2s_bytes += u64::from(segment.bytes);
            }
            Direction::ServerToClient => {
                self.s2c_packets += 1;
                self.s2c_bytes += u64::from(segment.bytes);
            }
        }
        // 32 bits hold five minutes of one address at 14.8 million SYNs per second on one CPU;
        // longer windows happen only while no agent drains, and then the count stays at its end.
        match syn {
            Syn::New => self.connections = self.connections.saturating_add(1),
            Syn::Retransmitted => self.syn_retx = self.syn_retx.saturating_add(1),
            Syn::None => {}
        }
    }

    /// Counts what a server said to this client.
    #[inline(always)]
    fn credit(&mut self, segment: &Segment) {
        if segment.is_syn_ack() {
            self.answered = self.answered.saturating_add(1);
        } else {
            self.refused = self.refused.saturating_add(1);
        }
    }

    /// The counts as the kernel lays them out in 8-byte words, as they come from a hash map.
    pub const fn from_words(words: [u64; 6]) -> Self {
        let [
            c2s_packets,
            c2s_bytes,
            s2c_packets,
            s2c_bytes,
            syns,
            replies,
        ] = words;
        let [a, b, c, d, e, f, g, h] = syns.to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = replies.to_ne_bytes();
        Self {
            c2s_packets,
            c2s_bytes,
            s2c_packets,
            s2c_bytes,
            connections: u32::from_ne_bytes([a, b, c, d]),
            syn_retx: u32::from_ne_bytes([e, f, g, h]),
            answered: u32::from_ne_bytes([i, j, k, l]),
            refused: u32::from_ne_bytes([m, n, o, p]),
        }
    }
}

/// Counts merged over CPUs and windows: the same eight, all of 64 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// See [`SourceStats::connections`].
    pub connections: u64,
    /// See [`SourceStats::syn_retx`].
    pub syn_retx: u64,
    /// See [`SourceStats::c2s_packets`].
    pub c2s_packets: u64,
    /// See [`SourceStats::c2s_bytes`].
    pub c2s_bytes: u64,
    /// See [`SourceStats::s2c_packets`].
    pub s2c_packets: u64,
    /// See [`SourceStats::s2c_bytes`].
    pub s2c_bytes: u64,
    /// See [`SourceStats::answered`].
    pub answered: u64,
    /// See [`SourceStats::refused`].
    pub refused: u64,
}

impl Totals {
    /// Adds what `other` counted.
    pub fn merge(&mut self, other: &Self) {
        // In full, so that a new count cannot be forgotten here.
        let Self {
            connections,
            syn_retx,
            c2s_packets,
            c2s_bytes,
            s2c_packets,
            s2c_bytes,
            answered,
            refused,
        } = self;
        *connections += other.connections;
        *syn_retx += other.syn_retx;
        *c2s_packets += other.c2s_packets;
        *c2s_bytes += other.c2s_bytes;
        *s2c_packets += other.s2c_packets;
        *s2c_bytes += other.s2c_bytes;
        *answered += other.answered;
        *refused += other.refused;
    }

    /// Segments sent, in both roles.
    pub const fn packets(&self) -> u64 {
        self.c2s_packets + self.s2c_packets
    }

    /// Layer-3 bytes sent, in both roles.
    pub const fn bytes(&self) -> u64 {
        self.c2s_bytes + self.s2c_bytes
    }
}

impl From<&SourceStats> for Totals {
    fn from(stats: &SourceStats) -> Self {
        let SourceStats {
            c2s_packets,
            c2s_bytes,
            s2c_packets,
            s2c_bytes,
            connections,
            syn_retx,
            answered,
            refused,
        } = *stats;
        Self {
            connections: connections.into(),
            syn_retx: syn_retx.into(),
            c2s_packets,
            c2s_bytes,
            s2c_packets,
            s2c_bytes,
            answered: answered.into(),
            refused: refused.into(),
        }
    }
}

/// The key of the spill hash: an own host and the half in which it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SpillKey {
    address: Address,
    half: u64,
}

const _: () = assert!(size_of::<SpillKey>() == 24);

impl SpillKey {
    /// The key of this address in this half.
    #[inline(always)]
    pub const fn new(half: u32, address: Address) -> Self {
        Self {
            address,
            half: half as u64,
        }
    }

    /// The key as the kernel lays it out in 8-byte words, as it comes from a hash map.
    pub const fn from_words(words: [u64; 3]) -> (u32, Address) {
        let [high, low, half] = words;
        (half as u32, Address::from_words(high, low))
    }
}

/// Places in an array of [`Header`]s: the most possible CPUs that a machine may have. An inner
/// array has a fixed size, or its look-up would not be inlined.
pub const MAX_CPUS: usize = 1024;

/// Places for [`Header::outcomes`]; more than there are counters, so that a new one keeps the layout.
pub const OUTCOMES: usize = 32;
const _: () = assert!(Counter::COUNT <= OUTCOMES);

/// What one CPU says about one half of the tables: which half it is, and the totals of its window.
///
/// It is the value of the arrays that the epoch chooses between: one look-up by CPU number gives a
/// program both the number of the half that it writes and the place for its totals, and the totals
/// are cut by the same flip as the tables, so that the conservation law can be checked to the
/// packet while traffic flows.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Header {
    /// [`LAYOUT_VERSION`](crate::LAYOUT_VERSION) of whoever made this map.
    pub layout: u32,
    /// Which half this is: 0 or 1.
    pub half: u32,
    /// Bits of [`notice`]: which rare events this CPU has logged.
    pub notices: u64,
    /// Frames seen.
    pub frames: u64,
    /// Layer-3 bytes of the segments among them.
    pub segment_bytes: u64,
    /// Counts of own hosts that went to the spill, because their set was full.
    pub spilled: u64,
    /// Counts of own hosts that went to overflow, because the spill was full as well.
    pub spill_refused: u64,
    /// How the frames ended, by [`Counter::index`].
    pub outcomes: [u64; OUTCOMES],
    /// What found no line: the counts of all strangers whose set was full, and of own hosts when
    /// the spill was full.
    pub overflow: SourceStats,
    /// The place of the flow table's totals, and what rounds the size up to a power of two, so
    /// that the look-up is a shift.
    pub reserved: [u64; 20],
}

const _: () = assert!(size_of::<Header>() == 512);

/// Bits of [`Header::notices`].
pub mod notice {
    /// The program said that it counts on this CPU.
    pub const STARTED: u64 = 1;
    /// The program said in this window that a set was full.
    pub const FULL: u64 = 2;
}

impl Header {
    /// The header of a half in which nothing was counted.
    pub const fn new(half: u32) -> Self {
        Self {
            layout: crate::LAYOUT_VERSION,
            half,
            notices: 0,
            frames: 0,
            segment_bytes: 0,
            spilled: 0,
            spill_refused: 0,
            outcomes: [0; OUTCOMES],
            overflow: SourceStats::EMPTY,
            reserved: [0; 20],
        }
    }

    /// Counts how a frame ended.
    #[inline(always)]
    pub fn end(&mut self, counter: Counter) {
        self.frames += 1;
        // The mask is for the verifier; OUTCOMES is a power of two above every index.
        self.outcomes[counter.index() & (OUTCOMES - 1)] += 1;
    }
}

/// What kind of SYN a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Syn {
    None,
    New,
    Retransmitted,
}

/// The memory that [`observe`] counts in: maps in the kernel, vectors in `replay`.
///
/// Only look-ups are behind this trait; what is looked up and counted is decided here.
pub trait Memory {
    /// The set with this index, or `None` if there is none (which geometry rules out).
    fn set(&mut self, index: u32) -> Option<&mut Set>;

    /// Puts `fingerprint` into a slot of the SYN memory and says whether it was there already.
    fn remember(&mut self, slot: u32, fingerprint: u64) -> bool;

    /// Whether the address lies inside the operator's own prefixes.
    fn is_own(&mut self, address: Address) -> bool;

    /// The counts of an own host whose set is full; `None` if the spill is full as well.
    fn spill(&mut self, half: u32, address: Address) -> Option<&mut SourceStats>;
}

/// What [`observe`] needs to know about its tables.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    /// Their shape.
    pub geometry: Geometry,
    /// The CPU that counts.
    pub cpu: u32,
    /// Seeds of the address hash.
    pub address_seeds: AddressSeeds,
}

/// Counts a segment.
///
/// `syn_seeds` is a function, because in the kernel reading them costs, and only SYNs need them.
#[inline(always)]
pub fn observe<M: Memory>(
    segment: &Segment,
    tables: &Tables,
    syn_seeds: impl FnOnce() -> SynSeeds,
    header: &mut Header,
    memory: &mut M,
) -> Placement {
    header.end(Counter::Segment);
    header.segment_bytes += u64::from(segment.bytes);

    let mut syn = Syn::None;
    let mut credits = false;
    match segment.direction {
        Direction::ClientToServer => {
            if segment.is_pure_syn() {
                let fingerprint = table::fingerprint_syn(&syn_seeds(), segment);
                let slot = table::syn_slot(fingerprint, tables.geometry.syn_slots);
                syn = if memory.remember(slot, fingerprint) {
                    Syn::Retransmitted
                } else {
                    Syn::New
                };
            }
        }
        Direction::ServerToClient => credits = segment.is_syn_ack() || segment.is_refusal(),
    }

    let mut placement = count_for(segment.source, tables, header, memory, |stats| {
        stats.count(segment, syn);
    });
    if credits
        && count_for(segment.destination, tables, header, memory, |stats| {
            stats.credit(segment);
        }) == Placement::Full
    {
        placement = Placement::Full;
    }
    placement
}

/// Whether there was a line for what was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Each address has its line.
    Line,
    /// A set was full: something was counted in the spill or as overflow.
    Full,
}

/// Counts for one address, wherever there is a place: on its line, in the spill if it is an own
/// host, or as overflow.
#[inline(always)]
fn count_for<M: Memory>(
    address: Address,
    tables: &Tables,
    header: &mut Header,
    memory: &mut M,
    count: impl Fn(&mut SourceStats),
) -> Placement {
    let hash = table::hash_address(&tables.address_seeds, address);
    let index = tables.geometry.set(header.half, tables.cpu, hash);
    if let Some(set) = memory.set(index)
        && let Some(stats) = set.stats_of(address)
    {
        count(stats);
        return Placement::Line;
    }
    if memory.is_own(address) {
        if let Some(stats) = memory.spill(header.half, address) {
            count(stats);
            header.spilled += 1;
            return Placement::Full;
        }
        header.spill_refused += 1;
    }
    count(&mut header.overflow);
    Placement::Full
}
