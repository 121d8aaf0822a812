//! What people decide is taken over, on a real store.

use std::net::IpAddr;
use std::time::Duration;

use smtp_common::flow::Totals;

use super::*;
use crate::model::period::{milliseconds, system_time};
use crate::model::verdict::VerdictFilter;
use crate::model::{Source, Tally};
use crate::store::{NewRelay, PersonalChange, RelayEnd, add_relay, change_verdict, end_relay};

/// 2026-11-24T10:00:00Z.
const START: u64 = 1_795_514_400_000;

/// A store and who judges by it.
struct Scene {
    folder: tempfile::TempDir,
    config: Config,
    store: Store,
    judging: Judging,
    windows: u64,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config::default();
        config.store.path = folder.path().join("store.db");
        config.networks.local = ["192.0.2.0/24", "2001:db8::/32"]
            .map(|prefix| prefix.parse().expect("a prefix"))
            .into();
        let (store, judging) = open(&config);
        Self {
            folder,
            config,
            store,
            judging,
            windows: 0,
        }
    }

    /// Ends the agent and starts it again.
    fn restart(self) -> Self {
        let Self {
            folder,
            config,
            mut store,
            mut judging,
            windows,
        } = self;
        judging.finish(Some(&mut store));
        drop(store);
        let (store, judging) = open(&config);
        Self {
            folder,
            config,
            store,
            judging,
            windows,
        }
    }

    /// A window of 10 s in which these hosts open so many connections.
    fn window(&mut self, hosts: &[(&str, u64)]) {
        let sources: Vec<Source> = hosts
            .iter()
            .map(|(host, connections)| Source {
                address: ip(host).into(),
                totals: Totals {
                    connections: *connections,
                    c2s_packets: *connections,
                    c2s_bytes: 60 * connections,
                    ..Totals::default()
                },
            })
            .collect();
        let mut tally = Tally::default();
        tally.place(&sources, None);
        self.windows += 1;
        let window = Window {
            epoch: self.windows,
            started_at: system_time(START + 10_000 * self.windows),
            length: Duration::from_secs(10),
            tally,
            sources,
            flows: Vec::new(),
            lines_used: 0,
            flip: Duration::ZERO,
        };
        self.store.commit(1, &window, &Folded::default());
        self.judging
            .add(&window, &Folded::default(), Some(&mut self.store));
    }

    fn look(&mut self) {
        self.judging.look(Some(&mut self.store));
    }

    /// Connections in the hour of whom a host is judged as.
    fn connections(&self, host: &str) -> u64 {
        let facts = self.judging.court.judge.facts_of(ip(host));
        facts.expect("windows").counts.totals.connections
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let all = self.store.verdicts(&VerdictFilter::default());
        all.expect("verdicts")
    }

    fn add_relay(&self, prefix: &str) {
        let relay = relay(prefix);
        let new = NewRelay {
            relay: &relay,
            who: "anna",
            at: START,
        };
        add_relay(&self.config.store.path, &new).expect("added");
    }

    fn end_relay(&self, prefix: &str) {
        let end = RelayEnd {
            prefix: prefix.parse().expect("a prefix"),
            who: "anna",
            why: "moved",
            at: START,
        };
        end_relay(&self.config.store.path, &end).expect("ended");
    }
}

