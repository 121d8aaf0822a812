//! The agent is killed, at random and at each point of a drain, and replaced, under load: no packet
//! is lost, none is counted twice, and the program is never off the interface.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use smtp_common::flow::Totals;
use smtp_user::{crash, link};
use smtpflow_tests::packets::server;
use smtpflow_tests::random::Random;
use smtpflow_tests::{long, totals, volley};
use xtask::command::poll_until;
use xtask::lab::{Agent, AgentOptions, Lab};

const LIMIT: Duration = Duration::from_secs(60);
const PER_SECOND: u64 = 50_000;
/// A killed agent has lived for up to this long. A window lasts one second, so that some are killed
/// while they start, some while they drain, and some in between.
const LONGEST_LIFE: Duration = Duration::from_millis(1300);

/// Namespaces of a client and a gateway, and how to run an agent in the latter.
struct Rig {
    options: AgentOptions,
    lab: Arc<Lab>,
}

impl Rig {
    fn new(prefix: &str) -> Self {
        let lab = Lab::new(prefix).expect("a laboratory");
        for name in ["client", "gateway"] {
            lab.add_namespace(name).expect("a namespace");
        }
        lab.link(("client", "eth0"), ("gateway", "outer"), None)
            .expect("a link");
        let ip = |args: &str| lab.ip("client", args).expect("ip");
        ip("addr add 198.51.100.254/24 dev eth0");
        ip("route add default dev eth0");
        // Nobody answers for the server: what is sent is to arrive, not more.
        ip(&format!(
            "neigh add {} lladdr 02:00:00:00:00:99 dev eth0 nud permanent",
            server(1)
        ));
        let mut options = AgentOptions::new(&lab).expect("options");
        options.interfaces = vec!["outer".to_owned()];
        options.window = "1s".to_owned();
        options.extra = vec!["--keep-attached".to_owned()];
        Self {
            options,
            lab: Arc::new(lab),
        }
    }

    fn start(&self) -> Agent {
        self.lab.agent(&self.options).expect("the agent starts")
    }

    fn ready(&self) -> Agent {
        let mut agent = self.start();
        agent.wait_ready(LIMIT).expect("the agent is ready");
        agent
    }

    /// Starts an agent that kills itself when it comes to this point, and waits for its end.
    fn die_at(&mut self, point: &str) {
        self.options.environment = vec![(crash::VARIABLE.to_owned(), point.to_owned())];
        let mut agent = self.start();
        self.options.environment.clear();
        let status = agent.process().wait(LIMIT);
        let log = agent.process().log_text();
        let status = status.unwrap_or_else(|error| panic!("{point}: {error:#}; its log:\n{log}"));
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        assert_eq!(signal, Some(Signal::SIGKILL as i32), "{point}: {log}");
    }

