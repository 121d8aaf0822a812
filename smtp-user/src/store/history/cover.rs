//! Which buckets answer for a period.
//!
//! Contract: each count of the period is in exactly one of them. The coarsest that lie in it are
//! taken, and finer ones at its ends, as far as they are still kept. Counts are those of windows that
//! began in the period.

use std::collections::HashSet;

use rusqlite::Connection;

use super::table::{Stored, readable};
use crate::model::period::{Bucket, Period, Tier};

/// The smallest period around this one which buckets that are kept make up.
pub(in crate::store) fn snap(connection: &Connection, period: Period) -> rusqlite::Result<Period> {
    let mut snapped = period;
    loop {
        let before = snapped;
        // Several segments may have a bucket at that time; the widest decides.
        for whole in around(connection, snapped.from)? {
            snapped.from = snapped.from.min(whole.from);
        }
        for whole in around(connection, snapped.to)? {
            snapped.to = snapped.to.max(whole.to);
        }
        if snapped == before {
            return Ok(snapped);
        }
    }
}

fn whole(bucket: Bucket) -> Period {
    Period {
        from: bucket.start,
        to: bucket
            .start
            .saturating_add(bucket.tier.length().unwrap_or(0)),
    }
}

/// The finest buckets that are kept of this time, where it lies inside of them.
fn around(connection: &Connection, time: u64) -> rusqlite::Result<Vec<Period>> {
    let mut finest = Vec::new();
    for tier in [Tier::Day, Tier::Hour, Tier::Bin] {
        let (Some(length), Some(finer)) = (tier.length(), tier.finer()) else {
            continue;
        };
        if time.is_multiple_of(length) {
            continue;
        }
        let start = tier.start_of(time);
        let here = Period {
            from: start,
            to: start + 1,
        };
        for stored in readable(connection, tier, here)? {
            let finer = readable(connection, finer, whole(stored.bucket))?;
            let parts = finer
                .iter()
                .any(|part| part.bucket.segment == stored.bucket.segment);
            if !parts {
                finest.push(whole(stored.bucket));
            }
        }
    }
    Ok(finest)
}

/// The buckets that answer for a period, none of them coarser than this tier. They are in the order in
/// which they were counted.
pub(in crate::store) fn cover(
    connection: &Connection,
    period: Period,
    coarsest: Tier,
) -> rusqlite::Result<Vec<Stored>> {
    let mut taken: HashSet<Bucket> = HashSet::new();
    let mut cover = Vec::new();
    for tier in Tier::ALL.into_iter().rev().filter(|tier| *tier <= coarsest) {
        for stored in readable(connection, tier, period)? {
            if whole(stored.bucket).to > period.to {
                continue;
            }
            let inside = Tier::ALL
                .into_iter()
                .filter(|coarser| *coarser > tier)
                .any(|coarser| {
                    taken.contains(&Bucket {
                        tier: coarser,
                        segment: stored.bucket.segment,
                        start: coarser.start_of(stored.bucket.start),
                    })
                });
            if !inside {
                cover.push(stored);
            }
        }
        if tier != Tier::Window {
            let of_tier = cover.iter().filter(|stored| stored.bucket.tier == tier);
            taken.extend(of_tier.map(|stored| stored.bucket));
        }
    }
    cover.sort_unstable_by_key(|stored| (stored.bucket.segment, stored.bucket.start, stored.id));
    Ok(cover)
}

/// The same, put together to buckets of this tier, every one that the period touches; windows are
/// those that began in it.
pub(in crate::store) fn groups(
    connection: &Connection,
    period: Period,
    tier: Tier,
) -> rusqlite::Result<Vec<(Bucket, Vec<Stored>)>> {
    let mut groups: Vec<(Bucket, Vec<Stored>)> = Vec::new();
    for stored in cover(connection, touched(period, tier), tier)? {
        let bucket = Bucket {
            tier,
            segment: stored.bucket.segment,
            start: tier.start_of(stored.bucket.start),
        };
        match groups.last_mut() {
            Some((last, parts)) if *last == bucket && tier != Tier::Window => parts.push(stored),
            _ => groups.push((bucket, vec![stored])),
        }
    }
    Ok(groups)
}

/// The period from the begin of the first bucket that it touches to the end of the last.
pub(in crate::store) fn touched(period: Period, tier: Tier) -> Period {
    let Some(length) = tier.length() else {
        return period;
    };
    Period {
        from: tier.start_of(period.from),
        to: match period.to % length {
            0 => period.to,
            more => period.to.saturating_add(length - more),
        },
    }
}
