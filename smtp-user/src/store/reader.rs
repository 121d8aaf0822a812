//! Reads history and verdicts, beside the one who writes.
//!
//! Contract: what a call gives is of one moment. Periods are of windows by when they began; where
//! buckets as fine as a period's ends are no longer kept, it stands for the whole buckets at them:
//! [`Reader::snap`] says for which. The address `::` stands for sources or servers of which nothing
//! is kept one by one. A chunk that is damaged is left out, and said so in the log and by
//! [`Reader::damaged`].

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, params};
use smtp_common::packet::Address;

use super::history::{
    Coarsened, Key, Kind, OTHERS, Row, SHARDS, Stored, address, cover, groups, merge, octets_of,
    rank, read_clock, readable, shard, snap, tier_number, touched,
};
use super::{Trouble, complaints, integer, pass, relays, schema, verdicts};
use crate::failure::{Failure, Kind as FailureKind};
use crate::model::complaint::{ComplaintFilter, StoredComplaint};
use crate::model::period::{Bucket, Coverage, Period, Tier};
use crate::model::relay::{Relay, StoredRelay};
use crate::model::session::Servers;
use crate::model::verdict::{Verdict, VerdictEvent, VerdictFilter};
use crate::model::{Counts, PairKey};

/// How long a look waits for a file that somebody has locked.
const BUSY: Duration = Duration::from_secs(5);

/// From more sources on than this, every record is read instead of searching for each.
const ONE_BY_ONE: usize = if cfg!(test) { 3 } else { 256 };

/// A connection of its own to the store.
pub struct Reader {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    /// How SQLite is to open it.
    pub(super) flags: OpenFlags,
    pub(super) damage: Cell<u64>,
}

