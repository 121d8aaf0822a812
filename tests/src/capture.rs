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

/// A pcapng file with a block of every kind that there is, and an option in each (the IETF draft
/// draft-ietf-opsawg-pcapng).
pub fn pcapng_of_every_block() -> Vec<u8> {
    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let length = 12 + body.len().next_multiple_of(4);
        let mut block = Vec::new();
        block.extend(kind.to_le_bytes());
        block.extend((length as u32).to_le_bytes());
        block.extend(body);
        block.resize(length - 4, 0);
        block.extend((length as u32).to_le_bytes());
        block
    }
    let words = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|w| w.to_le_bytes()).collect() };
    let comment = [1, 0, 4, 0, b't', b'e', b's', b't', 0, 0, 0, 0];
    let frame = [2_u8; 60];
    let section = [&words(&[0x1a2b_3c4d, 1, u32::MAX, u32::MAX])[..], &comment].concat();
    // Ethernet; a resolution of nanoseconds (if_tsresol 9).
    let interface = [&words(&[1, 0x40000])[..], &[9, 0, 1, 0, 9, 0, 0, 0]].concat();
    let enhanced = [&words(&[0, 5, 7, 60, 60])[..], &frame, &comment].concat();
    let simple = [&words(&[60])[..], &frame].concat();
    let obsolete = [&words(&[0, 5, 8, 60, 60])[..], &frame].concat();
    let statistics = words(&[0, 5, 9]);
    [
        block(0x0a0d_0d0a, &section),
        block(1, &interface),
        block(6, &enhanced),
        block(3, &simple),
        block(2, &obsolete),
        block(4, &[0; 4]),
        block(5, &statistics),
        block(0x0bad, &words(&[1, 2, 3])),
        block(6, &enhanced),
    ]
    .concat()
}
