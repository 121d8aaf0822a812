//! smtpflow only looks: the kernel object holds nothing that could change a packet, and a million
//! frames of every kind come out of a gateway as they went in, with and without it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aya::EbpfLoader;
use smtp_common::packet::MailPorts;
use smtpflow_tests::generator::Generator;
use smtpflow_tests::instructions::{Call, Store, calls, stores, verifier_log};
use smtpflow_tests::programs::agent_object;
use smtpflow_tests::wire::{Arrivals, Transmitter};
use smtpflow_tests::{capture, long};
use xtask::command;
use xtask::lab::{AgentOptions, GATEWAY_CLIENT_SIDE, GATEWAY_SERVER_SIDE, Lab, ensure_bpffs};

const LIMIT: Duration = Duration::from_secs(60);

/// The helpers that the object may call, none of which gets at a packet (include/uapi/linux/bpf.h).
const HELPERS: [(u32, &str); 8] = [
    (1, "map_lookup_elem"),
    (2, "map_update_elem"),
    (5, "ktime_get_ns"),
    (8, "get_smp_processor_id"),
    (118, "jiffies64"),
    // The log of rare events.
    (131, "ringbuf_reserve"),
    (132, "ringbuf_submit"),
    (133, "ringbuf_discard"),
];

/// What may be stored through: the stack, values of maps, records of the log.
const BASES: [&str; 3] = ["fp", "map_value", "ringbuf_mem"];

fn forbidden_calls(object: &[u8]) -> Vec<String> {
    let sections = calls(object);
    assert!(!sections.is_empty(), "the object has no code");
    let mut forbidden = Vec::new();
    for (section, calls) in sections {
        for call in calls {
            let allowed = match call {
                Call::Helper(number) => HELPERS.iter().any(|(allowed, _)| *allowed == number),
                Call::Local => true,
                Call::Kernel | Call::Register => false,
            };
            if !allowed {
                forbidden.push(format!("{section}: {call:?}"));
            }
        }
    }
    forbidden
}

fn forbidden_stores(stores: &BTreeSet<Store>) -> Vec<&Store> {
    let forbidden = |store: &&Store| !BASES.contains(&store.base.as_str());
    stores.iter().filter(forbidden).collect()
}

#[test]
fn the_object_calls_no_helper_that_gets_at_a_packet() {
    let calls = calls(agent_object());
    for section in ["xdp", "xdp.frags"] {
        let calls = calls.get(section).expect("a section of this name");
        // The check sees calls at all.
        assert!(calls.contains(&Call::Helper(8)), "{section}: {calls:?}");
    }
    assert_eq!(forbidden_calls(agent_object()), [""; 0]);
}

#[test]
fn no_store_goes_through_a_packet_pointer() {
    let ports = MailPorts::new([25, 0, 0, 0]).word();
    // CPUs, sets, SYN slots, sets of flows: constants for the verifier, which does not look at what
    // they rule out.
    let [cpus, sets, syn_slots, flow_sets] = [2_u32, 1 << 15, 1 << 18, 1 << 14];
    for program in ["smtpflow", "smtpflow_frags"] {
        let mut loader = EbpfLoader::new();
        let sizes = [sets, flow_sets, syn_slots];
        loader
            .override_global("MAIL_PORTS", &ports, true)
            .override_global("SIZES", &sizes, true)
            .map_max_entries("SOURCES", 2 * cpus * sets)
            .map_max_entries("FLOWS", 2 * cpus * flow_sets)
            .map_max_entries("SYNS", syn_slots);
        let log = verifier_log(&mut loader, agent_object(), program);
        let stores = stores(&log);
        let through = |base: &str| stores.iter().filter(|store| store.base == base).count();
        println!(
            "{program}: stores through fp {}, map_value {}, ringbuf_mem {}; log of {} octets",
            through("fp"),
            through("map_value"),
            through("ringbuf_mem"),
            log.len()
        );
        assert!(through("map_value") > 20, "{stores:#?}");
        assert_eq!(forbidden_stores(&stores), Vec::<&Store>::new());
    }
}

/// Programs that do what ours must not, as LLVM text. Helper 44 is `bpf_xdp_adjust_head`.
const BAD: &str = r#"
target datalayout = "ORDER-m:e-p:64:64-i64:64-i128:128-n32:64-S128"
target triple = "TRIPLE"
define i32 @writes(ptr %frame) section "xdp" {
  %data32 = load i32, ptr %frame
  %end_place = getelementptr i8, ptr %frame, i64 4
  %end32 = load i32, ptr %end_place
  %data = zext i32 %data32 to i64
  %end = zext i32 %end32 to i64
  %after = add i64 %data, 14
  %short = icmp ugt i64 %after, %end
  br i1 %short, label %pass, label %write
write:
  %packet = inttoptr i64 %data to ptr
  store volatile i8 0, ptr %packet
  br label %pass
pass:
  ret i32 2
}
define i32 @moves(ptr %frame) section "xdp" {
  %r = call i64 inttoptr (i64 44 to ptr)(ptr %frame, i32 0)
  ret i32 2
}
"#;

