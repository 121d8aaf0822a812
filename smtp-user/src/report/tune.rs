//! What if the limits were others: how many hosts each would have flagged, from stored history, and how
//! that compares with what is on record (`record`).
//!
//! Contract: nothing is guessed. A limit is compared with each hour's counts, strictly, as the
//! detectors do; a subject is counted by hour, and IPv6 addresses together as configured. Only own
//! hosts are looked at, but for known relays; where nobody has said which are own, all are, and the
//! answer says so.

mod record;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;
use smtp_common::packet::Address;
use smtp_common::speech::Speech;

use self::record::Known;
pub use self::record::Score;
use super::document::{Document, Table, number, text};
use super::{SCHEMA, UNKEPT, time};
use crate::detect::Policy;
use crate::failure::Failure;
use crate::model::period::{Bucket, Coverage, Period, Tier};
use crate::model::prefix::show;
use crate::model::verdict::Unjudged;
use crate::model::{Counts, Scope};
use crate::store::Reader;

/// Hosts that are named.
const EXAMPLES: usize = 10;

const HOUR: u64 = Tier::Hour.length().expect("an hour has a length");

/// A count of an hour that a limit can be on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Connections.
    Connections,
    /// MAIL commands.
    Messages,
    /// Distinct servers.
    Servers,
}

impl Measure {
    const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Messages => "messages",
            Self::Servers => "servers",
        }
    }
}

/// A limit to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// On what.
    pub measure: Measure,
    /// A host is flagged in an hour with more.
    pub above: u64,
    /// Whether it is the one in effect.
    pub in_effect: bool,
}

/// What a limit would have flagged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// On what.
    pub measure: Measure,
    /// A host is flagged in an hour with more.
    pub above: u64,
    /// Whether it is the one in effect.
    pub in_effect: bool,
    /// Hosts in any hour.
    pub hosts: u64,
    /// Hours of hosts.
    pub host_hours: u64,
    /// UTC days of hosts: each host once a day.
    pub host_days: u64,
    /// Hosts that the limit in effect would not have flagged.
    pub new_hosts: u64,
    /// Hosts that the limit in effect would have flagged, and this one would not.
    pub lost_hosts: u64,
    /// Some of the new ones, those with the highest hours first.
    pub new_examples: Vec<String>,
    /// How it does on what is on record: complaints, and what people have said of verdicts.
    #[serde(flatten)]
    pub score: Score,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// The period that was looked at, by whole hours.
    pub period: Period,
    /// Hours in it in which packets were counted.
    pub hours: u64,
    /// Hours of these in which they were for less than 90 %.
    pub partial_hours: u64,
    /// UTC days with such hours.
    pub days: u64,
    /// Whether own hosts are known, and others were left out.
    pub own_only: bool,
    /// Hosts that were looked at.
    pub hosts: u64,
    /// Known relays that were left out.
    pub relays: u64,
    /// What each limit would have flagged.
    pub outcomes: Vec<Outcome>,
}

/// What one limit has flagged so far.
#[derive(Default)]
struct Flagged {
    /// With the highest hour of each.
    hosts: HashMap<IpNet, u64>,
    host_hours: u64,
    days: HashSet<(IpNet, u64)>,
    /// The hours of those for whom they are needed, by when they began; nobody else is in it.
    hours: HashMap<IpNet, Vec<u64>>,
}

/// Who is looked at.
struct Subjects<'a> {
    policy: &'a Policy,
    local: &'a [IpNet],
}

impl Subjects<'_> {
    /// As whom an address counts in this hour, and whether a known relay excuses it; `None` if it is
    /// not looked at.
    fn of(&self, address: Address, hour: u64) -> Option<(IpNet, bool)> {
        if address == UNKEPT {
            return None;
        }
        let ip = IpAddr::from(address);
        if crate::admission::scope(self.local, ip) == Scope::Remote {
            return None;
        }
        let subject = self.policy.subject_of(ip);
        let excused = matches!(
            self.policy.unjudged(&subject, hour),
            Some(Unjudged::Excused { .. })
        );
        Some((subject, excused))
    }

    /// The same without those that are excused.
    fn judged(&self, address: Address, hour: u64) -> Option<IpNet> {
        let (subject, excused) = self.of(address, hour)?;
        (!excused).then_some(subject)
    }
}

/// Whether it sent mail, or tried.
const fn sent(counts: &Counts) -> bool {
    counts.totals.connections != 0 || counts.sessions.said.of(Speech::MAIL) != 0
}

