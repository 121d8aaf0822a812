//! Our directory of bpffs: where links and maps live when no process holds them.
//!
//! Contract: nothing is read from or written to a directory that somebody else could have
//! prepared: each level is a real directory, owned by this user, closed to others. Its path carries
//! the layout version, so that maps of another layout are never taken for ours. A lock keeps two
//! agents apart; it goes with the process.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::{FsType, statfs};
use smtp_common::LAYOUT_VERSION;

use crate::failure::{Failure, Kind, ResultExt as _};

/// `BPF_FS_MAGIC` of include/uapi/linux/magic.h.
const BPF_FS_MAGIC: FsType = FsType(0xcafe_4a11);
const LINK_PREFIX: &str = "link-";

/// Our directory, checked and locked.
pub struct Pins {
    /// The operator's directory; ours is a version below it.
    root: PathBuf,
    directory: PathBuf,
    _lock: Flock<File>,
}

impl Pins {
    /// Makes the directory where it is missing, checks it, and locks it.
    pub fn open(root: &Path) -> Result<Self, Failure> {
        require_bpffs(root)?;
        let directory = root.join(format!("v{LAYOUT_VERSION}"));
        for level in [root, &directory] {
            make_private(level)?;
        }
        let lock = lock(&directory)?.ok_or_else(|| {
            Failure::new(
                Kind::Unavailable,
                format!(
                    "another smtpflow uses {}: stop it first, or give this one a directory of its \
                     own with --pins",
                    directory.display()
                ),
            )
        })?;
        refuse_other_layouts(root)?;
        Ok(Self {
            root: root.to_owned(),
            directory,
            _lock: lock,
        })
    }

    /// Where the map or link of this name is pinned.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Where the link to this interface is pinned.
    pub fn link_path(&self, interface: &str) -> PathBuf {
        self.path(&link_file_name(interface))
    }

    /// The interfaces that have a pinned link.
    pub fn linked_interfaces(&self) -> Result<Vec<String>, Failure> {
        linked_interfaces(&self.directory)
    }

    /// Gives the link to an interface the interface's new name.
    pub fn rename_link(&self, former: &str, interface: &str) -> Result<(), Failure> {
        let path = self.link_path(former);
        fs::rename(&path, self.link_path(interface))
            .with_context(|| format!("cannot rename the pin {}", path.display()))?;
        Ok(())
    }

    /// Ends the link to this interface: its pin is all that holds it.
    pub fn remove_link(&self, interface: &str) -> Result<(), Failure> {
        self.remove(&link_file_name(interface))
    }

    /// Removes the pin of this name, if there is one.
    pub fn remove(&self, name: &str) -> Result<(), Failure> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove the pin {}", path.display()))?
            }
            _ => Ok(()),
        }
    }

    /// Removes the maps and the directories, unless a link is left that uses them.
    pub fn remove_unused(&self) -> Result<(), Failure> {
        remove_unused(&self.root, &self.directory)
    }
}

/// Takes the lock of a directory; `None` if another process has it.
fn lock(directory: &Path) -> anyhow::Result<Option<Flock<File>>> {
    let shown = directory.display();
    let file = File::open(directory).with_context(|| format!("cannot open {shown}"))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno).with_context(|| format!("cannot lock {shown}")),
    }
}

/// Ends links, whichever version of smtpflow made them: all, or those to the named interfaces.
/// Returns the interfaces. Agents hold no link open, so this works while one runs or hangs.
pub fn detach(root: &Path, interfaces: &[String]) -> Result<Vec<String>, Failure> {
    require_bpffs(root)?;
    let mut ended = Vec::new();
    for directory in directories(root)? {
        for interface in linked_interfaces(&directory)? {
            if interfaces.is_empty() || interfaces.contains(&interface) {
                let path = directory.join(link_file_name(&interface));
                fs::remove_file(&path)
                    .with_context(|| format!("cannot remove the link {}", path.display()))?;
                ended.push(interface);
            }
        }
        let agent_runs = lock(&directory)?.is_none();
        if agent_runs {
            tracing::warn!(
                "a smtpflow agent still runs with {} and counts there no more: stop it, or it \
                 attaches again when it is restarted",
                directory.display()
            );
        } else {
            remove_unused(root, &directory)?;
        }
    }
    // What is left of an empty directory of ours.
    let _ = fs::remove_dir(root);
    if let Some(missing) = interfaces.iter().find(|name| !ended.contains(name)) {
        return Err(Failure::new(
            Kind::Failed,
            format!(
                "smtpflow is not attached to {missing} (pins in {})",
                root.display()
            ),
        ));
    }
    Ok(ended)
}

/// The links that are pinned in the directories of all layout versions: interface and path.
pub fn links(root: &Path) -> Vec<(String, PathBuf)> {
    let directories = directories(root).unwrap_or_default();
    let in_one = |directory: PathBuf| {
        let interfaces = linked_interfaces(&directory).unwrap_or_default();
        interfaces.into_iter().map(move |interface| {
            let path = directory.join(link_file_name(&interface));
            (interface, path)
        })
    };
    directories.into_iter().flat_map(in_one).collect()
}

