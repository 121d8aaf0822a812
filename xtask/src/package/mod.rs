//! `cargo xtask deb`, `static`, `sbom`, `deny` and `ebpf`: what is handed out, and what it is made of.
//!
//! Contract: what two runs make of the same sources is alike; nothing that is made here lies in the
//! repository. The tools are built by cargo at fixed versions, below the target folder.

mod deb;
mod ebpf;
mod sbom;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use xtask::command;

use crate::workspace;

pub use deb::{DebArgs, deb, deb_file};
pub use ebpf::{EbpfArgs, ebpf};
pub use sbom::{SbomArgs, sbom};

/// Building a tool or the agent with optimisations, on two slow cores.
const BUILD: Duration = Duration::from_secs(60 * 60);
/// What is quick on any machine.
const QUICK: Duration = Duration::from_secs(10 * 60);
/// What static programs are built for. It is named, so that its flags are not those of build scripts.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// How cargo is told the flags of that target. glibc's own archive: a toolchain for musl is seldom there.
const STATIC: (&str, &str) = (
    "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
    "-Ctarget-feature=+crt-static",
);

/// A tool from crates.io, at the version that this workspace is checked with.
struct Tool {
    name: &'static str,
    version: &'static str,
}

const CARGO_DEB: Tool = Tool {
    name: "cargo-deb",
    version: "3.8.0",
};
const CARGO_DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
};

impl Tool {
    /// Its program, built if it is not there.
    fn provide(&self) -> Result<PathBuf> {
        let Self { name, version } = self;
        let root = workspace::own_folder()?
            .join("cargo-tools")
            .join(format!("{name}-{version}"));
        let program = root.join("bin").join(name);
        if program.is_file() {
            return Ok(program);
        }
        println!(
            "building {name} {version} (cargo install, some minutes) into {}",
            root.display()
        );
        let begun = Instant::now();
        let wanted = format!("{name}@{version}");
        let mut cargo = workspace::cargo(&["install", "--locked", &wanted])?;
        // Its many dependencies have no place in this workspace's target folder. Run once or twice, it is
        // worth no optimising at the link, which takes cargo-deny's build to twice the time.
        cargo
            .env_remove("CARGO_TARGET_DIR")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .arg("--root")
            .arg(&root);
        command::succeed(&mut cargo, &workspace::log(name)?, BUILD)?;
        println!(
            "{name} is there after {:.0} s",
            begun.elapsed().as_secs_f64()
        );
        Ok(program)
    }
}

/// Builds the tools that are not there, which takes minutes on a new machine.
pub fn provide_tools() -> Result<()> {
    CARGO_DEB.provide()?;
    CARGO_DENY.provide().map(drop)
}

/// `cargo xtask static`: the agent as one file that needs no library, for any Linux on x86_64.
pub fn static_build(args: &StaticArgs) -> Result<()> {
    let (profile, folder) = args.profile();
    let target = format!("--target={TARGET}");
    let words = [
        "build",
        "--locked",
        "--package=smtp-user",
        "--bin=smtpflow",
        profile,
        &target,
    ];
    let mut cargo = workspace::cargo(&words)?;
    cargo.env(STATIC.0, STATIC.1);
    command::succeed(&mut cargo, &workspace::log("static")?, BUILD)?;
    let program = workspace::target()?
        .join(TARGET)
        .join(folder)
        .join("smtpflow");
    println!("{}", program.display());
    Ok(())
}

/// Arguments of `static`.
#[derive(Debug, clap::Args)]
pub struct StaticArgs {
    /// Without optimisations, for tests
    #[arg(long)]
    dev: bool,
}

impl StaticArgs {
    /// What cargo is told, and the folder that it builds into.
    fn profile(&self) -> (&'static str, &'static str) {
        match self.dev {
            true => ("--profile=dev", "debug"),
            false => ("--profile=release", "release"),
        }
    }
}

/// `cargo xtask deny`: licences, sources and duplicates of everything that is built in, and known
/// vulnerabilities where the list of them can be fetched.
pub fn deny() -> Result<()> {
    let program = CARGO_DENY.provide()?;
    let run = |checks: &[&str]| -> Result<()> {
        let mut deny = std::process::Command::new(&program);
        deny.current_dir(workspace::root());
        deny.args(["--locked", "check", "--hide-inclusion-graph"])
            .args(checks);
        command::succeed(
            &mut deny,
            &workspace::log(&format!("deny-{}", checks[0]))?,
            QUICK,
        )
    };
    run(&["bans", "licenses", "sources"])?;
    println!("bans, licences and sources: good");
    match run(&["advisories"]) {
        Ok(()) => println!("advisories: good"),
        Err(error) => {
            let log = command::read_lossy(&workspace::log("deny-advisories")?);
            if !log.contains("failed to fetch advisory database") {
                return Err(error).context("known vulnerabilities are built in");
            }
            println!("advisories: NOT CHECKED, the list of them cannot be fetched from here");
        }
    }
    Ok(())
}
