//! A spoofed flood: more strangers than the tables have lines, over IPv4 and IPv6, and in between the
//! traffic of our own hosts. They stay exact, everything that was sent is accounted for, and neither
//! the agent nor the kernel takes more memory for more strangers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use smtp_common::flow::Totals;
use smtpflow_tests::packets::{Flags, Frame, server, six};
use smtpflow_tests::totals;
use smtpflow_tests::wire::{Arrivals, Transmitter};
use xtask::lab::{Agent, AgentOptions, Lab, ensure_bpffs};

const LIMIT: Duration = Duration::from_secs(120);
/// Different strangers in one flood.
const STRANGERS: u32 = (1 << 20) + (1 << 18);
/// Frames that are on the way at once: fewer than the ring of a veth has places (256).
const ON_THE_WAY: usize = 128;
/// How many strangers come between two packets of our own hosts.
const BETWEEN: u32 = 16;
/// Own hosts of each family.
const OWN: u8 = 100;
/// Longest drain.
const DRAIN: f64 = 1.0;
/// Sources that the agent keeps: fewer than half a table has lines, so that the first flood fills the
/// list however few windows it lasts.
const KEPT: u32 = 50_000;
/// Fewest floods: the first ones fill the list of sources, the pages that SQLite keeps and what the allocator
/// holds of each thread.
const FLOODS: u32 = 3;
/// Most floods until one finds all of it full: the end of five minutes, whose bins are closed, may be in one.
const MOST_FLOODS: u32 = 8;
/// By how much the agent may grow in the last flood: the allocator's slack. A stranger kept costs more
/// than a hundred bytes, so that a list which took in another flood would grow by ten times as much.
const GROWTH: u64 = 16 << 20;

/// A gateway with one interface, and a host that sends to it.
fn lab(prefix: &str) -> Lab {
    ensure_bpffs().expect("bpffs");
    let lab = Lab::new(prefix).expect("a laboratory");
    for name in ["sender", "gateway"] {
        lab.add_namespace(name).expect("a namespace");
        // Nobody speaks but we.
        lab.within(name, || {
            for which in ["all", "default"] {
                let switch = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
                std::fs::write(&switch, "1").unwrap_or_else(|error| panic!("{switch}: {error}"));
            }
        })
        .expect("a thread in the namespace");
    }
    lab.link(("sender", "eth0"), ("gateway", "outer"), None)
        .expect("a link");
    lab
}

/// Our own host of this number, of either family: `10.7.0.n` and `2001:db8::n`.
fn own(number: u32) -> IpAddr {
    let host = 1 + (number / 2 % u32::from(OWN)) as u8;
    if number.is_multiple_of(2) {
        Ipv4Addr::new(10, 7, 0, host).into()
    } else {
        six(host.into())
    }
}

/// A stranger, of either family. No two numbers are one stranger.
fn stranger(number: u32) -> IpAddr {
    // An odd factor visits every number of 23 bits once, in an order that looks like chance.
    let mixed = number.wrapping_mul(0x2_c5b3) & ((1 << 23) - 1);
    let [_, b, c, d] = mixed.to_be_bytes();
    if number.is_multiple_of(2) {
        Ipv4Addr::new(100, b, c, d).into()
    } else {
        Ipv6Addr::new(0x2a00, b.into(), u16::from_be_bytes([c, d]), 0, 0, 0, 0, 1).into()
    }
}

/// What was sent.
#[derive(Default)]
struct Sent {
    own: BTreeMap<IpAddr, Totals>,
    /// By all, packets and bytes.
    all: (u64, u64),
    syns: u64,
}

/// A SYN from this address.
fn syn(from: IpAddr, sequence: u32) -> Frame {
    let to = if from.is_ipv4() {
        server(1)
    } else {
        six(0xffff)
    };
    Frame::to_server(from, to, Flags::Syn, sequence)
}

