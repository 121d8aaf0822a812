//! Other limits, from history.

use super::*;
use crate::model::period::Period;
use crate::report::tune::{Limit, Measure, tune};

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
