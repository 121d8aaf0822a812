//! Sources of a period, from history.
//!
//! Contract: of one moment, since the period ends with a window that is over. No more is kept of a
//! source that is not shown than what it is sorted by, unless a figure is asked for that is in no
//! single record: then there is a map of that figure, for the sources that have any.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use ipnet::IpNet;
use smtp_common::packet::Address;

use super::table::{Background, Candidate, Columns};
use super::{Filled, Query, Source, Sources, address_at, place};
use crate::answer::Time;
use crate::failure::Failure;
use crate::model::Counts;
use crate::model::period::{Period, Tier, rfc3339};
use crate::model::session::Servers;
use crate::report::UNKEPT;
use crate::report::gaps::before;
use crate::serve::api::SCHEMA;
use crate::serve::query::Chooser;
use crate::serve::session::Conduct;
use crate::store::Reader;

const HOUR: u64 = Tier::Hour.length().expect("an hour has a length");
/// Hours in the strip.
const HOURS: u64 = 24;

/// Reads what is asked for.
pub(super) fn read(
    query: &Query,
    reader: &Reader,
    local: &[IpNet],
    mut background: Background,
) -> Result<Sources, Failure> {
    let now = reader.now();
    let period = query
        .span
        .period(now)
        .unwrap_or(Period { from: 0, to: now });
    let hours = last_hours(now);
    background.columns = columns(query, reader, period, hours)?;
    let list = &query.list;
    let mut chooser = Chooser::new(list);
    reader.sources(period, &mut |address, counts| {
        if address != UNKEPT {
            chooser.add(
                &Candidate::kept(address, local, counts, &background),
                place(address),
            );
        }
    })?;
    let (chosen, total) = chooser.finish();
    let chosen: Vec<Address> = chosen.into_iter().map(address_at).collect();
    let counts = reader.counts_of_all(&chosen, period)?;
    let filled = if query.fills() {
        fill(reader, &chosen, period, hours)?
    } else {
        chosen.iter().map(|_| Filled::default()).collect()
    };
    let mut sources = Vec::with_capacity(chosen.len());
    for (i, (address, filled)) in chosen.iter().zip(filled).enumerate() {
        let servers = servers_of(query, reader, &background, *address, period)?;
        let conduct = Conduct::new(&counts[i].sessions, servers);
        let candidate = Candidate::kept(*address, local, &counts[i], &background);
        sources.push(Source::new(
            list.offset + i + 1,
            &candidate,
            conduct,
            filled,
        ));
    }
    Ok(Sources {
        schema: SCHEMA,
        period: Some(period.into()),
        counted_period: Some(reader.snap(period).into()),
        total,
        offset: list.offset,
        limit: list.limit,
        sources,
    })
}

/// From the begin of the first of the last 24 hours to the end of the newest window.
fn last_hours(now: u64) -> Period {
    // A window that ended with the hour is of that hour.
    let last = Tier::Hour.start_of(now.saturating_sub(1));
    Period {
        from: last.saturating_sub((HOURS - 1) * HOUR),
        to: now,
    }
}

/// Of how many servers, by one look at all pairs or at those of this source.
fn servers_of(
    query: &Query,
    reader: &Reader,
    background: &Background,
    address: Address,
    period: Period,
) -> Result<Servers, Failure> {
    if query.fills() {
        return reader.servers_of(address, period);
    }
    let known = background.columns.servers.get(&address);
    Ok(Servers {
        count: known.copied().unwrap_or(0),
        exact: !reader.coarsened(period)?.pairs,
    })
}

/// The figures that the list is filtered or sorted by and that are in no single record.
fn columns(
    query: &Query,
    reader: &Reader,
    period: Period,
    hours: Period,
) -> Result<Columns, Failure> {
    let mut columns = Columns::default();
    if query.list.uses("servers") || !query.fills() {
        reader.pairs(period, &mut |pair, _| {
            if pair.server != UNKEPT {
                *columns.servers.entry(pair.client).or_default() += 1;
            }
        })?;
    }
    if query.list.uses("previous_connections")
        && let Some(before) = before(reader, period)?
    {
        let mut previous = HashMap::new();
        reader.sources(before, &mut |address, counts| {
            if counts.totals.connections != 0 {
                previous.insert(address, counts.totals.connections);
            }
        })?;
        columns.previous = Some(previous);
    }
    if query.list.uses("active_hours") {
        reader.hours(hours, &mut |bucket, address, counts| {
            if counts.totals.connections != 0 {
                let hour = bucket.start.saturating_sub(hours.from) / HOUR;
                *columns.active.entry(address).or_default() |= 1 << hour.min(HOURS - 1);
            }
        })?;
    }
    Ok(columns)
}

/// What history knows of these sources beside the period.
fn fill(
    reader: &Reader,
    chosen: &[Address],
    period: Period,
    hours: Period,
) -> Result<Vec<Filled>, Failure> {
    let before = before(reader, period)?;
    let previous = match before {
        Some(before) => reader.counts_of_all(chosen, before)?,
        None => vec![Counts::default(); chosen.len()],
    };
    let mut covered = [false; HOURS as usize];
    for coverage in reader.coverage(Tier::Hour, hours)? {
        let hour = coverage
            .bucket
            .start
            .checked_sub(hours.from)
            .map(|since| since / HOUR);
        let place = hour.and_then(|hour| covered.get_mut(usize::try_from(hour).ok()?));
        if let Some(covered) = place {
            *covered |= !coverage.up.is_zero();
        }
    }
    let strips = reader.hours_of(chosen, hours)?;
    let seen = reader.seen(chosen)?;
    let rows = previous.iter().zip(strips).zip(seen);
    Ok(rows
        .map(|((previous, strip), seen)| Filled {
            previous_connections: before.map(|_| previous.totals.connections),
            hours: Some(
                covered
                    .iter()
                    .zip(0..)
                    .map(|(covered, hour)| {
                        let start = hours.from + hour * HOUR;
                        covered.then(|| strip.get(&start).copied().unwrap_or(0))
                    })
                    .collect(),
            ),
            first_seen: seen.map(|(first, _)| Time(rfc3339(first))),
            last_seen: seen.map(|(_, last)| Time(rfc3339(last))),
        })
        .collect())
}
