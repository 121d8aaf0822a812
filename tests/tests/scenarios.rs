//! Labelled traffic of known kinds of hosts: who is accused, and that live traffic, a capture and a
//! stream of windows give the same.

use std::path::Path;
use std::time::Duration;

use smtp_user::meter::pcap::PcapMeter;
use smtp_user::model::{Flow, Source, Window};
use smtpflow_tests::SMTP;
use smtpflow_tests::stream::Stream;
use xtask::traffic::habit::MINUTE;
use xtask::traffic::kind::{KINDS, named};
use xtask::traffic::{Population, Script, pcap};

const WINDOW: Duration = Duration::from_secs(10);

/// The windows of a capture of these scripts.
fn by_capture(hours: impl IntoIterator<Item = (u64, Vec<Script>)>) -> Vec<Window> {
    let mut capture = Vec::new();
    pcap::write(hours, &mut capture).expect("a capture in memory");
    let mut meter = PcapMeter::new(Path::new("generated"), capture.as_slice(), WINDOW, SMTP)
        .unwrap_or_else(|failure| panic!("{failure}"));
    std::iter::from_fn(|| smtpflow_tests::window(&mut meter)).collect()
}

/// What a window counts, in an order of its own.
fn counts(window: &Window) -> (Vec<Source>, Vec<Flow>) {
    let (mut sources, mut flows) = (window.sources.clone(), window.flows.clone());
    sources.sort_by_key(|source| source.address.octets());
    flows.sort_by_key(|flow| {
        let key = flow.key;
        (key.client.octets(), key.server.octets(), key.client_port)
    });
    (sources, flows)
}

/// Whether a capture gives the windows of a stream; else where it does not.
fn compare(population: &Population) -> Result<usize, String> {
    let mut captured = by_capture(population.traffic()).into_iter();
    let mut windows = 0;
    for window in Stream::new(population.traffic(), WINDOW) {
        assert_eq!(window.tally.conservation_error(), 0);
        if window.tally.frames == 0 {
            continue;
        }
        let mut same = captured.next().ok_or("a window is missing")?;
        // Whether a set of lines is full depends on the meter's random numbers; no count does.
        same.tally.spilled = 0;
        if window.started_at != same.started_at
            || window.tally != same.tally
            || counts(&window) != counts(&same)
        {
            return Err(format!("{window:?}\nand\n{same:?}"));
        }
        windows += 1;
    }
    assert!(captured.next().is_none(), "a window too many");
    Ok(windows)
}

#[test]
fn a_capture_and_a_stream_of_the_same_scripts_are_the_same_windows() {
    // One kind with many SYNs at a time: none of these is sent again.
    let many = ["hammer", "burst", "scanner", "syn_flood", "spoofed"];
    let others = KINDS.iter().filter(|kind| !many.contains(&kind.name));
    let others = Population::of(1, 90 * MINUTE, others.map(|kind| (kind, 2)));
    let alone = many.map(|name| Population::alone(named(name), 1, 2, 30 * MINUTE));
    for population in alone.iter().chain([&others]) {
        // With one in some hundred seeds, which the meter draws, a place in the memory of SYNs is taken
        // by another SYN before a retransmission comes: that counts as new then.
        let windows = compare(population).or_else(|_| compare(population));
        let windows = windows.unwrap_or_else(|difference| panic!("{difference}"));
        assert!(windows > 1, "{windows} windows with traffic");
    }
}
