//! Reports of a real store, which windows and verdicts were written to.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::Value;
use smtp_common::counter::Counter;
use smtp_common::flow::Totals;
use smtp_common::speech::Speech;

use super::cases::tests::{lived, verdict};
use super::document::tests::HOSTILE;
use super::host::HostReport;
use super::month::{PeriodReport, distribution};
use super::time::{Asked, Month};
use super::tune::{Limit, Measure, tune};
use super::{distribution::Item, why};
use crate::detect::{Policy, Relay, Settings};
use crate::model::period::{Period, system_time};
use crate::model::session::{Outcome, Sessions};
use crate::model::verdict::{
    Holding, Severity, SizeClass, Unjudged, VerdictChange, VerdictState, Why,
};
use crate::model::{Counts, Folded, PairKey, Scope, Source, Tally, Window};
use crate::store::{Reader, Store};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// 2026-11-03T10:00:00Z.
const START: u64 = 1_793_700_000_000;

const BOT: &str = "192.0.2.66";
const USER: &str = "192.0.2.7";
const RELAY: &str = "192.0.2.25";
const STRANGER: &str = "198.51.100.9";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn local() -> Vec<IpNet> {
    ["192.0.2.0/24", "2001:db8::/32"]
        .map(|p| p.parse().expect("a prefix"))
        .into()
}

fn server(number: u64) -> IpAddr {
    IpAddr::from([203, 0, 113, number as u8])
}

/// What a client did in a window: connections to each of so many servers, all of which delivered.
struct Deed<'a> {
    client: &'a str,
    servers: u64,
    each: u64,
}

struct Scene {
    store: Store,
    epoch: u64,
}

impl Scene {
    fn new() -> Self {
        Self {
            store: Store::in_memory(local(), 100_000).expect("a store"),
            epoch: 0,
        }
    }

    /// A window of an hour or less, from this time on.
    fn window(&mut self, from: u64, length: u64, deeds: &[Deed<'_>]) {
        let mut folded = Folded::default();
        let mut sources = Vec::new();
        for deed in deeds {
            let client = ip(deed.client);
            let mut all = Counts::default();
            for number in 0..deed.servers {
                let counts = Counts {
                    totals: Totals {
                        connections: deed.each,
                        c2s_packets: 10 * deed.each,
                        c2s_bytes: 5000 * deed.each,
                        answered: deed.each,
                        ..Totals::default()
                    },
                    sessions: sessions(deed.each),
                    peak: 0,
                };
                let key = PairKey {
                    client: client.into(),
                    server: server(number).into(),
                };
                folded.pairs.insert(key, counts);
                all.merge(&counts);
            }
            folded.clients.insert(client.into(), all.sessions);
            sources.push(Source {
                address: client.into(),
                totals: all.totals,
            });
        }
        let mut tally = Tally::default();
        for source in &sources {
            tally.sources.merge(&source.totals);
        }
        tally.frames = tally.sources.packets();
        tally.segment_bytes = tally.sources.bytes();
        tally.outcomes[Counter::Segment.index()] = tally.frames;
        self.epoch += 1;
        let window = Window {
            epoch: self.epoch,
            started_at: system_time(from),
            length: Duration::from_millis(length),
            tally,
            sources,
            flows: Vec::new(),
            lines_used: 0,
            flip: Duration::ZERO,
        };
        self.store.commit(1, &window, &folded);
        while self.store.tidy() {}
    }

    fn reader(&self) -> Reader {
        self.store.reader().expect("a reader")
    }

    /// An ordinary day, the bot in three hours of it, and ten minutes of nothing at its end.
    fn day() -> Self {
        let mut scene = Self::new();
        for hour in 0..24 {
            let mut deeds = vec![
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
                    servers: 2,
                    each: 40,
                },
            ];
            if (10..13).contains(&hour) {
                deeds.push(Deed {
                    client: BOT,
                    servers: 30,
                    each: 4,
                });
            }
            for (number, address) in ["2001:db8::1:1", "2001:db8::1:2"].into_iter().enumerate() {
                deeds.push(Deed {
                    client: address,
                    servers: 10 * (number as u64 + 1),
                    each: 1,
                });
            }
            let from = START + hour * HOUR;
            // Parts, since a window is counted in the bin in which it begins.
            let last = if hour == 23 { 50 } else { 60 };
            scene.window(from, 5 * MINUTE, &deeds);
            for minute in (5..last).step_by(5) {
                scene.window(from + minute * MINUTE, 5 * MINUTE, &[]);
            }
        }
        scene
    }

