//! `cargo xtask gateway`: a gateway of Debian 13 with systemd in a virtual machine, where the package is
//! installed, used, upgraded, removed and purged. What is done in it is in `tests/tests/gateway.rs`.
//!
//! Contract: the root file system is made of Debian's own packages, kernel and initramfs included, once, and is
//! only read after that; nothing of this machine's own system is changed. The packages of smtpflow are made of the
//! sources as they are, the second with a higher revision and otherwise the same.

mod image;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use xtask::command::{self, tool};

use crate::package::DebArgs;
use crate::{apt, package, workspace};

/// What is quick on any machine.
const QUICK: Duration = Duration::from_secs(5 * 60);
/// Building and running the test.
const TEST: Duration = Duration::from_secs(60 * 60);
/// The file system with the packages.
const PACKAGES: &str = "packages.img";

/// Arguments of `gateway`.
#[derive(Debug, clap::Args)]
pub struct GatewayArgs {
    /// Only make what the machine boots, and say in which folder it is
    #[arg(long)]
    prepare: bool,
    /// Make the root file system anew, of the newest packages
    #[arg(long)]
    update: bool,
}

/// Prepares the machine and runs the test.
pub fn run(args: &GatewayArgs) -> Result<()> {
    apt::require_root("`cargo xtask gateway`", "cargo xtask gateway")?;
    apt::provide("the virtual gateway", &[apt::GATEWAY])?;
    apt::provide_qemu()?;
    let folder = workspace::own_folder()?.join("gateway");
    fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    image::provide(&folder, args.update)?;
    packages(&folder)?;
    if args.prepare {
        println!("{}", folder.display());
        return Ok(());
    }
    apt::provide("the test", &[apt::LABORATORY, apt::ORACLES])?;
    let begun = Instant::now();
    let words = [
        "test",
        "--locked",
        "--package=smtpflow-tests",
        "--test=gateway",
        "--",
        "--show-output",
    ];
    let log = workspace::log("gateway")?;
    command::succeed(&mut workspace::cargo(&words)?, &log, TEST)?;
    println!("{}", command::read_lossy(&log));
    println!(
        "the gateway passed after {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Makes the package and its successor, in a file system of their own.
fn packages(folder: &Path) -> Result<()> {
    let first = package::deb_file(&DebArgs::dev())?;
    let shown = folder.join("packages");
    let unpacked = folder.join("unpacked");
    for folder in [&shown, &unpacked] {
        if folder.exists() {
            fs::remove_dir_all(folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
    }
    fs::create_dir_all(&shown)
        .with_context(|| format!("cannot make the folder {}", shown.display()))?;
    fs::copy(&first, shown.join("first.deb"))
        .with_context(|| format!("cannot copy {}", first.display()))?;
    command::output(
        tool("dpkg-deb", ["--raw-extract"])
            .arg(&first)
            .arg(&unpacked),
        QUICK,
    )?;
    let control = unpacked.join("DEBIAN/control");
    let text = fs::read_to_string(&control).context("the package has no control file")?;
    fs::write(&control, raise(&text)?).context("cannot write the control file")?;
    command::output(
        tool("dpkg-deb", ["--build", "--root-owner-group"])
            .arg(&unpacked)
            .arg(shown.join("second.deb")),
        QUICK,
    )?;
    file_system(&shown, &folder.join(PACKAGES), "128M")
}

/// The control file of a package with a higher revision.
fn raise(control: &str) -> Result<String> {
    let line = control.lines().find(|line| line.starts_with("Version: "));
    let line = line.context("the package has no version")?;
    Ok(control.replace(line, &format!("{line}.1")))
}

/// Makes an ext4 file system of what is in a folder.
fn file_system(from: &Path, image: &Path, size: &str) -> Result<()> {
    let new = PathBuf::from(format!("{}.new", image.display()));
    if new.exists() {
        fs::remove_file(&new).with_context(|| format!("cannot remove {}", new.display()))?;
    }
    let mut make = tool("mke2fs", ["-q", "-t", "ext4", "-d"]);
    command::output(make.arg(from).arg(&new).arg(size), QUICK)?;
    fs::rename(&new, image).with_context(|| format!("cannot make {}", image.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_successor_has_a_higher_revision() {
        let control = "Package: smtpflow\nVersion: 0.1.0-1\nDepends: x\n";
        let raised = raise(control).expect("a version");
        assert_eq!(
            raised,
            "Package: smtpflow\nVersion: 0.1.0-1.1\nDepends: x\n"
        );
        assert!(raise("Package: smtpflow\n").is_err());
    }
}
