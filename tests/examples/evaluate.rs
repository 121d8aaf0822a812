//! Runs every method on the mixed populations of some seeds, and writes what was found as JSON:
//! `evaluate DAYS FIRST_SEED LAST_SEED`. `cargo xtask evaluate` runs it and makes the report.

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, bail};
use smtpflow_tests::evaluation;
use xtask::traffic::Population;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [days, first, last] = words.as_slice() else {
        bail!("evaluate DAYS FIRST_SEED LAST_SEED");
    };
    let days = days.parse().context("days")?;
    let next = AtomicU64::new(first.parse().context("the first seed")?);
    let last = last.parse().context("the last seed")?;
    let runs = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > last {
                        break;
                    }
                    let population = Population::mixed(seed, days);
                    for listed in [true, false] {
                        let run = evaluation::run(&population, listed);
                        runs.lock().expect("no panic").push(run);
                    }
                    eprintln!("seed {seed} of {last}");
                }
            });
        }
    });
    let mut runs = runs.into_inner().expect("no panic");
    runs.sort_by_key(|run| (run.seed, !run.listed));
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &runs)?;
    writeln!(out)?;
    Ok(())
}
