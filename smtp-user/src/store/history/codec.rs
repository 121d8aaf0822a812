//! Records of counts in octets, in chunks.
//!
//! **The form is frozen**: files hold it for years. A new count takes the next free bit of the map; a
//! change of anything else is a new version of the store's schema. The tests hold octets written down
//! once.
//!
//! Numbers are LEB128: seven bits an octet, the lowest first, the upper bit set in all but the last.
//!
//! The *rank* of an address is its 16 octets as a big-endian number, with `0xffff_0000_0000` flipped
//! in it: so IPv4 addresses, which are mapped into IPv6, are the numbers below 2^32. Its *shard* are
//! the upper four bits of `high * 0x9e3779b97f4a7c15 + low * 0xc2b2ae3d27d4eb4f` modulo 2^64, of the
//! upper and the lower half of the 16 octets. Records of a pair are in the shard of their client.
//!
//! A chunk is a CRC-32 (that of IEEE 802.3; little-endian) over its number in the file as eight
//! octets, little-endian, and over what follows: records in the order of their ranks, client first,
//! server second. A record is
//!
//! 1. the rank of the client minus that of the record before it, 0 in front of the first;
//! 2. in a record of a pair, the rank of the server, minus that of the record before it if it is of
//!    the same client;
//! 3. the map of the counts that are not 0: bit `i` is that of the `i`th of [`FIELDS`], and bit 24 says
//!    that there is a sketch;
//! 4. these counts;
//! 5. if there is a sketch: the number of its registers that are not 0, and for each of them how far
//!    it is from the one before it (from register 0, the first one), then its rank, one octet. Where
//!    these would be more than [`SPARSE`], a 0 and the frozen form of a sketch ([`Sketch::to_bytes`]).
//!
//! The client or server `::`, which no packet has, stands for all those of which no record is kept.

use smtp_common::flow::Totals;
use smtp_common::packet::Address;

use crate::connections::sketch::{REGISTERS, Sketch};
use crate::model::Counts;
use crate::model::session::{Outcome, Outcomes, Said, Sessions};
use smtp_common::speech::Speech;

/// All those of which no record of their own is kept.
pub(in crate::store) const OTHERS: Address = Address::from_ipv6([0; 16]);

/// Counts of a record.
pub(in crate::store) const FIELDS: usize = 24;
/// The place of the peak, which is no sum.
const PEAK: usize = 6;
/// The bit of the map that says that there is a sketch.
const SKETCH: u32 = 24;
/// Octets of a sketch in its own frozen form.
const SKETCH_OCTETS: usize = REGISTERS + SKETCH_HEAD;
/// Octets of it in front of the registers.
const SKETCH_HEAD: usize = 4;
/// Most registers that are written one by one.
const SPARSE: usize = 1_300;

/// Into how many parts a bucket is cut.
pub(in crate::store) const SHARDS: u8 = 16;

/// What an octet string cannot hold more of and be one row on one page of the file, which has 4,096
/// octets: SQLite keeps 4,061 of a row on it, some of which are the row's own.
const CHUNK: usize = 4_050;
/// The CRC.
pub(in crate::store) const HEAD: usize = 4;

/// The counts of a record, in the order of their bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Row(pub(in crate::store) [u64; FIELDS]);

/// The key of a record; sources have no server, which is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct Key {
    pub(in crate::store) client: u128,
    pub(in crate::store) server: u128,
}

/// Whose records they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Kind {
    Sources,
    Pairs,
}

impl Kind {
    /// As in what is printed.
    pub(in crate::store) const fn name(self) -> &'static str {
        match self {
            Self::Sources => "sources",
            Self::Pairs => "pairs",
        }
    }
}

const MAPPED: u128 = 0xffff_0000_0000;

/// See the module.
pub(in crate::store) const fn rank(address: Address) -> u128 {
    u128::from_be_bytes(address.octets()) ^ MAPPED
}

/// The address of a rank.
pub(in crate::store) const fn address(rank: u128) -> Address {
    Address::from_ipv6((rank ^ MAPPED).to_be_bytes())
}

/// See the module.
pub(in crate::store) const fn shard(address: Address) -> u8 {
    let octets = u128::from_be_bytes(address.octets());
    let (high, low) = ((octets >> 64) as u64, octets as u64);
    let hash = high
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(low.wrapping_mul(0xc2b2_ae3d_27d4_eb4f));
    (hash >> 60) as u8
}

impl Row {
    pub(in crate::store) const ZERO: Self = Self([0; FIELDS]);