fn bad_object(folder: &Path) -> PathBuf {
    let (order, triple) = if cfg!(target_endian = "big") {
        ("E", "bpfeb")
    } else {
        ("e", "bpfel")
    };
    let source = folder.join("bad.ll");
    let object = folder.join("bad.o");
    let text = BAD.replace("ORDER", order).replace("TRIPLE", triple);
    std::fs::write(&source, text).expect("written");
    command::output(
        command::tool("bpf-linker", ["--export", "writes,moves", "-o"])
            .arg(&object)
            .arg(&source),
        LIMIT,
    )
    .expect("bpf-linker, which the set-up installs");
    object
}

#[test]
fn programs_that_change_packets_are_seen() {
    let folder = tempfile::tempdir().expect("a folder");
    let object = std::fs::read(bad_object(folder.path())).expect("the object");
    assert_eq!(forbidden_calls(&object), ["xdp: Helper(44)"]);
    let log = verifier_log(&mut EbpfLoader::new(), &object, "writes");
    let stores = stores(&log);
    let [store] = forbidden_stores(&stores)[..] else {
        panic!("one store: {stores:?}");
    };
    assert_eq!(store.base, "pkt", "{store:?}");
}

/// Frames that are on the way at once: fewer than the ring of a veth has places (256).
const ON_THE_WAY: usize = 96;
const MTU: usize = 9_000;

/// Two hosts, and between them a gateway that is a bridge: it forwards whatever comes.
fn lab(prefix: &str) -> Lab {
    ensure_bpffs().expect("bpffs");
    let lab = Lab::new(prefix).expect("a laboratory");
    for name in ["left", "gateway", "right"] {
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
    let links = [
        ("left", GATEWAY_CLIENT_SIDE),
        ("right", GATEWAY_SERVER_SIDE),
    ];
    for (host, port) in links {
        lab.link((host, "eth0"), ("gateway", port), None)
            .expect("a link");
    }
    lab.ip("gateway", "link add br0 type bridge mcast_snooping 0")
        .expect("a bridge");
    for (host, port) in links {
        lab.ip(host, &format!("link set eth0 mtu {MTU}"))
            .expect("an MTU");
        lab.ip("gateway", &format!("link set {port} mtu {MTU} master br0"))
            .expect("an MTU");
    }
    lab.ip("gateway", "link set br0 mtu 9000 up").expect("up");
    // Where the kernel has br_netfilter, it drops what is no good IP packet.
    lab.within("gateway", || {
        for which in ["iptables", "ip6tables", "arptables"] {
            let switch = format!("/proc/sys/net/bridge/bridge-nf-call-{which}");
            if Path::new(&switch).exists() {
                std::fs::write(&switch, "0").unwrap_or_else(|error| panic!("{switch}: {error}"));
            }
        }
    })
    .expect("a thread in the namespace");
    lab
}

/// Frames that a bridge forwards: with addresses of hosts, and not too long. Those with a tag or of
/// PPPoE are as long as Ethernet asks: the kernel drops what ends in such a header before any bridge
/// sees it (`skb_vlan_untag`, `pppoe_rcv`).
fn frames(count: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut generator = Generator::new(77);
    std::iter::from_fn(move || {
        let mut frame = generator.frame();
        frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
        if matches!([frame[12], frame[13]], [0x81, 0x00] | [0x88, _]) {
            frame.resize(frame.len().max(60), 0);
        }
        Some(frame)
    })
    .filter(|frame| frame.len() <= MTU + 14)
    .take(count)
}

/// Of an EtherType for experiments (IEEE 802, 0x88b5), before the frames that are compared.
const LEAD_IN: [u8; 60] = {
    let mut frame = [0; 60];
    [frame[0], frame[5], frame[6], frame[11]] = [2, 1, 2, 2];
    [frame[12], frame[13]] = [0x88, 0xb5];
    frame
};

/// Sends frames and goes on when they have arrived.
struct Passage<'a> {
    transmitter: Transmitter,
    arrivals: &'a Arrivals,
    sent: u64,
}

