//! What a period's verdicts come to: hosts by class, repeat offenders, how verdicts ended.
//!
//! Contract: pure, from verdicts and their events. A verdict that was called a false positive
//! accuses nobody: it is counted as such and otherwise left out.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::Serialize;

use super::document::{Table, number, text};
use super::time;
use crate::answer::answer;
use crate::model::period::Period;
use crate::model::prefix::show;
use crate::model::verdict::{Severity, SizeClass, Verdict, VerdictEvent, VerdictState};

/// What a host was flagged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// It moved mail: packets of 100 bytes and more in the mean, and most of its connections came to
    /// something.
    Spam,
    /// It moved none: small packets; or nothing is known of its packets, and its connections came to
    /// nothing.
    Scan,
    /// The signs contradict each other, as large packets on connections that failed, or there are
    /// none.
    Open,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Spam, Self::Scan, Self::Open];

    /// As people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spam => "spam",
            Self::Scan => "SYN flood or scan",
            Self::Open => "open case",
        }
    }

    /// Of one verdict.
    pub const fn of(verdict: &Verdict) -> Self {
        match (verdict.size, verdict.failing) {
            (Some(SizeClass::Large), false) => Self::Spam,
            (Some(SizeClass::Small), _) | (None, true) => Self::Scan,
            (Some(SizeClass::Large), true) | (None, false) => Self::Open,
        }
    }
}

answer! {
    /// A flagged host.
    #[derive(Clone, PartialEq, Eq)]
    pub struct Host {
        /// Whom the verdicts are about: an address, or the prefix that is judged as one.
        #[serde(serialize_with = "shown")]
        subject: IpNet,
        /// What for: the class of all its verdicts, or an open case where they differ.
        class: Class,
        /// The worst of its verdicts.
        severity: Severity,
        /// The detectors that flagged it.
        detectors: BTreeSet<String>,
        /// How many verdicts there are.
        verdicts: u64,
        /// How often one was opened, or opened again.
        openings: u64,
        /// UTC days on which one was opened or its rule held last.
        days: u64,
        /// Whether it offended more than once: on more than one day, or again after it was over.
        repeated: bool,
    }
}

fn shown<S: serde::Serializer>(subject: &IpNet, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&show(subject))
}

answer! {
    /// How verdicts came and went.
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    pub struct Lives {
        /// Opened for the first time.
        opened: u64,
        /// Opened again.
        reopened: u64,
        /// Resolved, by quiet or by a person.
        resolved: u64,
        /// Called false positives.
        false_positives: u64,
        /// Open at the end.
        open: u64,
        /// How long it took in the mean from the last opening until a verdict was resolved, in
        /// milliseconds; of those that were resolved.
        mean_milliseconds_to_resolve: Option<u64>,
    }
}

answer! {
    /// What a period's verdicts come to.
    #[derive(Clone, Default, PartialEq, Eq)]
    pub struct Cases {
        /// The flagged hosts: by class, the worst first.
        hosts: Vec<Host> [Host],
        /// How their verdicts came and went.
        lives: Lives [Lives],
    }
}

#[derive(Default)]
struct Gathered {
    classes: BTreeSet<Class>,
    severity: Option<Severity>,
    detectors: BTreeSet<String>,
    verdicts: u64,
    openings: u64,
    days: BTreeSet<u64>,
    again: bool,
}

