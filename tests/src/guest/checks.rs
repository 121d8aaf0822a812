//! The list of checks.

use std::time::Duration;

use xtask::guest::{FIGURE, WITHOUT};

use super::{counts, kernel, life, privilege, verifier};

/// A check.
pub struct Check {
    /// What it is asked for by.
    pub name: &'static str,
    /// What it may take, under emulation on a busy machine.
    pub limit: Duration,
    /// What it does.
    pub work: Work,
}

/// What a check does.
pub enum Work {
    /// A function of this program.
    Own(fn()),
    /// Tests of a file of `tests/tests`, as they run everywhere: those whose names have one of these in them,
    /// or all.
    Tests(&'static str, &'static [&'static str]),
}

const fn own(name: &'static str, seconds: u64, work: fn()) -> Check {
    Check {
        name,
        limit: Duration::from_secs(seconds),
        work: Work::Own(work),
    }
}

const fn tests(
    name: &'static str,
    seconds: u64,
    file: &'static str,
    which: &'static [&'static str],
) -> Check {
    Check {
        name,
        limit: Duration::from_secs(seconds),
        work: Work::Tests(file, which),
    }
}

/// All of them.
pub const CHECKS: &[Check] = &[
    own("kernel", 60, what_it_is),
    own("load", 120, verifier::load),
    tests("frames", 240, "kernel", &[]),
    own("driver", 120, counts::driver),
    own("skb", 120, counts::skb),
    own("jumbo", 120, counts::jumbo),
    own("no-btf", 120, counts::without_btf),
    tests("flips", 400, "drain", &[]),
    own("kill", 400, life::killed),
    own("upgrade", 240, life::upgraded),
    own("hotplug", 240, life::hotplug),
    own("many-cpus", 240, life::many_cpus),
    own("capabilities", 120, privilege::reduced),
    own("least", 240, privilege::smallest),
];

/// Runs the check of this name, which is one of the functions.
pub fn check(name: &str) {
    let check = CHECKS.iter().find(|check| check.name == name);
    match check.map(|check| &check.work) {
        Some(Work::Own(work)) => work(),
        _ => panic!("no check {name} in this program"),
    }
}

/// Reports a figure.
pub fn figure(name: &str, value: impl std::fmt::Display) {
    println!("{FIGURE}{name} {value}");
}

/// Reports what this kernel cannot do, and what is done instead and was seen to work.
pub fn without(what: &str) {
    println!("{WITHOUT}{what}");
}

/// Reports what the machine is.
fn what_it_is() {
    figure("release", kernel::release());
    figure("btf", if kernel::has_btf() { "yes" } else { "no" });
    let jit = std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable");
    figure("jit", jit.expect("a kernel with BPF").trim());
    figure("cpus_online", kernel::cpus("online"));
    figure("cpus_possible", kernel::cpus("possible"));
}
