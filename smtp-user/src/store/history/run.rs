//! What a window adds to history, as sorted records; and how it is coarsened where it has to wait.

use std::collections::HashSet;
use std::convert::Infallible;

use smtp_common::packet::Address;

use super::clock::Span;
use super::codec::{Encoder, Key, Kind, OTHERS, Row, SHARDS, address, rank, shard};
use super::fold::{PAIRS, Sink, fold_client};
use super::merge::{Held, Merge};
use crate::connections::sketch::Sketch;
use crate::model::period::Tier;
use crate::model::session::Sessions;
use crate::model::{Counts, Folded, Source, Window};

/// What was left out of history for want of room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coarsened {
    /// Pairs: there are their sums, by client, and of the servers a sketch.
    pub pairs: bool,
    /// Sources: there is their sum, as `::`.
    pub sources: bool,
}

/// Chunks of one kind, by shard.
pub(in crate::store) type Shards = [Vec<Vec<u8>>; SHARDS as usize];

/// Records of a window, or of several of one bin.
pub(in crate::store) struct Run {
    /// When it was counted; all spans are of one segment and one bin, each after the one before.
    pub(in crate::store) spans: Vec<Span>,
    pub(in crate::store) sources: Shards,
    pub(in crate::store) pairs: Shards,
    pub(in crate::store) coarsened: Coarsened,
    /// How many windows it is of.
    pub(in crate::store) windows: u64,
    octets: usize,
}

/// Encodes records that come in the order of their keys, whatever their shards.
struct Sorter {
    sources: Sharded,
    pairs: Sharded,
}

struct Sharded {
    encoders: Vec<Encoder>,
    chunks: Shards,
}

impl Sharded {
    fn new(kind: Kind) -> Self {
        Self {
            encoders: (0..SHARDS).map(|_| Encoder::new(kind)).collect(),
            chunks: Shards::default(),
        }
    }

    fn put(&mut self, shard: u8, key: Key, row: &Row, sketch: Option<&Sketch>) {
        let shard = usize::from(shard);
        let full = self.encoders[shard].push(key, row, sketch);
        self.chunks[shard].extend(full);
    }

    fn finish(mut self) -> Shards {
        for (encoder, chunks) in self.encoders.iter_mut().zip(&mut self.chunks) {
            chunks.extend(encoder.finish().map(|mut chunk| {
                chunk.shrink_to_fit();
                chunk
            }));
        }
        self.chunks
    }
}

impl Sorter {
    fn new() -> Self {
        Self {
            sources: Sharded::new(Kind::Sources),
            pairs: Sharded::new(Kind::Pairs),
        }
    }

    fn finish(self, spans: Vec<Span>, windows: u64, coarsened: Coarsened) -> Run {
        let (sources, pairs) = (self.sources.finish(), self.pairs.finish());
        let chunks = sources.iter().chain(&pairs).flatten();
        let octets = chunks.map(|chunk| chunk.len() + size_of::<Vec<u8>>()).sum();
        Run {
            spans,
            sources,
            pairs,
            coarsened,
            windows,
            octets,
        }
    }
}

/// Sources in the order of their ranks: rank and place.
pub(in crate::store) type Order = Vec<(u128, u32)>;

/// Sorts sources.
pub(in crate::store) fn order(sources: &[Source]) -> Order {
    let mut order: Order = sources
        .iter()
        .zip(0_u32..)
        .map(|(source, place)| (rank(source.address), place))
        .collect();
    order.sort_unstable_by_key(|(rank, _)| *rank);
    order
}

impl Run {
    /// What a window adds.
    pub(in crate::store) fn new(
        span: Span,
        window: &Window,
        order: &Order,
        folded: &Folded,
    ) -> Self {
        let mut sorter = Sorter::new();
        let silent = silent(window, folded);
        let mut silent = silent.iter().peekable();
        let none = Sessions::default();
        for (client, place) in order {
            while let Some((rank, sessions)) = silent.next_if(|(rank, _)| rank < client) {
                sorter.source(*rank, &Row::new(&Default::default(), sessions, 0));
            }
            let source = &window.sources[*place as usize];
            let sessions = folded.clients.get(&source.address).unwrap_or(&none);
            let peak = Counts::peak_of(source.totals.connections, window.length);
            sorter.source(*client, &Row::new(&source.totals, sessions, peak));
        }
        for (rank, sessions) in silent {
            sorter.source(*rank, &Row::new(&Default::default(), sessions, 0));
        }
        let mut pairs: Vec<(Key, &Counts)> = folded
            .pairs
            .iter()
            .map(|(pair, counts)| {
                let key = Key {
                    client: rank(pair.client),
                    server: rank(pair.server),
                };
                (key, counts)
            })
            .collect();
        pairs.sort_unstable_by_key(|(key, _)| *key);
        for (key, counts) in pairs {
            let shard = shard(address(key.client));
            sorter.pairs.put(shard, key, &Row::of(counts), None);
        }
        sorter.finish(vec![span], 1, Coarsened::default())
    }