/// Tries limits on a period. Each measure has at most one limit in effect.
pub fn tune(
    reader: &Reader,
    policy: &Policy,
    local: &[IpNet],
    limits: &[Limit],
    period: Period,
) -> Result<Tuning, Failure> {
    // An hour counts whole or not at all: a part of it says nothing about an hourly limit.
    let start = Tier::Hour.start_of(period.from);
    let period = Period {
        from: if start < period.from {
            start + HOUR
        } else {
            start
        },
        to: period.to,
    };
    let coverage = reader.coverage(Tier::Hour, period)?;
    let subjects = Subjects { policy, local };
    let mut seen: HashSet<IpNet> = HashSet::new();
    let mut relays: HashSet<IpNet> = HashSet::new();
    reader.sources(period, &mut |address, counts| {
        if !sent(counts) {
            return;
        }
        if let Some((subject, excused)) = subjects.of(address, period.to) {
            let set = if excused { &mut relays } else { &mut seen };
            set.insert(subject);
        }
    })?;
    let least = |measure: Measure| {
        let of_measure = limits.iter().filter(|limit| limit.measure == measure);
        of_measure
            .map(|limit| limit.above)
            .min()
            .unwrap_or(u64::MAX)
    };
    let (least_connections, least_messages) =
        (least(Measure::Connections), least(Measure::Messages));
    let known = Known::read(reader, &subjects, period)?;
    let mut flagged: Vec<Flagged> = limits.iter().map(|_| known.nothing_flagged()).collect();

    let mut current: Option<Bucket> = None;
    let mut of_hour: HashMap<IpNet, (u64, u64)> = HashMap::new();
    reader.hours(period, &mut |bucket, address, counts: &Counts| {
        if current != Some(bucket)
            && let Some(closed) = current.replace(bucket)
        {
            judge(&mut flagged, limits, closed, &mut of_hour);
        }
        let connections = counts.totals.connections;
        let messages = counts.sessions.said.of(Speech::MAIL);
        // One IPv4 address is a subject; most of them pass no limit, and need no look-up.
        let low = connections <= least_connections && messages <= least_messages;
        if !sent(counts) || low && address.is_mapped() {
            return;
        }
        if let Some(subject) = subjects.judged(address, bucket.start) {
            let sums = of_hour.entry(subject).or_default();
            sums.0 = sums.0.saturating_add(connections);
            sums.1 = sums.1.saturating_add(messages);
        }
    })?;
    if let Some(closed) = current {
        judge(&mut flagged, limits, closed, &mut of_hour);
    }
    if limits.iter().any(|limit| limit.measure == Measure::Servers) {
        for covered in &coverage {
            servers(reader, &subjects, covered.bucket, limits, &mut flagged)?;
        }
    }

    let days: BTreeSet<u64> = coverage
        .iter()
        .map(|hour| time::day(hour.bucket.start))
        .collect();
    Ok(Tuning {
        period,
        hours: coverage.len() as u64,
        partial_hours: coverage
            .iter()
            .filter(|hour| Coverage::is_partial(hour))
            .count() as u64,
        days: days.len() as u64,
        own_only: !local.is_empty(),
        hosts: seen.len() as u64,
        relays: relays.len() as u64,
        outcomes: outcomes(limits, &flagged, &known),
    })
}

/// Distinct servers by client in one hour. Servers that are not kept one by one are at least one.
fn servers(
    reader: &Reader,
    subjects: &Subjects<'_>,
    bucket: Bucket,
    limits: &[Limit],
    flagged: &mut [Flagged],
) -> Result<(), Failure> {
    let period = Period {
        from: bucket.start,
        to: bucket.start + HOUR,
    };
    let mut contacted: HashMap<IpNet, HashSet<[u8; 16]>> = HashMap::new();
    reader.pairs(period, &mut |pair, counts| {
        if counts.totals.connections == 0 {
            return;
        }
        if let Some(subject) = subjects.judged(pair.client, bucket.start) {
            let servers = contacted.entry(subject).or_default();
            servers.insert(pair.server.octets());
        }
    })?;
    for (limit, flagged) in limits.iter().zip(flagged) {
        if limit.measure == Measure::Servers {
            for (subject, servers) in &contacted {
                flagged.add(*subject, servers.len() as u64, limit.above, bucket.start);
            }
        }
    }
    Ok(())
}

fn judge(
    flagged: &mut [Flagged],
    limits: &[Limit],
    hour: Bucket,
    of_hour: &mut HashMap<IpNet, (u64, u64)>,
) {
    for (subject, (connections, messages)) in of_hour.drain() {
        for (limit, flagged) in limits.iter().zip(flagged.iter_mut()) {
            match limit.measure {
                Measure::Connections => flagged.add(subject, connections, limit.above, hour.start),
                Measure::Messages => flagged.add(subject, messages, limit.above, hour.start),
                Measure::Servers => {}
            }
        }
    }
}

