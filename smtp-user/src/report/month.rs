//! The report of a period, which is a month unless somebody asks for another one.
//!
//! Contract: built once from the store, rendered in any form. Its period is told as it was asked for
//! and, where history is no longer kept as finely, as it was really counted.

use std::cmp::Reverse;

use ipnet::IpNet;
use smtp_common::packet::Address;

use super::cases::{Cases, Class};
use super::counts::{self, JsonCounts};
use super::distribution::{Item, ItemDistribution, JsonDistribution};
use super::document::{Document, Table, number, text};
use super::gaps::Gaps;
use super::scorecard::{JsonScorecard, Record, Scorecard};
use super::time::{self, Month};
use super::{SCHEMA, UNKEPT};
use crate::admission::scope;
use crate::answer::answer;
use crate::detect::Policy;
use crate::failure::Failure;
use crate::model::period::{Period, Tier};
use crate::model::verdict::{Verdict, VerdictEvent};
use crate::model::{Counts, Scope};
use crate::store::Reader;

/// Sources that are named.
const TOP: usize = 20;

/// What was counted of sources and pairs in a period.
#[derive(Clone, Debug)]
pub struct Counted {
    /// All together.
    pub totals: Counts,
    /// Addresses with any count, of those that are kept one by one.
    pub sources: u64,
    /// Those with the most connections.
    pub top: Vec<(Address, Counts)>,
    /// Sources by connections.
    pub by_source: ItemDistribution,
    /// Pairs by connections.
    pub by_pair: ItemDistribution,
}

/// The distribution of one kind of item in a period.
pub fn distribution(
    reader: &Reader,
    item: Item,
    period: Period,
) -> Result<ItemDistribution, Failure> {
    let mut sorted = ItemDistribution::empty(item);
    match item {
        Item::Source => reader.sources(period, &mut |address, counts| {
            sorted.add(address != UNKEPT, counts);
        })?,
        Item::Pair => reader.pairs(period, &mut |pair, counts| {
            sorted.add(pair.client != UNKEPT && pair.server != UNKEPT, counts);
        })?,
    }
    Ok(sorted)
}

impl Counted {
    /// What the store has of a period.
    pub fn read(reader: &Reader, period: Period) -> Result<Self, Failure> {
        let mut totals = Counts::default();
        let mut sources = 0;
        let mut top: Vec<(Address, Counts)> = Vec::new();
        let mut sorted = ItemDistribution::empty(Item::Source);
        reader.sources(period, &mut |address, counts| {
            totals.merge(counts);
            let kept = address != UNKEPT;
            sorted.add(kept, counts);
            if !kept {
                return;
            }
            sources += 1;
            if counts.totals.connections == 0 {
                return;
            }
            top.push((address, *counts));
            // Not one sort for each: of a million sources most are pushed and dropped again.
            if top.len() >= 64 * TOP {
                cut(&mut top);
            }
        })?;
        cut(&mut top);
        Ok(Self {
            totals,
            sources,
            top,
            by_source: sorted,
            by_pair: distribution(reader, Item::Pair, period)?,
        })
    }
}

/// Keeps those with the most connections, then packets; of equals those that come first by address.
fn cut(top: &mut Vec<(Address, Counts)>) {
    top.sort_by_key(|(address, counts)| {
        let totals = &counts.totals;
        let place = (!address.is_mapped(), address.octets());
        (Reverse((totals.connections, totals.packets())), place)
    });
    top.truncate(TOP);
}

/// See the module.
#[derive(Clone, Debug)]
pub struct PeriodReport {
    /// The month, if it is of one.
    pub month: Option<Month>,
    /// The period that was asked for.
    pub period: Period,
    /// The period that was really counted.
    pub counted_period: Period,
    /// When the newest window ended.
    pub now: u64,
    /// The operator's own prefixes.
    pub local: Vec<IpNet>,
    /// What was counted.
    pub counted: Counted,
    /// When nothing was.
    pub gaps: Gaps,
    /// Who was flagged.
    pub cases: Cases,
    /// How that compares with what was complained about.
    pub scorecard: Scorecard,
}

impl PeriodReport {
    /// Reads all of it.
    pub fn read(
        reader: &Reader,
        month: Option<Month>,
        period: Period,
        policy: &Policy,
    ) -> Result<Self, Failure> {
        let now = reader.now();
        let record = Record::read(reader, period)?;
        let of_period = |(verdict, _): &&(Verdict, Vec<VerdictEvent>)| {
            verdict.last_at.max(verdict.changed_at) >= period.from
        };
        let verdicts: Vec<_> = record.verdicts.iter().filter(of_period).cloned().collect();
        let cases = Cases::of(&verdicts, period);
        Ok(Self {
            month,
            period,
            counted_period: reader.snap(period),
            now,
            local: policy.local().to_vec(),
            counted: Counted::read(reader, period)?,
            gaps: Gaps::of(&reader.coverage(Tier::Hour, period)?, period, now),
            scorecard: Scorecard::of(&record, period, &cases.hosts, policy),
            cases,
        })
    }

    /// Whether the period is not over yet.
    const fn to_date(&self) -> bool {
        self.now < self.period.to
    }

    fn title(&self) -> String {
        let of = match self.month {
            Some(month) => month.to_string(),
            None => time::period(&self.period),
        };
        if self.to_date() {
            format!("Mail traffic of {of}, to date")
        } else {
            format!("Mail traffic of {of}")
        }
    }

