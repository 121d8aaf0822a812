//! `/api/v1/series` and `/api/v1/sources/{addr}/series`: counts bucket by bucket, in columns.
//!
//! Contract: one entry in each column for each bucket that the period touches. A bucket in which packets
//! were not counted, or which is no longer kept as finely, is null, never 0; one in which they were and
//! nothing came is 0. What a bucket of the whole network came to is kept when it is over, since it never
//! changes any more.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;
use smtp_common::packet::Address;

use super::App;
use super::api::SCHEMA;
use super::document::{Time, answer, flatten};
use super::openapi::Operation;
use super::problem::Problem;
use super::query::{Params, Span};
use crate::detect::Settings;
use crate::failure::Failure;
use crate::model::Counts;
use crate::model::period::{Period, Tier, rfc3339};
use crate::model::session::Outcome;
use crate::model::verdict::{Severity, Verdict, VerdictFilter, VerdictState};
use crate::report::UNKEPT;
use crate::report::verdicts::JsonPeriod;
use crate::store::Reader;

/// What buckets can be asked for.
const TIERS: [&str; 3] = ["bin", "hour", "day"];
/// The period if nothing is said.
const DEFAULT: Span = Span::Last(86_400_000);
/// Buckets of the whole network that are kept.
const SUMS: usize = 20_000;

answer! {
    /// A limit of a detector for one bucket.
    pub(super) struct Limit {
        /// The detector.
        detector: &'static str,
        /// The column that it is a limit of.
        figure: &'static str,
        /// The limit; a value must be strictly beyond it.
        value: f64,
        /// How bad it is beyond it; null where it only tells small from large.
        severity: Option<Severity>,
    }
}

answer! {
    /// A verdict about the source.
    pub(super) struct Mark {
        /// Its number.
        id: u64,
        /// The detector.
        detector: String,
        /// The worst that was found.
        severity: Severity,
        /// Where it stands.
        state: VerdictState,
        /// When it was opened.
        from: Time,
        /// When it was ended; null while it is open.
        to: Option<Time>,
    }
}

answer! {
    /// `/api/v1/sources/{addr}/series`.
    pub(super) struct Series {
        /// Version of the form of this answer.
        schema: u32,
        /// The address.
        addr: IpAddr,
        /// How long a bucket is: bin (five minutes), hour or day.
        tier: &'static str,
        /// The same in seconds.
        tier_seconds: u64,
        /// The period that was asked for; the buckets are those that it touches.
        period: JsonPeriod [JsonPeriod],
        /// When each bucket begins, in seconds since 1970.
        times: Vec<u64>,
        /// For which share of each bucket, as far as it is over, packets were counted: 0 to 1.
        coverage: Vec<f64>,
        /// Connections opened; null in a gap, likewise for all below.
        connections: Vec<Option<u64>>,
        /// Different servers; one whose number is not exact is estimated.
        servers: Vec<Option<u64>>,
        /// Mean layer-3 length of the packets to servers; null without any as well.
        bytes_per_packet: Vec<Option<f64>>,
        /// Packets sent to a mail port.
        c2s_packets: Vec<Option<u64>>,
        /// Layer-3 bytes of these.
        c2s_bytes: Vec<Option<u64>>,
        /// SYN-ACKs that came back.
        answered: Vec<Option<u64>>,
        /// Resets that came back for a SYN.
        refused: Vec<Option<u64>>,
        /// Connections that ended in the bucket on which a server took a message.
        delivered: Vec<Option<u64>>,
        /// Connections that ended in the bucket on which a server said 5xx and took no message.
        rejected: Vec<Option<u64>>,
        /// Messages that servers took.
        accepted: Vec<Option<u64>>,
        /// New connections per second in the worst window.
        peak_per_second: Vec<Option<f64>>,
        /// The limits that hold for such a bucket.
        limits: Vec<Limit> [Limit],
        /// Its verdicts that were open in the period, or those of the prefix that it is judged with, the latest first.
        verdicts: Vec<Mark> [Mark],
    }
}

