//! Every record of a period, read on two threads.
//!
//! Contract: a second thread reads half of the shards on a connection of its own, and only if that
//! finds the very buckets that the first has found: what is in a bucket that is read never changes, so
//! all is of one moment. Else the first thread reads everything. Records come in the order of no key.
//! What waits between the threads is bounded.

use std::cell::Cell;
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use rusqlite::{Connection, OpenFlags};

use super::Reader;
use super::history::{Client, Key, Kind, Row, SHARDS, Stored, cover, merge, snap};
use crate::model::Counts;
use crate::model::period::{Period, Tier};

/// Buckets from which on a second thread is worth its connection. Tests go both ways with the few
/// that they have.
const WORTH: usize = if cfg!(test) { 3 } else { 8 };
/// Records that go from one thread to the other at a time.
const BATCH: usize = 512;
/// Such batches that wait: with `BATCH` records of some 200 bytes each about 2 MB.
const WAITING: usize = 16;

type Batch = Vec<(Key, Counts)>;

/// What a second thread needs to know.
struct Second<'a> {
    path: &'a Path,
    flags: OpenFlags,
    kind: Kind,
    period: Period,
    parts: &'a [Stored],
}

/// Gives every record of the period.
pub(super) fn all(
    reader: &Reader,
    connection: &Connection,
    kind: Kind,
    period: Period,
    each: &mut dyn FnMut(Key, &Counts),
) -> rusqlite::Result<()> {
    let parts = cover(connection, snap(connection, period)?, Tier::Day)?;
    let one = |shards: Range<u8>, each: &mut dyn FnMut(Key, &Counts)| {
        shards
            .into_iter()
            .try_for_each(|shard| every(connection, &parts, shard, kind, &reader.damage, each))
    };
    let alone = thread::available_parallelism().map_or(1, usize::from) < 2;
    if alone || parts.len() < WORTH {
        return one(0..SHARDS, each);
    }
    let second = Second {
        path: &reader.path,
        flags: reader.flags,
        kind,
        period,
        parts: &parts,
    };
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel::<Batch>(WAITING);
        let half = scope.spawn(|| second.read(sender));
        let mut since = 0;
        one(0..SHARDS / 2, &mut |key, counts| {
            each(key, counts);
            since += 1;
            if since == BATCH {
                since = 0;
                for (key, counts) in receiver.try_iter().flatten() {
                    each(key, &counts);
                }
            }
        })?;
        for (key, counts) in receiver.iter().flatten() {
            each(key, &counts);
        }
        let read = half
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        match read {
            Some(damage) => {
                reader.damage.set(reader.damage.get() + damage);
                Ok(())
            }
            None => one(SHARDS / 2..SHARDS, each),
        }
    })
}

impl Second<'_> {
    /// Reads its half, and says how many chunks were damaged; `None` if it has read nothing, because it
    /// cannot or because it would be of another moment.
    fn read(&self, sender: SyncSender<Batch>) -> rusqlite::Result<Option<u64>> {
        let Ok(reader) = Reader::connect(self.path, self.flags) else {
            return Ok(None);
        };
        let transaction = reader.connection.unchecked_transaction()?;
        let period = snap(&transaction, self.period)?;
        if cover(&transaction, period, Tier::Day)? != self.parts {
            return Ok(None);
        }
        let mut batch = Batch::with_capacity(BATCH);
        for shard in SHARDS / 2..SHARDS {
            every(
                &transaction,
                self.parts,
                shard,
                self.kind,
                &reader.damage,
                &mut |key, counts| {
                    batch.push((key, *counts));
                    if batch.len() == BATCH {
                        let full = std::mem::replace(&mut batch, Batch::with_capacity(BATCH));
                        // The other thread has failed, and says so.
                        let _ = sender.send(full);
                    }
                },
            )?;
        }
        let _ = sender.send(batch);
        Ok(Some(reader.damage.get()))
    }
}

/// Gives the records of one shard in these buckets, merged, in their order.
pub(super) fn every(
    connection: &Connection,
    parts: &[Stored],
    shard: u8,
    kind: Kind,
    damage: &Cell<u64>,
    each: &mut dyn FnMut(Key, &Counts),
) -> rusqlite::Result<()> {
    let all = Key::default();
    let mut records = merge(connection, parts, shard, kind, all, damage)?;
    if kind == Kind::Pairs {
        let mut pairs = Client::default();
        while let Some(client) = records.next_client(&mut pairs)? {
            for (server, row) in pairs.rows() {
                let server = *server;
                each(Key { client, server }, &row.counts());
            }
        }
        return Ok(());
    }
    let mut row = Row::ZERO;
    while let Some(key) = records.next(&mut row, &mut None)? {
        each(key, &row.counts());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use smtp_common::flow::Totals;

    use super::super::history::tests::{host, made};
    use super::*;
    use crate::model::{Folded, Source};
    use crate::store::{Committed, Store};

    const BEGIN: u64 = 1_795_478_400_000;
    const PERIOD: Period = Period {
        from: 0,
        to: u64::MAX >> 1,
    };

    fn commit(store: &mut Store, epoch: u64) {
        let sources = (0..100)
            .map(|number| Source {
                address: host(number),
                totals: Totals {
                    connections: number + 1,
                    ..Totals::default()
                },
            })
            .collect();
        let length = Duration::from_secs(10);
        let window = made(epoch, BEGIN + 10_000 * epoch, length, sources);
        assert_eq!(
            store.commit(1, &window, &Folded::default()),
            Committed::Stored
        );
    }

    #[test]
    fn the_second_thread_reads_its_half_of_the_same_moment_or_nothing() {
        let mut store = Store::in_memory(Vec::new(), 1_000).unwrap_or_else(|f| panic!("{f}"));
        for epoch in 1..=5 {
            commit(&mut store, epoch);
        }
        let reader = store.reader().unwrap_or_else(|f| panic!("{f}"));
        let parts = |connection: &Connection| cover(connection, PERIOD, Tier::Day);
        let before = reader.read(parts).unwrap_or_else(|f| panic!("{f}"));
        assert!(before.len() >= WORTH);
        let half = |parts: &[Stored]| {
            let second = Second {
                path: &reader.path,
                flags: reader.flags,
                kind: Kind::Sources,
                period: PERIOD,
                parts,
            };
            let (sender, receiver) = sync_channel(WAITING);
            let read = second.read(sender).expect("read");
            let keys: BTreeSet<Key> = receiver.iter().flatten().map(|(key, _)| key).collect();
            (read, keys.len())
        };
        let (read, second) = half(&before);
        assert_eq!(read, Some(0));
        assert!((1..100).contains(&second), "{second} of 100");

        let mut all = BTreeSet::new();
        reader
            .sources(PERIOD, &mut |address, counts| {
                assert_eq!(counts.totals.connections % 5, 0);
                assert!(all.insert(address.octets()), "{address:?} twice");
            })
            .unwrap_or_else(|f| panic!("{f}"));
        assert_eq!(all.len(), 100);

        // A window later it is another moment.
        commit(&mut store, 6);
        assert_eq!(half(&before), (None, 0));
    }
}
