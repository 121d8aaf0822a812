//! Merges sorted runs of records into one, a record at a time, in the memory of one chunk each.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::convert::Infallible;

use hashbrown::HashTable;

use super::codec::{Decoder, HEAD, Key, Kind, Row};
use crate::connections::sketch::Sketch;

/// Where the chunks of one run come from, in their order.
pub(in crate::store) trait Chunks {
    /// Why reading fails.
    type Error;

    /// Reads the next one, with the place of its CRC, which is checked. `false`: there is none.
    fn next(&mut self, into: &mut Vec<u8>) -> Result<bool, Self::Error>;

    /// Notes that the chunk which was read last has records that make no sense; they are left out.
    fn damaged(&mut self);
}

/// Chunks in memory.
pub(in crate::store) struct Held<'a>(pub(in crate::store) std::slice::Iter<'a, Vec<u8>>);

impl Chunks for Held<'_> {
    type Error = Infallible;

    fn next(&mut self, into: &mut Vec<u8>) -> Result<bool, Infallible> {
        let Some(chunk) = self.0.next() else {
            return Ok(false);
        };
        into.clear();
        into.extend_from_slice(chunk);
        Ok(true)
    }

    fn damaged(&mut self) {
        tracing::error!("counts that wait for the store make no sense: a fault of smtpflow");
    }
}

/// One run.
struct Stream<C> {
    chunks: C,
    chunk: Vec<u8>,
    decoder: Decoder,
}

impl<C: Chunks> Stream<C> {
    /// The key of the next record.
    fn key(&mut self, kind: Kind) -> Result<Option<Key>, C::Error> {
        loop {
            let records = self.chunk.get(HEAD..).unwrap_or_default();
            match self.decoder.key(kind, records) {
                Ok(Some(key)) => return Ok(Some(key)),
                Ok(None) => {}
                Err(_) => self.chunks.damaged(),
            }
            self.chunk.clear();
            self.decoder = Decoder::default();
            if !self.chunks.next(&mut self.chunk)? {
                return Ok(None);
            }
        }
    }

    /// Adds the counts of the record whose key was read.
    fn add(&mut self, row: &mut Row, sketch: &mut Option<Sketch>) {
        let records = self.chunk.get(HEAD..).unwrap_or_default();
        if self.decoder.add(records, row, sketch).is_err() {
            self.chunks.damaged();
            self.chunk.clear();
            self.decoder = Decoder::default();
        }
    }
}

/// Several runs as one.
pub(in crate::store) struct Merge<C> {
    kind: Kind,
    streams: Vec<Stream<C>>,
    /// The next key of each stream that has one.
    next: BinaryHeap<Reverse<(Key, usize)>>,
    /// Records that were read.
    read: u64,
}

impl<C: Chunks> Merge<C> {
    /// Of these runs, without the records before `from`.
    pub(in crate::store) fn new(
        kind: Kind,
        runs: impl IntoIterator<Item = C>,
        from: Key,
    ) -> Result<Self, C::Error> {
        let mut merge = Self {
            kind,
            streams: Vec::new(),
            next: BinaryHeap::new(),
            read: 0,
        };
        for chunks in runs {
            let mut stream = Stream {
                chunks,
                chunk: Vec::new(),
                decoder: Decoder::default(),
            };
            let mut key = stream.key(kind)?;
            while key.is_some_and(|key| key < from) {
                stream.add(&mut Row::ZERO.clone(), &mut None);
                key = stream.key(kind)?;
            }
            if let Some(key) = key {
                merge.next.push(Reverse((key, merge.streams.len())));
                merge.streams.push(stream);
            }
        }
        Ok(merge)
    }

    /// The key of the next record.
    pub(in crate::store) fn peek(&self) -> Option<Key> {
        self.next.peek().map(|Reverse((key, _))| *key)
    }

    /// The next record, merged over the runs.
    pub(in crate::store) fn next(
        &mut self,
        row: &mut Row,
        sketch: &mut Option<Sketch>,
    ) -> Result<Option<Key>, C::Error> {
        let Some(key) = self.peek() else {
            return Ok(None);
        };
        *row = Row::ZERO;
        *sketch = None;
        while let Some(mut top) = self.next.peek_mut() {
            let Reverse((next, stream)) = *top;
            if next != key {
                break;
            }
            self.read += 1;
            let of = &mut self.streams[stream];
            of.add(row, sketch);
            match of.key(self.kind)? {
                Some(key) => *top = Reverse((key, stream)),
                None => {
                    PeekMut::pop(top);
                }
            }
        }
        Ok(Some(key))
    }

    /// All records of the next client, in the order in which they come first. That is much less work
    /// than to ask for one after the other: runs are compared once a client and not once a record.
    pub(in crate::store) fn next_client(
        &mut self,
        into: &mut Client,
    ) -> Result<Option<u128>, C::Error> {
        into.clear();
        let Some(Key { client, .. }) = self.peek() else {
            return Ok(None);
        };
        while let Some(mut top) = self.next.peek_mut() {
            let Reverse((mut key, stream)) = *top;
            if key.client != client {
                break;
            }
            let of = &mut self.streams[stream];
            let next = loop {
                self.read += 1;
                of.add(into.row(key.server), &mut None);
                match of.key(self.kind)? {
                    Some(next) if next.client == client => key = next,
                    next => break next,
                }
            };
            match next {
                Some(key) => *top = Reverse((key, stream)),
                None => {
                    PeekMut::pop(top);
                }
            }
        }
        Ok(Some(client))
    }

    /// Records that were read until now.
    pub(in crate::store) const fn read(&self) -> u64 {
        self.read
    }
}

/// The records of one client, by server.
#[derive(Default)]
pub(in crate::store) struct Client {
    rows: Vec<(u128, Row)>,
    places: HashTable<u32>,
}

impl Client {
    fn clear(&mut self) {
        self.rows.clear();
        self.places.clear();
    }

    /// The row of a server.
    #[inline]
    fn row(&mut self, server: u128) -> &mut Row {
        // Whoever chose servers that fall together would make his own client slow to ask about.
        let hash = |server: u128| {
            let folded = (server >> 64) as u64 ^ server as u64;
            folded.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        };
        let Self { rows, places } = self;
        let next = rows.len();
        let place = *places
            .entry(
                hash(server),
                |place| rows[*place as usize].0 == server,
                |place| hash(rows[*place as usize].0),
            )
            .or_insert(next as u32)
            .get() as usize;
        if place == next {
            rows.push((server, Row::ZERO));
        }
        &mut rows[place].1
    }

    /// Servers and their rows.
    pub(in crate::store) fn rows(&self) -> &[(u128, Row)] {
        &self.rows
    }
}
