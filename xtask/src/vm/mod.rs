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
use std::sync::{Mutex, mpsc};
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use xtask::guest::Line;
use xtask::interrupt;

use crate::{apt, setup, workspace};
use initramfs::Programs;
use qemu::{Accelerator, Machine, Run};
use table::Column;

/// Arguments of `vm`.
#[derive(Debug, Default, clap::Args)]
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

/// The page of the repository that says what was found.
const PAGE: &str = "docs/kernels.md";
/// Machines that run side by side at most, each with 2 GiB of memory.
const MOST: usize = 4;

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

/// Boots the kernels.
pub fn run(args: &VmArgs) -> Result<ExitCode> {
    let found = examine(args, true)?;
    if args.checks.is_empty() {
        let file = match &args.output {
            Some(file) => file.clone(),
            None => workspace::own_folder()?.join("vm/kernels.md"),
        };
        fs::write(&file, found.page()?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        println!("the table is in {}", file.display());
    }
    Ok(match found.judge() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    })
}

/// The stage `vm`: all of it, and the page in the repository says what was found.
pub fn stage() -> Result<()> {
    let found = examine(&VmArgs::default(), false)?;
    found.judge()?;
    let page = workspace::root().join(PAGE);
    let text = fs::read_to_string(&page)
        .with_context(|| format!("cannot read the page {}", page.display()))?;
    if let Some(difference) = table::difference(&text, &found.page()?) {
        bail!(
            "{PAGE} is not what the kernels do: {difference}\n\
             If they are right, `cargo xtask vm --output {PAGE}` writes it anew"
        );
    }
    Ok(())
}

/// What was found on all kernels.
struct Found {
    columns: Vec<Column>,
    accelerator: Accelerator,
    failures: usize,
    logs: PathBuf,
}

impl Found {
    fn page(&self) -> Result<String> {
        table::page(&self.columns, self.accelerator)
    }

    fn judge(&self) -> Result<()> {
        ensure!(
            self.failures == 0,
            "{} failed; what the machines wrote is in {}",
            self.failures,
            self.logs.display()
        );
        Ok(())
    }
}

/// Boots kernels, as many side by side as there are CPUs, and shows what each machine has found when it has
/// ended: all of it, or what failed and what a kernel has not.
fn examine(args: &VmArgs, all: bool) -> Result<Found> {
    let known: Vec<&str> = MACHINES
        .iter()
        .flat_map(|(.., checks)| *checks)
        .copied()
        .collect();
    if let Some(unknown) = args.checks.iter().find(|check| !known.contains(&&***check)) {
        bail!("no check {unknown} (have: {})", known.join(", "));
    }
    apt::provide("virtual machines", &[apt::MACHINES])?;
    let qemu = apt::provide_qemu()?;
    setup::run()?;
    let folder = workspace::own_folder()?.join("vm");
    let _lock = lock(&folder)?;
    let names = if args.kernels.is_empty() {
        kernels::names()
    } else {
        args.kernels.clone()
    };
    let mut kernels = names
        .iter()
        .map(|name| kernels::provide(name, &folder, args.update))
        .collect::<Result<Vec<_>>>()?;
    // Their machines' logs have their names.
    for place in 1..kernels.len() {
        let name = kernels[place].name.clone();
        if kernels[..place].iter().any(|kernel| kernel.name == name) {
            kernels[place].name = format!("{name}-{}", place + 1);
        }
    }
    println!("building the programs of the guest");
    let programs = Programs::build(&folder.join("programs"))?;
    let initramfs = kernels
        .iter()
        .map(|kernel| {
            let file = folder.join(format!("{}.initramfs", kernel.name));
            initramfs::write(&file, &programs, kernel).map(|()| file)
        })
        .collect::<Result<Vec<_>>>()?;
    let (Some(kernel), Some(first)) = (kernels.first(), initramfs.first()) else {
        bail!("no kernel");
    };
    let accelerator = Accelerator::find(&qemu, kernel, first, &folder);
    println!("the machines are run by {accelerator}");

    let wanted = |check: &&str| args.checks.is_empty() || args.checks.iter().any(|c| c == check);
    let checks = MACHINES
        .map(|(.., checks)| -> Vec<&str> { checks.iter().copied().filter(wanted).collect() });
    let mut machines = Vec::new();
    // Those that take longest come first.
    for ((name, cpus, words, _), checks) in MACHINES.iter().zip(&checks) {
        for (place, kernel) in kernels.iter().enumerate().filter(|_| !checks.is_empty()) {
            let machine = Machine {
                name: format!("{}-{name}", kernel.name),
                qemu: &qemu,
                kernel,
                initramfs: &initramfs[place],
                checks,
                cpus,
                words,
                accelerator,
            };
            machines.push((place, machine));
        }
    }
    let mut found = Found {
        columns: kernels
            .iter()
            .map(|kernel| Column::new(&kernel.name))
            .collect(),
        accelerator,
        failures: 0,
        logs: folder,
    };
    let mut left: Vec<usize> = (0..kernels.len())
        .map(|place| machines.iter().filter(|(of, _)| *of == place).count())
        .collect();
    let mut failed = vec![0; kernels.len()];
    let logs = found.logs.clone();
    side_by_side(machines, &logs, |place, name, run| {
        failed[place] += show(name, &run, all);
        let column = &mut found.columns[place];
        column.lines.extend(run.lines);
        left[place] -= 1;
        if left[place] == 0 {
            println!("{}", column.summary(failed[place]));
        }
    });
    found.failures = failed.iter().sum();
    if interrupt::requested() {
        bail!("stopped on request");
    }
    Ok(found)
}

/// Runs machines, and tells of each when it has ended, one at a time.
fn side_by_side(
    machines: Vec<(usize, Machine<'_>)>,
    logs: &Path,
    mut ended: impl FnMut(usize, &str, Run),
) {
    let at_once = thread::available_parallelism().map_or(1, |cpus| cpus.get().min(MOST));
    let queue = Mutex::new(machines.into_iter());
    let queue = &queue;
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..at_once {
            let tell = tell.clone();
            scope.spawn(move || {
                while !interrupt::requested() {
                    let next = queue.lock().map(|mut queue| queue.next());
                    let Ok(Some((place, machine))) = next else {
                        return;
                    };
                    let run = machine
                        .run(logs)
                        .unwrap_or_else(|error| Run::without_start(&error));
                    if tell.send((place, machine.name, run)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(tell);
        for (place, name, run) in told {
            ended(place, &name, run);
        }
    });
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

/// Shows what a machine said, and counts what failed.
fn show(machine: &str, run: &Run, all: bool) -> usize {
    let mut failures = 0;
    let mut figures = String::new();
    for line in &run.lines {
        let (shown, end) = match line {
            Line::Figure(_, name, value) => {
                figures.push_str(&format!(" {name}={value}"));
                continue;
            }
            Line::Ok(check) => (all, format!("{check:<12} ok     {}", figures.trim())),
            Line::Without(check, why) => (true, format!("{check:<12} without {why};{figures}")),
            Line::Failed(check, why) => {
                failures += 1;
                (true, format!("{check:<12} FAILED {why};{figures}"))
            }
            Line::Hello(_) | Line::Begin(..) | Line::End => continue,
        };
        if shown {
            println!("{machine:<10} {end}");
        }
        figures.clear();
    }
    if let Some(problem) = &run.problem {
        failures += 1;
        println!("{machine:<10} FAILED {problem}");
    }
    if all {
        println!("{machine:<10} {:.1} s", run.time.as_secs_f64());
    }
    failures
}
