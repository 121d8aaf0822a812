//! The answers to the question why.

use super::*;
use crate::model::verdict::{Figure, Verdict, VerdictState, Why};

fn why(court: &Bench, host: &str, verdicts: Vec<Verdict>) -> Why {
    let ip = host.parse().expect("an address");
    court.judge.why(ip, verdicts).expect("windows")
}

/// The verdicts of these findings.
fn verdicts(findings: &[Finding], now: u64) -> Vec<Verdict> {
    let mut docket = Docket::new(&Settings::default());
    docket.apply(findings, now);
    docket.open().into_iter().cloned().collect()
}

#[test]
fn every_rule_is_there_with_its_figures_limit_and_period() {
    let mut court = Bench::new();
    court.hour(0, 20);
    let why = why(&court, HOST, Vec::new());
    let names: Vec<_> = why
        .rules
        .iter()
        .map(|rule| rule.detector.as_str())
        .collect();
    let expected = [
        "volume",
        "volume",
        "volume",
        "volume",
        "persistence",
        "persistence",
        "burst",
        "fanout",
        "failure",
        "rejection",
        "rejection",
        "messages",
        "messages",
        "size",
    ];
    assert_eq!(names, expected);
    for rule in &why.rules {
        assert!(
            !rule.figures.is_empty() && !rule.text.is_empty(),
            "{rule:?}"
        );
        assert_eq!(rule.period.to, MIDNIGHT + HOUR, "{rule:?}");
        let beyond = rule.figures.iter().all(Figure::is_beyond);
        assert!(!beyond || rule.holding == Holding::Holds, "{rule:?}");
    }
    assert_eq!(
        why.answer,
        "192.0.2.1 is not flagged: no rule holds. The nearest is volume: connections 20, limit 30."
    );
}

#[test]
fn a_flagged_source_is_told_the_worst_verdict() {
    let mut court = Bench::new();
    let seen = Seen::new(MIDNIGHT, 600).with(address(HOST), address(SERVER), Deed::mail(150));
    let findings = court.add(&seen);
    let why = why(&court, HOST, verdicts(&findings, MIDNIGHT + 600_000));
    assert_eq!(why.unjudged, None);
    assert_eq!(why.verdicts.len(), 2);
    assert_eq!(
        why.answer,
        "192.0.2.1 is flagged (warning) by volume: more than 100 connections in the hour; the most, \
         150, to 198.51.100.1; also by messages."
    );
}

#[test]
fn nobody_is_judged_without_a_prefix_list_and_the_answer_says_so() {
    let mut court = Bench::new();
    court.judge = Judge::new(Settings::default(), Vec::new(), Vec::new());
    court.hour(0, 500);
    let why = why(&court, HOST, Vec::new());
    assert_eq!(why.unjudged, Some(Unjudged::NoPrefixList));
    assert!(
        why.answer.contains("there is no list of own prefixes"),
        "{}",
        why.answer
    );
}

#[test]
fn a_stranger_is_told_to_be_one() {
    let mut court = Bench::new();
    court.hour(0, 500);
    let why = why(&court, "203.0.113.1", Vec::new());
    assert_eq!(why.unjudged, Some(Unjudged::Remote));
    assert!(
        why.answer.contains("outside the own prefixes"),
        "{}",
        why.answer
    );
}

#[test]
fn a_known_relay_is_told_its_entry() {
    let mut court = Bench::with(Settings::default(), vec![relay("192.0.2.0/28", None, None)]);
    court.hour(0, 500);
    let why = why(&court, HOST, Vec::new());
    assert!(
        matches!(why.unjudged, Some(Unjudged::Excused { .. })),
        "{why:?}"
    );
    for part in [
        "192.0.2.0/28",
        "the mail relay of the staff",
        "postmaster@example.org",
    ] {
        assert!(why.answer.contains(part), "{}", why.answer);
    }
    // Its figures are there all the same.
    assert!(why.rules.iter().any(|rule| rule.holding == Holding::Holds));
}

#[test]
fn a_relay_with_a_limit_of_its_own_is_told_that_other_rules_are_not_applied() {
    let relays = vec![relay("192.0.2.1/32", Some(5000), None)];
    let mut court = Bench::with(Settings::default(), relays);
    court.hour(0, 600);
    let why = why(&court, HOST, Vec::new());
    assert_eq!(why.unjudged, None);
    assert_eq!(why.rules[0].figures[0].limit, 5000.0);
    for rule in &why.rules[1..] {
        assert!(
            matches!(rule.holding, Holding::NotApplicable(_)),
            "{rule:?}"
        );
    }
    assert!(
        why.answer.contains("connections 600, limit 5000"),
        "{}",
        why.answer
    );
}

#[test]
fn an_expired_entry_is_named_in_the_answer() {
    let relays = vec![relay("192.0.2.1/32", None, Some("2026-11-23"))];
    let mut court = Bench::with(Settings::default(), relays);
    court.hour(0, 10);
    let answer = why(&court, HOST, Vec::new()).answer;
    assert!(
        answer.contains("192.0.2.1/32 excuses nobody any more: its last day was 2026-11-23"),
        "{answer}"
    );
}

#[test]
fn a_gap_proves_no_absence_and_the_answer_says_so() {
    let mut court = Bench::new();
    // The agent began in the midst of the hour.
    court.add(&Seen::new(MIDNIGHT + HOUR / 2, 600));
    let why = why(&court, HOST, Vec::new());
    let Holding::NotApplicable(because) = &why.rules[0].holding else {
        panic!("{:?}", why.rules[0]);
    };
    assert!(because.contains("25 % of this time only"), "{because}");
    assert!(
        why.answer.contains("not every one can be applied"),
        "{}",
        why.answer
    );
}

#[test]
fn a_muted_detector_is_named() {
    let mut court = Bench::new();
    let seen = Seen::new(MIDNIGHT, 600).with(address(HOST), address(SERVER), Deed::refused(25));
    let seen = seen.with(address(HOST), server(7), Deed::mail(10));
    let findings = court.add(&seen);
    let mut verdicts = verdicts(&findings, MIDNIGHT + 600_000);
    for verdict in &mut verdicts {
        verdict
            .move_to(
                VerdictState::FalsePositive,
                "ada",
                "a test",
                MIDNIGHT + 600_000,
            )
            .expect("allowed");
    }
    let answer = why(&court, HOST, verdicts).answer;
    assert!(answer.contains("false positive"), "{answer}");
}
