//! The past of the demo: a campus around its clients, that has been watched for days.
//!
//! What makes it knows smtpflow, so it is a program of `tests/examples`; it also sends the traffic of
//! the campus from then on, on an interface of its own on the gateway. The demo's clients have a past in
//! it, and go on with real mail software.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use xtask::command;
use xtask::lab::{Lab, Process};

use super::traffic::Host;
use crate::workspace;

/// The interface of the gateway where the traffic of the campus comes in.
pub const INTERFACE: &str = "gw-r";
/// Writing a month takes some 10 s without optimisations.
const WRITTEN: Duration = Duration::from_secs(300);

/// What the demo goes on with.
#[derive(Debug)]
pub struct Past {
    /// The store.
    pub store: PathBuf,
    /// The configuration: prefixes, and known relays.
    pub config: String,
    /// Who sends from now on.
    _campus: Process,
}

/// Builds the program that makes a past.
pub fn build() -> Result<PathBuf> {
    let status = workspace::cargo(&[
        "build",
        "--locked",
        "--package=smtpflow-tests",
        "--example=campus",
    ])?
    .stdin(Stdio::null())
    .status()
    .context("cannot start cargo")?;
    ensure!(status.success(), "building the campus failed ({status})");
    Ok(workspace::target()?.join("debug/examples/campus"))
}

/// Makes a past of so many days, and lets it go on.
pub fn make(lab: &Lab, program: &Path, days: u64, hosts: &[Host]) -> Result<Past> {
    println!("{days} days of a campus' traffic are being written");
    lab.add_namespace("campus")?;
    lab.link(("campus", "eth0"), ("gateway", INTERFACE), None)?;
    // Room for two tags.
    for (host, port) in [("campus", "eth0"), ("gateway", INTERFACE)] {
        lab.ip(host, &format!("link set {port} mtu 2000"))?;
    }
    let folder = lab.folder().join("store");
    make_private(&folder)?;
    let store = folder.join("smtpflow.db");
    let config = lab.folder().join("campus.toml");
    let program = program.to_string_lossy();
    let days = days.to_string();
    let mut arguments = vec![
        days,
        store.display().to_string(),
        config.display().to_string(),
        "eth0".to_owned(),
    ];
    for host in hosts {
        arguments.push(format!("{}={}", host.kind(), host.address()));
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut campus = lab.start(&mut lab.command("campus", &program, &arguments), "campus")?;
    let written = command::poll_until(WRITTEN, || config.exists() || !campus.is_running());
    ensure!(
        written && config.exists(),
        "the campus has no past; it says:\n{}",
        command::tail(&campus.log_text(), 20)
    );
    Ok(Past {
        store,
        config: std::fs::read_to_string(&config)
            .with_context(|| format!("cannot read {}", config.display()))?,
        _campus: campus,
    })
}

/// The agent refuses a store that others could read.
fn make_private(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))
}
