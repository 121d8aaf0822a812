//! Debian's archive, read by apt in folders of its own: suites that are not this machine's own, and
//! packages that are never installed.
//!
//! Contract: the address comes from the machine's apt sources, and apt verifies everything: the signature of
//! a suite's release, the index by the release, a package by the index. Nothing of the machine's own
//! apt is changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use xtask::command::{self, find, tool};

use crate::workspace;

/// Asking what is in lists that are there.
const QUERY: Duration = Duration::from_secs(60);
/// Fetching lists, or some 40 MB, over a slow line.
const FETCH: Duration = Duration::from_secs(20 * 60);
/// Debian's keys, from the package debian-archive-keyring, under its newer and its older name.
const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.pgp",
    "/usr/share/keyrings/debian-archive-keyring.gpg",
];

/// One suite of the archive, for amd64.
pub struct Suite {
    name: String,
    folder: PathBuf,
    log: PathBuf,
}

impl Suite {
    /// Fetches the lists of a suite into a folder of ours.
    pub fn fetch(name: &str, folder: &Path) -> Result<Self> {
        ensure!(
            find("apt-get").is_some() && find("dpkg-deb").is_some(),
            "kernels come from Debian's archive, and this is no Debian: name kernel images with --kernel FILE"
        );
        let suite = Self {
            name: name.to_owned(),
            folder: folder.to_owned(),
            log: workspace::log("vm-apt")?,
        };
        for part in ["lists/partial", "cache/archives/partial", "parts"] {
            let path = folder.join(part);
            fs::create_dir_all(&path)
                .with_context(|| format!("cannot make the folder {}", path.display()))?;
        }
        let keyring = keyring()?;
        let source = format!(
            "deb [arch=amd64 signed-by={keyring}] {} {name} main\n",
            address()?
        );
        for (file, text) in [("sources.list", source.as_str()), ("status", "")] {
            let path = folder.join(file);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        command::succeed(suite.apt("apt-get").arg("update"), &suite.log, FETCH).with_context(
            || {
                format!(
                    "cannot read Debian's suite {name}; where it is no longer in the archive, name a kernel \
                     image with --kernel FILE"
                )
            },
        )?;
        Ok(suite)
    }

    /// What the newest version of a package depends on.
    pub fn depends(&self, package: &str) -> Result<Vec<String>> {
        let text = command::output(
            self.apt("apt-cache")
                .args(["show", "--no-all-versions", package]),
            QUERY,
        )
        .with_context(|| format!("Debian's suite {} has no package {package}", self.name))?;
        Ok(parse_depends(&text))
    }

    /// Fetches a package and unpacks it into `folder`.
    pub fn unpack(&self, package: &str, folder: &Path) -> Result<()> {
        let archives = self.folder.join("archives");
        fs::create_dir_all(&archives)
            .with_context(|| format!("cannot make the folder {}", archives.display()))?;
        command::succeed(
            self.apt("apt-get")
                .args(["download", package])
                .current_dir(&archives),
            &self.log,
            FETCH,
        )
        .with_context(|| format!("cannot fetch {package} from Debian's suite {}", self.name))?;
        let start = format!("{package}_");
        let file = fs::read_dir(&archives)
            .with_context(|| format!("cannot read the folder {}", archives.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with(&start))
            })
            .with_context(|| format!("apt-get downloaded no package {package}"))?;
        command::succeed(
            tool("dpkg-deb", ["--extract"]).arg(&file).arg(folder),
            &self.log,
            FETCH,
        )?;
        fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))
    }

    /// A command of apt's that knows this suite alone.
    fn apt(&self, program: &str) -> Command {
        let mut command = tool("env", ["LC_ALL=C", program]);
        let at = |part: &str| self.folder.join(part).display().to_string();
        for (option, value) in [
            ("Dir::Etc::SourceList", at("sources.list")),
            ("Dir::Etc::SourceParts", at("parts")),
            ("Dir::Etc::PreferencesParts", at("parts")),
            ("Dir::Etc::Preferences", at("none")),
            ("Dir::State::Lists", at("lists")),
            ("Dir::State::Status", at("status")),
            ("Dir::Cache", at("cache")),
            ("APT::Architecture", "amd64".to_owned()),
            ("APT::Architectures", "amd64".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
            // Packages are fetched into our folder by root, where apt's own user has no business.
            ("APT::Sandbox::User", "root".to_owned()),
        ] {
            command.args(["-o", &format!("{option}={value}")]);
        }
        command
    }
}

/// Where Debian's keys are on this machine.
pub fn keyring() -> Result<&'static str> {
    KEYRINGS
        .into_iter()
        .find(|file| Path::new(file).exists())
        .context("Debian's keys are missing: install debian-archive-keyring")
}

/// Where this machine has Debian's archive.
pub fn address() -> Result<String> {
    let text = command::output(
        &mut tool(
            "apt-get",
            [
                "indextargets",
                "--format",
                "$(REPO_URI)",
                "Created-By: Packages",
                "Origin: Debian",
                "Label: Debian",
                "Component: main",
            ],
        ),
        QUERY,
    )
    .context("cannot ask apt where Debian's archive is")?;
    match text.lines().map(str::trim).find(|line| !line.is_empty()) {
        Some(address) => Ok(address.to_owned()),
        None => bail!(
            "apt's sources on this machine do not have Debian's archive, or its lists were never \
             fetched (apt-get update): name kernel images with --kernel FILE"
        ),
    }
}

/// The names in the line "Depends: a | b (>= 1), c (= 2)".
fn parse_depends(text: &str) -> Vec<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("Depends: "));
    let names = line.unwrap_or_default().split([',', '|']);
    names
        .filter_map(|word| Some(word.split_whitespace().next()?.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read() {
        let text = "Package: linux-image-7.3.4+deb13-cloud-amd64\n\
            Depends: dracut | initramfs-tools (>= 0.120+deb8u2), linux-binary-7.3.4+deb13-cloud-amd64 (= 7.3.4-1)\n";
        assert_eq!(
            parse_depends(text),
            [
                "dracut",
                "initramfs-tools",
                "linux-binary-7.3.4+deb13-cloud-amd64"
            ]
        );
        assert!(parse_depends("Package: a\n").is_empty());
    }
}
