//! Notices with all that they need: what verdicts and history say of hosts, whose they are, and the store.
//!
//! Contract: nothing is sent, and nothing counts as made or decided, before the store has it. Whoever dies between
//! two steps loses nothing and tells nothing twice within the hour; what the relay may have by then is sent again
//! under the same Message-ID. It only reads history, beside the agent, and nothing here waits for counting or is waited for by it.

mod hook;
mod notified;
mod run;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::SystemTime;

use ipnet::IpNet;
use serde_json::json;
use smtp_common::packet::Address;

use crate::complaint::KeptMessages;
use crate::config::{Config, Maillog};
use crate::failure::{Failure, Kind};
use crate::maillog::{Figures, watch};
use crate::model::Counts;
use crate::model::notice::{
    Addressee, Book, Facts, LogFacts, Notice, NoticeChange, NoticeEvent, NoticeState, Standing,
    Subject,
};
use crate::model::owner::{Outcome as Answer, Owner};
use crate::model::period::{Period, milliseconds, rfc3339};
use crate::model::sample::Sample;
use crate::model::session::Outcome as Ending;
use crate::model::verdict::{Rule, Severity, Verdict, VerdictFilter, VerdictState};
use crate::notice::{self, Composer, Gate, Plan, Policy, SHIPPED, Sender, queue};
use crate::owner::Desk;
use crate::reading::{Output, Place};
use crate::report::notices as written;
use crate::store::{LatestSamples, NoticeDecision, NoticeLedger, Reader, decide_notice};

pub use self::run::{Looks, run};

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

/// `smtpflow notice list`.
pub fn list(place: &Place, states: &[NoticeState], output: Output) -> Result<String, Failure> {
    let notices = place.reader()?.notices(states)?;
    Ok(output.write(&written::json(&notices), || written::document(&notices)))
}

fn found(place: &Place, id: u64) -> Result<(Notice, Vec<NoticeEvent>), Failure> {
    place.reader()?.notice(id)?.ok_or_else(|| {
        Failure::new(
            Kind::Failed,
            format!(
                "there is no notice {id} in the store {}; `smtpflow notice list` lists them",
                place.config.store.path.display()
            ),
        )
    })
}

/// `smtpflow notice show`.
pub fn show(place: &Place, id: u64, output: Output) -> Result<String, Failure> {
    let (notice, events) = found(place, id)?;
    Ok(output.write(&written::json_of(&notice, &events), || {
        written::document_of(&notice, &events)
    }))
}

/// `smtpflow notice show --message`: as it leaves.
pub fn message(place: &Place, id: u64) -> Result<String, Failure> {
    let (notice, _) = found(place, id)?;
    Ok(String::from_utf8_lossy(&notice.message).into_owned())
}

/// A decision of a person.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Which notices.
    pub ids: Vec<u64>,
    /// What becomes of them: approved or rejected.
    pub to: NoticeState,
    /// Who the person is.
    pub who: String,
    /// Why.
    pub why: String,
}

/// `smtpflow notice approve` and `smtpflow notice reject`.
pub fn decide(place: &Place, decision: &Decision, json: bool) -> Result<String, Failure> {
    let mut decided = Vec::new();
    for id in &decision.ids {
        decided.push(decide_notice(
            &place.config.store.path,
            &NoticeDecision {
                id: *id,
                to: decision.to,
                who: &decision.who,
                why: &decision.why,
                at: milliseconds(SystemTime::now()),
                expires_after: u64::from(place.config.notice.expire_hours) * 3_600_000,
            },
        )?);
    }
    if json {
        return Ok(format!("{}\n", json!(written::json(&decided))));
    }
    let mut text = String::new();
    for notice in &decided {
        let _ = writeln!(text, "notice {} is now {}", notice.id, notice.state);
    }
    Ok(text)
}

/// `smtpflow notice preview`: what would be told now about this host, or about all, as if nothing had been told
/// yet. Nothing is noted and nothing is sent.
pub fn preview(place: &Place, host: Option<IpAddr>, json: bool) -> Result<String, Failure> {
    let config = &place.config;
    let reader = place.reader()?;
    let composer = Composer::new(&config.notice)?;
    let mut policy = policy(config)?;
    policy.settings.enabled = true;
    let mut desk = Desk::new(&config.owner, config.meter.netns.as_deref())?;
    let now = milliseconds(SystemTime::now());
    let mut subjects = subjects(
        &reader,
        &Book::default(),
        &mut desk,
        &logs(&config.maillog),
        &samples(&reader, config, now)?,
    )?;
    if let Some(host) = host {
        let host = host.to_canonical();
        subjects.retain(|subject| subject.facts.host.contains(&host));
        if subjects.is_empty() {
            return Err(Failure::new(
                Kind::Failed,
                format!(
                    "{host} has no open verdict, so there is nothing to tell; `smtpflow why {host}` says why"
                ),
            ));
        }
    }
    let plan = notice::plan(&policy, &composer, &Book::default(), &subjects, now);
    let made = plan.changes.iter().filter_map(|change| match change {
        NoticeChange::Made(notice, _) => Some(notice),
        _ => None,
    });
    let made: Vec<&Notice> = made.collect();
    Ok(match json {
        true => format!("{}\n", written::json_of_preview(&made, &plan.silences)),
        false => written::preview(&made, &plan.silences),
    })
}

/// Who is told what, as the configuration says.
pub fn policy(config: &Config) -> Result<Policy, Failure> {
    Policy::new(config.notice.clone(), config.networks.local.clone())
}

/// `smtpflow notice templates`.
pub fn templates(language: &str) -> Result<String, Failure> {
    let found = SHIPPED.iter().find(|(name, _)| *name == language);
    found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| {
        let names: Vec<_> = SHIPPED.iter().map(|(name, _)| *name).collect();
        Failure::new(
            Kind::Usage,
            format!(
                "no text in {language:?} is shipped: there are {}",
                names.join(", ")
            ),
        )
    })
}

#[cfg(test)]
mod tests;
