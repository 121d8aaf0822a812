//! Each detector exactly at its limit, and one above.

use super::*;

/// What one window of a fresh judge finds about the host.
fn found(seen: Seen) -> Vec<String> {
    names(&Bench::new().add(&seen))
}

fn window() -> Seen {
    Seen::new(MIDNIGHT, 600)
}

/// Connections to so many servers.
fn spread(connections: u64, servers: u32, deed: fn(u64) -> Deed) -> Seen {
    let mut seen = window();
    let servers = u64::from(servers);
    for number in 0..servers {
        let here = connections / servers + u64::from(number < connections % servers);
        seen = seen.with(address(HOST), server(number as u32), deed(here));
    }
    seen
}

#[test]
fn volume_fires_above_30_and_above_100_connections_in_the_hour() {
    for (connections, expected) in [
        (30, vec![]),
        (31, vec!["192.0.2.1 volume notice"]),
        (100, vec!["192.0.2.1 volume notice"]),
        (101, vec!["192.0.2.1 volume warning"]),
    ] {
        // Few enough to each server, and to few enough servers.
        let seen = spread(connections, 10, |here| Deed {
            mail: 0,
            ..Deed::mail(here)
        });
        assert_eq!(found(seen), expected, "{connections}");
    }
}

#[test]
fn volume_of_a_pair_fires_above_its_own_limits_and_names_the_server() {
    let mut settings = Settings::default();
    settings.volume.notice = u32::MAX;
    settings.volume.warning = u32::MAX;
    for (connections, expected) in [
        (30, None),
        (31, Some(Severity::Notice)),
        (100, Some(Severity::Notice)),
        (101, Some(Severity::Warning)),
    ] {
        let mut court = Bench::with(settings.clone(), Vec::new());
        let seen = window()
            .with(
                address(HOST),
                address(SERVER),
                Deed {
                    mail: 0,
                    ..Deed::mail(connections)
                },
            )
            .with(
                address(HOST),
                server(9),
                Deed {
                    mail: 0,
                    ..Deed::mail(20)
                },
            );
        let findings = court.add(&seen);
        assert_eq!(
            findings.first().map(|finding| finding.rule.severity),
            expected
        );
        for finding in findings {
            assert!(finding.rule.text.ends_with(SERVER), "{}", finding.rule.text);
        }
    }
}

#[test]
fn burst_fires_above_50_connections_per_second_over_one_window() {
    let mut settings = Settings::default();
    settings.volume.warning = u32::MAX;
    for (seconds, connections, fires) in [
        (10, 500, false),
        (10, 501, true),
        (60, 3000, false),
        (60, 3001, true),
    ] {
        let mut court = Bench::with(settings.clone(), Vec::new());
        let seen =
            Seen::new(MIDNIGHT, seconds).with(address(HOST), server(1), Deed::dead(connections));
        court.add(&seen);
        assert_eq!(
            court.holding(HOST, "burst"),
            [fires],
            "{connections} in {seconds}"
        );
    }
}

#[test]
fn a_window_that_was_cut_short_is_no_burst() {
    let mut court = Bench::new();
    let mut seen = Seen::new(MIDNIGHT, 1);
    seen.window.length = Duration::from_millis(20);
    court.add(&seen.with(address(HOST), server(1), Deed::mail(2)));
    assert_eq!(court.holding(HOST, "burst"), [false]);
}

#[test]
fn fanout_fires_above_20_servers() {
    assert_eq!(found(spread(20, 20, Deed::mail)), Vec::<String>::new());
    assert_eq!(
        found(spread(21, 21, Deed::mail)),
        ["192.0.2.1 fanout warning"]
    );
}

#[test]
fn servers_that_got_no_new_connection_are_no_fanout() {
    let mut court = Bench::new();
    let mut seen = window();
    for number in 0..30 {
        let deed = Deed {
            talk: 5,
            ..Deed::default()
        };
        seen = seen.with(address(HOST), server(number), deed);
    }
    court.add(&seen);
    assert_eq!(court.holding(HOST, "fanout"), [false]);
}

