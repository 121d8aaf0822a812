//! What the kernel of this machine is, and what it is known not to have.

use std::fs;
use std::path::Path;

/// Its release, as "6.1.0-50-cloud-amd64".
pub fn release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    release
        .expect("the release of the kernel")
        .trim()
        .to_owned()
}

/// The first two numbers of the release.
pub fn version() -> (u32, u32) {
    let release = release();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|word| word.parse().ok());
    let mut next = || numbers.next().expect("a release begins with two numbers");
    (next(), next())
}

/// Whether it takes programs for frames in several buffers: Linux 5.18.
pub fn has_frags() -> bool {
    version() >= (5, 18)
}

/// Whether it describes its own types.
pub fn has_btf() -> bool {
    Path::new("/sys/kernel/btf/vmlinux").exists()
}

/// A list of CPUs, as "0-71": those that are online, or possible.
pub fn cpus(which: &str) -> String {
    let path = format!("/sys/devices/system/cpu/{which}");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.trim().to_owned()
}

/// Tests that are not run here, by a part of their names: what the check `load` does with more sets of options,
/// and those of a section that the kernel cannot load. That it refuses it, and what is done instead, is a check of
/// its own.
pub fn not_for_it() -> &'static [&'static str] {
    if has_frags() {
        &["the_verifier_walks"]
    } else {
        &["the_verifier_walks", "in_the_frags_section"]
    }
}