impl Passage<'_> {
    fn send<F: AsRef<[u8]>>(&mut self, frames: &[F]) -> Result<(), String> {
        self.transmitter.send(frames);
        self.sent += frames.len() as u64;
        if self.arrivals.wait(self.sent, LIMIT) {
            return Ok(());
        }
        let arrived = self.arrivals.count();
        Err(format!("{arrived} of {} frames arrived", self.sent))
    }

    /// dumpcap says that it runs a moment before the first frame is captured.
    fn lead_in(&mut self, file: &Path) -> Result<(), String> {
        let size = || std::fs::metadata(file).map_or(0, |metadata| metadata.len());
        let (before, begun) = (size(), Instant::now());
        while size() == before {
            if begun.elapsed() > LIMIT {
                return Err("nothing is captured".to_owned());
            }
            self.send(&[LEAD_IN])?;
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn send_all(&mut self, mut frames: impl Iterator<Item = Vec<u8>>) -> Result<(), String> {
        loop {
            let some: Vec<_> = frames.by_ref().take(ON_THE_WAY).collect();
            if some.is_empty() {
                return Ok(());
            }
            self.send(&some)?;
        }
    }
}

/// Sends all frames from left to right, compares what arrives, and says how many frames there were
/// with those before.
fn cross(lab: &Lab, what: &str, count: usize) -> u64 {
    let capture = lab.capture("right", "eth0", "inbound").expect("a capture");
    let file = lab.folder().join("right-eth0.pcapng");
    let arrivals = Arrivals::default();
    let begun = Instant::now();
    let sent = std::thread::scope(|scope| {
        let (ready, wait) = std::sync::mpsc::channel();
        let watcher = arrivals.clone();
        scope.spawn(move || {
            lab.within("right", || {
                watcher.watch(|| ready.send(()).expect("somebody waits"));
            })
        });
        wait.recv().expect("the watcher is ready");
        let sent = lab.within("left", || {
            let mut passage = Passage {
                transmitter: Transmitter::open("eth0"),
                arrivals: &arrivals,
                sent: 0,
            };
            passage.lead_in(&file)?;
            passage.send_all(frames(count))?;
            Ok::<u64, String>(passage.sent)
        });
        arrivals.stop();
        sent.expect("a thread in the namespace")
    });
    let sent = sent.unwrap_or_else(|problem| panic!("{what}: {problem}"));
    let seconds = begun.elapsed().as_secs_f64();
    let captured = capture.stop().expect("the capture ends");
    assert_eq!(captured.dropped, 0, "the capture lost frames");
    let arrived = capture::frames(&captured.file);
    std::fs::remove_file(&captured.file).expect("the capture is there");
    let lead_in = arrived
        .iter()
        .take_while(|frame| **frame == LEAD_IN)
        .count();
    assert_eq!(arrived.len() - lead_in, count, "{what}");
    let compared = arrived.into_iter().skip(lead_in).zip(frames(count));
    for (number, (arrived, sent)) in compared.enumerate() {
        assert!(
            arrived == sent,
            "{what}: frame {number} arrived as\n{arrived:02x?}\nand was sent as\n{sent:02x?}"
        );
    }
    println!(
        "{what}: {count} frames arrived as they were sent, {:.0} per second",
        count as f64 / seconds
    );
    sent
}

#[test]
fn a_million_frames_arrive_as_they_were_sent() {
    let count = if long() { 4_000_000 } else { 1_000_000 };
    let lab = lab("sftransp");
    cross(&lab, "without smtpflow", count);
    for mode in ["driver", "skb"] {
        let mut options = AgentOptions::new(&lab).expect("options");
        options.window = "1s".to_owned();
        options.extra = ["--mode", mode].map(str::to_owned).to_vec();
        let mut agent = lab.agent(&options).expect("the agent starts");
        agent.wait_ready(LIMIT).expect("the agent is ready");
        lab.gateway_offloads_off().expect("offloads off");
        let status = agent.json("/api/v1/status").expect("status");
        for interface in status["interfaces"].as_array().expect("interfaces") {
            assert_eq!(interface["mode"], mode, "{interface}");
        }
        let before = status["conservation"]["frames"].as_u64().expect("frames");
        let frames = cross(&lab, &format!("smtpflow in {mode} mode"), count);
        agent.wait_drained(LIMIT).expect("a drain");
        let status = agent.json("/api/v1/status").expect("status");
        // It was looking all the time.
        assert_eq!(
            status["conservation"]["frames"],
            before + frames,
            "{status}"
        );
        assert_eq!(status["conservation"]["error"], 0, "{status}");
        assert!(agent.stop().expect("the agent ends").success());
    }
}