/// Sends the flood; `round` makes its SYNs and its strangers others than those of another round.
fn flood(lab: &Lab, arrivals: &Arrivals, before: u64, round: u32, sent: &mut Sent) {
    lab.within("sender", || {
        let mut transmitter = Transmitter::open("eth0");
        let mut number = 0;
        let mut arrived = before;
        let mut frames = Vec::with_capacity(ON_THE_WAY + ON_THE_WAY / BETWEEN as usize);
        while number < STRANGERS {
            frames.clear();
            while frames.len() < ON_THE_WAY && number < STRANGERS {
                let frame = syn(stranger(round * STRANGERS + number), round);
                sent.all.0 += 1;
                sent.all.1 += frame.bytes();
                sent.syns += 1;
                frames.push(frame.build());
                if number.is_multiple_of(BETWEEN) {
                    let turn = number / BETWEEN;
                    let host = own(turn);
                    // A connection of its own each time, and now and then some data.
                    let mut frame = syn(host, round << 24 | turn);
                    if turn % 8 >= 6 {
                        frame.flags = Flags::Ack;
                        frame.payload = 100;
                    }
                    let opens = frame.flags == Flags::Syn;
                    let totals = sent.own.entry(host).or_default();
                    totals.c2s_packets += 1;
                    totals.c2s_bytes += frame.bytes();
                    totals.connections += u64::from(opens);
                    sent.all.0 += 1;
                    sent.all.1 += frame.bytes();
                    sent.syns += u64::from(opens);
                    frames.push(frame.build());
                }
                number += 1;
            }
            transmitter.send(&frames);
            arrived += frames.len() as u64;
            assert!(
                arrivals.wait(arrived, LIMIT),
                "{} of {arrived} frames arrived",
                arrivals.count()
            );
        }
    })
    .expect("a thread in the namespace");
}

/// Resident memory of the agent, the mapped tables with it, in bytes.
fn resident(agent: &mut Agent) -> u64 {
    let path = format!("/proc/{}/status", agent.process().id());
    let text = std::fs::read_to_string(Path::new(&path)).expect("the state of the agent");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.expect("kilobytes") << 10
}

fn number(status: &Value, path: &str) -> u64 {
    let value = status.pointer(path).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("{path} in {status}"))
}

/// How many addresses the agent keeps.
fn kept(agent: &mut Agent) -> u64 {
    let status = agent.json("/api/v1/status").expect("status");
    number(&status, "/sources_kept")
}

/// Our own hosts as the agent serves them.
fn served(agent: &mut Agent) -> BTreeMap<IpAddr, Totals> {
    let page = agent
        .json("/api/v1/sources?filter=scope:local&limit=10000&sort=addr&order=asc")
        .expect("sources");
    let list = page["sources"].as_array().expect("a list");
    assert_eq!(page["total"], list.len(), "the list is cut");
    let sources = list.iter().map(|source| {
        let address = source["addr"].as_str().expect("an address");
        let address = address.parse().expect("an address");
        (address, totals(&source["total"]))
    });
    sources.collect()
}

