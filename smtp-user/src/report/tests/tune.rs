//! Other limits, from history.

use super::*;
use crate::model::complaint::tests::complaint;
use crate::model::complaint::{Complaint, ComplaintKind};
use crate::model::period::Period;
use crate::model::proportion::Proportion;
use crate::report::tune::{Limit, Measure, tune};
use crate::store::{NewComplaints, PersonalChange, add_complaints, change_verdict};

fn limit(measure: Measure, above: u64, in_effect: bool) -> Limit {
    Limit {
        measure,
        above,
        in_effect,
    }
}

#[test]
fn limits_are_tried_on_own_hosts_hour_by_hour() {
    let scene = Scene::day();
    let limits = [
        limit(Measure::Connections, 1, false),
        limit(Measure::Connections, 29, false),
        limit(Measure::Connections, 30, true),
        limit(Measure::Connections, 120, false),
        limit(Measure::Messages, 119, false),
        limit(Measure::Servers, 19, false),
        limit(Measure::Servers, 20, true),
    ];
    let all = Period {
        from: START,
        to: scene.reader().now(),
    };
    let tuning = tune(&scene.reader(), &policy(local()), &local(), &limits, all).expect("tuned");
    assert!(tuning.own_only);
    // The user, the bot, and one /64; the relay is left out, the stranger is none of ours.
    assert_eq!((tuning.hosts, tuning.relays), (3, 1));
    assert_eq!(
        (tuning.hours, tuning.days, tuning.partial_hours),
        (24, 2, 1)
    );
    let found: Vec<_> = tuning
        .outcomes
        .iter()
        .map(|o| {
            (
                o.hosts,
                o.host_hours,
                o.host_days,
                o.new_hosts,
                o.lost_hosts,
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (3, 24 + 24 + 3, 2 + 2 + 1, 2, 0),
            (2, 24 + 3, 2 + 1, 1, 0),
            (1, 3, 1, 0, 0),
            (0, 0, 0, 0, 1),
            (1, 3, 1, 1, 0),
            (2, 24 + 3, 2 + 1, 1, 0),
            (1, 3, 1, 0, 0),
        ]
    );
    assert_eq!(tuning.outcomes[0].new_examples, ["2001:db8::/64", USER]);
    let text = tuning.document().text();
    for part in [
        "looked at: 3 own hosts that sent mail; 1 known relays are left out",
        "new with more than 1 connections: 2001:db8::/64, 192.0.2.7",
        "24 hours on 2 days have counts, 1 of them with gaps",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    let json = value(&tuning.json());
    assert_eq!(json["limits"][2]["in_effect"], true);
    assert_eq!(json["limits"][1]["host_days"], 3);
}

#[test]
fn limits_are_tried_on_all_where_nobody_knows_who_is_own() {
    let scene = Scene::day();
    let limits = [limit(Measure::Connections, 30, true)];
    let from_the_middle = Period {
        from: START + HOUR / 2,
        to: scene.reader().now(),
    };
    let policy = policy(Vec::new());
    let tuning = tune(&scene.reader(), &policy, &[], &limits, from_the_middle).expect("tuned");
    assert!(!tuning.own_only);
    assert_eq!(tuning.hours, 23, "the half of an hour is none");
    assert_eq!(
        tuning.outcomes[0].hosts, 3,
        "the bot, the relay, the stranger"
    );
    let text = tuning.document().text();
    assert!(text.contains("it is not known which are yours"), "{text}");
}

/// The bot is flagged from the eleventh hour of its day on.
#[test]
fn limits_are_held_against_complaints_and_what_people_have_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let scene = Scene::in_file(&path);
    let complaints = [
        complaint(BOT, START + 11 * HOUR),
        complaint(BOT, START + 12 * HOUR),
        // Before the first hour of all was over.
        complaint(USER, START + HOUR - 1),
        complaint("2001:db8::1:2", START + 3 * HOUR),
        // A known relay, and somebody else's host: nobody is looked for there.
        complaint(RELAY, START + 3 * HOUR),
        complaint(STRANGER, START + 3 * HOUR),
        Complaint {
            kind: ComplaintKind::Infringement,
            ..complaint("192.0.2.99", START + 3 * HOUR)
        },
    ];
    let new = NewComplaints {
        complaints: &complaints,
        headers: &std::collections::BTreeMap::new(),
        who: "anna",
        at: START,
    };
    assert_eq!(add_complaints(&path, &new).expect("noted").added, 7);
    let change = PersonalChange {
        id: 1,
        to: VerdictState::Notified,
        who: "anna",
        why: "told",
        at: START + 13 * HOUR,
    };
    change_verdict(&path, &change).expect("changed");
    let limits = [
        limit(Measure::Connections, 1, false),
        limit(Measure::Connections, 29, false),
        limit(Measure::Connections, 30, true),
        limit(Measure::Connections, 120, false),
        limit(Measure::Servers, 20, true),
    ];
    let all = Period {
        from: START,
        to: scene.reader().now(),
    };
    let tuning = tune(&scene.reader(), &policy(local()), &local(), &limits, all).expect("tuned");
    let of = |share: Proportion| (share.part, share.whole);
    let scores: Vec<_> = tuning
        .outcomes
        .iter()
        .map(|outcome| {
            let score = outcome.score;
            (of(score.recall), of(score.precision), of(score.unconfirmed))
        })
        .collect();
    assert_eq!(
        scores,
        [
            // The bot and the /64 in time; the user was reported in its first hour.
            ((2, 3), (1, 1), (0, 3)),
            ((2, 3), (1, 1), (0, 2)),
            ((1, 3), (1, 1), (0, 1)),
            ((0, 3), (0, 0), (0, 0)),
            ((1, 3), (1, 1), (0, 1)),
        ]
    );
    let text = tuning.document().text();
    assert!(text.contains("33.3  6.1 to 79.2"), "{text}");
    let json = value(&tuning.json());
    assert_eq!(json["limits"][2]["recall"]["part"], 1);
    assert_eq!(json["limits"][3]["precision"]["share"], Value::Null);
}
