//! No packet is lost and none counted twice while windows are cut under load, on two CPUs; and the
//! same check sees the loss where a map is read and deleted from while it counts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aya::maps::{HashMap, MapData};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use smtp_common::flow::{SourceStats, Totals};
use smtp_user::meter::xdp::PLAIN;
use smtp_user::model::Tally;
use smtpflow_tests::packets::{Flags, Frame, client, server};
use smtpflow_tests::programs::Programs;
use smtpflow_tests::{meter, options, window};

/// Packets in one call of the kernel's test run. A call holds off the flip until it ends, since a
/// flip waits for every program.
const REPEAT: u32 = 100_000;
/// Packets, and windows with packets in them, before the load stops: in CI, and in the long form.
const ENOUGH: [(u64, u32); 2] = [(10_000_000, 100), (100_000_000, 1_000)];
/// When to give up.
const LIMIT: Duration = Duration::from_secs(600);

#[test]
fn flips_under_load_lose_nothing_and_double_nothing() {
    let long = std::env::var_os("SMTPFLOW_LONG").is_some_and(|value| value == "1");
    let (packets, flips) = ENOUGH[usize::from(long)];
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
        let enough = busy >= flips && tally.frames >= packets;
        if enough || begun.elapsed() > LIMIT {
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

    let all: u64 = runs.iter().sum();
    println!(
        "{} packets sent, {} counted; {windows} flips, {busy} of them under load",
        3 * all,
        tally.frames
    );
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
        busy >= flips && tally.frames >= packets,
        "only {} packets, and {busy} of {windows} windows cut under load",
        tally.frames
    );
}

/// Packets of one attempt to see a loss.
const ATTEMPT: u64 = 2_000_000;

/// The negative control. A hash map counts the same packets by the same code, and user space reads and
/// deletes its entries meanwhile: a program that has looked an entry up still adds to it when it is no
/// longer in the map. If this loses nothing, the test above proves nothing.
#[test]
fn reading_and_deleting_from_a_live_map_loses() {
    let frame = Frame::to_server(client(1), server(1), Flags::Ack, 1).build();
    let mut programs = Programs::compare(16);
    let map = programs.take_map("SHARED");
    let mut map = HashMap::<_, [u64; 3], [u64; 6]>::try_from(map).expect("a hash map");
    let begun = Instant::now();
    let (mut sent, mut counted, mut deleted) = (0, 0, 0);
    while sent == counted && begun.elapsed() < LIMIT {
        let programs = &programs;
        let frame = &frame;
        thread::scope(|scope| {
            let load = scope.spawn(move || {
                for _ in 0..ATTEMPT / u64::from(REPEAT) {
                    programs.time("shared_hash", frame, REPEAT);
                }
            });
            while !load.is_finished() {
                let (packets, entries) = take_all(&mut map);
                counted += packets;
                deleted += entries;
            }
        });
        sent += ATTEMPT;
        // What came between the last look and the end.
        counted += take_all(&mut map).0;
    }
    println!("{sent} packets sent, {counted} counted; {deleted} times read and deleted");
    assert!(
        counted < sent,
        "{counted} of {sent} packets counted: a control that loses nothing is none"
    );
}

/// Reads and deletes every entry, and says how many packets and entries these were.
fn take_all(map: &mut HashMap<MapData, [u64; 3], [u64; 6]>) -> (u64, u64) {
    let keys: Vec<_> = map.keys().collect::<Result<_, _>>().expect("the keys");
    let mut packets = 0;
    for key in &keys {
        let words = map.get(key, 0).expect("nobody else deletes");
        map.remove(key).expect("nobody else deletes");
        packets += SourceStats::from_words(words).c2s_packets;
    }
    (packets, keys.len() as u64)
}
