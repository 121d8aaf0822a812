//! A capture that can be counted on: it says when it runs, it is not stopped before the last packets
//! are in the file, and it says if it lost any.
//!
//! `dumpcap` (of tshark) writes the file; [`tshark_fields`] reads one back.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;

use super::{Lab, Process};
use crate::command::{self, tool};

const START: Duration = Duration::from_secs(20);
/// The file must not have grown for this long before the capture is stopped. dumpcap hands packets on
/// at least four times a second.
const QUIET: Duration = Duration::from_millis(1500);
/// Traffic that never stops must not keep a capture from stopping.
const LONGEST_QUIET: Duration = Duration::from_secs(30);

/// A capture that runs.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
}

/// A finished capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// The pcapng file; it goes with the laboratory.
    pub file: PathBuf,
    /// Packets in the file.
    pub received: u64,
    /// Packets that the kernel saw and dumpcap did not: anything but 0 spoils a comparison.
    pub dropped: u64,
}

impl Lab {
    /// Starts a capture of both directions on `interface` in a namespace and waits until it runs.
    /// `filter` is in libpcap's language; to see tagged frames too, write
    /// `tcp port 25 or (vlan and tcp port 25)`, and `inbound` for one direction. Where that is said, the first
    /// frames are missed: libpcap looks itself at those that came before the kernel had the filter, and finds no
    /// direction in them. The address of a station says the same and misses none.
    pub fn capture(&self, name: &str, interface: &str, filter: &str) -> Result<Capture> {
        let file = self.folder().join(format!("{name}-{interface}.pcapng"));
        let path = file.to_string_lossy().into_owned();
        // 64 MiB of ring: the reader may be off the processor for a while on a small machine.
        let args = ["-i", interface, "-f", filter, "-w", &path, "-B", "64", "-q"];
        let mut process = self.spawn(name, "dumpcap", &args)?;
        // It names the file after it has opened the interface and set the filter.
        let runs = command::poll_until(START, || {
            process.log_text().contains("File: ") || !process.is_running()
        });
        ensure!(
            runs && process.is_running(),
            "the capture on {interface} in {} did not start: {}",
            self.ns(name),
            process.log_text()
        );
        Ok(Capture { process, file })
    }
}

impl Capture {
    /// Waits until no more packets arrive, stops, and counts.
    pub fn stop(mut self) -> Result<Captured> {
        let size = || std::fs::metadata(&self.file).map_or(0, |m| m.len());
        let begun = Instant::now();
        let (mut last, mut since) = (size(), Instant::now());
        command::poll_until(LONGEST_QUIET, || {
            let now = size();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            since.elapsed() >= QUIET
        });
        let waited = begun.elapsed();
        let status = self
            .process
            .stop(Signal::SIGINT, Duration::from_secs(20))
            .with_context(|| format!("after {} ms of waiting for quiet", waited.as_millis()))?;
        let log = self.process.log_text();
        ensure!(status.success(), "the capture failed ({status}): {log}");
        let (received, dropped) = parse_counts(&log)
            .with_context(|| format!("dumpcap did not say what it received: {log}"))?;
        Ok(Captured {
            file: self.file.clone(),
            received,
            dropped,
        })
    }
}

/// The two numbers of dumpcap's last line, "Packets received/dropped on interface 'x': 12/0 (...)".
fn parse_counts(log: &str) -> Option<(u64, u64)> {
    let line = log
        .lines()
        .rev()
        .find(|line| line.starts_with("Packets received/dropped on interface"))?;
    let (_, numbers) = line.rsplit_once("': ")?;
    let (received, dropped) = numbers.split_whitespace().next()?.split_once('/')?;
    Some((received.parse().ok()?, dropped.parse().ok()?))
}

/// Reads a capture with tshark: one row per packet that passes the display filter, one text per
/// field. A field that occurs several times in a packet gives its first value; one that is missing
/// gives an empty text.
pub fn tshark_fields(file: &Path, filter: &str, fields: &[&str]) -> Result<Vec<Vec<String>>> {
    if fields.is_empty() {
        bail!("tshark was asked for no field of {}", file.display());
    }
    let mut command = tool("tshark", ["-n", "-2", "-R", filter, "-T", "fields"]);
    command.args(["-E", "separator=/t", "-E", "occurrence=f"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let text = command::output(command.arg("-r").arg(file), Duration::from_secs(300))?;
    Ok(text
        .lines()
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_are_read_from_the_last_line() {
        let log = "Capturing on 'gw-c'\nFile: /x.pcapng\n\
                   Packets captured: 12\n\
                   Packets received/dropped on interface 'gw-c': 12/3 (pcap:3/dumpcap:0/flushed:0/ps_ifdrop:0) (80.0%)\n";
        assert_eq!(parse_counts(log), Some((12, 3)));
        assert_eq!(parse_counts("Capturing on 'gw-c'\n"), None);
    }
}
