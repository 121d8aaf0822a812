//! What readers of the API wait, and what a drain waits for readers, with a million sources.
//!
//! Contract: the agent is the `smtpflow` program as it is shipped, with a table and a list that hold a
//! million sources, and ten thousand verdicts in its store. The load comes from `hey`, a public tool, which
//! is on the same machine and takes its share of the processors. In each round take their turn: a window
//! without readers, one with 100 requests a second, one with 200 readers that ask as fast as they get
//! answers, and one with 200 whose program leaves the processors to others. Then what the first request after a drain costs, and the next one, for each key that a list
//! can be sorted by.
//!
//! Part of `cargo xtask bench`, which builds the agent, runs this and reports; as root.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use nix::sys::signal::Signal;
use smtp_user::model::period::Period;
use smtp_user::model::verdict::{
    Figure, Holding, Rule, Severity, Verdict, VerdictChange, VerdictEvent, VerdictState,
};
use smtp_user::store::Store;
use smtpflow_tests::measure::{Plan, Rows, What, own_namespace};
use smtpflow_tests::pins;
use smtpflow_tests::road::{RECEIVER, Road};
use xtask::command::poll_until;
use xtask::cost::{ROUNDS, name};
use xtask::lab::{Process, Response, free_listen_address, http_get, smtpflow_binary};

const SETS: u32 = 1 << 20;
/// Sources in the list as reported, and packets of as many addresses of which as many find a place in the
/// table; the same of a usual window; those of a smoke run.
const SOURCES: u64 = 1_000_000;
const MILLION: u32 = 1_140_000;
const USUAL: u32 = 10_200;
const QUICK: u64 = 10_000;
/// A window, and how long a load goes on: from a drain until readers have seen the next one.
const WINDOW: Duration = Duration::from_secs(5);
const LOAD: Duration = Duration::from_secs(7);
const QUICK_WINDOW: Duration = Duration::from_secs(2);
const QUICK_LOAD: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(60);
/// How often is asked whether there is news.
const POLL: Duration = Duration::from_millis(5);
/// Verdicts in the store.
const VERDICTS: u64 = 10_000;
/// What is asked.
const LIST: &str = "/api/v1/sources?limit=100";
/// Readers, the most requests a second of each, 0 for as many as it can, and how nice they are.
const READERS: [(&str, u32, u32, u32); 4] = [
    (name::NO_READERS, 0, 0, 0),
    (name::PACED_READERS, 10, 10, 0),
    (name::MANY_READERS, 200, 0, 0),
    (name::NICE_READERS, 200, 0, 19),
];

fn main() {
    let plan = Plan::from_arguments(ROUNDS);
    own_namespace();
    let mut road = Road::new();
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("smtpflow.db");
    write_verdicts(&store);
    let agent = Agent::start(folder.path(), &store, plan.of(WINDOW, QUICK_WINDOW));
    let sources = plan.of(SOURCES, QUICK);
    fill(&agent, &mut road, sources, plan.of(MILLION, USUAL));
    let mut rows = Rows::new(name::READERS);
    for round in 1..=plan.rounds {
        for (subject, workers, rate, nice) in READERS {
            eprintln!("{subject}: round {round} of {}", plan.rounds);
            agent.wait_for_drain();
            let load = (workers > 0).then(|| {
                let time = plan.of(LOAD, QUICK_LOAD);
                Load::start(&agent, (workers, rate, nice), time)
            });
            road.vary(1 << 24);
            road.send(USUAL);
            let drain = agent.wait_for_drain();
            let answers = load.map(Load::end);
            let what = |case, over| What {
                case,
                subject,
                over,
                sources,
                unit: "ms",
            };
            let over = (workers > 0).then_some(name::NO_READERS);
            rows.add(what(name::DRAIN_WALL, over), drain.took);
            rows.add(what(name::NEWS, over), drain.seen);
            if let Some(answers) = answers {
                rows.add(what(name::ANSWER_MEDIAN, None), answers.at(0.5));
                rows.add(what(name::ANSWER_P99, None), answers.at(0.99));
                let rate = What {
                    unit: "a second",
                    ..what(name::ANSWERS, None)
                };
                rows.add(rate, answers.rate());
            }
        }
    }
    for round in 1..=plan.rounds {
        eprintln!("lists: round {round} of {}", plan.rounds);
        agent.wait_for_drain();
        road.vary(1 << 24);
        road.send(USUAL);
        agent.wait_for_drain();
        // The drain is published when it is told; what it leaves to do is done soon after.
        thread::sleep(Duration::from_millis(500));
        for (subject, target) in lists() {
            for case in [name::FIRST, name::NEXT] {
                let what = What {
                    case,
                    subject: &subject,
                    over: None,
                    sources,
                    unit: "ms",
                };
                rows.add(what, agent.time(&target));
            }
        }
    }
    agent.stop();
    Rows::print(vec![rows]);
}

