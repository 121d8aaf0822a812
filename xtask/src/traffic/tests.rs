use super::habit::{DAY, HOUR};
use super::script::{Fate, Side};
use super::*;

/// A number that changes with any script.
fn digest(population: &Population) -> u64 {
    let mut hash = 0;
    for (hour, scripts) in population.traffic() {
        let text = format!("{hour} {scripts:?}");
        for octet in text.bytes() {
            hash = crate::random::Random::new(hash ^ u64::from(octet)).bits();
        }
    }
    hash
}

fn small(seed: u64) -> Population {
    Population::of(seed, 4 * HOUR, KINDS.iter().map(|kind| (kind, 1)))
}

#[test]
fn a_seed_decides_everything_on_every_machine() {
    // As it was when the kinds were last changed; another machine gives the same.
    assert_eq!(digest(&small(1)), 0x2e42_4132_56e3_aaa8);
    assert_ne!(digest(&small(1)), digest(&small(2)));
}

#[test]
fn hosts_are_told_apart_and_stay_in_their_prefix() {
    let population = Population::mixed(7, 3);
    let mut seen = std::collections::HashSet::new();
    for host in &population.hosts {
        if host.kind.label == Label::Nobody {
            continue;
        }
        let known = match host.address {
            std::net::IpAddr::V4(address) => {
                assert_eq!(address.octets()[..2], [10, 20], "{host:?}");
                u128::from(address.to_bits())
            }
            std::net::IpAddr::V6(address) => {
                assert_eq!(address.segments()[..3], [0x2001, 0xdb8, 0x20]);
                address.to_bits() >> 64
            }
        };
        assert!(seen.insert(known), "{host:?} is not the only one");
        assert_eq!(host.abuse.is_some(), host.kind.label == Label::Bot);
    }
}

#[test]
fn ordinary_users_open_as_many_connections_as_defined() {
    for (name, most) in [
        ("ordinary", 10),
        ("busy", 30),
        ("mail_server", 25),
        ("ladder", 20),
    ] {
        let population = Population::alone(kind::named(name), 5, 3, DAY);
        let mut busiest = 0;
        for (_, scripts) in population.traffic() {
            for host in &population.hosts {
                let of = |script: &&Script| script.client == host.address;
                busiest = scripts.iter().filter(of).count().max(busiest);
            }
        }
        assert_eq!(busiest, most, "{name}");
    }
}

#[test]
fn abuse_begins_when_the_label_says() {
    let bots = KINDS.iter().filter(|kind| kind.label == Label::Bot);
    let population = Population::of(5, 3 * DAY, bots.map(|kind| (kind, 2)));
    for host in &population.hosts {
        let alone = Population {
            hosts: vec![host.clone()],
            ..population.clone()
        };
        let abuse = host.abuse.expect("a bot");
        let before = Population {
            hosts: vec![Host {
                habits: host.habits[..1].to_vec(),
                ..host.clone()
            }],
            ..population.clone()
        };
        let starts = |population: &Population| -> Vec<u64> {
            let scripts = population.traffic().flat_map(|(_, scripts)| scripts);
            scripts.map(|script| script.start).collect()
        };
        let (with, without) = (starts(&alone), starts(&before));
        let early = |starts: &[u64]| starts.iter().filter(|at| **at < abuse).count();
        assert_eq!(early(&with), early(&without), "{host:?}");
        assert!(with.len() > without.len() + 30, "{host:?}");
    }
}

#[test]
fn sequence_numbers_go_on_from_segment_to_segment() {
    for (_, scripts) in small(3).traffic() {
        for script in scripts {
            let mut next = [None, None];
            let mut last = 0;
            script.play(|step| {
                assert!(step.at >= last, "{script:?}");
                last = step.at;
                let opens = u32::from(step.flags & 3 != 0);
                let side = &mut next[usize::from(step.side == Side::Server)];
                let resent = step.flags == script::flag::SYN;
                if let (Some(expected), false) = (*side, resent) {
                    assert_eq!(step.sequence, expected, "{script:?} {step:?}");
                }
                *side = Some(step.sequence.wrapping_add(u32::from(step.payload) + opens));
            });
            if script.fate == Fate::Silent {
                assert_eq!(next[1], None, "{script:?}");
            }
        }
    }
}

#[test]
fn the_ancestors_day_has_its_pairs() {
    let day = Distribution::new(1);
    let connections = day.connections();
    let mut pairs = std::collections::HashMap::new();
    for (_, scripts) in day {
        for script in scripts {
            *pairs.entry((script.client, script.server)).or_insert(0_u64) += 1;
        }
    }
    assert_eq!(pairs.values().sum::<u64>(), connections);
    for (least, most, expected) in DISTRIBUTION {
        let range = least..=most;
        let pairs = pairs.values().filter(|count| range.contains(count));
        assert_eq!(pairs.count(), expected as usize, "{least} to {most}");
    }
}
