//! The kernels: Debian's for the cloud, which are small and boot on bare virtual hardware, and any
//! image that is named.
//!
//! Contract: a kernel is fetched once and kept below the target folder, with those of its modules that
//! the guest needs, in the order in which they are loaded.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use xtask::command::{self, tool};

use super::archive::Suite;
use super::modules;

/// The kernels of the matrix: what they are called here, Debian's suite that has them, how their releases
/// start.
const KERNELS: [(&str, &str, &str); 4] = [
    ("5.10", "bullseye", "5.10."),
    ("6.1", "bookworm", "6.1."),
    ("6.12", "trixie", "6.12."),
    ("7.x", "trixie-backports", "7."),
];
/// Depends on the newest.
const NEWEST: &str = "linux-image-cloud-amd64";
const SUFFIX: &str = "-cloud-amd64";
/// The file in a kernel's folder that says its release; written last.
const RELEASE: &str = "release";
const IMAGE: &str = "vmlinuz";

/// A kernel to boot.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// What it is called here.
    pub name: String,
    /// Its image.
    pub image: PathBuf,
    /// Modules, in the order in which they are loaded.
    pub modules: Vec<PathBuf>,
}

/// The names of the whole matrix.
pub fn names() -> Vec<String> {
    KERNELS.map(|(name, ..)| name.to_owned()).to_vec()
}

/// The kernel of this name, from the cache in `folder` or else from the archive; or the image that is
/// the file of this name. `anew` looks into the archive in any case.
pub fn provide(name: &str, folder: &Path, anew: bool) -> Result<Kernel> {
    if let Some((name, suite, start)) = KERNELS.iter().find(|(known, ..)| *known == name) {
        let home = folder.join("kernels").join(name);
        let release = home.join(RELEASE);
        if anew || !release.is_file() {
            fetch(suite, start, &home, &folder.join("apt").join(suite))
                .with_context(|| format!("cannot provide the kernel {name}"))?;
        }
        return Ok(Kernel {
            name: (*name).to_owned(),
            image: home.join(IMAGE),
            modules: modules::in_order(&home)?,
        });
    }
    let image = PathBuf::from(name);
    if !image.is_file() {
        bail!(
            "no kernel {name} (have: {}, and any file that is a kernel image)",
            names().join(", ")
        );
    }
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    Ok(Kernel {
        name: name.into_owned(),
        // What the guest needs has to be built in.
        modules: Vec::new(),
        image,
    })
}

fn fetch(suite: &str, start: &str, home: &Path, apt: &Path) -> Result<()> {
    let suite = Suite::fetch(suite, apt)?;
    let image = only(suite.depends(NEWEST)?, "linux-image-")?;
    let release = image.trim_start_matches("linux-image-").to_owned();
    ensure!(
        release.starts_with(start),
        "the newest kernel there is {release}, not {start}*"
    );
    if command::read_lossy(&home.join(RELEASE)).trim() == release {
        return Ok(());
    }
    println!("fetching Debian's kernel {release} (nothing is installed)");
    // From 7.x on the image is in a package of its own, and so are the modules.
    let parts: Vec<String> = suite
        .depends(&image)?
        .into_iter()
        .filter(|name| {
            ["linux-binary-", "linux-modules-"]
                .iter()
                .any(|start| *name == format!("{start}{release}"))
        })
        .collect();
    let packages = if parts.is_empty() { vec![image] } else { parts };
    if home.exists() {
        fs::remove_dir_all(home).with_context(|| format!("cannot remove {}", home.display()))?;
    }
    let unpacked = home.join("unpacked");
    fs::create_dir_all(&unpacked)
        .with_context(|| format!("cannot make the folder {}", unpacked.display()))?;
    for package in &packages {
        suite.unpack(package, &unpacked)?;
    }
    let places = [
        format!("boot/vmlinuz-{release}"),
        format!("usr/lib/modules/{release}/vmlinuz"),
        format!("lib/modules/{release}/vmlinuz"),
    ];
    let image = places
        .iter()
        .map(|place| unpacked.join(place))
        .find(|path| path.is_file())
        .with_context(|| format!("no kernel image in {}", packages.join(" and ")))?;
    fs::rename(&image, home.join(IMAGE)).context("cannot keep the kernel image")?;
    modules::keep(&unpacked, home)?;
    fs::remove_dir_all(&unpacked)
        .with_context(|| format!("cannot remove {}", unpacked.display()))?;
    fs::write(home.join(RELEASE), format!("{release}\n")).context("cannot note the release")
}

/// The one name that starts so and is of a cloud kernel.
fn only(names: Vec<String>, start: &str) -> Result<String> {
    names
        .into_iter()
        .find(|name| name.starts_with(start) && name.ends_with(SUFFIX))
        .with_context(|| format!("{NEWEST} depends on no {start}*{SUFFIX}"))
}

/// Unpacks a compressed file beside itself and removes it.
pub fn decompress(file: &Path) -> Result<()> {
    command::output(
        tool("xz", ["--decompress", "--force"]).arg(file),
        std::time::Duration::from_secs(60),
    )
    .map(drop)
}