/// The directories of all layout versions.
fn directories(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = fs::read_dir(root).with_context(|| format!("cannot list {}", root.display()))?;
    let mut directories: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    directories.sort();
    Ok(directories)
}

fn remove_unused(root: &Path, directory: &Path) -> Result<(), Failure> {
    if !linked_interfaces(directory)?.is_empty() {
        return Ok(());
    }
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        fs::remove_file(&path)
            .with_context(|| format!("cannot remove the pin {}", path.display()))?;
    }
    // Not empty, in use or gone: then it is somebody's, and stays.
    let _ = fs::remove_dir(directory);
    let _ = fs::remove_dir(root);
    Ok(())
}

/// Fails unless the directory lies, or would lie, in a BPF file system.
fn require_bpffs(root: &Path) -> Result<(), Failure> {
    let parent = root
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    let kind = statfs(parent)
        .with_context(|| format!("cannot look at the file system of {}", parent.display()))?
        .filesystem_type();
    if kind == BPF_FS_MAGIC {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Unavailable,
        format!(
            "cannot pin in {}: {} is not in a BPF file system; mount one (mount -t bpf bpf \
             /sys/fs/bpf), or name a directory in one with --pins",
            root.display(),
            parent.display()
        ),
    ))
}

fn make_private(directory: &Path) -> Result<(), Failure> {
    let shown = directory.display();
    match fs::DirBuilder::new().mode(0o750).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(error)
                .with_context(|| format!("cannot make {shown}: run as root"))
                .kind(Kind::NoPermission);
        }
        result => result.with_context(|| format!("cannot make the directory {shown}"))?,
    }
    // Not followed: a link that somebody put here would lead elsewhere.
    let metadata =
        fs::symlink_metadata(directory).with_context(|| format!("cannot look at {shown}"))?;
    let owner = nix::unistd::geteuid().as_raw();
    let problem = if !metadata.is_dir() {
        "it is not a directory".to_owned()
    } else if metadata.uid() != owner {
        format!("it belongs to user {}, not to user {owner}", metadata.uid())
    } else if metadata.mode() & 0o027 != 0 {
        format!("its mode {:04o} lets others in", metadata.mode() & 0o7777)
    } else {
        return Ok(());
    };
    Err(Failure::new(
        Kind::NoPermission,
        format!(
            "{shown} cannot be trusted: {problem}; find out who made it, remove it, and start again"
        ),
    ))
}

/// Links that a smtpflow of another layout left are still attached, and would make ours fail with a
/// message about a foreign program.
fn refuse_other_layouts(root: &Path) -> Result<(), Failure> {
    let ours = root.join(format!("v{LAYOUT_VERSION}"));
    for directory in directories(root)? {
        if directory == ours || linked_interfaces(&directory)?.is_empty() {
            continue;
        }
        return Err(Failure::new(
            Kind::Unavailable,
            format!(
                "{} holds links of a smtpflow with another table layout: end them first (smtpflow \
                 detach --pins {})",
                directory.display(),
                root.display()
            ),
        ));
    }
    Ok(())
}

/// The interfaces that have a pinned link in this directory.
fn linked_interfaces(directory: &Path) -> Result<Vec<String>, Failure> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut interfaces: Vec<_> = entries
        .flatten()
        .filter_map(|entry| interface_of(&entry.file_name().to_string_lossy()))
        .collect();
    interfaces.sort();
    Ok(interfaces)
}

/// bpffs refuses names with a dot, which VLAN interfaces have.
fn link_file_name(interface: &str) -> String {
    let escaped = interface.replace('%', "%25").replace('.', "%2e");
    format!("{LINK_PREFIX}{escaped}")
}

fn interface_of(file_name: &str) -> Option<String> {
    let escaped = file_name.strip_prefix(LINK_PREFIX)?;
    Some(escaped.replace("%2e", ".").replace("%25", "%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_file_names_its_interface_and_has_no_dot() {
        for interface in ["eth0", "eth0.100", "br-lan", "we%ird.%2e"] {
            let name = link_file_name(interface);
            assert!(!name.contains('.'), "{name}");
            assert_eq!(interface_of(&name).as_deref(), Some(interface));
        }
        assert_eq!(interface_of("SOURCES"), None);
    }

    #[test]
    fn a_directory_outside_bpffs_is_refused_with_the_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let failure = Pins::open(&directory.path().join("pins")).err().unwrap();
        assert_eq!(failure.kind, Kind::Unavailable);
        assert!(failure.to_string().contains("mount -t bpf"), "{failure}");
    }

    #[test]
    fn a_directory_that_others_may_enter_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pins");
        make_private(&path).unwrap();
        make_private(&path).expect("a second time is fine");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let failure = make_private(&path).unwrap_err();
        assert_eq!(failure.kind, Kind::NoPermission);
        assert!(failure.to_string().contains("0755"), "{failure}");
    }

    #[test]
    fn a_symbolic_link_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pins");
        std::os::unix::fs::symlink(directory.path(), &path).unwrap();
        let failure = make_private(&path).unwrap_err();
        assert!(failure.to_string().contains("not a directory"), "{failure}");
    }
}
