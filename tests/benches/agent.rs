//! What a running agent costs: a drain, its publication, a scrape, memory; as the number of sources in
//! one window grows.
//!
//! Contract: the agent is the `smtpflow` program beside this one, as it is shipped but for a table of
//! sources that holds a million; it is asked over HTTP and looked at in /proc, like any other process.
//! It is started anew for each round, so that memory does not remember an earlier one.
//!
//! Part of `cargo xtask bench`, which builds the agent, runs this and reports; as root.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use smtpflow_tests::measure::{Plan, Rows, What, own_namespace};
use smtpflow_tests::pins;
use smtpflow_tests::road::{RECEIVER, Road};
use xtask::command::poll_until;
use xtask::cost::{Counts, ROUNDS, median, name};
use xtask::lab::{Process, free_listen_address, http_get, smtpflow_binary};

/// Sets per CPU: two lines each, of which a million are in use and one in eight addresses finds no
/// place. The largest step therefore sends more.
const SETS: u32 = 1 << 20;
/// Sources as reported, and addresses that send one packet each. The first is what a window costs
/// anyway: the flip, the look at the whole table, this program's questions.
const STEPS: [(u32, u32); 4] = [
    (0, 0),
    (10_000, 10_200),
    (100_000, 103_000),
    (1_000_000, 1_140_000),
];
/// As it is shipped, and without what it writes to its store. Seconds of a window, in which the window
/// before is stored and all packets of a step are sent; fewer in a smoke run.
const SUBJECTS: [(&str, u64); 2] = [(name::SMTPFLOW, 10), (name::SMTPFLOW_NO_STORE, 4)];
const QUICK_WINDOW: u64 = 2;
const TRIES: u32 = 10;
const PATIENCE: Duration = Duration::from_secs(30);
/// Scrapes of which the median is taken.
const SCRAPES: usize = 9;

fn main() {
    let plan = Plan::from_arguments(ROUNDS);
    own_namespace();
    let mut road = Road::new();
    let mut rows = Rows::new(name::AGENT);
    for round in 1..=plan.rounds {
        for (subject, window) in SUBJECTS {
            let folder = tempfile::tempdir().expect("a folder");
            let window = Duration::from_secs(plan.of(window, QUICK_WINDOW));
            let mut agent = Agent::start(folder.path(), subject, window);
            for (sources, packets) in plan.of(&STEPS[..], &STEPS[..2]) {
                eprintln!(
                    "{subject}, {sources} sources: round {round} of {}",
                    plan.rounds
                );
                step(&mut agent, &mut road, &mut rows, *sources, *packets);
            }
            agent.stop();
        }
    }
    Rows::print(vec![rows]);
}

/// Fills one window and measures what becomes of it.
fn step(agent: &mut Agent, road: &mut Road, rows: &mut Rows, sources: u32, packets: u32) {
    let what = |case, unit| What {
        case,
        subject: agent.subject,
        over: None,
        sources: u64::from(sources),
        unit,
    };
    let (before, cpu, after) = again(|| {
        road.vary(1 << 24);
        let before = agent.status();
        let cpu = agent.over_a_drain(|| {
            if packets > 0 {
                road.send(packets);
            }
        })?;
        let after = agent.status();
        let drained = after["last_drain"]["sources"].as_u64().expect("a count");
        (drained >= u64::from(sources)).then_some((before, cpu, after))
    });

    rows.add(what(name::DRAIN_CPU, "ms"), milliseconds(cpu));
    let wall = after["last_drain"]["duration_seconds"].as_f64();
    rows.add(
        what(name::DRAIN_WALL, "ms"),
        1000.0 * wall.expect("a duration"),
    );
    let scrapes: Vec<f64> = (0..SCRAPES).map(|_| milliseconds(agent.scrape())).collect();
    rows.add(what(name::SCRAPE, "ms"), median(&scrapes));
    let (own, tables) = agent.resident();
    rows.add(what(name::RESIDENT, "MiB"), own);
    rows.add(what(name::TABLES, "MiB"), tables);

    let packets_of = |status: &serde_json::Value| {
        let all = status["totals"]["c2s_packets"].as_u64().expect("a count");
        let overflow = status["overflow"]["packets"].as_u64().expect("a count");
        (all - overflow, overflow)
    };
    let ((placed_before, over_before), (placed, over)) = (packets_of(&before), packets_of(&after));
    let counts = Counts {
        sent: u64::from(packets),
        counted: placed - placed_before,
        unattributed: over - over_before,
        note: String::new(),
    };
    rows.add_counts(what(name::DRAIN_CPU, "ms"), counts);
}

/// Measures until the agent's windows were where they should be: on a busy machine they may not.
fn again<T>(mut measure: impl FnMut() -> Option<T>) -> T {
    (0..TRIES).find_map(|_| measure()).unwrap_or_else(|| {
        panic!("in {TRIES} tries no window held all packets and was done in time")
    })
}

