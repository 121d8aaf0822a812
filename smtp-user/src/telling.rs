//! Notices with all that they need: what verdicts and history say of hosts, whose they are, and the store.
//!
//! Contract: nothing is sent, and nothing counts as made or decided, before the store has it. Whoever dies between
//! two steps loses nothing and tells nothing twice within the hour; what the relay may have by then is sent again
//! under the same Message-ID. It only reads history, beside the agent, and nothing here waits for counting or is waited for by it.

mod hook;
mod notified;
mod run;
mod verbs;

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use smtp_common::packet::Address;

use crate::complaint::KeptMessages;
use crate::config::{Config, Maillog};
use crate::failure::Failure;
use crate::maillog::{Figures, watch};
use crate::model::Counts;
use crate::model::notice::{
    Addressee, Book, Facts, LogFacts, Notice, NoticeChange, NoticeState, Standing, Subject,
};
use crate::model::owner::{Outcome as Answer, Owner};
use crate::model::period::{Period, rfc3339};
use crate::model::sample::Sample;
use crate::model::session::Outcome as Ending;
use crate::model::verdict::{Rule, Severity, Verdict, VerdictFilter, VerdictState};
use crate::notice::{self, Composer, Gate, Plan, Policy, Sender, queue};
use crate::owner::Desk;
use crate::store::{LatestSamples, NoticeLedger, Reader};

pub use self::run::{Looks, run};
pub use self::verbs::{Decision, decide, list, message, preview, show, templates};

/// The time that is told of, in milliseconds.
const TOLD: u64 = 86_400_000;
/// Addresses of one prefix whose servers are counted one by one.
const MAX_MEMBERS: usize = 256;

/// What there is to know of all hosts with open verdicts and of all in open cases; `logs` is what is known from
/// logs of mail servers, `samples` of messages that somebody has complained about.
///
/// # Errors
///
/// The store cannot be read. That an owner cannot be found is none.
pub fn subjects(
    reader: &Reader,
    book: &Book,
    desk: &mut Desk,
    logs: &BTreeMap<IpAddr, Figures>,
    samples: &LatestSamples,
) -> Result<Vec<Subject>, Failure> {
    let open = VerdictFilter {
        states: VerdictState::ALL
            .into_iter()
            .filter(|state| state.is_open())
            .collect(),
        ..VerdictFilter::default()
    };
    let mut flagged: BTreeMap<IpNet, Vec<Verdict>> = BTreeMap::new();
    for verdict in reader.verdicts(&open)? {
        flagged.entry(verdict.subject).or_default().push(verdict);
    }
    let to = reader.now();
    let period = reader.snap(Period {
        from: to.saturating_sub(TOLD),
        to,
    });
    let counted = counted(reader, flagged.keys().copied().collect(), period)?;
    let mut subjects = Vec::new();
    for (host, verdicts) in &flagged {
        let Some((counts, servers)) = counted.get(host) else {
            continue;
        };
        subjects.push(Subject {
            facts: Facts {
                log: log_facts(*host, logs),
                ..facts(*host, verdicts, period, counts, *servers)
            },
            standing: Standing::Flagged,
            owner: addressee(&desk.owner(host.addr(), false)),
            sample: sample(reader, *host, samples)?,
        });
    }
    for known in book.cases.iter().flat_map(|case| &case.hosts) {
        let host = known.facts.host;
        if flagged.contains_key(&host) {
            continue;
        }
        let of = VerdictFilter {
            subject: Some(host),
            ..VerdictFilter::default()
        };
        let told: Vec<Verdict> = reader
            .verdicts(&of)?
            .into_iter()
            .filter(|verdict| known.facts.verdicts.contains(&verdict.id))
            .collect();
        if told.is_empty() {
            continue;
        }
        let wrong = |verdict: &Verdict| verdict.state == VerdictState::FalsePositive;
        let standing = match told.iter().all(wrong) {
            true => Standing::Mistaken,
            false => Standing::Quiet,
        };
        subjects.push(Subject {
            facts: known.facts.clone(),
            standing,
            owner: None,
            sample: None,
        });
    }
    Ok(subjects)
}

