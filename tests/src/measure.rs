//! What the measurements of `cargo xtask bench` share: rows, rounds, a namespace and a CPU of their own.

use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::unistd::Pid;
use xtask::cost::{Counts, ROUNDS, Row, median};

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Whether this is a smoke run, whose times mean nothing.
    pub quick: bool,
    /// Rounds: every row gets one value in each.
    pub rounds: usize,
}

impl Plan {
    /// The plan that the arguments of this program ask for: this many rounds, or in a smoke run one.
    pub fn from_arguments(rounds: usize) -> Self {
        assert!(rounds >= ROUNDS, "{rounds} rounds are too few");
        let quick = std::env::args().any(|argument| argument == "--quick");
        Self {
            quick,
            rounds: if quick { 1 } else { rounds },
        }
    }

    /// `full`, or in a smoke run `quick`.
    pub fn of<T>(self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// Slices of a measurement.
const SLICES: u32 = 8;

/// The median of nanoseconds per packet over slices of `packets`, each of which `work` works on and
/// says how long it took: so that what disturbs the machine for a moment does not show.
pub fn sliced(packets: u32, mut work: impl FnMut(u32) -> Duration) -> f64 {
    let slice = packets / SLICES;
    let times: Vec<f64> = (0..SLICES)
        .map(|_| work(slice).as_nanos() as f64 / f64::from(slice))
        .collect();
    median(&times)
}

/// Moves this process, before it has threads, to a network namespace of its own, which ends with it.
pub fn own_namespace() {
    unshare(CloneFlags::CLONE_NEWNET).expect("root may unshare the network");
    ip("link set lo up");
}

/// Runs `ip` with these words.
pub fn ip(words: &str) {
    run("ip", words);
}

/// Runs a command to its end and returns what it said.
pub fn run(program: &str, words: &str) -> String {
    let mut command = xtask::command::tool(program, words.split_whitespace());
    output(&mut command)
}

/// Runs a command to its end and returns what it said.
pub fn output(command: &mut Command) -> String {
    xtask::command::output(command, Duration::from_secs(60))
        .unwrap_or_else(|error| panic!("{error:#}"))
}

/// Keeps this thread to the machine's last CPU, and returns its number. Interrupts go to the first.
pub fn stay_on_last_cpu() -> usize {
    let cpus = std::thread::available_parallelism().expect("a CPU").get();
    let last = cpus - 1;
    stay_on(last);
    last
}

/// Keeps this thread to a CPU.
pub fn stay_on(cpu: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu).expect("a CPU that the set has a place for");
    sched_setaffinity(Pid::from_raw(0), &cpus).expect("a CPU of this machine");
}

/// The rows of a measurement, in the order in which they first got a value.
pub struct Rows {
    section: &'static str,
    rows: Vec<Row>,
}

/// What is measured: the case, who does it, over whom, with how many sources.
#[derive(Clone, Copy, Debug)]
pub struct What<'a> {
    /// See [`Row::case`].
    pub case: &'a str,
    /// See [`Row::subject`].
    pub subject: &'a str,
    /// See [`Row::over`].
    pub over: Option<&'a str>,
    /// See [`Row::sources`].
    pub sources: u64,
    /// See [`Row::unit`].
    pub unit: &'a str,
}

impl Rows {
    /// None yet.
    pub const fn new(section: &'static str) -> Self {
        Self {
            section,
            rows: Vec::new(),
        }
    }

    /// Adds the value of one round.
    pub fn add(&mut self, what: What<'_>, value: f64) {
        self.row(what).rounds.push(value);
    }

    /// Adds packets that were sent and counted in one round.
    pub fn add_counts(&mut self, what: What<'_>, counts: Counts) {
        let row = self.row(what);
        match &mut row.counts {
            Some(all) => {
                all.sent += counts.sent;
                all.counted += counts.counted;
                all.unattributed += counts.unattributed;
            }
            None => row.counts = Some(counts),
        }
    }

    fn row(&mut self, what: What<'_>) -> &mut Row {
        let at = self.rows.iter().position(|row| {
            (row.case.as_str(), row.subject.as_str(), row.sources)
                == (what.case, what.subject, what.sources)
        });
        let at = at.unwrap_or_else(|| {
            self.rows.push(Row {
                section: self.section.to_owned(),
                case: what.case.to_owned(),
                subject: what.subject.to_owned(),
                sources: what.sources,
                unit: what.unit.to_owned(),
                over: what.over.map(str::to_owned),
                rounds: Vec::new(),
                counts: None,
            });
            self.rows.len() - 1
        });
        &mut self.rows[at]
    }

    /// Hands the rows to whoever started this program, on standard output.
    pub fn print(all: Vec<Self>) {
        let rows: Vec<Row> = all.into_iter().flat_map(|rows| rows.rows).collect();
        println!("{}", serde_json::to_string(&rows).expect("plain data"));
    }
}
