//! Flows and connections of every capture: the loaded kernel program and `replay`'s meter give the
//! same ones, they are those that tshark finds, and each has the outcome that is known for it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use smtp_user::connections::{Connections, Follower, Limits};
use smtp_user::meter::pcap::PcapMeter;
use smtp_user::meter::xdp::{FRAGS, PLAIN, Section};
use smtp_user::model::session::{COMMANDS, Outcome, REPLIES};
use smtp_user::model::{Flow, Window};
use smtpflow_tests::{ANSWERS, SMTP, capture, data, meter, options, window};
use xtask::lab::tshark_fields;

/// Longer than all captures together, which span years.
const ONE_WINDOW: Duration = Duration::from_secs(1 << 33);

fn by_replay(name: &str, length: Duration) -> Vec<Window> {
    let mut meter = PcapMeter::open(&data(name), length, SMTP).unwrap_or_else(|f| panic!("{f}"));
    std::iter::from_fn(|| window(&mut meter)).collect()
}

/// Each frame on the CPU that is chosen by its number.
fn by_kernel(name: &str, section: Section, cpu_of: impl Fn(usize) -> usize) -> Window {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).expect("the CPUs of this thread");
    let cpus: Vec<usize> = (0..CpuSet::count())
        .filter(|cpu| allowed.is_set(*cpu).unwrap_or(false))
        .collect();
    let mut meter = meter(&options("flows", 8));
    for (number, frame) in capture::frames(&data(name)).into_iter().enumerate() {
        let mut one = CpuSet::new();
        one.set(cpus[cpu_of(number) % cpus.len()]).expect("a CPU");
        sched_setaffinity(this, &one).expect("one CPU");
        meter.test_run(section, &frame).expect("a test run");
    }
    let window = window(&mut meter).expect("a window");
    meter.detach().expect("the pins can be removed");
    sched_setaffinity(this, &allowed).expect("all CPUs");
    window
}

/// Flows in order, without their times, which are those of the clock in the kernel.
fn timeless(window: &Window) -> Vec<Flow> {
    let mut flows: Vec<Flow> = window
        .flows
        .iter()
        .map(|flow| Flow {
            first: SystemTime::UNIX_EPOCH,
            last: SystemTime::UNIX_EPOCH,
            ..*flow
        })
        .collect();
    flows.sort_by_key(|flow| (flow.key.client.octets(), flow.key.client_port));
    flows
}

fn connections(windows: &[Window]) -> Connections {
    let limits = Limits::default();
    let mut follower = Follower::new(&limits);
    let mut connections = Connections::new(limits);
    for window in windows {
        connections.add(window, &follower.follow(window));
    }
    connections.finish(&follower.finish());
    connections
}

#[test]
fn kernel_and_replay_give_the_same_flows_for_every_capture() {
    for (name, ..) in ANSWERS {
        let replayed = by_replay(name, ONE_WINDOW);
        let [replayed] = &replayed[..] else {
            panic!("{name}: {} windows", replayed.len());
        };
        for section in [PLAIN, FRAGS] {
            // A network card keeps a direction of a connection on one CPU.
            let counted = by_kernel(name, section, |_| 0);
            assert_eq!(timeless(&counted), timeless(replayed), "{name}");
            assert_eq!(counted.tally.flows, replayed.tally.flows, "{name}");
            let (live, replayed) = (
                connections(&[counted]),
                connections(std::slice::from_ref(replayed)),
            );
            assert_eq!(live.summary(), replayed.summary(), "{name}");
        }
    }
}

#[test]
fn a_delivery_is_told_where_the_segments_of_a_connection_come_to_different_cpus() {
    let spread: [fn(usize) -> usize; 3] = [|frame| frame, |frame| frame / 2, |frame| frame / 3];
    for (name, deliveries) in [("smtp.pcap", 2), ("smtp-many-addresses.pcap", 1)] {
        for cpu_of in spread {
            let window = by_kernel(name, PLAIN, cpu_of);
            let outcomes = connections(&[window]).summary().ended;
            assert_eq!(outcomes.of(Outcome::Delivered), deliveries, "{name}");
        }
    }
}

/// One connection as tshark has it: packets, bytes and replies, without a line of the product.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stream {
    packets: [u64; 2],
    bytes: [u64; 2],
    /// 2xx to 5xx.
    replies: [u64; 4],
    /// MAIL and RCPT.
    commands: [u64; 2],
}

type Streams = BTreeMap<(IpAddr, u16, IpAddr), Stream>;

/// What the first octets say: a class of replies, or a command.
fn reply_class(payload: &[u8]) -> Option<usize> {
    let [
        class @ b'2'..=b'5',
        b'0'..=b'5',
        b'0'..=b'9',
        b' ' | b'\r',
        ..,
    ] = payload
    else {
        return None;
    };
    Some(usize::from(class - b'2'))
}

fn command(payload: &[u8]) -> Option<usize> {
    let start = payload.get(..8)?.to_ascii_uppercase();
    [b"MAIL FRO", b"RCPT TO:"]
        .iter()
        .position(|command| *command == &start[..])
}