    /// Does `work` while packets come, then compares what was counted with what was sent. Says how
    /// many packets that were.
    fn under_load(mut self, work: impl FnOnce(&mut Self)) -> u64 {
        // Attached before the first packet.
        let mut first = self.ready();
        first
            .process()
            .stop(Signal::SIGKILL, LIMIT)
            .expect("killed");
        let stop = AtomicBool::new(false);
        let (checks, gaps) = (AtomicU64::new(0), AtomicU64::new(0));
        let gateway = self.lab.ns("gateway");
        let lab = Arc::clone(&self.lab);
        let sent = thread::scope(|scope| {
            let load = scope.spawn(|| {
                let fire = || volley::fire(PER_SECOND, &stop);
                lab.within("client", fire).expect("the client's namespace")
            });
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let links = link::links_in(Some(&gateway)).expect("the links");
                    let outer = link::find(&links, "outer", "look at").expect("outer");
                    checks.fetch_add(1, Ordering::Relaxed);
                    gaps.fetch_add(u64::from(outer.xdp.is_none()), Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(1));
                }
            });
            // Whatever happens in there, the threads must end, or the scope does not.
            let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&mut self)));
            stop.store(true, Ordering::Relaxed);
            let sent = load.join().expect("the load");
            worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            sent
        });
        let checks = checks.into_inner();
        assert!(checks > 100, "looked at the link {checks} times");
        assert_eq!(gaps.into_inner(), 0, "detached, in {checks} looks");
        for (name, interface) in [("client", "eth0"), ("gateway", "outer")] {
            let drops = self.lab.drops(name, interface).expect("counts of drops");
            assert_eq!(drops, 0, "{name} {interface} dropped");
        }
        self.compare(&sent)
    }

    fn compare(&self, sent: &BTreeMap<IpAddr, Totals>) -> u64 {
        let packets: u64 = sent.values().map(Totals::packets).sum();
        let mut agent = self.ready();
        let mut status = serde_json::Value::Null;
        poll_until(LIMIT, || {
            status = agent.json("/api/v1/status").expect("status");
            status["totals"]["c2s_packets"].as_u64() >= Some(packets)
        });
        assert_eq!(status["totals"]["c2s_packets"], packets, "{status}");
        assert_eq!(status["conservation"]["error"], 0, "{status}");
        // Two windows later still.
        agent.wait_drained(LIMIT).expect("windows");
        let document = agent.json("/api/v1/sources?limit=1000").expect("sources");
        let rows = document["sources"].as_array().expect("rows");
        let counted: BTreeMap<IpAddr, Totals> = rows
            .iter()
            .map(|row| {
                let address = row["addr"].as_str().expect("an address");
                (address.parse().expect("an address"), totals(&row["total"]))
            })
            .filter(|(address, _)| sent.contains_key(address))
            .collect();
        assert_eq!(&counted, sent);
        agent.stop().expect("the agent ends");
        packets
    }
}

/// The counts of 200 kills are asked for; the shorter form has every kind as well.
fn times(full: u32, short: u32) -> u32 {
    if long() { full } else { short }
}

#[test]
fn killed_at_random_the_agent_loses_and_doubles_nothing() {
    let kills = times(200, 40);
    let mut random = Random::new(0x5eed_c4a5);
    let begun = Instant::now();
    let packets = Rig::new("crashr").under_load(|rig| {
        for _ in 0..kills {
            let mut agent = rig.start();
            let life = LONGEST_LIFE * random.below(1000) as u32 / 1000;
            thread::sleep(life);
            let ended = agent.process().is_running();
            assert!(ended, "it ended by itself: {}", agent.process().log_text());
            agent
                .process()
                .stop(Signal::SIGKILL, LIMIT)
                .expect("killed");
        }
    });
    println!(
        "{kills} kills at random, {packets} packets in {:.0?}: 0 lost, 0 doubled",
        begun.elapsed()
    );
}

#[test]
fn killed_at_each_point_of_a_drain_the_agent_loses_and_doubles_nothing() {
    let kills = times(20, 5);
    let begun = Instant::now();
    let packets = Rig::new("crashp").under_load(|rig| {
        for point in crash::POINTS {
            for _ in 0..kills {
                rig.die_at(point);
            }
        }
        // One after the other as well: what was left by one point is met by the next.
        for point in crash::POINTS {
            rig.die_at(&format!("{point}:2"));
        }
    });
    println!(
        "{kills} kills at each of {} points, {packets} packets in {:.0?}: 0 lost, 0 doubled",
        crash::POINTS.len(),
        begun.elapsed()
    );
}

#[test]
fn upgraded_under_load_the_agent_misses_nothing() {
    let upgrades = times(100, 20);
    let begun = Instant::now();
    let packets = Rig::new("upgrade").under_load(|rig| {
        for _ in 0..upgrades {
            let mut agent = rig.ready();
            agent.stop().expect("it ends and stays attached");
        }
    });
    println!(
        "{upgrades} upgrades, {packets} packets in {:.0?}: 0 missed",
        begun.elapsed()
    );
}
