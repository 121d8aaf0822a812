//! What is counted, where, and that nothing is counted twice or not at all.
//!
//! The oracle is [`Model`]: a dozen lines over the standard library's sets and maps.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use smtp_common::counter::{Counter, Skip};
use smtp_common::flow::{
    Header, Memory, Placement, SourceStats, SpillKey, Tables, Totals, observe,
};
use smtp_common::packet::{Address, Direction, Segment, flags};
use smtp_common::table::{AddressSeeds, Geometry, Set, SynSeeds, fingerprint_syn, syn_slot};

const SYN: u8 = flags::SYN;
const SYN_ACK: u8 = flags::SYN | flags::ACK;
const RST_ACK: u8 = flags::RST | flags::ACK;

/// Fixed random numbers, so that no test depends on luck (SplitMix64).
fn random<const N: usize>(seed: u64) -> [u64; N] {
    std::array::from_fn(|i| {
        let z = seed.wrapping_add((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    })
}

/// Tables in vectors, for any number of CPUs and both halves.
struct Meter {
    geometry: Geometry,
    address_seeds: AddressSeeds,
    syn_seeds: SynSeeds,
    sets: Vec<Set>,
    syns: Vec<u64>,
    own: fn(Address) -> bool,
    spill: HashMap<(u32, Address), SourceStats>,
    spill_limit: usize,
    /// By half, then by CPU.
    headers: [Vec<Header>; 2],
    half: u32,
}

/// The counts of one half, merged over CPUs.
#[derive(Clone, Debug, Default, PartialEq)]
struct Counts {
    sources: HashMap<Address, Totals>,
    overflow: Totals,
    segments: u64,
    segment_bytes: u64,
}

impl Counts {
    fn merge(&mut self, other: &Self) {
        for (address, totals) in &other.sources {
            self.sources.entry(*address).or_default().merge(totals);
        }
        self.overflow.merge(&other.overflow);
        self.segments += other.segments;
        self.segment_bytes += other.segment_bytes;
    }

    /// Sources and overflow together.
    fn totals(&self) -> Totals {
        let mut totals = self.overflow;
        for source in self.sources.values() {
            totals.merge(source);
        }
        totals
    }

    fn assert_conserved(&self) {
        let totals = self.totals();
        assert_eq!(totals.packets(), self.segments, "{self:?}");
        assert_eq!(totals.bytes(), self.segment_bytes, "{self:?}");
    }
}

impl Meter {
    fn new(cpus: u32, sets: u32, syn_slots: u32) -> Self {
        let geometry = Geometry {
            cpus,
            sets,
            syn_slots,
        };
        Self {
            geometry,
            address_seeds: random(1),
            syn_seeds: random(2),
            sets: vec![Set::default(); geometry.total_sets() as usize],
            syns: vec![0; syn_slots as usize],
            own: |_| false,
            spill: HashMap::new(),
            spill_limit: 0,
            headers: [0, 1].map(|half| vec![Header::new(half); cpus as usize]),
            half: 0,
        }
    }

    /// With room for everything that the strategies below make.
    fn roomy(cpus: u32) -> Self {
        Self::new(cpus, 1 << 10, 1 << 20)
    }

    fn observe(&mut self, cpu: u32, segment: &Segment) -> Placement {
        let tables = Tables {
            geometry: self.geometry,
            cpu,
            address_seeds: self.address_seeds,
        };
        let syn_seeds = self.syn_seeds;
        let mut header = self.headers[self.half as usize][cpu as usize];
        let placement = observe(segment, &tables, || syn_seeds, &mut header, self);
        self.headers[self.half as usize][cpu as usize] = header;
        placement
    }

    /// Flips, and drains the half that was written.
    fn flip(&mut self) -> Counts {
        let half = self.half;
        self.half = 1 - half;
        let mut counts = Counts::default();
        for cpu in 0..self.geometry.cpus {
            let header = &mut self.headers[half as usize][cpu as usize];
            counts.segments += header.outcomes[Counter::Segment.index()];
            counts.segment_bytes += header.segment_bytes;
            counts.overflow.merge(&(&header.overflow).into());
            assert_eq!(header.half, half);
            *header = Header::new(half);
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

    fn remember(&mut self, slot: u32, fingerprint: u64) -> bool {
        std::mem::replace(&mut self.syns[slot as usize], fingerprint) == fingerprint
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
struct Model {
    sources: HashMap<Address, Totals>,
    syns: HashSet<(Address, u16, Address, u16, u32)>,
}

impl Model {
    fn observe(&mut self, s: &Segment) {
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

fn host(number: u8) -> Address {
    Address::from_ipv4([10, 0, 0, number])
}

fn sent(client: u8, server: u8, port: u16, sequence: u32, flags: u8) -> Segment {
    Segment {
        source: host(client),
        destination: host(server),
        source_port: port,
        destination_port: 25,
        sequence,
        flags,
        direction: Direction::ClientToServer,
        bytes: 60,
    }
}

/// The other way.
fn replied(client: u8, server: u8, sequence: u32, flags: u8) -> Segment {
    Segment {
        source: host(server),
        destination: host(client),
        source_port: 25,
        destination_port: 40_000,
        sequence,
        flags,
        direction: Direction::ServerToClient,
        bytes: 40,
    }
}

/// What the segments give for host 1, which is the client, on fresh tables.
fn of_client(segments: &[Segment]) -> Totals {
    let mut meter = Meter::roomy(1);
    for segment in segments {
        meter.observe(0, segment);
    }
    let counts = meter.flip();
    counts.assert_conserved();
    counts.sources.get(&host(1)).copied().unwrap_or_default()
}

#[test]
fn the_same_syn_again_is_a_retransmission() {
    let syn = sent(1, 2, 40_000, 7, SYN);
    let totals = of_client(&[syn, syn, syn]);
    assert_eq!((totals.connections, totals.syn_retx), (1, 2));
    assert_eq!((totals.c2s_packets, totals.c2s_bytes), (3, 180));
}

#[test]
fn a_syn_that_differs_in_one_thing_is_a_connection() {
    let syn = sent(1, 2, 40_000, 7, SYN);
    let others = [
        sent(1, 2, 40_000, 8, SYN),
        sent(1, 2, 40_001, 7, SYN),
        sent(1, 3, 40_000, 7, SYN),
        Segment {
            destination_port: 587,
            ..syn
        },
    ];
    for other in others {
        let totals = of_client(&[syn, other]);
        assert_eq!((totals.connections, totals.syn_retx), (2, 0), "{other:?}");
    }
    // Of another client it is that client's.
    let totals = of_client(&[syn, sent(3, 2, 40_000, 7, SYN)]);
    assert_eq!((totals.connections, totals.syn_retx), (1, 0));
}

#[test]
fn every_combination_of_flags_is_what_the_words_of_the_design_say() {
    for flags in 0..=255_u8 {
        let core = flags & 0x17;
        let totals = of_client(&[sent(1, 2, 40_000, 7, flags)]);
        assert_eq!(totals.connections, u64::from(core == 0x02), "{flags:08b}");
        let totals = of_client(&[replied(1, 2, 0, flags)]);
        assert_eq!(totals.answered, u64::from(core == 0x12), "{flags:08b}");
        assert_eq!(totals.refused, u64::from(core == 0x14), "{flags:08b}");
        assert_eq!(
            (totals.connections, totals.packets()),
            (0, 0),
            "{flags:08b}"
        );
    }
}

#[test]
fn only_a_reset_with_sequence_number_zero_is_a_refusal() {
    assert_eq!(of_client(&[replied(1, 2, 0, RST_ACK)]).refused, 1);
    assert_eq!(of_client(&[replied(1, 2, 1, RST_ACK)]).refused, 0);
    // An answer counts whatever its number.
    assert_eq!(of_client(&[replied(1, 2, 1, SYN_ACK)]).answered, 1);
}

#[test]
fn what_a_client_resets_or_acknowledges_is_credited_to_nobody() {
    for flags in [SYN_ACK, RST_ACK] {
        let mut meter = Meter::roomy(1);
        meter.observe(0, &sent(1, 2, 40_000, 0, flags));
        let counts = meter.flip();
        assert_eq!(counts.sources.len(), 1);
        let totals = counts.sources[&host(1)];
        assert_eq!((totals.answered, totals.refused), (0, 0));
        assert_eq!((totals.connections, totals.c2s_packets), (0, 1));
    }
}

#[test]
fn between_two_mail_ports_the_destination_is_the_server_both_ways() {
    let syn = sent(1, 2, 25, 7, SYN);
    let answer = Segment {
        source: host(2),
        destination: host(1),
        flags: SYN_ACK,
        ..syn
    };
    let mut meter = Meter::roomy(1);
    meter.observe(0, &syn);
    meter.observe(0, &answer);
    let counts = meter.flip();
    let (one, two) = (counts.sources[&host(1)], counts.sources[&host(2)]);
    assert_eq!((one.connections, one.c2s_packets, one.answered), (1, 1, 0));
    assert_eq!(
        (two.connections, two.c2s_packets, two.s2c_packets),
        (0, 1, 0)
    );
}

#[test]
fn a_retransmission_is_known_in_later_windows_and_on_other_cpus() {
    let mut meter = Meter::roomy(2);
    let syn = sent(1, 2, 40_000, 7, SYN);
    meter.observe(0, &syn);
    assert_eq!(meter.flip().sources[&host(1)].connections, 1);
    meter.observe(1, &syn);
    meter.observe(0, &syn);
    let totals = meter.flip().sources[&host(1)];
    assert_eq!((totals.connections, totals.syn_retx), (0, 2));
}

#[test]
fn a_syn_whose_slot_was_taken_counts_as_new_and_is_still_counted() {
    let mut meter = Meter::new(1, 1 << 10, 1);
    for segment in [7, 8, 7, 8].map(|sequence| sent(1, 2, 40_000, sequence, SYN)) {
        meter.observe(0, &segment);
    }
    let totals = meter.flip().sources[&host(1)];
    assert_eq!(
        (totals.connections, totals.syn_retx, totals.c2s_packets),
        (4, 0, 4)
    );
}

#[test]
fn a_host_that_is_only_answered_or_only_refused_keeps_its_line() {
    for flags in [SYN_ACK, RST_ACK] {
        let mut meter = Meter::new(1, 1, 1);
        // One set of two lines: the credited host has the second and must not lose it.
        meter.observe(0, &replied(1, 2, 0, flags));
        let third = sent(3, 2, 40_000, 7, SYN);
        assert_eq!(meter.observe(0, &third), Placement::Full);
        let counts = meter.flip();
        let credited = counts.sources[&host(1)];
        assert_eq!(credited.answered + credited.refused, 1);
        assert_eq!(counts.overflow.connections, 1);
        counts.assert_conserved();
    }
}

#[test]
fn own_hosts_spill_strangers_overflow_and_each_is_accounted_for() {
    let mut meter = Meter::new(1, 1, 1 << 10);
    meter.own = |address| address.octets()[15] >= 100;
    meter.spill_limit = 1;
    let syn = |client| sent(client, 9, 40_000, 7, SYN);
    assert_eq!(meter.observe(0, &syn(1)), Placement::Line);
    assert_eq!(meter.observe(0, &syn(2)), Placement::Line);
    assert_eq!(meter.observe(0, &syn(3)), Placement::Full, "a stranger");
    assert_eq!(meter.observe(0, &syn(100)), Placement::Full, "an own host");
    assert_eq!(meter.observe(0, &syn(101)), Placement::Full, "one too many");
    assert_eq!(meter.observe(0, &syn(1)), Placement::Line, "it has a line");
    let header = meter.headers[0][0];
    assert_eq!((header.spilled, header.spill_refused), (1, 1));
    let counts = meter.flip();
    let mut found: Vec<Address> = counts.sources.keys().copied().collect();
    found.sort_by_key(|address| address.octets());
    assert_eq!(found, [1, 2, 100].map(host));
    assert_eq!(
        (counts.overflow.connections, counts.overflow.packets()),
        (2, 2)
    );
    counts.assert_conserved();
}

#[test]
fn a_credit_without_a_line_overflows_without_a_packet() {
    let mut meter = Meter::new(1, 1, 1);
    meter.observe(0, &sent(1, 9, 40_000, 7, SYN));
    meter.observe(0, &sent(2, 9, 40_000, 7, SYN));
    assert_eq!(
        meter.observe(0, &replied(3, 9, 0, SYN_ACK)),
        Placement::Full
    );
    let counts = meter.flip();
    assert_eq!(counts.overflow.answered, 1);
    assert_eq!(counts.overflow.packets(), 1, "the answer itself");
    counts.assert_conserved();
}

#[test]
fn a_spill_key_comes_back_from_its_words() {
    let address = Address::from_ipv6([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    for half in [0, 1] {
        let octets = address.octets();
        let word = |at: usize| u64::from_ne_bytes(octets[at..at + 8].try_into().unwrap());
        let words = [word(0), word(8), u64::from(half)];
        assert_eq!(SpillKey::from_words(words), (half, address));
    }
}

#[test]
fn counts_come_back_from_their_words() {
    let pair = |low: u32, high: u32| {
        let [a, b, c, d] = low.to_ne_bytes();
        let [e, f, g, h] = high.to_ne_bytes();
        u64::from_ne_bytes([a, b, c, d, e, f, g, h])
    };
    let stats = SourceStats::from_words([1, 2, 3, 4, pair(5, 6), pair(7, 8)]);
    let expected = SourceStats {
        c2s_packets: 1,
        c2s_bytes: 2,
        s2c_packets: 3,
        s2c_bytes: 4,
        connections: 5,
        syn_retx: 6,
        answered: 7,
        refused: 8,
    };
    assert_eq!(stats, expected);
}

#[test]
fn every_end_of_a_frame_is_a_frame() {
    let mut header = Header::new(1);
    for (i, counter) in Counter::ALL.into_iter().enumerate() {
        for _ in 0..=i {
            header.end(counter);
        }
    }
    for skip in Skip::ALL {
        let index = Counter::Skip(skip).index();
        assert_eq!(header.outcomes[index], 1 + index as u64, "{}", skip.name());
    }
    assert_eq!(header.frames, header.outcomes.iter().sum::<u64>());
}

/// Traffic among a few hosts, with the same few SYNs again and again.
fn traffic() -> impl Strategy<Value = Vec<Segment>> {
    let flags = prop::sample::select(vec![SYN, SYN, SYN_ACK, RST_ACK, flags::ACK, 0xc2, 0x11]);
    let segment = (
        0..16_u8,
        0..16_u8,
        0..2_u16,
        0..2_u32,
        flags,
        any::<bool>(),
        40..1500_u32,
    )
        .prop_map(|(client, server, port, sequence, flags, forth, bytes)| {
            let segment = if forth {
                sent(client, server, port, sequence, flags)
            } else {
                replied(client, server, sequence, flags)
            };
            Segment { bytes, ..segment }
        });
    prop::collection::vec(segment, 0..300)
}

/// The properties compare with a model that never forgets a SYN, so no two SYNs of [`traffic`] may
/// share a slot. With fixed seeds this holds always or never.
#[test]
fn no_two_syns_of_the_strategy_share_a_slot() {
    let meter = Meter::roomy(1);
    let mut slots = HashSet::new();
    for client in 0..16 {
        for server in 0..16 {
            for (port, sequence) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let syn = sent(client, server, port, sequence, SYN);
                let fingerprint = fingerprint_syn(&meter.syn_seeds, &syn);
                let slot = syn_slot(fingerprint, meter.geometry.syn_slots);
                assert!(slots.insert(slot), "{syn:?}: choose other seeds");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn tables_count_what_sets_and_maps_count(segments in traffic()) {
        let mut meter = Meter::roomy(1);
        let mut model = Model::default();
        for segment in &segments {
            prop_assert_eq!(meter.observe(0, segment), Placement::Line);
            model.observe(segment);
        }
        let counts = meter.flip();
        counts.assert_conserved();
        prop_assert_eq!(counts.sources, model.sources);
    }

    #[test]
    fn windows_merged_in_any_order_equal_one_long_window(
        segments in traffic(),
        flips in prop::collection::vec(any::<bool>(), 300),
        order in any::<u64>(),
    ) {
        let mut long = Meter::roomy(1);
        let mut cut = Meter::roomy(1);
        let mut windows = Vec::new();
        for (segment, flip) in segments.iter().zip(&flips) {
            long.observe(0, segment);
            cut.observe(0, segment);
            if *flip {
                windows.push(cut.flip());
            }
        }
        windows.push(cut.flip());
        let len = windows.len();
        windows.sort_by_key(|window| window.segment_bytes.wrapping_mul(order | 1));
        windows.rotate_left(order as usize % len);
        let mut merged = Counts::default();
        for window in &windows {
            window.assert_conserved();
            merged.merge(window);
        }
        prop_assert_eq!(merged, long.flip());
    }

    #[test]
    fn cpus_together_equal_one_cpu(
        segments in traffic(),
        cpus in prop::collection::vec(0..4_u32, 300),
    ) {
        let mut one = Meter::roomy(1);
        let mut four = Meter::roomy(4);
        for (segment, cpu) in segments.iter().zip(&cpus) {
            one.observe(0, segment);
            four.observe(*cpu, segment);
        }
        prop_assert_eq!(four.flip(), one.flip());
    }

    #[test]
    fn full_sets_lose_nothing_with_and_without_own_hosts(
        segments in traffic(),
        cpus in prop::collection::vec(0..2_u32, 300),
        flips in prop::collection::vec(prop::bool::weighted(0.05), 300),
        sets in prop::sample::select(vec![1_u32, 2, 4]),
        some_are_own in any::<bool>(),
        spill_limit in 0..12_usize,
    ) {
        let mut meter = Meter::new(2, sets, 1 << 20);
        if some_are_own {
            meter.own = |address| address.octets()[15] >= 6;
        }
        meter.spill_limit = spill_limit;
        let mut model = Model::default();
        let mut all = Counts::default();
        for ((segment, cpu), flip) in segments.iter().zip(&cpus).zip(&flips) {
            meter.observe(*cpu, segment);
            model.observe(segment);
            if *flip {
                let window = meter.flip();
                window.assert_conserved();
                all.merge(&window);
            }
        }
        all.merge(&meter.flip());
        all.assert_conserved();
        prop_assert_eq!(all.segments, segments.len() as u64);
        // Also connections, retransmissions, answers and refusals, which the law does not cover.
        let mut expected = Totals::default();
        for source in model.sources.values() {
            expected.merge(source);
        }
        prop_assert_eq!(all.totals(), expected);
    }

    #[test]
    fn with_room_in_the_spill_own_hosts_are_exact_in_any_flood(segments in traffic()) {
        let mut meter = Meter::new(1, 1, 1 << 20);
        meter.own = |address| address.octets()[15] >= 6;
        meter.spill_limit = 10;
        let mut model = Model::default();
        for segment in &segments {
            meter.observe(0, segment);
            model.observe(segment);
        }
        let counts = meter.flip();
        for number in 6..16 {
            let address = host(number);
            prop_assert_eq!(counts.sources.get(&address), model.sources.get(&address));
        }
    }
}