impl Cases {
    /// Of a period, from verdicts with their events, the earliest event first.
    pub fn of(verdicts: &[(Verdict, Vec<VerdictEvent>)], period: Period) -> Self {
        let mut hosts: BTreeMap<IpNet, Gathered> = BTreeMap::new();
        let mut lives = Lives::default();
        let mut to_resolve: Vec<u64> = Vec::new();
        for (verdict, events) in verdicts {
            let mut opened_at = verdict.opened_at;
            let mut at_end = None;
            let mut openings = Vec::new();
            for event in events.iter().filter(|event| event.at < period.to) {
                let inside = period.contains(event.at);
                at_end = Some(event.to);
                match event.to {
                    VerdictState::New => {
                        opened_at = event.at;
                        if inside {
                            openings.push(event.at);
                            if event.from.is_none() {
                                lives.opened += 1;
                            } else {
                                lives.reopened += 1;
                            }
                        }
                    }
                    VerdictState::Resolved if inside => {
                        lives.resolved += 1;
                        to_resolve.push(event.at.saturating_sub(opened_at));
                    }
                    VerdictState::FalsePositive if inside => lives.false_positives += 1,
                    _ => {}
                }
            }
            lives.open += u64::from(at_end.is_some_and(VerdictState::is_open));
            let touches = verdict.opened_at < period.to && verdict.last_at >= period.from;
            if !touches || verdict.state == VerdictState::FalsePositive {
                continue;
            }
            let host = hosts.entry(verdict.subject).or_default();
            host.classes.insert(Class::of(verdict));
            host.severity = host.severity.max(Some(verdict.severity));
            // A second verdict of a detector is a second offence; those of several detectors may be
            // about one.
            host.again |= !host.detectors.insert(verdict.detector.clone());
            host.verdicts += 1;
            host.openings += openings.len() as u64;
            host.again |=
                openings.len() > 1 || openings.iter().any(|opening| *opening != verdict.opened_at);
            let seen = openings.into_iter().chain([verdict.last_at]);
            // Times are ends of windows: what ends with a day is of that day.
            let days = seen
                .filter(|at| period.contains(*at))
                .map(|at| time::day(at.saturating_sub(1)));
            host.days.extend(days);
        }
        if !to_resolve.is_empty() {
            let mean = to_resolve.iter().sum::<u64>() / to_resolve.len() as u64;
            lives.mean_milliseconds_to_resolve = Some(mean);
        }
        let mut hosts: Vec<Host> = hosts.into_iter().filter_map(Gathered::host).collect();
        hosts.sort_by_key(|host| {
            let worst = std::cmp::Reverse((host.severity, host.openings));
            (host.class, worst, host.subject)
        });
        Self { hosts, lives }
    }

    /// How many hosts are in a class.
    pub fn count(&self, class: Class) -> usize {
        self.hosts.iter().filter(|host| host.class == class).count()
    }

    /// Those that offended more than once.
    pub fn repeated(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(|host| host.repeated)
    }

    /// How many hosts are in which class.
    pub fn classes_table(&self) -> Table {
        Table {
            name: "classes",
            title: "flagged hosts by class".to_owned(),
            notes: [
                "spam: mean packets to servers of 100 bytes and more, connections that came to something",
                "SYN flood or scan: smaller packets, or nothing but connections that came to nothing",
                "open case: signs that contradict each other, in a verdict or between several, or none",
            ]
            .map(str::to_owned)
            .into(),
            columns: vec![text("class"), number("hosts"), number("repeated")],
            rows: Class::ALL
                .into_iter()
                .map(|class| {
                    let repeated = self.repeated().filter(|host| host.class == class);
                    vec![
                        class.name().to_owned(),
                        self.count(class).to_string(),
                        repeated.count().to_string(),
                    ]
                })
                .collect(),
        }
    }

    /// The flagged hosts, one by one.
    pub fn hosts_table(&self) -> Table {
        table("hosts", "flagged hosts", Vec::new(), self.hosts.iter())
    }

    /// Those that offended more than once.
    pub fn repeated_table(&self) -> Table {
        let notes =
            vec!["flagged on more than one UTC day, or again after a verdict was over".to_owned()];
        table(
            "repeat_offenders",
            "repeat offenders",
            notes,
            self.repeated(),
        )
    }

    /// How verdicts came and went.
    pub fn lives_table(&self) -> Table {
        let Lives {
            opened,
            reopened,
            resolved,
            false_positives,
            open,
            mean_milliseconds_to_resolve,
        } = self.lives;
        let mean = mean_milliseconds_to_resolve.map_or_else(|| "-".to_owned(), time::span);
        Table::facts(
            "verdicts",
            "verdicts",
            &[
                ("opened", opened.to_string()),
                ("reopened", reopened.to_string()),
                ("resolved", resolved.to_string()),
                ("false_positive", false_positives.to_string()),
                ("open_at_the_end", open.to_string()),
                ("mean_time_to_resolve", mean),
            ],
        )
    }
}

