//! What is counted, where, and when nothing is, one packet at a time.

mod meter;

use meter::*;
use smtp_common::counter::{Counter, Skip};
use smtp_common::flow::{Header, Placement, SourceStats, SpillKey, Totals};
use smtp_common::packet::{Address, Segment};

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