/// The counts of hosts in the period, and their distinct servers.
fn counted(
    reader: &Reader,
    hosts: Vec<IpNet>,
    period: Period,
) -> Result<BTreeMap<IpNet, (Counts, u64)>, Failure> {
    let (single, prefixes): (Vec<IpNet>, Vec<IpNet>) = hosts
        .into_iter()
        .partition(|host| host.prefix_len() == host.max_prefix_len());
    let mut found = BTreeMap::new();
    let addresses: Vec<Address> = single
        .iter()
        .map(|host| Address::from(host.addr()))
        .collect();
    let counts = reader.counts_of_all(&addresses, period)?;
    for ((host, address), counts) in single.into_iter().zip(addresses).zip(counts) {
        let servers = reader.servers_of(address, period)?;
        found.insert(host, (counts, servers.count));
    }
    if prefixes.is_empty() {
        return Ok(found);
    }
    let mut members: Vec<(IpNet, Counts, Vec<Address>)> = prefixes
        .into_iter()
        .map(|prefix| (prefix, Counts::default(), Vec::new()))
        .collect();
    reader.sources(period, &mut |address, counts| {
        let ip = IpAddr::from(address);
        for (prefix, sum, addresses) in &mut members {
            if prefix.contains(&ip) {
                sum.merge(counts);
                if addresses.len() < MAX_MEMBERS {
                    addresses.push(address);
                }
            }
        }
    })?;
    for (prefix, counts, addresses) in members {
        let mut servers = HashSet::new();
        for address in addresses {
            for (pair, _) in reader.pairs_of(address, period)? {
                servers.insert(pair.server);
            }
        }
        found.insert(prefix, (counts, servers.len() as u64));
    }
    Ok(found)
}

fn facts(
    host: IpNet,
    verdicts: &[Verdict],
    period: Period,
    counts: &Counts,
    servers: u64,
) -> Facts {
    let outcomes = &counts.sessions.outcomes;
    let (delivered, rejected) = (
        outcomes.of(Ending::Delivered),
        outcomes.of(Ending::Rejected),
    );
    let times = |of: fn(&Verdict) -> u64| verdicts.iter().map(of);
    Facts {
        host,
        verdicts: verdicts.iter().map(|verdict| verdict.id).collect(),
        rules: verdicts.iter().map(|verdict| rule(&verdict.rule)).collect(),
        severity: verdicts
            .iter()
            .map(|verdict| verdict.severity)
            .max()
            .unwrap_or(Severity::Notice),
        first_at: times(|verdict| verdict.opened_at).min().unwrap_or(0),
        last_at: times(|verdict| verdict.last_at).max().unwrap_or(0),
        period,
        connections: counts.totals.connections,
        // What the server said shows that the client is who it seems to be: see `notice::evidence`.
        conversations: outcomes.of(Ending::Answered) + delivered + rejected,
        delivered,
        rejected,
        packets: counts.totals.c2s_packets,
        bytes: counts.totals.c2s_bytes,
        servers,
        log: None,
    }
}

/// What logs say of the addresses of a host.
fn log_facts(host: IpNet, logs: &BTreeMap<IpAddr, Figures>) -> Option<LogFacts> {
    let (first, last) = (host.network(), host.broadcast());
    let figures = logs.range(first..=last).map(|(_, figures)| figures);
    figures.fold(None, |sum: Option<LogFacts>, figures| {
        let since = u64::try_from(figures.first)
            .unwrap_or(0)
            .saturating_mul(1000);
        let sum = sum.unwrap_or(LogFacts {
            since,
            ..LogFacts::default()
        });
        Some(LogFacts {
            since: sum.since.min(since),
            messages: sum.messages + figures.messages,
            recipients: sum.recipients + figures.recipients,
            rejects: sum.rejects + figures.rejected(),
        })
    })
}

/// What is known from the operator's logs of mail servers; nothing, and a line in the log, if that cannot be read:
/// without it there is still enough to tell.
pub fn logs(config: &Maillog) -> BTreeMap<IpAddr, Figures> {
    watch::known(config).unwrap_or_else(|failure| {
        tracing::warn!("notices say nothing of mail logs: {failure}");
        BTreeMap::new()
    })
}

/// Messages that somebody has complained about, as far as the operator lets them be handed on: the latest of each host.
///
/// # Errors
///
/// The store cannot be read.
pub fn samples(reader: &Reader, config: &Config, now: u64) -> Result<LatestSamples, Failure> {
    match config.complaint.keep {
        KeptMessages::None => Ok(LatestSamples::new()),
        KeptMessages::Headers => reader.samples(config.maillog.addresses, now),
    }
}

/// The latest one of the addresses of a host.
fn sample(
    reader: &Reader,
    host: IpNet,
    samples: &LatestSamples,
) -> Result<Option<Sample>, Failure> {
    let of_host = samples.range(host.network()..=host.broadcast());
    match of_host.map(|(_, complaint)| *complaint).max() {
        Some(complaint) => reader.sample(complaint),
        None => Ok(None),
    }
}

