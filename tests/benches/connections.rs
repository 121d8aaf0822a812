//! What it costs to put the flows of a window to their connections, and what memory they take when
//! every table of them is full: medians of one run.
//!
//! `cargo bench -p smtpflow-tests --bench connections`.

use std::process::Command;
use std::time::{Duration, SystemTime};

use smtp_common::flow::FlowKey;
use smtp_common::packet::Address;
use smtp_user::connections::{Connections, Follower, Limits};
use smtp_user::model::{Flow, Tally, Window};
use smtpflow_tests::cost::{measure, median, resident_mib};

const ROUNDS: u64 = 7;
/// Flows in a window: twice the lines of a default table on one CPU.
const FLOWS: u32 = 1 << 16;

/// A window of flows, `flow(i)` each.
fn window(number: u64, flow: impl Fn(u32) -> FlowKey) -> Window {
    let started_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + 10 * number);
    let flows = (0..FLOWS).map(|i| Flow {
        key: flow(i),
        c2s_packets: 5,
        c2s_bytes: 300,
        s2c_packets: 4,
        s2c_bytes: 400,
        connections: 1,
        syn_retx: 0,
        c2s_flags: 0x1a,
        s2c_flags: 0x1a,
        answered: true,
        refused: false,
        said: [1, 1, 3, 1, 0, 0],
        accepted: 0,
        first_reply: 2,
        last_reply: 2,
        reply_sequence: 0,
        first: started_at,
        last: started_at,
    });
    Window {
        epoch: number,
        started_at,
        length: Duration::from_secs(10),
        tally: Tally::default(),
        sources: Vec::new(),
        flows: flows.collect(),
        lines_used: 0,
        flip: Duration::ZERO,
    }
}

fn host(number: u32) -> Address {
    Address::from_ipv4((number.wrapping_mul(0x9e37_79b1)).to_be_bytes())
}

fn key(client: u32, server: u32, port: u32) -> FlowKey {
    FlowKey {
        client: host(client),
        server: host(server),
        client_port: port as u16,
        server_port: 25,
    }
}

fn bench(name: &str, flow: impl Fn(u64, u32) -> FlowKey) {
    let before = resident_mib();
    let limits = Limits::default();
    let mut follower = Follower::new(&limits);
    let mut connections = Connections::new(limits);
    let mut costs = Vec::new();
    for round in 0..ROUNDS {
        let window = window(round, |i| flow(round, i));
        costs.push(measure(|| connections.add(&window, &follower.follow(&window))).1);
    }
    let summary = connections.summary();
    println!(
        "{name}: {} a window; {} tracked, {} clients, {} pairs, {:.1} MiB more than before",
        median(&costs),
        summary.tracked,
        summary.clients,
        summary.pairs,
        resident_mib() - before
    );
    let client = flow(0, 0).client;
    let (_, cost) = measure(|| connections.pairs_of(client, 100));
    println!("  the pairs of one client: {cost}");
}

type Case = (&'static str, fn(u64, u32) -> FlowKey);

const CASES: [Case; 4] = [
    ("the same flows again and again", |_, i| {
        key(i % 1000, 2_000_000 + i % 97, i)
    }),
    ("other clients in every window", |round, i| {
        key(round as u32 * FLOWS + i, 2_000_000_000, i)
    }),
    ("one client, other servers in every window", |round, i| {
        key(1, round as u32 * FLOWS + i, i)
    }),
    ("512 clients with 896 servers each", |round, i| {
        key(i % 512, 1_000_000 + round as u32 * FLOWS + i, i)
    }),
];

fn main() {
    // cargo bench adds --bench.
    let number = std::env::args()
        .skip(1)
        .find_map(|word| word.parse::<usize>().ok());
    if let Some(number) = number {
        let (name, flow) = CASES[number];
        bench(name, flow);
        return;
    }
    // Each in a process of its own, so that the resident memory is its own.
    let me = std::env::current_exe().expect("this program");
    for number in 0..CASES.len() {
        let status = Command::new(&me).arg(number.to_string()).status();
        assert!(status.expect("a start").success());
    }
}