answer! {
    /// `/api/v1/series`.
    pub(super) struct NetworkSeries {
        /// Version of the form of this answer.
        schema: u32,
        /// How long a bucket is: bin (five minutes), hour or day.
        tier: &'static str,
        /// The same in seconds.
        tier_seconds: u64,
        /// The period that was asked for; the buckets are those that it touches.
        period: JsonPeriod [JsonPeriod],
        /// When each bucket begins, in seconds since 1970.
        times: Vec<u64>,
        /// For which share of each bucket, as far as it is over, packets were counted: 0 to 1.
        coverage: Vec<f64>,
        /// Connections opened; null in a gap, likewise for all below.
        connections: Vec<Option<u64>>,
        /// Sources with any count, of those that are kept one by one.
        sources: Vec<Option<u64>>,
        /// Packets both ways.
        packets: Vec<Option<u64>>,
        /// Layer-3 bytes of these.
        bytes: Vec<Option<u64>>,
        /// Hosts with a verdict that was open at any time of the bucket.
        flagged: Vec<Option<u64>>,
    }
}

/// Path and meaning of every field of `/api/v1/sources/{addr}/series`.
pub fn series_fields() -> Vec<(String, String)> {
    flatten(Series::FIELDS)
}

/// Path and meaning of every field of `/api/v1/series`.
pub fn network_series_fields() -> Vec<(String, String)> {
    flatten(NetworkSeries::FIELDS)
}

/// Which buckets of which time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// The length of a bucket.
    pub(super) tier: Tier,
    /// The time.
    pub(super) span: Span,
}

impl Query {
    /// Reads the query of a target.
    pub(super) fn parse(uri: &Uri) -> Result<Self, Problem> {
        let mut params = Params::of(uri)?;
        let tier = params.take("tier", &TIERS.join(", "), |text| {
            [Tier::Bin, Tier::Hour, Tier::Day]
                .into_iter()
                .find(|tier| tier.name() == text)
        })?;
        let span = params.take("period", Span::KEPT_ALLOWED, Span::parse_kept)?;
        params.finish()?;
        Ok(Self {
            tier: tier.unwrap_or(Tier::Hour),
            span: span.unwrap_or(DEFAULT),
        })
    }

    fn key(&self) -> String {
        format!("{} {}", self.tier.name(), self.span)
    }
}

/// The buckets of a period and for how much of each packets were counted.
struct Buckets {
    tier: Tier,
    period: Period,
    starts: Vec<u64>,
    coverage: Vec<f64>,
}

impl Buckets {
    fn read(query: Query, reader: &Reader) -> Result<Self, Failure> {
        let now = reader.now();
        let Query { tier, span } = query;
        let period = span.period(now).unwrap_or(Period { from: 0, to: now });
        let length = tier.length().unwrap_or(1);
        let mut up: BTreeMap<u64, u64> = BTreeMap::new();
        for coverage in reader.coverage(tier, period)? {
            // A bucket that came twice, because the clock was set back, is one.
            let milliseconds = u64::try_from(coverage.up.as_millis()).unwrap_or(u64::MAX);
            let of = up.entry(coverage.bucket.start).or_default();
            *of = of.saturating_add(milliseconds);
        }
        let mut starts = Vec::new();
        let mut start = tier.start_of(period.from);
        while start < period.to {
            starts.push(start);
            start += length;
        }
        let share = |start: &u64| {
            let past = now.saturating_sub(*start).min(length);
            let up = up.get(start).copied().unwrap_or(0);
            if past == 0 {
                0.0
            } else {
                (up as f64 / past as f64).min(1.0)
            }
        };
        let coverage = starts.iter().map(share).collect();
        Ok(Self {
            tier,
            period,
            starts,
            coverage,
        })
    }

    fn seconds(&self) -> Vec<u64> {
        self.starts.iter().map(|start| start / 1000).collect()
    }

    fn tier_seconds(&self) -> u64 {
        self.tier.length().unwrap_or(0) / 1000
    }

    fn json(&self) -> JsonPeriod {
        self.period.into()
    }

    /// The part of time of a bucket.
    fn of(&self, start: u64) -> Period {
        Period {
            from: start,
            to: start + self.tier.length().unwrap_or(0),
        }
    }

    /// The buckets in which anything was counted, with their places.
    fn counted(&self) -> impl Iterator<Item = (usize, u64)> {
        let starts = self.starts.iter().copied().enumerate();
        starts.filter(|(place, _)| self.coverage[*place] > 0.0)
    }
}