    pub(in crate::store) fn new(totals: &Totals, sessions: &Sessions, peak: u64) -> Self {
        // In full, so that a new count cannot be forgotten here.
        let Totals {
            connections,
            syn_retx,
            c2s_packets,
            c2s_bytes,
            s2c_packets,
            s2c_bytes,
            answered,
            refused,
        } = *totals;
        let Sessions {
            outcomes,
            unfollowed,
            said,
            accepted,
        } = sessions;
        Self([
            connections,
            c2s_packets,
            c2s_bytes,
            s2c_packets,
            s2c_bytes,
            answered,
            peak,
            outcomes.of(Outcome::Delivered),
            refused,
            syn_retx,
            said.of(Speech::MAIL),
            said.of(Speech::RCPT),
            said.of(Speech::COMPLETION),
            said.of(Speech::INTERMEDIATE),
            said.of(Speech::TRANSIENT),
            said.of(Speech::PERMANENT),
            *accepted,
            outcomes.of(Outcome::Unknown),
            outcomes.of(Outcome::Silent),
            outcomes.of(Outcome::Refused),
            outcomes.of(Outcome::Answered),
            outcomes.of(Outcome::Spoke),
            outcomes.of(Outcome::Rejected),
            *unfollowed,
        ])
    }

    pub(in crate::store) fn of(counts: &Counts) -> Self {
        let Counts {
            totals,
            sessions,
            peak,
        } = counts;
        Self::new(totals, sessions, *peak)
    }

    pub(in crate::store) fn counts(&self) -> Counts {
        let [
            connections,
            c2s_packets,
            c2s_bytes,
            s2c_packets,
            s2c_bytes,
            answered,
            peak,
            delivered,
            refused,
            syn_retx,
            mail,
            rcpt,
            completion,
            intermediate,
            transient,
            permanent,
            accepted,
            unknown,
            silent,
            reset,
            answering,
            spoke,
            rejected,
            unfollowed,
        ] = self.0;
        let mut outcomes = Outcomes::default();
        for (outcome, count) in [
            (Outcome::Unknown, unknown),
            (Outcome::Silent, silent),
            (Outcome::Refused, reset),
            (Outcome::Answered, answering),
            (Outcome::Spoke, spoke),
            (Outcome::Rejected, rejected),
            (Outcome::Delivered, delivered),
        ] {
            outcomes.0[outcome.index()] = count;
        }
        Counts {
            totals: Totals {
                connections,
                syn_retx,
                c2s_packets,
                c2s_bytes,
                s2c_packets,
                s2c_bytes,
                answered,
                refused,
            },
            sessions: Sessions {
                outcomes,
                unfollowed,
                said: Said([mail, rcpt, completion, intermediate, transient, permanent]),
                accepted,
            },
            peak,
        }
    }

    /// Connections, then packets: what the largest pairs are the largest by.
    pub(in crate::store) const fn size(&self) -> (u64, u64) {
        (self.0[0], self.0[1].saturating_add(self.0[3]))
    }