/// A rule with its figures, in one line.
fn rule(rule: &Rule) -> String {
    let figures: Vec<String> = rule
        .figures
        .iter()
        .map(|figure| {
            let value = match figure.value.fract() == 0.0 {
                true => format!("{:.0}", figure.value),
                false => format!("{:.2}", figure.value),
            };
            format!("{} {value}", figure.name)
        })
        .collect();
    format!("{} ({})", rule.text, figures.join(", "))
}

/// Whom the first source that names somebody names.
fn addressee(owner: &Owner) -> Option<Addressee> {
    owner
        .findings
        .iter()
        .find_map(|finding| match &finding.outcome {
            Answer::Found { contact, .. } => Some(Addressee::new(contact, finding.source)),
            Answer::Nobody { .. } | Answer::Failed { .. } => None,
        })
}

/// Makes what there is to make of these, and notes it.
///
/// # Errors
///
/// The store cannot be read or written: then nothing is made.
pub fn look(
    ledger: &NoticeLedger,
    policy: &Policy,
    composer: &Composer,
    subjects: &[Subject],
    now: u64,
) -> Result<Plan, Failure> {
    let book = ledger.book(now)?;
    let plan = notice::plan(policy, composer, &book, subjects, now);
    ledger.write(&plan.changes)?;
    log(&plan.changes);
    Ok(plan)
}

/// Sends what may leave, one by one, and notes what comes of each; gives those that were tried, as they are then.
/// `clock` gives the time in milliseconds since 1970.
///
/// # Errors
///
/// The store cannot be read or written: then nothing more is sent.
pub async fn send(
    ledger: &NoticeLedger,
    policy: &Policy,
    sender: &Sender,
    clock: impl Fn() -> u64,
) -> Result<Vec<Notice>, Failure> {
    let mut tried = Vec::new();
    loop {
        // Anew each time: a person may have decided otherwise, and every message counts for the limits.
        let now = clock();
        let book = ledger.book(now)?;
        let may_leave = |notice: &&&Notice| Gate::of(policy, &book, notice, now) == Gate::Open;
        let Some(notice) = queue(&book).iter().find(may_leave).copied().cloned() else {
            return Ok(tried);
        };
        let begun = notice::before(&notice, now);
        ledger.write(std::slice::from_ref(&begun))?;
        let NoticeChange::Tried(notice) = begun else {
            return Ok(tried);
        };
        let attempt = sender.send(&notice).await;
        let book = ledger.book(clock())?;
        let changes = notice::after(&book, &notice, &attempt, clock());
        ledger.write(&changes)?;
        log(&changes);
        let of_it = changes.into_iter().rev().find_map(|change| match change {
            NoticeChange::Moved(after, _) | NoticeChange::Tried(after) if after.id == notice.id => {
                Some(after)
            }
            _ => None,
        });
        tried.push(of_it.unwrap_or(notice));
        if !attempt.reached {
            // A relay that hangs would do so for every notice that waits.
            return Ok(tried);
        }
    }
}

/// What was noted, for whoever reads the log. Addresses of people are in the store alone.
fn log(changes: &[NoticeChange]) {
    for change in changes {
        match change {
            NoticeChange::Case(_) => {}
            NoticeChange::Made(notice, event) => tracing::info!(
                notice = notice.id,
                kind = notice.kind.name(),
                state = notice.state.name(),
                hosts = notice.hosts.len(),
                "a notice was made: {}",
                event.why
            ),
            NoticeChange::Moved(notice, event) if notice.state == NoticeState::Failed => {
                tracing::warn!(notice = notice.id, "a notice has failed: {}", event.why);
            }
            NoticeChange::Moved(notice, event) => tracing::info!(
                notice = notice.id,
                "a notice is {}: {}",
                notice.state,
                event.why
            ),
            NoticeChange::Tried(notice) => tracing::warn!(
                notice = notice.id,
                attempts = notice.attempts,
                "a notice is tried again after {}: {}",
                rfc3339(notice.next_at),
                notice.last_reply.as_deref().unwrap_or("-")
            ),
        }
    }
}

/// Who is told what, as the configuration says.
pub fn policy(config: &Config) -> Result<Policy, Failure> {
    Policy::new(config.notice.clone(), config.networks.local.clone())
}

#[cfg(test)]
mod tests;
