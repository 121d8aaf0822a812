//! `cargo xtask evaluate`: who is found in labelled traffic, by smtpflow and by simpler methods.
//!
//! What knows smtpflow is a program of `tests/examples`, since xtask must build where the kernel
//! program cannot yet; this builds it with optimisations, runs it, and makes the report of
//! `xtask::evaluation` from what it found: `evaluation.txt`, `evaluation.json` and `README.md`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use xtask::evaluation::{self, Report, Run};

use crate::{setup, workspace};

/// Arguments of `evaluate`.
#[derive(Debug, clap::Args)]
pub struct EvaluateArgs {
    /// How many seeds, from 1 on; the first half is for tuning, the second for reporting
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(2..=1000))]
    seeds: u64,
    /// How many days of traffic of each
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=30))]
    days: u64,
    /// The folder for evaluation.txt, evaluation.json and README.md [default: target/xtask/evaluation]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Evaluates, writes the report, and shows it.
pub fn run(args: &EvaluateArgs) -> Result<()> {
    let folder = match &args.output {
        Some(folder) => folder.clone(),
        None => workspace::own_folder()?.join("evaluation"),
    };
    setup::run()?;
    let output = workspace::cargo(&[
        "run",
        "--locked",
        "--release",
        "--package=smtpflow-tests",
        "--example=evaluate",
        "--",
        &args.days.to_string(),
        "1",
        &args.seeds.to_string(),
    ])?
    .stdin(Stdio::null())
    .stderr(Stdio::inherit())
    .output()
    .context("cannot start cargo")?;
    ensure!(
        output.status.success(),
        "the evaluation failed ({})",
        output.status
    );
    let runs: Vec<Run> =
        serde_json::from_slice(&output.stdout).context("the evaluation wrote no runs")?;
    let report = Report {
        days: args.days,
        tuned: args.seeds / 2,
        runs,
    };
    write(&report, &folder)?;
    print!("{}", evaluation::text(&report));
    println!("the report is in {}", folder.display());
    Ok(())
}

fn write(report: &Report, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    for (name, text) in [
        ("evaluation.txt", evaluation::text(report)),
        ("evaluation.json", report.to_json()?),
        ("README.md", evaluation::markdown(report)),
    ] {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
