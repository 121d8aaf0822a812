//! History: what was counted when, by source and by pair.
//!
//! Contract: what a window adds is in the file with the window's totals, in one transaction, or not at
//! all. Later it is merged into bins of five minutes, those into hours, and these into days; every
//! count is in exactly one bucket that is read, whatever was cut short in between. Sums are never
//! changed by that: only the pairs of clients with more than [`fold::PAIRS`] servers are summed up, and
//! the number of servers is an estimate then.
//!
//! Counts are kept as sorted runs of records in chunks of a page, not as rows, which would be several
//! times as large and as slow.
//!
//! `codec`: records in octets; `clock`: where windows are put in time; `run`: what a window adds;
//! `merge`: several runs as one; `fold`: what of pairs is kept; `table`: the tables in the file;
//! `tidy`: the work between windows; `cover`: which buckets answer for a period.

mod clock;
mod codec;
mod cover;
mod fold;
mod merge;
mod run;
mod table;
#[cfg(test)]
pub(super) mod tests;
mod tidy;

use std::cell::Cell;

use rusqlite::Connection;

pub use self::clock::{Clock, Retention, Span};
pub(super) use self::codec::{Key, Kind, OTHERS, Row, SHARDS, address, rank, shard};
pub(super) use self::cover::{cover, groups, snap, touched};
pub(super) use self::merge::Client;
use self::merge::Merge;
pub use self::run::Coarsened;
pub(super) use self::run::{Order, Run, order};
pub(super) use self::table::{
    InFile, Stored, TABLES, is_suspect, octets_of, put_run, read_clock, readable, suspect,
    tier_number, write_clock,
};
pub(super) use self::tidy::step;

/// The records of one shard in several buckets as one run, from this key on.
pub(super) fn merge<'c>(
    connection: &'c Connection,
    parts: &[Stored],
    shard: u8,
    kind: Kind,
    from: Key,
    damage: &'c Cell<u64>,
) -> rusqlite::Result<Merge<InFile<'c>>> {
    let runs: rusqlite::Result<Vec<_>> = parts
        .iter()
        .map(|part| {
            let range = table::Range::new(part.id, shard, kind);
            InFile::new(connection, range, from.client, damage)
        })
        .collect();
    Merge::new(kind, runs?, from)
}
