//! `cargo xtask vm`: smtpflow on other kernels than this machine's, each in a virtual machine.
//!
//! ```text
//! archive, kernels, modules   a kernel from Debian's archive
//! initramfs, cpio             PID 1, smtpflow and tests, in one file
//! qemu                        a machine from its start to its end
//! table                       what was found, as a page
//! ```
//!
//! Contract: a machine that does not boot, hangs or panics is a failure, as is a check that fails or is not
//! heard of again. What a kernel cannot do is told apart from that: the guest says so, and has seen the
//! fallback work. What the guest does is in `tests/src/guest`.

pub mod archive;
mod cpio;
mod initramfs;
mod kernels;
mod modules;
mod qemu;
mod table;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::fcntl::{Flock, FlockArg};
use xtask::guest::Line;
use xtask::interrupt;

use crate::{apt, setup, workspace};
use initramfs::Programs;
use kernels::Kernel;
use qemu::{Accelerator, Machine, Run};
use table::Column;

/// Arguments of `vm`.
#[derive(Debug, clap::Args)]
pub struct VmArgs {
    /// A kernel: 5.10, 6.1, 6.12, 7.x, or the file of an image with all drivers built in; may be given
    /// several times [default: all four]
    #[arg(long = "kernel", value_name = "NAME|FILE")]
    kernels: Vec<String>,
    /// Only this check; may be given several times
    #[arg(long = "check", value_name = "NAME")]
    checks: Vec<String>,
    /// Look for newer kernels in Debian's archive
    #[arg(long)]
    update: bool,
    /// Where the page with the table goes [default: target/xtask/vm/kernels.md]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// The machines that each kernel runs in: the name, the number of CPUs, further words for the kernel, what
/// is checked there.
const MACHINES: [(&str, &str, &str, &[&str]); 2] = [
    (
        "two",
        "2",
        "",
        &[
            "kernel",
            "load",
            "frames",
            "driver",
            "skb",
            "jumbo",
            "no-btf",
            "flips",
            "kill",
            "upgrade",
            "hotplug",
            "capabilities",
            "least",
        ],
    ),
    // All 72 are there and 70 are never started, so they have their part of every table. That is known to each
    // kernel; from CPUs that may be plugged in later, some since 6.9 expect nothing.
    ("many", "72", "maxcpus=2", &["many-cpus"]),
];

/// Boots one kernel after the other.
pub fn run(args: &VmArgs) -> Result<ExitCode> {
    let known: Vec<&str> = MACHINES
        .iter()
        .flat_map(|(.., checks)| *checks)
        .copied()
        .collect();
    if let Some(unknown) = args.checks.iter().find(|check| !known.contains(&&***check)) {
        bail!("no check {unknown} (have: {})", known.join(", "));
    }
    apt::provide("virtual machines", &[apt::MACHINES])?;
    setup::run()?;
    let folder = workspace::own_folder()?.join("vm");
    let _lock = lock(&folder)?;
    let names = if args.kernels.is_empty() {
        kernels::names()
    } else {
        args.kernels.clone()
    };
    let kernels = names
        .iter()
        .map(|name| kernels::provide(name, &folder, args.update))
        .collect::<Result<Vec<_>>>()?;
    println!("building the programs of the guest");
    let programs = Programs::build(&folder.join("programs"))?;
    let mut accelerator = None;
    let (mut columns, mut failures) = (Vec::new(), 0);
    for kernel in &kernels {
        let initramfs = folder.join("initramfs");
        initramfs::write(&initramfs, &programs, kernel)?;
        let accelerator = *accelerator.get_or_insert_with(|| {
            let found = Accelerator::find(kernel, &initramfs, &folder);
            println!("the machines are run by {found}");
            found
        });
        let (column, failed) = examine(kernel, &initramfs, accelerator, &args.checks, &folder)?;
        columns.push(column);
        failures += failed;
        if interrupt::requested() {
            bail!("stopped on request");
        }
    }
    if args.checks.is_empty()
        && let Some(accelerator) = accelerator
    {
        let file = args
            .output
            .clone()
            .unwrap_or_else(|| folder.join("kernels.md"));
        fs::write(&file, table::page(&columns, accelerator)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        println!("the table is in {}", file.display());
    }
    Ok(if failures == 0 {
        ExitCode::SUCCESS
    } else {
        println!(
            "{failures} failed; what the machines wrote is in {}",
            folder.display()
        );
        ExitCode::FAILURE
    })
}

/// Keeps two runs out of each other's files; held until the process ends, however it ends.
fn lock(folder: &Path) -> Result<Flock<File>> {
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let file = File::open(folder).with_context(|| format!("cannot open {}", folder.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
        anyhow!(
            "cannot lock {} ({errno}): another `cargo xtask vm` of this checkout runs; wait for its end",
            folder.display()
        )
    })
}

/// Runs a kernel's machines, and says what was found and how much of it failed.
fn examine(
    kernel: &Kernel,
    initramfs: &Path,
    accelerator: Accelerator,
    only: &[String],
    logs: &Path,
) -> Result<(Column, usize)> {
    let mut column = Column {
        kernel: kernel.name.clone(),
        lines: Vec::new(),
    };
    let mut failures = 0;
    for (name, cpus, words, checks) in MACHINES {
        let wanted = |check: &&str| only.is_empty() || only.iter().any(|only| only == check);
        let checks: Vec<&str> = checks.iter().copied().filter(wanted).collect();
        if checks.is_empty() {
            continue;
        }
        let machine = Machine {
            name: format!("{}-{name}", kernel.name),
            kernel,
            initramfs,
            checks: &checks,
            cpus,
            words,
            accelerator,
        };
        let run = machine.run(logs)?;
        failures += show(&machine.name, &run);
        println!("{:<10} {:.1} s", machine.name, run.time.as_secs_f64());
        column.lines.extend(run.lines);
    }
    Ok((column, failures))
}

/// Shows what a machine said, and counts what failed.
fn show(machine: &str, run: &Run) -> usize {
    let mut failures = 0;
    let mut figures = String::new();
    for line in &run.lines {
        let end = match line {
            Line::Figure(_, name, value) => {
                figures.push_str(&format!(" {name}={value}"));
                continue;
            }
            Line::Ok(check) => format!("{check:<12} ok     {}", figures.trim()),
            Line::Without(check, why) => format!("{check:<12} without {why};{figures}"),
            Line::Failed(check, why) => {
                failures += 1;
                format!("{check:<12} FAILED {why};{figures}")
            }
            Line::Hello(_) | Line::Begin(..) | Line::End => continue,
        };
        println!("{machine:<10} {end}");
        figures.clear();
    }
    if let Some(problem) = &run.problem {
        failures += 1;
        println!("{machine:<10} FAILED {problem}");
    }
    failures
}
