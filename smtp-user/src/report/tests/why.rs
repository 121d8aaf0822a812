//! Why, from history.

use super::*;
use crate::model::verdict::{Holding, Severity, Unjudged, VerdictChange, Why};
use crate::report::why;

fn asked(scene: &Scene, local: Vec<IpNet>, address: &str) -> Why {
    why::why(&scene.reader(), &policy(local), ip(address)).expect("an answer")
}

/// The day up to the middle of an hour in which the bot is at work.
fn at_work() -> Scene {
    let mut scene = Scene::new();
    let deeds = [
        Deed {
            client: BOT,
            servers: 30,
            each: 4,
        },
        Deed {
            client: USER,
            servers: 1,
            each: 2,
        },
        Deed {
            client: RELAY,
            servers: 5,
            each: 100,
        },
        Deed {
            client: STRANGER,
            servers: 5,
            each: 100,
        },
        Deed {
            client: "2001:db8::1:1",
            servers: 10,
            each: 2,
        },
        Deed {
            client: "2001:db8::1:2",
            servers: 15,
            each: 2,
        },
        Deed {
            client: "2001:db8:0:1::1",
            servers: 30,
            each: 4,
        },
    ];
    for hour in 0..4 {
        for minute in (0..60).step_by(5) {
            let deeds = if minute == 0 { &deeds[..] } else { &[] };
            scene.window(START + hour * HOUR + minute * MINUTE, 5 * MINUTE, deeds);
        }
    }
    scene
}

fn holding(why: &Why) -> Vec<(&str, Severity)> {
    why.rules
        .iter()
        .filter(|rule| rule.holding == Holding::Holds)
        .map(|rule| (rule.detector.as_str(), rule.severity))
        .collect()
}

#[test]
fn why_tells_the_rules_that_hold_and_their_figures() {
    let scene = at_work();
    let why = asked(&scene, local(), BOT);
    let holding = holding(&why);
    assert!(
        holding.contains(&("volume", Severity::Warning)),
        "{holding:?}"
    );
    assert!(
        holding.iter().any(|(name, _)| *name == "fanout"),
        "{holding:?}"
    );
    let persistent = holding.iter().any(|(name, _)| *name == "persistence");
    assert!(persistent, "over the limit in four hours: {holding:?}");
    let to_one = why.rules.iter().flat_map(|rule| &rule.figures);
    let to_one = to_one
        .filter(|figure| figure.name == "connections to one server")
        .map(|figure| figure.value);
    assert_eq!(to_one.collect::<Vec<_>>(), [4.0, 4.0], "of this hour alone");
    let text = why::document(&why).text();
    assert!(
        text.starts_with("192.0.2.66\n192.0.2.66 has no open verdict, but "),
        "{text}"
    );
    assert!(
        text.contains("HOLDS: more than 100 connections in the hour"),
        "{text}"
    );
    assert!(text.contains("120"), "{text}");
    let json = value(&why::JsonWhy::from(&why));
    assert_eq!(json["subject"], BOT);
    assert_eq!(
        (&json["flagged"], &json["unjudged"]),
        (&false.into(), &Value::Null)
    );
    assert_eq!(json["rules"][0]["figures"][0]["value"], 120.0);
}

#[test]
fn why_tells_why_there_is_no_verdict() {
    let scene = at_work();
    let quiet = asked(&scene, local(), USER);
    assert_eq!(quiet.unjudged, None);
    assert_eq!(holding(&quiet), []);
    assert!(quiet.answer.contains("no rule holds"), "{}", quiet.answer);
    let relay = asked(&scene, local(), RELAY);
    assert!(
        matches!(relay.unjudged, Some(Unjudged::Excused { .. })),
        "{relay:?}"
    );
    let text = why::document(&relay).text();
    assert!(text.contains("relay of the staff"), "{text}");
    assert!(
        text.contains("these are its figures all the same"),
        "{text}"
    );
    let stranger = asked(&scene, local(), STRANGER);
    assert_eq!(stranger.unjudged, Some(Unjudged::Remote));
    let nobody = asked(&scene, Vec::new(), BOT);
    assert_eq!(nobody.unjudged, Some(Unjudged::NoPrefixList));
    let never_seen = asked(&scene, local(), "192.0.2.201");
    assert!(
        never_seen.answer.contains("not flagged"),
        "{}",
        never_seen.answer
    );
}

#[test]
fn why_looks_at_all_addresses_that_are_judged_together() {
    let why = asked(&at_work(), local(), "2001:db8::1:7");
    assert_eq!(why.subject.to_string(), "2001:db8::/64");
    let volume = &why.rules[0];
    assert_eq!(
        volume.figures[0].value, 50.0,
        "20 and 30, and no neighbour's"
    );
    let fanout = why.rules.iter().find(|rule| rule.detector == "fanout");
    assert_eq!(
        fanout.expect("a rule").figures[0].value,
        15.0,
        "15 servers, 10 of them twice"
    );
    let text = why::document(&why).text();
    assert!(
        text.contains("judged together with the other addresses"),
        "{text}"
    );
}

#[test]
fn why_does_not_take_a_known_relay_for_its_neighbours() {
    let relay: Relay = toml::from_str(
        "prefix = \"2001:db8::25/128\"\nreason = \"relay of the staff\"\nowner = \"postmaster\"\n",
    )
    .expect("a relay");
    let policy = Policy::new(Settings::default(), local(), vec![relay]);
    let mut scene = Scene::new();
    let deed = |client, each| Deed {
        client,
        servers: 1,
        each,
    };
    let deeds = [deed("2001:db8::25", 500), deed("2001:db8::26", 7)];
    scene.window(START, 10 * MINUTE, &deeds);
    for (address, subject, connections) in [
        ("2001:db8::26", "2001:db8::/64", 7.0),
        ("2001:db8::25", "2001:db8::25/128", 500.0),
    ] {
        let why = why::why(&scene.reader(), &policy, ip(address)).expect("an answer");
        assert_eq!(why.subject.to_string(), subject);
        assert_eq!(why.rules[0].figures[0].value, connections, "{address}");
    }
}

#[test]
fn why_agrees_with_the_verdict() {
    let mut scene = at_work();
    let now = scene.reader().now();
    let (verdict, events) = lived(verdict(1, "192.0.2.66/32", "volume", now), &[]);
    let change = VerdictChange::Opened(verdict, events[0].clone());
    scene.store.write_verdicts(&[change]).expect("written");
    let why = asked(&scene, local(), BOT);
    assert!(
        why.answer.contains("is flagged (notice) by volume"),
        "{}",
        why.answer
    );
    assert_eq!(value(&why::JsonWhy::from(&why))["flagged"], true);
    assert!(why::document(&why).text().contains("its verdicts"));
}

#[test]
fn why_needs_a_window() {
    let failure = why::why(&Scene::new().reader(), &policy(local()), ip(BOT));
    let text = failure.expect_err("no history").to_string();
    assert!(text.contains("no history yet"), "{text}");
}