/// What is asked after a drain, each by a name: lists of sources by a key, and verdicts.
fn lists() -> Vec<(String, String)> {
    let mut lists: Vec<_> = name::SORTS
        .iter()
        .map(|(key, subject)| ((*subject).to_owned(), format!("{LIST}&sort={key}")))
        .collect();
    lists.push((name::VERDICTS.to_owned(), "/api/v1/verdicts".to_owned()));
    lists
}

/// Sends until the list has as many sources.
fn fill(agent: &Agent, road: &mut Road, sources: u64, packets: u32) {
    let kept = || agent.status()["sources_kept"].as_u64() >= Some(sources);
    let filled = poll_until(10 * PATIENCE, || {
        agent.wait_for_drain();
        road.vary(1 << 24);
        road.send(packets);
        agent.wait_for_drain();
        kept()
    });
    assert!(filled, "the sources found no place: {}", agent.status());
}

/// Verdicts of the last weeks, which are over.
fn write_verdicts(store: &Path) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("after 1970").as_millis() as u64;
    let changes = (1..=VERDICTS).flat_map(|id| {
        let at = now - 1000 * (VERDICTS + 60 - id);
        let [_, _, high, low] = (id as u32).to_be_bytes();
        let address = IpAddr::from(Ipv4Addr::new(198, 18, high, low));
        let verdict = Verdict {
            id,
            subject: IpNet::from(address),
            detector: "volume".to_owned(),
            severity: Severity::Warning,
            size: None,
            failing: false,
            state: VerdictState::New,
            opened_at: at,
            last_at: at,
            changed_at: at,
            reopened: 0,
            rule: Rule {
                detector: "volume".to_owned(),
                text: "more than 100 connections in the hour".to_owned(),
                severity: Severity::Warning,
                period: Period {
                    from: at - 3_600_000,
                    to: at,
                },
                figures: vec![Figure {
                    name: "connections".to_owned(),
                    value: 200.0,
                    limit: 100.0,
                    below: false,
                    unit: "connections".to_owned(),
                }],
                holding: Holding::Holds,
            },
        };
        let event = |from, to| VerdictEvent {
            verdict: id,
            at,
            who: "smtpflow".to_owned(),
            from,
            to,
            why: "of the benchmark".to_owned(),
        };
        let resolved = Verdict {
            state: VerdictState::Resolved,
            ..verdict.clone()
        };
        [
            VerdictChange::Opened(verdict, event(None, VerdictState::New)),
            VerdictChange::Moved(
                resolved,
                event(Some(VerdictState::New), VerdictState::Resolved),
            ),
        ]
    });
    let mut store = Store::open(store, 1).unwrap_or_else(|failure| panic!("{failure}"));
    store
        .write_verdicts(&changes.collect::<Vec<_>>())
        .unwrap_or_else(|failure| panic!("{failure}"));
}

/// Requests under way.
struct Load {
    hey: Child,
    time: Duration,
}

/// How long requests took, in milliseconds, the shortest first.
struct Answers {
    times: Vec<f64>,
    time: Duration,
}

impl Answers {
    /// The value below which this share of them lies.
    fn at(&self, share: f64) -> f64 {
        let place = (share * self.times.len() as f64).ceil() as usize;
        self.times[place.saturating_sub(1)]
    }

    fn rate(&self) -> f64 {
        self.times.len() as f64 / self.time.as_secs_f64()
    }
}

