//! What a host did, hour by hour: a table, and the same figures for the script that draws them.
//!
//! Contract: every bucket of the period is there, also one without an end yet; one in which packets
//! were not counted is a gap (`null`), one in which they were and nothing came is 0.

use std::collections::BTreeMap;

use serde::Serialize;
use smtp_common::packet::Address;

use super::heat::by_start;
use crate::detect::Settings;
use crate::failure::Failure;
use crate::model::Counts;
use crate::model::period::{Period, Tier};
use crate::model::session::Outcome;
use crate::model::verdict::Verdict;
use crate::store::Reader;

/// See the module.
pub(super) struct Series {
    pub(super) tier: Tier,
    pub(super) rows: Vec<Row>,
    /// For the script, as JSON.
    pub(super) chart: String,
}

pub(super) struct Row {
    pub(super) start: u64,
    /// `None` in a gap.
    pub(super) counted: Option<Counted>,
}

pub(super) struct Counted {
    /// In percent, where packets were not counted all the time.
    pub(super) covered: Option<u64>,
    pub(super) connections: u64,
    pub(super) servers: u64,
    pub(super) size: Option<String>,
    pub(super) delivered: u64,
    pub(super) rejected: u64,
    pub(super) refused: u64,
    pub(super) unknown: u64,
}

#[derive(Serialize)]
struct Chart {
    tier_seconds: u64,
    times: Vec<u64>,
    connections: Vec<Option<u64>>,
    servers: Vec<Option<u64>>,
    bytes_per_packet: Vec<Option<f64>>,
    /// Lines in the charts: the limits of an hour.
    limits: Vec<Limit>,
    verdicts: Vec<Mark>,
}

#[derive(Serialize)]
struct Limit {
    figure: &'static str,
    severity: &'static str,
    value: f64,
}

#[derive(Serialize)]
struct Mark {
    id: u64,
    detector: String,
    severity: &'static str,
    at: u64,
}

impl Series {
    /// Of the buckets that the period touches.
    pub(super) fn read(
        reader: &Reader,
        client: Address,
        tier: Tier,
        period: Period,
        settings: &Settings,
        verdicts: &[&Verdict],
    ) -> Result<Self, Failure> {
        let length = tier.length().unwrap_or(1);
        let up = by_start(&reader.coverage(tier, period)?);
        let mut found: BTreeMap<u64, Counts> = BTreeMap::new();
        for (bucket, counts) in reader.series(client, tier, period)? {
            found.entry(bucket.start).or_default().merge(&counts);
        }
        let mut rows = Vec::new();
        let mut start = tier.start_of(period.from);
        while start < period.to {
            let past = (period.to - start).min(length);
            let counted = match up.get(&start).filter(|up| **up > 0) {
                None => None,
                Some(up) => {
                    let counts = found.get(&start).copied().unwrap_or_default();
                    let servers = if counts == Counts::default() {
                        0
                    } else {
                        let bucket = Period {
                            from: start,
                            to: start + length,
                        };
                        reader.servers_of(client, bucket)?.count
                    };
                    Some(Counted::new(&counts, servers, *up as f64 / past as f64))
                }
            };
            rows.push((Row { start, counted }, found.get(&start).copied()));
            start += length;
        }
        let chart = chart(&rows, tier, settings, verdicts, period);
        Ok(Self {
            tier,
            rows: rows.into_iter().map(|(row, _)| row).rev().collect(),
            chart: serde_json::to_string(&chart).unwrap_or_default(),
        })
    }
}

impl Counted {
    fn new(counts: &Counts, servers: u64, share: f64) -> Self {
        let of = |outcome| counts.sessions.outcomes.of(outcome);
        Self {
            covered: (share < 0.995).then(|| (share * 100.0).floor() as u64),
            connections: counts.totals.connections,
            servers,
            size: counts.mean_size().map(|mean| format!("{mean:.0}")),
            delivered: of(Outcome::Delivered),
            rejected: of(Outcome::Rejected),
            refused: of(Outcome::Refused),
            unknown: of(Outcome::Unknown),
        }
    }
}

fn chart(
    rows: &[(Row, Option<Counts>)],
    tier: Tier,
    settings: &Settings,
    verdicts: &[&Verdict],
    period: Period,
) -> Chart {
    let limits = match tier {
        // The limits are of hours.
        Tier::Hour => vec![
            Limit {
                figure: "connections",
                severity: "notice",
                value: settings.volume.notice.into(),
            },
            Limit {
                figure: "connections",
                severity: "warning",
                value: settings.volume.warning.into(),
            },
            Limit {
                figure: "servers",
                severity: "warning",
                value: settings.fanout.servers.get().into(),
            },
            Limit {
                figure: "bytes_per_packet",
                severity: "notice",
                value: settings.size.bytes.into(),
            },
        ],
        _ => Vec::new(),
    };
    Chart {
        tier_seconds: tier.length().unwrap_or(0) / 1000,
        times: rows.iter().map(|(row, _)| row.start / 1000).collect(),
        connections: counted(rows, |row| row.connections),
        servers: counted(rows, |row| row.servers),
        bytes_per_packet: rows
            .iter()
            .map(|(_, counts)| {
                let mean = counts.as_ref().and_then(Counts::mean_size)?;
                Some((mean * 10.0).round() / 10.0)
            })
            .collect(),
        limits,
        verdicts: verdicts
            .iter()
            .filter(|verdict| period.contains(verdict.opened_at))
            .map(|verdict| Mark {
                id: verdict.id,
                detector: verdict.detector.clone(),
                severity: verdict.severity.name(),
                at: verdict.opened_at / 1000,
            })
            .collect(),
    }
}

fn counted(rows: &[(Row, Option<Counts>)], of: impl Fn(&Counted) -> u64) -> Vec<Option<u64>> {
    rows.iter()
        .map(|(row, _)| row.counted.as_ref().map(&of))
        .collect()
}
