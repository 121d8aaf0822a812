//! What the machine may do to the agent while packets come: set the clock, stop it, take its memory. No
//! packet is lost, none is counted twice, and no rate or stretch of time comes out of a clock that
//! jumped.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use smtp_common::flow::Totals;
use smtp_user::model::period::Tier;
use smtp_user::store::{Reader, Store};
use smtpflow_tests::cgroup::MemoryGroup;
use smtpflow_tests::load::Rig;
use smtpflow_tests::{history, long};
use xtask::command::poll_until;
use xtask::lab::Agent;

const LIMIT: Duration = Duration::from_secs(60);
const PER_SECOND: u64 = 20_000;
/// Longest window while nobody stops the agent; it is told to end them after one second, and the first
/// after a step of the clock is up to half as long again.
const LONGEST_WINDOW: f64 = 3.0;

fn status(agent: &mut Agent) -> Value {
    agent.json("/api/v1/status").expect("status")
}

/// The number in the status at this place.
fn number(status: &Value, pointer: &str) -> f64 {
    let value = status.pointer(pointer).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("no {pointer} in {status}"))
}

/// Whether a window has ended well whose length is one of those that are asked for.
fn drained(agent: &mut Agent, lengths: std::ops::RangeInclusive<f64>) {
    let status = status(agent);
    let length = number(&status, "/last_drain/length_seconds");
    assert!(
        lengths.contains(&length),
        "a window of {length} s: {status}"
    );
    assert_eq!(status["conservation"]["error"], 0, "{status}");
}

/// That what a store has in its history is what it has in all, source by source, and that no bucket of it
/// holds more time than it is long. Says how much time it holds.
fn history_is_whole(path: &Path) -> Duration {
    let failed = |failure| -> ! { panic!("{failure}") };
    let reader = Reader::open(path).unwrap_or_else(|failure| failed(failure));
    let (sources, _) = history::held(&reader, history::ALWAYS);
    let store = Store::open(path, 100_000).unwrap_or_else(|failure| failed(failure));
    let mut kept = 0;
    store
        .load(|source| {
            kept += 1;
            let counts = sources.get(&source.source.address.octets());
            let of: Option<Totals> = counts.map(|counts| counts.totals);
            assert_eq!(of, Some(source.source.totals), "{source:?}");
        })
        .unwrap_or_else(|failure| failed(failure));
    assert_eq!(kept, sources.len());
    // Each tier tells of all time, by what is finer where its own is not made yet.
    let [first, rest @ ..] = [Tier::Bin, Tier::Hour, Tier::Day].map(|tier| {
        let buckets = reader.coverage(tier, history::ALWAYS);
        let mut held = Duration::ZERO;
        for bucket in buckets.unwrap_or_else(|failure| failed(failure)) {
            let length = bucket.bucket.tier.length().map(Duration::from_millis);
            assert!(
                length.is_none_or(|length| bucket.up <= length),
                "{bucket:?}"
            );
            held += bucket.up;
        }
        held
    });
    assert_eq!(rest, [first; 2]);
    first
}

