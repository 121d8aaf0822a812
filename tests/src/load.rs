//! An interface that is counted on while packets come, whatever happens to the agent.
//!
//! Contract: [`Rig::under_load`] compares what was counted with what was sent, source by source, and looks
//! all the time whether the program is on the interface. It panics at any difference.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use smtp_common::flow::Totals;
use smtp_user::{crash, link};
use xtask::command::poll_until;
use xtask::lab::{Agent, AgentOptions, Lab};

use crate::packets::server;
use crate::{totals, volley};

const LIMIT: Duration = Duration::from_secs(60);
/// As often as this at least is looked whether the program is attached.
const LOOKS: u64 = 100;

/// A laboratory in which a client sends through the interface `outer` of a gateway, and nobody answers for the
/// server: what is sent is to arrive, not more.
pub fn laboratory(prefix: &str) -> Lab {
    let lab = Lab::new(prefix).expect("a laboratory");
    for name in ["client", "gateway"] {
        lab.add_namespace(name).expect("a namespace");
    }
    lab.link(("client", "eth0"), ("gateway", "outer"), None)
        .expect("a link");
    let ip = |args: &str| lab.ip("client", args).expect("ip");
    ip("addr add 198.51.100.254/24 dev eth0");
    ip("route add default dev eth0");
    ip(&format!(
        "neigh add {} lladdr 02:00:00:00:00:99 dev eth0 nud permanent",
        server(1)
    ));
    lab
}

/// See the module.
pub struct Rig {
    /// How agents are run.
    pub options: AgentOptions,
    /// How often somebody looks whether the program is on the interface.
    pub look: Duration,
    lab: Arc<Lab>,
    per_second: u64,
}

impl Rig {
    /// A laboratory of this prefix, and so many packets a second.
    pub fn new(prefix: &str, per_second: u64) -> Self {
        let lab = laboratory(prefix);
        let mut options = AgentOptions::new(&lab).expect("options");
        options.interfaces = vec!["outer".to_owned()];
        options.window = "1s".to_owned();
        options.extra = vec!["--keep-attached".to_owned()];
        Self {
            options,
            look: Duration::from_millis(1),
            lab: Arc::new(lab),
            per_second,
        }
    }

    /// Starts an agent.
    pub fn start(&self) -> Agent {
        self.lab.agent(&self.options).expect("the agent starts")
    }

    /// Starts an agent and waits until it counts.
    pub fn ready(&self) -> Agent {
        let mut agent = self.start();
        agent.wait_ready(LIMIT).expect("the agent is ready");
        agent
    }

    /// Ends an agent as the kernel does when memory is short: it has no say in it.
    pub fn kill(agent: &mut Agent) {
        agent
            .process()
            .stop(Signal::SIGKILL, LIMIT)
            .expect("killed");
    }

    /// Starts an agent that kills itself when it comes to this point, and waits for its end.
    pub fn die_at(&mut self, point: &str) {
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
    pub fn under_load(mut self, work: impl FnOnce(&mut Self)) -> u64 {
        // Attached before the first packet.
        let mut first = self.ready();
        Self::kill(&mut first);
        let stop = AtomicBool::new(false);
        let (checks, gaps) = (AtomicU64::new(0), AtomicU64::new(0));
        let gateway = self.lab.ns("gateway");
        let lab = Arc::clone(&self.lab);
        let (per_second, look) = (self.per_second, self.look);
        let sent = thread::scope(|scope| {
            let load = scope.spawn(|| {
                let fire = || volley::fire(per_second, &stop);
                lab.within("client", fire).expect("the client's namespace")
            });
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let links = link::links_in(Some(&gateway)).expect("the links");
                    let outer = link::find(&links, "outer", "look at").expect("outer");
                    checks.fetch_add(1, Ordering::Relaxed);
                    gaps.fetch_add(u64::from(outer.xdp.is_none()), Ordering::Relaxed);
                    thread::sleep(look);
                }
            });
            // Whatever happens in there, the threads must end, or the scope does not.
            let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&mut self)));
            // Work that is soon done ends no sooner than the looks are enough.
            poll_until(LIMIT, || checks.load(Ordering::Relaxed) > LOOKS);
            stop.store(true, Ordering::Relaxed);
            let sent = load.join().expect("the load");
            worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            sent
        });
        let checks = checks.into_inner();
        assert!(checks > LOOKS, "looked at the link {checks} times");
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