impl Reader {
    /// Opens the file of an agent that may be at work. Nothing in it is changed.
    ///
    /// # Errors
    ///
    /// There is none, it cannot be read, it is none of ours or of another version.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        // SQLite does not say why it cannot open a file.
        if let Err(error) = std::fs::File::open(path) {
            let kind = match error.kind() {
                std::io::ErrorKind::PermissionDenied => FailureKind::NoPermission,
                _ => FailureKind::Unavailable,
            };
            return Err(Failure::new(
                kind,
                format!(
                    "cannot read the store {}: {error}; name the file of the agent with --store \
                     (store.path)",
                    path.display()
                ),
            ));
        }
        Self::connect(path, OpenFlags::empty())
    }

    pub(super) fn connect(path: &Path, flags: OpenFlags) -> Result<Self, Failure> {
        let open = || {
            let connection = Connection::open_with_flags(
                path,
                OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | flags,
            )?;
            connection.busy_timeout(BUSY)?;
            connection.set_prepared_statement_cache_capacity(64);
            // The agent may write to no folder for temporary files, see `privilege`.
            connection.execute_batch(
                "PRAGMA query_only = ON; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;",
            )?;
            schema::check_version(&connection)?;
            Ok(connection)
        };
        let connection = open().map_err(|trouble: Trouble| trouble.failure(path))?;
        Ok(Self {
            connection,
            path: path.to_owned(),
            flags,
            damage: Cell::new(0),
        })
    }

    pub(super) fn failure(&self, error: &rusqlite::Error) -> Failure {
        Trouble::from_sqlite(error).failure(&self.path)
    }

    /// Does something on the state of one moment.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Failure> {
        let read = || {
            let transaction = self.connection.unchecked_transaction()?;
            work(&transaction)
        };
        read().map_err(|error| self.failure(&error))
    }

    /// Chunks that were found damaged until now.
    pub fn damaged(&self) -> u64 {
        self.damage.get()
    }

    /// The end of the newest window, in milliseconds since 1970; 0 before the first.
    pub fn now(&self) -> u64 {
        self.read(read_clock).map_or(0, |clock| clock.end)
    }

    /// From the oldest bucket that is kept to the end of the newest window.
    pub fn span(&self) -> Option<Period> {
        let oldest = self.read(|connection| {
            connection.query_row(
                "SELECT min(start) FROM bucket WHERE state IN (1, 2)",
                [],
                |row| row.get::<_, Option<u64>>(0),
            )
        });
        let from = oldest.ok()??;
        Some(Period {
            from,
            to: self.now().max(from),
        })
    }

    /// The period that the counts of this one are really of, as finely as history is still kept.
    pub fn snap(&self, period: Period) -> Period {
        self.read(|connection| snap(connection, period))
            .unwrap_or(period)
    }

    /// For how much of each bucket that the period touches packets were counted. Buckets of which
    /// none was counted are absent.
    pub fn coverage(&self, tier: Tier, period: Period) -> Result<Vec<Coverage>, Failure> {
        let period = touched(period, tier);
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT segment, start, up FROM coverage
                     WHERE tier = ?1 AND start >= ?2 AND start < ?3 ORDER BY segment, start",
                )?
                .query_map(
                    params![tier_number(tier), integer(period.from), integer(period.to)],
                    |row| {
                        Ok(Coverage {
                            bucket: Bucket {
                                tier,
                                segment: row.get(0)?,
                                start: row.get(1)?,
                            },
                            up: Duration::from_millis(row.get(2)?),
                        })
                    },
                )?
                .collect()
        })
    }

    /// What history takes, by tier and kind of record: octets and records of the buckets that begin in
    /// the period.
    pub fn sizes(&self, period: Period) -> Result<Vec<(Tier, &'static str, u64, u64)>, Failure> {
        self.read(|connection| {
            let mut sizes = Vec::new();
            for tier in Tier::ALL {
                let parts = readable(connection, tier, period)?;
                for kind in [Kind::Sources, Kind::Pairs] {
                    let (mut octets, mut records) = (0, 0);
                    for part in &parts {
                        for shard in 0..SHARDS {
                            let one = std::slice::from_ref(part);
                            let all = Key::default();
                            let mut run = merge(connection, one, shard, kind, all, &self.damage)?;
                            while run.next(&mut Row::ZERO.clone(), &mut None)?.is_some() {}
                            records += run.read();
                            octets += octets_of(connection, part.id, shard, kind)?;
                        }
                    }
                    if records > 0 {
                        sizes.push((tier, kind.name(), octets, records));
                    }
                }
            }
            Ok(sizes)
        })
    }

    /// What was left out of the history of a period because there was no room: pairs, sources.
    pub fn coarsened(&self, period: Period) -> Result<Coarsened, Failure> {
        self.read(|connection| {
            let mut coarsened = Coarsened::default();
            for stored in cover(connection, snap(connection, period)?, Tier::Day)? {
                coarsened.pairs |= stored.coarsened.pairs;
                coarsened.sources |= stored.coarsened.sources;
            }
            Ok(coarsened)
        })
    }

    /// The counts of a source in each bucket that the period touches; windows are those that began in
    /// it. Buckets without it are absent, and so are those that are no longer kept as finely.
    pub fn series(
        &self,
        address: Address,
        tier: Tier,
        period: Period,
    ) -> Result<Vec<(Bucket, Counts)>, Failure> {
        self.read(|connection| {
            let mut series = Vec::new();
            for (bucket, parts) in groups(connection, period, tier)? {
                if let Some(row) = self.one(connection, &parts, address)? {
                    series.push((bucket, row.counts()));
                }
            }
            Ok(series)
        })
    }

    /// Every source with its counts in the period, once, in the order of no key.
    pub fn sources(
        &self,
        period: Period,
        each: &mut dyn FnMut(Address, &Counts),
    ) -> Result<(), Failure> {
        self.all(Kind::Sources, period, &mut |key, counts| {
            each(address(key.client), counts);
        })
    }

    /// Every pair with its counts in the period, once, in the order of no key.
    pub fn pairs(
        &self,
        period: Period,
        each: &mut dyn FnMut(PairKey, &Counts),
    ) -> Result<(), Failure> {
        self.all(Kind::Pairs, period, &mut |key, counts| {
            each(pair(key), counts);
        })
    }

    fn all(
        &self,
        kind: Kind,
        period: Period,
        each: &mut dyn FnMut(Key, &Counts),
    ) -> Result<(), Failure> {
        self.read(|connection| pass::all(self, connection, kind, period, each))
    }

    /// The pairs of a client in the period. One with the server `::` sums up those that are not kept.
    pub fn pairs_of(
        &self,
        client: Address,
        period: Period,
    ) -> Result<Vec<(PairKey, Counts)>, Failure> {
        self.read(|connection| {
            let parts = cover(connection, snap(connection, period)?, Tier::Day)?;
            let mut pairs = Vec::new();
            self.each_pair_of(connection, &parts, client, &mut |key, row| {
                pairs.push((pair(key), row.counts()));
            })?;
            Ok(pairs)
        })
    }

    /// The counts of a source in the period; zero if it has none.
    pub fn source(&self, address: Address, period: Period) -> Result<Counts, Failure> {
        self.read(|connection| {
            let parts = cover(connection, snap(connection, period)?, Tier::Day)?;
            let row = self.one(connection, &parts, address)?;
            Ok(row.map_or_else(Counts::default, |row| row.counts()))
        })
    }

    fn each_pair_of(
        &self,
        connection: &Connection,
        parts: &[Stored],
        client: Address,
        each: &mut dyn FnMut(Key, &Row),
    ) -> rusqlite::Result<()> {
        let from = Key {
            client: rank(client),
            server: 0,
        };
        let of = shard(client);
        let mut records = merge(connection, parts, of, Kind::Pairs, from, &self.damage)?;
        let mut row = Row::ZERO;
        while records.peek().is_some_and(|key| key.client == from.client) {
            if let Some(key) = records.next(&mut row, &mut None)? {
                each(key, &row);
            }
        }
        Ok(())
    }

    /// How many servers a client had packets or connections with in the period: exact as long as all
    /// its pairs are kept.
    pub fn servers_of(&self, client: Address, period: Period) -> Result<Servers, Failure> {
        self.read(|connection| {
            let parts = cover(connection, snap(connection, period)?, Tier::Day)?;
            let key = Key {
                client: rank(client),
                server: 0,
            };
            let of = shard(client);
            let mut sources = merge(connection, &parts, of, Kind::Sources, key, &self.damage)?;
            let mut sketch = None;
            if sources.peek() == Some(key) {
                sources.next(&mut Row::ZERO.clone(), &mut sketch)?;
            }
            let mut count = 0;
            self.each_pair_of(connection, &parts, client, &mut |key, _| {
                let server = address(key.server);
                if server == OTHERS {
                    return;
                }
                count += 1;
                if let Some(sketch) = &mut sketch {
                    sketch.insert(server);
                }
            })?;
            let whole = !parts.iter().any(|part| part.coarsened.sources);
            Ok(match sketch {
                Some(sketch) => Servers {
                    count: sketch.estimate().round() as u64,
                    exact: false,
                },
                None => Servers {
                    count,
                    exact: whole,
                },
            })
        })
    }

    /// Every source in each hour that the period touches, hour by hour. Hours that are no longer kept
    /// are absent.
    pub fn hours(
        &self,
        period: Period,
        each: &mut dyn FnMut(Bucket, Address, &Counts),
    ) -> Result<(), Failure> {
        self.read(|connection| {
            for (bucket, parts) in groups(connection, period, Tier::Hour)? {
                for shard in 0..SHARDS {
                    pass::every(
                        connection,
                        &parts,
                        shard,
                        Kind::Sources,
                        &self.damage,
                        &mut |key, counts| {
                            each(bucket, address(key.client), counts);
                        },
                    )?;
                }
            }
            Ok(())
        })
    }

    /// The counts of these sources in the period, in their order; zero for one that has none.
    pub fn counts_of_all(
        &self,
        addresses: &[Address],
        period: Period,
    ) -> Result<Vec<Counts>, Failure> {
        let mut found = vec![Counts::default(); addresses.len()];
        if addresses.len() > ONE_BY_ONE {
            let places = places(addresses);
            self.sources(period, &mut |address, counts| {
                if let Some(place) = places.get(&address) {
                    found[*place] = *counts;
                }
            })?;
            return Ok(found);
        }
        self.read(|connection| {
            let parts = cover(connection, snap(connection, period)?, Tier::Day)?;
            for (address, counts) in addresses.iter().zip(&mut found) {
                if let Some(row) = self.one(connection, &parts, *address)? {
                    *counts = row.counts();
                }
            }
            Ok(found)
        })
    }

    /// The connections of these sources in each hour that the period touches, by the start of the
    /// hour; hours without any are absent.
    pub fn hours_of(
        &self,
        addresses: &[Address],
        period: Period,
    ) -> Result<Vec<BTreeMap<u64, u64>>, Failure> {
        let mut found = vec![BTreeMap::new(); addresses.len()];
        let mut add = |place: usize, bucket: Bucket, connections: u64| {
            if connections != 0 {
                // An hour that came twice is one.
                *found[place].entry(bucket.start).or_default() += connections;
            }
        };
        if addresses.len() > ONE_BY_ONE {
            let places = places(addresses);
            self.hours(period, &mut |bucket, address, counts| {
                if let Some(place) = places.get(&address) {
                    add(*place, bucket, counts.totals.connections);
                }
            })?;
            return Ok(found);
        }
        self.read(|connection| {
            for (bucket, parts) in groups(connection, period, Tier::Hour)? {
                for (place, address) in addresses.iter().enumerate() {
                    if let Some(row) = self.one(connection, &parts, *address)? {
                        add(place, bucket, row.counts().totals.connections);
                    }
                }
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// When the first and the last bucket begin that have a source, as finely as they are needed to
    /// answer for all that is kept: days, and hours, bins and windows of the running one.
    pub fn seen(&self, addresses: &[Address]) -> Result<Vec<Option<(u64, u64)>>, Failure> {
        let Some(span) = self.span() else {
            return Ok(vec![None; addresses.len()]);
        };
        self.read(|connection| {
            let mut parts = cover(connection, snap(connection, span)?, Tier::Day)?;
            parts.sort_unstable_by_key(|part| part.bucket.start);
            let has = |part: &Stored, address| {
                let part = std::slice::from_ref(part);
                Ok::<_, rusqlite::Error>(self.one(connection, part, address)?.is_some())
            };
            addresses
                .iter()
                .map(|address| {
                    let mut first = None;
                    for part in &parts {
                        if has(part, *address)? {
                            first = Some(part.bucket.start);
                            break;
                        }
                    }
                    let Some(first) = first else {
                        return Ok(None);
                    };
                    for part in parts.iter().rev() {
                        if has(part, *address)? {
                            return Ok(Some((first, part.bucket.start)));
                        }
                    }
                    Ok(None)
                })
                .collect()
        })
    }

    /// The record of a source in these buckets together.
    fn one(
        &self,
        connection: &Connection,
        parts: &[Stored],
        source: Address,
    ) -> rusqlite::Result<Option<Row>> {
        let key = Key {
            client: rank(source),
            server: 0,
        };
        let of = shard(source);
        let mut sources = merge(connection, parts, of, Kind::Sources, key, &self.damage)?;
        if sources.peek() != Some(key) {
            return Ok(None);
        }
        let mut row = Row::ZERO;
        sources.next(&mut row, &mut None)?;
        Ok(Some(row))
    }

    /// The verdicts to which the filter applies, the latest first.
    pub fn verdicts(&self, filter: &VerdictFilter) -> Result<Vec<Verdict>, Failure> {
        self.read(|connection| verdicts::list(connection, filter))
    }

    /// The verdicts whose rule held or whose state changed at this time or later, in milliseconds since
    /// 1970, each with what has happened to it, the earliest first.
    pub fn verdicts_with_events(
        &self,
        since: u64,
    ) -> Result<Vec<(Verdict, Vec<VerdictEvent>)>, Failure> {
        let filter = VerdictFilter {
            since: Some(since),
            ..VerdictFilter::default()
        };
        self.read(|connection| {
            let verdicts = verdicts::list(connection, &filter)?.into_iter();
            verdicts
                .map(|verdict| {
                    let events = verdicts::events(connection, verdict.id)?;
                    Ok((verdict, events))
                })
                .collect()
        })
    }

    /// The number of the last event of any verdict, which grows whenever one gets another state; 0
    /// before the first.
    pub fn last_verdict_event(&self) -> Result<u64, Failure> {
        self.read(verdicts::last_event)
    }

    /// A verdict and what has happened to it, the earliest first; `None` if there is none of this
    /// number.
    pub fn verdict(&self, id: u64) -> Result<Option<(Verdict, Vec<VerdictEvent>)>, Failure> {
        self.read(|connection| verdicts::life(connection, id))
    }

    /// All entries of known relays that people have added, the latest first.
    pub fn relays(&self) -> Result<Vec<StoredRelay>, Failure> {
        self.read(relays::list)
    }

    /// Those of them that nobody has ended.
    pub fn active_relays(&self) -> Result<Vec<Relay>, Failure> {
        self.read(relays::active)
    }

    /// The complaints to which the filter applies, the latest first.
    pub fn complaints(&self, filter: &ComplaintFilter) -> Result<Vec<StoredComplaint>, Failure> {
        self.read(|connection| complaints::list(connection, filter))
    }

    /// Shows them one by one, the latest first, so that nobody has to hold all of them.
    pub fn each_complaint(
        &self,
        filter: &ComplaintFilter,
        show: impl FnMut(StoredComplaint),
    ) -> Result<(), Failure> {
        self.read(|connection| complaints::each(connection, filter, show))
    }

    /// The complaint of this number, if there is one.
    pub fn complaint(&self, id: u64) -> Result<Option<StoredComplaint>, Failure> {
        self.read(|connection| complaints::one(connection, id))
    }

    /// What has happened to a verdict, the earliest first.
    pub fn verdict_events(&self, id: u64) -> Result<Vec<VerdictEvent>, Failure> {
        self.read(|connection| verdicts::events(connection, id))
    }
}

/// The place of each in the list.
fn places(addresses: &[Address]) -> HashMap<Address, usize> {
    addresses.iter().copied().zip(0..).collect()
}

const fn pair(key: Key) -> PairKey {
    PairKey {
        client: address(key.client),
        server: address(key.server),
    }
}
