//! Which capabilities the running kernel demands, found by trying: `capabilities --interface IF --bpffs DIR
//! [--among CAP_A,CAP_B]`, as root, in the network namespace of an Ethernet interface that has no XDP program. One
//! object of JSON on standard output.
//!
//! Contract: each set is tried by the code of the agent, in a process that is nobody with exactly these
//! capabilities, on a directory of pins of its own. (A process, since aya finds out once per process what the
//! kernel can do, and without capabilities that is nothing.) `load` has the smallest sets that load, pin and
//! attach; `run`, the smallest that then cut windows, attach anew to an interface, update a link and remove
//! its pin. With `--among`, sets of these capabilities alone are tried. DIR is a BPF file system; nothing is left
//! there. What a set may do a larger one may as well, so not every set is tried.

use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_keep_capabilities, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};
use serde_json::{Value, json};
use smtp_user::config::AttachChoice;
use smtp_user::failure::Failure;
use smtp_user::link;
use smtp_user::meter::Meter as _;
use smtp_user::meter::xdp::{Options, XdpMeter};

const NOBODY: u32 = 65534;
/// What may be demanded.
const CANDIDATES: [(CapabilitySet, &str); 5] = [
    (CapabilitySet::BPF, "CAP_BPF"),
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    (CapabilitySet::PERFMON, "CAP_PERFMON"),
    (CapabilitySet::SYS_RESOURCE, "CAP_SYS_RESOURCE"),
    (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
];
/// What a process may lock in memory where nobody has said otherwise, which is what maps need before 5.11.
const LOCKED: u64 = 64 << 10;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let (mut interface, mut bpffs, mut sets_to_try, mut among) = (None, None, None, None);
    while let (Some(flag), Some(value)) = (words.next(), words.next()) {
        match flag.as_str() {
            "--interface" => interface = Some(value),
            "--bpffs" => bpffs = Some(PathBuf::from(value)),
            "--among" => among = Some(value),
            // Said by this program to itself.
            "--try" => sets_to_try = Some(value),
            _ => panic!("{flag}: expected --interface IF or --bpffs DIR"),
        }
    }
    let interface = interface.expect("--interface IF");
    let bpffs = bpffs.expect("--bpffs DIR");
    if let Some(sets) = sets_to_try {
        let [load, run] = [0, 1].map(|place| {
            let bits = sets.split(',').nth(place).expect("two sets");
            CapabilitySet::from_bits_retain(bits.parse().expect("a set"))
        });
        become_nobody(load | run);
        hold(load, load | run);
        if let Err(failure) = works(&bpffs, &interface, || hold(run, run)) {
            println!("{failure}");
            return ExitCode::FAILURE;
        }
        return ExitCode::SUCCESS;
    }
    let sets = sets(among.as_deref());
    let mut refusals = Vec::new();
    // Where the whole is known to be needed, those that lack one thing say it of all smaller ones.
    let order = match among {
        Some(_) => sets.iter().rev().copied().collect(),
        None => sets.clone(),
    };
    let load = smallest(&order, |set| {
        tried(&bpffs, &interface, set, set)
            .map_err(|error| refusals.push(json!({"set": names(set), "error": error})))
    });
    let mut run = Vec::new();
    if let Some(&enough) = load.first() {
        run = smallest(&sets, |set| {
            tried(&bpffs, &interface, enough, set)
                .map_err(|error| refusals.push(json!({"run": names(set), "error": error})))
        });
    }
    let all = |sets: &[CapabilitySet]| sets.iter().map(|set| names(*set)).collect::<Vec<_>>();
    let kernel = nix::sys::utsname::uname().expect("the name of the kernel");
    let found = json!({
        "kernel": kernel.release().to_string_lossy(),
        "unprivileged_bpf_disabled":
            std::fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled")
                .ok()
                .and_then(|value| value.trim().parse::<u32>().ok()),
        "load": all(&load),
        "run": all(&run),
        "tried": all(&sets),
        "refusals": refusals,
    });
    println!("{found:#}");
    ExitCode::SUCCESS
}

/// The smallest of the sets that are enough, in the order in which they are given; those that follow from others
/// are not tried.
fn smallest(
    sets: &[CapabilitySet],
    mut try_it: impl FnMut(CapabilitySet) -> Result<(), ()>,
) -> Vec<CapabilitySet> {
    let (mut enough, mut too_little) = (Vec::new(), Vec::new());
    for &set in sets {
        let larger = enough.iter().any(|smaller| set.contains(*smaller));
        let smaller = too_little
            .iter()
            .any(|larger: &CapabilitySet| larger.contains(set));
        if larger || smaller {
            continue;
        }
        match try_it(set) {
            Ok(()) => {
                enough.retain(|larger: &CapabilitySet| !larger.contains(set));
                enough.push(set);
            }
            Err(()) => too_little.push(set),
        }
    }
    enough
}

