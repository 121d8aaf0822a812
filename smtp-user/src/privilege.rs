//! What the kernel allows this process.

use std::fs;

use anyhow::Context as _;

use crate::failure::{Failure, Kind};

/// Loading programs and making maps (since Linux 5.8).
pub const CAP_BPF: u32 = 39;
/// Attaching to interfaces.
pub const CAP_NET_ADMIN: u32 = 12;
/// What the verifier demands beside `CAP_BPF` for some programs.
pub const CAP_PERFMON: u32 = 38;
/// Contains the others.
pub const CAP_SYS_ADMIN: u32 = 21;

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

/// Fails with the way out unless this process may load and attach XDP programs.
pub fn require_for_xdp() -> Result<(), Failure> {
    let set = effective()?;
    let missing: Vec<_> = [(CAP_BPF, "CAP_BPF"), (CAP_NET_ADMIN, "CAP_NET_ADMIN")]
        .into_iter()
        .filter(|(capability, _)| !has(set, *capability) && !has(set, CAP_SYS_ADMIN))
        .map(|(_, name)| name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Kind::NoPermission,
        format!(
            "cannot load an XDP program: {} missing; run as root (sudo smtpflow ...) or grant them \
             (in a unit: AmbientCapabilities=CAP_BPF CAP_NET_ADMIN)",
            missing.join(" and ")
        ),
    ))
}
