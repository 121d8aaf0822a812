//! One host: what it did, to whom, what came of it, and its verdicts.

use std::cmp::Reverse;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;
use smtp_common::packet::Address;

use super::counts::{self, JsonCounts};
use super::document::{Document, Table, number, text};
use super::verdicts::{self, JsonLife};
use super::{SCHEMA, UNKEPT, time};
use crate::admission::scope;
use crate::failure::{Failure, Kind};
use crate::model::period::{Bucket, Period, Tier, rfc3339};
use crate::model::session::Servers;
use crate::model::verdict::{Verdict, VerdictEvent, VerdictFilter};
use crate::model::{Counts, PairKey, Scope};
use crate::store::Reader;

/// Servers that are named.
const TOP: usize = 20;
/// A period up to this long is shown by hours, a longer one by days, in milliseconds.
const BY_HOURS: u64 = 3 * 86_400_000;

/// See the module.
#[derive(Clone, Debug)]
pub struct HostReport {
    /// Whom it is about.
    pub address: IpAddr,
    /// Whether it is the operator's own.
    pub scope: Scope,
    /// The period that was asked for.
    pub period: Period,
    /// The period that was really counted.
    pub counted_period: Period,
    /// All together.
    pub totals: Counts,
    /// How many servers it went to.
    pub servers: Servers,
    /// Its counts by hours or by days.
    pub series: Vec<(Bucket, Counts)>,
    /// Its pairs as a client: those with the most connections first, all that are kept.
    pub pairs: Vec<(PairKey, Counts)>,
    /// Its verdicts, or those of the prefix that it is judged with, of all times, the latest first.
    pub verdicts: Vec<(Verdict, Vec<VerdictEvent>)>,
}

impl HostReport {
    /// Reads all of it.
    ///
    /// # Errors
    ///
    /// Nothing is known of the address in this time.
    pub fn read(
        reader: &Reader,
        address: IpAddr,
        period: Period,
        local: &[IpNet],
    ) -> Result<Self, Failure> {
        let report = Self::gather(reader, address, period, local)?;
        if report.series.is_empty() && report.verdicts.is_empty() {
            let kept = match reader.span() {
                Some(span) => format!("history is kept of {}", time::period(&span)),
                None => "no history is kept yet".to_owned(),
            };
            return Err(Failure::new(
                Kind::Failed,
                format!(
                    "nothing was counted of {} from {}; {kept}, look further back with --since, as \
                     --since 90d",
                    report.address,
                    time::period(&period)
                ),
            ));
        }
        Ok(report)
    }

    /// Reads what there is, which may be nothing.
    pub fn gather(
        reader: &Reader,
        address: IpAddr,
        period: Period,
        local: &[IpNet],
    ) -> Result<Self, Failure> {
        let address = address.to_canonical();
        let client = Address::from(address);
        let tier = if period.length() <= BY_HOURS {
            Tier::Hour
        } else {
            Tier::Day
        };
        let series = reader.series(client, tier, period)?;
        let mut pairs = reader.pairs_of(client, period)?;
        pairs.sort_by_key(|(key, counts)| {
            let totals = &counts.totals;
            let last = key.server == UNKEPT;
            let most = Reverse((totals.connections, totals.packets()));
            (last, most, key.server.octets())
        });
        let filter = VerdictFilter {
            subject: Some(address.into()),
            ..VerdictFilter::default()
        };
        let mut lives = Vec::new();
        for verdict in reader.verdicts(&filter)? {
            let events = reader.verdict_events(verdict.id)?;
            lives.push((verdict, events));
        }
        Ok(Self {
            address,
            scope: scope(local, address),
            period,
            counted_period: reader.snap(period),
            // Not the sum of the series, whose first bucket may begin before the period.
            totals: reader.source(client, period)?,
            servers: reader.servers_of(client, period)?,
            series,
            pairs,
            verdicts: lives,
        })
    }