#[test]
fn failure_fires_below_one_half_of_at_least_30_attempts() {
    for (answered, refused, fires) in [
        (15, 15, false),
        (14, 15, false),
        (14, 16, true),
        (0, 29, false),
        (0, 30, true),
    ] {
        let mut court = Bench::new();
        let seen = window()
            .with(address(HOST), server(1), Deed::mail(answered))
            .with(address(HOST), server(2), Deed::refused(refused));
        court.add(&seen);
        assert_eq!(
            court.holding(HOST, "failure"),
            [fires],
            "{answered} {refused}"
        );
    }
}

#[test]
fn a_flood_to_dead_addresses_is_in_sight_of_failure_volume_and_fanout() {
    let mut court = Bench::new();
    let findings = court.add(&spread(500, 500, Deed::dead));
    assert_eq!(
        names(&findings),
        [
            "192.0.2.1 volume warning",
            "192.0.2.1 fanout warning",
            "192.0.2.1 failure warning"
        ]
    );
    assert!(findings.iter().all(|finding| finding.failing));
}

#[test]
fn a_one_sided_path_accuses_nobody_of_failure() {
    // All of it one-sided; by destination; and by connection, as where flows are hashed to two paths.
    let by_connection = |connections| Deed {
        answered: connections / 3,
        ..Deed::one_sided(connections)
    };
    for (seen, rule_applies) in [
        (spread(300, 3, Deed::one_sided), false),
        (
            spread(300, 3, Deed::one_sided).with(address(HOST), server(50), Deed::mail(200)),
            false,
        ),
        (
            spread(100, 3, Deed::one_sided).with(address(HOST), server(50), Deed::mail(200)),
            true,
        ),
        (spread(300, 3, by_connection), false),
    ] {
        let mut court = Bench::new();
        let findings = court.add(&seen);
        assert!(
            findings
                .iter()
                .all(|finding| finding.rule.detector != "failure")
        );
        assert!(findings.iter().all(|finding| !finding.failing));
        let rules = court.rules(HOST);
        let rule = rules
            .iter()
            .find(|rule| rule.detector == "failure")
            .expect("a rule");
        match &rule.holding {
            Holding::NotApplicable(because) => {
                assert!(because.contains("out of sight"), "{because}");
                assert!(!rule_applies);
            }
            holding => assert!(rule_applies && *holding == Holding::Below, "{holding:?}"),
        }
    }
}

#[test]
fn a_scanner_that_meets_dead_servers_on_a_one_sided_path_still_fails() {
    let mut court = Bench::new();
    let seen = spread(100, 100, Deed::dead).with(address(HOST), server(500), Deed::one_sided(20));
    court.add(&seen);
    assert_eq!(court.holding(HOST, "failure"), [true]);
}

#[test]
fn rejection_fires_above_three_tenths_of_at_least_20_final_replies() {
    for (accepted, rejected, fires) in [
        (14, 6, false),
        (13, 7, true),
        (12, 7, false),
        (70, 30, false),
        (69, 31, true),
    ] {
        let mut court = Bench::new();
        let deed = Deed {
            accepted,
            rejected,
            ..Deed::mail(1)
        };
        court.add(&window().with(address(HOST), address(SERVER), deed));
        // In the hour; and in the last 24, of which it is the first.
        assert_eq!(
            court.holding(HOST, "rejection"),
            [fires, fires],
            "{accepted} {rejected}"
        );
    }
}

#[test]
fn rejection_finds_who_sends_slowly_over_a_day() {
    let mut court = Bench::new();
    let deed = Deed {
        accepted: 0,
        rejected: 1,
        ..Deed::mail(1)
    };
    for number in 0..19 {
        court.add(&Seen::new(MIDNIGHT + number * HOUR, 600).with(address(HOST), server(1), deed));
        assert_eq!(court.holding(HOST, "rejection"), [false, false]);
    }
    court.add(&Seen::new(MIDNIGHT + 19 * HOUR, 600).with(address(HOST), server(1), deed));
    assert_eq!(court.holding(HOST, "rejection"), [false, true]);
    // A day later all but the last of them are over.
    court.add(&Seen::new(MIDNIGHT + 43 * HOUR, 600).with(address(HOST), server(1), deed));
    assert_eq!(court.holding(HOST, "rejection"), [false, false]);
}

