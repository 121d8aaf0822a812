//! The counts of a source address, and their sums.
//!
//! Contract: [`Totals::merge`] is addition: the counts of k windows, or of k CPUs, merged in
//! any order, equal those of one long window on one CPU.

use crate::observe::Syn;
use crate::packet::{Direction, Segment};

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
    pub(crate) fn count(&mut self, segment: &Segment, syn: Syn) {
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
        if syn.is_some() {
            self.connections = bump(self.connections, syn.new);
            self.syn_retx = bump(self.syn_retx, syn.retransmitted);
        }
    }

    /// Counts what a server said to this client.
    #[inline(always)]
    pub(crate) fn credit(&mut self, segment: &Segment) {
        if segment.is_syn_ack() {
            self.answered = bump(self.answered, 1);
        } else {
            self.refused = bump(self.refused, 1);
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

/// Adds 0 or 1 and stays at the end, without a branch, which the verifier would walk.
#[inline(always)]
pub(crate) const fn bump(count: u32, by: u32) -> u32 {
    let sum = count as u64 + by as u64;
    (sum - (sum >> 32)) as u32
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
    /// Adds what `other` counted. No sum comes near the end of 64 bits, but for those of memory that
    /// was written by somebody else; these stay at the end.
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
        *connections = connections.saturating_add(other.connections);
        *syn_retx = syn_retx.saturating_add(other.syn_retx);
        *c2s_packets = c2s_packets.saturating_add(other.c2s_packets);
        *c2s_bytes = c2s_bytes.saturating_add(other.c2s_bytes);
        *s2c_packets = s2c_packets.saturating_add(other.s2c_packets);
        *s2c_bytes = s2c_bytes.saturating_add(other.s2c_bytes);
        *answered = answered.saturating_add(other.answered);
        *refused = refused.saturating_add(other.refused);
    }

    /// Segments sent, in both roles.
    pub const fn packets(&self) -> u64 {
        self.c2s_packets.saturating_add(self.s2c_packets)
    }

    /// Layer-3 bytes sent, in both roles.
    pub const fn bytes(&self) -> u64 {
        self.c2s_bytes.saturating_add(self.s2c_bytes)
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
