//! Tests of the life of verdicts.

use super::*;
use crate::model::period::Period;
use crate::model::verdict::{Figure, Holding};

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

fn finding(detector: &str, severity: Severity, value: f64, at: u64) -> Finding {
    let hour = at - at % HOUR;
    Finding {
        subject: "192.0.2.1/32".parse().expect("a prefix"),
        rule: Rule {
            detector: detector.to_owned(),
            text: format!("{value} connections"),
            severity,
            period: Period { from: hour, to: at },
            figures: vec![Figure {
                name: "connections".to_owned(),
                value,
                limit: 30.0,
                below: false,
                unit: "connections".to_owned(),
            }],
            holding: Holding::Holds,
        },
        size: None,
        failing: false,
        hour,
    }
}

/// A docket, and what its store would have.
struct Life {
    docket: Docket,
    events: Vec<VerdictEvent>,
    changes: usize,
}

impl Life {
    fn new() -> Self {
        Self {
            docket: Docket::new(&Settings::default()),
            events: Vec::new(),
            changes: 0,
        }
    }

    /// The rule holds with this value at this time.
    fn holds(&mut self, severity: Severity, value: f64, at: u64) {
        self.apply(&[finding("volume", severity, value, at)], at);
    }

    fn apply(&mut self, findings: &[Finding], at: u64) {
        let changes = self.docket.apply(findings, at);
        self.changes += changes.len();
        for change in changes {
            match change {
                VerdictChange::Opened(_, event) | VerdictChange::Moved(_, event) => {
                    self.events.push(event);
                }
                VerdictChange::Held(_) => {}
            }
        }
    }

    /// A person changes the latest verdict in the store, and the docket is told.
    fn person(&mut self, to: VerdictState, at: u64) {
        let mut verdict = self.latest();
        let event = verdict.move_to(to, "ada", "looked at it", at);
        self.events.push(event.expect("allowed"));
        let next = verdict.id + 1;
        self.docket.load(vec![verdict], next);
    }

    fn latest(&self) -> Verdict {
        let subject = "192.0.2.1/32".parse().expect("a prefix");
        self.docket.of(&subject).remove(0)
    }

    /// What has happened, as `id from>to who`.
    fn story(&self) -> Vec<String> {
        self.events
            .iter()
            .map(|event| {
                let from = event.from.map_or("nothing", VerdictState::name);
                format!("{} {from}>{} {}", event.verdict, event.to, event.who)
            })
            .collect()
    }
}

#[test]
fn there_is_one_open_verdict_for_each_subject_and_detector() {
    let mut life = Life::new();
    for window in 0..100 {
        let at = DAY + window * 10_000;
        let findings = [
            finding("volume", Severity::Notice, 31.0, at),
            finding("fanout", Severity::Warning, 31.0, at),
        ];
        life.apply(&findings, at);
    }
    assert_eq!(
        life.story(),
        ["1 nothing>new smtpflow", "2 nothing>new smtpflow"]
    );
    assert_eq!(life.docket.open().len(), 2);
}

#[test]
fn severity_is_raised_and_never_lowered_and_the_worst_rule_is_kept() {
    let mut life = Life::new();
    life.holds(Severity::Notice, 31.0, DAY);
    life.holds(Severity::Notice, 90.0, DAY + 1);
    life.holds(Severity::Warning, 101.0, DAY + 2);
    life.holds(Severity::Warning, 300.0, DAY + 3);
    life.holds(Severity::Warning, 200.0, DAY + 4);
    life.holds(Severity::Notice, 40.0, DAY + 5);
    let verdict = life.latest();
    assert_eq!(verdict.severity, Severity::Warning);
    assert_eq!(verdict.rule.figures[0].value, 300.0);
    assert_eq!(verdict.last_at, DAY + 5);
}

