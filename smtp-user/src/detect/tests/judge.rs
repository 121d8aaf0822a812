//! The judge over time: hours, gaps, subjects, relays, memory.

use proptest::prelude::*;

use super::*;

/// Hours of these many connections, each full; gives what the last one finds of `persistence`.
fn persistence(hours: &[u64]) -> Vec<String> {
    let mut court = Bench::new();
    let mut findings = Vec::new();
    for (number, connections) in hours.iter().enumerate() {
        findings = court.hour(number as u64, *connections);
    }
    findings.retain(|name| name.contains("persistence"));
    findings
}

#[test]
fn persistence_is_critical_with_3_of_the_last_6_hours_above_100() {
    assert!(persistence(&[101, 101]).is_empty());
    assert!(persistence(&[101, 100, 101]).is_empty());
    let critical = ["192.0.2.1 persistence critical"];
    assert_eq!(persistence(&[101, 101, 101]), critical);
    assert_eq!(persistence(&[101, 1, 101, 1, 1, 101]), critical);
    assert!(persistence(&[101, 1, 101, 1, 1, 1, 101]).is_empty());
}

#[test]
fn persistence_is_a_warning_with_12_of_the_last_72_hours_above_30() {
    let every_sixth = |number: usize, limit: u64| -> Vec<u64> {
        (0..number)
            .flat_map(|_| [limit, 1, 1, 1, 1, 1])
            .chain([limit])
            .collect()
    };
    assert_eq!(
        persistence(&every_sixth(11, 31)),
        ["192.0.2.1 persistence warning"]
    );
    assert!(persistence(&every_sixth(10, 31)).is_empty());
    assert!(persistence(&every_sixth(11, 30)).is_empty());
    // The first of twelve lies 72 hours back.
    let mut hours = vec![31, 1];
    hours.extend(every_sixth(10, 31));
    hours.splice(2..2, std::iter::repeat_n(1, 73 - hours.len()));
    assert_eq!(hours.len(), 73);
    assert!(persistence(&hours).is_empty());
    hours.remove(1);
    assert_eq!(persistence(&hours), ["192.0.2.1 persistence warning"]);
}

#[test]
fn an_hour_with_gaps_does_not_break_a_streak_and_why_says_so() {
    let mut court = Bench::new();
    for number in [0, 1] {
        court.hour(number, 101);
    }
    // The agent was away for two hours, and for half of the next one.
    let seen = Seen::new(MIDNIGHT + 4 * HOUR, 1800);
    court.add(&seen.with(address(HOST), address(SERVER), Deed::mail(1)));
    for number in [5, 6, 7] {
        court.hour(number, 1);
    }
    // Six hours without gaps are the running one, 7, 6, 5, 1 and 0.
    let findings = court.hour(8, 101);
    assert!(
        findings.contains(&"192.0.2.1 persistence critical".to_owned()),
        "{findings:?}"
    );
    let rules = court.rules(HOST);
    let rule = rules
        .iter()
        .find(|rule| rule.detector == "persistence")
        .expect("a rule");
    assert!(
        rule.text.ends_with("; 3 hours with gaps passed over"),
        "{}",
        rule.text
    );
    assert_eq!(rule.period.from, MIDNIGHT);
}

#[test]
fn a_look_back_over_gaps_has_an_end() {
    let mut court = Bench::new();
    for number in [0, 1] {
        court.hour(number, 101);
    }
    // Half as many again as six hours reach to the second hour, but not to the first.
    let findings = court.hour(9, 101);
    assert!(
        !findings.iter().any(|name| name.contains("persistence")),
        "{findings:?}"
    );
    let mut court = Bench::new();
    for number in [0, 1] {
        court.hour(number, 101);
    }
    let findings = court.hour(8, 101);
    assert!(
        findings.contains(&"192.0.2.1 persistence critical".to_owned()),
        "{findings:?}"
    );
}

#[test]
fn full_hours_below_the_limit_break_a_streak() {
    let mut court = Bench::new();
    for number in [0, 1] {
        court.hour(number, 101);
    }
    for number in 2..9 {
        court.hour(number, 1);
    }
    let findings = court.hour(9, 101);
    assert!(
        !findings.iter().any(|name| name.contains("persistence")),
        "{findings:?}"
    );
}

#[test]
fn an_hour_with_gaps_that_is_over_the_limit_counts() {
    let mut court = Bench::new();
    for number in 0..3 {
        let seen = Seen::new(MIDNIGHT + number * HOUR, 600);
        let findings =
            names(&court.add(&seen.with(address(HOST), address(SERVER), Deed::mail(101))));
        let persistent = findings.contains(&"192.0.2.1 persistence critical".to_owned());
        assert_eq!(persistent, number == 2, "{findings:?}");
    }
}

