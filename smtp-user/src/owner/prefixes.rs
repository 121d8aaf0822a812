//! Numbers by prefix, and the longest prefix that an address is in.
//!
//! Contract: a table is made once and never changed. A line takes 16 bytes for IPv4 and 32 for IPv6, and
//! nothing else is kept, so half a million routes are 8 MB; a look-up is a binary search and at most as
//! many steps as prefixes lie in each other. Of lines of the same prefix those with the lowest rank stay.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Stands for no line.
const NONE: u32 = u32::MAX;

/// An address as a number.
trait Bits: Copy + Ord {
    /// Whether the prefix of this address and length has the other address in it.
    fn covers(self, length: u8, other: Self) -> bool;
}

impl Bits for u32 {
    fn covers(self, length: u8, other: Self) -> bool {
        // A shift by the whole width would be no shift.
        length == 0 || (self ^ other) >> (32 - length) == 0
    }
}

impl Bits for u128 {
    fn covers(self, length: u8, other: Self) -> bool {
        length == 0 || (self ^ other) >> (128 - length) == 0
    }
}

/// What a line is made from; as large as the line, so that it is made in its place.
#[derive(Clone, Copy, Debug)]
struct Draft<A> {
    address: A,
    value: u32,
    rank: u32,
    length: u8,
}

#[derive(Clone, Copy, Debug)]
struct Line<A> {
    address: A,
    value: u32,
    /// The line of the next larger prefix that this one lies in.
    parent: u32,
    length: u8,
}

/// Collects the lines of a table.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    v4: Vec<Draft<u32>>,
    v6: Vec<Draft<u128>>,
}

