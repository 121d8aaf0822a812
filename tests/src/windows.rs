//! Made-up windows of many sources, as a drain of the kernel's table hands them over.

use std::time::{Duration, SystemTime};

use smtp_common::counter::Counter;
use smtp_common::flow::Totals;
use smtp_common::packet::Address;
use smtp_common::table::{AddressSeeds, hash_address};
use smtp_user::model::{Source, Tally, Window};

/// Seeds of the table that these windows come from.
pub const SEEDS: AddressSeeds = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7344,
    0xa409_3822_299f_31d0,
    0x082e_fa98_ec4e_6c89,
    0x4528_21e6_38d0_1377,
];

/// The order in which sources come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By the set of the table, as a scan finds them.
    Table,
    /// By chance.
    Random,
}

/// A window of this many sources, always the same ones, three in four of them IPv4.
pub fn window(epoch: u64, sources: u32, order: Order) -> Window {
    let mut sources: Vec<Source> = (0..sources).map(source).collect();
    match order {
        // Enough sets for a million.
        Order::Table => sources.sort_by_key(|s| hash_address(&SEEDS, s.address) & 0x7_ffff),
        Order::Random => sources
            .sort_by_key(|s| scatter(s.address.octets()[15].into()) ^ scatter(s.totals.c2s_bytes)),
    }
    let mut tally = Tally::default();
    for source in &sources {
        tally.sources.merge(&source.totals);
    }
    tally.segment_bytes = tally.sources.bytes();
    tally.frames = tally.sources.packets();
    tally.outcomes[Counter::Segment.index()] = tally.frames;
    Window {
        epoch,
        started_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + 10 * epoch),
        length: Duration::from_secs(10),
        lines_used: sources.len() as u64,
        tally,
        sources,
        flows: Vec::new(),
        flip: Duration::from_millis(5),
    }
}

fn source(number: u32) -> Source {
    let random = scatter(number.into());
    let address = if number % 4 == 3 {
        Address::from_words(
            u64::from_be(0x2001_0db8_0000_0000 | random >> 40),
            scatter(random),
        )
    } else {
        // One to one, so that no address comes twice.
        Address::from_ipv4((number.wrapping_mul(0x9e37_79b1)).to_be_bytes())
    };
    let packets = 1 + random % 40;
    Source {
        address,
        totals: Totals {
            connections: 1 + packets / 10,
            c2s_packets: packets,
            c2s_bytes: 40 * packets + random % 100_000,
            s2c_packets: packets % 7,
            s2c_bytes: 60 * (packets % 7),
            answered: 1,
            ..Totals::default()
        },
    }
}

/// Bits of a number, spread (the finaliser of SplitMix64).
fn scatter(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
