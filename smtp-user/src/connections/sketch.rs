//! HyperLogLog: how many different addresses there were, in 4 KiB.
//!
//! Contract: adding an address again changes nothing; sketches of two sets merge into the sketch of
//! their union, wherever they were made, because the hash has no secret. Whoever knows it can choose
//! addresses that mislead one sketch; an exact set comes before it, see
//! `Distinct`. The standard error is
//! 1.04 / sqrt([`REGISTERS`]) = 1.6 %. The estimator is Ertl's improved one (New cardinality estimation
//! algorithms for HyperLogLog sketches, 2017, algorithm 6), which needs no correction for few or many.
//!
//! The form in octets is frozen: the four of `HLL1`, then the [`REGISTERS`] registers, one octet each.
//! The hash of an address is that of its 16 octets in network order (IPv4 mapped into IPv6), as two
//! big-endian words `high` and `low`: `mix(mix(high) ^ low)`, where `mix` is the output function of
//! SplitMix64. Its upper [`PRECISION`] bits choose the register, which holds the largest number of the
//! first 1 among the other bits, counted from 1.

use smtp_common::packet::Address;

/// Bits of the hash that choose a register.
pub const PRECISION: u32 = 12;
/// Registers, of one octet each.
pub const REGISTERS: usize = 1 << PRECISION;
/// Bits of the hash that are left for a register.
const REST: usize = 64 - PRECISION as usize;
const MAGIC: &[u8; 4] = b"HLL1";

/// A sketch of a set of addresses.
#[derive(Clone, PartialEq, Eq)]
pub struct Sketch(Box<[u8; REGISTERS]>);

impl Default for Sketch {
    fn default() -> Self {
        Self(Box::new([0; REGISTERS]))
    }
}

/// The output function of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
/// generators, 2014), with its increment.
const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

fn hash(address: Address) -> u64 {
    let octets = u128::from_be_bytes(address.octets());
    let (high, low) = ((octets >> 64) as u64, octets as u64);
    mix(mix(high) ^ low)
}

impl Sketch {
    /// Adds an address.
    pub fn insert(&mut self, address: Address) {
        let hash = hash(address);
        let register = &mut self.0[(hash >> REST) as usize];
        // A 1 behind the other bits ends the count where all of them are 0.
        let rank = ((hash << PRECISION) | (1 << (PRECISION - 1))).leading_zeros() + 1;
        *register = (*register).max(rank as u8);
    }

    /// Makes this the sketch of both sets.
    pub fn merge(&mut self, other: &Self) {
        for (mine, other) in self.0.iter_mut().zip(other.0.iter()) {
            *mine = (*mine).max(*other);
        }
    }

    /// How many addresses there were, about.
    pub fn estimate(&self) -> f64 {
        let mut counts = [0_u32; REST + 2];
        for register in self.0.iter() {
            counts[usize::from(*register)] += 1;
        }
        let m = REGISTERS as f64;
        let share = |count: u32| f64::from(count) / m;
        let mut z = m * tau(1.0 - share(counts[REST + 1]));
        for count in counts[1..=REST].iter().rev() {
            z = 0.5 * (z + f64::from(*count));
        }
        z += m * sigma(share(counts[0]));
        m * m / (2.0 * std::f64::consts::LN_2 * z)
    }

    /// The frozen form.
    pub fn to_bytes(&self) -> Vec<u8> {
        [MAGIC.as_slice(), self.0.as_slice()].concat()
    }

    /// What [`Sketch::to_bytes`] gave; `None` if this is nothing that it gives.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let registers: &[u8; REGISTERS] = bytes.strip_prefix(MAGIC)?.try_into().ok()?;
        let valid = registers.iter().all(|rank| usize::from(*rank) <= REST + 1);
        valid.then(|| Self(Box::new(*registers)))
    }
}

