//! What is sent, and what is remembered of it. That a real Alertmanager takes it is tested in
//! `tests/tests/alertmanager.rs`.

use serde_json::{Value, json};

use super::*;
use crate::model::period::Period;
use crate::model::verdict::{Holding, Rule, VerdictState};

const NOW: u64 = 1_800_000_000_000;

fn verdict(id: u64, subject: &str, severity: Severity) -> Verdict {
    Verdict {
        id,
        subject: subject.parse().expect("a prefix"),
        detector: "volume".to_owned(),
        severity,
        size: None,
        failing: false,
        state: VerdictState::New,
        opened_at: NOW - 60_000,
        last_at: NOW,
        changed_at: NOW,
        reopened: 0,
        rule: Rule {
            detector: "volume".to_owned(),
            text: "more than 100 \"connections\" in the hour".to_owned(),
            severity,
            period: Period { from: 0, to: NOW },
            figures: Vec::new(),
            holding: Holding::Holds,
        },
    }
}

fn teller() -> Teller {
    Teller {
        options: Options {
            url: HttpUrl::parse("http://127.0.0.1:9", "").expect("an address"),
            every: Duration::from_secs(60),
            gateway: "north".to_owned(),
            page: "https://watch.example.org".to_owned(),
        },
        told: HashMap::new(),
        account: Arc::default(),
        said: None,
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(NOW)
}

fn sent(teller: &Teller, open: &[Verdict]) -> Value {
    serde_json::to_value(teller.alerts(open, now()).0).expect("JSON")
}

#[test]
fn an_open_verdict_is_an_alert_that_runs_out() {
    let open = [verdict(7, "2001:db8::/64", Severity::Critical)];
    assert_eq!(
        sent(&teller(), &open),
        json!([{
            "labels": {
                "alertname": "SmtpflowSourceFlagged",
                "src": "2001:db8::/64",
                "detector": "volume",
                "severity": "critical",
                "gateway": "north",
            },
            "annotations": {
                "summary": "2001:db8::/64 sends mail like a spammer: more than 100 \"connections\" in the hour",
                "rule": "more than 100 \"connections\" in the hour",
                "state": "new",
                "verdict": "7",
            },
            "startsAt": "2027-01-15T07:59:00.000Z",
            "endsAt": "2027-01-15T08:03:00.000Z",
            "generatorURL": "https://watch.example.org/host/2001:db8::",
        }])
    );
}

#[test]
fn what_is_over_is_ended_at_once_also_when_it_has_become_worse() {
    let mut teller = teller();
    let before = verdict(7, "192.0.2.7/32", Severity::Notice);
    let told = Told {
        starts_at: before.opened_at,
        ends_at: now() + Duration::from_secs(1),
    };
    teller.told.insert(Key::of(&before), told);
    assert!(!teller.has_changed(std::slice::from_ref(&before)));
    assert!(teller.has_changed(&[]));
    let over = &sent(&teller, &[])[0];
    assert_eq!(over["endsAt"], "2027-01-15T08:00:00.000Z");
    assert_eq!(over["startsAt"], "2027-01-15T07:59:00.000Z");
    assert_eq!(over["labels"]["src"], "192.0.2.7");
    assert_eq!(over["annotations"], Value::Null);

    // Another severity is another alert.
    let worse = [verdict(7, "192.0.2.7/32", Severity::Critical)];
    assert!(teller.has_changed(&worse));
    let both = sent(&teller, &worse);
    assert_eq!(both[0]["labels"]["severity"], "notice");
    assert_eq!(both[0]["endsAt"], "2027-01-15T08:00:00.000Z");
    assert_eq!(both[1]["labels"]["severity"], "critical");
    assert_eq!(both[1]["endsAt"], "2027-01-15T08:03:00.000Z");
}

#[test]
fn the_worst_are_sent_and_the_others_counted() {
    let mut open: Vec<_> = (0..MOST as u64 + 3)
        .map(|id| verdict(id, "192.0.2.7/32", Severity::Notice))
        .collect();
    open[5].severity = Severity::Critical;
    let (alerts, omitted) = teller().alerts(&open, now());
    assert_eq!((alerts.len(), omitted), (MOST, 3));
    assert_eq!(alerts[0].key.severity, Severity::Critical);
}

#[test]
fn what_could_not_be_sent_is_a_failure_and_nothing_is_taken_for_told() {
    // Nobody listens on the port of `discard` of this machine.
    let mut teller = teller();
    let open = [verdict(7, "192.0.2.7/32", Severity::Notice)];
    assert!(!teller.tell(&open));
    assert!(!teller.tell(&open));
    let account = *teller.account.lock().expect("nobody panics");
    assert_eq!((account.sent, account.failed), (0, 2));
    assert_eq!((account.alerts, account.last_success), (1, None));
    assert!(teller.told.is_empty() && teller.has_changed(&open));
    assert!(teller.said.is_some());
}

#[test]
fn a_clock_that_jumped_back_makes_no_alert_that_ends_before_it_starts() {
    let mut early = verdict(7, "192.0.2.7/32", Severity::Notice);
    early.opened_at = NOW + 3_600_000;
    let alert = &sent(&teller(), &[early])[0];
    assert_eq!(alert["startsAt"], alert["endsAt"]);
}
