//! The kernel program by itself, in a folder of its own: to compare it with that of another build.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use xtask::command::{self, tool};

use super::BUILD;
use crate::toolchain::{LINKED, OVERRIDE, installed};
use crate::{setup, workspace};

/// Arguments of `ebpf`.
#[derive(Debug, clap::Args)]
pub struct EbpfArgs {
    /// Where to build; the object is smtpflow-xdp in there
    folder: PathBuf,
}

/// Builds the object as `smtp-user/build.rs` does by aya-build, with nothing of an earlier build.
pub fn ebpf(args: &EbpfArgs) -> Result<()> {
    setup::run()?;
    let toolchain = match std::env::var(OVERRIDE) {
        Ok(name) => name,
        Err(_) if installed()?.iter().any(|name| name == LINKED) => LINKED.to_owned(),
        Err(_) => "nightly".to_owned(),
    };
    let flags = [
        "--cfg=bpf_target_arch=\"x86_64\"",
        "-Cdebuginfo=2",
        "-Clink-arg=--btf",
    ];
    let mut cargo = tool("rustup", ["run", &toolchain, "cargo", "build"]);
    cargo
        .current_dir(workspace::root())
        .args(["--package=smtp-ebpf", "--bin=smtpflow-xdp", "--release"])
        .args(["--target=bpfel-unknown-none", "-Zbuild-std=core"])
        .arg("--target-dir")
        .arg(&args.folder)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTC")
        .env_remove("RUSTC_WORKSPACE_WRAPPER");
    command::succeed(&mut cargo, &workspace::log("ebpf")?, BUILD)?;
    let object = args.folder.join("bpfel-unknown-none/release/smtpflow-xdp");
    std::fs::copy(&object, args.folder.join("smtpflow-xdp"))
        .with_context(|| format!("cannot copy {}", object.display()))?;
    Ok(())
}
