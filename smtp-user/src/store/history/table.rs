//! History in the file: buckets, their chunks, and for how much of their time packets were counted.

use std::cell::Cell;

use rusqlite::{Connection, OptionalExtension as _, Row as SqlRow, Transaction, params};

use super::clock::{Clock, Span};
use super::codec::{self, Kind, Malformed, SHARDS};
use super::merge::Chunks;
use super::run::{Coarsened, Run};
use crate::model::period::{Bucket, Period, Tier};
use crate::store::integer;

/// Tables of schema version 2. Times are milliseconds since 1970.
///
/// A row of `chunk` is on one page of the file, and the chunks of a bucket one after the other: their
/// number is made of that of the bucket, the shard, the kind and a running number, see [`Range`].
/// Hence it is no `WITHOUT ROWID` table, which would cut its rows in two.
pub(in crate::store) const TABLES: &str = "
    CREATE TABLE clock (
        segment INTEGER NOT NULL,
        end INTEGER NOT NULL,
        horizon INTEGER NOT NULL,
        suspect INTEGER NOT NULL
    ) STRICT;
    INSERT INTO clock VALUES (0, 0, 0, 0);
    CREATE TABLE bucket (
        id INTEGER PRIMARY KEY,
        tier INTEGER NOT NULL,
        segment INTEGER NOT NULL,
        start INTEGER NOT NULL,
        state INTEGER NOT NULL,
        coarsened INTEGER NOT NULL,
        shard INTEGER NOT NULL,
        client BLOB
    ) STRICT;
    CREATE INDEX bucket_state ON bucket (state, tier, segment, start);
    CREATE INDEX bucket_start ON bucket (tier, start);
    CREATE TABLE chunk (id INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
    CREATE TABLE coverage (
        tier INTEGER NOT NULL,
        segment INTEGER NOT NULL,
        start INTEGER NOT NULL,
        up INTEGER NOT NULL,
        PRIMARY KEY (tier, segment, start)
    ) STRICT, WITHOUT ROWID;
";

/// What becomes of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum State {
    /// It is being made from finer ones; nobody reads it.
    Making = 0,
    /// It can be read, and no coarser one is made from it yet.
    Open = 1,
    /// A coarser one is made from it; it can be read still.
    Folded = 2,
    /// Nobody reads it, and its chunks are being deleted.
    Going = 3,
}

pub(in crate::store) const fn tier_number(tier: Tier) -> i64 {
    match tier {
        Tier::Window => 0,
        Tier::Bin => 1,
        Tier::Hour => 2,
        Tier::Day => 3,
    }
}

pub(in crate::store) fn tier_of(number: i64) -> rusqlite::Result<Tier> {
    let place = usize::try_from(number).ok();
    let tier = place.and_then(|place| Tier::ALL.get(place));
    tier.copied()
        .ok_or(rusqlite::Error::IntegralValueOutOfRange(0, number))
}

/// A bucket in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Stored {
    pub(in crate::store) id: i64,
    pub(in crate::store) bucket: Bucket,
    /// Whether a coarser one is made from it.
    pub(in crate::store) folded: bool,
    pub(in crate::store) coarsened: Coarsened,
}

/// The columns of [`stored`].
const STORED: &str = "SELECT id, tier, segment, start, state, coarsened FROM bucket";

fn stored(row: &SqlRow<'_>) -> rusqlite::Result<Stored> {
    let coarsened: i64 = row.get(5)?;
    Ok(Stored {
        id: row.get(0)?,
        bucket: Bucket {
            tier: tier_of(row.get(1)?)?,
            segment: row.get(2)?,
            start: row.get(3)?,
        },
        folded: row.get::<_, i64>(4)? == State::Folded as i64,
        coarsened: Coarsened {
            pairs: coarsened & 1 != 0,
            sources: coarsened & 2 != 0,
        },
    })
}