fn by_tshark(name: &str) -> Streams {
    const FIELDS: [&str; 12] = [
        "tcp.stream",
        "ip.src",
        "ip.dst",
        "ip.len",
        "ipv6.src",
        "ipv6.dst",
        "ipv6.plen",
        "tcp.srcport",
        "tcp.dstport",
        "tcp.seq_raw",
        "tcp.payload",
        "smtp.response.code",
    ];
    let rows = tshark_fields(&data(name), "tcp.port == 25 && !icmp && !icmpv6", &FIELDS);
    let mut streams = Streams::new();
    let mut last = BTreeMap::new();
    let mut told = 0;
    for row in rows.expect("tshark reads the capture") {
        let number = |i: usize| row[i].parse::<u64>().unwrap_or_else(|_| panic!("{row:?}"));
        let address = |four: usize| -> IpAddr {
            let text = if row[four].is_empty() {
                &row[four + 3]
            } else {
                &row[four]
            };
            text.parse().unwrap_or_else(|_| panic!("{row:?}"))
        };
        let (source, destination) = (address(1), address(2));
        let bytes = if row[3].is_empty() {
            40 + number(6)
        } else {
            number(3)
        };
        let c2s = number(8) == 25;
        let key = if c2s {
            (source, number(7) as u16, destination)
        } else {
            (destination, number(8) as u16, source)
        };
        let stream = streams.entry(key).or_default();
        stream.packets[usize::from(!c2s)] += 1;
        stream.bytes[usize::from(!c2s)] += bytes;
        let octet = |i: usize| u8::from_str_radix(&row[10][i..i + 2], 16).expect("an octet");
        let payload: Vec<u8> = (0..row[10].len()).step_by(2).map(octet).collect();
        let said = if c2s {
            command(&payload)
        } else {
            reply_class(&payload)
        };
        if let Some(kind) = said {
            // The same segment as the last one that said something was sent again.
            if last.insert((key, c2s), number(9)) == Some(number(9)) {
                continue;
            }
            if c2s {
                stream.commands[kind] += 1;
            } else {
                stream.replies[kind] += 1;
                // Where tshark makes SMTP of it, it reads the same class.
                if !row[11].is_empty() {
                    assert_eq!(number(11) / 100, kind as u64 + 2, "{name}: {row:?}");
                    told += 1;
                }
            }
        }
    }
    let replies: u64 = streams.values().flat_map(|stream| stream.replies).sum();
    assert!(
        2 * told >= replies,
        "{name}: tshark tells of {told} of {replies}"
    );
    streams
}

/// The same from connections.
fn stitched(connections: &Connections, clients: &Streams) -> Streams {
    let mut streams = Streams::new();
    for (client, ..) in clients.keys() {
        for row in connections.recent_of((*client).into()) {
            let (key, connection) = (row.key, row.connection);
            let volume = connection.volume();
            let said = connection.said();
            let stream = Stream {
                packets: [volume.c2s_packets, volume.s2c_packets],
                bytes: [volume.c2s_bytes, volume.s2c_bytes],
                replies: said.named(REPLIES).0.map(|(_, count)| count),
                commands: said.named(COMMANDS).0.map(|(_, count)| count),
            };
            let key = (key.client.into(), key.client_port, key.server.into());
            streams.insert(key, stream);
        }
    }
    streams
}

#[test]
fn every_connection_of_every_capture_is_that_of_tshark_however_windows_are_cut() {
    let mut compared = 0;
    for (name, opened, ..) in ANSWERS {
        let expected = by_tshark(name);
        for length in [ONE_WINDOW, Duration::from_secs(10), Duration::from_secs(1)] {
            let windows = by_replay(name, length);
            let connections = connections(&windows);
            assert_eq!(
                stitched(&connections, &expected),
                expected,
                "{name}, {length:?}"
            );
            let summary = connections.summary();
            assert_eq!(summary.sessions.connections(), opened, "{name}");
            assert_eq!(summary.sessions.unfollowed, 0, "{name}");
            assert_eq!(summary.ended, summary.sessions.outcomes, "{name}");
            compared += expected.len();
        }
    }
    assert_eq!(compared, 3 * 10, "connections");
}

/// What became of the connections of each capture, as its README and a look at it say.
const OUTCOMES: [(&str, &[Outcome]); 8] = [
    ("smtp.pcap", &[Outcome::Delivered; 2]),
    ("smtp-one-side-only.pcap", &[Outcome::Unknown]),
    ("smtp-attachment-msg.pcap", &[Outcome::Unknown]),
    // A greeting, and then STARTTLS or the end.
    ("ipv6.pcap", &[Outcome::Answered]),
    ("smtp-bdat-cmd-invalid.pcapng", &[Outcome::Rejected; 3]),
    ("smtp-many-addresses.pcap", &[Outcome::Delivered]),
    ("truncated-header.pcap", &[Outcome::Answered]),
    ("connect-with-smtp.pcap", &[]),
];

#[test]
fn every_connection_has_its_outcome_however_windows_are_cut() {
    for (name, expected) in OUTCOMES {
        for length in [
            ONE_WINDOW,
            Duration::from_secs(10),
            Duration::from_millis(50),
        ] {
            let outcomes = connections(&by_replay(name, length)).summary().ended;
            for outcome in Outcome::ALL {
                let count = expected.iter().filter(|one| **one == outcome).count();
                assert_eq!(
                    outcomes.of(outcome),
                    count as u64,
                    "{name}, {length:?}: {outcome:?}"
                );
            }
        }
    }
}

#[test]
fn nothing_is_claimed_where_only_one_side_is_seen() {
    for name in ["smtp-one-side-only.pcap", "smtp-attachment-msg.pcap"] {
        let connections = connections(&by_replay(name, Duration::from_secs(10)));
        let sessions = connections.summary().sessions;
        assert_eq!(sessions.outcomes.visibility(), Some(0.0), "{name}");
        assert!(
            sessions.said.named(COMMANDS).0[0].1 > 0,
            "{name}: MAIL is seen"
        );
        assert_eq!(sessions.accepted, 0, "{name}");
    }
    let connections = connections(&by_replay("smtp.pcap", Duration::from_secs(10)));
    let outcomes = connections.summary().sessions.outcomes;
    assert_eq!(outcomes.visibility(), Some(1.0));
}
