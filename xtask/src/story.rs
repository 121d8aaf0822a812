//! `cargo xtask story`: the story of an abuse desk, from a flag to the answer, as docs/abuse-desk.md tells it. It is the
//! stage `story` of the tests with what it says shown as it comes.

use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, Result};

use crate::build::BuildArgs;
use crate::{apt, build, workspace};

/// Plays the story. Fails where it goes otherwise than the page tells.
pub fn run() -> Result<ExitCode> {
    apt::require_root("`cargo xtask story`", "cargo xtask story")?;
    build::build(&BuildArgs { release: false })?;
    apt::provide("the story", &[apt::LABORATORY, apt::ORACLES, apt::ROUTERS])?;
    let arguments = [
        "test",
        "--locked",
        "--quiet",
        "--package=smtpflow-tests",
        "--test=story",
        "--",
        "--test-threads=1",
        "--nocapture",
    ];
    let status = workspace::cargo(&arguments)?
        .stdin(Stdio::null())
        .status()
        .context("cannot start cargo")?;
    Ok(match status.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