#[test]
fn the_count_begins_anew_with_the_hour() {
    let mut court = Bench::new();
    let at = |time| Seen::new(time, 10).with(address(HOST), address(SERVER), Deed::mail(20));
    court.add(&at(MIDNIGHT + HOUR - 20_000));
    assert_eq!(
        names(&court.add(&at(MIDNIGHT + HOUR - 10_000))),
        ["192.0.2.1 volume notice"]
    );
    assert!(court.add(&at(MIDNIGHT + HOUR)).is_empty());
    let facts = court
        .judge
        .facts_of(HOST.parse().expect("an address"))
        .expect("windows");
    assert_eq!(facts.counts.totals.connections, 20);
    assert_eq!(facts.past.len(), 1);
    assert_eq!(facts.past_at(0).connections, 40);
}

#[test]
fn an_hour_that_comes_twice_is_two_hours() {
    let mut court = Bench::new();
    court.hour(4, 25);
    court.hour(5, 26);
    court.set_back();
    let findings = court.hour(4, 27);
    assert!(findings.is_empty(), "{findings:?}");
    let ip = HOST.parse().expect("an address");
    let facts = court.judge.facts_of(ip).expect("windows");
    assert_eq!(facts.now, MIDNIGHT + 5 * HOUR);
    assert_eq!(facts.frames.len(), 2);
    assert_eq!(facts.past_at(0).connections, 26);
    assert_eq!(facts.past_at(1).connections, 25);
    assert_eq!(facts.counts.totals.connections, 27);
}

#[test]
fn pairs_find_room_again_in_the_next_hour() {
    use super::super::judge::PAIRS;
    let mut seen = Seen::new(MIDNIGHT, 600);
    let (hosts, servers) = (256, PAIRS as u32 / 256);
    for host in 0..hosts {
        let client = address(&format!("2001:db8:0:{host:x}::1"));
        let totals = Totals {
            connections: servers.into(),
            c2s_packets: servers.into(),
            ..Totals::default()
        };
        seen.window.sources.push(Source {
            address: client,
            totals,
        });
        for number in 0..servers {
            let counts = Counts {
                totals: Totals {
                    connections: 1,
                    c2s_packets: 1,
                    ..Totals::default()
                },
                ..Counts::default()
            };
            let pair = PairKey {
                client,
                server: server(number),
            };
            seen.folded.pairs.insert(pair, counts);
        }
    }
    let mut court = Bench::new();
    court.add(&seen);
    let servers_of_host = |court: &mut Bench, time| {
        court.add(&Seen::new(time, 10).with(address(HOST), server(1), Deed::mail(1)));
        let facts = court.judge.facts_of(HOST.parse().expect("an address"));
        let servers = facts.expect("windows").peers.servers;
        (servers.count, servers.exact)
    };
    assert_eq!(servers_of_host(&mut court, MIDNIGHT + 600_000), (0, false));
    assert_eq!(servers_of_host(&mut court, MIDNIGHT + HOUR), (1, true));
}

#[test]
fn the_hour_of_a_long_window_has_gaps_however_much_of_it_was_seen() {
    let mut court = Bench::new();
    court.add(&Seen::new(MIDNIGHT, 7200));
    court.add(&Seen::new(MIDNIGHT + 2 * HOUR, 10));
    let facts = court.judge.facts_of(HOST.parse().expect("an address"));
    let covered: Vec<_> = facts
        .expect("windows")
        .frames
        .iter()
        .map(|frame| frame.covered)
        .collect();
    assert_eq!(covered, [0.0, 0.0]);
}

#[test]
fn a_window_of_many_hours_counts_pro_rata() {
    // 300 connections in 9.5 hours: in some hour there were 30 at least, but maybe no more.
    let mut court = Bench::new();
    let long = |connections| {
        Seen::new(MIDNIGHT + HOUR / 2, 34_200).with(
            address(HOST),
            address(SERVER),
            Deed::mail(connections),
        )
    };
    assert!(court.add(&long(309)).is_empty());
    let mut court = Bench::new();
    assert_eq!(names(&court.add(&long(310))), ["192.0.2.1 volume notice"]);
    // What was counted before in the hour in which it began is another hour.
    let mut court = Bench::new();
    court.add(&Seen::new(MIDNIGHT, 600).with(address(HOST), address(SERVER), Deed::mail(30)));
    assert!(court.add(&long(300)).is_empty());
    // The hours that it lasted have gaps.
    court.hour(10, 1);
    let facts = court
        .judge
        .facts_of(HOST.parse().expect("an address"))
        .expect("windows");
    assert_eq!(facts.frames.len(), 11);
    assert!(facts.frames.iter().all(Frame::is_partial));
    assert_eq!(facts.past_at(9).connections, 30);
    assert_eq!(facts.past_at(10).connections, 30);
}