#[test]
fn a_rule_that_goes_on_to_hold_is_written_every_five_minutes_only() {
    let mut life = Life::new();
    for window in 0..=60 {
        life.holds(Severity::Notice, 31.0, DAY + window * 10_000);
    }
    // Opened, and twice after five minutes.
    assert_eq!(life.changes, 3);
    assert_eq!(life.docket.unsaved(), []);
    life.holds(Severity::Notice, 31.0, DAY + 610_000);
    assert_eq!(life.changes, 3);
    assert_eq!(life.docket.unsaved().len(), 1);
    assert_eq!(life.docket.unsaved(), []);
    // A higher severity is written at once.
    life.holds(Severity::Critical, 31.0, DAY + 620_000);
    assert_eq!(life.changes, 4);
}

#[test]
fn a_verdict_is_resolved_when_its_rule_was_quiet_for_a_day() {
    let mut life = Life::new();
    life.holds(Severity::Notice, 31.0, DAY);
    life.person(VerdictState::Acknowledged, DAY + HOUR);
    life.apply(&[], 2 * DAY - 1);
    assert_eq!(life.latest().state, VerdictState::Acknowledged);
    life.apply(&[], 2 * DAY);
    assert_eq!(life.latest().state, VerdictState::Resolved);
    assert_eq!(
        life.story(),
        [
            "1 nothing>new smtpflow",
            "1 new>acknowledged ada",
            "1 acknowledged>resolved smtpflow"
        ]
    );
}

#[test]
fn the_same_verdict_is_opened_again_within_a_week_and_another_one_after_it() {
    let mut life = Life::new();
    life.holds(Severity::Warning, 101.0, DAY);
    life.apply(&[], 2 * DAY);
    life.holds(Severity::Notice, 31.0, 9 * DAY - 1);
    let verdict = life.latest();
    assert_eq!((verdict.id, verdict.reopened), (1, 1));
    assert_eq!(verdict.state, VerdictState::New);
    assert_eq!(verdict.opened_at, DAY);
    life.apply(&[], 10 * DAY - 1);
    life.holds(Severity::Notice, 31.0, 17 * DAY - 1);
    assert_eq!(
        life.story(),
        [
            "1 nothing>new smtpflow",
            "1 new>resolved smtpflow",
            "1 resolved>new smtpflow",
            "1 new>resolved smtpflow",
            "2 nothing>new smtpflow"
        ]
    );
}

#[test]
fn what_a_person_has_resolved_is_not_opened_again_by_the_same_hour() {
    let mut life = Life::new();
    life.holds(Severity::Notice, 31.0, DAY + 600_000);
    life.person(VerdictState::Resolved, DAY + 700_000);
    life.holds(Severity::Notice, 32.0, DAY + 800_000);
    assert_eq!(life.latest().state, VerdictState::Resolved);
    life.holds(Severity::Notice, 31.0, DAY + HOUR + 600_000);
    assert_eq!(life.latest().state, VerdictState::New);
}

#[test]
fn a_false_positive_mutes_the_detector_for_thirty_days() {
    let mut life = Life::new();
    life.holds(Severity::Notice, 31.0, DAY);
    life.person(VerdictState::FalsePositive, DAY);
    life.holds(Severity::Critical, 999.0, 31 * DAY - 1);
    assert_eq!(life.latest().state, VerdictState::FalsePositive);
    // Other detectors are heard.
    let other = finding("fanout", Severity::Notice, 31.0, 20 * DAY);
    life.apply(&[other], 20 * DAY);
    assert_eq!(life.docket.open().len(), 1);
    life.holds(Severity::Notice, 31.0, 31 * DAY);
    assert_eq!(life.latest().state, VerdictState::New);
    assert_eq!(life.latest().id, 3);
}

#[test]
fn what_others_have_written_counts_and_what_is_not_written_is_not_forgotten() {
    let mut life = Life::new();
    life.holds(Severity::Notice, 31.0, DAY);
    let in_store = life.latest();
    life.holds(Severity::Notice, 80.0, DAY + 1000);
    let mut changed = in_store;
    changed
        .move_to(VerdictState::Acknowledged, "ada", "looked at it", DAY + 500)
        .expect("allowed");
    life.docket.load(vec![changed], 2);
    let verdict = life.latest();
    assert_eq!(verdict.state, VerdictState::Acknowledged);
    assert_eq!(verdict.last_at, DAY + 1000);
    assert_eq!(verdict.rule.figures[0].value, 80.0);
    assert_eq!(life.docket.unsaved().len(), 1);
}

