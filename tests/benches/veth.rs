//! What counting a packet costs end to end, for smtpflow and for what people use otherwise, and under
//! a flood from forged addresses; over a pair of veth interfaces in a namespace of their own.
//!
//! Contract: one CPU does nothing but make frames, send them and receive them, so the time per packet
//! that it takes longer with a counter than without is what that counter costs it. Whoever counts is
//! asked for its counts afterwards, and these are compared with the interface's own.
//!
//! Part of `cargo xtask bench`, which installs the other programs, runs this and reports; as root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use aya::programs::XdpMode;
use aya::programs::xdp::XdpLink;
use nix::sys::signal::Signal;
use smtp_user::meter::xdp::XdpMeter;
use smtp_user::model::Window;
use smtpflow_tests::measure::{
    Plan, Rows, What, output, own_namespace, run, sliced, stay_on_last_cpu,
};
use smtpflow_tests::programs::Programs;
use smtpflow_tests::road::{RECEIVER, Road};
use smtpflow_tests::{meter, options, window};
use xtask::command::{poll_until, tool};
use xtask::cost::{Counts, name};
use xtask::lab::Process;

/// Sets per CPU of the default table: see `DEFAULT_SETS` of the agent.
const SETS_LOG2: u32 = 15;
/// Many short ones: subjects of a round are then measured within a second of each other.
const ROUNDS: usize = 21;
const UNIT: &str = "ns/packet";
/// How long a program may take to start, to read what it has captured, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long the kernel holds back packets of a capture, until it has a block of them: libpcap asks for
/// a second at most.
const BLOCK: Duration = Duration::from_millis(1500);

fn main() {
    let plan = Plan::from_arguments(ROUNDS);
    own_namespace();
    stay_on_last_cpu();
    let mut bench = Bench::new();
    Rows::print(vec![end_to_end(plan, &mut bench), flood(plan, &mut bench)]);
    bench.sources.end();
    bench.flows.end();
}

/// The way of the packets, and smtpflow at its end.
struct Bench {
    road: Road,
    folder: tempfile::TempDir,
    bare: Programs,
    sources: Smtpflow,
    flows: Smtpflow,
}

/// A meter with the default table, and programs that count into it.
struct Smtpflow {
    meter: XdpMeter,
    /// The agent's own.
    agent: Programs,
    /// Those that drop.
    varied: Programs,
}

impl Bench {
    fn new() -> Self {
        Self {
            road: Road::new(),
            folder: tempfile::tempdir().expect("a folder"),
            bare: Programs::bare(),
            sources: Smtpflow::new("bench-veth", false),
            flows: Smtpflow::new("bench-veth-flows", true),
        }
    }

    fn smtpflow(&mut self, subject: &str) -> &mut Smtpflow {
        if subject == name::SMTPFLOW_FLOWS {
            &mut self.flows
        } else {
            &mut self.sources
        }
    }
}

impl Smtpflow {
    fn new(pins: &str, flows: bool) -> Self {
        let mut options = options(pins, SETS_LOG2);
        options.geometry.syn_slots = 1 << 18;
        if !flows {
            options.geometry.flow_sets = 0;
        }
        options.local = ["203.0.113.0/24", "2001:db8:5::/48"]
            .map(|prefix| prefix.parse().expect("a prefix"))
            .to_vec();
        let meter = meter(&options);
        Self {
            agent: Programs::of_agent(&meter),
            varied: Programs::varied(&meter),
            meter,
        }
    }

    fn window(&mut self) -> Window {
        window(&mut self.meter).expect("a live meter has no end")
    }

    fn end(self) {
        self.meter.detach().expect("the pins can be removed");
    }
}

/// Something that counts, or does nothing, while packets arrive.
enum Counter {
    Nothing,
    Pass {
        _link: XdpLink,
    },
    Smtpflow {
        subject: &'static str,
        link: XdpLink,
    },
    Nftables,
    Ipset,
    Tcpdump(Process),
    Softflowd(Process),
}

/// Who is measured, and over whom.
const SUBJECTS: [(&str, Option<&str>); 8] = [
    (name::NOTHING, None),
    (name::BARE_PASS, Some(name::NOTHING)),
    (name::SMTPFLOW, Some(name::NOTHING)),
    (name::SMTPFLOW_FLOWS, Some(name::NOTHING)),
    (name::NFTABLES, Some(name::NOTHING)),
    (name::IPSET, Some(name::NOTHING)),
    (name::TCPDUMP, Some(name::NOTHING)),
    (name::SOFTFLOWD, Some(name::NOTHING)),
];

