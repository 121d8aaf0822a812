//! Reports of a real store, which windows and verdicts were written to.

mod tune;
mod why;

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::Value;
use smtp_common::counter::Counter;
use smtp_common::flow::Totals;
use smtp_common::speech::Speech;

use super::cases::tests::{lived, verdict};
use super::distribution::Item;
use super::document::tests::HOSTILE;
use super::host::HostReport;
use super::month::{PeriodReport, distribution};
use super::time::{Asked, Month};
use crate::detect::{Policy, Relay, Settings};
use crate::model::complaint::tests::complaint;
use crate::model::period::{Period, system_time};
use crate::model::session::{Outcome, Sessions};
use crate::model::verdict::{Severity, SizeClass, VerdictChange, VerdictState};
use crate::model::{Counts, Folded, PairKey, Scope, Source, Tally, Window};
use crate::store::{NewComplaints, Reader, Store, add_complaints};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// 2026-11-03T10:00:00Z.
const START: u64 = 1_793_700_000_000;

pub(crate) const BOT: &str = "192.0.2.66";
const USER: &str = "192.0.2.7";
const RELAY: &str = "192.0.2.25";
const STRANGER: &str = "198.51.100.9";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(crate) fn local() -> Vec<IpNet> {
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

/// A store in which something is written.
pub(crate) struct Scene {
    store: Store,
    epoch: u64,
}

impl Scene {
    fn of(store: Store) -> Self {
        Self { store, epoch: 0 }
    }

    fn new() -> Self {
        Self::of(Store::in_memory(local(), 100_000).expect("a store"))
    }

    /// In a file, for who opens it by its path: a day with a spam bot and its verdicts.
    pub(crate) fn in_file(path: &std::path::Path) -> Self {
        let store = Store::open_for(path, local(), 100_000).expect("a store");
        Self::of(store).with_a_day().judged()
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
        Self::new().with_a_day()
    }

    fn with_a_day(self) -> Self {
        let mut scene = self;
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
        Self::day().judged()
    }

    fn judged(self) -> Self {
        let mut scene = self;
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
    let policy = policy(local.to_vec());
    PeriodReport::read(&scene.reader(), Some(month), period, &policy).expect("a report")
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
fn a_month_holds_flags_against_complaints() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let scene = Scene::in_file(&path);
    let complaints = [
        complaint(BOT, START + 12 * HOUR),
        complaint("192.0.2.99", START + 9 * HOUR),
        complaint(USER, START + 12 * HOUR),
    ];
    let new = NewComplaints {
        complaints: &complaints,
        headers: &std::collections::BTreeMap::new(),
        who: "anna",
        at: START,
    };
    assert_eq!(add_complaints(&path, &new).expect("noted").added, 3);
    let report = month(&scene, &local());
    let card = value(&report.json())["scorecard"].clone();
    assert_eq!(card["complaints"], 3);
    let mail = &card["mail"];
    let of_mail = ["flagged_before", "flagged_after", "never_flagged"].map(|name| &mail[name]);
    assert_eq!(of_mail, [1, 1, 1]);
    assert_eq!(mail["median_lead_milliseconds"], 2 * HOUR);
    assert_eq!(card["unconfirmed"]["part"], 0);
    assert_eq!(card["unconfirmed"]["whole"], 2);
    assert_eq!(card["months"][0]["month"], "2026-11");
    let text = report.document().text();
    for part in [
        "hosts that were reported, in 3 complaints",
        "33.3  6.1  79.2  2h",
        "0.0 (0.0 to 65.8)",
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
fn the_totals_of_a_host_are_of_the_period_not_of_the_hours_that_it_touches() {
    let reader = Scene::day().reader();
    let period = Period {
        from: START + 10 * HOUR + 30 * MINUTE,
        to: START + 13 * HOUR,
    };
    let host = HostReport::read(&reader, ip(BOT), period, &local()).expect("a report");
    assert_eq!(host.series.len(), 3);
    assert_eq!(host.totals.totals.connections, 240);
    let mut listed = 0;
    reader
        .sources(period, &mut |address, counts| {
            if address == ip(BOT).into() {
                listed += counts.totals.connections;
            }
        })
        .expect("read");
    assert_eq!(listed, host.totals.totals.connections, "as in the list");
    let nobody = reader.source(ip("192.0.2.200").into(), period);
    assert_eq!(nobody.expect("read"), Counts::default());
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