impl Gathered {
    fn host((subject, gathered): (IpNet, Self)) -> Option<Host> {
        let Self {
            classes,
            severity,
            detectors,
            verdicts,
            openings,
            days,
            again,
        } = gathered;
        let class = match classes.len() {
            1 => classes.first().copied()?,
            _ => Class::Open,
        };
        let days = days.len() as u64;
        Some(Host {
            subject,
            class,
            severity: severity?,
            detectors,
            verdicts,
            openings,
            days,
            repeated: again || days > 1,
        })
    }
}

fn table<'a>(
    name: &'static str,
    title: &str,
    notes: Vec<String>,
    hosts: impl Iterator<Item = &'a Host>,
) -> Table {
    Table {
        name,
        title: title.to_owned(),
        notes,
        columns: vec![
            text("host"),
            text("class"),
            text("severity"),
            number("verdicts"),
            number("openings"),
            number("days"),
            text("detectors"),
        ],
        rows: hosts
            .map(|host| {
                let detectors: Vec<_> = host.detectors.iter().map(String::as_str).collect();
                vec![
                    show(&host.subject),
                    host.class.name().to_owned(),
                    host.severity.name().to_owned(),
                    host.verdicts.to_string(),
                    host.openings.to_string(),
                    host.days.to_string(),
                    detectors.join(" "),
                ]
            })
            .collect(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::person::SMTPFLOW;
    use crate::model::verdict::{Figure, Holding, Rule};

    pub const DAY: u64 = 86_400_000;
    const MONTH: Period = Period {
        from: 10 * DAY,
        to: 40 * DAY,
    };

    pub fn verdict(id: u64, subject: &str, detector: &str, at: u64) -> Verdict {
        let subject: IpNet = subject.parse().expect("a prefix");
        Verdict {
            id,
            subject,
            detector: detector.to_owned(),
            severity: Severity::Notice,
            size: Some(SizeClass::Large),
            failing: false,
            state: VerdictState::New,
            opened_at: at,
            last_at: at,
            changed_at: at,
            reopened: 0,
            rule: Rule {
                detector: detector.to_owned(),
                text: "more than 30 connections in the hour".to_owned(),
                severity: Severity::Notice,
                period: Period {
                    from: at,
                    to: at + 1000,
                },
                figures: vec![Figure {
                    name: "connections".to_owned(),
                    value: 31.0,
                    limit: 30.0,
                    below: false,
                    unit: "connections".to_owned(),
                }],
                holding: Holding::Holds,
            },
        }
    }

    /// The verdict as it is after these changes, with its events.
    pub fn lived(
        mut verdict: Verdict,
        changes: &[(VerdictState, u64)],
    ) -> (Verdict, Vec<VerdictEvent>) {
        let mut events = vec![VerdictEvent {
            verdict: verdict.id,
            at: verdict.opened_at,
            who: SMTPFLOW.to_owned(),
            from: None,
            to: VerdictState::New,
            why: verdict.rule.text.clone(),
        }];
        for (to, at) in changes {
            let event = verdict.move_to(*to, "anna", "seen", *at);
            events.push(event.expect("a change that is possible"));
            if *to == VerdictState::New {
                verdict.last_at = *at;
            }
        }
        (verdict, events)
    }

    #[test]
    fn a_verdict_has_the_class_of_its_packets_and_outcomes() {
        use SizeClass::{Large, Small};
        for (size, failing, expected) in [
            (Some(Large), false, Class::Spam),
            (Some(Large), true, Class::Open),
            (Some(Small), false, Class::Scan),
            (Some(Small), true, Class::Scan),
            (None, true, Class::Scan),
            (None, false, Class::Open),
        ] {
            let mut verdict = verdict(1, "192.0.2.1/32", "volume", MONTH.from);
            (verdict.size, verdict.failing) = (size, failing);
            assert_eq!(Class::of(&verdict), expected, "{size:?} {failing}");
        }
    }

    #[test]
    fn verdicts_of_two_classes_make_an_open_case() {
        let spam = verdict(1, "192.0.2.1/32", "volume", MONTH.from);
        let mut scan = verdict(2, "192.0.2.1/32", "fanout", MONTH.from);
        scan.size = Some(SizeClass::Small);
        scan.severity = Severity::Critical;
        let other = verdict(3, "192.0.2.2/32", "volume", MONTH.from);
        let cases = Cases::of(
            &[lived(spam, &[]), lived(scan, &[]), lived(other, &[])],
            MONTH,
        );
        assert_eq!(cases.count(Class::Spam), 1);
        assert_eq!(cases.count(Class::Open), 1);
        let host = &cases.hosts[1];
        assert_eq!(
            (host.class, host.severity),
            (Class::Open, Severity::Critical)
        );
        assert_eq!((host.verdicts, host.openings, host.days), (2, 2, 1));
        assert!(!host.repeated, "two detectors about one event");
    }

    #[test]
    fn who_comes_again_is_a_repeat_offender() {
        use VerdictState::{New, Resolved};
        let at = MONTH.from + 3_600_000;
        let once = lived(verdict(1, "192.0.2.1/32", "volume", at), &[]);
        let again = lived(
            verdict(2, "192.0.2.2/32", "volume", at),
            &[(Resolved, at + 1000), (New, at + 2000)],
        );
        let mut long = lived(verdict(3, "192.0.2.3/32", "volume", at), &[]);
        long.0.last_at = at + DAY;
        let twice = [
            lived(
                verdict(4, "192.0.2.4/32", "volume", at),
                &[(Resolved, at + 1)],
            ),
            lived(verdict(5, "192.0.2.4/32", "volume", at + 2), &[]),
        ];
        let mut to_midnight = lived(verdict(7, "192.0.2.7/32", "volume", at), &[]);
        to_midnight.0.last_at = MONTH.from + DAY;
        // Opened before the month, and again in it.
        let back = lived(
            verdict(6, "192.0.2.6/32", "volume", MONTH.from - DAY),
            &[(Resolved, MONTH.from - 1), (New, at)],
        );
        let [first, second] = twice;
        let all = [once, again, long, first, second, to_midnight, back];
        let cases = Cases::of(&all, MONTH);
        let repeated: Vec<_> = cases.repeated().map(|host| show(&host.subject)).collect();
        assert_eq!(
            repeated,
            ["192.0.2.2", "192.0.2.4", "192.0.2.3", "192.0.2.6"]
        );
        assert_eq!((cases.lives.opened, cases.lives.reopened), (6, 2));
    }

    #[test]
    fn only_what_happened_in_the_period_counts() {
        use VerdictState::{FalsePositive, New, Resolved};
        let before = lived(
            verdict(1, "192.0.2.1/32", "volume", MONTH.from - DAY),
            &[(Resolved, MONTH.from - 1)],
        );
        let over = lived(
            verdict(2, "192.0.2.2/32", "volume", MONTH.from - DAY),
            &[(Resolved, MONTH.from + DAY)],
        );
        let wrong = lived(
            verdict(3, "192.0.2.3/32", "volume", MONTH.from),
            &[(FalsePositive, MONTH.from + 5)],
        );
        let quick = lived(
            verdict(4, "192.0.2.4/32", "volume", MONTH.from),
            &[
                (Resolved, MONTH.from + DAY),
                (New, MONTH.from + 2 * DAY),
                (Resolved, MONTH.to + 5),
            ],
        );
        let after = lived(verdict(5, "192.0.2.5/32", "volume", MONTH.to), &[]);
        let cases = Cases::of(&[before, over, wrong, quick, after], MONTH);
        assert_eq!(
            cases.lives,
            Lives {
                opened: 2,
                reopened: 1,
                resolved: 2,
                false_positives: 1,
                open: 1,
                mean_milliseconds_to_resolve: Some((2 * DAY + DAY) / 2),
            }
        );
        let hosts: Vec<_> = cases.hosts.iter().map(|host| show(&host.subject)).collect();
        assert_eq!(hosts, ["192.0.2.4"]);
    }
}