pub(in crate::store) fn coarsened_number(coarsened: Coarsened) -> i64 {
    i64::from(coarsened.pairs) | i64::from(coarsened.sources) << 1
}

/// The numbers that the chunks of one bucket, shard and kind can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Range {
    pub(in crate::store) first: i64,
    pub(in crate::store) last: i64,
}

/// Bits of the running number.
const RUNNING: u32 = 22;

impl Range {
    pub(in crate::store) const fn new(bucket: i64, shard: u8, kind: Kind) -> Self {
        let pairs = match kind {
            Kind::Sources => 0,
            Kind::Pairs => 1,
        };
        let first = ((bucket << 4 | shard as i64) << 1 | pairs) << RUNNING;
        Self {
            first,
            last: first | ((1 << RUNNING) - 1),
        }
    }

    /// Of all shards and kinds of a bucket.
    pub(in crate::store) const fn whole(bucket: i64) -> Self {
        Self {
            first: Self::new(bucket, 0, Kind::Sources).first,
            last: Self::new(bucket, SHARDS - 1, Kind::Pairs).last,
        }
    }
}

/// The chunks of one bucket, shard and kind.
pub(in crate::store) struct InFile<'c> {
    connection: &'c Connection,
    /// The next one to be read may have this number.
    next: i64,
    last: i64,
    /// Chunks with their numbers, the next one last.
    ready: Vec<(i64, Vec<u8>)>,
    /// Memory of chunks that were handed over.
    spare: Vec<Vec<u8>>,
    /// How many are read at once: more every time, since most of the cost of one is finding it.
    batch: usize,
    /// The number of the chunk that was handed over last.
    current: i64,
    damage: &'c Cell<u64>,
}

/// The most chunks of a run that are read at once.
const BATCH: usize = 16;

impl<'c> InFile<'c> {
    /// From the chunk on in which the records of this client begin.
    pub(in crate::store) fn new(
        connection: &'c Connection,
        range: Range,
        client: u128,
        damage: &'c Cell<u64>,
    ) -> rusqlite::Result<Self> {
        let mut chunks = Self {
            connection,
            next: range.first,
            last: range.last,
            ready: Vec::new(),
            spare: Vec::new(),
            batch: 2,
            current: 0,
            damage,
        };
        if client != 0 {
            chunks.seek(client)?;
        }
        Ok(chunks)
    }

    /// Goes to the last chunk whose first client is below this one, since the one after it may begin
    /// in the middle of this client.
    fn seek(&mut self, client: u128) -> rusqlite::Result<()> {
        let end = self
            .connection
            .prepare_cached("SELECT max(id) FROM chunk WHERE id BETWEEN ?1 AND ?2")?
            .query_row([self.next, self.last], |row| row.get::<_, Option<i64>>(0))?;
        let Some(mut high) = end else {
            self.next = self.last + 1;
            return Ok(());
        };
        let mut first = self
            .connection
            .prepare_cached("SELECT body FROM chunk WHERE id = ?1")?;
        let mut low = self.next;
        while low < high {
            let middle = low + (high - low + 1) / 2;
            let below = first
                .query_row([middle], |row| {
                    let body = row.get_ref(0)?.as_blob()?;
                    // Where nobody can say, what comes before is read in vain.
                    Ok(codec::first_client(body).is_ok_and(|first| first < client))
                })
                .optional()?;
            if below == Some(true) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        self.next = low;
        Ok(())
    }
}

impl InFile<'_> {
    /// Reads some more.
    fn fetch(&mut self) -> rusqlite::Result<()> {
        if self.next > self.last {
            return Ok(());
        }
        let mut select = self.connection.prepare_cached(
            "SELECT id, body FROM chunk WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3",
        )?;
        let mut rows = select.query(params![self.next, self.last, self.batch])?;
        while let Some(row) = rows.next()? {
            let mut chunk = self.spare.pop().unwrap_or_default();
            chunk.clear();
            chunk.extend_from_slice(row.get_ref(1)?.as_blob()?);
            self.ready.push((row.get(0)?, chunk));
        }
        self.next = match self.ready.last() {
            Some((id, _)) if self.ready.len() == self.batch => id + 1,
            _ => self.last + 1,
        };
        self.ready.reverse();
        self.batch = BATCH.min(2 * self.batch);
        Ok(())
    }
}