/// The longest drain while `work` runs.
fn longest_drain<T: Send>(agent: &mut Agent, work: impl FnOnce() -> T + Send) -> (T, f64) {
    std::thread::scope(|scope| {
        let work = scope.spawn(work);
        let mut longest: f64 = 0.0;
        loop {
            let done = work.is_finished();
            let status = agent.json("/api/v1/status").expect("status");
            let seconds = status["last_drain"]["duration_seconds"].as_f64();
            longest = longest.max(seconds.expect("a drain"));
            if done {
                break (work.join().expect("the work"), longest);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    })
}

#[test]
fn a_spoofed_flood_leaves_own_hosts_exact_and_memory_as_it_was() {
    let lab = lab("sfflood");
    let mut options = AgentOptions::new(&lab).expect("options");
    options.interfaces = vec!["outer".to_owned()];
    options.window = "5s".to_owned();
    let config = lab.folder().join("flood.toml");
    let text = format!(
        "[history]\nsources = {KEPT}\n[networks]\nlocal = [\"10.7.0.0/16\", \"2001:db8::/32\"]\n"
    );
    std::fs::write(&config, text).expect("the configuration can be written");
    options.extra = vec!["--config".to_owned(), config.display().to_string()];
    let mut agent = lab.agent(&options).expect("the agent starts");
    agent.wait_ready(LIMIT).expect("the agent is ready");
    let kernel_memory = {
        let status = agent.json("/api/v1/status").expect("status");
        let lines = number(&status, "/table/lines");
        println!("{lines} lines in one half of the table of sources");
        assert!(
            lines < STRANGERS.into(),
            "the flood does not fill the table"
        );
        number(&status, "/table/memory_bytes")
    };
    let idle = resident(&mut agent);

    let arrivals = Arrivals::default();
    let mut sent = Sent::default();
    let mut memory = Vec::new();
    std::thread::scope(|scope| {
        let (ready, wait) = std::sync::mpsc::channel();
        let (lab, watcher) = (&lab, arrivals.clone());
        scope.spawn(move || {
            lab.within("gateway", || {
                watcher.watch(|| ready.send(()).expect("somebody waits"));
            })
        });
        wait.recv().expect("the watcher is ready");
        for round in 0..MOST_FLOODS {
            let begun = Instant::now();
            let before = sent.all.0;
            let (arrivals, account) = (&arrivals, &mut sent);
            let work = move || flood(lab, arrivals, before, round, account);
            let ((), drain) = longest_drain(&mut agent, work);
            let seconds = begun.elapsed().as_secs_f64();
            agent.wait_drained(LIMIT).expect("a drain");
            memory.push(resident(&mut agent));
            println!(
                "flood {round}: {} packets at {:.0} per second, longest drain {drain:.3} s, \
                 resident {} MiB, {} sources kept",
                sent.all.0 - before,
                (sent.all.0 - before) as f64 / seconds,
                memory[round as usize] >> 20,
                kept(&mut agent)
            );
            assert!(drain < DRAIN, "a drain took {drain} s");
            let grew = memory
                .windows(2)
                .last()
                .map(|pair| pair[1].saturating_sub(pair[0]));
            if round + 1 >= FLOODS && grew.is_some_and(|grew| grew < GROWTH) {
                break;
            }
        }
        arrivals.stop();
    });
    assert_eq!(arrivals.count(), sent.all.0, "frames were lost on the way");
    assert_eq!(lab.drops("gateway", "outer").expect("drops"), 0);
    assert_eq!(lab.drops("sender", "eth0").expect("drops"), 0);

    let status = agent.json("/api/v1/status").expect("status");
    assert_eq!(status["conservation"]["error"], 0, "{status}");
    let all = number(&status, "/conservation/source_packets");
    let overflow = number(&status, "/conservation/overflow_packets");
    assert_eq!(all + overflow, sent.all.0, "{status}");
    let bytes = number(&status, "/conservation/source_bytes")
        + number(&status, "/conservation/overflow_bytes");
    assert_eq!(bytes, sent.all.1, "{status}");
    assert!(overflow > 0, "the table was never full: {status}");
    println!("{overflow} packets in overflow");
    assert_eq!(number(&status, "/table/spill_refused"), 0, "{status}");

    let served = served(&mut agent);
    assert_eq!(served.len(), 2 * usize::from(OWN));
    for (address, expected) in &sent.own {
        assert_eq!(served.get(address), Some(expected), "{address}");
    }

    let now = number(&status, "/table/memory_bytes");
    assert_eq!(now, kernel_memory, "the tables grew");
    println!("resident {} MiB when idle", idle >> 20);
    assert!(
        number(&status, "/untracked/packets") > 0,
        "the list of sources was never full"
    );
    let [.., before, after] = memory[..] else {
        panic!("two floods at least");
    };
    assert!(
        after < before + GROWTH,
        "the agent grew from {before} to {after} bytes in flood {MOST_FLOODS}, as in all before: {memory:?}"
    );
    assert!(agent.stop().expect("the agent ends").success());
}
