//! What pinned maps were made for, pinned beside them.
//!
//! Contract: a program may count into maps only if it agrees with their identity in all of it: the
//! layout version, the shape, the ports and the seeds of the hashes.

use std::fs::File;
use std::io::Read as _;

use anyhow::Context as _;
use smtp_common::LAYOUT_VERSION;
use smtp_common::table::{AddressSeeds, Geometry, SynSeeds};

use super::Options;

/// What the maps were made for. Another program may write to them only if it agrees in all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// A random number: other tables, another number.
    pub table_id: u64,
    pub geometry: Geometry,
    pub ports: [u16; 4],
    pub spill: u32,
    pub address_seeds: AddressSeeds,
    pub syn_seeds: SynSeeds,
}

/// An [`Identity`] with its layout version, in words.
pub type IdentityWords = [u64; 24];

impl Identity {
    pub fn new(options: &Options) -> anyhow::Result<Self> {
        let mut bytes = [0; size_of::<u64>() + size_of::<AddressSeeds>() + size_of::<SynSeeds>()];
        File::open("/dev/urandom")
            .and_then(|mut random| random.read_exact(&mut bytes))
            .context("cannot read random numbers from /dev/urandom")?;
        let mut words = bytes
            .chunks_exact(8)
            .map(|chunk| u64::from_ne_bytes(chunk.try_into().expect("chunks of eight")));
        let mut next = || words.next().expect("as many words as seeds");
        Ok(Self {
            // SQLite has 63 bits for a number that is not negative.
            table_id: next() >> 1,
            geometry: options.geometry,
            ports: options.ports,
            spill: options.spill,
            address_seeds: std::array::from_fn(|_| next()),
            syn_seeds: std::array::from_fn(|_| next()),
        })
    }

    pub fn to_words(self) -> IdentityWords {
        let Geometry {
            cpus,
            sets,
            syn_slots,
            flow_sets,
        } = self.geometry;
        let [a, b, c, d] = self.ports.map(u64::from);
        let mut words = [0; 24];
        words[..8].copy_from_slice(&[
            LAYOUT_VERSION.into(),
            self.table_id,
            cpus.into(),
            sets.into(),
            syn_slots.into(),
            flow_sets.into(),
            a << 48 | b << 32 | c << 16 | d,
            self.spill.into(),
        ]);
        words[8..13].copy_from_slice(&self.address_seeds);
        words[13..].copy_from_slice(&self.syn_seeds);
        words
    }

    /// What these words say; `None` if they are of another layout.
    pub fn from_words(words: &IdentityWords) -> Option<Self> {
        let word = |i: usize| u32::try_from(words[i]).ok();
        if word(0)? != LAYOUT_VERSION {
            return None;
        }
        Some(Self {
            table_id: words[1],
            geometry: Geometry {
                cpus: word(2)?,
                sets: word(3)?,
                syn_slots: word(4)?,
                flow_sets: word(5)?,
            },
            ports: [48, 32, 16, 0].map(|shift| (words[6] >> shift) as u16),
            spill: word(7)?,
            address_seeds: std::array::from_fn(|i| words[8 + i]),
            syn_seeds: std::array::from_fn(|i| words[13 + i]),
        })
    }

    /// What the operator chooses, without the seeds, which may be anything.
    pub fn choices(&self) -> (Geometry, [u16; 4], u32) {
        (self.geometry, self.ports, self.spill)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_words() {
        let identity = Identity {
            table_id: 77,
            geometry: Geometry {
                cpus: 72,
                sets: 1 << 15,
                syn_slots: 1 << 18,
                flow_sets: 1 << 14,
            },
            ports: [25, 587, 465, 0],
            spill: 16384,
            address_seeds: [1, 2, 3, 4, 5],
            syn_seeds: [6, 7, 8, 9, 10, 11, 12, 13, 14, 15, u64::MAX],
        };
        let words = identity.to_words();
        assert_eq!(Identity::from_words(&words), Some(identity));
        let mut other = words;
        other[0] += 1;
        assert_eq!(Identity::from_words(&other), None);
    }
}