const RULES: &str = "table netdev bench {
  set sources { type ipv4_addr; size 1048576; flags dynamic; counter; }
  chain in {
    type filter hook ingress device road-b priority 0;
    tcp dport 25 update @sources { ip saddr }
  }
}";

impl Counter {
    fn start(subject: &'static str, bench: &mut Bench) -> Self {
        let folder = bench.folder.path();
        match subject {
            name::NOTHING => Self::Nothing,
            name::BARE_PASS => Self::Pass {
                _link: bench.bare.attach("pass", RECEIVER, XdpMode::Driver),
            },
            name::SMTPFLOW | name::SMTPFLOW_FLOWS => {
                let programs = &mut bench.smtpflow(subject).agent;
                let link = programs.attach("smtpflow", RECEIVER, XdpMode::Driver);
                Self::Smtpflow { subject, link }
            }
            name::NFTABLES => {
                let file = folder.join("rules");
                fs::write(&file, RULES).expect("a file in our folder");
                output(tool("nft", ["-f"]).arg(&file));
                Self::Nftables
            }
            name::IPSET => {
                // As large as it may become: a set that packets fill cannot grow.
                run(
                    "ipset",
                    "create bench hash:ip counters hashsize 65536 maxelem 1048576",
                );
                // A known source is counted and ends at the first rule; a new one is added with 1.
                let rule = format!("-t raw -A PREROUTING -i {RECEIVER} -p tcp --dport 25");
                for rest in [
                    "-m set --match-set bench src -j ACCEPT",
                    "-j SET --add-set bench src",
                ] {
                    run("iptables", &format!("{rule} {rest}"));
                }
                Self::Ipset
            }
            name::TCPDUMP => {
                let words = format!("-i {RECEIVER} -n -s 96 -w /dev/null tcp port 25");
                let process = elsewhere("tcpdump", &words, folder);
                wait_for(&process, "listening on");
                Self::Tcpdump(process)
            }
            name::SOFTFLOWD => {
                // The collector's port is one where nobody listens: the account is taken here.
                let words = format!(
                    "-d -i {RECEIVER} -n 127.0.0.1:9995 -v 9 -m 1048576 -p {} -c {}",
                    folder.join("pid").display(),
                    folder.join("control").display(),
                );
                let process = elsewhere("softflowd", &words, folder);
                wait_for(&process, "starting data collection");
                Self::Softflowd(process)
            }
            _ => panic!("no such subject: {subject}"),
        }
    }

    /// Ends it, and asks for packets on the accounts of sources and of nobody, if it counts.
    fn stop(self, bench: &mut Bench) -> Option<(u64, u64, String)> {
        match self {
            Self::Nothing | Self::Pass { .. } => None,
            Self::Smtpflow { subject, link } => {
                drop(link);
                let tally = bench.smtpflow(subject).window().tally;
                Some((
                    tally.sources.packets(),
                    tally.overflow.packets(),
                    String::new(),
                ))
            }
            Self::Nftables => {
                let text = run("nft", "-j list set netdev bench sources");
                run("nft", "delete table netdev bench");
                let json: serde_json::Value = serde_json::from_str(&text).expect("JSON from nft");
                let elements = json["nftables"]
                    .as_array()
                    .and_then(|objects| objects.iter().find_map(|o| o["set"]["elem"].as_array()))
                    .expect("the elements of the set");
                let packets = elements
                    .iter()
                    .map(|e| e["elem"]["counter"]["packets"].as_u64().expect("a counter"));
                Some((packets.sum(), 0, String::new()))
            }
            Self::Ipset => {
                let text = run("ipset", "list bench");
                run("iptables", "-t raw -F PREROUTING");
                run("ipset", "destroy bench");
                // "10.1.2.3 packets 65 bytes 2600"
                let packets = text
                    .lines()
                    .filter_map(|line| line.split_once(" packets ")?.1.split(' ').next())
                    .map(|number| number.parse::<u64>().expect("a number"));
                Some((packets.sum(), 0, String::new()))
            }
            Self::Tcpdump(mut process) => {
                thread::sleep(BLOCK);
                process
                    .stop(Signal::SIGINT, PATIENCE)
                    .expect("tcpdump ends");
                let text = process.log_text();
                let figure = |what: &str| -> u64 {
                    text.lines()
                        .find_map(|line| line.split_once(what)?.0.trim().parse().ok())
                        .unwrap_or_else(|| panic!("no {what:?} in {text}"))
                };
                let dropped = figure(" packets dropped by kernel");
                let note = format!("it says it dropped {dropped}");
                Some((figure(" packets captured"), 0, note))
            }
            Self::Softflowd(mut process) => {
                bench.road.push();
                thread::sleep(BLOCK);
                let control = bench.folder.path().join("control");
                let ask = |word| output(tool("softflowctl", ["-c"]).arg(&control).arg(word));
                let text = ask("dump-flows");
                ask("exit");
                process.wait(PATIENCE).expect("softflowd ends");
                // "ACTIVE seq:1 [10.0.0.1]:40000 <> [127.0.0.25]:25 proto:6 octets>:40 packets>:1
                // octets<:0 packets<:0 ...", the arrow being that of the lower address.
                let packets = text
                    .lines()
                    .filter(|line| line.contains(" proto:6 "))
                    .flat_map(str::split_whitespace)
                    .filter_map(|word| {
                        let number = word.strip_prefix("packets>:");
                        number.or_else(|| word.strip_prefix("packets<:"))
                    })
                    .map(|number| number.parse::<u64>().expect("a number"));
                Some((packets.sum(), 0, String::new()))
            }
        }
    }
}

