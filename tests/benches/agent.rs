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
use smtpflow_tests::measure::{Plan, Rows, What, own_namespace, stay_on_last_cpu};
use smtpflow_tests::pins;
use smtpflow_tests::road::{RECEIVER, Road};
use xtask::command::poll_until;
use xtask::cost::{Counts, ROUNDS, median, name};
use xtask::lab::{Process, free_listen_address, http_get, smtpflow_binary};

/// Sets per CPU: two lines each, of which a million are in use and one in eight addresses finds no
/// place. The largest step therefore sends more.
const SETS: u32 = 1 << 20;
/// Sources as reported, and addresses that send one packet each.
const STEPS: [(u32, u32); 3] = [(10_000, 10_200), (100_000, 103_000), (1_000_000, 1_140_000)];
/// So long that all packets of a step go into one window: seconds, and in a smoke run.
const WINDOW: (u64, u64) = (4, 2);
const PATIENCE: Duration = Duration::from_secs(30);
/// Scrapes of which the median is taken.
const SCRAPES: usize = 9;

fn main() {
    let plan = Plan::from_arguments(ROUNDS);
    own_namespace();
    let mut road = Road::new();
    let mut rows = Rows::new(name::AGENT);
    for round in 1..=plan.rounds {
        let folder = tempfile::tempdir().expect("a folder");
        let window = Duration::from_secs(plan.of(WINDOW.0, WINDOW.1));
        let mut agent = Agent::start(folder.path(), window);
        stay_on_last_cpu();
        for (sources, packets) in plan.of(&STEPS[..], &STEPS[..2]) {
            eprintln!("agent, {sources} sources: round {round} of {}", plan.rounds);
            step(&mut agent, &mut road, &mut rows, *sources, *packets);
        }
        agent.stop();
    }
    Rows::print(vec![rows]);
}

/// Fills one window and measures what becomes of it.
fn step(agent: &mut Agent, road: &mut Road, rows: &mut Rows, sources: u32, packets: u32) {
    let what = |case, unit| What {
        case,
        subject: name::SMTPFLOW,
        over: None,
        sources: u64::from(sources),
        unit,
    };
    // A window without packets is what the agent costs anyway: the flip, the look at the whole table,
    // this program's questions.
    let idle = agent.over_a_drain(|| ());
    road.vary(1 << 24);
    let before = agent.status();
    let busy = agent.over_a_drain(|| {
        road.send(packets);
    });
    let after = agent.status();

    let drained = after["last_drain"]["sources"].as_u64().expect("a count");
    assert!(
        drained >= u64::from(sources),
        "{drained} sources drained, not {sources}: {after}"
    );
    rows.add(what(name::IDLE_CPU, "ms"), milliseconds(idle));
    rows.add(what(name::DRAIN_CPU, "ms"), milliseconds(busy));
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

fn milliseconds(time: Duration) -> f64 {
    1000.0 * time.as_secs_f64()
}

struct Agent {
    process: Process,
    listen: SocketAddr,
    window: Duration,
}

impl Agent {
    fn start(folder: &Path, window: Duration) -> Self {
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
        let process = Process::start(&mut command, "smtpflow", folder.join("smtpflow.log"))
            .unwrap_or_else(|error| panic!("{error:#}"));
        let mut this = Self {
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
    /// time the agent took from the one to the other.
    fn over_a_drain(&self, work: impl FnOnce()) -> Duration {
        let drains = || self.status()["drains"].as_u64().expect("a count");
        let first = drains();
        assert!(poll_until(PATIENCE, || drains() > first), "no drain");
        let before = self.cpu();
        let begun = Instant::now();
        work();
        assert!(
            begun.elapsed() < self.window / 2,
            "more than half a window's work"
        );
        // Not asked meanwhile: questions cost as well. Half a window is for publishing.
        thread::sleep((self.window * 3 / 2).saturating_sub(begun.elapsed()));
        let time = self.cpu() - before;
        assert_eq!(drains(), first + 2, "one drain since the first");
        time
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