    /// As tables.
    pub fn document(&self) -> Document {
        let Self {
            address,
            scope,
            period,
            counted_period,
            totals,
            servers,
            series,
            pairs: _,
            verdicts,
        } = self;
        let mut notes = vec![
            format!("scope: {}", scope.name()),
            format!("period: {}", time::period(period)),
        ];
        if counted_period != period {
            notes.push(format!(
                "counted: {}, since history is not kept more finely",
                time::period(counted_period)
            ));
        }
        let open = verdicts
            .iter()
            .filter(|(verdict, _)| verdict.state.is_open());
        notes.push(format!(
            "verdicts: {}, open: {}",
            verdicts.len(),
            open.count()
        ));
        let mut facts = vec![("servers", counts::servers(*servers))];
        facts.extend(counts::facts(totals));
        let by = series
            .first()
            .map_or("hours", |(bucket, _)| match bucket.tier {
                Tier::Day => "days",
                _ => "hours",
            });
        let mut tables = vec![
            Table::facts("totals", "totals", &facts),
            Table::facts(
                "outcomes",
                "what became of its connections, and what was said",
                &counts::conduct(&totals.sessions),
            ),
            Table {
                name: "series",
                title: format!("by UTC {by} in which there was anything"),
                columns: [vec![text("from")], measures()].concat(),
                rows: series
                    .iter()
                    .map(|(bucket, counts)| {
                        [vec![time::minutes(bucket.start)], measured(counts)].concat()
                    })
                    .collect(),
                ..Table::default()
            },
            self.pairs_table(),
        ];
        if !verdicts.is_empty() {
            let all = verdicts.iter().map(|(verdict, _)| verdict);
            tables.push(verdicts::table("verdicts of all times", all));
            let events = verdicts.iter().flat_map(|(_, events)| events);
            tables.push(verdicts::events_table(events));
        }
        Document {
            title: address.to_string(),
            notes,
            tables,
        }
    }

    fn pairs_table(&self) -> Table {
        let row = |(key, counts): &(PairKey, Counts)| {
            let server = if key.server == UNKEPT {
                "(all that are not)".to_owned()
            } else {
                IpAddr::from(key.server).to_string()
            };
            [vec![server], measured(counts)].concat()
        };
        let mut notes = Vec::new();
        let kept = self.pairs.iter().filter(|(key, _)| key.server != UNKEPT);
        let others = self.pairs.iter().filter(|(key, _)| key.server == UNKEPT);
        let all = kept.clone().count();
        if all > TOP {
            notes.push(format!(
                "{TOP} of {all} that are kept one by one, those with the most connections; JSON has all"
            ));
        }
        Table {
            name: "servers",
            title: "servers that it went to".to_owned(),
            notes,
            columns: [vec![text("server")], measures()].concat(),
            rows: kept.take(TOP).chain(others).map(row).collect(),
        }
    }

    /// As JSON.
    pub fn json(&self) -> impl Serialize + use<> {
        JsonHost {
            schema: SCHEMA,
            addr: self.address,
            scope: self.scope,
            period: self.period,
            counted_period: self.counted_period,
            servers: self.servers.count,
            servers_exact: self.servers.exact,
            totals: (&self.totals).into(),
            series: self
                .series
                .iter()
                .map(|(bucket, counts)| JsonBucket {
                    from: rfc3339(bucket.start),
                    tier: bucket.tier.name(),
                    counts: counts.into(),
                })
                .collect(),
            pairs: self
                .pairs
                .iter()
                .map(|(key, counts)| JsonPair {
                    server: (key.server != UNKEPT).then(|| key.server.into()),
                    counts: counts.into(),
                })
                .collect(),
            verdicts: self
                .verdicts
                .iter()
                .map(|(verdict, events)| JsonLife::new(verdict, events))
                .collect(),
        }
    }
}

fn measures() -> Vec<super::document::Column> {
    vec![
        number("connections"),
        number("answered"),
        number("refused"),
        number("c2s_packets"),
        number("c2s_bytes"),
        number("mean_c2s_packet"),
        number("delivered"),
        number("rejected"),
        number("accepted"),
    ]
}

fn measured(counts: &Counts) -> Vec<String> {
    use crate::model::session::Outcome;
    let totals = &counts.totals;
    let outcomes = &counts.sessions.outcomes;
    vec![
        totals.connections.to_string(),
        totals.answered.to_string(),
        totals.refused.to_string(),
        totals.c2s_packets.to_string(),
        totals.c2s_bytes.to_string(),
        counts::mean(counts),
        outcomes.of(Outcome::Delivered).to_string(),
        outcomes.of(Outcome::Rejected).to_string(),
        counts.sessions.accepted.to_string(),
    ]
}

#[derive(Serialize)]
struct JsonHost {
    schema: u32,
    addr: IpAddr,
    scope: Scope,
    period: Period,
    counted_period: Period,
    servers: u64,
    servers_exact: bool,
    totals: JsonCounts,
    series: Vec<JsonBucket>,
    /// Server null stands for those that are not kept one by one.
    pairs: Vec<JsonPair>,
    verdicts: Vec<JsonLife>,
}

#[derive(Serialize)]
struct JsonBucket {
    from: String,
    tier: &'static str,
    #[serde(flatten)]
    counts: JsonCounts,
}

#[derive(Serialize)]
struct JsonPair {
    server: Option<IpAddr>,
    #[serde(flatten)]
    counts: JsonCounts,
}