fn open(config: &Config) -> (Store, Judging) {
    let local = config.networks.local.clone();
    let mut store = Store::open_for(&config.store.path, local, 1000).expect("a store");
    let judging = Judging::new(config, Some(&mut store)).expect("judging");
    (store, judging)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn relay(prefix: &str) -> Relay {
    Relay {
        prefix: prefix.parse().expect("a prefix"),
        reason: "the relay of the staff".to_owned(),
        owner: "postmaster@example.org".to_owned(),
        expires: None,
        connections: None,
    }
}

const RELAY: &str = "2001:db8::25";
const OTHER: &str = "2001:db8::26";

#[test]
fn a_known_relay_of_ipv6_takes_its_counts_along_and_brings_them_back() {
    let mut scene = Scene::new();
    scene.window(&[(RELAY, 20), (OTHER, 15)]);
    assert_eq!(scene.connections(OTHER), 35, "they are judged together");
    let open = scene.judging.judged().open;
    assert_eq!(open.len(), 1, "{open:?}");
    assert_eq!(open[0].subject.to_string(), "2001:db8::/64");

    // Over HTTP: between two windows.
    scene.add_relay("2001:db8::25/128");
    scene.look();
    assert_eq!(scene.connections(RELAY), 20);
    assert_eq!(scene.connections(OTHER), 15);
    assert_eq!(
        scene.judging.judged().open.len(),
        1,
        "the others are not excused"
    );
    // On the command line: seen with the next window.
    scene.end_relay("2001:db8::25/128");
    scene.window(&[(OTHER, 1)]);
    assert_eq!(scene.connections(OTHER), 36);
    // As after a restart, and as the question why is answered.
    scene.add_relay("2001:db8::25/128");
    scene.window(&[(RELAY, 4), (OTHER, 2)]);
    let before = (scene.connections(RELAY), scene.connections(OTHER));
    assert_eq!(before, (24, 18));
    let scene = scene.restart();
    assert_eq!(before, (scene.connections(RELAY), scene.connections(OTHER)));
    let reader = scene.store.reader().expect("a reader");
    let policy = scene.judging.court.judge.policy();
    for (host, expected) in [(RELAY, 24.0), (OTHER, 18.0)] {
        let why = crate::report::why::why(&reader, policy, ip(host)).expect("why");
        assert_eq!(why.rules[0].figures[0].value, expected, "{host}");
    }
}

#[test]
fn who_becomes_a_known_relay_of_the_configuration_is_not_flagged_any_more() {
    let mut scene = Scene::new();
    scene.window(&[("192.0.2.25", 40), ("192.0.2.26", 40)]);
    assert_eq!(scene.judging.judged().open.len(), 2);
    scene.config.relay = vec![relay("192.0.2.25/32")];
    let mut scene = scene.restart();
    let judged = scene.judging.judged();
    let open: Vec<_> = judged
        .open
        .iter()
        .map(|verdict| verdict.subject.to_string())
        .collect();
    assert_eq!(open, ["192.0.2.26/32"]);
    let resolved = scene
        .verdicts()
        .into_iter()
        .find(|verdict| !verdict.state.is_open());
    let events = scene
        .store
        .verdict_events(resolved.expect("one").id)
        .expect("events");
    let last = events.last().expect("an event");
    assert_eq!(
        (&*last.who, &*last.why),
        ("smtpflow", "known relay 192.0.2.25: the relay of the staff")
    );
}

#[test]
fn what_people_decide_is_news_once_and_not_after_a_restart() {
    let mut scene = Scene::new();
    scene.window(&[("192.0.2.25", 40)]);
    let news = scene.judging.judged().news;
    assert_eq!(news.len(), 1, "{news:?}");
    assert!(scene.judging.judged().news.is_empty());
    let change = PersonalChange {
        id: news[0].verdict.id,
        to: VerdictState::Acknowledged,
        who: "anna",
        why: "seen",
        at: milliseconds(system_time(START)) + 60_000,
    };
    change_verdict(&scene.config.store.path, &change).expect("changed");
    scene.look();
    let judged = scene.judging.judged();
    let told: Vec<_> = judged
        .news
        .iter()
        .map(|news| (&*news.event.who, news.event.to))
        .collect();
    assert_eq!(told, [("anna", VerdictState::Acknowledged)]);
    assert_eq!(judged.open[0].state, VerdictState::Acknowledged);
    scene.look();
    assert!(scene.judging.judged().news.is_empty());
    let mut scene = scene.restart();
    assert!(scene.judging.judged().news.is_empty());
    // A relay resolves it, by the same person, and that is news as well.
    scene.add_relay("192.0.2.25/32");
    scene.window(&[("192.0.2.25", 1)]);
    let judged = scene.judging.judged();
    let told: Vec<_> = judged
        .news
        .iter()
        .map(|news| (&*news.event.who, news.event.to))
        .collect();
    assert_eq!(told, [("anna", VerdictState::Resolved)]);
    assert!(judged.open.is_empty());
    assert_eq!(judged.relays, [relay("192.0.2.25/32")]);
    assert!(scene.folder.path().exists());
}

/// Whom there are open verdicts about.
fn flagged(judging: &mut Judging) -> Vec<String> {
    let open = judging.judged().open;
    let mut subjects: Vec<_> = open
        .iter()
        .map(|verdict| verdict.subject.to_string())
        .collect();
    subjects.sort();
    subjects.dedup();
    subjects
}

#[test]
fn another_configuration_judges_as_a_restart_with_it_would() {
    const OWN: &str = "192.0.2.9";
    const STRANGER: &str = "198.51.100.9";
    let mut scene = Scene::new();
    scene.window(&[(OWN, 20), (STRANGER, 20), (RELAY, 9), (OTHER, 9)]);
    assert_eq!(scene.connections(STRANGER), 0);
    let config = &mut scene.config;
    config.networks.local = ["198.51.100.0/24", "2001:db8::/32"]
        .map(|prefix| prefix.parse().expect("a prefix"))
        .into();
    config.detect.ipv6_prefix = crate::detect::Within::new(128);
    config.detect.volume.notice = 5;
    config.relay.push(relay("2001:db8::25/128"));
    scene.judging.reload(&scene.config, Some(&mut scene.store));
    // Each as what it is now, with what was counted before.
    for (host, connections) in [(OWN, 0), (STRANGER, 20), (RELAY, 9), (OTHER, 9)] {
        assert_eq!(scene.connections(host), connections, "{host}");
    }
    scene.window(&[(OWN, 1), (STRANGER, 1), (RELAY, 1), (OTHER, 1)]);
    let expected = ["198.51.100.9/32", "2001:db8::26/128"];
    assert_eq!(flagged(&mut scene.judging), expected);
    let mut scene = scene.restart();
    assert_eq!(flagged(&mut scene.judging), expected);
    assert_eq!(scene.connections(STRANGER), 21);
    // A known relay that the file does not know any more is judged again.
    scene.config.relay.clear();
    scene.judging.reload(&scene.config, Some(&mut scene.store));
    scene.window(&[(RELAY, 1)]);
    assert_eq!(flagged(&mut scene.judging).len(), 3);
}

#[test]
fn without_a_store_other_limits_are_those_of_the_next_window() {
    let mut config = Config::default();
    config.networks.local = vec!["192.0.2.0/24".parse().expect("a prefix")];
    let mut judging = Judging::new(&config, None).expect("judging");
    let window = |number: u64| Window {
        epoch: number,
        started_at: system_time(START + 10_000 * number),
        length: Duration::from_secs(10),
        tally: Tally::default(),
        sources: vec![Source {
            address: ip("192.0.2.9").into(),
            totals: Totals {
                connections: 10,
                ..Totals::default()
            },
        }],
        flows: Vec::new(),
        lines_used: 0,
        flip: Duration::ZERO,
    };
    judging.add(&window(1), &Folded::default(), None);
    assert_eq!(flagged(&mut judging), [""; 0]);
    config.detect.volume.notice = 15;
    judging.reload(&config, None);
    judging.add(&window(2), &Folded::default(), None);
    assert_eq!(flagged(&mut judging), ["192.0.2.9/32"]);
    config.relay.push(relay("192.0.2.9/32"));
    judging.reload(&config, None);
    assert_eq!(flagged(&mut judging), [""; 0], "what was found is over");
}