#[test]
fn a_window_that_reaches_into_the_next_hour_covers_both() {
    let mut court = Bench::new();
    court.add(&Seen::new(MIDNIGHT, 3000));
    court.add(&Seen::new(MIDNIGHT + 3_000_000, 1200));
    court.add(&Seen::new(MIDNIGHT + 4_200_000, 3000));
    court.add(&Seen::new(MIDNIGHT + 2 * HOUR, 10));
    let facts = court
        .judge
        .facts_of(HOST.parse().expect("an address"))
        .expect("windows");
    let covered: Vec<_> = facts.frames.iter().map(|frame| frame.covered).collect();
    assert_eq!(covered, [1.0, 1.0]);
}

#[test]
fn privacy_addresses_of_one_64_are_one_subject() {
    let mut seen = Seen::new(MIDNIGHT, 600);
    for number in 1..=31 {
        let client = address(&format!("2001:db8:0:1::{number:x}"));
        seen = seen.with(client, address(SERVER), Deed::mail(1));
    }
    let mut court = Bench::new();
    let findings = court.add(&seen);
    assert_eq!(names(&findings), ["2001:db8:0:1:: volume notice"]);
    assert_eq!(findings[0].subject.prefix_len(), 64);
    let settings = Settings {
        ipv6_prefix: Within::new(128),
        ..Settings::default()
    };
    assert!(Bench::with(settings, Vec::new()).add(&seen).is_empty());
}

#[test]
fn the_servers_of_a_64_are_those_of_all_its_addresses_each_once() {
    let mut seen = Seen::new(MIDNIGHT, 600);
    for number in 0..40 {
        let client = address(&format!("2001:db8::{number:x}"));
        seen = seen.with(client, server(number % 20), Deed::refused(1));
    }
    let mut court = Bench::new();
    court.add(&seen);
    assert_eq!(court.holding("2001:db8::1", "fanout"), [false]);
    let seen = Seen::new(MIDNIGHT, 600).with(address("2001:db8::2"), server(20), Deed::refused(1));
    court.add(&seen);
    assert_eq!(court.holding("2001:db8::1", "fanout"), [true]);
}

#[test]
fn a_known_relay_is_counted_and_never_judged() {
    let mut court = Bench::with(Settings::default(), vec![relay("192.0.2.1/32", None, None)]);
    let seen = Seen::new(MIDNIGHT, 600)
        .with(address(HOST), address(SERVER), Deed::mail(5000))
        .with(address("192.0.2.2"), address(SERVER), Deed::mail(101));
    let findings = names(&court.add(&seen));
    assert_eq!(
        findings,
        ["192.0.2.2 volume warning", "192.0.2.2 messages notice"]
    );
    assert_eq!(court.holding(HOST, "volume"), [true; 4]);
}

#[test]
fn a_known_relay_with_a_limit_of_its_own_is_judged_by_that_alone() {
    let relays = vec![relay("192.0.2.1/32", Some(5000), None)];
    let seen = |connections| {
        Seen::new(MIDNIGHT, 600).with(address(HOST), address(SERVER), Deed::refused(connections))
    };
    let mut court = Bench::with(Settings::default(), relays.clone());
    assert!(court.add(&seen(5000)).is_empty());
    let mut court = Bench::with(Settings::default(), relays);
    assert_eq!(names(&court.add(&seen(5001))), ["192.0.2.1 volume warning"]);
}

#[test]
fn an_expired_entry_excuses_nobody_and_is_reported() {
    let relays = vec![relay("192.0.2.1/32", None, Some("2026-11-24"))];
    let mut court = Bench::with(Settings::default(), relays);
    assert!(court.hour(23, 200).is_empty());
    assert_eq!(
        court
            .judge
            .policy()
            .expired_relays(MIDNIGHT + 24 * HOUR - 1)
            .count(),
        0
    );
    assert!(
        court
            .hour(24, 200)
            .contains(&"192.0.2.1 volume warning".to_owned())
    );
    assert_eq!(
        court
            .judge
            .policy()
            .expired_relays(MIDNIGHT + 24 * HOUR)
            .count(),
        1
    );
}

