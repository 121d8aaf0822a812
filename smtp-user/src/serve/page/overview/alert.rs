//! Who is worst, whether that is new, and what was done: in words.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use ipnet::IpNet;
use smtp_common::packet::Address;

use super::super::super::trend::{DAY, Life, Trend};
use super::super::words;
use crate::archive::Archive;
use crate::failure::Failure;
use crate::model::Snapshot;
use crate::model::period::Period;
use crate::model::person::SMTPFLOW;
use crate::model::prefix::show;
use crate::model::session::Servers;
use crate::model::verdict::{Severity, Verdict, VerdictEvent, VerdictFilter, VerdictState};
use crate::report::cases::Class;
use crate::store::Reader;

/// Hosts that are told of one by one.
const MOST: usize = 5;
/// Bins of the last hour, with the one under way.
const HOUR: usize = 12;

/// A host with open verdicts.
pub(super) struct Alert {
    /// Whom it is about, as people write it.
    pub(super) subject: String,
    /// The host; `None` if it is a whole prefix.
    pub(super) host: Option<IpAddr>,
    pub(super) class: Class,
    pub(super) severity: Severity,
    /// Its connections in the last hour and to how many servers; `None` for a prefix.
    pub(super) hour: Option<(u64, Servers)>,
    /// The worst rule, and the value with which it held.
    pub(super) rule: String,
    pub(super) figure: Option<String>,
    /// Further detectors that flagged it.
    pub(super) others: Vec<String>,
    /// Since when it is flagged, in milliseconds since 1970.
    pub(super) since: u64,
    /// Verdicts about it before those that are open; `None` if it is not known.
    pub(super) before: Option<usize>,
    /// The least that was done about one of them.
    state: VerdictState,
    /// What a person did last about any of them.
    pub(super) acted: Option<VerdictEvent>,
    pub(super) waiting: Waiting,
}

/// What waits for somebody although somebody has acted.
pub(super) enum Waiting {
    Nothing,
    /// One was opened again then, in milliseconds since 1970, and nobody has acted since.
    Again(u64),
    /// Nobody has acted on those of these detectors.
    Others(Vec<String>),
}

/// All that is open, in words.
pub(super) struct News {
    pub(super) class: &'static str,
    pub(super) symbol: &'static str,
    pub(super) headline: String,
    /// What follows from it, where the headline does not say all.
    pub(super) note: Option<String>,
    pub(super) alerts: Vec<Alert>,
    /// Flagged hosts that are not among these.
    pub(super) more: usize,
    /// Whether the headline is about the first of them alone.
    alone: bool,
}

impl News {
    pub(super) fn of(snapshot: &Snapshot, mut alerts: Vec<Alert>) -> Self {
        let summary = &snapshot.verdicts;
        let worst = alerts.first().map(|alert| (alert.class, alert.severity));
        let open: u64 = summary.open.iter().sum();
        let (class, symbol, headline, note) = match worst {
            Some((of, severity)) => {
                let number = alerts.iter().filter(|alert| alert.class == of).count() as u64;
                let (class, symbol) = match severity {
                    Severity::Critical => ("bad", "\u{25b2}"),
                    Severity::Warning => ("warn", "\u{25c6}"),
                    Severity::Notice => ("info", "\u{25cf}"),
                };
                (class, symbol, headline(of, number), None)
            }
            None if !summary.judged => (
                "warn",
                "!",
                "Nobody is judged".to_owned(),
                Some(
                    "smtpflow does not know which hosts are yours: list your own prefixes under \
                     [networks] local in the configuration."
                        .to_owned(),
                ),
            ),
            None if open > 0 => (
                "warn",
                "\u{25c6}",
                words::count(open, "verdict is open", "verdicts are open"),
                None,
            ),
            None => (
                "good",
                "\u{2713}",
                "No host is flagged".to_owned(),
                Some(words::count(
                    summary.subjects,
                    "own host was active in the last hours and was judged.",
                    "own hosts were active in the last hours and were judged.",
                )),
            ),
        };
        let of_worst = |alert: &&Alert| worst.is_some_and(|(class, _)| class == alert.class);
        let alone = alerts.iter().filter(of_worst).count() == 1;
        let more = alerts.len().saturating_sub(MOST);
        alerts.truncate(MOST);
        Self {
            class,
            symbol,
            headline,
            note,
            alerts,
            more,
            alone,
        }
    }

    /// The one that the headline is about.
    pub(super) fn one(&self) -> Option<&Alert> {
        self.alerts.first().filter(|_| self.alone)
    }
}

fn headline(class: Class, number: u64) -> String {
    match class {
        Class::Spam => words::count(
            number,
            "host sends mail like a spammer",
            "hosts send mail like spammers",
        ),
        Class::Scan => words::count(
            number,
            "host scans or floods mail servers",
            "hosts scan or flood mail servers",
        ),
        Class::Open => words::count(
            number,
            "host has unusual mail traffic",
            "hosts have unusual mail traffic",
        ),
    }
}