impl Flagged {
    fn add(&mut self, subject: IpNet, count: u64, above: u64, hour: u64) {
        if count <= above {
            return;
        }
        self.host_hours += 1;
        self.days.insert((subject, time::day(hour)));
        let highest = self.hosts.entry(subject).or_default();
        *highest = count.max(*highest);
        if let Some(hours) = self.hours.get_mut(&subject) {
            hours.push(hour);
        }
    }
}

fn outcomes(limits: &[Limit], flagged: &[Flagged], known: &Known) -> Vec<Outcome> {
    let nothing = Flagged::default();
    let outcome = |(limit, mine): (&Limit, &Flagged)| {
        let in_effect = limits
            .iter()
            .zip(flagged)
            .find(|(other, _)| other.in_effect && other.measure == limit.measure)
            .map_or(&nothing, |(_, flagged)| flagged);
        let mut new: Vec<_> = mine
            .hosts
            .iter()
            .filter(|(subject, _)| !in_effect.hosts.contains_key(*subject))
            .collect();
        new.sort_by_key(|(subject, highest)| (std::cmp::Reverse(**highest), **subject));
        let lost = in_effect
            .hosts
            .keys()
            .filter(|subject| !mine.hosts.contains_key(*subject));
        Outcome {
            measure: limit.measure,
            above: limit.above,
            in_effect: limit.in_effect,
            hosts: mine.hosts.len() as u64,
            host_hours: mine.host_hours,
            host_days: mine.days.len() as u64,
            new_hosts: new.len() as u64,
            lost_hosts: lost.count() as u64,
            new_examples: new
                .iter()
                .take(EXAMPLES)
                .map(|(subject, _)| show(subject))
                .collect(),
            score: known.score(mine),
        }
    };
    limits.iter().zip(flagged).map(outcome).collect()
}

impl Tuning {
    /// Hosts a day in the mean, in thousandths.
    fn per_day(&self, outcome: &Outcome) -> u64 {
        (1000 * outcome.host_days)
            .checked_div(self.days)
            .unwrap_or(0)
    }

    /// As tables.
    pub fn document(&self) -> Document {
        let who = if self.own_only {
            format!(
                "{} own hosts that sent mail; {} known relays are left out",
                self.hosts, self.relays
            )
        } else {
            format!(
                "all {} hosts that sent mail, since it is not known which are yours \
                 (networks.local, or --local PREFIX)",
                self.hosts
            )
        };
        let mut notes = vec![
            format!("period: {}", time::period(&self.period)),
            format!(
                "{} hours on {} days have counts, {} of them with gaps",
                self.hours, self.days, self.partial_hours
            ),
            format!("looked at: {who}"),
        ];
        for outcome in self
            .outcomes
            .iter()
            .filter(|outcome| outcome.new_hosts != 0)
        {
            notes.push(format!(
                "new with more than {} {}: {}{}",
                outcome.above,
                outcome.measure.name(),
                outcome.new_examples.join(", "),
                match outcome.new_hosts - outcome.new_examples.len() as u64 {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                }
            ));
        }
        let row = |outcome: &Outcome| {
            vec![
                outcome.measure.name().to_owned(),
                format!("> {}", outcome.above),
                if outcome.in_effect { "yes" } else { "" }.to_owned(),
                outcome.hosts.to_string(),
                outcome.host_hours.to_string(),
                super::counts::thousandths(self.per_day(outcome)),
                outcome.new_hosts.to_string(),
                outcome.lost_hosts.to_string(),
            ]
        };
        Document {
            title: "What other limits would have flagged".to_owned(),
            notes,
            tables: vec![
                Table {
                    name: "limits",
                    title: "flagged in any UTC hour; new and lost are against the limit in effect"
                        .to_owned(),
                    notes: Vec::new(),
                    columns: vec![
                        text("measure"),
                        number("limit"),
                        text("in_effect"),
                        number("hosts"),
                        number("host_hours"),
                        number("hosts_per_day"),
                        number("new"),
                        number("lost"),
                    ],
                    rows: self.outcomes.iter().map(row).collect(),
                },
                record::table(&self.outcomes),
            ],
        }
    }

    /// As JSON.
    pub fn json(&self) -> impl Serialize + use<'_> {
        JsonTuning {
            schema: SCHEMA,
            period: self.period,
            hours: self.hours,
            partial_hours: self.partial_hours,
            days: self.days,
            own_only: self.own_only,
            hosts: self.hosts,
            relays: self.relays,
            limits: &self.outcomes,
        }
    }
}

#[derive(Serialize)]
struct JsonTuning<'a> {
    schema: u32,
    period: Period,
    hours: u64,
    partial_hours: u64,
    days: u64,
    own_only: bool,
    hosts: u64,
    relays: u64,
    limits: &'a [Outcome],
}
