//! Makes coarser buckets from finer ones, and deletes what is past its time, in steps.
//!
//! Contract: every step is one transaction, so a step that was cut short never was. A bucket that is
//! being made is read by nobody; the step that completes it says so, and from then on it is read
//! instead of those that it was made from: every count is in exactly one of them. A bucket is made
//! when no window can begin in it any more, and when nothing finer in it is left to do. What it was
//! made from is deleted at once (windows), or when it is past its time, all of it together, so that
//! what is left of a coarser bucket's time is all of it or nothing.

use std::cell::Cell;

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::clock::{Clock, Retention};
use super::codec::{Encoder, Key, Kind, Row, SHARDS};
use super::fold::{PAIRS, Sink, fold_client};
use super::merge;
use super::run::Coarsened;
use super::table::{
    Range, State, Stored, children, oldest, put_bucket, put_chunk, tier_number, tier_of,
};
use crate::connections::sketch::Sketch;
use crate::crash;
use crate::model::period::{Bucket, Tier};
use crate::store::integer;

/// Records that are read in one step, about: some 10 ms.
const RECORDS: u64 = 60_000;
/// Chunks that are deleted in one step.
const DELETED: i64 = 1_000;

/// Does a step. `false`: there is nothing to do until a bucket is over.
pub(in crate::store) fn step(
    connection: &mut Connection,
    clock: &Clock,
    retention: &Retention,
    damage: &Cell<u64>,
) -> rusqlite::Result<bool> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = delete(&transaction)?
        || make(&transaction, damage)?
        || begin(&transaction, clock, damage)?
        || expire(&transaction, clock, retention)?;
    if done {
        crash::point("mid_tidy");
        transaction.commit()?;
        crash::point("after_tidy");
    }
    Ok(done)
}

/// Deletes chunks of a bucket that nobody reads.
fn delete(transaction: &Transaction<'_>) -> rusqlite::Result<bool> {
    let going = transaction
        .prepare_cached("SELECT id FROM bucket WHERE state = ?1 LIMIT 1")?
        .query_row([State::Going as i64], |row| row.get::<_, i64>(0))
        .optional()?;
    let Some(bucket) = going else {
        return Ok(false);
    };
    let range = Range::whole(bucket);
    let deleted = transaction
        .prepare_cached(
            "DELETE FROM chunk WHERE id IN
                (SELECT id FROM chunk WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3)",
        )?
        .execute([range.first, range.last, DELETED])?;
    if (deleted as i64) < DELETED {
        transaction
            .prepare_cached("DELETE FROM bucket WHERE id = ?1")?
            .execute([bucket])?;
    }
    Ok(true)
}

/// Whether no window can begin any more in this bucket.
fn is_over(bucket: Bucket, clock: &Clock) -> bool {
    let end = bucket
        .start
        .saturating_add(bucket.tier.length().unwrap_or(0));
    bucket.segment < clock.segment || end <= clock.end
}

/// Begins the next bucket that can be made.
fn begin(
    transaction: &Transaction<'_>,
    clock: &Clock,
    damage: &Cell<u64>,
) -> rusqlite::Result<bool> {
    // The finest first: so there is nothing finer left of an hour that is over.
    for finer in [Tier::Window, Tier::Bin, Tier::Hour] {
        let (Some(tier), Some(first)) = (finer.coarser(), oldest(transaction, State::Open, finer)?)
        else {
            continue;
        };
        let bucket = Bucket {
            segment: first.bucket.segment,
            start: tier.start_of(first.bucket.start),
            tier,
        };
        if !is_over(bucket, clock) {
            continue;
        }
        let mut coarsened = Coarsened::default();
        for child in children(transaction, bucket)? {
            coarsened.pairs |= child.coarsened.pairs;
            coarsened.sources |= child.coarsened.sources;
        }
        put_bucket(transaction, bucket, State::Making, coarsened)?;
        return make(transaction, damage);
    }
    Ok(false)
}