/// The limits that are drawn at buckets of this tier.
fn limits(tier: Tier, settings: &Settings) -> Vec<Limit> {
    let limit = |detector, figure, value: f64, severity| Limit {
        detector,
        figure,
        value,
        severity,
    };
    let mut limits = vec![limit(
        "size",
        "bytes_per_packet",
        settings.size.bytes.into(),
        None,
    )];
    if tier == Tier::Hour {
        let Settings {
            volume,
            fanout,
            messages,
            ..
        } = settings;
        let servers = f64::from(fanout.servers.get());
        let (notice, warning) = (Some(Severity::Notice), Some(Severity::Warning));
        limits.extend([
            limit("volume", "connections", volume.notice.into(), notice),
            limit("volume", "connections", volume.warning.into(), warning),
            limit("fanout", "servers", servers, warning),
            limit("messages", "accepted", messages.notice.into(), notice),
            limit("messages", "accepted", messages.warning.into(), warning),
        ]);
    }
    let burst = settings.burst.per_second.into();
    limits.push(limit(
        "burst",
        "peak_per_second",
        burst,
        Some(Severity::Warning),
    ));
    limits
}

/// When a verdict was ended, if it was.
const fn end_of(verdict: &Verdict) -> Option<u64> {
    if verdict.state.is_open() {
        None
    } else {
        Some(verdict.changed_at)
    }
}

/// Whether a verdict was open at any time of a period.
fn is_of(verdict: &Verdict, period: &Period) -> bool {
    verdict.opened_at < period.to && end_of(verdict).is_none_or(|end| end >= period.from)
}

impl Series {
    /// What the store has.
    pub(super) fn read(
        query: Query,
        reader: &Reader,
        address: IpAddr,
        settings: &Settings,
    ) -> Result<Self, Failure> {
        let buckets = Buckets::read(query, reader)?;
        let client = Address::from(address);
        let mut found: BTreeMap<u64, Counts> = BTreeMap::new();
        for (bucket, counts) in reader.series(client, buckets.tier, buckets.period)? {
            found.entry(bucket.start).or_default().merge(&counts);
        }
        let mut counted = vec![None; buckets.starts.len()];
        let mut servers = counted.clone();
        let mut counts = vec![None; buckets.starts.len()];
        for (place, start) in buckets.counted() {
            let of_bucket = found.get(&start).copied();
            counted[place] = Some(0);
            servers[place] = Some(match of_bucket {
                Some(_) => reader.servers_of(client, buckets.of(start))?.count,
                None => 0,
            });
            counts[place] = Some(of_bucket.unwrap_or_default());
        }
        let column = |get: fn(&Counts) -> u64| -> Vec<Option<u64>> {
            counts
                .iter()
                .map(|counts| counts.as_ref().map(get))
                .collect()
        };
        let filter = VerdictFilter {
            subject: Some(address.into()),
            ..VerdictFilter::default()
        };
        let verdicts = reader.verdicts(&filter)?;
        Ok(Self {
            schema: SCHEMA,
            addr: address,
            tier: buckets.tier.name(),
            tier_seconds: buckets.tier_seconds(),
            period: buckets.json(),
            times: buckets.seconds(),
            connections: column(|counts| counts.totals.connections),
            servers,
            bytes_per_packet: counts
                .iter()
                .map(|counts| counts.as_ref().and_then(Counts::mean_size))
                .collect(),
            c2s_packets: column(|counts| counts.totals.c2s_packets),
            c2s_bytes: column(|counts| counts.totals.c2s_bytes),
            answered: column(|counts| counts.totals.answered),
            refused: column(|counts| counts.totals.refused),
            delivered: column(|counts| counts.sessions.outcomes.of(Outcome::Delivered)),
            rejected: column(|counts| counts.sessions.outcomes.of(Outcome::Rejected)),
            accepted: column(|counts| counts.sessions.accepted),
            peak_per_second: counts
                .iter()
                .map(|counts| counts.as_ref().map(|counts| counts.peak as f64 / 1000.0))
                .collect(),
            limits: limits(buckets.tier, settings),
            verdicts: verdicts
                .iter()
                .filter(|verdict| is_of(verdict, &buckets.period))
                .map(|verdict| Mark {
                    id: verdict.id,
                    detector: verdict.detector.clone(),
                    severity: verdict.severity,
                    state: verdict.state,
                    from: Time(rfc3339(verdict.opened_at)),
                    to: end_of(verdict).map(|end| Time(rfc3339(end))),
                })
                .collect(),
            coverage: buckets.coverage,
        })
    }
}

/// What a bucket of the whole network came to.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    connections: u64,
    sources: u64,
    packets: u64,
    bytes: u64,
}

/// Sums of buckets that are over, by tier and start. A std mutex: held for a look-up.
#[derive(Default)]
pub(super) struct Sums(Mutex<HashMap<(Tier, u64), Sum>>);

