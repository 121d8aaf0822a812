//! The memory of the maps as bytes, for those who try what the readers make of them.
//!
//! Contract: any bytes are read as the maps of one half would be, by the same functions, and give
//! counts or nothing. Nothing of it asks the kernel.

use smtp_common::flow::{FlowSet, Header};
use smtp_common::table::Set;

use super::drain::{TickClock, flows_of, sources_of};
use super::identity::{Identity, IdentityWords};
use super::mapped;
use crate::model::{Flow, Source, Tally};

/// What is in the maps: whole entries of each, and what is left over at an end is not looked at.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// The words of the identity.
    pub identity: &'a [u8],
    /// Headers, one per CPU.
    pub headers: &'a [u8],
    /// Sets of sources, all of the first CPU, then all of the second.
    pub sources: &'a [u8],
    /// Sets of flows, likewise.
    pub flows: &'a [u8],
}

/// What was read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Whether this version of smtpflow would take the maps over.
    pub ours: bool,
    /// The account.
    pub tally: Tally,
    /// Each address once in each set.
    pub sources: Vec<Source>,
    /// Each flow once in each set.
    pub flows: Vec<Flow>,
}

impl Image<'_> {
    /// Reads it.
    pub fn read(&self) -> anyhow::Result<Reading> {
        let mut words: IdentityWords = [0; _];
        for (word, octets) in words.iter_mut().zip(self.identity.chunks_exact(8)) {
            *word = u64::from_ne_bytes(octets.try_into()?);
        }
        let headers: Vec<Header> = mapped::values(self.headers);
        let cpus = headers.len().max(1);
        let sets: Vec<Set> = mapped::values(self.sources);
        let flow_sets: Vec<FlowSet> = mapped::values(self.flows);
        let mut tally = Tally::default();
        for header in &headers {
            tally.add_header(header);
        }
        let clocks = headers.iter().map(TickClock::new);
        let clocks = clocks.collect::<Result<Vec<_>, _>>()?;
        let (sources, _) = sources_of(&sets, cpus);
        let flows = if clocks.is_empty() {
            Vec::new()
        } else {
            flows_of(&flow_sets, &clocks)
        };
        tally.place(&sources, Some(&flows));
        Ok(Reading {
            ours: Identity::from_words(&words).is_some(),
            tally,
            sources,
            flows,
        })
    }
}