/// Where the making of a bucket has come to: the records of this client are the next.
#[derive(Clone, Copy)]
struct Progress {
    shard: u8,
    client: u128,
}

/// Goes on with a bucket that is being made.
fn make(transaction: &Transaction<'_>, damage: &Cell<u64>) -> rusqlite::Result<bool> {
    let making = transaction
        .prepare_cached(
            "SELECT id, tier, segment, start, shard, client FROM bucket WHERE state = ?1 LIMIT 1",
        )?
        .query_row([State::Making as i64], |row| {
            let client: Option<[u8; 16]> = row.get(5)?;
            let bucket = Bucket {
                tier: tier_of(row.get(1)?)?,
                segment: row.get(2)?,
                start: row.get(3)?,
            };
            let progress = Progress {
                shard: row.get(4)?,
                client: client.map_or(0, u128::from_be_bytes),
            };
            Ok((row.get::<_, i64>(0)?, bucket, progress))
        })
        .optional()?;
    let Some((id, bucket, mut progress)) = making else {
        return Ok(false);
    };
    let children = children(transaction, bucket)?;
    let mut left = RECORDS;
    while progress.shard < SHARDS {
        let (read, next) = make_shard(transaction, id, &children, progress, left, damage)?;
        left = left.saturating_sub(read);
        if let Some(client) = next {
            progress.client = client;
            break;
        }
        progress = Progress {
            shard: progress.shard + 1,
            client: 0,
        };
        if left == 0 {
            break;
        }
    }
    if progress.shard < SHARDS {
        transaction
            .prepare_cached("UPDATE bucket SET shard = ?2, client = ?3 WHERE id = ?1")?
            .execute(params![id, progress.shard, progress.client.to_be_bytes()])?;
    } else {
        complete(transaction, id, bucket)?;
    }
    Ok(true)
}

/// Puts the records of a shard into a bucket, about `left` of them. Gives how many were read, and the
/// client that comes next if there is one.
fn make_shard(
    transaction: &Transaction<'_>,
    id: i64,
    children: &[Stored],
    from: Progress,
    left: u64,
    damage: &Cell<u64>,
) -> rusqlite::Result<(u64, Option<u128>)> {
    let key = Key {
        client: from.client,
        server: 0,
    };
    let merge = |kind| merge(transaction, children, from.shard, kind, key, damage);
    let (mut sources, mut pairs) = (merge(Kind::Sources)?, merge(Kind::Pairs)?);
    let mut writer = Writer {
        transaction,
        sources: Run::go_on(transaction, id, from.shard, Kind::Sources)?,
        pairs: Run::go_on(transaction, id, from.shard, Kind::Pairs)?,
    };
    let next = loop {
        if sources.read() + pairs.read() >= left {
            let heads = [sources.peek(), pairs.peek()];
            break heads.into_iter().flatten().map(|key| key.client).min();
        }
        if !fold_client(&mut sources, &mut pairs, PAIRS, &mut writer)? {
            break None;
        }
    };
    writer.sources.finish(transaction)?;
    writer.pairs.finish(transaction)?;
    Ok((sources.read() + pairs.read(), next))
}

/// One run that is being written.
struct Run {
    encoder: Encoder,
    next: i64,
    last: i64,
}

impl Run {
    /// Behind what is there of it.
    fn go_on(
        transaction: &Transaction<'_>,
        bucket: i64,
        shard: u8,
        kind: Kind,
    ) -> rusqlite::Result<Self> {
        let range = Range::new(bucket, shard, kind);
        let last = transaction
            .prepare_cached("SELECT max(id) FROM chunk WHERE id BETWEEN ?1 AND ?2")?
            .query_row([range.first, range.last], |row| {
                row.get::<_, Option<i64>>(0)
            })?;
        Ok(Self {
            encoder: Encoder::new(kind),
            next: last.map_or(range.first, |last| last + 1),
            last: range.last,
        })
    }

