//! `cargo xtask vm`: smtpflow on other kernels than this machine's, each in a virtual machine.
//!
//! ```text
//! archive, kernels, modules   a kernel from Debian's archive
//! initramfs, cpio             PID 1, smtpflow and tests, in one file
//! qemu                        a machine from its start to its end
//! ```
//!
//! Contract: a machine that does not boot, hangs or panics is a failure, as is a check that fails or is not
//! heard of again. What a kernel cannot do is told apart from that: the guest says so, and has seen the
//! fallback work. What the guest does is in `tests/src/guest`.

mod archive;
mod cpio;
mod initramfs;
mod kernels;
mod modules;
mod qemu;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use xtask::guest::Line;

use crate::{apt, setup, workspace};
use initramfs::Programs;
use qemu::{Accelerator, Machine, Run};

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
}

/// The checks in a machine with two CPUs.
const CHECKS: &[&str] = &["kernel"];

/// Boots one kernel after the other.
pub fn run(args: &VmArgs) -> Result<ExitCode> {
    apt::provide("virtual machines", &[apt::MACHINES])?;
    setup::run()?;
    let folder = workspace::own_folder()?.join("vm");
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
    let asked: Vec<&str> = args.checks.iter().map(String::as_str).collect();
    let checks = if asked.is_empty() { CHECKS } else { &asked };
    let mut accelerator = None;
    let mut failures = 0;
    for kernel in &kernels {
        let initramfs = folder.join("initramfs");
        initramfs::write(&initramfs, &programs, kernel)?;
        let accelerator = *accelerator.get_or_insert_with(|| {
            let found = Accelerator::find(kernel, &initramfs, &folder);
            println!("machines run by {found}");
            found
        });
        let machine = Machine {
            name: kernel.name.clone(),
            kernel,
            initramfs: &initramfs,
            checks,
            cpus: "2",
            words: "",
            accelerator,
        };
        let begun = Instant::now();
        let run = machine.run(&folder)?;
        failures += show(&kernel.name, &run);
        println!("{:<6} {:.1} s", kernel.name, begun.elapsed().as_secs_f64());
    }
    Ok(if failures == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Shows what a machine said, and counts what failed.
fn show(kernel: &str, run: &Run) -> usize {
    let mut failures = 0;
    for line in &run.lines {
        match line {
            Line::Figure(check, name, value) => println!("{kernel:<6} {check}: {name} {value}"),
            Line::Ok(check) => println!("{kernel:<6} {check}: ok"),
            Line::Without(check, why) => println!("{kernel:<6} {check}: without: {why}"),
            Line::Failed(check, why) => {
                failures += 1;
                println!("{kernel:<6} {check}: FAILED: {why}");
            }
            Line::Hello(_) | Line::Begin(..) | Line::End => {}
        }
    }
    if let Some(problem) = &run.problem {
        failures += 1;
        println!("{kernel:<6} FAILED: {problem}");
    }
    failures
}
