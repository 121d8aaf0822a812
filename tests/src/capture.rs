//! Frames of a capture, read without the product: by `editcap`, and a reader of classic pcap that
//! fits on a page.

use std::path::Path;
use std::process::Command;

/// The frames of a pcap or pcapng file, as captured.
pub fn frames(file: &Path) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder for the converted capture");
    let pcap = folder.path().join("classic.pcap");
    let status = Command::new("editcap")
        .args(["-F", "pcap"])
        .args([file, &pcap])
        .status()
        .expect("editcap, of Debian's package wireshark-common");
    // It says so when a file ends early, and converts what is there.
    let bytes = std::fs::read(&pcap)
        .unwrap_or_else(|error| panic!("editcap {}: {status}, {error}", file.display()));
    // Written by this machine: in its own byte order, with microseconds.
    let word = |at: usize| {
        let bytes = bytes[at..at + 4].try_into().expect("four bytes");
        u32::from_ne_bytes(bytes)
    };
    assert_eq!(word(0), 0xa1b2_c3d4, "{} as pcap", file.display());
    assert_eq!(word(20), 1, "{} is not of Ethernet frames", file.display());
    let mut frames = Vec::new();
    let mut at = 24;
    while at < bytes.len() {
        let length = word(at + 8) as usize;
        frames.push(bytes[at + 16..at + 16 + length].to_vec());
        at += 16 + length;
    }
    frames
}
