//! The agent for a long time under a steady load: what it holds of memory and descriptors does not grow,
//! its drains are on time, every packet is counted. Four minutes, or eight hours with `--long`, after the time in
//! which it fills what it keeps.

use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use smtpflow_tests::load::Rig;
use smtpflow_tests::long;
use xtask::lab::Agent;

const LIMIT: Duration = Duration::from_secs(60);
const PER_SECOND: u64 = 100_000;
/// As long as they are where nobody says otherwise. History of a bin takes more to read the more windows it has
/// until they are merged, which grows and falls with each bin.
const WINDOW: Duration = Duration::from_secs(10);
/// How often it is looked at.
const STEP: Duration = Duration::from_secs(1);
/// The share of windows that may have ended late; in minutes it is less than one, and one may be.
const LATE: f64 = 0.001;
/// A window that is this much longer than it should be has ended late.
const LATE_BY: f64 = 0.5;
/// Most growth of memory in eight hours, in MiB: one in each hour from the first quarter to the last.
const GROWTH: f64 = 6.0;
/// Most growth of memory in minutes, in MiB: windows that wait for the end of their bin take a third of it, and give
/// it back.
const SHORT_GROWTH: f64 = 1.2;
/// Most growth of the numbers of descriptors and of threads: what is being read at a moment comes and goes.
const MORE_AT_A_MOMENT: f64 = 2.0;
/// Bins of history, which are merged at their end.
const BIN: u64 = 300;
/// From the end of a bin until it is merged.
const MERGING: Duration = Duration::from_secs(45);

/// What a process holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// Since the first sample.
    at: Duration,
    resident_kib: f64,
    descriptors: f64,
    threads: f64,
}

impl Held {
    fn of(id: u32, at: Duration) -> Self {
        let status = fs::read_to_string(format!("/proc/{id}/status")).expect("its status");
        let field = |name: &str| -> f64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let text = line.unwrap_or_else(|| panic!("no {name} in {status}"));
            let number = text.split_whitespace().next().expect("a number");
            number.parse().expect("a number")
        };
        let descriptors = fs::read_dir(format!("/proc/{id}/fd")).expect("descriptors");
        Self {
            at,
            resident_kib: field("VmRSS:"),
            descriptors: descriptors.count() as f64,
            threads: field("Threads:"),
        }
    }
}

/// How much more of something was held at most in the last quarter of these than at most in the first. Not what a
/// line through all of them says: memory that is given back for some seconds, and taken again, would tilt it.
fn growth(samples: &[Held], value: impl Fn(&Held) -> f64) -> f64 {
    let quarter = samples.len() / 4;
    let most = |part: &[Held]| part.iter().map(&value).fold(0.0, f64::max);
    most(&samples[samples.len() - quarter..]) - most(&samples[..quarter])
}

fn status(agent: &mut Agent) -> Value {
    agent.json("/api/v1/status").expect("status")
}

/// How long it takes to fill what is kept: until the first bin has been merged, at least.
fn filling() -> Duration {
    if long() {
        return Duration::from_secs(3600);
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let into = now.expect("a clock after 1970").as_secs() % BIN;
    Duration::from_secs(BIN - into) + MERGING
}

#[test]
fn for_a_long_time_memory_and_descriptors_stay_and_drains_are_on_time() {
    let measured = if long() {
        Duration::from_secs(8 * 3600)
    } else {
        Duration::from_secs(240)
    };
    let mut rig = Rig::new("soak", PER_SECOND);
    rig.look = Duration::from_millis(100);
    rig.options.window = format!("{}s", WINDOW.as_secs());
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config.toml");
    // Connections that are never ended are given up soon, so that as many are waiting all the time; and the pages of a
    // file that grows fill a cache of the usual size for hours.
    let text = "[history]\nidle = \"30s\"\n[store]\ncache_mib = 2\n";
    fs::write(&config, text).expect("written");
    let config = config.to_str().expect("text").to_owned();
    rig.options.extra.extend(["--config".to_owned(), config]);

    let mut samples: Vec<Held> = Vec::new();
    let mut late = 0;
    let mut drains = 0;
    let mut longest: f64 = 0.0;
    let mut warm = Duration::ZERO;
    let mut length = Duration::ZERO;
    let packets = rig.under_load(|rig| {
        let mut agent = rig.ready();
        agent.wait_drained(LIMIT).expect("windows");
        let id = agent.process().id();
        let first = status(&mut agent)["drains"].as_u64().expect("a number");
        let begun = Instant::now();
        warm = filling();
        length = warm + measured;
        let mut known = first;
        while begun.elapsed() < length {
            let now = status(&mut agent);
            let ended = now["drains"].as_u64().expect("a number");
            let window = now["last_drain"]["length_seconds"].as_f64();
            let window = window.expect("a length");
            if ended > known {
                late += u64::from(window > WINDOW.as_secs_f64() + LATE_BY);
                longest = longest.max(window);
            }
            known = ended;
            // What an operator and a scraper do.
            for path in ["/metrics", "/"] {
                assert_eq!(agent.get(path).expect("an answer").status, 200);
            }
            samples.push(Held::of(id, begun.elapsed()));
            thread::sleep(STEP);
        }
        let end = status(&mut agent);
        assert_eq!(end["conservation"]["error"], 0, "{end}");
        assert_eq!(end["drain_failures"], 0, "{end}");
        drains = end["drains"].as_u64().expect("a number") - first;
        let log = agent.process().log_text();
        assert!(!log.contains("panicked"), "{log}");
        agent.stop().expect("it ends and stays attached");
        // So that what is compared at last comes soon.
        rig.options.window = "1s".to_owned();
    });

    let steady: Vec<Held> = samples
        .iter()
        .filter(|held| held.at >= warm)
        .copied()
        .collect();
    let resident = |held: &Held| held.resident_kib / 1024.0;
    let first = samples.first().map_or(0.0, resident);
    let memory = growth(&steady, resident);
    let descriptors = growth(&steady, |held| held.descriptors);
    let threads = growth(&steady, |held| held.threads);
    println!(
        "{packets} packets in {length:.0?} and what came around it, {drains} windows, {late} late, the longest \
         {longest:.2} s; resident {first:.1} MiB at first; growth after {warm:.0?}: memory {memory:+.2} MiB, \
         descriptors {descriptors:+}, threads {threads:+}"
    );
    let every = steady.len().div_ceil(60);
    for held in steady.iter().step_by(every) {
        println!(
            "{:6.0} s: {:.1} MiB, {} descriptors, {} threads",
            held.at.as_secs_f64(),
            resident(held),
            held.descriptors,
            held.threads
        );
    }
    let windows = length.as_secs_f64() / WINDOW.as_secs_f64();
    let may_be_late = (windows * LATE).max(1.0);
    assert!(
        drains as f64 >= windows - may_be_late - 1.0,
        "{drains} drains instead of {windows}"
    );
    assert!(
        late as f64 <= may_be_late,
        "{late} of {windows} windows late"
    );
    let most = if long() { GROWTH } else { SHORT_GROWTH };
    assert!(memory <= most, "memory grew by {memory} MiB");
    assert!(
        descriptors <= MORE_AT_A_MOMENT,
        "the descriptors became {descriptors} more"
    );
    assert!(
        threads <= MORE_AT_A_MOMENT,
        "the threads became {threads} more"
    );
}
