//! No packet is lost and none counted twice while windows are cut under load, on two CPUs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::thread;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use smtp_common::flow::Totals;
use smtp_user::meter::Meter as _;
use smtp_user::meter::xdp::PLAIN;
use smtp_user::model::Tally;
use smtpflow_tests::packets::{Flags, Frame, client, server};
use smtpflow_tests::{meter, options};

/// One call of the kernel's test run. Each takes some 30 ms longer than its packets need, because
/// the program is attached nowhere.
const REPEAT: u32 = 400_000;
const CALLS: u32 = 20;

#[test]
fn flips_under_load_lose_nothing_and_double_nothing() {
    let mut meter = meter(&options("drain", 8));
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
            thread::spawn(move || {
                let mut cpus = CpuSet::new();
                cpus.set(usize::from(cpu)).expect("a CPU");
                // A machine with one CPU runs both on it.
                let _ = sched_setaffinity(Pid::from_raw(0), &cpus);
                for _ in 0..CALLS {
                    for frame in &frames {
                        runner.run(frame, REPEAT).expect("a run");
                    }
                }
            })
        })
        .collect();

    let mut tally = Tally::default();
    let mut sources: BTreeMap<IpAddr, Totals> = BTreeMap::new();
    let (mut windows, mut busy) = (0, 0);
    loop {
        let last = load.iter().all(thread::JoinHandle::is_finished);
        let window = meter.window().unwrap_or_else(|failure| panic!("{failure}"));
        let window = window.expect("a live meter has no end");
        assert_eq!(window.tally.conservation_error(), 0, "{:?}", window.tally);
        windows += 1;
        busy += u32::from(window.tally.frames > 0);
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
    for thread in load {
        thread.join().expect("the load");
    }
    meter.detach().expect("the pins can be removed");

    let runs = u64::from(REPEAT) * u64::from(CALLS);
    println!(
        "{} packets, {windows} flips, {busy} of them under load",
        tally.frames
    );
    assert_eq!((tally.frames, tally.segments()), (6 * runs, 6 * runs));
    for cpu in 0..2 {
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
    assert_eq!(
        (server.s2c_packets, server.s2c_bytes),
        (2 * runs, 2 * 40 * runs)
    );
    assert!(
        busy >= 20,
        "only {busy} of {windows} windows were cut under load"
    );
}
