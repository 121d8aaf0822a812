//! Programs of Debian packages that are not installed, since they would bring along or drive out others.
//!
//! Contract: what is taken lies in the folder of tools below the target folder, which the tests have in front
//! of their PATH; nothing outside of it changes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use xtask::command::{self, find, tool};

use super::{INSTALL, apt_get, plan, update};
use crate::workspace;

/// What is used of Debian's package `prometheus`, and where it is in it.
const PROMETHEUS: [(&str, &str); 2] = [
    ("prometheus", "usr/bin/prometheus"),
    ("promtool", "usr/bin/promtool"),
];

/// The server in Debian's package `opensmtpd`, by a name that is not that of other servers.
const OPENSMTPD: [(&str, &str); 1] = [("opensmtpd", "usr/sbin/smtpd")];

/// The program of Debian's package [`MACHINES`].
const QEMU: &str = "qemu-system-x86_64";
const MACHINES: &str = "qemu-system-x86";
/// Where shared libraries lie in a package.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];

/// Makes Prometheus and its `promtool` available: those on PATH, or else those in Debian's package
/// `prometheus`, which is unpacked and not installed: the package would bring a service, a user and a dozen
/// JavaScript libraries along.
pub fn provide_prometheus() -> Result<()> {
    if PROMETHEUS
        .iter()
        .all(|(program, _)| find(program).is_some())
    {
        return Ok(());
    }
    unpack("prometheus", &PROMETHEUS)
}

/// Makes the server of OpenSMTPD available as `opensmtpd`. Its package is unpacked and not installed: it is
/// a mail transport agent, and would take the place of postfix.
pub fn provide_opensmtpd() -> Result<()> {
    unpack("opensmtpd", &OPENSMTPD)
}

/// Makes QEMU available and says where: the one on PATH, or else Debian's, unpacked and not installed, with the
/// packages it needs that are not on this machine: its package drives out a `qemu-utils` of another release. QEMU
/// finds its firmware by where its program lies, and its libraries by the script that starts it.
pub fn provide_qemu() -> Result<PathBuf> {
    if let Some(program) = find(QEMU) {
        return Ok(program);
    }
    let tools = workspace::own_folder()?.join("tools");
    let start = tools.join(QEMU);
    if start.is_file() {
        return Ok(start);
    }
    announce(QEMU, MACHINES, &tools);
    let needed: Vec<String> = plan(&[MACHINES.to_owned()])?
        .installed
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let root = extract(MACHINES, &needed)?;
    let kept = tools.join("qemu");
    if kept.exists() {
        fs::remove_dir_all(&kept).with_context(|| format!("cannot remove {}", kept.display()))?;
    }
    fs::rename(&root, &kept).with_context(|| format!("cannot make {}", kept.display()))?;
    // By where it lies itself: a folder may be moved, and may have any name.
    let script = format!(
        "#!/bin/sh\nroot=$(dirname \"$0\")/qemu\nLD_LIBRARY_PATH=\"{}\" exec \"$root/usr/bin/{QEMU}\" \"$@\"\n",
        LIBRARIES.map(|folder| format!("$root/{folder}")).join(":")
    );
    fs::write(&start, script)
        .and_then(|()| fs::set_permissions(&start, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", start.display()))?;
    Ok(start)
}

/// Unpacks these programs of a Debian package into the folder of tools below the target folder, if they are
/// not there.
fn unpack(name: &str, programs: &[(&str, &str)]) -> Result<()> {
    let folder = workspace::own_folder()?.join("tools");
    if programs
        .iter()
        .all(|(program, _)| folder.join(program).is_file())
    {
        return Ok(());
    }
    let names: Vec<&str> = programs.iter().map(|(program, _)| *program).collect();
    announce(&names.join(" and "), name, &folder);
    let unpacked = extract(name, &[name.to_owned()])?;
    for (program, path) in programs {
        fs::rename(unpacked.join(path), folder.join(program))
            .with_context(|| format!("the package {name} holds no {path}"))?;
    }
    fs::remove_dir_all(&unpacked).with_context(|| format!("cannot remove {}", unpacked.display()))
}

fn announce(programs: &str, package: &str, folder: &Path) {
    println!(
        "the tests need {programs}; unpacking from Debian's package {package} into {} (nothing is installed)",
        folder.display()
    );
}

/// Fetches these packages and extracts them into one folder of this name, which is the caller's to clear away.
fn extract(name: &str, packages: &[String]) -> Result<PathBuf> {
    let tools = workspace::own_folder()?.join("tools");
    let (fetched, unpacked) = (
        tools.join(format!("package-{name}")),
        tools.join(format!("unpacked-{name}")),
    );
    for folder in [&fetched, &unpacked] {
        // What an earlier call left when it was ended.
        if folder.exists() {
            fs::remove_dir_all(folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let log = workspace::log(name)?;
    let mut download = apt_get(&["download"], false)?;
    download.args(packages).current_dir(&fetched);
    if command::succeed(&mut download, &log, INSTALL).is_err() {
        update()?;
        command::succeed(&mut download, &log, INSTALL)
            .with_context(|| format!("cannot fetch Debian's packages {}", packages.join(" ")))?;
    }
    let archives = fs::read_dir(&fetched)
        .with_context(|| format!("cannot read the folder {}", fetched.display()))?;
    for archive in archives {
        let archive = archive
            .with_context(|| format!("cannot read the folder {}", fetched.display()))?
            .path();
        command::succeed(
            tool("dpkg-deb", ["--extract"]).arg(&archive).arg(&unpacked),
            &log,
            INSTALL,
        )?;
    }
    fs::remove_dir_all(&fetched).with_context(|| format!("cannot remove {}", fetched.display()))?;
    Ok(unpacked)
}