    /// Octets of memory.
    pub(in crate::store) const fn octets(&self) -> usize {
        self.octets
    }

    /// The first time in it.
    pub(in crate::store) fn span(&self) -> Span {
        self.spans[0]
    }

    /// Whether both are of one bin, so that they can be one.
    pub(in crate::store) fn is_of_bin(&self, other: &Self) -> bool {
        let bin = |span: Span| (span.segment, Tier::Bin.start_of(span.start));
        bin(self.span()) == bin(other.span())
    }

    /// Makes two of one bin one.
    pub(in crate::store) fn join(&self, later: &Self) -> Self {
        let mut spans = self.spans.clone();
        for span in &later.spans {
            match spans.last_mut() {
                Some(last) if last.end == span.start => last.end = span.end,
                _ => spans.push(*span),
            }
        }
        let coarsened = Coarsened {
            pairs: self.coarsened.pairs || later.coarsened.pairs,
            sources: self.coarsened.sources || later.coarsened.sources,
        };
        let mut sorter = Sorter::new();
        sorter.fold(&[self, later], PAIRS);
        sorter.finish(spans, self.windows + later.windows, coarsened)
    }

    /// Leaves the pairs out, but for their sum, client by client.
    pub(in crate::store) fn without_pairs(&self) -> Self {
        let coarsened = Coarsened {
            pairs: true,
            ..self.coarsened
        };
        let mut sorter = Sorter::new();
        sorter.fold(&[self], 0);
        sorter.finish(self.spans.clone(), self.windows, coarsened)
    }

    /// Leaves the sources out as well.
    pub(in crate::store) fn without_sources(&self) -> Self {
        let mut sum = Row::ZERO;
        each_shard(&[self], |sources, _| {
            let mut row = Row::ZERO;
            while let Ok(Some(_)) = sources.next(&mut row, &mut None) {
                sum.merge(&row);
            }
        });
        let mut sorter = Sorter::new();
        if sum != Row::ZERO {
            sorter.source(rank(OTHERS), &sum);
        }
        let coarsened = Coarsened {
            pairs: true,
            sources: true,
        };
        sorter.finish(self.spans.clone(), self.windows, coarsened)
    }
}

/// Clients without a packet in the window, of which a connection ended in it, by rank.
fn silent<'a>(window: &Window, folded: &'a Folded) -> Vec<(u128, &'a Sessions)> {
    let clients = &folded.clients;
    let sources = window.sources.iter().map(|source| source.address);
    let present: HashSet<Address> = if clients.is_empty() {
        HashSet::new()
    } else {
        sources
            .filter(|address| clients.contains_key(address))
            .collect()
    };
    let mut silent: Vec<_> = clients
        .iter()
        .filter(|(address, _)| !present.contains(*address))
        .map(|(address, sessions)| (rank(*address), sessions))
        .collect();
    silent.sort_unstable_by_key(|(rank, _)| *rank);
    silent
}

/// Goes over the shards of runs in memory.
pub(super) fn each_shard<'a>(
    runs: &[&'a Run],
    mut each: impl FnMut(&mut Merge<Held<'a>>, &mut Merge<Held<'a>>),
) {
    for shard in 0..usize::from(SHARDS) {
        let sources = runs.iter().map(|run| Held(run.sources[shard].iter()));
        let pairs = runs.iter().map(|run| Held(run.pairs[shard].iter()));
        let Ok(mut sources) = Merge::new(Kind::Sources, sources, Key::default());
        let Ok(mut pairs) = Merge::new(Kind::Pairs, pairs, Key::default());
        each(&mut sources, &mut pairs);
    }
}

impl Sorter {
    fn source(&mut self, client: u128, row: &Row) {
        let key = Key { client, server: 0 };
        let shard = shard(address(client));
        self.sources.put(shard, key, row, None);
    }

    fn fold(&mut self, runs: &[&Run], limit: usize) {
        each_shard(runs, |sources, pairs| {
            while let Ok(true) = fold_client(sources, pairs, limit, self) {}
        });
    }
}

impl Sink<Infallible> for Sorter {
    fn put(
        &mut self,
        kind: Kind,
        key: Key,
        row: &Row,
        sketch: Option<&Sketch>,
    ) -> Result<(), Infallible> {
        let shard = shard(address(key.client));
        match kind {
            Kind::Sources => self.sources.put(shard, key, row, sketch),
            Kind::Pairs => self.pairs.put(shard, key, row, sketch),
        }
        Ok(())
    }
}
