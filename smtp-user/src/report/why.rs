//! Why a host is flagged, or why not.
//!
//! Contract: the same rules on the same facts as the judge's, read from history. The hour is the one
//! that the newest window is in.

use std::net::IpAddr;

use ipnet::IpNet;
use smtp_common::packet::Address;

use super::document::{Document, Table, number, text};
use super::verdicts::{self, JsonRule, JsonVerdict};
use super::{SCHEMA, time};
use crate::answer::{answer, flatten};
use crate::detect::{Facts, Kept, Policy, REACH};
use crate::failure::{Failure, Kind};
use crate::model::Counts;
use crate::model::period::{Bucket, Coverage, Period, Tier};
use crate::model::prefix::show;
use crate::model::session::Servers;
use crate::model::verdict::{Figure, Holding, Rule, Unjudged, VerdictFilter, Why};
use crate::store::Reader;

const HOUR: u64 = Tier::Hour.length().expect("an hour has a length");

/// Applies the rules to what the store has of an address.
///
/// # Errors
///
/// There is no history yet, or it cannot be read.
pub fn why(reader: &Reader, policy: &Policy, address: IpAddr) -> Result<Why, Failure> {
    let address = address.to_canonical();
    let subject = policy.subject_of(address);
    let now = reader.now();
    let period = Period {
        // A window that ended with an hour is of that hour, as for the judge.
        from: Tier::Hour
            .start_of(now.saturating_sub(1))
            .saturating_sub(REACH as u64 * HOUR),
        to: now,
    };
    let coverage = reader.coverage(Tier::Hour, period)?;
    let Some((running, closed)) = coverage.split_last() else {
        return Err(Failure::new(
            Kind::Failed,
            "there is no history yet: the first window is not over",
        ));
    };
    let running_period = Period {
        from: running.bucket.start,
        to: running.bucket.start + HOUR,
    };
    let members = members(reader, policy, &subject, address, period)?;
    let kept = Gathered::read(reader, &members, period, running, running_period)?;
    let facts = Facts::from_history(&Kept {
        now,
        running: *running,
        closed,
        hours: &kept.hours,
        pairs: &kept.pairs,
        servers: kept.servers,
    });
    let filter = VerdictFilter {
        subject: Some(subject),
        ..VerdictFilter::default()
    };
    let mut verdicts = reader.verdicts(&filter)?;
    verdicts.retain(|verdict| verdict.subject == subject);
    // Who found no place is known to the agent alone, which counts them.
    Ok(policy.why(address, &facts, verdicts, false))
}

struct Gathered {
    hours: Vec<(Bucket, Counts)>,
    pairs: Vec<(crate::model::PairKey, Counts)>,
    servers: Option<Servers>,
}

impl Gathered {
    fn read(
        reader: &Reader,
        members: &[Address],
        period: Period,
        running: &Coverage,
        running_period: Period,
    ) -> Result<Self, Failure> {
        let mut gathered = Self {
            hours: Vec::new(),
            pairs: Vec::new(),
            servers: None,
        };
        for &address in members {
            let hours = reader.series(address, Tier::Hour, period)?;
            let active = hours.iter().any(|(bucket, _)| *bucket == running.bucket);
            gathered.hours.extend(hours);
            if active {
                gathered
                    .pairs
                    .extend(reader.pairs_of(address, running_period)?);
                let servers = reader.servers_of(address, running_period)?;
                // Addresses of one subject may share servers, so no sum of estimates is one.
                gathered.servers = match gathered.servers {
                    Some(other) if other.count >= servers.count => Some(other),
                    _ => Some(servers),
                };
            }
        }
        Ok(gathered)
    }
}

/// The addresses of a subject that were seen. A known relay among others is a subject of its own.
fn members(
    reader: &Reader,
    policy: &Policy,
    subject: &IpNet,
    address: IpAddr,
    period: Period,
) -> Result<Vec<Address>, Failure> {
    if subject.prefix_len() == subject.max_prefix_len() {
        return Ok(vec![address.into()]);
    }
    let mut members = Vec::new();
    reader.sources(period, &mut |address, _| {
        let ip = IpAddr::from(address);
        if subject.contains(&ip) && policy.subject_of(ip) == *subject {
            members.push(address);
        }
    })?;
    Ok(members)
}

/// The document of an answer.
pub fn document(why: &Why) -> Document {
    let Why {
        subject,
        unjudged,
        rules,
        verdicts,
        answer,
    } = why;
    let mut notes = vec![answer.clone()];
    if subject.prefix_len() != subject.max_prefix_len() {
        notes.push(format!(
            "it is judged together with the other addresses of {subject} (detect.ipv6_prefix)"
        ));
    }
    let mut table = rules_table(rules);
    if unjudged.is_some() {
        table
            .notes
            .push("these are its figures all the same".to_owned());
    }
    let mut tables = vec![table];
    if !verdicts.is_empty() {
        tables.push(verdicts::table("its verdicts", verdicts));
    }
    Document {
        title: show(subject),
        notes,
        tables,
    }
}

