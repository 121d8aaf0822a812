//! Hashes that spread, and addresses that come back as they went in.

mod cases;

use std::net::IpAddr;

use cases::cases;
use proptest::prelude::*;
use smtp_common::packet::{Address, Direction, Segment, flags};
use smtp_common::table::{
    AddressSeeds, Geometry, SynSeeds, fingerprint_syn, hash_address, set_of, syn_slot,
};

/// Fixed random numbers, so that no test depends on luck (SplitMix64).
fn random<const N: usize>(seed: u64) -> [u64; N] {
    std::array::from_fn(|i| {
        let z = seed.wrapping_add((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    })
}

const KEYS: u32 = 1 << 16;
const SETS: u32 = 1 << 12;
const GEOMETRY: Geometry = Geometry {
    cpus: 1,
    sets: SETS,
    syn_slots: SETS,
    flow_sets: 0,
};

/// Chi-square over its degrees of freedom: 1 for a random function, 16 if one key in sixteen sets
/// of its own... and `KEYS` if all share one set.
fn unevenness(slots: impl Iterator<Item = u32>) -> f64 {
    let mut counts = vec![0_u32; SETS as usize];
    for slot in slots {
        counts[slot as usize] += 1;
    }
    let expected = f64::from(KEYS) / f64::from(SETS);
    let chi_square: f64 = counts
        .iter()
        .map(|count| (f64::from(*count) - expected).powi(2) / expected)
        .sum();
    chi_square / f64::from(SETS - 1)
}

/// A name, and the address of each number.
type Family = (&'static str, fn(u32) -> Address);

/// Addresses as they come: in a row, and in a row of subnets.
fn families() -> [Family; 5] {
    [
        ("an IPv4 /16", |i| {
            Address::from_ipv4((0x0a00_0000 + i).to_be_bytes())
        }),
        ("IPv4 /24 by /24", |i| {
            Address::from_ipv4((i << 8 | 25).to_be_bytes())
        }),
        ("IPv4 with swapped octets", |i| {
            Address::from_ipv4(i.to_le_bytes())
        }),
        ("IPv6 interface numbers", |i| {
            Address::from_ipv6((0x2001_0db8_u128 << 96 | u128::from(i)).to_be_bytes())
        }),
        ("IPv6 /64 by /64", |i| {
            Address::from_ipv6((0x2001_0db8_u128 << 96 | u128::from(i) << 64 | 1).to_be_bytes())
        }),
    ]
}

#[test]
fn addresses_in_a_row_spread_over_the_sets_with_every_seed() {
    for (name, address) in families() {
        let mut sum = 0.0;
        for seed in 0..32 {
            let seeds: AddressSeeds = random(seed);
            let found = unevenness((0..KEYS).map(|i| {
                let index = set_of(0, GEOMETRY.sets, hash_address(&seeds, address(i)));
                assert!(index < SETS);
                index
            }));
            // Single seeds may be worse than a random function, none may be hopeless.
            println!("{name}, seed {seed}: {found}");
            assert!(found < 16.0, "{name}, seed {seed}: {found}");
            sum += found;
        }
        assert!(sum / 32.0 < 2.0, "{name}: {}", sum / 32.0);
    }
}

#[test]
fn syns_in_a_row_spread_over_the_slots_with_every_seed() {
    let syn = |i: u32| Segment {
        source: Address::from_ipv4([10, 0, (i >> 14) as u8, 1]),
        destination: Address::from_ipv4([10, 1, 0, (i >> 12 & 3) as u8]),
        source_port: 32_768 + (i & 0xfff) as u16,
        destination_port: 25,
        sequence: 7,
        flags: flags::SYN,
        direction: Direction::ClientToServer,
        bytes: 60,
        payload: 0,
    };
    let mut sum = 0.0;
    for seed in 0..32 {
        let seeds: SynSeeds = random(seed);
        let found = unevenness((0..KEYS).map(|i| syn_slot(fingerprint_syn(&seeds, &syn(i)), SETS)));
        println!("seed {seed}: {found}");
        assert!(found < 16.0, "seed {seed}: {found}");
        sum += found;
    }
    assert!(sum / 32.0 < 2.0, "{}", sum / 32.0);
}

/// A SYN that comes again counts as a connection if another took its slot meanwhile. With n others
/// in between and N slots that happens with probability 1 - exp(-n/N); the README states it.
#[test]
fn retransmissions_are_missed_as_often_as_the_readme_says() {
    const SLOTS: u32 = 1 << 12;
    let seeds: SynSeeds = random(7);
    let fingerprint = |i: u32| {
        let [address, rest] = random(u64::from(i));
        let segment = Segment {
            source: Address::from_words(address, 1),
            destination: Address::from_ipv4([10, 1, 0, 1]),
            source_port: rest as u16,
            destination_port: 25,
            sequence: (rest >> 32) as u32,
            flags: flags::SYN,
            direction: Direction::ClientToServer,
            bytes: 60,
            payload: 0,
        };
        fingerprint_syn(&seeds, &segment)
    };
    for others in [SLOTS / 64, SLOTS / 4, SLOTS] {
        let mut memory = vec![0; SLOTS as usize];
        let mut next = 0;
        let mut put = |i: u32| {
            let value = fingerprint(i);
            let place = &mut memory[syn_slot(value, SLOTS) as usize];
            std::mem::replace(place, value) == value
        };
        let rounds = 4000;
        let mut missed = 0;
        for _ in 0..rounds {
            let this = next;
            assert!(!put(this), "a new SYN is taken for a known one");
            for other in 1..=others {
                put(this + other);
            }
            missed += u32::from(!put(this));
            next += others + 1;
        }
        let measured = f64::from(missed) / f64::from(rounds);
        let stated = 1.0 - (-f64::from(others) / f64::from(SLOTS)).exp();
        println!("{others} others on {SLOTS} slots: {measured:.4} missed, {stated:.4} stated");
        // Four standard deviations.
        let deviation = (stated * (1.0 - stated) / f64::from(rounds)).sqrt();
        assert!(
            (measured - stated).abs() < 4.0 * deviation,
            "{others}: {measured}, {stated}"
        );
    }
}

#[test]
fn segments_of_halves_and_cpus_do_not_overlap_and_fill_the_table() {
    let geometry = Geometry {
        cpus: 3,
        sets: 4,
        syn_slots: 1,
        flow_sets: 0,
    };
    let mut seen = vec![false; geometry.total_sets() as usize];
    for half in 0..2 {
        for cpu in 0..3 {
            for hash in 0..4 {
                // Only the lower bits choose.
                let index = set_of(
                    geometry.segment(half, cpu),
                    geometry.sets,
                    hash | 0xabcd_ef00,
                ) as usize;
                assert!(!seen[index], "half {half}, CPU {cpu}, hash {hash}");
                seen[index] = true;
            }
        }
    }
    assert!(seen.iter().all(|seen| *seen));
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn an_address_comes_back_from_every_form(octets in any::<[u8; 16]>()) {
        let address = Address::from_ipv6(octets);
        prop_assert_eq!(address.octets(), octets);
        let word = |at: usize| u64::from_ne_bytes(octets[at..at + 8].try_into().unwrap());
        prop_assert_eq!(Address::from_words(word(0), word(8)), address);
        prop_assert_eq!(Address::from(IpAddr::from(address)), address);
    }

    #[test]
    fn an_ipv4_address_is_mapped_and_comes_back(octets in any::<[u8; 4]>()) {
        let address = Address::from_ipv4(octets);
        prop_assert!(address.is_mapped());
        prop_assert_eq!(IpAddr::from(address), IpAddr::from(octets));
        prop_assert_eq!(Address::from(IpAddr::from(octets)), address);
    }

    #[test]
    fn no_other_address_is_mapped(octets in any::<[u8; 16]>(), bit in 0..96_usize) {
        let mut octets = octets;
        octets[..12].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        prop_assert!(Address::from_ipv6(octets).is_mapped());
        octets[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!Address::from_ipv6(octets).is_mapped());
    }

    #[test]
    fn a_fingerprint_is_never_zero(seeds in any::<[u64; 11]>(), port in any::<u16>()) {
        let segment = Segment {
            source: Address::default(),
            destination: Address::default(),
            source_port: port,
            destination_port: 25,
            sequence: 0,
            flags: flags::SYN,
            direction: Direction::ClientToServer,
            bytes: 40,
            payload: 0,
        };
        prop_assert_ne!(fingerprint_syn(&seeds, &segment), 0);
    }
}