/// The clock that the agent is told is libfaketime's; clocks that cannot be set are the machine's.
#[test]
fn a_clock_that_is_set_by_hours_and_days_doubles_and_loses_nothing() {
    let mut steps = 0;
    let packets = Rig::new("ffclock", PER_SECOND).under_load(|rig| {
        let store = rig.options.store.clone().expect("a store");
        // In the folder of the store, which an agent may read that has shut itself in.
        let offset = store.with_file_name("offset");
        let set = |seconds: i64| fs::write(&offset, format!("{seconds:+}\n")).expect("written");
        fs::create_dir_all(store.parent().expect("a folder")).expect("the folder");
        set(0);
        rig.options.environment = [
            // The linker knows what $LIB is (ld.so(8)).
            ("LD_PRELOAD", "/usr/$LIB/faketime/libfaketime.so.1"),
            ("FAKETIME_TIMESTAMP_FILE", offset.to_str().expect("text")),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        let begun = Instant::now();
        let mut agent = rig.ready();
        rig.options.environment.clear();
        let (hour, day) = (3600, 86_400);
        let mut before = number(&status(&mut agent), "/uptime_seconds");
        for offset in [hour, 0, -hour, 0, day, 0, -day, 0, day + hour, -day] {
            set(offset);
            steps += 1;
            agent.wait_drained(LIMIT).expect("windows");
            drained(&mut agent, 0.1..=LONGEST_WINDOW);
            let status = status(&mut agent);
            let told: jiff::Timestamp = status["last_drain"]["at"]
                .as_str()
                .and_then(|text| text.parse().ok())
                .unwrap_or_else(|| panic!("no time in {status}"));
            let is = jiff::Timestamp::now().as_second() + offset;
            assert!(told.as_second().abs_diff(is) < 10, "{offset}: {status}");
            let up = number(&status, "/uptime_seconds");
            assert!(
                (before..before + 60.0).contains(&up),
                "up {up} s after {before} s"
            );
            before = up;
            let age = number(&status, "/last_drain/age_seconds");
            assert!((0.0..LONGEST_WINDOW).contains(&age), "{status}");
            assert_eq!(agent.get("/readyz").expect("an answer").status, 200);
        }
        let log = agent.process().log_text();
        assert!(!log.contains("panicked"), "{log}");
        agent.stop().expect("it ends and stays attached");
        let ran = begun.elapsed();
        let held = history_is_whole(&store);
        // The window that was taken over began before.
        let most = ran + Duration::from_secs(5);
        assert!(
            (ran.mul_f64(0.8)..most).contains(&held),
            "history holds {held:?} of {ran:?}"
        );
    });
    println!("{steps} steps of the clock, {packets} packets: 0 lost, 0 doubled");
}

/// Under systemd the watchdog would have ended it; here nobody does.
#[test]
fn an_agent_that_is_stopped_for_long_has_missed_nothing() {
    let stopped = Duration::from_secs(if long() { 600 } else { 20 });
    let packets = Rig::new("ffstop", PER_SECOND).under_load(|rig| {
        let store = rig.options.store.clone().expect("a store");
        let mut agent = rig.ready();
        agent.process().signal(Signal::SIGSTOP).expect("stopped");
        thread::sleep(stopped);
        agent.process().signal(Signal::SIGCONT).expect("goes on");
        let least = stopped.as_secs_f64() - 1.0;
        let mut length = 0.0;
        poll_until(LIMIT, || {
            length = number(&status(&mut agent), "/last_drain/length_seconds");
            length > least
        });
        drained(&mut agent, least..=least + 5.0);
        // What came is spread over the time in which it came: the rate is what it was.
        let status = status(&mut agent);
        let rate = number(&status, "/last_drain/connections") / length;
        assert!(
            (0.3..0.7).contains(&(rate / PER_SECOND as f64)),
            "{rate} connections a second: {status}"
        );
        agent.wait_drained(LIMIT).expect("windows");
        drained(&mut agent, 0.1..=LONGEST_WINDOW);
        agent.stop().expect("it ends and stays attached");
        history_is_whole(&store);
    });
    println!("stopped for {stopped:?}, {packets} packets: 0 lost, 0 doubled");
}

#[test]
fn an_agent_that_takes_too_much_memory_is_killed_and_the_next_goes_on() {
    let kills = if long() { 50 } else { 5 };
    let packets = Rig::new("ffmemory", PER_SECOND).under_load(|rig| {
        let group = MemoryGroup::new("smtpflow-ffmemory");
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("smtpflow");
        group.entering(&rig.options.binary, &program);
        let free = std::mem::replace(&mut rig.options.binary, program);
        for kill in 0..kills {
            let before = group.kills();
            let mut agent = rig.ready();
            // What it has and a little more; then it is asked for as much as it takes.
            group.limit(group.used() + (64 << 10));
            let killed = poll_until(LIMIT, || {
                let _ = agent.get("/api/v1/sources?limit=1000");
                let _ = agent.get("/");
                !agent.process().is_running()
            });
            assert!(killed, "it lives at its limit, with {} bytes", group.used());
            group.lift();
            assert_eq!(group.kills(), before + 1, "kill {kill}");
        }
        rig.options.binary = free;
    });
    println!("killed {kills} times for its memory, {packets} packets: 0 lost, 0 doubled");
}