    pub(in crate::store) fn merge(&mut self, other: &Self) {
        for (place, (mine, other)) in self.0.iter_mut().zip(other.0).enumerate() {
            *mine = if place == PEAK {
                other.max(*mine)
            } else {
                mine.saturating_add(other)
            };
        }
    }
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_wide(out: &mut Vec<u8>, mut number: u128) {
    while number > u64::MAX.into() {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    put(out, number as u64);
}

/// What stands in a chunk is none of what [`Encoder`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Malformed;

/// A number. Most have one octet; those of up to eight are read as one word, without a branch for each
/// octet.
#[inline(always)]
fn take(from: &mut &[u8]) -> Result<u64, Malformed> {
    if let [octet, rest @ ..] = *from
        && *octet < 0x80
    {
        *from = rest;
        return Ok(u64::from(*octet));
    }
    if let Some(word) = from.first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        let ends = !word & 0x8080_8080_8080_8080;
        if ends != 0 {
            let bits = ends.trailing_zeros() + 1;
            *from = &from[bits as usize / 8..];
            let word = word & (u64::MAX >> (64 - bits)) & 0x7f7f_7f7f_7f7f_7f7f;
            // Groups of 7 bits next to each other, then of 14, then of 28.
            let word = word & 0x007f_007f_007f_007f | (word & 0x7f00_7f00_7f00_7f00) >> 1;
            let word = word & 0x0000_3fff_0000_3fff | (word & 0x3fff_0000_3fff_0000) >> 2;
            return Ok(word & 0x0fff_ffff | (word & 0x0fff_ffff_0000_0000) >> 4);
        }
    }
    take_long(from)
}

fn take_long(from: &mut &[u8]) -> Result<u64, Malformed> {
    let (mut number, mut shift) = (0_u64, 0);
    for (place, octet) in from.iter().enumerate() {
        let bits = u64::from(octet & 0x7f);
        // The tenth octet has room for one bit.
        if shift > 63 || (shift == 63 && bits > 1) {
            return Err(Malformed);
        }
        number |= bits << shift;
        if octet & 0x80 == 0 {
            *from = &from[place + 1..];
            return Ok(number);
        }
        shift += 7;
    }
    Err(Malformed)
}

/// A number of up to 128 bits.
#[inline(always)]
fn take_wide(from: &mut &[u8]) -> Result<u128, Malformed> {
    // Nine octets hold 63 bits.
    let mut narrow = *from;
    if let Ok(number) = take(&mut narrow)
        && from.len() - narrow.len() <= 9
    {
        *from = narrow;
        return Ok(number.into());
    }
    take_widest(from)
}

fn take_widest(from: &mut &[u8]) -> Result<u128, Malformed> {
    let (mut number, mut shift) = (0_u128, 0);
    for (place, octet) in from.iter().enumerate() {
        let bits = u128::from(octet & 0x7f);
        if shift > 126 || (shift == 126 && bits > 3) {
            return Err(Malformed);
        }
        number |= bits << shift;
        if octet & 0x80 == 0 {
            *from = &from[place + 1..];
            return Ok(number);
        }
        shift += 7;
    }
    Err(Malformed)
}

fn put_sketch(out: &mut Vec<u8>, sketch: &Sketch) {
    let octets = sketch.to_bytes();
    let registers = octets[SKETCH_HEAD..].iter().enumerate();
    let used: Vec<(usize, u8)> = registers
        .filter(|(_, rank)| **rank != 0)
        .map(|(register, rank)| (register, *rank))
        .collect();
    if used.is_empty() || used.len() > SPARSE {
        put(out, 0);
        out.extend(octets);
        return;
    }
    put(out, used.len() as u64);
    let mut last = 0;
    for (register, rank) in used {
        put(out, (register - last) as u64);
        out.push(rank);
        last = register;
    }
}

fn take_sketch(from: &mut &[u8]) -> Result<Sketch, Malformed> {
    let used = take(from)?;
    if used == 0 {
        let (octets, rest) = from.split_at_checked(SKETCH_OCTETS).ok_or(Malformed)?;
        *from = rest;
        return Sketch::from_bytes(octets).ok_or(Malformed);
    }
    let mut octets = Sketch::default().to_bytes();
    let mut register = 0_u64;
    for _ in 0..used {
        register = register.checked_add(take(from)?).ok_or(Malformed)?;
        let (rank, rest) = from.split_first().ok_or(Malformed)?;
        *from = rest;
        let registers = &mut octets[SKETCH_HEAD..];
        *registers.get_mut(register as usize).ok_or(Malformed)? = *rank;
    }
    Sketch::from_bytes(&octets).ok_or(Malformed)
}

/// Writes records, which come in their order, into chunks.
pub(in crate::store) struct Encoder {
    kind: Kind,
    chunk: Vec<u8>,
    last: Key,
}

impl Encoder {
    pub(in crate::store) const fn new(kind: Kind) -> Self {
        Self {
            kind,
            chunk: Vec::new(),
            last: Key {
                client: 0,
                server: 0,
            },
        }
    }

    /// Adds a record. Gives the chunk before it, if that is full: the place of its CRC is left for
    /// [`seal`].
    pub(in crate::store) fn push(
        &mut self,
        key: Key,
        row: &Row,
        sketch: Option<&Sketch>,
    ) -> Option<Vec<u8>> {
        let before = self.chunk.len();
        self.write(key, row, sketch);
        if before <= HEAD || self.chunk.len() <= CHUNK {
            return None;
        }
        // It is the first of the next one.
        self.chunk.truncate(before);
        let full = self.finish();
        self.write(key, row, sketch);
        full
    }

    fn write(&mut self, key: Key, row: &Row, sketch: Option<&Sketch>) {
        if self.chunk.is_empty() {
            self.chunk.reserve(CHUNK);
            self.chunk.extend([0; HEAD]);
        }
        let same = self.chunk.len() > HEAD && key.client == self.last.client;
        put_wide(&mut self.chunk, key.client - self.last.client);
        if self.kind == Kind::Pairs {
            let before = if same { self.last.server } else { 0 };
            put_wide(&mut self.chunk, key.server - before);
        }
        let mut map = u64::from(sketch.is_some()) << SKETCH;
        for (place, count) in row.0.iter().enumerate() {
            map |= u64::from(*count != 0) << place;
        }
        put(&mut self.chunk, map);
        for count in row.0.iter().filter(|count| **count != 0) {
            put(&mut self.chunk, *count);
        }
        if let Some(sketch) = sketch {
            put_sketch(&mut self.chunk, sketch);
        }
        self.last = key;
    }

