//! Pairs of client and server.
//!
//! Contract: a bounded number of pairs; what is counted for others is summed up.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::SystemTime;

use smtp_common::packet::Address;
use smtp_common::speech;

use super::follower::Change;
use crate::model::session::{Outcome, Outcomes, PairVolume, Said};
use crate::model::{Flow, PairKey};

/// The counts of a pair, in 128 bytes: what is counted per connection or reply has 32 bits, and
/// stays at their end.
#[derive(Clone, Copy, Debug)]
struct Pair {
    connections: u32,
    outcomes: [u32; Outcome::COUNT],
    said: [u32; speech::KINDS],
    accepted: u32,
    c2s_packets: u64,
    c2s_bytes: u64,
    s2c_packets: u64,
    s2c_bytes: u64,
    first: SystemTime,
    last: SystemTime,
}

/// A pair as exporters show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairRow {
    /// Whose counts these are.
    pub key: PairKey,
    /// Connections, packets and bytes.
    pub volume: PairVolume,
    /// What became of the connections that could be followed.
    pub outcomes: Outcomes,
    /// What was said.
    pub said: Said,
    /// Messages that the server took.
    pub accepted: u64,
    /// When the first segment came.
    pub first: SystemTime,
    /// When the last segment came.
    pub last: SystemTime,
}

/// The pairs.
pub struct Pairs {
    capacity: usize,
    pairs: HashMap<PairKey, Pair>,
    untracked: PairVolume,
}

fn add(count: &mut u32, more: u64) {
    *count = count.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
}

impl Pairs {
    /// None, with room for `capacity`.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            pairs: HashMap::new(),
            untracked: PairVolume::default(),
        }
    }

    /// How many there are.
    pub fn kept(&self) -> usize {
        self.pairs.len()
    }

    /// What was counted for those without a place.
    pub const fn untracked(&self) -> PairVolume {
        self.untracked
    }

    /// Counts a flow of a window. Says whether its pair was there before.
    pub(super) fn count(&mut self, flow: &Flow, change: &Change) -> bool {
        let key = PairKey {
            client: flow.key.client,
            server: flow.key.server,
        };
        let full = self.pairs.len() >= self.capacity;
        let (pair, known) = match self.pairs.entry(key) {
            Entry::Occupied(entry) => (entry.into_mut(), true),
            Entry::Vacant(_) if full => {
                let PairVolume {
                    connections,
                    c2s_packets,
                    c2s_bytes,
                    s2c_packets,
                    s2c_bytes,
                } = &mut self.untracked;
                *connections += flow.connections;
                *c2s_packets += flow.c2s_packets;
                *c2s_bytes += flow.c2s_bytes;
                *s2c_packets += flow.s2c_packets;
                *s2c_bytes += flow.s2c_bytes;
                return false;
            }
            Entry::Vacant(entry) => (entry.insert(Pair::new(flow)), false),
        };
        add(&mut pair.connections, flow.connections);
        for (mine, more) in pair.said.iter_mut().zip(flow.said) {
            add(mine, more);
        }
        add(&mut pair.accepted, change.accepted);
        if let Some(before) = change.before {
            let count = &mut pair.outcomes[before.index()];
            *count = count.saturating_sub(1);
        }
        if let Some(after) = change.after {
            add(&mut pair.outcomes[after.index()], 1);
        }
        pair.c2s_packets += flow.c2s_packets;
        pair.c2s_bytes += flow.c2s_bytes;
        pair.s2c_packets += flow.s2c_packets;
        pair.s2c_bytes += flow.s2c_bytes;
        pair.first = pair.first.min(flow.first);
        pair.last = pair.last.max(flow.last);
        known
    }

    /// The pairs in which this address is client or server, in no order.
    pub fn of(&self, address: Address) -> impl Iterator<Item = PairRow> {
        let ours = move |key: &PairKey| key.client == address || key.server == address;
        let pairs = self.pairs.iter().filter(move |(key, _)| ours(key));
        pairs.map(|(key, pair)| pair.row(*key))
    }
}

impl Pair {
    fn new(flow: &Flow) -> Self {
        Self {
            connections: 0,
            outcomes: [0; Outcome::COUNT],
            said: [0; speech::KINDS],
            accepted: 0,
            c2s_packets: 0,
            c2s_bytes: 0,
            s2c_packets: 0,
            s2c_bytes: 0,
            first: flow.first,
            last: flow.last,
        }
    }

    fn row(&self, key: PairKey) -> PairRow {
        PairRow {
            key,
            volume: PairVolume {
                connections: self.connections.into(),
                c2s_packets: self.c2s_packets,
                c2s_bytes: self.c2s_bytes,
                s2c_packets: self.s2c_packets,
                s2c_bytes: self.s2c_bytes,
            },
            outcomes: Outcomes(self.outcomes.map(u64::from)),
            said: Said(self.said.map(u64::from)),
            accepted: self.accepted.into(),
            first: self.first,
            last: self.last,
        }
    }
}

const _: () = assert!(size_of::<(PairKey, Pair)>() == 160);