#[test]
fn a_restart_goes_on_where_the_store_is() {
    let mut life = Life::new();
    life.holds(Severity::Notice, 31.0, DAY);
    let stored = life.latest();
    let mut restarted = Life::new();
    restarted.docket.load(vec![stored], 2);
    restarted.holds(Severity::Notice, 31.0, DAY + HOUR);
    assert!(restarted.story().is_empty());
    restarted.apply(
        &[finding("fanout", Severity::Notice, 31.0, DAY)],
        DAY + HOUR,
    );
    assert_eq!(restarted.story(), ["2 nothing>new smtpflow"]);
}

#[test]
fn closed_verdicts_that_matter_no_more_are_dropped() {
    let mut life = Life::new();
    life.holds(Severity::Notice, 31.0, DAY);
    life.apply(&[], 2 * DAY);
    life.apply(&[], 32 * DAY);
    assert_eq!(life.docket.latest.len(), 1);
    life.apply(&[], 32 * DAY + 1);
    assert_eq!(life.docket.latest.len(), 0);
}

/// A finding of `volume` about the host with this number.
fn about(host: u8, at: u64) -> Finding {
    Finding {
        subject: std::net::IpAddr::from([192, 0, 2, host]).into(),
        ..finding("volume", Severity::Notice, 31.0, at)
    }
}

#[test]
fn resolved_verdicts_make_place_and_open_ones_do_not() {
    let mut docket = Docket::with_places(&Settings::default(), 4);
    let at = |docket: &mut Docket, hosts: &[u8], at| {
        let findings: Vec<_> = hosts.iter().map(|host| about(*host, at)).collect();
        docket.apply(&findings, at).len()
    };
    assert_eq!(at(&mut docket, &[1, 2, 3, 4, 5], DAY), 4);
    assert_eq!(docket.unopened(), 1);
    // Two are quiet from here on.
    at(&mut docket, &[3, 4], 2 * DAY - 1);
    at(&mut docket, &[], 2 * DAY);
    assert_eq!(docket.open().len(), 2);
    // One place is made by the first of them, and only that one is forgotten.
    assert_eq!(at(&mut docket, &[6], 2 * DAY + HOUR), 1);
    let reopened = |docket: &mut Docket, host: u8, at: u64| {
        docket.apply(&[about(host, at)], at);
        let verdicts = docket.of(&about(host, at).subject);
        verdicts
            .first()
            .map(|verdict| (verdict.id, verdict.reopened))
    };
    assert_eq!(reopened(&mut docket, 2, 2 * DAY + 2 * HOUR), Some((2, 1)));
    assert_eq!(reopened(&mut docket, 1, 2 * DAY + 2 * HOUR), None);
    assert_eq!(docket.unopened(), 2);
}

#[test]
fn what_the_store_has_never_seen_is_not_forgotten_when_others_write_to_it() {
    let mut life = Life::new();
    life.holds(Severity::Notice, 31.0, DAY);
    life.docket.load(Vec::new(), 1);
    assert_eq!(life.docket.open().len(), 1);
    // What it has seen and does not give any more is over.
    life.docket.load(Vec::new(), 2);
    assert_eq!(life.docket.open().len(), 0);
}

#[test]
fn an_older_verdict_that_a_person_opens_again_counts_before_a_new_one() {
    let mut life = Life::new();
    life.holds(Severity::Notice, 31.0, DAY);
    let mut older = life.latest();
    life.apply(&[], 2 * DAY);
    life.holds(Severity::Notice, 31.0, 10 * DAY);
    assert_eq!(life.latest().id, 2);
    older.reopened = 1;
    life.docket.load(vec![older], 2);
    assert_eq!((life.latest().id, life.latest().reopened), (1, 1));
}
