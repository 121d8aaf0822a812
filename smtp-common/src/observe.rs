//! Counting a segment.
//!
//! Contract: [`observe`] counts every segment exactly once for its source, on the line of its
//! address, in the spill or as overflow, so that `segments = sum over sources + overflow`; and, where
//! flows are counted, exactly once for its flow, on the lines of its 4-tuple or as refused, so that
//! `segments = sum over flows + refused`; both in every window to the packet and to the byte. A full
//! table of flows changes nothing about the sources.

use crate::counter::Counter;
use crate::flow::{FlowKey, FlowSet};
use crate::header::{Header, notice};
use crate::packet::{Address, Direction, Packet, Segment};
use crate::source::SourceStats;
use crate::speech::{self, Speech};
#[expect(unused_imports, reason = "for the documentation")]
use crate::table::Geometry;
use crate::table::{self, AddressSeeds, Set, SynSeeds};

/// What kind of SYN a segment is: one of the two is 1 if it is a pure SYN, both are 0 if not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syn {
    /// 1 if it was not seen before.
    pub new: u32,
    /// 1 if it was seen before.
    pub retransmitted: u32,
}

impl Syn {
    /// Whether it is one.
    #[inline(always)]
    pub(crate) const fn is_some(self) -> bool {
        self.new | self.retransmitted != 0
    }
}

/// The memory that [`observe`] counts in: maps in the kernel, vectors in `replay`.
///
/// Only look-ups are behind this trait; what is looked up and counted is decided here.
pub trait Memory {
    /// The set with this index, or `None` if there is none (which geometry rules out).
    fn set(&mut self, index: u32) -> Option<&mut Set>;

    /// Puts `fingerprint` into a slot of the SYN memory and says what was there before.
    fn remember(&mut self, slot: u32, fingerprint: u64) -> u64;

    /// The set of flows with this index, likewise; or another one, which a memory that can grow
    /// keeps for this flow alone.
    fn flow_set(&mut self, index: u32, key: &FlowKey) -> Option<&mut FlowSet>;

    /// The tick of the clock by which flows tell times: cheap and coarse.
    fn tick(&mut self) -> u32;

    /// The same moment in nanoseconds, which may cost more.
    fn nanoseconds(&mut self) -> u64;

    /// Whether the address lies inside the operator's own prefixes.
    fn is_own(&mut self, address: Address) -> bool;

    /// The counts of an own host whose set is full; `None` if the spill is full as well.
    fn spill(&mut self, half: u32, address: Address) -> Option<&mut SourceStats>;
}

/// What [`observe`] needs to know about its tables, where they begin apart: that is in the header.
///
/// Seeds come from functions: in the kernel each is a load, and what is loaded before it is needed is
/// put on the stack in the meantime.
#[derive(Clone, Copy, Debug)]
pub struct Tables<A, S> {
    /// See [`Geometry::sets`].
    pub sets: u32,
    /// See [`Geometry::flow_sets`].
    pub flow_sets: u32,
    /// See [`Geometry::syn_slots`].
    pub syn_slots: u32,
    /// Seeds of the address hash.
    pub address_seeds: A,
    /// Seeds of the hash of SYNs and flows.
    pub syn_seeds: S,
}

/// Counts a segment; `payload` is the cursor that `parse` gave with it.
#[inline(always)]
pub fn observe<M: Memory, A: Fn() -> AddressSeeds, S: Fn() -> SynSeeds>(
    segment: &Segment,
    payload: Packet<'_>,
    tables: &Tables<A, S>,
    header: &mut Header,
    memory: &mut M,
) -> Placement {
    // First, so that nothing of the packet is needed any more: the verifier tells apart what it
    // knows about the cursor.
    let speech = if tables.flow_sets == 0 {
        Speech::OTHER
    } else {
        speech::listen(segment, payload)
    };
    header.end(Counter::Segment);
    header.segment_bytes += u64::from(segment.bytes);

    let mut syn = Syn {
        new: 0,
        retransmitted: 0,
    };
    let mut credits = false;
    match segment.direction {
        Direction::ClientToServer => {
            if segment.is_pure_syn() {
                let fingerprint = table::fingerprint_syn(&(tables.syn_seeds)(), segment);
                let slot = table::syn_slot(fingerprint, tables.syn_slots);
                syn.new = speech::differ(memory.remember(slot, fingerprint), fingerprint);
                syn.retransmitted = 1 - syn.new;
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
    if tables.flow_sets != 0 {
        count_flow(segment, speech, syn, tables, header, memory);
    }
    placement
}

/// Counts for the flow.
#[inline(always)]
fn count_flow<M: Memory, A, S: Fn() -> SynSeeds>(
    segment: &Segment,
    speech: Speech,
    syn: Syn,
    tables: &Tables<A, S>,
    header: &mut Header,
    memory: &mut M,
) {
    let key = FlowKey::of(segment);
    let hash = table::hash_flow(&(tables.syn_seeds)(), &key);
    let index = table::set_of(header.first_flow_set, tables.flow_sets, hash);
    let tick = memory.tick();
    let line = memory
        .flow_set(index, &key)
        .and_then(|set| set.line_of(&key, tick));
    let Some((line, taken)) = line else {
        header.flow_refused_packets += 1;
        header.flow_refused_bytes += u64::from(segment.bytes);
        return;
    };
    line.count(segment, syn, speech, tick);
    if taken {
        header.clock_ticks = u64::from(tick);
        header.clock_nanoseconds = memory.nanoseconds();
    }
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
fn count_for<M: Memory, A: Fn() -> AddressSeeds, S>(
    address: Address,
    tables: &Tables<A, S>,
    header: &mut Header,
    memory: &mut M,
    count: impl Fn(&mut SourceStats),
) -> Placement {
    let hash = table::hash_address(&(tables.address_seeds)(), address);
    let index = table::set_of(header.first_set, tables.sets, hash);
    if let Some(set) = memory.set(index)
        && let Some(stats) = set.stats_of(address)
    {
        count(stats);
        return Placement::Line;
    }
    header.due |= notice::FULL & !header.notices;
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
