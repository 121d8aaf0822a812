//! What the kernel allows this process, and giving it up.
//!
//! Contract: a privilege is held while it is needed, which is until the program is attached, and by no
//! thread any longer than that.

mod account;
mod confine;
mod rules;

use std::fs;

use anyhow::Context as _;

use crate::failure::{Failure, Kind};
use crate::kernel::Release;

pub use account::Account;
pub use confine::{Confined, Confinement, without_capabilities};
pub use rules::{Held, Prepared, Rules, offered};

/// Loading programs and making maps (since Linux 5.8).
pub const CAP_BPF: u32 = 39;
/// Attaching to interfaces.
pub const CAP_NET_ADMIN: u32 = 12;
/// What the verifier demands beside `CAP_BPF`: without it, it refuses arithmetic on pointers into
/// maps that could be abused by speculation.
pub const CAP_PERFMON: u32 = 38;
/// Stands for each of these three as well (kernel/bpf/syscall.c, bpf_net_capable); enters network
/// namespaces.
pub const CAP_SYS_ADMIN: u32 = 21;

/// Since then, whoever has a map or a program open may use it without a capability, also where
/// `kernel.unprivileged_bpf_disabled` is set (commit c8644cd0efe7).
pub const UNPRIVILEGED_MAPS: Release = Release(5, 19);

/// The effective capabilities of this thread, as a set of bits.
pub fn effective() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/thread-self/status")
        .context("cannot read /proc/thread-self/status: is /proc mounted?")?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .context("/proc/thread-self/status has no CapEff line")
}

/// Whether `capability` is in `set`.
pub const fn has(set: u64, capability: u32) -> bool {
    set & (1 << capability) != 0
}

/// What a process needs to load and attach: the capability, its name, what it is for.
const NEEDED: [(u32, &str, &str); 3] = [
    (CAP_BPF, "CAP_BPF", "loads the program"),
    (CAP_PERFMON, "CAP_PERFMON", "lets the verifier take it"),
    (CAP_NET_ADMIN, "CAP_NET_ADMIN", "attaches it"),
];

/// What `set` lacks of what is needed to load and attach: names, and what they are for.
pub fn missing(set: u64) -> Vec<(&'static str, &'static str)> {
    let granted = |capability| has(set, capability) || has(set, CAP_SYS_ADMIN);
    let lacking = NEEDED
        .iter()
        .filter(|(capability, ..)| !granted(*capability));
    lacking
        .map(|(_, name, purpose)| (*name, *purpose))
        .collect()
}

/// Fails with the way out unless this process may load and attach XDP programs.
pub fn require_for_xdp() -> Result<(), Failure> {
    let missing = missing(effective()?);
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Kind::NoPermission,
        format!(
            "cannot load an XDP program: {} missing; run as root (sudo smtpflow ...) or grant them \
             (in a unit: AmbientCapabilities=CAP_BPF CAP_NET_ADMIN CAP_PERFMON)",
            missing
                .iter()
                .map(|(name, _)| *name)
                .collect::<Vec<_>>()
                .join(" and ")
        ),
    ))
}