impl Sums {
    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<(Tier, u64), Sum>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sum of a bucket.
    fn of(&self, reader: &Reader, tier: Tier, bucket: Period, now: u64) -> Result<Sum, Failure> {
        if let Some(sum) = self.held().get(&(tier, bucket.from)) {
            return Ok(*sum);
        }
        let mut sum = Sum::default();
        reader.sources(bucket, &mut |address, counts| {
            sum.connections = sum.connections.saturating_add(counts.totals.connections);
            sum.packets = sum.packets.saturating_add(counts.totals.packets());
            sum.bytes = sum.bytes.saturating_add(counts.totals.bytes());
            sum.sources += u64::from(address != UNKEPT);
        })?;
        // A window that begins later is of a later bucket.
        if bucket.to <= now {
            let mut held = self.held();
            if held.len() >= SUMS {
                held.clear();
            }
            held.insert((tier, bucket.from), sum);
        }
        Ok(sum)
    }
}

impl NetworkSeries {
    fn read(query: Query, reader: &Reader, sums: &Sums, open: &[Verdict]) -> Result<Self, Failure> {
        let now = reader.now();
        let buckets = Buckets::read(query, reader)?;
        let mut found = vec![None; buckets.starts.len()];
        for (place, start) in buckets.counted() {
            found[place] = Some(sums.of(reader, buckets.tier, buckets.of(start), now)?);
        }
        let filter = VerdictFilter {
            since: Some(buckets.period.from),
            ..VerdictFilter::default()
        };
        let mut verdicts = reader.verdicts(&filter)?;
        let known: HashSet<u64> = verdicts.iter().map(|verdict| verdict.id).collect();
        let others = open.iter().filter(|verdict| !known.contains(&verdict.id));
        verdicts.extend(others.cloned());
        let flagged = buckets.starts.iter().zip(&found).map(|(start, counted)| {
            counted.as_ref()?;
            let bucket = buckets.of(*start);
            let of_bucket = verdicts.iter().filter(|verdict| is_of(verdict, &bucket));
            let subjects: HashSet<_> = of_bucket.map(|verdict| verdict.subject).collect();
            Some(subjects.len() as u64)
        });
        let flagged = flagged.collect();
        let column = |get: fn(&Sum) -> u64| -> Vec<Option<u64>> {
            found.iter().map(|sum| sum.as_ref().map(get)).collect()
        };
        Ok(Self {
            schema: SCHEMA,
            tier: buckets.tier.name(),
            tier_seconds: buckets.tier_seconds(),
            period: buckets.json(),
            times: buckets.seconds(),
            connections: column(|sum| sum.connections),
            sources: column(|sum| sum.sources),
            packets: column(|sum| sum.packets),
            bytes: column(|sum| sum.bytes),
            flagged,
            coverage: buckets.coverage,
        })
    }
}

/// The series of a source.
pub(super) async fn view(app: &App, address: IpAddr, query: Query) -> Result<Arc<Series>, Problem> {
    let key = format!("series {address} {}", query.key());
    let make = app.look_up(move |archive| {
        let policy = archive.policy();
        archive.read(|reader| Series::read(query, reader, address, policy.settings()))
    });
    let weight = |series: &Series| 200 * series.times.len();
    app.once(&key, weight, make).await
}

/// The series of the whole network.
pub(super) async fn view_network(app: &App, query: Query) -> Result<Arc<NetworkSeries>, Problem> {
    let key = format!("network series {}", query.key());
    let (sums, open) = (app.sums.clone(), app.snapshot().open.clone());
    let make = app.look_up(move |archive| {
        archive.read(|reader| NetworkSeries::read(query, reader, &sums, &open))
    });
    let weight = |series: &NetworkSeries| 120 * series.times.len();
    app.once(&key, weight, make).await
}

pub(super) async fn source(
    State(app): State<App>,
    Path(address): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let address = super::source::address(&address)?;
    let query = Query::parse(&uri)?;
    let key = format!("series {address} {}", query.key());
    app.json_once(&key, view(&app, address, query)).await
}

pub(super) async fn network(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri)?;
    let key = format!("network series {}", query.key());
    app.json_once(&key, view_network(&app, query)).await
}

pub(super) fn operations() -> Vec<Operation> {
    let of = |operation: Operation| {
        operation
            .choice("tier", "The length of a bucket.", &TIERS, "hour")
            .period(false, "24h")
    };
    vec![
        of(Operation::get(
            "/api/v1/sources/{addr}/series",
            "series",
            "What a source did, bucket by bucket",
        ))
        .address()
        .json::<Series>(),
        of(Operation::get(
            "/api/v1/series",
            "network_series",
            "What the whole network did, bucket by bucket",
        ))
        .json::<NetworkSeries>(),
    ]
}
