//! Programs of Debian packages that are not installed, since they would bring along or drive out others.
//!
//! Contract: what is taken lies in the folder of tools below the target folder, which the tests have in front
//! of their PATH; nothing outside of it changes.

use std::fs;

use anyhow::{Context as _, Result};
use xtask::command::{self, find, tool};

use super::{INSTALL, apt_get, update};
use crate::workspace;

/// What is used of Debian's package `prometheus`, and where it is in it.
const PROMETHEUS: [(&str, &str); 2] = [
    ("prometheus", "usr/bin/prometheus"),
    ("promtool", "usr/bin/promtool"),
];

/// The server in Debian's package `opensmtpd`, by a name that is not that of other servers.
const OPENSMTPD: [(&str, &str); 1] = [("opensmtpd", "usr/sbin/smtpd")];

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
    println!(
        "the tests need {}; unpacking from Debian's package {name} into {} (nothing is installed)",
        names.join(" and "),
        folder.display()
    );
    let package = folder.join(format!("package-{name}"));
    fs::create_dir_all(&package)
        .with_context(|| format!("cannot make the folder {}", package.display()))?;
    let log = workspace::log(name)?;
    let mut download = apt_get(&["download", name], false)?;
    download.current_dir(&package);
    if command::succeed(&mut download, &log, INSTALL).is_err() {
        update()?;
        command::succeed(&mut download, &log, INSTALL)
            .with_context(|| format!("cannot fetch Debian's package {name}"))?;
    }
    let archive = fs::read_dir(&package)
        .ok()
        .and_then(|mut entries| entries.next()?.ok())
        .with_context(|| format!("apt-get downloaded no package {name}"))?
        .path();
    let unpacked = package.join("unpacked");
    command::succeed(
        tool("dpkg-deb", ["--extract"]).arg(&archive).arg(&unpacked),
        &log,
        INSTALL,
    )?;
    for (program, path) in programs {
        fs::rename(unpacked.join(path), folder.join(program))
            .with_context(|| format!("the package {name} holds no {path}"))?;
    }
    fs::remove_dir_all(&package).with_context(|| format!("cannot remove {}", package.display()))
}
