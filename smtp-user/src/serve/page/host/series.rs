//! What a host did, bucket by bucket: a table, and the same figures for the script that draws them.
//!
//! Contract: both are made from the answer of the API. A bucket in which packets were not counted is a gap
//! (`null`), one in which they were and nothing came is 0.

use serde::Serialize;

use crate::model::verdict::Severity;
use crate::report::time::parse_time;
use crate::serve::series::{Limit, Series};

/// Less of a bucket than this was counted: then it is said.
const WHOLE: f64 = 0.995;

/// A bucket as a row.
pub(super) struct Row {
    /// When it begins, in milliseconds since 1970.
    pub(super) start: u64,
    /// `None` in a gap.
    pub(super) counted: Option<Counted>,
}

/// What was counted in a bucket.
pub(super) struct Counted {
    /// In percent, where packets were not counted all the time.
    pub(super) covered: Option<u64>,
    pub(super) connections: u64,
    pub(super) servers: u64,
    pub(super) size: Option<String>,
    pub(super) answered: u64,
    pub(super) refused: u64,
    pub(super) delivered: u64,
    pub(super) rejected: u64,
    pub(super) accepted: u64,
}

/// The rows, the latest first.
pub(super) fn rows(series: &Series) -> Vec<Row> {
    let row = |(place, start): (usize, &u64)| {
        let of = |column: &[Option<u64>]| column.get(place).copied().flatten().unwrap_or(0);
        let share = series.coverage.get(place).copied().unwrap_or(0.0);
        let size = series.bytes_per_packet.get(place).copied().flatten();
        let counted = (share > 0.0).then(|| Counted {
            covered: (share < WHOLE).then(|| (share * 100.0).floor() as u64),
            connections: of(&series.connections),
            servers: of(&series.servers),
            size: size.map(|mean| format!("{mean:.0}")),
            answered: of(&series.answered),
            refused: of(&series.refused),
            delivered: of(&series.delivered),
            rejected: of(&series.rejected),
            accepted: of(&series.accepted),
        });
        Row {
            start: start * 1000,
            counted,
        }
    };
    series.times.iter().enumerate().map(row).rev().collect()
}

/// What the script draws: no more of the answer, since it is in the page.
#[derive(Serialize)]
struct Chart<'a> {
    tier_seconds: u64,
    times: &'a [u64],
    connections: &'a [Option<u64>],
    servers: &'a [Option<u64>],
    bytes_per_packet: Vec<Option<f64>>,
    limits: Vec<&'a Limit>,
    verdicts: Vec<Mark<'a>>,
}

#[derive(Serialize)]
struct Mark<'a> {
    id: u64,
    detector: &'a str,
    severity: Severity,
    /// In seconds since 1970.
    at: u64,
}

/// The figures that are drawn, as JSON.
pub(super) fn chart(series: &Series) -> String {
    let drawn = ["connections", "servers", "bytes_per_packet"];
    let chart = Chart {
        tier_seconds: series.tier_seconds,
        times: &series.times,
        connections: &series.connections,
        servers: &series.servers,
        bytes_per_packet: series
            .bytes_per_packet
            .iter()
            .map(|mean| mean.map(|mean| (mean * 10.0).round() / 10.0))
            .collect(),
        limits: series
            .limits
            .iter()
            .filter(|limit| drawn.contains(&limit.figure))
            .collect(),
        verdicts: series
            .verdicts
            .iter()
            .filter_map(|mark| {
                Some(Mark {
                    id: mark.id,
                    detector: &mark.detector,
                    severity: mark.severity,
                    at: parse_time(&mark.from.0).ok()? / 1000,
                })
            })
            .collect(),
    };
    serde_json::to_string(&chart).unwrap_or_default()
}