fn milliseconds(time: Duration) -> f64 {
    1000.0 * time.as_secs_f64()
}

struct Agent {
    subject: &'static str,
    process: Process,
    listen: SocketAddr,
    window: Duration,
}

impl Agent {
    fn start(folder: &Path, subject: &'static str, window: Duration) -> Self {
        let binary = smtpflow_binary().unwrap_or_else(|error| panic!("{error:#}"));
        let listen = free_listen_address().expect("a free port");
        let config = folder.join("smtpflow.toml");
        let text = format!(
            "[meter]\ninterfaces = [{RECEIVER:?}]\nmode = \"driver\"\nwindow = \"{}s\"\n\
             pins = {:?}\n[table]\nsets_per_cpu = {SETS}\n[history]\nsources = 2000000\n\
             [store]\npath = {:?}\n[serve]\nlisten = \"{listen}\"\n",
            window.as_secs(),
            pins("bench-agent"),
            folder.join("smtpflow.db"),
        );
        fs::write(&config, text).expect("a file in our folder");
        let mut command = Command::new(&binary);
        command.arg("run").arg("--config").arg(&config);
        if subject == name::SMTPFLOW_NO_STORE {
            command.arg("--no-store");
        }
        let process = Process::start(&mut command, "smtpflow", folder.join("smtpflow.log"))
            .unwrap_or_else(|error| panic!("{error:#}"));
        let mut this = Self {
            subject,
            process,
            listen,
            window,
        };
        let ready = poll_until(PATIENCE, || {
            http_get(listen, "/readyz", &[]).is_ok_and(|answer| answer.status == 200)
                || !this.process.is_running()
        });
        assert!(
            ready && this.process.is_running(),
            "{}",
            this.process.log_text()
        );
        this
    }

    fn status(&self) -> serde_json::Value {
        let answer = http_get(self.listen, "/api/v1/status", &[]);
        let answer = answer.unwrap_or_else(|error| panic!("{error:#}"));
        answer.json().expect("JSON")
    }

    /// Waits for a drain, works, waits for the next drain and its publication, and says how much CPU
    /// time the agent took from the one to the other; `None` if that was not one window.
    fn over_a_drain(&self, work: impl FnOnce()) -> Option<Duration> {
        let drains = || self.status()["drains"].as_u64().expect("a count");
        let first = drains();
        assert!(poll_until(PATIENCE, || drains() > first), "no drain");
        let before = self.cpu();
        let begun = Instant::now();
        work();
        let in_time = begun.elapsed() < self.window / 2;
        // Questions cost as well, so none is asked before the answer can have changed, and few after.
        thread::sleep(self.window.saturating_sub(begun.elapsed()));
        while drains() < first + 2 && begun.elapsed() < self.window * 2 {
            thread::sleep(self.window / 20);
        }
        // What was published has been published; what was drained is still cleared.
        thread::sleep(self.window / 8);
        let time = self.cpu() - before;
        (in_time && drains() == first + 2).then_some(time)
    }

    /// CPU time of all threads, since the start.
    fn cpu(&self) -> Duration {
        let pid = Pid::from_raw(self.process.id() as i32);
        let clock = clock_getcpuclockid(pid).expect("a clock for the process");
        clock_gettime(clock).expect("its time").into()
    }

    /// How long a GET of the metrics takes, with its connection.
    fn scrape(&self) -> Duration {
        let begun = Instant::now();
        let answer =
            http_get(self.listen, "/metrics", &[]).unwrap_or_else(|error| panic!("{error:#}"));
        let time = begun.elapsed();
        assert_eq!(answer.status, 200);
        time
    }

    /// MiB in RAM: without the kernel's tables, and these.
    fn resident(&self) -> (f64, f64) {
        let path = format!("/proc/{}/smaps", self.process.id());
        let smaps = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let (mut own, mut tables) = (0, 0);
        let mut of_a_table = false;
        for line in smaps.lines() {
            // "7f00-7f01 rw-s 00000000 00:0e 9 anon_inode:bpf-map", then "Rss:   4 kB" and others.
            if let Some(rest) = line.strip_prefix("Rss:") {
                let kib: u64 = rest
                    .trim()
                    .trim_end_matches(" kB")
                    .parse()
                    .expect("a number");
                *(if of_a_table { &mut tables } else { &mut own }) += kib;
            } else if line
                .split_whitespace()
                .next()
                .is_some_and(|word| !word.ends_with(':'))
            {
                of_a_table = line.contains("bpf-map");
            }
        }
        (own as f64 / 1024.0, tables as f64 / 1024.0)
    }

    fn stop(mut self) {
        let status = self
            .process
            .stop(Signal::SIGTERM, PATIENCE)
            .unwrap_or_else(|error| panic!("{error:#}"));
        assert!(status.success(), "{}", self.process.log_text());
    }
}