#[test]
fn a_relay_in_a_64_is_a_subject_of_its_own() {
    let relays = vec![relay("2001:db8::25/128", None, None)];
    let mut court = Bench::with(Settings::default(), relays);
    let seen = Seen::new(MIDNIGHT, 600)
        .with(address("2001:db8::25"), address(SERVER), Deed::mail(500))
        .with(address("2001:db8::26"), address(SERVER), Deed::mail(10));
    assert!(court.add(&seen).is_empty());
    assert_eq!(court.holding("2001:db8::26", "volume"), [false; 4]);
}

#[test]
fn strangers_are_not_judged_and_take_no_place() {
    let mut court = Bench::new();
    let seen = Seen::new(MIDNIGHT, 600)
        .with(address("203.0.113.1"), address(HOST), Deed::mail(500))
        .with(address("2001:db9::1"), address(HOST), Deed::mail(500));
    assert!(court.add(&seen).is_empty());
    assert_eq!(court.judge.subjects(), 0);
}

#[test]
fn without_a_prefix_list_nobody_is_judged() {
    let mut judge = Judge::new(Settings::default(), Vec::new(), Vec::new());
    let seen = Seen::new(MIDNIGHT, 600).with(address(HOST), address(SERVER), Deed::mail(500));
    assert!(
        judge
            .add(&seen.window, &seen.folded, hour_of(0, MIDNIGHT))
            .is_empty()
    );
    assert!(!judge.policy().judges());
}

#[test]
fn a_server_that_only_answers_is_no_subject() {
    let mut court = Bench::new();
    let mut seen =
        Seen::new(MIDNIGHT, 600).with(address("203.0.113.1"), address(HOST), Deed::mail(500));
    seen.window.sources.push(Source {
        address: address(HOST),
        totals: Totals {
            s2c_packets: 500,
            s2c_bytes: 50_000,
            ..Totals::default()
        },
    });
    court.add(&seen);
    assert_eq!(court.judge.subjects(), 0);
}

#[test]
fn hosts_beyond_the_bound_are_not_judged_and_counted_until_there_is_place() {
    let settings = Settings {
        subjects: Within::new(2),
        ..Settings::default()
    };
    let mut court = Bench::with(settings, Vec::new());
    let mut seen = Seen::new(MIDNIGHT, 600);
    for number in 1..=3 {
        let client = address(&format!("192.0.2.{number}"));
        seen = seen.with(client, address(SERVER), Deed::mail(101));
    }
    assert_eq!(court.add(&seen).len(), 4);
    assert_eq!(
        (court.judge.subjects(), court.judge.unkept().unjudged),
        (2, 1)
    );
    let why = court
        .judge
        .why("192.0.2.3".parse().expect("an address"), Vec::new());
    assert_eq!(why.expect("windows").unjudged, Some(Unjudged::NoPlace));
    // Those who did nothing that is looked back at leave.
    for number in 1..=REACH as u64 {
        court.add(&Seen::new(MIDNIGHT + number * HOUR, 3600));
    }
    assert_eq!(court.judge.subjects(), 0);
}

#[test]
fn more_servers_than_are_told_apart_are_still_too_many() {
    let mut seen = Seen::new(MIDNIGHT, 600);
    for number in 0..1500 {
        seen = seen.with(address(HOST), server(number), Deed::refused(1));
    }
    let mut court = Bench::new();
    court.add(&seen);
    let facts = court
        .judge
        .facts_of(HOST.parse().expect("an address"))
        .expect("windows");
    assert_eq!(
        (facts.peers.servers.count, facts.peers.servers.exact),
        (1024, false)
    );
    assert_eq!(facts.peers.paired, 1500);
    assert_eq!(court.holding(HOST, "fanout"), [true]);
    // Their places are free again in the next hour.
    court.add(&Seen::new(MIDNIGHT + HOUR, 600).with(address(HOST), server(1), Deed::mail(1)));
    let facts = court
        .judge
        .facts_of(HOST.parse().expect("an address"))
        .expect("windows");
    assert_eq!(
        (facts.peers.servers.count, facts.peers.servers.exact),
        (1, true)
    );
}

fn deeds() -> impl Strategy<Value = Deed> {
    (
        0..20_u64,
        0..20_u64,
        0..20_u64,
        0..5_u64,
        (0..20_u64, 0..20_u64),
    )
        .prop_map(
            |(answered, refused, dead, syn_retx, (rejected, accepted))| Deed {
                connections: answered + refused + dead,
                answered,
                refused,
                syn_retx,
                talk: 5 * answered,
                mail: rejected + accepted,
                accepted,
                rejected,
            },
        )
}

