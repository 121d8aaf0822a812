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
/// The share of windows that may have ended late: in hours, and in minutes, of which one has few.
const LATE: f64 = 0.001;
const SHORT_LATE: f64 = 0.01;
/// A window that is this much longer than it should be has ended late.
const LATE_BY: f64 = 0.5;
/// Most growth, in MiB an hour, beyond what noise may look like: told in hours, not in minutes.
const GROWTH: f64 = 1.0;
/// Most growth in minutes, in MiB: windows that wait for the end of their bin take a third of it, and give it back.
const SHORT_GROWTH: f64 = 0.8;
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

/// The slope of a line through these, by least squares, and its standard error: for each hour.
fn slope(samples: &[Held], value: impl Fn(&Held) -> f64) -> (f64, f64) {
    let points: Vec<(f64, f64)> = samples
        .iter()
        .map(|held| (held.at.as_secs_f64() / 3600.0, value(held)))
        .collect();
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let together: f64 = points
        .iter()
        .map(|(x, y)| (x - mean_x) * (y - mean_y))
        .sum();
    let slope = together / spread;
    let rest: f64 = points
        .iter()
        .map(|(x, y)| (y - mean_y - slope * (x - mean_x)).powi(2))
        .sum();
    (slope, (rest / (count - 2.0) / spread).sqrt())
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
    let (memory, memory_error) = slope(&steady, |held| held.resident_kib / 1024.0);
    let (descriptors, descriptors_error) = slope(&steady, |held| held.descriptors);
    let (threads, _) = slope(&steady, |held| held.threads);
    let resident = |held: Option<&Held>| held.map_or(0.0, |held| held.resident_kib / 1024.0);
    println!(
        "{packets} packets in {length:.0?} and what came around it, {drains} windows, {late} late, the longest \
         {longest:.2} s; resident {:.1} MiB at first, {:.1} after {warm:.0?}, {:.1} at last; slopes an hour: \
         memory {memory:+.2} MiB (standard error {memory_error:.2}), descriptors {descriptors:+.2} \
         ({descriptors_error:.2}), threads {threads:+.2}",
        resident(samples.first()),
        resident(steady.first()),
        resident(steady.last()),
    );
    let windows = length.as_secs_f64() / WINDOW.as_secs_f64();
    let share = if long() { LATE } else { SHORT_LATE };
    assert!(
        drains as f64 >= windows * (1.0 - share) - 1.0,
        "{drains} drains instead of {windows}"
    );
    assert!(
        late as f64 <= windows * share,
        "{late} of {windows} windows late"
    );
    let most = if long() {
        GROWTH + 3.0 * memory_error
    } else {
        SHORT_GROWTH / measured.as_secs_f64() * 3600.0
    };
    assert!(
        memory <= most,
        "memory grows by {memory} MiB an hour, give or take {memory_error}"
    );
    assert!(
        descriptors <= 3.0 * descriptors_error,
        "descriptors grow by {descriptors} an hour, give or take {descriptors_error}"
    );
}