    /// As tables.
    pub fn document(&self) -> Document {
        let Counted {
            totals,
            sources,
            top: _,
            by_source,
            by_pair,
        } = &self.counted;
        let mut notes = vec![format!("period: {}", time::period(&self.period))];
        if self.to_date() {
            notes.push(format!(
                "to date: the newest window ended at {} UTC",
                time::seconds(self.now)
            ));
        }
        if self.counted_period != self.period {
            notes.push(format!(
                "counted: {}, since history is not kept more finely",
                time::period(&self.counted_period)
            ));
        }
        notes.push(self.gaps.sentence());
        if self.local.is_empty() {
            notes.push(super::NOBODY_JUDGED.to_owned());
        }
        let mut facts = vec![
            ("sources", sources.to_string()),
            (
                "sources_that_opened_connections",
                by_source.distribution.items.to_string(),
            ),
            (
                "pairs_of_source_and_server",
                by_pair.distribution.items.to_string(),
            ),
        ];
        facts.extend(counts::facts(totals));
        if let Some(peak) = facts.last_mut() {
            // Of several sources no sum is one.
            peak.0 = "peak_per_second_of_one_source";
        }
        let [reported, reported_by_month, flags] = self.scorecard.tables();
        Document {
            title: self.title(),
            notes,
            tables: vec![
                Table::facts("totals", "totals", &facts),
                Table::facts(
                    "outcomes",
                    "what became of connections, and what was said",
                    &counts::conduct(&totals.sessions),
                ),
                self.cases.classes_table(),
                self.cases.hosts_table(),
                self.cases.repeated_table(),
                self.cases.lives_table(),
                reported,
                reported_by_month,
                flags,
                self.top_table(),
                by_source.table(),
                by_pair.table(),
                self.gaps.table(),
            ],
        }
    }

    fn top_table(&self) -> Table {
        let row = |(address, counts): &(Address, Counts)| {
            let ip = (*address).into();
            let totals = &counts.totals;
            vec![
                std::net::IpAddr::to_string(&ip),
                scope(&self.local, ip).name().to_owned(),
                totals.connections.to_string(),
                totals.answered.to_string(),
                totals.refused.to_string(),
                totals.c2s_packets.to_string(),
                totals.c2s_bytes.to_string(),
                counts::mean(counts),
                counts.sessions.accepted.to_string(),
            ]
        };
        Table {
            name: "top_sources",
            title: format!("the {TOP} sources with the most connections"),
            notes: Vec::new(),
            columns: vec![
                text("source"),
                text("scope"),
                number("connections"),
                number("answered"),
                number("refused"),
                number("c2s_packets"),
                number("c2s_bytes"),
                number("mean_c2s_packet"),
                number("accepted"),
            ],
            rows: self.counted.top.iter().map(row).collect(),
        }
    }

    /// As JSON.
    pub(crate) fn json(&self) -> JsonReport {
        let counted = &self.counted;
        JsonReport {
            schema: SCHEMA,
            month: self.month.map(|month| month.to_string()),
            period: self.period,
            counted_period: self.counted_period,
            to_date: self.to_date(),
            judged: !self.local.is_empty(),
            sources: counted.sources,
            totals: JsonCounts::from(&counted.totals),
            classes: JsonClasses {
                spam: self.cases.count(Class::Spam),
                scan: self.cases.count(Class::Scan),
                open: self.cases.count(Class::Open),
            },
            cases: self.cases.clone(),
            scorecard: self.scorecard.json(),
            top_sources: counted
                .top
                .iter()
                .map(|(address, counts)| JsonSource {
                    addr: (*address).into(),
                    scope: scope(&self.local, (*address).into()),
                    counts: counts.into(),
                })
                .collect(),
            distributions: [&counted.by_source, &counted.by_pair]
                .map(JsonDistribution::from)
                .into(),
            coverage: self.gaps.clone(),
        }
    }
}

answer! {
    /// `/api/v1/reports/{month}`.
    pub(crate) struct JsonReport {
        /// Version of the form of this answer.
        schema: u32,
        /// The month; null for another period.
        month: Option<String>,
        /// The period that was asked for.
        period: Period [Period],
        /// The period that was really counted, as finely as history is kept.
        counted_period: Period [Period],
        /// Whether the period is not over yet.
        to_date: bool,
        /// Whether own hosts are judged; they are not without a list of own prefixes.
        judged: bool,
        /// Sources with any count, of those that are kept one by one.
        sources: u64,
        /// Counts of all of them.
        totals: JsonCounts [JsonCounts],
        /// Flagged hosts by class.
        classes: JsonClasses [JsonClasses],
        /// Flagged hosts, and how verdicts came and went.
        #[serde(flatten)]
        cases: Cases [Cases],
        /// How what was flagged compares with what was complained about.
        scorecard: JsonScorecard [JsonScorecard],
        /// The sources with the most connections.
        top_sources: Vec<JsonSource> [JsonSource],
        /// By source and by pair of client and server.
        distributions: Vec<JsonDistribution> [JsonDistribution],
        /// When packets were counted, and when not.
        coverage: Gaps [Gaps],
    }
}

answer! {
    /// Flagged hosts by class.
    pub(crate) struct JsonClasses {
        /// Hosts that moved mail.
        spam: usize,
        /// Hosts that moved none, or whose connections came to nothing.
        scan: usize,
        /// Hosts whose signs contradict each other, or that give none.
        open: usize,
    }
}

answer! {
    /// A source with its counts.
    pub(crate) struct JsonSource {
        /// Its address.
        addr: std::net::IpAddr,
        /// local, remote, or unknown where no prefixes are configured.
        scope: Scope,
        /// Its counts in the period.
        #[serde(flatten)]
        counts: JsonCounts [JsonCounts],
    }
}
