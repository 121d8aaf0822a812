//! The same traffic over a pair of interfaces on every kernel: each count is what the second opinion of
//! `reference` makes of the frames.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use smtp_common::counter::Counter;
use smtp_common::flow::Totals;
use smtp_common::table::Geometry;
use smtp_user::config::AttachChoice;
use smtp_user::meter::xdp::{Options, XdpMeter};
use smtp_user::model::{AttachMode, ObservationPoint};
use xtask::lab::Lab;

use super::checks::{figure, without};
use super::kernel;
use crate::generator::grid;
use crate::packets::{Flags, Frame, client, server, six};
use crate::reference::{Account, Counts};
use crate::wire::{Arrivals, Transmitter};
use crate::{geometry, meter, options, window};

const LIMIT: Duration = Duration::from_secs(30);
/// Frames that are sent before those before them have arrived.
const ON_THE_WAY: usize = 64;
/// Windows that the traffic is cut into.
const WINDOWS: usize = 4;
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// Driver mode, or not at all.
pub fn driver() {
    let point = counted("driver", AttachChoice::Driver, 1500);
    assert_eq!(point.mode, AttachMode::Driver, "{point:?}");
    let frags = point.program == "xdp.frags";
    assert_eq!(frags, kernel::has_frags(), "{point:?}");
}

/// Skb mode.
pub fn skb() {
    let point = counted("skb", AttachChoice::Skb, 1500);
    assert_eq!(point.mode, AttachMode::Skb, "{point:?}");
}

/// Frames of several pages: in driver mode where the kernel hands them over in several buffers, and
/// otherwise in skb mode, which says why.
pub fn jumbo() {
    let point = counted("jumbo", AttachChoice::Auto, 9000);
    if kernel::has_frags() {
        assert_eq!(point.mode, AttachMode::Driver, "{point:?}");
        assert_eq!(point.program, "xdp.frags", "{point:?}");
        return;
    }
    assert_eq!(point.mode, AttachMode::Skb, "{point:?}");
    let why = point.fallback.expect("the reason");
    assert!(why.contains("driver"), "{why}");
    without("driver mode above one page, which came with 5.18; skb mode in its place");
}

/// Where the kernel's own types are hidden, as on one that was built without them.
pub fn without_btf() {
    if kernel::has_btf() {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )
        .expect("mounts of our own");
        mount(
            Some("tmpfs"),
            "/sys/kernel/btf",
            Some("tmpfs"),
            MsFlags::empty(),
            None::<&str>,
        )
        .expect("/sys/kernel/btf can be covered");
    }
    assert!(!kernel::has_btf());
    let point = counted("btf", AttachChoice::Driver, 1500);
    assert_eq!(point.mode, AttachMode::Driver, "{point:?}");
}

/// The traffic: whole connections of both families with and without tags, and every combination of
/// header lengths and extension headers.
fn traffic(mtu: usize) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for round in 0..40u32 {
        let n = (round % 8) as u8 + 1;
        let vlans: &[u16] = [&[][..], &[7], &[7, 42]][round as usize % 3];
        let payload = [0, 1, 700, 1400, mtu - 60][round as usize % 5];
        let ends = [(client(n), server(n)), (six(n.into()), six(0x100))];
        for (client, server) in ends {
            let sequence = round << 16;
            let talk = [
                Frame::to_server(client, server, Flags::Syn, sequence),
                Frame::to_server(client, server, Flags::Syn, sequence),
                Frame::to_client(server, client, Flags::SynAck, 5000),
                Frame::to_server(client, server, Flags::Ack, sequence + 1).with_payload(payload),
                Frame::to_client(server, client, Flags::Ack, 5001).with_payload(80),
                Frame::to_server(client, server, Flags::FinAck, sequence + 2),
                Frame::to_server(client, server, Flags::Syn, sequence + 9),
                Frame::to_client(server, client, Flags::RstAck, 0),
            ];
            frames.extend(talk.map(|frame| frame.with_vlans(vlans).build()));
        }
    }
    frames.extend(grid());
    for frame in &mut frames {
        // To nobody: the machine behind the interface has nothing to answer.
        frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 0x77, 2, 0, 0, 0, 0, 2]);
        // The kernel drops what ends in a tag before the watcher sees it.
        if matches!([frame[12], frame[13]], [0x81, 0x00] | [0x88, _]) {
            frame.resize(frame.len().max(60), 0);
        }
    }
    frames.retain(|frame| frame.len() <= mtu + ETHERNET);
    frames
}

