//! One semantics: every capture, through the loaded kernel program and through `replay`'s meter,
//! gives the same table, and the answer that is known for it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use smtp_common::flow::Totals;
use smtp_user::meter::Meter;
use smtp_user::meter::pcap::PcapMeter;
use smtp_user::meter::xdp::{FRAGS, PLAIN, Section};
use smtp_user::model::{Bins, Tally};
use smtpflow_tests::{ANSWERS, SMTP, capture, data, meter, options, window};

type Table = (Tally, BTreeMap<IpAddr, Totals>);

/// Longer than any capture.
const ALL: Duration = Duration::from_secs(86_400);

/// All windows that a meter has now, merged.
fn merged(meter: &mut impl Meter, windows: usize) -> Table {
    let mut table = Table::default();
    for _ in 0..windows {
        let Some(window) = window(meter) else {
            break;
        };
        table.0.merge(&window.tally);
        for source in &window.sources {
            table
                .1
                .entry(source.ip())
                .or_default()
                .merge(&source.totals);
        }
    }
    table
}

fn by_replay(name: &str, window: Duration) -> Table {
    let mut meter = PcapMeter::open(&data(name), window, SMTP).unwrap_or_else(|f| panic!("{f}"));
    merged(&mut meter, usize::MAX)
}

fn by_kernel(name: &str, section: Section) -> Table {
    let mut meter = meter(&options("parity", 8));
    for frame in capture::frames(&data(name)) {
        let (action, out) = meter.test_run(section, &frame).expect("a test run");
        assert_eq!(action, 2, "XDP_PASS");
        assert_eq!(out, frame, "the program changed a frame of {name}");
    }
    let table = merged(&mut meter, 1);
    meter.detach().expect("the pins can be removed");
    table
}

#[test]
fn kernel_and_replay_give_the_same_table_for_every_capture() {
    for (name, connections, packets, bytes) in ANSWERS {
        let replayed = by_replay(name, ALL);
        for section in [PLAIN, FRAGS] {
            assert_eq!(
                by_kernel(name, section),
                replayed,
                "{name}, section {}",
                section.name
            );
        }
        let sources = &replayed.0.sources;
        assert_eq!(sources.connections, connections, "connections of {name}");
        assert_eq!(sources.packets(), packets, "packets of {name}");
        assert_eq!(sources.bytes(), bytes, "bytes of {name}");
    }
}

#[test]
fn every_capture_has_its_answer() {
    let mut files: Vec<_> = std::fs::read_dir(data(""))
        .expect("the captures")
        .map(|entry| entry.expect("an entry"))
        // Data of other tests is in folders.
        .filter(|entry| entry.file_type().expect("a kind").is_file())
        .map(|entry| entry.file_name().into_string().expect("a name"))
        .filter(|name| !name.ends_with(".md"))
        .collect();
    let mut known = ANSWERS.map(|(name, ..)| name.to_owned()).to_vec();
    files.sort();
    known.sort();
    assert_eq!(files, known);
}

#[test]
fn many_short_windows_merge_to_one_long_window() {
    for (name, ..) in ANSWERS {
        let mut long = by_replay(name, ALL);
        // How many connections a source made within a window is another question for each length.
        long.0.bins = Bins::default();
        for millis in [1, 50, 1000, 10_000] {
            let mut short = by_replay(name, Duration::from_millis(millis));
            short.0.bins = Bins::default();
            assert_eq!(short, long, "{name} in windows of {millis} ms");
        }
    }
}
