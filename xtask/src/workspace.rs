//! Where things are: the workspace, its target folder, the logs, cargo.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

/// The workspace's root folder. Cargo says where this package is when it runs the task; the place
/// where it was compiled is the answer for a task that is run by itself.
pub fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or(package.clone(), Path::to_path_buf)
}

/// The target folder that this program was built into, and that its own builds therefore use.
pub fn target() -> Result<PathBuf> {
    let me = std::env::current_exe().context("cannot find out where this program is")?;
    me.ancestors()
        .nth(2)
        .map(Path::to_path_buf)
        .with_context(|| format!("{} is not in a target folder", me.display()))
}

/// The folder for logs and tools of the tasks.
pub fn own_folder() -> Result<PathBuf> {
    Ok(target()?.join("xtask"))
}

/// The log file of a step.
pub fn log(step: &str) -> Result<PathBuf> {
    Ok(own_folder()?.join(format!("{step}.log")))
}

/// PATH with the folder of unpacked tools in front, and those of the administrator behind.
fn path_with_tools() -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(own_folder()?.join("tools"))
        .chain(std::env::split_paths(&path))
        .chain(["/usr/sbin", "/sbin"].map(Into::into));
    std::env::join_paths(folders).context("PATH holds a folder that cannot be listed")
}

/// The cargo that runs this task, in the workspace, building into the same target folder; what it runs finds the
/// unpacked tools.
pub fn cargo(args: &[&str]) -> Result<Command> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    // What cargo tells programs that it runs, as this one or a test, is no concern of the next cargo: a build
    // script that looks at one of these would be run again, and all that depends on it be built anew.
    for (name, _) in std::env::vars_os() {
        let told = name.to_str().is_some_and(|name| {
            name == "OUT_DIR"
                || ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_"]
                    .iter()
                    .any(|told| name.starts_with(told))
        });
        if told {
            command.env_remove(name);
        }
    }
    command
        .args(args)
        .current_dir(root())
        .env("CARGO_TARGET_DIR", target()?)
        .env("PATH", path_with_tools()?);
    Ok(command)
}
