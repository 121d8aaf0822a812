//! Tools of the tests that no Debian package has: axe-core, which looks for what keeps people out of a
//! page, and schemathesis, which tries an API by its own description.
//!
//! Contract: both come from PyPI by pip, in a virtual environment below the target folder, at fixed
//! versions; nothing outside of that folder changes, and no npm is needed. (axe-core's usual place is npm;
//! the very file is in a Python package as well.) The file of axe-core is only taken with the hash that
//! is written here.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use xtask::command::{self, tool};

use crate::workspace;

/// The package that brings axe-core 4.12.1.
const AXE_PACKAGE: &str = "axe-playwright-python==0.1.8";
const AXE_FILE: &str = "axe_playwright_python/axe.min.js";
const AXE_SHA256: &str = "84494fec757e4710dc751c8d7a636e457f4532f08f85c86dc9070133fbff53bc";
/// schemathesis and what it needs, at fixed versions.
const REQUIREMENTS: &str = include_str!("../schemathesis.txt");

/// Fetching some 30 MB over a slow line.
const FETCH: Duration = Duration::from_secs(20 * 60);
const QUICK: Duration = Duration::from_secs(60);

/// Makes both available: `axe.min.js` in the folder of tools, `schemathesis` in `python/bin` there.
pub fn provide() -> Result<()> {
    let tools = workspace::own_folder()?.join("tools");
    fs::create_dir_all(&tools)
        .with_context(|| format!("cannot make the folder {}", tools.display()))?;
    let python = tools.join("python");
    let installed = python.join("schemathesis.txt");
    if fs::read_to_string(&installed).is_ok_and(|is| is == REQUIREMENTS)
        && sha256(&tools.join("axe.min.js")).is_ok_and(|is| is == AXE_SHA256)
    {
        return Ok(());
    }
    let begun = Instant::now();
    println!(
        "the tests need axe-core and schemathesis; fetching them with pip into {}",
        tools.display()
    );
    let log = workspace::log("tools")?;
    if python.exists() {
        fs::remove_dir_all(&python)
            .with_context(|| format!("cannot remove {}", python.display()))?;
    }
    command::succeed(tool("python3", ["-m", "venv"]).arg(&python), &log, FETCH)?;
    let interpreter = python.join("bin/python");
    let pip = |arguments: &[&str]| {
        let mut pip = std::process::Command::new(&interpreter);
        pip.args(["-m", "pip", "--disable-pip-version-check"]);
        pip.args(arguments);
        pip
    };
    let list = python.join("wanted.txt");
    fs::write(&list, REQUIREMENTS).context("cannot write the list of packages")?;
    let mut install = pip(&[
        "install",
        "--no-deps",
        "--only-binary=:all:",
        "--requirement",
    ]);
    command::succeed(install.arg(&list), &log, FETCH)?;

    let package = python.join("axe");
    let mut download = pip(&["download", "--no-deps", AXE_PACKAGE, "--dest"]);
    command::succeed(download.arg(&package), &log, FETCH)?;
    let wheel = fs::read_dir(&package)
        .ok()
        .and_then(|mut entries| entries.next()?.ok())
        .context("pip downloaded no package with axe-core")?
        .path();
    let mut unpack = std::process::Command::new(&interpreter);
    unpack.args(["-m", "zipfile", "--extract"]).arg(&wheel);
    command::succeed(unpack.arg(&package), &log, QUICK)?;
    let axe = package.join(AXE_FILE);
    let found = sha256(&axe)?;
    ensure!(
        found == AXE_SHA256,
        "{AXE_PACKAGE} holds another axe.min.js than it should: its SHA-256 is {found}, \
         not {AXE_SHA256}"
    );
    fs::rename(&axe, tools.join("axe.min.js")).context("cannot move axe.min.js")?;
    fs::rename(&list, &installed).context("cannot note what is installed")?;
    println!(
        "they are there after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

fn sha256(file: &Path) -> Result<String> {
    let line = command::output(tool("sha256sum", ["--binary"]).arg(file), QUICK)?;
    let (hash, _) = line.split_once(' ').context("sha256sum wrote no hash")?;
    Ok(hash.to_owned())
}