/// All sets, or those of the capabilities with these names, the smaller ones first.
fn sets(among: Option<&str>) -> Vec<CapabilitySet> {
    let mut sets: Vec<CapabilitySet> = (0..1_u32 << CANDIDATES.len())
        .map(|bits| {
            let chosen = CANDIDATES.iter().enumerate();
            chosen
                .filter(|(place, _)| bits & (1 << place) != 0)
                .fold(CapabilitySet::empty(), |set, (_, (one, _))| set | *one)
        })
        .collect();
    // Some machines, such as containers, lack one from the beginning.
    let have = rustix::thread::capabilities(None).expect("capabilities");
    sets.retain(|set| have.permitted.contains(*set));
    if let Some(among) = among {
        let mut whole = CapabilitySet::empty();
        for name in among.split(',') {
            let known = CANDIDATES.iter().find(|(_, known)| *known == name);
            whole |= known.unwrap_or_else(|| panic!("{name} is no candidate")).0;
        }
        sets.retain(|set| whole.contains(*set));
    }
    sets.sort_by_key(|set| set.bits().count_ones());
    sets
}

fn names(set: CapabilitySet) -> Value {
    let inside = CANDIDATES.iter().filter(|(one, _)| set.contains(*one));
    inside.map(|(_, name)| *name).collect()
}

/// Loads and attaches with one set, and goes on with another one.
fn tried(
    bpffs: &Path,
    interface: &str,
    load: CapabilitySet,
    run: CapabilitySet,
) -> Result<(), String> {
    let pins = bpffs.join(format!("capabilities-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&pins);
    free(interface);
    let mut builder = std::fs::DirBuilder::new();
    builder.mode(0o700).create(&pins).expect("a directory");
    chown(&pins, Some(NOBODY), Some(NOBODY)).expect("nobody's");
    setrlimit(Resource::RLIMIT_MEMLOCK, LOCKED, LOCKED).expect("a limit");
    let sets = format!("{},{}", load.bits(), run.bits());
    let done = Command::new("/proc/self/exe")
        .args(["--interface", interface, "--try", &sets, "--bpffs"])
        .arg(&pins)
        .output()
        .expect("this program again");
    let result = match done.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&done.stdout).trim().to_owned()),
    };
    std::fs::remove_dir_all(&pins).expect("removed");
    result
}

/// Waits until no program is on the interface: the kernel ends a link a little after its last holder.
fn free(interface: &str) {
    for _ in 0..200 {
        let links = link::links().unwrap_or_else(|failure| panic!("{failure}"));
        let link = link::find(&links, interface, "attach to");
        if link.is_ok_and(|link| link.xdp.is_none()) {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("{interface} has an XDP program that does not go");
}

fn become_nobody(kept: CapabilitySet) {
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_keep_capabilities(true).expect("kept");
    set_thread_groups(&[]).expect("no groups");
    set_thread_res_gid(gid, gid, gid).expect("nobody's group");
    set_thread_res_uid(uid, uid, uid).expect("nobody");
    hold(kept, kept);
}

fn hold(effective: CapabilitySet, permitted: CapabilitySet) {
    let sets = CapabilitySets {
        effective,
        permitted,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).expect("capabilities set");
}

/// What an agent does in its life.
fn works(pins: &Path, interface: &str, give_up: impl FnOnce()) -> Result<(), Failure> {
    let options = Options {
        ports: [25, 0, 0, 0],
        geometry: smtpflow_tests::geometry(8),
        spill: 64,
        local: Vec::new(),
        pins: pins.join("pins"),
        group: None,
    };
    let mut meter = XdpMeter::attempt(&options)?;
    meter.attach(interface, AttachChoice::Auto)?;
    meter.settle()?;
    give_up();
    for _ in 0..2 {
        meter.window()?;
        meter.release()?;
    }
    // Its link is ended, so that it is made anew, and once more, so that it is taken over.
    meter.detach_from(interface)?;
    free(interface);
    meter.attach(interface, AttachChoice::Auto)?;
    meter.attach(interface, AttachChoice::Auto)?;
    meter.window()?;
    meter.release()?;
    meter.detach()
}
