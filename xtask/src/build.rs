//! `cargo xtask build` and `cargo xtask run`: the set-up, then the agent.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::{setup, workspace};

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
pub struct BuildArgs {
    /// Build with optimisations.
    #[arg(long)]
    pub release: bool,
}

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    build: BuildArgs,
    /// What smtpflow is given, after `--`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Builds the agent and returns the path of its program.
pub fn build(args: &BuildArgs) -> Result<PathBuf> {
    setup::run()?;
    let mut words = vec![
        "build",
        "--locked",
        "--package",
        "smtp-user",
        "--bin",
        "smtpflow",
    ];
    if args.release {
        words.push("--release");
    }
    let status = workspace::cargo(&words)?
        .stdin(Stdio::null())
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "building smtpflow failed ({status})");
    let profile = if args.release { "release" } else { "debug" };
    Ok(workspace::target()?.join(profile).join("smtpflow"))
}

/// Builds the agent and becomes it.
pub fn run(args: &RunArgs) -> Result<()> {
    let binary = build(&args.build)?;
    // Only returns if it fails.
    let error = Command::new(&binary).args(&args.arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", binary.display()))
}
