//! The modules that a guest loads, out of a kernel's package.
//!
//! Contract: each module stands behind those that it needs. What is not there as a module is taken to be
//! built in; if it is not, the check that needs it fails.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::kernels;

/// What the checks use: pairs of interfaces, a bridge (which has no driver mode), and programs of tc.
const WANTED: [&str; 4] = ["veth", "bridge", "sch_ingress", "cls_bpf"];
/// Where they are kept in a kernel's folder.
const FOLDER: &str = "modules";
/// The list in that folder: one file a line, in the order of loading.
const ORDER: &str = "order";

/// Copies the wanted modules and what they need out of an unpacked package.
pub fn keep(unpacked: &Path, home: &Path) -> Result<()> {
    let folder = home.join(FOLDER);
    fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let mut found = HashMap::new();
    find(unpacked, &mut found)?;
    let mut order = Vec::new();
    for name in WANTED {
        take(name, &found, &folder, &mut order)?;
    }
    let order: String = order.iter().map(|name| format!("{name}.ko\n")).collect();
    fs::write(folder.join(ORDER), order).context("cannot note the order of the modules")
}

/// What [`keep`] has kept.
pub fn in_order(home: &Path) -> Result<Vec<PathBuf>> {
    let folder = home.join(FOLDER);
    let order = folder.join(ORDER);
    let text =
        fs::read_to_string(&order).with_context(|| format!("cannot read {}", order.display()))?;
    Ok(text.lines().map(|name| folder.join(name)).collect())
}

/// Takes a module, after those that it needs.
fn take(
    name: &str,
    found: &HashMap<String, PathBuf>,
    folder: &Path,
    order: &mut Vec<String>,
) -> Result<()> {
    let Some(from) = found.get(name) else {
        return Ok(());
    };
    if order.iter().any(|taken| taken == name) {
        return Ok(());
    }
    let mut file = folder.join(format!("{name}.ko"));
    let compressed = from.extension().is_some_and(|end| end == "xz");
    if compressed {
        file.set_extension("ko.xz");
    }
    fs::copy(from, &file).with_context(|| format!("cannot copy {}", from.display()))?;
    if compressed {
        kernels::decompress(&file)?;
        file.set_extension("");
    }
    let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    for needed in needs(&bytes) {
        take(&needed, found, folder, order)?;
    }
    order.push(name.to_owned());
    Ok(())
}

/// The modules below a folder by name: "net/llc/llc.ko.xz" is `llc`, and a dash is written as a dash or
/// an underscore.
fn find(folder: &Path, found: &mut HashMap<String, PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        let path = entry.path();
        // Packages have a link to the source in there.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find(&path, found)?;
        } else if let Some(name) = path.file_name().and_then(|name| name.to_str())
            && let Some((name, "" | ".xz")) = name.split_once(".ko")
        {
            found.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

/// What a module needs, by the word "depends=a,b" between zeroes that its section .modinfo has.
fn needs(module: &[u8]) -> Vec<String> {
    const WORD: &[u8] = b"\0depends=";
    let start = module
        .windows(WORD.len())
        .position(|window| window == WORD)
        .map(|at| at + WORD.len());
    let rest = start.map_or(&[][..], |at| &module[at..]);
    let text = rest.split(|octet| *octet == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_is_read() {
        assert_eq!(
            needs(b"\x7fELF\0license=GPL\0depends=stp,llc\0retpoline=Y\0"),
            ["stp", "llc"]
        );
        assert!(needs(b"\x7fELF\0depends=\0").is_empty());
        assert!(needs(b"\x7fELF").is_empty());
    }
}