impl Drafts {
    /// Adds a line; bits behind the length of its prefix do not matter.
    pub(super) fn add(&mut self, prefix: IpNet, rank: u32, value: u32) {
        match prefix.trunc() {
            IpNet::V4(prefix) => self.v4.push(Draft {
                address: prefix.addr().to_bits(),
                value,
                rank,
                length: prefix.prefix_len(),
            }),
            IpNet::V6(prefix) => self.v6.push(Draft {
                address: prefix.addr().to_bits(),
                value,
                rank,
                length: prefix.prefix_len(),
            }),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// The table of them.
    pub(super) fn finish(self) -> PrefixTable {
        PrefixTable {
            v4: table(self.v4),
            v6: table(self.v6),
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct PrefixTable {
    v4: Vec<Line<u32>>,
    v6: Vec<Line<u128>>,
}

impl PrefixTable {
    /// All lines that an address lies in, the longest prefix first; those of the same prefix by value.
    pub(super) fn matches(&self, address: IpAddr) -> Vec<(IpNet, u32)> {
        match address.to_canonical() {
            IpAddr::V4(address) => matches(&self.v4, address.to_bits())
                .into_iter()
                .map(|line| (v4_prefix(line), line.value))
                .collect(),
            IpAddr::V6(address) => matches(&self.v6, address.to_bits())
                .into_iter()
                .map(|line| (v6_prefix(line), line.value))
                .collect(),
        }
    }

    /// All lines, by address, the larger prefix first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (IpNet, u32)> {
        let v4 = self.v4.iter().map(|line| (v4_prefix(line), line.value));
        v4.chain(self.v6.iter().map(|line| (v6_prefix(line), line.value)))
    }

    /// How many lines it has.
    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }
}

fn v4_prefix(line: &Line<u32>) -> IpNet {
    Ipv4Net::new(line.address.into(), line.length)
        .map_or_else(|_| IpNet::V4(Ipv4Net::default()), IpNet::V4)
}

fn v6_prefix(line: &Line<u128>) -> IpNet {
    Ipv6Net::new(line.address.into(), line.length)
        .map_or_else(|_| IpNet::V6(Ipv6Net::default()), IpNet::V6)
}

fn table<A: Bits>(mut drafts: Vec<Draft<A>>) -> Vec<Line<A>> {
    drafts.sort_unstable_by_key(|draft| (draft.address, draft.length, draft.rank, draft.value));
    // Of each prefix, the lines of the lowest rank, which stand first.
    let mut best: Option<Draft<A>> = None;
    let mut last: Option<Draft<A>> = None;
    drafts.retain(|draft| {
        let same =
            |other: &Draft<A>| other.address == draft.address && other.length == draft.length;
        let beaten = best
            .as_ref()
            .is_some_and(|best| same(best) && best.rank < draft.rank);
        let twice = last
            .as_ref()
            .is_some_and(|last| same(last) && last.value == draft.value);
        if beaten || twice {
            return false;
        }
        if !best.as_ref().is_some_and(same) {
            best = Some(*draft);
        }
        last = Some(*draft);
        true
    });
    let mut lines: Vec<Line<A>> = drafts
        .into_iter()
        .map(|draft| Line {
            address: draft.address,
            value: draft.value,
            parent: NONE,
            length: draft.length,
        })
        .collect();
    lines.shrink_to_fit();
    // The prefixes that the current line lies in, the largest first.
    let mut above: Vec<u32> = Vec::new();
    for i in 0..lines.len() {
        let Line {
            address, length, ..
        } = lines[i];
        while let Some(top) = above.last() {
            let top = &lines[*top as usize];
            if top.length < length && top.address.covers(top.length, address) {
                break;
            }
            above.pop();
        }
        lines[i].parent = above.last().copied().unwrap_or(NONE);
        // The caller lets in fewer lines than this.
        above.push(u32::try_from(i).unwrap_or(NONE));
    }
    lines
}

/// The lines that an address lies in. The last line that does not begin behind it lies in all of them, or
/// is the longest of them: a prefix that begins between one of them and the address lies in that one.
fn matches<A: Bits>(lines: &[Line<A>], address: A) -> Vec<&Line<A>> {
    let mut found = Vec::new();
    let behind = lines.partition_point(|line| line.address <= address);
    let mut at = behind.checked_sub(1);
    while let Some(i) = at {
        let line = &lines[i];
        if line.address.covers(line.length, address) {
            let same =
                |other: &&Line<A>| other.address == line.address && other.length == line.length;
            let before = lines[..i].iter().rev().take_while(same).count();
            found.extend(lines[i - before..].iter().take_while(same));
        }
        at = (line.parent != NONE).then_some(line.parent as usize);
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    fn made(lines: &[(&str, u32, u32)]) -> PrefixTable {
        let mut drafts = Drafts::default();
        for (text, rank, value) in lines {
            drafts.add(prefix(text), *rank, *value);
        }
        drafts.finish()
    }

    fn values(table: &PrefixTable, address: &str) -> Vec<u32> {
        let address = address.parse().expect("an address");
        let matches = table.matches(address);
        matches.into_iter().map(|(_, value)| value).collect()
    }

    #[test]
    fn the_longest_prefix_comes_first() {
        let table = made(&[
            ("0.0.0.0/0", 0, 1),
            ("10.0.0.0/8", 0, 2),
            ("10.1.0.0/16", 0, 3),
            ("10.1.2.0/24", 0, 4),
            ("10.1.2.3/32", 0, 5),
            ("10.1.3.0/24", 0, 6),
            ("2001:db8::/32", 0, 7),
            ("::/0", 0, 8),
        ]);
        for (address, expected) in [
            ("10.1.2.3", &[5, 4, 3, 2, 1][..]),
            ("10.1.2.4", &[4, 3, 2, 1]),
            ("10.1.4.0", &[3, 2, 1]),
            ("10.255.0.0", &[2, 1]),
            ("11.0.0.0", &[1]),
            ("::ffff:10.1.3.9", &[6, 3, 2, 1]),
            ("2001:db8::1", &[7, 8]),
            ("2001:db9::", &[8]),
        ] {
            assert_eq!(values(&table, address), expected, "{address}");
        }
        assert_eq!(values(&PrefixTable::default(), "10.0.0.1"), [0; 0]);
    }

    #[test]
    fn of_the_same_prefix_the_lowest_rank_stays_and_nothing_twice() {
        let table = made(&[
            ("10.0.0.0/8", 5, 1),
            ("10.0.0.0/8", 2, 9),
            ("10.0.0.0/8", 2, 3),
            ("10.0.0.0/8", 2, 9),
            ("10.0.0.0/9", 7, 4),
        ]);
        assert_eq!(values(&table, "10.1.1.1"), [4, 3, 9]);
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn a_line_is_as_small_as_said() {
        assert_eq!(size_of::<Line<u32>>(), 16);
        assert_eq!(size_of::<Line<u128>>(), 32);
        assert_eq!(size_of::<Draft<u128>>(), size_of::<Line<u128>>());
    }

    proptest! {
        /// Against the definition: all prefixes that contain the address, by length.
        #[test]
        fn a_look_up_is_what_looking_at_every_line_gives(
            // Few bits, so that prefixes lie in each other.
            lines in proptest::collection::vec((0_u32..64, 0_u8..=32), 0..80),
            asked in proptest::collection::vec(any::<u32>(), 1..20),
        ) {
            let mut drafts = Drafts::default();
            let mut naive = Vec::new();
            for (bits, length) in lines {
                let address = bits.reverse_bits();
                let prefix = Ipv4Net::new(address.into(), length).expect("a length").trunc();
                drafts.add(prefix.into(), 0, 0);
                naive.push(prefix);
            }
            naive.sort_by_key(|prefix| std::cmp::Reverse(prefix.prefix_len()));
            naive.dedup();
            let table = drafts.finish();
            let few = asked.iter().map(|bits| (bits % 64).reverse_bits());
            for address in asked.iter().copied().chain(few) {
                let address = std::net::Ipv4Addr::from(address);
                let mut expected: Vec<IpNet> = Vec::new();
                for prefix in naive.iter().filter(|prefix| prefix.contains(&address)) {
                    if !expected.contains(&IpNet::V4(*prefix)) {
                        expected.push(IpNet::V4(*prefix));
                    }
                }
                let found: Vec<IpNet> =
                    table.matches(address.into()).into_iter().map(|(prefix, _)| prefix).collect();
                prop_assert_eq!(found, expected, "{}", address);
            }
        }
    }
}