/// Ertl's correction for registers that nothing has reached.
fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// Ertl's correction for registers that are at their end.
fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    /// The address with this number, in a block that depends on the seed.
    fn address(seed: u64, number: u64) -> Address {
        let octets = u128::from(seed) << 64 | u128::from(number);
        Address::from_ipv6(octets.to_be_bytes())
    }

    fn sketch(addresses: impl IntoIterator<Item = Address>) -> Sketch {
        let mut sketch = Sketch::default();
        for address in addresses {
            sketch.insert(address);
        }
        sketch
    }

    /// Computed by another program from the description above.
    const FROZEN_HASHES: [u64; 3] = [
        0xd21f_2ca3_5c22_1d8d,
        0x7e00_fa06_5e4a_8a51,
        0xe0c3_6a79_7fb2_2454,
    ];
    const FROZEN_REGISTERS: [(usize, u8); 3] = [(2016, 5), (3361, 1), (3596, 3)];

    /// Other programs read these octets: they never change.
    #[test]
    fn the_form_and_the_hash_are_frozen() {
        let addresses = ["192.0.2.1", "198.51.100.7", "2001:db8::25"]
            .map(|text| Address::from(text.parse::<IpAddr>().unwrap()));
        assert_eq!(addresses.map(hash), FROZEN_HASHES);
        let bytes = sketch(addresses).to_bytes();
        assert_eq!((bytes.len(), &bytes[..4]), (4 + REGISTERS, &b"HLL1"[..]));
        let used: Vec<_> = bytes[4..]
            .iter()
            .enumerate()
            .filter(|(_, rank)| **rank != 0)
            .map(|(register, rank)| (register, *rank))
            .collect();
        assert_eq!(used, FROZEN_REGISTERS);
    }

    #[test]
    fn what_is_no_sketch_is_refused() {
        let bytes = sketch([address(1, 1)]).to_bytes();
        assert!(Sketch::from_bytes(&bytes).is_some());
        assert!(Sketch::from_bytes(&bytes[..bytes.len() - 1]).is_none());
        let mut other = bytes.clone();
        other[3] = b'2';
        assert!(Sketch::from_bytes(&other).is_none());
        let mut high = bytes;
        high[100] = REST as u8 + 2;
        assert!(Sketch::from_bytes(&high).is_none());
    }

    #[test]
    fn an_empty_one_has_none_and_a_full_one_an_end() {
        assert_eq!(Sketch::default().estimate(), 0.0);
        let full = Sketch(Box::new([REST as u8 + 1; REGISTERS]));
        assert!(full.estimate() > 1e18, "{}", full.estimate());
    }

    /// With these addresses, which are the same at every run, the error stays within four standard
    /// errors; that of many sketches together is as small as it is said to be.
    #[test]
    fn the_error_is_the_stated_one() {
        let stated = 1.04 / (REGISTERS as f64).sqrt();
        for size in [
            1_025, 2_000, 5_000, 10_240, 20_000, 50_000, 100_000, 1_000_000,
        ] {
            let rounds = if size > 100_000 { 4 } else { 20 };
            let mut squares = 0.0;
            for seed in 0..rounds {
                let estimate = sketch((0..size).map(|i| address(seed, i))).estimate();
                let error = estimate / size as f64 - 1.0;
                assert!(error.abs() < 4.0 * stated, "{size}, {seed}: {error}");
                squares += error * error;
            }
            let typical = (squares / rounds as f64).sqrt();
            assert!(typical < 1.5 * stated, "{size}: {typical}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 64,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn a_merge_is_the_sketch_of_the_union(
            seed in any::<u64>(),
            first in prop::collection::vec(0_u64..5_000, 0..3_000),
            second in prop::collection::vec(0_u64..5_000, 0..3_000),
        ) {
            let of = |numbers: &[u64]| sketch(numbers.iter().map(|i| address(seed, *i)));
            let mut merged = of(&first);
            merged.merge(&of(&second));
            let union: Vec<u64> = first.iter().chain(&second).copied().collect();
            prop_assert!(merged == of(&union));
            prop_assert!(Sketch::from_bytes(&merged.to_bytes()) == Some(merged));
        }
    }

    proptest! {
        // The same cases at every run: of random ones, one in 16,000 lies outside.
        #![proptest_config(ProptestConfig {
            cases: 64,
            rng_seed: RngSeed::Fixed(1),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn the_error_is_within_four_standard_errors(seed in any::<u64>(), exponent in 0.0_f64..1.0) {
            // Sizes from 1,025 to 10^6, as many small ones as large ones.
            let size = (1_025.0 * (1e6_f64 / 1_025.0).powf(exponent)) as u64;
            let estimate = sketch((0..size).map(|i| address(seed, i))).estimate();
            let error = (estimate / size as f64 - 1.0).abs();
            prop_assert!(error < 4.0 * 1.04 / (REGISTERS as f64).sqrt(), "{size}: {error}");
        }
    }
}