/// Two namespaces that send nothing by themselves.
fn quiet(lab: &Lab, mtu: u32) {
    for name in ["client", "gateway"] {
        lab.add_namespace(name).expect("a namespace");
        lab.within(name, || {
            for which in ["all", "default"] {
                let file = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
                std::fs::write(&file, "1").unwrap_or_else(|error| panic!("{file}: {error}"));
            }
        })
        .expect("a thread in the namespace");
    }
    lab.link(("client", "eth0"), ("gateway", "outer"), None)
        .expect("a link");
    for (name, interface) in [("client", "eth0"), ("gateway", "outer")] {
        lab.ip(name, &format!("link set {interface} mtu {mtu}"))
            .expect("an MTU");
    }
}

/// Counts the traffic in this mode and compares; says where it was counted.
fn counted(name: &str, choice: AttachChoice, mtu: u32) -> ObservationPoint {
    let lab = Lab::new(&format!("guest{name}")).expect("a laboratory");
    quiet(&lab, mtu);
    let options = Options {
        // Whose set happens to be full goes to the spill, so that everybody is counted.
        local: ["0.0.0.0/0", "::/0"]
            .map(|net| net.parse().expect("a prefix"))
            .to_vec(),
        // No SYN is forgotten: a few dozen in a million places.
        geometry: Geometry {
            syn_slots: 1 << 20,
            ..geometry(10)
        },
        ..options(&format!("guest-{name}"), 10)
    };
    let mut meter = meter(&options);
    let attached = lab.within("gateway", || meter.attach("outer", choice));
    attached
        .expect("a thread in the namespace")
        .unwrap_or_else(|failure| panic!("{failure}"));
    let point = meter.points().remove(0);
    println!("{point:?}");
    figure("mode", point.mode.name());
    figure("section", point.program);

    let frames = traffic(mtu as usize);
    let mut account = Account::default();
    let arrivals = Arrivals::default();
    let mut sent = 0;
    thread::scope(|scope| {
        let (ready, wait) = mpsc::channel();
        let watcher = arrivals.clone();
        let lab = &lab;
        scope.spawn(move || {
            lab.within("gateway", || {
                watcher.watch(|| ready.send(()).expect("somebody waits"));
            })
        });
        wait.recv().expect("the watcher is ready");
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for part in frames.chunks(frames.len().div_ceil(WINDOWS)) {
                sent += part.len() as u64;
                send(lab, part, &arrivals, sent);
                for frame in part {
                    account.count(frame);
                }
                compare(&mut meter, &account.cut());
            }
        }));
        arrivals.stop();
        worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    meter.detach().expect("the pins can be removed");
    figure("frames", sent);
    let largest = frames.iter().map(Vec::len).max();
    figure("largest", largest.expect("frames"));
    point
}

/// Sends frames, and waits until there are `total` at the other end.
fn send(lab: &Lab, frames: &[Vec<u8>], arrivals: &Arrivals, total: u64) {
    let arrived = lab.within("client", || {
        let mut transmitter = Transmitter::open("eth0");
        let before = total - frames.len() as u64;
        frames.chunks(ON_THE_WAY).enumerate().all(|(i, some)| {
            transmitter.send(some);
            arrivals.wait(before + (i * ON_THE_WAY + some.len()) as u64, LIMIT)
        })
    });
    let arrived = arrived.expect("a thread in the namespace");
    let count = arrivals.count();
    assert!(
        arrived && count == total,
        "{count} of {total} frames arrived"
    );
}

fn compare(meter: &mut XdpMeter, expected: &Counts) {
    let window = window(meter).expect("a live meter has no end");
    let tally = window.tally;
    let outcomes: BTreeMap<&str, u64> = Counter::ALL
        .into_iter()
        .map(|counter| {
            let name = match counter {
                Counter::Segment => "segment",
                Counter::Skip(skip) => skip.name(),
            };
            (name, tally.outcomes[counter.index()])
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(outcomes, expected.outcomes);
    assert_eq!(tally.segment_bytes, expected.segment_bytes);
    assert_eq!(tally.overflow, Totals::default());
    let sources: BTreeMap<IpAddr, Totals> = window
        .sources
        .iter()
        .map(|source| (source.ip(), source.totals))
        .collect();
    assert_eq!(sources, expected.sources);
}
