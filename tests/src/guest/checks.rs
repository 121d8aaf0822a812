//! The list of checks.

use std::time::Duration;

use xtask::guest::FIGURE;

use super::kernel;

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
    /// Tests of a file of `tests/tests`, as they run everywhere.
    Tests(&'static str, &'static [&'static str]),
}

const fn own(name: &'static str, seconds: u64, work: fn()) -> Check {
    Check {
        name,
        limit: Duration::from_secs(seconds),
        work: Work::Own(work),
    }
}

/// All of them.
pub const CHECKS: &[Check] = &[own("kernel", 20, what_it_is)];

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

/// Reports what the machine is.
fn what_it_is() {
    figure("release", kernel::release());
    figure("btf", if kernel::has_btf() { "yes" } else { "no" });
    let jit = std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable");
    figure("jit", jit.expect("a kernel with BPF").trim());
    let cpus = |which: &str| {
        let path = format!("/sys/devices/system/cpu/{which}");
        let text = std::fs::read_to_string(&path);
        text.unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    figure("cpus_online", cpus("online").trim());
    figure("cpus_possible", cpus("possible").trim());
}