    fn write(
        &mut self,
        transaction: &Transaction<'_>,
        chunk: Option<Vec<u8>>,
    ) -> rusqlite::Result<()> {
        // 4 million chunks of one shard: 16 GB of one bucket.
        if let Some(mut chunk) = chunk
            && self.next <= self.last
        {
            put_chunk(transaction, self.next, &mut chunk)?;
            self.next += 1;
        }
        Ok(())
    }

    fn finish(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let last = self.encoder.finish();
        self.write(transaction, last)
    }
}

struct Writer<'t> {
    transaction: &'t Transaction<'t>,
    sources: Run,
    pairs: Run,
}

impl Sink<rusqlite::Error> for Writer<'_> {
    fn put(
        &mut self,
        kind: Kind,
        key: Key,
        row: &Row,
        sketch: Option<&Sketch>,
    ) -> rusqlite::Result<()> {
        let run = match kind {
            Kind::Sources => &mut self.sources,
            Kind::Pairs => &mut self.pairs,
        };
        let full = run.encoder.push(key, row, sketch);
        run.write(self.transaction, full)
    }
}

/// From now on this bucket is read instead of what it was made from.
fn complete(transaction: &Transaction<'_>, id: i64, bucket: Bucket) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE bucket SET state = ?2, shard = 0, client = NULL WHERE id = ?1")?
        .execute([id, State::Open as i64])?;
    let (Some(finer), Some(length)) = (bucket.tier.finer(), bucket.tier.length()) else {
        return Ok(());
    };
    let state = match finer {
        Tier::Window => State::Going,
        _ => State::Folded,
    };
    let (start, end) = (bucket.start, bucket.start.saturating_add(length));
    transaction
        .prepare_cached(
            "UPDATE bucket SET state = ?1
             WHERE state = ?2 AND tier = ?3 AND segment = ?4 AND start >= ?5 AND start < ?6",
        )?
        .execute(params![
            state as i64,
            State::Open as i64,
            tier_number(finer),
            bucket.segment,
            integer(start),
            integer(end)
        ])?;
    if finer == Tier::Window {
        transaction
            .prepare_cached(
                "DELETE FROM coverage WHERE tier = 0 AND segment = ?1 AND start >= ?2 AND start < ?3",
            )?
            .execute(params![bucket.segment, integer(start), integer(end)])?;
    }
    Ok(())
}

/// Gives up what is past its time: all that a coarser bucket was made from at once.
fn expire(
    transaction: &Transaction<'_>,
    clock: &Clock,
    retention: &Retention,
) -> rusqlite::Result<bool> {
    // What was counted further ahead than anything is kept, was so by a clock that was wrong.
    let after = clock.end.saturating_add(retention.of(Tier::Day));
    for (tier, state) in [
        (Tier::Bin, State::Folded),
        (Tier::Hour, State::Folded),
        (Tier::Day, State::Open),
    ] {
        let keep = retention.of(tier);
        let whole = tier.coarser().unwrap_or(tier);
        // What begins before this is of coarser buckets that have ended so long ago.
        let before = whole.start_of(clock.horizon.saturating_sub(keep));
        let gone = transaction
            .prepare_cached(
                "UPDATE bucket SET state = ?1
                 WHERE tier = ?2 AND state = ?3 AND (start < ?4 OR start > ?5)",
            )?
            .execute(params![
                State::Going as i64,
                tier_number(tier),
                state as i64,
                integer(before),
                integer(after)
            ])?;
        if gone > 0 {
            transaction
                .prepare_cached(
                    "DELETE FROM coverage WHERE tier = ?1 AND (start < ?2 OR start > ?3)",
                )?
                .execute(params![tier_number(tier), integer(before), integer(after)])?;
            return Ok(true);
        }
    }
    Ok(false)
}
