//! What the integration tests share: meters with pins of their own, packets, the binary.
//!
//! The tests need root, a mounted BPF file system and the packages that `cargo xtask test`
//! installs. They panic where something is missing; none of them skips.

pub mod accessibility;
pub mod campus;
pub mod capture;
pub mod cgroup;
pub mod cost;
pub mod evaluation;
pub mod foreign;
pub mod gateway;
pub mod generator;
pub mod guarded;
pub mod guest;
pub mod history;
pub mod hostile;
pub mod instructions;
pub mod journald;
pub mod load;
pub mod measure;
pub mod office;
pub mod oracle;
pub mod owners;
pub mod packets;
pub mod page;
pub mod programs;
pub mod reached;
pub mod reference;
pub mod relay_desk;
pub mod requests;
pub mod road;
pub mod story;
pub mod stream;
pub mod suspect;
pub mod targets;
pub mod tokens;
pub mod volley;
pub mod watched;
pub mod windows;
pub mod wire;

use std::path::{Path, PathBuf};

use smtp_common::flow::Totals;
use smtp_common::packet::MailPorts;
use smtp_common::table::Geometry;
use smtp_user::meter::Meter;
use smtp_user::meter::xdp::{Options, XdpMeter};
use smtp_user::model::Window;
pub use xtask::random;

/// Whether the tests are to run at their full size: `cargo xtask test --long` sets `SMTPFLOW_LONG=1`.
pub fn long() -> bool {
    std::env::var_os("SMTPFLOW_LONG").is_some_and(|value| value == "1")
}

/// A geometry with 2^`sets_log2` sets on each possible CPU.
pub fn geometry(sets_log2: u32) -> Geometry {
    let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible")
        .expect("the list of possible CPUs");
    // "0" or "0-71".
    let last = possible.trim().rsplit(['-', ',']).next().expect("a number");
    Geometry {
        cpus: last.parse::<u32>().expect("a number") + 1,
        sets: 1 << sets_log2,
        syn_slots: 1 << 12,
        flow_sets: 1 << sets_log2.saturating_sub(1),
    }
}

/// Options for a meter whose pins no other test uses.
pub fn options(name: &str, sets_log2: u32) -> Options {
    Options {
        ports: [25, 0, 0, 0],
        geometry: geometry(sets_log2),
        spill: 64,
        local: Vec::new(),
        pins: pins(name),
        group: None,
    }
}

/// A directory of pins for the test of this name, free of what an earlier crash left.
pub fn pins(name: &str) -> PathBuf {
    xtask::lab::ensure_bpffs().expect("a BPF file system");
    let pins = Path::new("/sys/fs/bpf").join(format!("smtpflow-test-{name}"));
    if pins.exists() {
        std::fs::remove_dir_all(&pins).expect("pins of an earlier run can be removed");
    }
    pins
}

/// A meter that is attached to nothing.
pub fn meter(options: &Options) -> XdpMeter {
    XdpMeter::open(options).unwrap_or_else(|failure| panic!("{failure}"))
}

/// The next window, which is forgotten by the meter at once; `None` when there are no more. Its
/// counts add up.
pub fn window(meter: &mut impl Meter) -> Option<Window> {
    let window = meter
        .window()
        .unwrap_or_else(|failure| panic!("{failure}"))?;
    assert_eq!(window.tally.conservation_error(), 0, "{window:?}");
    meter
        .release()
        .unwrap_or_else(|failure| panic!("{failure}"));
    Some(window)
}

/// The port of SMTP.
pub const SMTP: MailPorts = MailPorts::new([25, 0, 0, 0]);

/// A file of `tests/data`.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("data")
        .join(name)
}

/// Connections, packets and bytes of each capture in `tests/data`, as the README there has them.
pub const ANSWERS: [(&str, u64, u64, u64); 8] = [
    ("smtp.pcap", 2, 80, 25_774),
    ("smtp-one-side-only.pcap", 1, 19, 19_526),
    ("smtp-attachment-msg.pcap", 1, 17, 1_920),
    ("ipv6.pcap", 1, 17, 1_294),
    ("smtp-bdat-cmd-invalid.pcapng", 3, 66, 4_532),
    ("smtp-many-addresses.pcap", 1, 2_508, 242_992),
    ("truncated-header.pcap", 1, 24, 1_589),
    ("connect-with-smtp.pcap", 0, 0, 0),
];

/// The eight counts of a JSON object.
pub fn totals(counts: &serde_json::Value) -> Totals {
    let count = |name: &str| {
        let value = &counts[name];
        value
            .as_u64()
            .unwrap_or_else(|| panic!("{name} of {counts}"))
    };
    Totals {
        connections: count("connections"),
        syn_retx: count("syn_retx"),
        c2s_packets: count("c2s_packets"),
        c2s_bytes: count("c2s_bytes"),
        s2c_packets: count("s2c_packets"),
        s2c_bytes: count("s2c_bytes"),
        answered: count("answered"),
        refused: count("refused"),
    }
}
