//! What of the pairs of a client is kept.
//!
//! Contract: at most so many records for a client, [`PAIRS`] in the file, the largest by connections, then packets, then
//! the lowest servers; the others are one record with the server `::`, and the record of the client then
//! has the sketch of all its servers. Where the pairs of a client are all kept and none was dropped
//! before, there is no sketch, and the number of its pairs is that of its servers.

use std::cmp::Reverse;

use super::codec::{Key, Kind, OTHERS, Row, address, rank};
use super::merge::{Chunks, Merge};
use crate::connections::sketch::Sketch;

/// Most pairs of a client with a record of their own.
pub(in crate::store) const PAIRS: usize = 1_024;

/// What a merge gives.
pub(in crate::store) trait Sink<E> {
    fn put(&mut self, kind: Kind, key: Key, row: &Row, sketch: Option<&Sketch>) -> Result<(), E>;
}

/// Puts everything of the next client into the sink, with at most `limit` pairs. `false`: there is no
/// client any more.
pub(in crate::store) fn fold_client<C: Chunks>(
    sources: &mut Merge<C>,
    pairs: &mut Merge<C>,
    limit: usize,
    into: &mut impl Sink<C::Error>,
) -> Result<bool, C::Error> {
    let heads = [sources.peek(), pairs.peek()];
    let Some(client) = heads.into_iter().flatten().map(|key| key.client).min() else {
        return Ok(false);
    };
    let (mut source, mut sketch) = (Row::ZERO, None);
    let known = sources.peek().is_some_and(|key| key.client == client);
    if known {
        sources.next(&mut source, &mut sketch)?;
    }
    let mut kept: Vec<(Key, Row)> = Vec::new();
    let mut others: Option<Row> = None;
    let others_key = Key {
        client,
        server: rank(OTHERS),
    };
    while pairs.peek().is_some_and(|key| key.client == client) {
        let (mut row, mut none) = (Row::ZERO, None);
        let Some(key) = pairs.next(&mut row, &mut none)? else {
            break;
        };
        if key == others_key {
            others.get_or_insert(Row::ZERO).merge(&row);
            continue;
        }
        if let Some(sketch) = &mut sketch {
            sketch.insert(address(key.server));
        }
        kept.push((key, row));
        if kept.len() > 2 * limit {
            narrow(&mut kept, limit, &mut others, &mut sketch);
        }
    }
    if kept.len() > limit {
        narrow(&mut kept, limit, &mut others, &mut sketch);
    }
    kept.sort_unstable_by_key(|(key, _)| *key);
    let place = kept.partition_point(|(key, _)| *key < others_key);
    if let Some(row) = others {
        kept.insert(place, (others_key, row));
    }
    for (key, row) in &kept {
        into.put(Kind::Pairs, *key, row, None)?;
    }
    if known || sketch.is_some() {
        let key = Key { client, server: 0 };
        into.put(Kind::Sources, key, &source, sketch.as_ref())?;
    }
    Ok(true)
}

/// Leaves the largest pairs, and sums the others up.
fn narrow(
    kept: &mut Vec<(Key, Row)>,
    limit: usize,
    others: &mut Option<Row>,
    sketch: &mut Option<Sketch>,
) {
    if sketch.is_none() {
        let mut all = Sketch::default();
        for (key, _) in kept.iter() {
            all.insert(address(key.server));
        }
        *sketch = Some(all);
    }
    kept.select_nth_unstable_by_key(limit, |(key, row)| (Reverse(row.size()), *key));
    let others = others.get_or_insert(Row::ZERO);
    for (_, row) in kept.drain(limit..) {
        others.merge(&row);
    }
}
