//! `cargo xtask bench`: what counting costs, beside what others cost, in one run and one report.
//!
//! The measurements are programs of `tests/benches`, which know the kernel; this builds them and the
//! agent with optimisations, runs one after the other, and makes the report of `xtask::cost` from
//! their rows: `bench.txt`, `bench.json` and `bench.svg`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use xtask::cost::{self, Machine, Report, Row};

use crate::build::{self, BuildArgs};
use crate::{apt, workspace};

/// The measurements, by the names of their files.
const MEASUREMENTS: [&str; 4] = ["kernel", "veth", "agent", "readers"];

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// A smoke run of under a minute once everything is built: its times mean nothing
    #[arg(long)]
    quick: bool,
    /// Run only this measurement: kernel, veth, agent or readers; may be given several times. Others that
    /// the folder's report has, of the same machine, stay in it
    #[arg(long = "only", value_name = "NAME")]
    only: Vec<String>,
    /// The folder for bench.txt, bench.json and bench.svg [default: target/xtask/bench]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Measures, writes the report, and shows it.
pub fn run(args: &BenchArgs) -> Result<()> {
    let folder = match &args.output {
        Some(folder) => folder.clone(),
        None => workspace::own_folder()?.join("bench"),
    };
    let report = measure(args, &folder, Stdio::inherit)?;
    print!("{}", cost::text(&report));
    println!("\nthe report is in {}", folder.display());
    Ok(())
}

/// The stage `bench` of the tests: everything is measured once and every row is there.
pub fn smoke() -> Result<()> {
    let args = BenchArgs {
        quick: true,
        only: Vec::new(),
        output: None,
    };
    let log = workspace::log("bench")?;
    let folder = workspace::own_folder()?.join("bench-smoke");
    fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let file = fs::File::create(&log)
        .with_context(|| format!("cannot write the log {}", log.display()))?;
    let report = measure(&args, &folder, || match file.try_clone() {
        Ok(copy) => copy.into(),
        Err(_) => Stdio::inherit(),
    })
    .with_context(|| {
        let text = xtask::command::read_lossy(&log);
        let end = xtask::command::tail(&text, 30);
        format!("the end of {}:\n{end}", log.display())
    })?;
    let json = xtask::command::read_lossy(&folder.join("bench.json"));
    ensure!(
        Report::from_json(&json)? == report,
        "bench.json is not what was measured"
    );
    Ok(())
}

/// Measures. After each measurement the report is written, so that a later one that fails leaves what
/// there is.
fn measure(args: &BenchArgs, folder: &Path, progress: impl Fn() -> Stdio) -> Result<Report> {
    if let Some(unknown) = args
        .only
        .iter()
        .find(|name| !MEASUREMENTS.contains(&name.as_str()))
    {
        bail!(
            "no measurement {unknown} (have: {})",
            MEASUREMENTS.join(", ")
        );
    }
    apt::require_root("`cargo xtask bench`", "cargo xtask bench")?;
    apt::provide("the benchmark", &[apt::RIVALS, apt::READERS])?;
    build::build(&BuildArgs {
        release: !args.quick,
    })?;
    let mut report = Report {
        machine: Machine::this(),
        quick: args.quick,
        rows: Vec::new(),
    };
    if !args.only.is_empty() {
        report.rows = rows_beside(&report, folder)?;
    }
    for name in MEASUREMENTS {
        if args.only.is_empty() || args.only.iter().any(|only| only == name) {
            report.replace(rows_of(name, args.quick, progress())?);
            write(&report, folder)?;
        }
    }
    report.check()?;
    if args.only.is_empty() {
        report.check_complete()?;
    }
    Ok(report)
}

/// What an earlier run has measured on this machine and left in the folder: what is not measured again
/// stays. What was measured on another one does not stand beside it.
fn rows_beside(report: &Report, folder: &Path) -> Result<Vec<Row>> {
    let path = folder.join("bench.json");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let json = fs::read_to_string(&path)
        .with_context(|| format!("cannot read the report {}", path.display()))?;
    let earlier = Report::from_json(&json)
        .with_context(|| format!("cannot add to the report {}", path.display()))?;
    ensure!(
        earlier.is_of(report),
        "{} is of another machine or another kind of run ({}): a run with --only does not go beside \
         it; name another folder with --output, or measure everything",
        path.display(),
        earlier.machine
    );
    Ok(earlier.rows)
}

fn rows_of(name: &str, quick: bool, progress: Stdio) -> Result<Vec<Row>> {
    let mut words = vec![
        "bench",
        "--locked",
        "--package=smtpflow-tests",
        "--bench",
        name,
    ];
    if quick {
        // What is measured in passing means nothing, and a build for release is minutes longer.
        words.extend(["--profile=dev", "--", "--quick"]);
    }
    let output = workspace::cargo(&words)?
        .stdin(Stdio::null())
        .stderr(progress)
        .output()
        .context("cannot start cargo")?;
    ensure!(
        output.status.success(),
        "the measurement {name} failed ({})",
        output.status
    );
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("the measurement {name} wrote no rows"))
}

fn write(report: &Report, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    for (name, text) in [
        ("bench.txt", cost::text(report)),
        ("bench.json", report.to_json()?),
        ("bench.svg", cost::chart(report)),
    ] {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
