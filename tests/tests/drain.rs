//! No packet is lost and none counted twice while windows are cut under load, on two CPUs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use smtp_common::flow::Totals;
use smtp_user::meter::xdp::PLAIN;
use smtp_user::model::Tally;
use smtpflow_tests::packets::{Flags, Frame, client, server};
use smtpflow_tests::{meter, options, window};

/// Packets in one call of the kernel's test run. A call holds off the flip until it ends, since a
/// flip waits for every program.
const REPEAT: u32 = 100_000;
/// How many windows with packets in them are cut before the load stops.
const BUSY_WINDOWS: u32 = 60;
/// When to give up.
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn flips_under_load_lose_nothing_and_double_nothing() {
    let mut meter = meter(&options("drain", 8));
    let stop = Arc::new(AtomicBool::new(false));
    // Each thread counts for its own client, and both for one server.
    let load: Vec<_> = (0..2)
        .map(|cpu| {
            let runner = meter.runner(PLAIN).expect("a runner");
            let client = client(cpu);
            let frames = [
                Frame::to_server(client, server(1), Flags::Syn, 1).build(),
                Frame::to_client(server(1), client, Flags::SynAck, 9).build(),
                Frame::to_server(client, server(1), Flags::Ack, 2)
                    .with_payload(700)
                    .build(),
            ];
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut cpus = CpuSet::new();
                cpus.set(usize::from(cpu)).expect("a CPU");
                // A machine with one CPU runs both on it.
                let _ = sched_setaffinity(Pid::from_raw(0), &cpus);
                let mut runs = 0;
                while !stop.load(Ordering::Relaxed) {
                    for frame in &frames {
                        runner.run(frame, REPEAT).expect("a run");
                    }
                    runs += u64::from(REPEAT);
                }
                runs
            })
        })
        .collect();

    let mut tally = Tally::default();
    let mut sources: BTreeMap<IpAddr, Totals> = BTreeMap::new();
    let (mut windows, mut busy) = (0, 0);
    let begun = Instant::now();
    loop {
        let last = load.iter().all(thread::JoinHandle::is_finished);
        let window = window(&mut meter).expect("a live meter has no end");
        windows += 1;
        busy += u32::from(window.tally.frames > 0);
        if busy >= BUSY_WINDOWS || begun.elapsed() > LIMIT {
            stop.store(true, Ordering::Relaxed);
        }
        tally.merge(&window.tally);
        for source in &window.sources {
            sources
                .entry(source.ip())
                .or_default()
                .merge(&source.totals);
        }
        if last {
            break;
        }
    }
    let runs: Vec<u64> = load
        .into_iter()
        .map(|thread| thread.join().expect("the load"))
        .collect();
    meter.detach().expect("the pins can be removed");

    println!(
        "{} packets, {windows} flips, {busy} of them under load",
        tally.frames
    );
    let all: u64 = runs.iter().sum();
    assert_eq!((tally.frames, tally.segments()), (3 * all, 3 * all));
    for (cpu, runs) in (0..2).zip(runs) {
        let expected = Totals {
            connections: 1,
            syn_retx: runs - 1,
            c2s_packets: 2 * runs,
            c2s_bytes: (40 + 740) * runs,
            answered: runs,
            ..Totals::default()
        };
        assert_eq!(sources[&client(cpu)], expected, "client of CPU {cpu}");
    }
    let server = sources[&server(1)];
    assert_eq!((server.s2c_packets, server.s2c_bytes), (all, 40 * all));
    assert!(
        busy >= BUSY_WINDOWS,
        "only {busy} of {windows} windows were cut under load"
    );
}
