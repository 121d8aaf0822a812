//! What readers of the API wait, and what a drain waits for readers, with a million sources.
//!
//! Contract: the agent is the `smtpflow` program as it is shipped, with a table that holds a million
//! sources; the load comes from `hey`, a public tool, which is on the same machine and takes its share
//! of the processors. Side by side: drains without readers, with 100 requests a second, with 200 readers
//! that ask as fast as they get answers. Then what the first request after a drain costs, for each
//! key that a list can be sorted by.
//!
//! `cargo bench --locked -p smtpflow-tests --bench readers`, as root, after `cargo xtask build --release`;
//! `apt-get install hey`. With `-- --quick` a smoke run.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use smtpflow_tests::measure::{Plan, own_namespace};
use smtpflow_tests::pins;
use smtpflow_tests::road::{RECEIVER, Road};
use xtask::command::{find, poll_until};
use xtask::cost::ROUNDS;
use xtask::lab::{Process, free_listen_address, http_get, smtpflow_binary};

const SETS: u32 = 1 << 20;
/// Packets of which a million sources find a place in the table, and those of a usual window.
const MILLION: u32 = 1_140_000;
const USUAL: u32 = 10_200;
const WINDOW: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);
/// What is asked.
const TARGET: &str = "/api/v1/sources?limit=100";
/// Keys of the list that are measured: a count, one of the window, a mean, one that needs another
/// table, one in words, the address.
const KEYS: [&str; 7] = [
    "connections",
    "c2s_bytes",
    "window.connections",
    "bytes_per_packet",
    "servers",
    "state",
    "addr",
];

fn main() {
    let plan = Plan::from_arguments(ROUNDS);
    assert!(
        find("hey").is_some(),
        "there is no hey: apt-get install hey"
    );
    own_namespace();
    let mut road = Road::new();
    let folder = tempfile::tempdir().expect("a folder");
    let agent = Agent::start(folder.path());
    let packets = plan.of(MILLION, USUAL);
    let tries = poll_until(10 * PATIENCE, || {
        road.vary(1 << 24);
        agent.wait_for_drain();
        road.send(packets);
        agent.wait_for_drain();
        agent.status()["sources_kept"].as_u64() >= Some(u64::from(packets) * 8 / 10)
    });
    assert!(tries, "the sources found no place");
    let kept = agent.status()["sources_kept"].as_u64().expect("a count");
    println!("sources in the list: {kept}");
    let windows = plan.of(8, 1);
    println!(
        "\n| readers | requests | p50 ms | p99 ms | max ms | not 200 | drain p50 ms | drain max ms | late ms |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (name, workers, rate) in [
        ("none", 0, 0),
        ("100 requests/s", 10, 10),
        ("200 readers", 200, 0),
    ] {
        let load = (workers > 0).then(|| Load::start(&agent, workers, rate, WINDOW * windows));
        let mut drains = Vec::new();
        let mut late: f64 = 0.0;
        let mut last = agent.wait_for_drain();
        for _ in 0..windows {
            road.vary(1 << 24);
            road.send(USUAL);
            let drain = agent.wait_for_drain();
            drains.push(1000.0 * drain.0);
            late = late.max(1000.0 * ((drain.1 - last.1).abs() - WINDOW.as_secs_f64()).abs());
            last = drain;
        }
        let answers = load.map(Load::end).unwrap_or_default();
        println!(
            "| {name} | {} | {:.1} | {:.1} | {:.1} | {} | {:.0} | {:.0} | {late:.0} |",
            answers.times.len(),
            answers.at(0.5),
            answers.at(0.99),
            answers.at(1.0),
            answers.failed,
            at(&mut drains.clone(), 0.5),
            at(&mut drains, 1.0),
        );
    }
    println!("\n| sort | first request after a drain, ms | the next one, ms |\n|---|---|---|");
    for key in KEYS {
        let target = format!("{TARGET}&sort={key}");
        let (mut first, mut next) = (Vec::new(), Vec::new());
        for _ in 0..plan.of(3, 1) {
            road.vary(1 << 24);
            road.send(USUAL);
            agent.wait_for_drain();
            // The drain is published when it is told; what it leaves to do is done soon after.
            thread::sleep(Duration::from_millis(500));
            first.push(agent.time(&target));
            next.push(agent.time(&target));
        }
        println!(
            "| {key} | {:.1} | {:.1} |",
            at(&mut first, 0.5),
            at(&mut next, 0.5)
        );
    }
    agent.stop();
}