#[test]
fn messages_fires_above_60_and_above_200_mail_commands() {
    for (mail, expected) in [
        (60, vec![]),
        (61, vec!["192.0.2.1 messages notice"]),
        (200, vec!["192.0.2.1 messages notice"]),
        (201, vec!["192.0.2.1 messages warning"]),
    ] {
        // In eleven connections of eighteen messages each, about.
        let deed = Deed {
            mail,
            ..Deed::mail(11)
        };
        let seen = window().with(address(HOST), address(SERVER), deed);
        assert_eq!(found(seen), expected, "{mail}");
    }
}

#[test]
fn size_is_small_below_100_bytes_in_the_mean_and_flags_nobody() {
    use crate::model::verdict::SizeClass;
    for (bytes, class, small) in [(99, SizeClass::Small, true), (100, SizeClass::Large, false)] {
        let mut court = Bench::new();
        let mut seen = spread(31, 10, |here| Deed {
            mail: 0,
            ..Deed::mail(here)
        });
        let totals = &mut seen.window.sources[0].totals;
        totals.c2s_bytes = bytes * totals.c2s_packets;
        let findings = court.add(&seen);
        assert_eq!(names(&findings), ["192.0.2.1 volume notice"]);
        assert_eq!(findings[0].size, Some(class));
        assert_eq!(court.holding(HOST, "size"), [small]);
    }
}

#[test]
fn without_flows_volume_still_fires_and_the_others_say_why_they_do_not() {
    let mut court = Bench::new();
    let mut seen = spread(200, 50, Deed::mail);
    seen.folded = Folded::default();
    assert_eq!(names(&court.add(&seen)), ["192.0.2.1 volume warning"]);
    for rule in court.rules(HOST) {
        let needs_flows =
            ["fanout", "failure", "rejection", "messages"].contains(&rule.detector.as_str());
        if needs_flows {
            let Holding::NotApplicable(because) = rule.holding else {
                panic!("{rule:?}");
            };
            assert!(because.contains("flows are not counted"), "{because}");
        }
    }
}

#[test]
fn the_last_24_hours_are_no_25() {
    let deed = Deed {
        accepted: 0,
        rejected: 10,
        ..Deed::mail(1)
    };
    for (later, holds) in [(23, true), (24, false)] {
        let mut court = Bench::new();
        for number in [0, later] {
            let seen = Seen::new(MIDNIGHT + number * HOUR, 600);
            court.add(&seen.with(address(HOST), server(1), deed));
        }
        assert_eq!(court.holding(HOST, "rejection"), [false, holds]);
    }
}

#[test]
fn a_client_that_goes_on_in_a_later_window_puts_its_server_out_of_sight() {
    let mut court = Bench::new();
    let later = Deed {
        talk: 1,
        ..Deed::default()
    };
    court.add(&window().with(address(HOST), server(1), Deed::dead(40)));
    assert_eq!(court.holding(HOST, "failure"), [true]);
    court.add(&Seen::new(MIDNIGHT + 600_000, 600).with(address(HOST), server(1), later));
    assert_eq!(court.holding(HOST, "failure"), [false]);
}

#[test]
fn of_servers_with_as_many_connections_the_first_is_named() {
    let mut court = Bench::new();
    let seen = window();
    let seen = seen.with(address(HOST), server(2), Deed::mail(9));
    court.add(&seen.with(address(HOST), server(1), Deed::mail(9)));
    let facts = court.judge.facts_of(HOST.parse().expect("an address"));
    assert_eq!(facts.expect("windows").peers.busiest, Some((server(1), 9)));
}
