//! Nothing is counted twice or not at all, whatever the traffic, the windows, the CPUs and the room.
//!
//! The oracle is [`Model`]: a few lines over the standard library's sets and maps.

mod cases;
mod meter;

use std::collections::HashSet;

use cases::cases;
use meter::*;
use proptest::prelude::*;
use smtp_common::flow::{Placement, Totals};
use smtp_common::packet::{Segment, flags};
use smtp_common::table::{fingerprint_syn, syn_slot};

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
    let meter = Meter::unforgetting(1);
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
    #![proptest_config(cases(500))]

    #[test]
    fn tables_count_what_sets_and_maps_count(segments in traffic()) {
        let mut meter = Meter::unforgetting(1);
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
        let mut long = Meter::unforgetting(1);
        let mut cut = Meter::unforgetting(1);
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
        prop_assert_eq!(merged.without_flows(), long.flip().without_flows());
    }

    #[test]
    fn cpus_together_equal_one_cpu(
        segments in traffic(),
        cpus in prop::collection::vec(0..4_u32, 300),
    ) {
        let mut one = Meter::unforgetting(1);
        let mut four = Meter::unforgetting(4);
        for (segment, cpu) in segments.iter().zip(&cpus) {
            one.observe(0, segment);
            four.observe(*cpu, segment);
        }
        prop_assert_eq!(four.flip().without_flows(), one.flip().without_flows());
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
