//! What a machine has for a file system: our programs, the few programs of Debian's that they call, with
//! the libraries of all of them, and the kernel's modules.
//!
//! Contract: our programs are those that the other stages of `cargo xtask test` build and run, to the byte but
//! for what a debugger needs. An optimised agent halves the processor time of the check `kill`; but even without
//! optimisations, building everything a second time for the machines took six minutes on two busy cores.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use xtask::command::{self, find, tool};

use super::cpio::Archive;
use super::kernels::Kernel;
use crate::workspace;

/// The files of `tests/tests` whose tests run in the guest.
const TESTS: [&str; 2] = ["drain", "kernel"];
/// What the tests call.
const PROGRAMS: [&str; 3] = ["ip", "ethtool", "setpriv"];
const BUILD: Duration = Duration::from_secs(30 * 60);
const QUICK: Duration = Duration::from_secs(60);

/// Our programs for the guest: where they go, and where they are, without what a debugger needs.
pub struct Programs(Vec<(String, PathBuf)>);

/// What cargo says about a file that it made.
#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Programs {
    /// Builds them. `folder` is for their stripped forms.
    pub fn build(folder: &Path) -> Result<Self> {
        let mut programs = cargo(&["build"])?;
        // The programs of the package come along with a test of it.
        let mut words = vec!["test", "--no-run", "--package=smtpflow-tests"];
        words.extend(TESTS.iter().flat_map(|name| ["--test", name]));
        programs.extend(cargo(&words)?);
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let mut placed = Vec::new();
        for (target, executable) in programs {
            let place = match (
                target.name.as_str(),
                target.kind.iter().any(|k| k == "test"),
            ) {
                ("guest", false) => "init".to_owned(),
                (name @ ("smtpflow" | "capabilities"), false) => format!("bin/{name}"),
                (name, true) => format!("tests/{name}"),
                // What cargo builds along with them.
                (_, false) => continue,
            };
            let small = folder.join(place.replace('/', "-"));
            command::output(
                tool("strip", ["--strip-debug", "-o"])
                    .arg(&small)
                    .arg(&executable),
                QUICK,
            )?;
            placed.push((place, small));
        }
        placed.sort();
        placed.dedup();
        Ok(Self(placed))
    }
}

/// Builds with cargo, and says which programs there are.
fn cargo(words: &[&str]) -> Result<Vec<(Target, PathBuf)>> {
    let common = ["--locked", "--message-format=json-render-diagnostics"];
    let text = command::output(&mut workspace::cargo(&[words, &common].concat())?, BUILD)
        .context("cannot build the programs of the guest")?;
    let programs: Vec<_> = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter_map(|message| Some((message.target?, message.executable?)))
        .collect();
    ensure!(
        !programs.is_empty(),
        "cargo {} made no program",
        words.join(" ")
    );
    Ok(programs)
}

/// Writes the archive for a kernel.
pub fn write(file: &Path, programs: &Programs, kernel: &Kernel) -> Result<()> {
    let out = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    let mut archive = Archive::new(BufWriter::new(out))?;
    let mut libraries = BTreeSet::new();
    for (place, from) in &programs.0 {
        archive.file(place, from)?;
        libraries.extend(libraries_of(from)?);
    }
    for name in PROGRAMS {
        let path = find(name).with_context(|| format!("{name} is not installed"))?;
        archive.file(&format!("bin/{name}"), &path)?;
        libraries.extend(libraries_of(&path)?);
    }
    for library in libraries {
        archive.file(&library.display().to_string(), &library)?;
    }
    let mut order = String::new();
    for module in &kernel.modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        archive.file(&format!("modules/{name}"), module)?;
        order.push_str(&format!("{name}\n"));
    }
    archive.bytes("modules/order", order.as_bytes())?;
    archive.finish().context("cannot end the archive")
}

/// The libraries that a program of this machine's loads, and what loads them, as ldd lists them.
fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    let text = command::output(tool("ldd", [] as [&str; 0]).arg(program), QUICK)?;
    Ok(parse_libraries(&text))
}

fn parse_libraries(text: &str) -> Vec<PathBuf> {
    text.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read() {
        let text = "\tlinux-vdso.so.1 (0x00007f3b7a141000)\n\
            \tlibmnl.so.0 => /lib/x86_64-linux-gnu/libmnl.so.0 (0x00007f3b79fbd000)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f3b7a143000)\n";
        assert_eq!(
            parse_libraries(text),
            [
                Path::new("/lib/x86_64-linux-gnu/libmnl.so.0"),
                Path::new("/lib64/ld-linux-x86-64.so.2")
            ]
        );
        assert!(parse_libraries("\tstatically linked\n").is_empty());
    }
}