/// The hosts with open verdicts, with what history knows of them.
pub(super) fn alerts(archive: &Archive, trend: &Trend) -> Result<Vec<Alert>, Failure> {
    let mut alerts = ranked(&trend.lives, trend.now);
    archive.read(|reader| {
        for alert in alerts.iter_mut().take(MOST) {
            alert.complete(reader, trend)?;
        }
        Ok(())
    })?;
    Ok(alerts)
}

/// Likewise where there is no history.
pub(super) fn bare(open: &[Verdict], now: u64) -> Vec<Alert> {
    let life = |verdict: &Verdict| Life {
        verdict: verdict.clone(),
        events: Vec::new(),
    };
    ranked(&open.iter().map(life).collect::<Vec<_>>(), now)
}

/// The worst first; among equals those that nobody has looked at, then the latest.
fn ranked(lives: &[Life], now: u64) -> Vec<Alert> {
    let mut hosts: Vec<(IpNet, Vec<&Life>)> = Vec::new();
    for life in lives {
        let Verdict { subject, state, .. } = &life.verdict;
        if !state.is_open() {
            continue;
        }
        match hosts.iter_mut().find(|(host, _)| host == subject) {
            Some((_, lives)) => lives.push(life),
            None => hosts.push((*subject, vec![life])),
        }
    }
    let mut alerts: Vec<_> = hosts
        .iter()
        .map(|(subject, lives)| Alert::of(*subject, lives, now))
        .collect();
    alerts.sort_by(|a, b| {
        let looked = |alert: &Alert| alert.state != VerdictState::New;
        b.severity
            .cmp(&a.severity)
            .then(looked(a).cmp(&looked(b)))
            .then(b.since.cmp(&a.since))
    });
    alerts
}

impl Alert {
    fn of(subject: IpNet, lives: &[&Life], now: u64) -> Self {
        let verdicts = || lives.iter().map(|life| &life.verdict);
        let worst = verdicts()
            .max_by_key(|verdict| (verdict.severity, verdict.last_at))
            .expect("a host has verdicts");
        let opened = |life: &&Life| life.open(now).last().map(|open| open.from);
        let acted = lives
            .iter()
            .flat_map(|life| &life.events)
            .filter(|event| event.who != SMTPFLOW)
            .max_by_key(|event| event.at);
        let mut others: Vec<_> = verdicts()
            .filter(|verdict| verdict.detector != worst.detector)
            .map(|verdict| verdict.detector.clone())
            .collect();
        others.sort();
        Self {
            subject: show(&subject),
            host: (subject.prefix_len() == subject.max_prefix_len()).then(|| subject.addr()),
            class: Class::of(worst),
            severity: worst.severity,
            hour: None,
            rule: worst.rule.text.clone(),
            // The limit is in the words of the rule.
            figure: worst.rule.figures.first().map(|figure| {
                let value = words::figure(figure.value, &figure.unit);
                match figure.unit.as_str() {
                    "share" => value,
                    unit => format!("{value} {unit}"),
                }
            }),
            others,
            since: lives
                .iter()
                .filter_map(opened)
                .min()
                .unwrap_or(worst.opened_at),
            before: None,
            state: verdicts()
                .map(|verdict| verdict.state)
                .min()
                .unwrap_or(worst.state),
            waiting: Waiting::of(lives, acted.map_or(0, |act| act.at)),
            acted: acted.cloned(),
        }
    }

    /// Whether the last thing that somebody did was to open it again.
    pub(super) fn reopened_by_hand(&self) -> bool {
        let last = self.acted.as_ref();
        last.is_some_and(|act| act.to == VerdictState::New)
    }

    /// What has to be read for it alone.
    fn complete(&mut self, reader: &Reader, trend: &Trend) -> Result<(), Failure> {
        let Some(host) = self.host else {
            return Ok(());
        };
        let hour = Period {
            from: trend.start(2 * DAY - HOUR),
            to: trend.now,
        };
        let client = Address::from(host);
        let pairs = reader.pairs_of(client, hour)?;
        let connections = pairs
            .iter()
            .map(|(_, counts)| counts.totals.connections)
            .sum();
        self.hour = Some((connections, reader.servers_of(client, hour)?));
        let filter = VerdictFilter {
            subject: Some(host.into()),
            ..VerdictFilter::default()
        };
        let all = reader.verdicts(&filter)?;
        let before = all
            .iter()
            .map(|verdict| usize::from(!verdict.state.is_open()) + verdict.reopened as usize);
        self.before = Some(before.sum());
        Ok(())
    }
}

impl Waiting {
    /// Of these verdicts, if somebody acted on one of them last at this time.
    fn of(lives: &[&Life], acted: u64) -> Self {
        let new = || {
            let lives = lives.iter();
            lives.filter(|life| life.verdict.state == VerdictState::New)
        };
        let again = new()
            .filter_map(|life| life.events.last())
            .filter(|event| event.from.is_some() && event.at >= acted)
            .map(|event| event.at)
            .max();
        if let Some(at) = again {
            return Self::Again(at);
        }
        let mut others: Vec<_> = new().map(|life| life.verdict.detector.clone()).collect();
        others.sort();
        others.dedup();
        if others.is_empty() {
            Self::Nothing
        } else {
            Self::Others(others)
        }
    }
}
