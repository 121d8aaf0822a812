//! What only a nightly compiler does: Miri, and libFuzzer by cargo-fuzz.
//!
//! Contract: what is missing is announced and then installed, by rustup into the nightly toolchain and
//! by cargo into the target folder. A toolchain that is there is never updated.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use xtask::command::{self, find, tool};

use crate::toolchain::{self, has_nightly};
use crate::workspace;

/// Components of the nightly toolchain: Miri, and the source of the library that it interprets.
const COMPONENTS: [&str; 2] = ["miri", "rust-src"];
/// Fetching a toolchain, or building cargo-fuzz, on a slow machine.
const INSTALL: Duration = Duration::from_secs(30 * 60);
const QUERY: Duration = Duration::from_secs(60);
/// How long libFuzzer tries one target, and what building all of them may take.
const FUZZ: Duration = Duration::from_secs(10 * 60);
const BUILD: Duration = Duration::from_secs(60 * 60);

/// Cargo of the nightly toolchain. (The cargo that runs this task is that of another one.)
pub fn cargo(args: &[&str]) -> Result<Command> {
    let mut command = tool("rustup", ["run", "nightly", "cargo"]);
    command
        .args(args)
        .current_dir(workspace::root())
        .env("CARGO_TARGET_DIR", workspace::target()?)
        // Miri shuts the program off from the clock and from files, which proptest looks for.
        .env("MIRIFLAGS", "-Zmiri-disable-isolation");
    Ok(command)
}

/// Provides the nightly toolchain with Miri.
pub fn provide() -> Result<()> {
    let rustup = |args: &[&str]| command::output(&mut tool("rustup", args), INSTALL);
    if !has_nightly(&toolchain::installed()?) {
        println!("Miri needs a nightly toolchain; rustup installs one (minimal)");
        rustup(&["toolchain", "install", "nightly", "--profile", "minimal"])
            .context("cannot install a nightly toolchain, without which Miri cannot run")?;
    }
    let listed = command::output(
        &mut tool(
            "rustup",
            ["component", "list", "--installed", "--toolchain", "nightly"],
        ),
        QUERY,
    )?;
    for component in COMPONENTS {
        // "miri-x86_64-unknown-linux-gnu", "rust-src".
        if listed.lines().any(|line| line.starts_with(component)) {
            continue;
        }
        println!("Miri needs {component}; rustup adds it to the nightly toolchain");
        rustup(&["component", "add", component, "--toolchain", "nightly"]).with_context(|| {
            format!(
                "cannot add {component}: the nightly of that day may have been published without \
                 it; `rustup update nightly` takes a later one"
            )
        })?;
    }
    Ok(())
}

/// Runs every target of `fuzz/` under libFuzzer.
pub fn libfuzzer() -> Result<()> {
    provide_cargo_fuzz()?;
    let root = workspace::root();
    let corpus = workspace::own_folder()?.join("corpus");
    let log = workspace::log("libfuzzer")?;
    let mut seeds = workspace::cargo(&["run", "--quiet", "--package=smtpflow-tests"])?;
    seeds.args(["--example", "seeds", "--"]).arg(&corpus);
    command::succeed(&mut seeds, &log, BUILD).context("cannot write the first cases")?;
    let folder = root.join("fuzz/fuzz_targets");
    let entries = std::fs::read_dir(&folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            Some(name.strip_suffix(".rs")?.to_owned())
        })
        .collect();
    names.sort();
    ensure!(!names.is_empty(), "{} has no targets", folder.display());
    for name in names {
        let mut run = cargo(&["fuzz", "run", "--fuzz-dir", "fuzz", "--target-dir"])?;
        run.arg(workspace::target()?.join("fuzz"))
            .arg(&name)
            .arg(corpus.join(&name))
            .arg("--")
            .arg(format!("-max_total_time={}", FUZZ.as_secs()))
            .args(["-max_len=8192", "-rss_limit_mb=2048", "-timeout=10"])
            .env("PATH", path_with(&cargo_fuzz_root()?.join("bin"))?);
        let log = workspace::log(&format!("libfuzzer-{name}"))?;
        command::succeed(&mut run, &log, FUZZ + BUILD)
            .with_context(|| format!("libFuzzer found something in {name}"))?;
    }
    Ok(())
}

fn cargo_fuzz_root() -> Result<std::path::PathBuf> {
    Ok(workspace::own_folder()?.join("cargo-fuzz"))
}

fn provide_cargo_fuzz() -> Result<()> {
    let root = cargo_fuzz_root()?;
    if find("cargo-fuzz").is_some() || root.join("bin/cargo-fuzz").is_file() {
        return Ok(());
    }
    println!(
        "libFuzzer needs cargo-fuzz; building it into {}",
        root.display()
    );
    let mut install = workspace::cargo(&["install", "--locked", "cargo-fuzz", "--root"])?;
    install.arg(&root);
    command::succeed(&mut install, &workspace::log("cargo-fuzz")?, INSTALL)
}

fn path_with(folder: &Path) -> Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).context("PATH holds a folder that cannot be listed")
}