impl Chunks for InFile<'_> {
    type Error = rusqlite::Error;

    fn next(&mut self, into: &mut Vec<u8>) -> rusqlite::Result<bool> {
        loop {
            if self.ready.is_empty() {
                self.fetch()?;
            }
            let Some((id, mut chunk)) = self.ready.pop() else {
                return Ok(false);
            };
            self.current = id;
            let opened = codec::open(id, &chunk).map(|_| ());
            std::mem::swap(into, &mut chunk);
            self.spare.push(chunk);
            match opened {
                Ok(()) => return Ok(true),
                Err(Malformed) => self.damaged(),
            }
        }
    }

    fn damaged(&mut self) {
        let id = self.current;
        self.damage.set(self.damage.get() + 1);
        tracing::error!(
            bucket = id >> (RUNNING + 5),
            chunk = id,
            "a chunk of the store's history is damaged: its counts are left out of history from here \
             on; totals are not concerned"
        );
    }
}

/// What the chunks of one bucket, shard and kind take.
pub(in crate::store) fn octets_of(
    connection: &Connection,
    bucket: i64,
    shard: u8,
    kind: Kind,
) -> rusqlite::Result<u64> {
    let range = Range::new(bucket, shard, kind);
    connection
        .prepare_cached(
            "SELECT coalesce(sum(length(body)), 0) FROM chunk WHERE id BETWEEN ?1 AND ?2",
        )?
        .query_row([range.first, range.last], |row| row.get(0))
}

/// Writes a chunk.
pub(in crate::store) fn put_chunk(
    connection: &Connection,
    id: i64,
    chunk: &mut [u8],
) -> rusqlite::Result<()> {
    codec::seal(id, chunk);
    connection
        .prepare_cached("INSERT INTO chunk VALUES (?1, ?2)")?
        .execute(params![id, &*chunk])?;
    Ok(())
}

/// Puts a bucket into the file, without chunks.
pub(in crate::store) fn put_bucket(
    connection: &Connection,
    bucket: Bucket,
    state: State,
    coarsened: Coarsened,
) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "INSERT INTO bucket (tier, segment, start, state, coarsened, shard)
             VALUES (?1, ?2, ?3, ?4, ?5, 0)",
        )?
        .execute(params![
            tier_number(bucket.tier),
            bucket.segment,
            integer(bucket.start),
            state as i64,
            coarsened_number(coarsened),
        ])?;
    Ok(connection.last_insert_rowid())
}

/// Puts what a window adds into the file. Before `kept_from`, buckets of a tier are not kept any more.
pub(in crate::store) fn put_run(
    transaction: &Transaction<'_>,
    run: &mut Run,
    kept_from: impl Fn(Tier) -> u64,
) -> rusqlite::Result<()> {
    let span = run.span();
    let bucket = Bucket {
        segment: span.segment,
        start: span.start,
        tier: Tier::Window,
    };
    let id = put_bucket(transaction, bucket, State::Open, run.coarsened)?;
    for shard in 0..SHARDS {
        let of_shard = usize::from(shard);
        for (kind, chunks) in [
            (Kind::Sources, &mut run.sources[of_shard]),
            (Kind::Pairs, &mut run.pairs[of_shard]),
        ] {
            let range = Range::new(id, shard, kind);
            for (id, chunk) in (range.first..=range.last).zip(chunks) {
                put_chunk(transaction, id, chunk)?;
            }
        }
    }
    for span in &run.spans {
        cover(transaction, span, bucket, &kept_from)?;
    }
    Ok(())
}

