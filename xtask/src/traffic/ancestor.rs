//! A day with the distribution that the ancestor of smtpflow has published: so many sources and
//! servers with so many connections.

use std::net::{IpAddr, Ipv4Addr};

use super::habit::{HOUR, MINUTE};
use super::population::{MONDAY, world};
use super::script::{Fate, Script, Stack, Tags};
use crate::random::Random;

/// Pairs of a source and a server by their connections: the fewest, the most that are given here, and
/// how many pairs. The last class has no end in the publication.
pub const DISTRIBUTION: [(u64, u64, u32); 7] = [
    (1, 10, 136_003),
    (11, 30, 5_502),
    (31, 70, 1_370),
    (71, 100, 231),
    (101, 200, 226),
    (201, 1_000, 145),
    (1_001, 3_000, 15),
];

/// The scripts of the day, hour by hour, as [`Traffic`](super::Traffic) gives them. Every source has
/// one server, so that sources are distributed as pairs are; the ends of every class are there. A
/// connection is a SYN that is refused.
pub struct Distribution {
    random: Random,
    /// Hours that are over.
    hours: u64,
    /// What every pair has still to open.
    left: Vec<u64>,
}

impl Distribution {
    /// The day of this seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut left = Vec::new();
        for (least, most, pairs) in DISTRIBUTION {
            for number in 0..pairs {
                left.push(match number {
                    0 => least,
                    1 => most,
                    // Most are at the lower end, as it is with such counts.
                    _ => {
                        let one = random.between(least, most);
                        one.min(random.between(least, most))
                    }
                });
            }
        }
        Self {
            random,
            hours: 0,
            left,
        }
    }

    /// Connections that are still to come; all of them at the beginning.
    pub fn connections(&self) -> u64 {
        self.left.iter().sum()
    }
}

impl Iterator for Distribution {
    type Item = (u64, Vec<Script>);

    fn next(&mut self) -> Option<Self::Item> {
        let to_come = 24_u64.checked_sub(self.hours).filter(|hours| *hours > 0)?;
        let start = MONDAY + self.hours * HOUR;
        let random = &mut self.random;
        let mut scripts = Vec::new();
        for (number, left) in self.left.iter_mut().enumerate() {
            let count = match to_come {
                1 => *left,
                _ => (0..*left)
                    .filter(|_| random.between(1, to_come) == 1)
                    .count() as u64,
            };
            *left -= count;
            for _ in 0..count {
                scripts.push(Script {
                    // Nothing is under way when the day is over.
                    start: start + random.between(0, 59 * MINUTE),
                    client: IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number as u32)),
                    port: random.between(1_024, 65_535) as u16,
                    server: world(true, number as u32 % 5_000),
                    client_isn: random.bits() as u32,
                    server_isn: 0,
                    resent: 0,
                    delay: 20,
                    stack: Stack::Windows,
                    tags: Tags::None,
                    visible: true,
                    fate: Fate::Refused,
                });
            }
        }
        scripts.sort_by_key(|script| script.start);
        self.hours += 1;
        Some((start, scripts))
    }
}
