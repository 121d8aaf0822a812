//! What the kernel says about this process.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use crate::clock;

/// When this process started. Read once: it is the difference of two clocks, and a start that moved by a
/// millisecond from scrape to scrape would look like a restart.
static STARTED: OnceLock<Option<f64>> = OnceLock::new();

/// Figures of this process. What cannot be read is 0.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::serve) struct Process {
    /// Memory that is in RAM.
    pub(in crate::serve) resident_bytes: u64,
    /// Address space, most of which is never touched.
    pub(super) virtual_bytes: u64,
    /// CPU time of all threads.
    pub(in crate::serve) cpu_seconds: f64,
    /// Open file descriptors.
    pub(in crate::serve) open_fds: u64,
    /// Most that may be open.
    pub(in crate::serve) max_fds: u64,
    /// When it started, in seconds since 1970.
    pub(super) start_seconds: f64,
    /// Whether all of it could be read.
    pub(super) complete: bool,
    /// How long it took to read.
    pub(super) duration: Duration,
}

impl Process {
    pub(in crate::serve) fn read() -> Self {
        let begun = Instant::now();
        let text = |file| fs::read_to_string(Path::new("/proc/self").join(file));
        let status = text("status").unwrap_or_default();
        let cpu = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID);
        let resident = kibibytes(&status, "VmRSS:");
        let virtual_size = kibibytes(&status, "VmSize:");
        // But for the one that lists them.
        let open = fs::read_dir("/proc/self/fd")
            .map(|entries| entries.count().saturating_sub(1) as u64)
            .ok();
        let max = max_fds(&text("limits").unwrap_or_default());
        let start = *STARTED.get_or_init(|| start_seconds(&text("stat").unwrap_or_default()));
        Self {
            resident_bytes: resident.unwrap_or(0),
            virtual_bytes: virtual_size.unwrap_or(0),
            cpu_seconds: cpu.map_or(0.0, |time| Duration::from(time).as_secs_f64()),
            open_fds: open.unwrap_or(0),
            max_fds: max.unwrap_or(0),
            start_seconds: start.unwrap_or(0.0),
            complete: cpu.is_ok()
                && resident.is_some()
                && virtual_size.is_some()
                && open.is_some()
                && max.is_some()
                && start.is_some(),
            duration: begun.elapsed(),
        }
    }
}

/// A size in the text of /proc/self/status, which has it in kibibytes, in bytes.
fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = rest.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// The soft limit on open files in the text of /proc/self/limits.
fn max_fds(limits: &str) -> Option<u64> {
    let rest = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// When the process of this /proc/PID/stat started. Its 22nd field has it in ticks of 1/100 s (USER_HZ,
/// which is 100 on all that Linux runs on today) since the machine started.
fn start_seconds(stat: &str) -> Option<f64> {
    // The name, the second field, is in parentheses and may have any character in it.
    let (_, behind) = stat.rsplit_once(") ")?;
    let ticks: u64 = behind.split(' ').nth(19)?.parse().ok()?;
    let up = clock::since_boot();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let booted = now.checked_sub(up)?;
    Some(booted.as_secs_f64() + ticks as f64 / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_about_the_process_is_read() {
        let process = Process::read();
        assert!(
            process.complete
                && process.resident_bytes > 0
                && process.virtual_bytes >= process.resident_bytes
                && (3..process.max_fds).contains(&process.open_fds),
            "{process:?}"
        );
        assert_eq!(process.start_seconds, Process::read().start_seconds);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a time");
        let age = now.as_secs_f64() - process.start_seconds;
        assert!((-1.0..3600.0).contains(&age), "started {age} s ago");
    }

    #[test]
    fn what_is_not_there_is_missed() {
        assert_eq!(
            kibibytes("VmPeak:  9 kB\nVmRSS:\t  12 kB\n", "VmRSS:"),
            Some(12 * 1024)
        );
        assert_eq!(kibibytes("", "VmRSS:"), None);
        let limits = "Max open files            1024                 524288               files\n";
        assert_eq!(max_fds(limits), Some(1024));
        assert_eq!(start_seconds("1 (a) b) S 0"), None);
    }
}