/// Starts a program on a CPU that does not receive, if there is one.
fn elsewhere(program: &str, words: &str, folder: &Path) -> Process {
    let mut command = tool("taskset", ["-c", "0"]);
    command.arg(xtask::command::find(program).unwrap_or_else(|| PathBuf::from(program)));
    command.args(words.split_whitespace());
    start(&mut command, program, folder)
}

fn start(command: &mut Command, program: &str, folder: &Path) -> Process {
    let log = folder.join(format!("{program}.log"));
    Process::start(command, program, log).unwrap_or_else(|error| panic!("{error:#}"))
}

fn wait_for(process: &Process, words: &str) {
    assert!(
        poll_until(PATIENCE, || process.log_text().contains(words)),
        "it does not say {words:?}: {}",
        process.log_text()
    );
}

fn end_to_end(plan: Plan, bench: &mut Bench) -> Rows {
    let packets = plan.of(1 << 19, 1 << 17);
    let mut rows = Rows::new(name::VETH);
    for round in 1..=plan.rounds {
        for sources in [16, 1 << 14] {
            eprintln!("veth, {sources} sources: round {round} of {}", plan.rounds);
            for (subject, over) in SUBJECTS {
                let what = What {
                    case: name::DATA,
                    subject,
                    over,
                    sources: u64::from(sources),
                    unit: UNIT,
                };
                let counter = Counter::start(subject, bench);
                let before = bench.road.received();
                bench.road.vary(sources);
                // Every source is known when time is taken.
                bench.road.send(1 << 14);
                rows.add(what, sliced(packets, |packets| bench.road.send(packets)));
                let sent = bench.road.received() - before;
                if let Some((counted, unattributed, note)) = counter.stop(bench) {
                    let counts = Counts {
                        sent,
                        counted,
                        unattributed,
                        note,
                    };
                    rows.add_counts(what, counts);
                }
            }
        }
    }
    rows
}

fn flood(plan: Plan, bench: &mut Bench) -> Rows {
    let mut rows = Rows::new(name::FLOOD);
    let packets = plan.of(1 << 22, 1 << 18);
    for round in 1..=plan.rounds {
        for sources in plan.of([1 << 14, 1 << 22], [1 << 14, 1 << 18]) {
            eprintln!("flood, {sources} sources: round {round} of {}", plan.rounds);
            let what = |subject, over| What {
                case: name::DATA,
                subject,
                over,
                sources: u64::from(sources),
                unit: UNIT,
            };
            let link = bench.bare.attach("drop", RECEIVER, XdpMode::Driver);
            bench.road.vary(sources);
            let time = sliced(packets, |packets| bench.road.send(packets));
            rows.add(what(name::BARE_DROP, None), time);
            drop(link);

            for subject in [name::SMTPFLOW, name::SMTPFLOW_FLOWS] {
                let what = what(subject, Some(name::BARE_DROP));
                let programs = &mut bench.smtpflow(subject).varied;
                let link = programs.attach("count_drop", RECEIVER, XdpMode::Driver);
                let before = bench.road.received();
                bench.road.vary(sources);
                rows.add(what, sliced(packets, |packets| bench.road.send(packets)));
                let sent = bench.road.received() - before;
                drop(link);
                let window = bench.smtpflow(subject).window();
                // Every source sent the same: who has a line has all of it there.
                let each = u64::from(packets / sources);
                let mut totals = window.sources.iter().map(|source| source.totals);
                assert!(
                    sent != u64::from(packets) || totals.all(|totals| totals.c2s_packets == each),
                    "a source with other counts than {each}"
                );
                let counts = Counts {
                    sent,
                    counted: window.tally.sources.packets(),
                    unattributed: window.tally.overflow.packets(),
                    note: String::new(),
                };
                rows.add_counts(what, counts);
            }
        }
    }
    rows
}