/// Adds a span to what is covered of the buckets in it, as far back as they are kept.
fn cover(
    transaction: &Transaction<'_>,
    span: &Span,
    window: Bucket,
    kept_from: &impl Fn(Tier) -> u64,
) -> rusqlite::Result<()> {
    let mut add = transaction.prepare_cached(
        "INSERT INTO coverage VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (tier, segment, start) DO UPDATE SET up = up + excluded.up",
    )?;
    for tier in Tier::ALL {
        let Some(length) = tier.length() else {
            let up = span.end - span.start;
            add.execute(params![0, span.segment, integer(window.start), integer(up)])?;
            continue;
        };
        let mut from = span.start.max(tier.start_of(kept_from(tier)).min(span.end));
        loop {
            let start = tier.start_of(from);
            let to = span.end.min(start.saturating_add(length));
            let up = integer(to.saturating_sub(from));
            add.execute(params![tier_number(tier), span.segment, integer(start), up])?;
            if to >= span.end {
                break;
            }
            from = to;
        }
    }
    Ok(())
}

/// Where in time the file is.
pub(in crate::store) fn read_clock(connection: &Connection) -> rusqlite::Result<Clock> {
    connection.query_row("SELECT segment, end, horizon FROM clock", [], |row| {
        Ok(Clock {
            segment: row.get(0)?,
            end: row.get(1)?,
            horizon: row.get(2)?,
        })
    })
}

/// Notes it.
pub(in crate::store) fn write_clock(
    transaction: &Transaction<'_>,
    clock: &Clock,
) -> rusqlite::Result<()> {
    let Clock {
        segment,
        end,
        horizon,
    } = *clock;
    transaction.execute(
        "UPDATE clock SET segment = ?1, end = ?2, horizon = ?3",
        params![segment, integer(end), integer(horizon)],
    )?;
    Ok(())
}

/// Whether something of history could not be read, so that all of the file has to be checked.
pub(in crate::store) fn is_suspect(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT suspect FROM clock", [], |row| row.get(0))
}

/// Notes that it has, or that it was found good.
pub(in crate::store) fn suspect(connection: &Connection, suspect: bool) -> rusqlite::Result<()> {
    connection.execute("UPDATE clock SET suspect = ?1", [suspect])?;
    Ok(())
}

/// The buckets of a tier that can be read and begin in this period, in their order.
pub(in crate::store) fn readable(
    connection: &Connection,
    tier: Tier,
    period: Period,
) -> rusqlite::Result<Vec<Stored>> {
    connection
        .prepare_cached(&format!(
            "{STORED} WHERE tier = ?1 AND start >= ?2 AND start < ?3 AND state IN (1, 2)
             ORDER BY segment, start"
        ))?
        .query_map(
            params![tier_number(tier), integer(period.from), integer(period.to)],
            stored,
        )?
        .collect()
}

/// The oldest bucket in this state.
pub(in crate::store) fn oldest(
    connection: &Connection,
    state: State,
    tier: Tier,
) -> rusqlite::Result<Option<Stored>> {
    connection
        .prepare_cached(&format!(
            "{STORED} WHERE state = ?1 AND tier = ?2 ORDER BY segment, start LIMIT 1"
        ))?
        .query_row([state as i64, tier_number(tier)], stored)
        .optional()
}

/// Buckets that a coarser one is made from.
pub(in crate::store) fn children(
    connection: &Connection,
    of: Bucket,
) -> rusqlite::Result<Vec<Stored>> {
    let (Some(tier), Some(length)) = (of.tier.finer(), of.tier.length()) else {
        return Ok(Vec::new());
    };
    connection
        .prepare_cached(&format!(
            "{STORED} WHERE state = ?1 AND tier = ?2 AND segment = ?3 AND start >= ?4 AND start < ?5
             ORDER BY segment, start"
        ))?
        .query_map(
            params![
                State::Open as i64,
                tier_number(tier),
                of.segment,
                integer(of.start),
                integer(of.start.saturating_add(length))
            ],
            stored,
        )?
        .collect()
}