    /// The last chunk, if there is one.
    pub(in crate::store) fn finish(&mut self) -> Option<Vec<u8>> {
        self.last = Key::default();
        (!self.chunk.is_empty()).then(|| std::mem::take(&mut self.chunk))
    }
}

fn crc(id: i64, records: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&id.to_le_bytes());
    hasher.update(records);
    hasher.finalize()
}

/// Puts the CRC of a chunk in its place.
pub(in crate::store) fn seal(id: i64, chunk: &mut [u8]) {
    let (head, records) = chunk.split_at_mut(HEAD);
    head.copy_from_slice(&crc(id, records).to_le_bytes());
}

/// The records of a chunk, if it is the one that was written under this number.
pub(in crate::store) fn open(id: i64, chunk: &[u8]) -> Result<&[u8], Malformed> {
    let (head, records) = chunk.split_first_chunk::<HEAD>().ok_or(Malformed)?;
    if u32::from_le_bytes(*head) == crc(id, records) {
        Ok(records)
    } else {
        Err(Malformed)
    }
}

/// The client of the first record of a chunk.
pub(in crate::store) fn first_client(chunk: &[u8]) -> Result<u128, Malformed> {
    take_wide(&mut chunk.get(HEAD..).ok_or(Malformed)?)
}

/// Reads the records of a chunk.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::store) struct Decoder {
    /// How many octets were read.
    read: usize,
    last: Key,
    begun: bool,
}

impl Decoder {
    /// The key of the next record; its counts have to be read before the next one.
    pub(in crate::store) fn key(
        &mut self,
        kind: Kind,
        records: &[u8],
    ) -> Result<Option<Key>, Malformed> {
        let mut rest = records.get(self.read..).ok_or(Malformed)?;
        if rest.is_empty() {
            return Ok(None);
        }
        let ahead = take_wide(&mut rest)?;
        let client = self.last.client.checked_add(ahead).ok_or(Malformed)?;
        let server = if kind == Kind::Pairs {
            let ahead_of = if self.begun && ahead == 0 {
                self.last.server
            } else {
                0
            };
            take_wide(&mut rest)?
                .checked_add(ahead_of)
                .ok_or(Malformed)?
        } else {
            0
        };
        self.begun = true;
        self.last = Key { client, server };
        self.read = records.len() - rest.len();
        Ok(Some(self.last))
    }

    /// Adds the counts of the record whose key was read.
    pub(in crate::store) fn add(
        &mut self,
        records: &[u8],
        row: &mut Row,
        sketch: &mut Option<Sketch>,
    ) -> Result<(), Malformed> {
        let mut rest = records.get(self.read..).ok_or(Malformed)?;
        let map = take(&mut rest)?;
        let mut add = |counts: &mut u64, more: u64| {
            let mine = &mut row.0[counts.trailing_zeros() as usize];
            *counts &= *counts - 1;
            *mine = mine.saturating_add(more);
        };
        let mut counts = map & ((1 << PEAK) - 1);
        while counts != 0 {
            add(&mut counts, take(&mut rest)?);
        }
        let peak = if map >> PEAK & 1 == 1 {
            take(&mut rest)?
        } else {
            0
        };
        // Behind the first ones, most are small: eight numbers of an octet each.
        let mut counts = map & ((1 << FIELDS) - (2 << PEAK));
        let mut left = counts.count_ones();
        while left >= 8
            && let Some((eight, after)) = rest.split_first_chunk::<8>()
            && u64::from_ne_bytes(*eight) & 0x8080_8080_8080_8080 == 0
        {
            for more in eight {
                add(&mut counts, u64::from(*more));
            }
            rest = after;
            left -= 8;
        }
        while counts != 0 {
            add(&mut counts, take(&mut rest)?);
        }
        row.0[PEAK] = row.0[PEAK].max(peak);
        if map >> SKETCH & 1 == 1 {
            let other = take_sketch(&mut rest)?;
            match sketch {
                Some(sketch) => sketch.merge(&other),
                None => *sketch = Some(other),
            }
        }
        if map >> SKETCH > 1 {
            return Err(Malformed);
        }
        self.read = records.len() - rest.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
