//! The report as JSON of schema 1.

use serde::Serialize;
use serde::ser::Serializer;
use smtp_common::counter::Skip;
use smtp_common::flow::Totals;

use super::conduct::JsonConduct;
use super::{Account, Report, SCHEMA};
use crate::distribution::{Distribution, Row};
use crate::model::session::{ClientRow, FlowSummary};
use crate::model::{FlowTally, Tally};
use crate::report::counts;
use crate::report::verdicts::JsonVerdict;

/// The report as JSON: what is long is serialised from where it stands.
#[derive(Serialize)]
pub(super) struct JsonReport<'a> {
    schema: u32,
    file: String,
    frames: u64,
    windows: u64,
    #[serde(serialize_with = "skips")]
    skipped: &'a Tally,
    totals: JsonTotals,
    overflow: JsonOverflow,
    flows: JsonFlows,
    #[serde(serialize_with = "sources")]
    sources: &'a Account,
    #[serde(serialize_with = "rows")]
    distribution: &'a Distribution,
    /// Whether own hosts are known, and so judged.
    judged: bool,
    verdicts: Vec<JsonVerdict>,
    complete: bool,
}

#[derive(Serialize)]
struct JsonOverflow {
    packets: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct JsonSource {
    addr: std::net::IpAddr,
    #[serde(flatten)]
    totals: JsonTotals,
    #[serde(flatten)]
    conduct: JsonConduct,
    servers: u64,
    servers_exact: bool,
}

#[derive(Serialize)]
struct JsonFlows {
    segments: u64,
    packets: u64,
    bytes: u64,
    refused_packets: u64,
    refused_bytes: u64,
    #[serde(flatten)]
    conduct: JsonConduct,
    pairs: u64,
}

impl JsonFlows {
    fn new(tally: &FlowTally, summary: &FlowSummary) -> Self {
        let FlowTally {
            segments,
            segment_bytes: _,
            packets,
            bytes,
            refused_packets,
            refused_bytes,
        } = *tally;
        Self {
            segments,
            packets,
            bytes,
            refused_packets,
            refused_bytes,
            conduct: (&summary.sessions).into(),
            pairs: summary.pairs,
        }
    }
}

#[derive(Serialize)]
struct JsonRow {
    from: u64,
    to: Option<u64>,
    items: u64,
    item_share: f64,
    connections: u64,
    bytes: u64,
    byte_share: f64,
    cumulative_share: f64,
}

/// The eight counts under their names.
struct JsonTotals(Totals);

impl Serialize for JsonTotals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(counts::totals(&self.0))
    }
}

impl<'a> From<&'a Report<'a>> for JsonReport<'a> {
    fn from(report: &'a Report<'a>) -> Self {
        let tally = &report.account.tally;
        Self {
            schema: SCHEMA,
            file: report.file.display().to_string(),
            frames: tally.frames,
            windows: report.account.windows,
            skipped: tally,
            totals: JsonTotals(report.account.totals()),
            overflow: JsonOverflow {
                packets: tally.overflow.packets(),
                bytes: tally.overflow.bytes(),
            },
            flows: JsonFlows::new(&tally.flows, &report.account.connections.summary()),
            sources: &report.account,
            distribution: &report.distribution,
            judged: report.account.judged.judges(),
            verdicts: report.account.judged.json(),
            complete: report.complete,
        }
    }
}

fn skips<S: Serializer>(tally: &&Tally, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(Skip::ALL.map(|skip| (skip.name(), tally.skipped(skip))))
}

fn sources<S: Serializer>(account: &&Account, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(account.sources.iter().map(|source| {
        let ClientRow { sessions, servers } = account.client(source);
        JsonSource {
            addr: source.ip(),
            totals: JsonTotals(source.totals),
            conduct: (&sessions).into(),
            servers: servers.count,
            servers_exact: servers.exact,
        }
    }))
}

fn rows<S: Serializer>(table: &&Distribution, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(table.rows.iter().map(|row: &Row| JsonRow {
        from: row.from,
        to: row.to,
        items: row.items,
        item_share: table.item_share(row),
        connections: row.connections,
        bytes: row.bytes,
        byte_share: table.byte_share(row),
        cumulative_share: table.cumulative_share(row),
    }))
}