    fn with_verdicts() -> Self {
        let mut scene = Self::day();
        let mut bot = verdict(1, "192.0.2.66/32", "volume", START + 10 * HOUR);
        bot.severity = Severity::Warning;
        bot.last_at = START + 30 * HOUR;
        let mut scanner = verdict(2, "192.0.2.99/32", "fanout", START + 11 * HOUR);
        scanner.size = Some(SizeClass::Small);
        scanner.rule.text = HOSTILE.to_owned();
        let (bot, events) = lived(bot, &[(VerdictState::Acknowledged, START + 12 * HOUR)]);
        let mut changes = Vec::new();
        for (verdict, events) in [(bot, events), lived(scanner, &[])] {
            let mut opened = verdict.clone();
            opened.state = VerdictState::New;
            changes.push(VerdictChange::Opened(opened, events[0].clone()));
            for event in &events[1..] {
                changes.push(VerdictChange::Moved(verdict.clone(), event.clone()));
            }
        }
        scene.store.write_verdicts(&changes).expect("written");
        scene
    }
}

fn sessions(connections: u64) -> Sessions {
    let mut sessions = Sessions::default();
    sessions.outcomes.0[Outcome::Delivered.index()] = connections;
    sessions.said.0[Speech::MAIL.number() as usize] = connections;
    sessions.said.0[Speech::COMPLETION.number() as usize] = 4 * connections;
    sessions.accepted = connections;
    sessions
}

fn value(json: &impl serde::Serialize) -> Value {
    serde_json::to_value(json).expect("JSON")
}

fn month(scene: &Scene, local: &[IpNet]) -> PeriodReport {
    let month = Month::parse("2026-11").expect("a month");
    let period = Asked::Month(month).period(scene.reader().now());
    PeriodReport::read(&scene.reader(), Some(month), period, local).expect("a report")
}

const USERS: u64 = 2 * 24;
const RELAYED: u64 = 500 * 24;
const STRANGE: u64 = 80 * 24;
const BOTTED: u64 = 120 * 3;
const SIXES: u64 = 30 * 24;

#[test]
fn a_month_adds_up_to_what_was_counted() {
    let json = value(&month(&Scene::with_verdicts(), &local()).json());
    let all = USERS + RELAYED + STRANGE + BOTTED + SIXES;
    assert_eq!(json["schema"], 1);
    assert_eq!(json["month"], "2026-11");
    assert_eq!(json["period"]["from"], "2026-11-01T00:00:00.000Z");
    assert_eq!(json["to_date"], true);
    assert_eq!(json["totals"]["connections"], all);
    assert_eq!(json["totals"]["outcomes"]["delivered"], all);
    assert_eq!(json["totals"]["accepted"], all);
    assert_eq!(json["sources"], 6);
    assert_eq!(json["top_sources"][0]["addr"], RELAY);
    assert_eq!(json["top_sources"][0]["scope"], "local");
    assert_eq!(json["top_sources"][0]["connections"], RELAYED);
    assert_eq!(json["top_sources"][1]["addr"], STRANGER);
    assert_eq!(json["top_sources"][1]["scope"], "remote");
    let [sources, pairs] = [0, 1].map(|i| &json["distributions"][i]);
    assert_eq!(
        (&sources["item"], &sources["items"]),
        (&"source".into(), &6.into())
    );
    assert_eq!(
        (&pairs["item"], &pairs["items"]),
        (&"pair".into(), &68.into())
    );
    for distribution in [sources, pairs] {
        assert_eq!(distribution["connections"], all);
        assert_eq!(distribution["bytes"], 5000 * all);
        assert_eq!(distribution["unsorted_connections"], 0);
    }
}

