//! Builds the kernel program for the bpf target and puts it where `include_bytes_aligned!` finds it.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};

/// Names a rustup toolchain that builds for the bpf target; wins over what is found.
const TOOLCHAIN: &str = "SMTPFLOW_EBPF_TOOLCHAIN";
/// The name under which `cargo xtask setup` links a distribution's rustc.
const LINKED: &str = "smtpflow-ebpf";
/// `core` for the bpf target is built from source, which rustc and cargo allow on nightly only, or
/// when this is 1. Set for the inner cargo alone: in the environment of the whole build it would
/// make other crates' build scripts believe in a nightly.
const BOOTSTRAP: &str = "RUSTC_BOOTSTRAP";

fn main() -> ExitCode {
    match build() {
        Ok(code) => code,
        Err(error) => {
            // One line: cargo prints the standard error of a failed build script as it is.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<ExitCode> {
    if std::env::var_os(BOOTSTRAP).as_deref() != Some("1".as_ref()) {
        // aya-build passes its own environment on, and changing that of a running process is
        // unsafe: so this script runs itself again.
        let this = std::env::current_exe().context("cannot find the build script itself")?;
        let output = Command::new(&this)
            .env(BOOTSTRAP, "1")
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot run {} again", this.display()))?;
        let failed = !output.status.success();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            if failed || !is_progress(line) {
                println!("{line}");
            }
        }
        return Ok(if failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        });
    }
    println!("cargo:rerun-if-env-changed={TOOLCHAIN}");
    println!("cargo:rerun-if-changed=../smtp-common/src");
    let toolchain = toolchain()?;
    aya_build::build_ebpf(
        [aya_build::Package {
            name: "smtp-ebpf",
            root_dir: "../smtp-ebpf",
            ..Default::default()
        }],
        aya_build::Toolchain::Custom(&toolchain),
    )
    .with_context(|| format!("cannot build the kernel program with toolchain {toolchain}"))?;
    let objects = std::env::var("OUT_DIR").context("cargo names no OUT_DIR")?;
    // For `tests/build.rs`: DEP_SMTP_EBPF_OBJECTS.
    println!("cargo:objects={objects}");
    Ok(ExitCode::SUCCESS)
}

/// Whether this line is what the inner cargo says while all goes well: aya-build passes it on as
/// warnings, where it would hide real ones.
fn is_progress(line: &str) -> bool {
    const WORDS: [&str; 8] = [
        "",
        "Adding",
        "Blocking",
        "Compiling",
        "Downloaded",
        "Downloading",
        "Finished",
        "info:",
    ];
    line.strip_prefix("cargo:warning=").is_some_and(|text| {
        let first = text.split_whitespace().next().unwrap_or_default();
        WORDS.contains(&first)
    })
}

/// The toolchain to build with: the one that is named, the one that setup linked, or a nightly that
/// has the source of `core`.
fn toolchain() -> Result<String> {
    if let Ok(name) = std::env::var(TOOLCHAIN) {
        return Ok(name);
    }
    for name in [LINKED, "nightly"] {
        let Ok(output) = Command::new("rustup")
            .args(["run", name, "rustc", "--print", "sysroot"])
            .output()
        else {
            bail!(
                "cannot run rustup, which chooses the toolchain of the kernel program: install rustup"
            );
        };
        let sysroot = String::from_utf8_lossy(&output.stdout);
        if output.status.success()
            && Path::new(sysroot.trim())
                .join("lib/rustlib/src/rust/library/core")
                .is_dir()
        {
            return Ok(name.to_owned());
        }
    }
    bail!(
        "no toolchain can build the kernel program: neither a linked `{LINKED}` nor a nightly with \
         rust-src is there; run `cargo xtask setup`"
    );
}
