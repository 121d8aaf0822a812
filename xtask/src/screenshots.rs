//! `cargo xtask screenshots`: the pictures of the README, of a real agent on real frames.
//!
//! What takes them knows smtpflow, so it is a program of `tests/examples`. Here they are made small: a
//! picture of a page has few colours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use xtask::command::{self, tool};

use crate::build::{self, BuildArgs};
use crate::{apt, workspace};

/// Octets of a picture, at most: a README is read over slow lines as well.
const LIMIT: u64 = 150_000;
const QUICK: Duration = Duration::from_secs(60);

/// Arguments of `screenshots`.
#[derive(Debug, clap::Args)]
pub struct ScreenshotsArgs {
    /// The folder for the pictures [default: docs/screenshots]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Takes the pictures and makes them small.
pub fn run(args: &ScreenshotsArgs) -> Result<()> {
    apt::require_root("`cargo xtask screenshots`", "cargo xtask screenshots")?;
    build::build(&BuildArgs { release: false })?;
    apt::provide(
        "the pictures",
        &[apt::LABORATORY, apt::BROWSER, apt::PICTURES],
    )?;
    let raw = workspace::own_folder()?.join("pictures");
    let folder = match &args.output {
        Some(folder) => folder.clone(),
        None => workspace::root().join("docs/screenshots"),
    };
    for folder in [&raw, &folder] {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let status = workspace::cargo(&[
        "run",
        "--locked",
        "--package=smtpflow-tests",
        "--example=screenshots",
        "--",
    ])?
    .arg(&raw)
    .stdin(Stdio::null())
    .status()
    .context("cannot start cargo")?;
    ensure!(status.success(), "taking the pictures failed ({status})");
    for entry in fs::read_dir(&raw).context("there are no pictures")? {
        let picture = entry?.path();
        let name = picture.file_name().context("a picture without a name")?;
        let small = folder.join(name);
        shrink(&picture, &small)?;
        let size = small.metadata().context("there is no picture")?.len();
        println!("{}: {size} octets", small.display());
        ensure!(
            size < LIMIT,
            "{} has {size} octets, and may have {LIMIT}",
            small.display()
        );
    }
    Ok(())
}

fn shrink(picture: &Path, small: &Path) -> Result<()> {
    let mut quantise = tool(
        "pngquant",
        ["--force", "--strip", "--speed", "1", "--output"],
    );
    quantise.arg(small).args(["128", "--"]).arg(picture);
    command::output(&mut quantise, QUICK).map(drop)
}
