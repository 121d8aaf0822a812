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

/// Whether a test is for this kernel: those of the section that it cannot load are not.
pub fn can_run(test: &str) -> bool {
    has_frags() || !test.contains("frags_section")
}