#[test]
fn a_month_has_its_gaps_and_its_cases() {
    let report = month(&Scene::with_verdicts(), &local());
    let json = value(&report.json());
    // From the first of the month to the start; what is to come is no gap.
    let gaps = json["coverage"]["gaps"].as_array().expect("a list");
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0]["to"], "2026-11-03T10:00:00.000Z");
    assert_eq!(gaps[0]["missing_milliseconds"], 2 * DAY + 10 * HOUR);
    assert_eq!(json["classes"]["spam"], 1);
    assert_eq!(json["classes"]["scan"], 1);
    assert_eq!(json["hosts"][0]["subject"], BOT);
    assert_eq!(json["hosts"][0]["repeated"], true, "over two days");
    assert_eq!(json["hosts"][1]["repeated"], false);
    assert_eq!(json["lives"]["opened"], 2);
    assert_eq!(json["lives"]["open"], 2);
    let text = report.document().text();
    for part in [
        "Mail traffic of 2026-11, to date",
        "the newest window ended at 2026-11-04 09:50:00 UTC",
        "3480 minutes are missing",
        "192.0.2.66  spam",
        "SYN flood or scan",
        "68 pairs of source and server that opened connections",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

#[test]
fn a_month_that_is_over_is_not_to_date() {
    let mut scene = Scene::new();
    scene.window(
        START,
        MINUTE,
        &[Deed {
            client: USER,
            servers: 1,
            each: 1,
        }],
    );
    scene.window(START + 40 * DAY, MINUTE, &[]);
    let report = month(&scene, &[]);
    let text = report.document().text();
    assert!(!text.contains("to date"), "{text}");
    assert!(text.contains("nobody is judged"), "{text}");
    assert_eq!(value(&report.json())["judged"], false);
}

#[test]
fn a_printable_month_is_whole_and_harmless() {
    let document = month(&Scene::with_verdicts(), &local()).document();
    let html = document.render(super::document::Form::Html);
    for table in &document.tables {
        assert!(
            html.contains(&format!("<h2 id=\"{}\">", table.name)),
            "{}",
            table.name
        );
    }
    for forbidden in ["<script", "src=", "href=", "http:", "https:", "url("] {
        assert!(!html.contains(forbidden), "{forbidden} in:\n{html}");
    }
    assert_eq!(
        html.matches("<table>").count(),
        html.matches("</table>").count()
    );
    let csv = document.csv();
    for table in &document.tables {
        let own: Vec<_> = csv
            .split("\r\n")
            .filter(|line| line.starts_with(&format!("{},", table.name)))
            .collect();
        assert_eq!(own.len(), table.rows.len() + 1, "{}", table.name);
    }
}

#[test]
fn a_distribution_is_of_any_period() {
    let reader = Scene::day().reader();
    let hour = Period {
        from: START + 11 * HOUR,
        to: START + 12 * HOUR,
    };
    let table = distribution(&reader, Item::Pair, hour).expect("a distribution");
    assert_eq!(table.distribution.items, 1 + 5 + 2 + 30 + 30);
    assert_eq!(table.distribution.connections, 2 + 500 + 80 + 120 + 30);
    let table = distribution(&reader, Item::Source, hour).expect("a distribution");
    assert_eq!(table.distribution.items, 6);
    assert_eq!(table.distribution.rows[4].items, 1, "the bot, 101 to 200");
}

#[test]
fn a_host_is_shown_with_its_hours_servers_and_verdicts() {
    let scene = Scene::with_verdicts();
    let reader = scene.reader();
    let period = Asked::Since(DAY).period(reader.now());
    let host = HostReport::read(&reader, ip(BOT), period, &local()).expect("a report");
    assert_eq!(host.scope, Scope::Local);
    assert_eq!(host.totals.totals.connections, BOTTED);
    assert_eq!((host.servers.count, host.servers.exact), (30, true));
    assert_eq!(host.series.len(), 3);
    assert_eq!(host.pairs.len(), 30);
    let json = value(&host.json());
    assert_eq!(json["pairs"][29]["connections"], 12);
    assert_eq!(json["verdicts"][0]["state"], "acknowledged");
    assert_eq!(json["verdicts"][0]["events"][1]["who"], "anna");
    let text = host.document().text();
    for part in [
        "scope: local",
        "verdicts: 1, open: 1",
        "2026-11-03 21:00          120",
        "20 of 30 that are kept one by one",
        "acknowledged  anna",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

#[test]
fn a_host_without_counts_is_an_error_that_says_what_is_kept() {
    let reader = Scene::day().reader();
    let period = Asked::Since(DAY).period(reader.now());
    let failure = HostReport::read(&reader, ip("192.0.2.200"), period, &local());
    let text = failure.expect_err("nothing is known").to_string();
    for part in [
        "nothing was counted of 192.0.2.200",
        "history is kept of 2026-11-03 00:00:00",
        "--since",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

fn policy(local: Vec<IpNet>) -> Policy {
    let relay: Relay = toml::from_str(&format!(
        "prefix = \"{RELAY}/32\"\nreason = \"relay of the staff\"\nowner = \"postmaster\"\n"
    ))
    .expect("a relay");
    Policy::new(Settings::default(), local, vec![relay])
}

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