impl Load {
    fn start(agent: &Agent, (workers, rate, nice): (u32, u32, u32), time: Duration) -> Self {
        let mut command = Command::new("nice");
        command
            .args(["-n", &nice.to_string(), "hey"])
            .args(["-o", "csv", "-z", &format!("{}s", time.as_secs())])
            .args(["-c", &workers.to_string()]);
        if rate > 0 {
            command.args(["-q", &rate.to_string()]);
        }
        let hey = command
            .arg(format!("http://{}{LIST}", agent.listen))
            .stdout(Stdio::piped())
            .spawn()
            .expect("nice starts");
        Self { hey, time }
    }

    fn end(self) -> Answers {
        let output = self.hey.wait_with_output().expect("hey ends");
        let text = String::from_utf8_lossy(&output.stdout);
        let mut lines = text.lines();
        let columns: BTreeMap<&str, usize> =
            lines.next().expect("a head").split(',').zip(0..).collect();
        let (time, status) = (columns["response-time"], columns["status-code"]);
        let mut times: Vec<f64> = lines
            .map(|line| {
                let cells: Vec<_> = line.split(',').collect();
                assert_eq!(cells[status], "200", "{line}");
                1000.0 * cells[time].parse::<f64>().expect("a time")
            })
            .collect();
        // A request without an answer has no line.
        assert!(!times.is_empty(), "hey got no answer");
        times.sort_by(f64::total_cmp);
        Answers {
            times,
            time: self.time,
        }
    }
}

/// How a window ended, in milliseconds.
struct Drain {
    /// How long its drain took.
    took: f64,
    /// From its end to the first answer with it.
    seen: f64,
}

struct Agent {
    process: Process,
    listen: SocketAddr,
    window: Duration,
}

impl Agent {
    fn start(folder: &Path, store: &Path, window: Duration) -> Self {
        let binary = smtpflow_binary().unwrap_or_else(|error| panic!("{error:#}"));
        let listen = free_listen_address().expect("a free port");
        let config = folder.join("smtpflow.toml");
        let text = format!(
            "[meter]\ninterfaces = [{RECEIVER:?}]\nmode = \"driver\"\nwindow = \"{}s\"\n\
             pins = {:?}\n[table]\nsets_per_cpu = {SETS}\n[history]\nsources = 2000000\n\
             [store]\npath = {store:?}\n[serve]\nlisten = \"{listen}\"\n",
            window.as_secs(),
            pins("bench-readers"),
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
        Self {
            process,
            listen,
            window,
        }
    }

    fn get(&self, target: &str) -> Response {
        let answer = http_get(self.listen, target, &[]);
        let answer = answer
            .unwrap_or_else(|error| panic!("{target}: {error:#}\n{}", self.process.log_text()));
        assert_eq!(answer.status, 200, "{target}");
        answer
    }

    fn status(&self) -> serde_json::Value {
        self.get("/api/v1/status").json().expect("JSON")
    }

    /// Waits for the next drain.
    fn wait_for_drain(&self) -> Drain {
        let first = self.status()["drains"].as_u64();
        let begun = Instant::now();
        loop {
            let status = self.status();
            if status["drains"].as_u64() > first {
                // Windows end at multiples of their length.
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                let now = now.expect("after 1970").as_secs_f64();
                let took = status["last_drain"]["duration_seconds"].as_f64();
                return Drain {
                    took: 1000.0 * took.expect("a time"),
                    seen: 1000.0 * (now % self.window.as_secs_f64()),
                };
            }
            assert!(begun.elapsed() < PATIENCE, "no drain");
            thread::sleep(POLL);
        }
    }

    /// How long a request takes with its connection, in milliseconds.
    fn time(&self, target: &str) -> f64 {
        let begun = Instant::now();
        self.get(target);
        1000.0 * begun.elapsed().as_secs_f64()
    }

    fn stop(mut self) {
        let status = self
            .process
            .stop(Signal::SIGTERM, PATIENCE)
            .unwrap_or_else(|error| panic!("{error:#}"));
        assert!(status.success(), "{}", self.process.log_text());
    }
}