/// The value below which this share of them lies.
fn at(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = (share * values.len() as f64).ceil() as usize;
    values.get(place.saturating_sub(1)).copied().unwrap_or(0.0)
}

struct Load(Child);

#[derive(Default)]
struct Answers {
    times: Vec<f64>,
    failed: u64,
}

impl Answers {
    fn at(&self, share: f64) -> f64 {
        at(&mut self.times.clone(), share)
    }
}

impl Load {
    fn start(agent: &Agent, workers: u32, rate: u32, time: Duration) -> Self {
        let mut command = Command::new("hey");
        command
            .args(["-o", "csv", "-z", &format!("{}s", time.as_secs())])
            .args(["-c", &workers.to_string()]);
        if rate > 0 {
            command.args(["-q", &rate.to_string()]);
        }
        let child = command
            .arg(format!("http://{}{TARGET}", agent.listen))
            .stdout(Stdio::piped())
            .spawn()
            .expect("hey starts");
        Self(child)
    }

    fn end(self) -> Answers {
        let output = self.0.wait_with_output().expect("hey ends");
        let text = String::from_utf8_lossy(&output.stdout);
        let mut lines = text.lines();
        let columns: BTreeMap<&str, usize> =
            lines.next().expect("a head").split(',').zip(0..).collect();
        let (time, status) = (columns["response-time"], columns["status-code"]);
        let mut answers = Answers::default();
        for line in lines {
            let cells: Vec<_> = line.split(',').collect();
            answers
                .times
                .push(1000.0 * cells[time].parse::<f64>().expect("a time"));
            answers.failed += u64::from(cells[status] != "200");
        }
        answers
    }
}

struct Agent {
    process: Process,
    listen: SocketAddr,
}

impl Agent {
    fn start(folder: &Path) -> Self {
        let binary = smtpflow_binary().unwrap_or_else(|error| panic!("{error:#}"));
        let listen = free_listen_address().expect("a free port");
        let config = folder.join("smtpflow.toml");
        let text = format!(
            "[meter]\ninterfaces = [{RECEIVER:?}]\nmode = \"driver\"\nwindow = \"{}s\"\n\
             pins = {:?}\n[table]\nsets_per_cpu = {SETS}\n[history]\nsources = 2000000\n\
             [store]\npath = {:?}\n[serve]\nlisten = \"{listen}\"\n",
            WINDOW.as_secs(),
            pins("bench-readers"),
            folder.join("smtpflow.db"),
        );
        fs::write(&config, text).expect("a file in our folder");
        let mut command = Command::new(&binary);
        command.arg("run").arg("--config").arg(&config);
        let process = Process::start(&mut command, "smtpflow", folder.join("smtpflow.log"))
            .unwrap_or_else(|error| panic!("{error:#}"));
        let ready = poll_until(PATIENCE, || {
            http_get(listen, "/readyz", &[]).is_ok_and(|answer| answer.status == 200)
        });
        assert!(ready, "{}", process.log_text());
        Self { process, listen }
    }

    fn status(&self) -> serde_json::Value {
        let answer = http_get(self.listen, "/api/v1/status", &[]);
        let answer = answer.unwrap_or_else(|error| panic!("{error:#}"));
        answer.json().expect("JSON")
    }

    /// Waits for the next drain; gives how long it took and when it ended, in seconds.
    fn wait_for_drain(&self) -> (f64, f64) {
        let first = self.status()["drains"].as_u64().expect("a count");
        let mut status = serde_json::Value::Null;
        let drained = poll_until(PATIENCE, || {
            status = self.status();
            status["drains"].as_u64() > Some(first)
        });
        assert!(drained, "no drain");
        let drain = &status["last_drain"];
        let at = drain["at"].as_str().expect("a time");
        let seconds: f64 = at[17..23].parse().expect("seconds");
        let minutes: f64 = at[14..16].parse().expect("minutes");
        (
            drain["duration_seconds"].as_f64().expect("a time"),
            60.0 * minutes + seconds,
        )
    }

    /// How long a request takes with its connection, in milliseconds.
    fn time(&self, target: &str) -> f64 {
        let begun = Instant::now();
        let answer = http_get(self.listen, target, &[]).unwrap_or_else(|error| panic!("{error:#}"));
        let time = begun.elapsed();
        assert_eq!(answer.status, 200);
        1000.0 * time.as_secs_f64()
    }

    fn stop(mut self) {
        let status = self
            .process
            .stop(Signal::SIGTERM, PATIENCE)
            .unwrap_or_else(|error| panic!("{error:#}"));
        assert!(status.success(), "{}", self.process.log_text());
    }
}
