//! Time, CPU and memory of this process, for benchmarks.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// What something cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost {
    /// By the clock on the wall.
    pub time: Duration,
    /// Of all threads.
    pub cpu: Duration,
}

/// CPU time of this process until now.
fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)
        .expect("every process has this clock")
        .into()
}

/// Does something and says what it cost.
pub fn measure<T>(work: impl FnOnce() -> T) -> (T, Cost) {
    let (start, before) = (Instant::now(), cpu());
    let done = work();
    let cost = Cost {
        time: start.elapsed(),
        cpu: cpu().saturating_sub(before),
    };
    (done, cost)
}

/// The medians of time and of CPU.
pub fn median(costs: &[Cost]) -> Cost {
    let middle = |mut values: Vec<Duration>| {
        values.sort_unstable();
        values[values.len() / 2]
    };
    Cost {
        time: middle(costs.iter().map(|cost| cost.time).collect()),
        cpu: middle(costs.iter().map(|cost| cost.cpu).collect()),
    }
}

/// Memory of this process that is in RAM, in MiB.
pub fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("a resident size");
    let kib = line.split_whitespace().next().expect("a number");
    kib.parse::<f64>().expect("a number") / 1024.0
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        write!(f, "{:9.2} ms, {:9.2} ms CPU", ms(self.time), ms(self.cpu))
    }
}
