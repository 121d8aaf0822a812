//! Windows by capture time, and what becomes of the counts when a file breaks off.

use std::path::Path;
use std::time::{Duration, SystemTime};

use smtp_common::packet::MailPorts;

use super::PcapMeter;
use crate::failure::Failure;
use crate::meter::Meter as _;
use crate::model::Window;

const PORTS: MailPorts = MailPorts::new([25, 0, 0, 0]);
const TEN_SECONDS: Duration = Duration::from_secs(10);

/// A pcap file of raw IP with a SYN from host 10.0.0.`client` at each time.
fn capture(packets: &[(u32, u8)]) -> Vec<u8> {
    let words = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 101];
    let mut file: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    for (sequence, (seconds, client)) in packets.iter().enumerate() {
        let head = [*seconds, 0, 40, 40];
        file.extend(head.iter().flat_map(|word| word.to_le_bytes()));
        file.extend([
            0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, *client, 10, 0, 1, 1,
        ]);
        file.extend([0x9c, 0x40, 0, 25]);
        file.extend((sequence as u32).to_be_bytes());
        file.extend([0, 0, 0, 0, 0x50, 0x02, 0, 0, 0, 0, 0, 0]);
    }
    file
}

fn meter(file: &[u8], window: Duration) -> Result<PcapMeter<&[u8]>, Failure> {
    PcapMeter::new(Path::new("test.pcap"), file, window, PORTS)
}

fn windows(file: &[u8]) -> (Vec<Window>, Option<Failure>) {
    let mut meter = meter(file, TEN_SECONDS).unwrap();
    let mut windows = Vec::new();
    loop {
        match meter.window() {
            Ok(Some(window)) => {
                assert_eq!(window.tally.conservation_error(), 0);
                assert_eq!(window.length, TEN_SECONDS);
                windows.push(window);
            }
            Ok(None) => return (windows, None),
            Err(failure) => {
                assert!(matches!(meter.window(), Ok(None)), "after {failure}");
                return (windows, Some(failure));
            }
        }
    }
}

/// Start and frames of each window.
fn shape(windows: &[Window]) -> Vec<(u64, u64)> {
    let start = |window: &Window| {
        let since = window.started_at.duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap().as_secs()
    };
    windows
        .iter()
        .map(|window| (start(window), window.tally.frames))
        .collect()
}

#[test]
fn windows_are_aligned_and_a_quiet_stretch_of_years_has_none() {
    let years = 1_000_000_003;
    let file = capture(&[
        (15, 1),
        (19, 1),
        (20, 1),
        (years, 1),
        (years + 6, 2),
        (years + 7, 2),
    ]);
    let (windows, failure) = windows(&file);
    assert!(failure.is_none());
    let expected = [(10, 2), (20, 1), (1_000_000_000, 2), (1_000_000_010, 1)];
    assert_eq!(shape(&windows), expected);
}

#[test]
fn a_time_that_goes_back_counts_into_the_running_window() {
    let file = capture(&[(100, 1), (50, 1), (109, 1), (110, 1), (0, 2)]);
    let (windows, _) = windows(&file);
    assert_eq!(shape(&windows), [(100, 3), (110, 2)]);
    assert_eq!(windows[1].sources.len(), 2);
}

#[test]
fn each_window_holds_its_own_counts_only() {
    let file = capture(&[(0, 1), (1, 2), (2, 2), (10, 2)]);
    let (windows, _) = windows(&file);
    let counts = |window: &Window| {
        let mut counts: Vec<(String, u64)> = window
            .sources
            .iter()
            .map(|source| (source.ip().to_string(), source.totals.connections))
            .collect();
        counts.sort();
        counts
    };
    let one = ("10.0.0.1".to_owned(), 1);
    let two = |count| ("10.0.0.2".to_owned(), count);
    assert_eq!(counts(&windows[0]), [one, two(2)]);
    assert_eq!(counts(&windows[1]), [two(1)]);
    assert_eq!((windows[0].lines_used, windows[1].lines_used), (2, 1));
}

#[test]
fn a_broken_file_gives_its_counts_before_its_failure() {
    let mut file = capture(&[(0, 1), (1, 2), (10, 2)]);
    let whole = file.len();
    file.truncate(whole - 1);
    let (windows, failure) = windows(&file);
    assert_eq!(shape(&windows), [(0, 2)]);
    let text = failure.unwrap().to_string();
    let start = whole - 56;
    assert!(
        text.contains("test.pcap") && text.contains(&format!("at byte {start}")),
        "{text}"
    );
}

#[test]
fn a_file_without_packets_has_no_windows() {
    let (windows, failure) = windows(&capture(&[]));
    assert!(windows.is_empty() && failure.is_none());
}

#[test]
fn a_window_of_no_length_is_refused() {
    assert!(meter(&capture(&[]), Duration::ZERO).is_err());
}

#[test]
fn every_address_of_a_flood_has_its_exact_counts() {
    // More than the table has lines, so that most are in the spill.
    let mut file = capture(&[]);
    let hosts = 100_000_u32;
    for round in 0..2 {
        for host in 0..hosts {
            let mut record = capture(&[(round, 1)]).split_off(24);
            record[16 + 12..16 + 16].copy_from_slice(&host.to_be_bytes());
            file.extend(record);
        }
    }
    let (windows, failure) = windows(&file);
    assert!(failure.is_none());
    let [window] = &windows[..] else {
        panic!("{} windows", windows.len());
    };
    assert_eq!(window.sources.len(), hosts as usize);
    assert!(window.tally.spilled > 0);
    assert_eq!(window.tally.overflow.packets(), 0);
    for source in &window.sources {
        let totals = source.totals;
        assert_eq!(
            (totals.c2s_packets, totals.c2s_bytes),
            (2, 80),
            "{}",
            source.ip()
        );
    }
}
