//! What the kernel says about this process.
#![forbid(unsafe_code)]

use std::fs;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Figures of this process. What cannot be read is 0.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    /// Memory that is in RAM.
    pub(super) resident_bytes: u64,
    /// CPU time of all threads.
    pub(super) cpu_seconds: f64,
    /// Open file descriptors.
    pub(super) open_fds: u64,
}

impl Process {
    pub(super) fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let cpu = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID);
        Self {
            resident_bytes: resident_bytes(&status),
            cpu_seconds: cpu.map_or(0.0, |time| Duration::from(time).as_secs_f64()),
            // But for the one that lists them.
            open_fds: fs::read_dir("/proc/self/fd")
                .map_or(0, |entries| entries.count().saturating_sub(1) as u64),
        }
    }
}

/// From the text of /proc/self/status, which has it in kibibytes.
fn resident_bytes(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kibibytes| kibibytes.parse::<u64>().ok())
        .map_or(0, |kibibytes| kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_about_the_process_is_read() {
        let process = Process::read();
        assert!(
            process.resident_bytes > 0 && process.open_fds >= 3,
            "{process:?}"
        );
        assert_eq!(
            resident_bytes("VmPeak:  9 kB\nVmRSS:\t  12 kB\n"),
            12 * 1024
        );
        assert_eq!(resident_bytes(""), 0);
    }
}