/// What some hosts did with some servers in a window.
pub(super) type Deeds = Vec<(u8, u8, Deed)>;

/// Windows of an hour.
pub(super) fn windows() -> impl Strategy<Value = Vec<Deeds>> {
    let deed = (0..6_u8, 0..30_u8, deeds());
    proptest::collection::vec(proptest::collection::vec(deed, 0..6), 1..12)
}

/// Own hosts, of which three are of one /64.
pub(super) const HOSTS: [&str; 6] = [
    "192.0.2.1",
    "192.0.2.2",
    "2001:db8::1",
    "2001:db8::2",
    "2001:db8::3",
    "2001:db8:1::1",
];

pub(super) fn seen(at: u64, seconds: u64, deeds: &[(u8, u8, Deed)]) -> Seen {
    deeds
        .iter()
        .fold(Seen::new(at, seconds), |seen, (host, number, deed)| {
            let client = address(HOSTS[usize::from(*host)]);
            seen.with(client, server(u32::from(*number)), *deed)
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_order_of_windows_in_an_hour_changes_what_holds_at_its_end(
        (windows, other) in windows().prop_flat_map(|windows| {
            (Just(windows.clone()), Just(windows).prop_shuffle())
        }),
    ) {
        let end = |windows: &[Deeds]| {
            let mut court = Bench::new();
            court.hour(0, 101);
            for (number, deeds) in windows.iter().enumerate() {
                court.add(&seen(MIDNIGHT + HOUR + 300_000 * number as u64, 300, deeds));
            }
            court
        };
        let (one, another) = (end(&windows), end(&other));
        for host in HOSTS {
            let ip = host.parse().expect("an address");
            prop_assert_eq!(one.judge.facts_of(ip), another.judge.facts_of(ip));
            prop_assert_eq!(one.rules(host), another.rules(host));
        }
    }

    #[test]
    fn no_order_of_windows_in_an_hour_changes_the_verdicts_that_counts_alone_give(
        (windows, other) in windows().prop_flat_map(|windows| {
            (Just(windows.clone()), Just(windows).prop_shuffle())
        }),
    ) {
        // A share may hold in the midst of an hour and not at its end; a count may not.
        let counts = ["volume", "persistence", "burst", "fanout", "messages"];
        let end = |windows: &[Deeds]| {
            let mut court = Bench::new();
            let mut docket = Docket::new(&Settings::default());
            for (number, deeds) in windows.iter().enumerate() {
                let at = MIDNIGHT + 300_000 * number as u64;
                let findings = court.add(&seen(at, 300, deeds));
                docket.apply(&findings, at + 300_000);
            }
            let open = docket.open();
            let mut open: Vec<_> = open
                .into_iter()
                .filter(|verdict| counts.contains(&verdict.detector.as_str()))
                .map(|verdict| (verdict.subject, verdict.detector.clone(), verdict.severity))
                .collect();
            open.sort();
            open
        };
        prop_assert_eq!(end(&windows), end(&other));
    }
}

#[test]
fn known_relays_of_the_store_come_and_go() {
    let mut court = Bench::with(Settings::default(), Vec::new());
    assert!(!court.hour(0, 200).is_empty());
    assert!(!court.judge.know(&[relay("192.0.2.1/32", None, None)]));
    assert!(court.hour(1, 200).is_empty(), "a known relay is judged");
    // The configuration's entry has a limit of its own, whatever the store says.
    let configured = vec![relay("192.0.2.1/32", Some(100), None)];
    let mut both = Bench::with(Settings::default(), configured);
    both.judge.know(&[relay("192.0.2.1/32", None, None)]);
    assert_eq!(both.hour(1, 200), ["192.0.2.1 volume warning"]);
    // It was counted all the time.
    court.judge.know(&[]);
    let findings = court.hour(2, 200);
    assert!(
        findings.contains(&"192.0.2.1 persistence critical".to_owned()),
        "{findings:?}"
    );
}

#[test]
fn an_entry_says_whether_it_changes_as_whom_addresses_are_judged() {
    let mut court = Bench::with(Settings::default(), Vec::new());
    for (stored, changes) in [
        (vec![relay("192.0.2.25/32", None, None)], false),
        (vec![relay("2001:db8:1::/48", None, None)], false),
        (vec![relay("2001:db8:1::/64", None, None)], false),
        (vec![relay("2001:db8::25/128", None, None)], true),
        (vec![relay("2001:db8::25/128", Some(10), None)], false),
        (vec![], true),
        (vec![], false),
    ] {
        assert_eq!(court.judge.know(&stored), changes, "{stored:?}");
    }
}
