//! What compiles the kernel program: a rustc that has the source of `core`, and a bpf-linker of the same
//! LLVM major. This module only looks; [`crate::setup`] decides and installs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use xtask::command::{self, find, tool};

/// The rustup name that the set-up gives to Debian's compiler, and that smtp-user's build script
/// looks for.
pub const LINKED: &str = "smtpflow-ebpf";
/// The environment variable by which a user names a toolchain.
pub const OVERRIDE: &str = "SMTPFLOW_EBPF_TOOLCHAIN";

const QUERY: Duration = Duration::from_secs(60);

/// A compiler's release, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// Always 1 so far.
    pub major: u32,
    /// The part that changes every six weeks.
    pub minor: u32,
}

impl Release {
    /// The oldest rustc that takes this workspace: its `rust-version`.
    pub fn oldest() -> Self {
        Self::parse(env!("CARGO_PKG_RUST_VERSION")).unwrap_or(Self {
            major: 1,
            minor: 95,
        })
    }

    /// Reads "1.96.0", "1.98.0-nightly", "1.96.0+dfsg1-1~deb12u2".
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        Some(Self {
            major: parts.next()?.parse().ok()?,
            minor: leading_number(parts.next()?)?,
        })
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A rustc that rustup can run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiler {
    /// The toolchain's name.
    pub toolchain: String,
    /// The release of rustc.
    pub release: Release,
    /// The major version of its LLVM.
    pub llvm: u32,
    /// Whether its sysroot holds the source of `core`.
    pub has_source: bool,
}

impl Compiler {
    /// Looks at an installed toolchain.
    pub fn inspect(toolchain: &str) -> Result<Self> {
        let rustc = |arg: &str| {
            command::output(&mut tool("rustup", ["run", toolchain, "rustc", arg]), QUERY)
                .with_context(|| format!("the toolchain {toolchain} does not work"))
        };
        let (release, llvm) = parse_rustc(&rustc("-vV")?)
            .with_context(|| format!("cannot read the version of {toolchain}'s rustc"))?;
        let sysroot = rustc("--print=sysroot")?;
        Ok(Self {
            toolchain: toolchain.to_owned(),
            release,
            llvm,
            has_source: Path::new(sysroot.trim())
                .join("lib/rustlib/src/rust/library/core")
                .is_dir(),
        })
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            toolchain,
            release,
            llvm,
            has_source: _,
        } = self;
        write!(f, "toolchain {toolchain} (rustc {release}, LLVM {llvm})")
    }
}

/// A bpf-linker on PATH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linker {
    /// Where it is.
    pub path: PathBuf,
    /// The major version of the LLVM inside it.
    pub llvm: u32,
}

impl Linker {
    /// The bpf-linker on PATH; `None` if there is none.
    pub fn find() -> Result<Option<Self>> {
        // Where cargo installs to; rustup's cargo puts it on PATH for builds, a distribution's may not.
        let home = std::env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
        let installed = home.map(|home| home.join("bin/bpf-linker"));
        let Some(path) = find("bpf-linker").or(installed.filter(|file| file.is_file())) else {
            return Ok(None);
        };
        // Its own --version does not name the LLVM inside, but LLVM's option of that name does, and
        // asks the library itself, however it was linked. It ends before it reads or writes a file.
        let text = command::output(
            &mut tool(
                &path.to_string_lossy(),
                ["--llvm-args=--version", "-o", "/dev/null", "/dev/null"],
            ),
            QUERY,
        )
        .with_context(|| format!("{} does not run; reinstall it", path.display()))?;
        let llvm = parse_llvm(&text)
            .with_context(|| format!("{} does not name its LLVM: {text}", path.display()))?;
        Ok(Some(Self { path, llvm }))
    }
}

impl fmt::Display for Linker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (LLVM {})", self.path.display(), self.llvm)
    }
}

/// The names of rustup's toolchains.
pub fn installed() -> Result<Vec<String>> {
    let text = command::output(&mut tool("rustup", ["toolchain", "list"]), QUERY)?;
    Ok(parse_list(&text))
}

/// Whether the list has the toolchain that `rustup run nightly` means.
pub fn has_nightly(list: &[String]) -> bool {
    list.iter().any(|name| {
        name == "nightly"
            || name
                .strip_prefix("nightly-")
                // A dated nightly is another toolchain.
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

fn parse_list(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "no")
        .map(str::to_owned)
        .collect()
}

/// Release and LLVM major from `rustc -vV`.
fn parse_rustc(text: &str) -> Option<(Release, u32)> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    Some((
        Release::parse(field("release: ")?)?,
        leading_number(field("LLVM version: ")?)?,
    ))
}

/// The major from "Debian LLVM version 22.1.8" or "LLVM version 23.0.0git".
fn parse_llvm(text: &str) -> Option<u32> {
    text.lines()
        .find_map(|line| leading_number(line.split_once("LLVM version ")?.1))
}

/// The number that `text` starts with.
pub fn leading_number(text: &str) -> Option<u32> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rustc_names_its_release_and_its_llvm() {
        let text = "rustc 1.98.0-nightly (0a1b2c3d4 2026-06-01)\nbinary: rustc\n\
                    host: x86_64-unknown-linux-gnu\nrelease: 1.98.0-nightly\nLLVM version: 22.1.8\n";
        let release = Release {
            major: 1,
            minor: 98,
        };
        assert_eq!(parse_rustc(text), Some((release, 22)));
        assert_eq!(parse_rustc("rustc 1.0.0\nrelease: 1.0.0\n"), None);
    }

    #[test]
    fn llvm_names_itself_in_every_flavour() {
        for (text, major) in [
            ("Debian LLVM version 22.1.8\n  Optimized build.\n", Some(22)),
            (
                "LLVM (http://llvm.org/):\n  LLVM version 23.0.0git\n",
                Some(23),
            ),
            ("Ubuntu LLVM version 9.0.1\n", Some(9)),
            ("bpf-linker 0.13.0\n", None),
        ] {
            assert_eq!(parse_llvm(text), major, "{text}");
        }
    }

    #[test]
    fn debian_versions_are_releases_and_order_by_number() {
        let read = |text| Release::parse(text).expect("a release");
        assert!(read("1.96.0+dfsg1-1~deb12u2") >= read("1.95"));
        assert!(read("1.85.0+dfsg3-1~deb12u3") < read("1.95.0"));
        assert!(read("1.100.0") > read("1.99.0"));
    }

    #[test]
    fn the_undated_nightly_counts() {
        let list = |text| parse_list(text);
        assert!(has_nightly(&list(
            "stable-x (active, default)\nnightly-x86_64-unknown-linux-gnu\n"
        )));
        assert!(!has_nightly(&list(
            "nightly-2025-05-30-x86_64-unknown-linux-gnu\n"
        )));
        assert!(list("no installed toolchains\n").is_empty());
    }
}
