//! What one CPU says about one half of the tables, and the key of the spill.

use crate::counter::Counter;
use crate::packet::Address;
use crate::source::SourceStats;
use crate::table::Geometry;

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
    /// Bits of [`notice`]: which of them have happened and are not logged yet.
    pub due: u64,
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
    /// Segments that found no line in the table of flows.
    pub flow_refused_packets: u64,
    /// Layer-3 bytes of these.
    pub flow_refused_bytes: u64,
    /// A tick of the kernel's clock interrupt, by which [`FlowLine`](crate::flow::FlowLine) tells
    /// times: the one at which the last line was taken.
    pub clock_ticks: u64,
    /// The same moment in nanoseconds of `CLOCK_MONOTONIC`.
    pub clock_nanoseconds: u64,
    /// The number of the window that is or was counted here: the halves take turns, and whichever
    /// has the higher number came later.
    pub epoch: u64,
    /// The first set of sources of this half and CPU; see [`Geometry::segment`].
    pub first_set: u32,
    /// The first set of flows, likewise.
    pub first_flow_set: u32,
    /// Rounds the size up to a power of two, so that the look-up is a shift.
    pub reserved: [u64; 13],
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
    /// The header of a half in which nothing was counted, for the first CPU of the first half.
    pub const fn new(half: u32) -> Self {
        Self {
            layout: crate::LAYOUT_VERSION,
            half,
            notices: 0,
            due: notice::STARTED,
            frames: 0,
            segment_bytes: 0,
            spilled: 0,
            spill_refused: 0,
            outcomes: [0; OUTCOMES],
            overflow: SourceStats::EMPTY,
            flow_refused_packets: 0,
            flow_refused_bytes: 0,
            clock_ticks: 0,
            clock_nanoseconds: 0,
            epoch: 0,
            first_set: 0,
            first_flow_set: 0,
            reserved: [0; 13],
        }
    }

    /// The same for this CPU, whose sets are not the first ones.
    #[must_use]
    pub const fn of(self, geometry: &Geometry, cpu: u32) -> Self {
        Self {
            first_set: geometry.segment(self.half, cpu),
            first_flow_set: geometry.flow_segment(self.half, cpu),
            ..self
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
