//! Tables in vectors, and the model that they are compared with.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test binary uses its own part"
)]

use std::collections::{HashMap, HashSet};

use smtp_common::counter::Counter;
use smtp_common::flow::{
    FlowKey, FlowLine, FlowSet, Header, Memory, Placement, SourceStats, Tables, Totals, observe,
};
use smtp_common::packet::{Address, Direction, Packet, Segment, flags};
use smtp_common::table::{AddressSeeds, Geometry, Set, SynSeeds};

pub const SYN: u8 = flags::SYN;
pub const SYN_ACK: u8 = flags::SYN | flags::ACK;
pub const RST_ACK: u8 = flags::RST | flags::ACK;

/// Fixed random numbers, so that no test depends on luck (SplitMix64).
pub fn random<const N: usize>(seed: u64) -> [u64; N] {
    std::array::from_fn(|i| {
        let z = seed.wrapping_add((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    })
}

/// Tables in vectors, for any number of CPUs and both halves.
pub struct Meter {
    pub geometry: Geometry,
    pub address_seeds: AddressSeeds,
    pub syn_seeds: SynSeeds,
    pub sets: Vec<Set>,
    pub flow_sets: Vec<FlowSet>,
    /// The clock: it stands still unless a test moves it.
    pub tick: u32,
    pub syns: Vec<u64>,
    pub own: fn(Address) -> bool,
    pub spill: HashMap<(u32, Address), SourceStats>,
    pub spill_limit: usize,
    /// By half, then by CPU.
    pub headers: [Vec<Header>; 2],
    pub half: u32,
}

/// The counts of one half, merged over CPUs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    pub sources: HashMap<Address, Totals>,
    pub overflow: Totals,
    pub segments: u64,
    pub segment_bytes: u64,
    pub flows: Vec<FlowLine>,
    pub flow_refused: (u64, u64),
}

impl Counts {
    pub fn merge(&mut self, other: &Self) {
        for (address, totals) in &other.sources {
            self.sources.entry(*address).or_default().merge(totals);
        }
        self.overflow.merge(&other.overflow);
        self.segments += other.segments;
        self.segment_bytes += other.segment_bytes;
        self.flows.extend(&other.flows);
        self.flow_refused.0 += other.flow_refused.0;
        self.flow_refused.1 += other.flow_refused.1;
    }

    /// Without flows: there are as many lines as windows and CPUs, and full sets are full of others.
    pub fn without_flows(self) -> Self {
        Self {
            flows: Vec::new(),
            flow_refused: (0, 0),
            ..self
        }
    }

    /// Sources and overflow together.
    pub fn totals(&self) -> Totals {
        let mut totals = self.overflow;
        for source in self.sources.values() {
            totals.merge(source);
        }
        totals
    }

    pub fn assert_conserved(&self) {
        let totals = self.totals();
        assert_eq!(totals.packets(), self.segments, "{self:?}");
        assert_eq!(totals.bytes(), self.segment_bytes, "{self:?}");
        if self.flows.is_empty() {
            return;
        }
        let packets = self.flows.iter().map(|f| f.c2s_packets + f.s2c_packets);
        let bytes = self.flows.iter().map(|f| f.c2s_bytes + f.s2c_bytes);
        let (refused_packets, refused_bytes) = self.flow_refused;
        assert_eq!(packets.sum::<u64>() + refused_packets, self.segments);
        assert_eq!(bytes.sum::<u64>() + refused_bytes, self.segment_bytes);
    }
}

impl Meter {
    pub fn new(cpus: u32, sets: u32, syn_slots: u32) -> Self {
        Self::with_flows(cpus, sets, syn_slots, 0)
    }

    pub fn with_flows(cpus: u32, sets: u32, syn_slots: u32, flow_sets: u32) -> Self {
        let geometry = Geometry {
            cpus,
            sets,
            syn_slots,
            flow_sets,
        };
        Self {
            geometry,
            address_seeds: random(1),
            syn_seeds: random(2),
            sets: vec![Set::default(); geometry.total_sets() as usize],
            flow_sets: vec![FlowSet::default(); geometry.total_flow_sets() as usize],
            tick: 0,
            syns: vec![0; syn_slots as usize],
            own: |_| false,
            spill: HashMap::new(),
            spill_limit: 0,
            headers: [0, 1].map(|half| {
                let header = |cpu| Header::new(half).of(&geometry, cpu);
                (0..cpus).map(header).collect()
            }),
            half: 0,
        }
    }

    /// With room for everything that the strategies below make.
    pub fn roomy(cpus: u32) -> Self {
        Self::with_syn_slots(cpus, if cfg!(miri) { 1 << 12 } else { 1 << 20 })
    }

    /// The same, and none of the SYNs of `properties` takes the slot of another.
    pub fn unforgetting(cpus: u32) -> Self {
        Self::with_syn_slots(cpus, 1 << 20)
    }

    fn with_syn_slots(cpus: u32, syn_slots: u32) -> Self {
        // Every line is looked at in every flip: too many for Miri.
        let (sets, flow_sets) = if cfg!(miri) {
            (1 << 6, 1 << 6)
        } else {
            (1 << 10, 1 << 12)
        };
        Self::with_flows(cpus, sets, syn_slots, flow_sets)
    }

    pub fn observe(&mut self, cpu: u32, segment: &Segment) -> Placement {
        self.observe_saying(cpu, segment, b"")
    }

    /// The same with this payload.
    pub fn observe_saying(&mut self, cpu: u32, segment: &Segment, payload: &[u8]) -> Placement {
        let segment = &Segment {
            payload: payload.len() as u32,
            ..*segment
        };
        let payload = Packet::from_slice(payload);
        let (address_seeds, syn_seeds) = (self.address_seeds, self.syn_seeds);
        let tables = Tables {
            sets: self.geometry.sets,
            flow_sets: self.geometry.flow_sets,
            syn_slots: self.geometry.syn_slots,
            address_seeds: || address_seeds,
            syn_seeds: || syn_seeds,
        };
        let mut header = self.headers[self.half as usize][cpu as usize];
        let placement = observe(segment, payload, &tables, &mut header, self);
        self.headers[self.half as usize][cpu as usize] = header;
        placement
    }

    /// Flips, and drains the half that was written.
    pub fn flip(&mut self) -> Counts {
        let half = self.half;
        self.half = 1 - half;
        let mut counts = Counts::default();
        for cpu in 0..self.geometry.cpus {
            let header = &mut self.headers[half as usize][cpu as usize];
            counts.segments += header.outcomes[Counter::Segment.index()];
            counts.segment_bytes += header.segment_bytes;
            counts.overflow.merge(&(&header.overflow).into());
            counts.flow_refused.0 += header.flow_refused_packets;
            counts.flow_refused.1 += header.flow_refused_bytes;
            assert_eq!(header.half, half);
            *header = Header::new(half).of(&self.geometry, cpu);
            let first = self.geometry.flow_segment(half, cpu) as usize;
            for set in &mut self.flow_sets[first..first + self.geometry.flow_sets as usize] {
                let lines = std::mem::take(set).lines;
                counts
                    .flows
                    .extend(lines.iter().filter(|line| !line.is_empty()));
            }
            let first = self.geometry.segment(half, cpu) as usize;
            for set in &mut self.sets[first..first + self.geometry.sets as usize] {
                for line in std::mem::take(set).lines {
                    if !line.stats.is_empty() {
                        let source = counts.sources.entry(line.address).or_default();
                        source.merge(&(&line.stats).into());
                    }
                }
            }
        }
        self.spill.retain(|(spilled_half, address), stats| {
            if *spilled_half == half {
                let source = counts.sources.entry(*address).or_default();
                source.merge(&(&*stats).into());
            }
            *spilled_half != half
        });
        counts
    }
}

impl Memory for Meter {
    fn set(&mut self, index: u32) -> Option<&mut Set> {
        self.sets.get_mut(index as usize)
    }

    fn flow_set(&mut self, index: u32, _key: &FlowKey) -> Option<&mut FlowSet> {
        self.flow_sets.get_mut(index as usize)
    }

    fn tick(&mut self) -> u32 {
        self.tick
    }

    fn nanoseconds(&mut self) -> u64 {
        u64::from(self.tick) * 4_000_000
    }

    fn remember(&mut self, slot: u32, fingerprint: u64) -> u64 {
        std::mem::replace(&mut self.syns[slot as usize], fingerprint)
    }

    fn is_own(&mut self, address: Address) -> bool {
        (self.own)(address)
    }

    fn spill(&mut self, half: u32, address: Address) -> Option<&mut SourceStats> {
        let key = (half, address);
        if !self.spill.contains_key(&key) && self.spill.len() >= self.spill_limit {
            return None;
        }
        Some(self.spill.entry(key).or_insert(SourceStats::EMPTY))
    }
}

/// What DESIGN says, without tables.
#[derive(Default)]
pub struct Model {
    pub sources: HashMap<Address, Totals>,
    pub syns: HashSet<(Address, u16, Address, u16, u32)>,
}

impl Model {
    pub fn observe(&mut self, s: &Segment) {
        let of = |set: u8| s.flags & set != 0;
        let (syn, ack) = (of(flags::SYN), of(flags::ACK));
        let (rst, fin) = (of(flags::RST), of(flags::FIN));
        let source = self.sources.entry(s.source).or_default();
        if s.direction == Direction::ClientToServer {
            source.c2s_packets += 1;
            source.c2s_bytes += u64::from(s.bytes);
            if syn && !ack && !rst && !fin {
                let tuple = (s.source, s.source_port, s.destination, s.destination_port);
                let key = (tuple.0, tuple.1, tuple.2, tuple.3, s.sequence);
                if self.syns.insert(key) {
                    source.connections += 1;
                } else {
                    source.syn_retx += 1;
                }
            }
            return;
        }
        source.s2c_packets += 1;
        source.s2c_bytes += u64::from(s.bytes);
        if syn && ack && !rst && !fin {
            self.sources.entry(s.destination).or_default().answered += 1;
        }
        if rst && ack && !syn && !fin && s.sequence == 0 {
            self.sources.entry(s.destination).or_default().refused += 1;
        }
    }
}

pub fn host(number: u8) -> Address {
    Address::from_ipv4([10, 0, 0, number])
}

pub fn sent(client: u8, server: u8, port: u16, sequence: u32, flags: u8) -> Segment {
    Segment {
        source: host(client),
        destination: host(server),
        source_port: port,
        destination_port: 25,
        sequence,
        flags,
        direction: Direction::ClientToServer,
        bytes: 60,
        payload: 0,
    }
}

/// The other way.
pub fn replied(client: u8, server: u8, sequence: u32, flags: u8) -> Segment {
    Segment {
        source: host(server),
        destination: host(client),
        source_port: 25,
        destination_port: 40_000,
        sequence,
        flags,
        direction: Direction::ServerToClient,
        bytes: 40,
        payload: 0,
    }
}