/// Rules with their figures, one figure to a row.
fn rules_table(rules: &[Rule]) -> Table {
    let mut rows = Vec::new();
    for rule in rules {
        let state = state(rule);
        for (i, figure) in rule.figures.iter().enumerate() {
            let first = i == 0;
            let only = |cell: String| if first { cell } else { String::new() };
            rows.push(vec![
                only(rule.detector.clone()),
                only(rule.severity.name().to_owned()),
                figure.name.clone(),
                value(figure.value),
                limit(figure),
                only(period(&rule.period)),
                only(state.clone()),
            ]);
        }
    }
    Table {
        name: "rules",
        title: "every rule; it holds if all its figures are strictly beyond their limits"
            .to_owned(),
        notes: Vec::new(),
        columns: vec![
            text("detector"),
            text("severity"),
            text("figure"),
            number("value"),
            number("limit"),
            text("period"),
            text("state"),
        ],
        rows,
    }
}

fn state(rule: &Rule) -> String {
    match &rule.holding {
        Holding::Holds => format!("HOLDS: {}", rule.text),
        Holding::Below => "does not hold".to_owned(),
        Holding::NotApplicable(because) => format!("not applicable: {because}"),
    }
}

fn limit(figure: &Figure) -> String {
    let sign = if figure.below { "<" } else { ">" };
    format!("{sign} {}", value(figure.limit))
}

/// A whole number as one, others with up to three decimals.
fn value(value: f64) -> String {
    let rounded = (value * 1000.0).round() / 1000.0;
    rounded.to_string()
}

/// Shorter where it is of one day.
fn period(period: &Period) -> String {
    let (from, to) = (time::minutes(period.from), time::minutes(period.to));
    match (from.split_once(' '), to.split_once(' ')) {
        (Some((day, _)), Some((other, clock))) if day == other => format!("{from} to {clock}"),
        _ => format!("{from} to {to}"),
    }
}

answer! {
    /// The entry of a known relay.
    pub(crate) struct Excuse {
        /// Its prefix.
        entry: String,
        /// Why it is known.
        why: String,
        /// Who answers for it.
        owner: String,
        /// Where the entry comes from: config or store.
        origin: &'static str,
    }
}

answer! {
    /// `/api/v1/sources/{addr}/why`.
    pub(crate) struct JsonWhy {
        /// Version of the form of this answer.
        schema: u32,
        /// Whom it is about: the address, or the prefix that it is judged with.
        subject: String,
        /// The answer in a sentence.
        answer: String,
        /// Whether it has an open verdict.
        flagged: bool,
        /// Why it is not judged at all: no_prefix_list, remote, excused or no_place; null if it is judged.
        unjudged: Option<&'static str>,
        /// The known relay that excuses it, or null.
        excused_by: Option<Excuse> [Excuse],
        /// Every rule, in the order of the detectors.
        rules: Vec<JsonRule> [JsonRule],
        /// Its verdicts, the latest first.
        verdicts: Vec<JsonVerdict> [JsonVerdict],
    }
}

impl From<&Why> for JsonWhy {
    fn from(why: &Why) -> Self {
        let Why {
            subject,
            unjudged,
            rules,
            verdicts,
            answer,
        } = why;
        let excused_by = match unjudged {
            Some(Unjudged::Excused {
                entry,
                why,
                owner,
                origin,
            }) => Some(Excuse {
                entry: entry.to_string(),
                why: why.clone(),
                owner: owner.clone(),
                origin: origin.name(),
            }),
            _ => None,
        };
        Self {
            schema: SCHEMA,
            subject: show(subject),
            answer: answer.clone(),
            flagged: verdicts.iter().any(|verdict| verdict.state.is_open()),
            unjudged: unjudged.as_ref().map(|unjudged| match unjudged {
                Unjudged::NoPrefixList => "no_prefix_list",
                Unjudged::Remote => "remote",
                Unjudged::Excused { .. } => "excused",
                Unjudged::NoPlace => "no_place",
            }),
            excused_by,
            rules: rules.iter().map(JsonRule::from).collect(),
            verdicts: verdicts.iter().map(JsonVerdict::from).collect(),
        }
    }
}

/// Path and meaning of every field of `/api/v1/sources/{addr}/why`.
pub fn why_fields() -> Vec<(String, String)> {
    flatten(JsonWhy::FIELDS)
}
