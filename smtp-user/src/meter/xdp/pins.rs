//! Our directory of bpffs: where links and maps live when no process holds them.
//!
//! Contract: nothing is read from or written to a directory that somebody else could have
//! prepared: each level is a real directory, owned by this user or by root, closed to others, and open
//! to one group at most, that of the agent's user. Its path carries the layout version, so that maps of
//! another layout are never taken for ours. Two locks go with the process: one keeps apart those that
//! attach, the other one those that drain.
//!
//! The directory is reached through the descriptor that holds its lock: it goes on being reached when
//! this process is no longer root, and a BPF file system is closed to everybody else (systemd mounts it
//! with mode 0700).

mod trust;

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use smtp_common::LAYOUT_VERSION;

use self::trust::{check, make, require_bpffs, untrusted};
use crate::failure::{Failure, Kind};

pub use self::trust::distrust;

const LINK_PREFIX: &str = "link-";
/// How long a loader waits for another one, such as that of the other interface.
const TURN: Duration = Duration::from_secs(30);

/// What a process does with pins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Attaches and drains.
    Whole,
    /// Attaches, and ends.
    Loader,
    /// Drains what a loader has attached.
    Reader,
}

/// Our directory, checked and locked.
pub struct Pins {
    /// The operator's directory; ours is a version below it.
    root: PathBuf,
    /// As it is called in messages.
    directory: PathBuf,
    /// As it is reached.
    reached: PathBuf,
    part: Part,
    /// The group that may use what is pinned.
    group: Option<u32>,
    /// Kept apart by these: those that attach, and those that drain.
    _attaching: Option<Flock<File>>,
    _draining: Option<Flock<File>>,
    /// Holds the directory open.
    _open: File,
}

impl Pins {
    /// Makes the directory where it is missing and this part may, checks it, and locks it. Of groups,
    /// only this one may be let in.
    pub fn open(root: &Path, part: Part, group: Option<u32>) -> Result<Self, Failure> {
        require_bpffs(root)?;
        let directory = root.join(format!("v{LAYOUT_VERSION}"));
        for level in [root, &directory] {
            if part != Part::Reader {
                make(level)?;
            }
            check(level, group)?;
        }
        let in_use = |what: &str, directory: &Path| {
            Failure::new(
                Kind::Unavailable,
                format!(
                    "another smtpflow {what} {}: stop it first, or give this one a directory of its \
                     own with --pins",
                    directory.display()
                ),
            )
        };
        let attaching = match part {
            Part::Whole => lock(root)?,
            Part::Loader => lock_in_turn(root)?,
            Part::Reader => None,
        };
        if attaching.is_none() && part != Part::Reader {
            return Err(in_use("attaches with", root));
        }
        let draining = match part {
            Part::Loader => None,
            Part::Whole | Part::Reader => {
                Some(lock(&directory)?.ok_or_else(|| in_use("uses", &directory))?)
            }
        };
        refuse_other_layouts(root)?;
        let open = File::open(&directory)
            .with_context(|| format!("cannot open {}", directory.display()))?;
        let pins = Self {
            root: root.to_owned(),
            reached: format!("/proc/self/fd/{}", open.as_raw_fd()).into(),
            directory,
            part,
            group,
            _attaching: attaching,
            _draining: draining,
            _open: open,
        };
        if part != Part::Reader && group.is_some() && nix::unistd::geteuid().is_root() {
            pins.take_back()?;
        }
        Ok(pins)
    }

    /// Makes root the owner of what an agent has pinned that was another user by then: root that may not
    /// override modes (`CAP_DAC_OVERRIDE`) could not open it.
    fn take_back(&self) -> Result<(), Failure> {
        for name in self.names()? {
            let (path, _file) = self.held(&name)?;
            chown(&path, Some(0), None)
                .with_context(|| format!("cannot take back {}", self.shown(&name)))?;
        }
        Ok(())
    }

    /// The names of all that is pinned.
    fn names(&self) -> anyhow::Result<Vec<String>> {
        let listed = fs::read_dir(&self.reached).and_then(|entries| {
            let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            names.collect::<io::Result<_>>()
        });
        listed.with_context(|| format!("cannot list {}", self.directory.display()))
    }

    /// A pin, held open for its owner and mode alone, and how it is reached by that. It is neither a link
    /// that leads elsewhere nor anything else that smtpflow does not make.
    fn held(&self, name: &str) -> Result<(String, File), Failure> {
        let (path, file) =
            hold(&self.path(name)).with_context(|| format!("cannot open {}", self.shown(name)))?;
        let metadata = file
            .metadata()
            .with_context(|| format!("cannot look at {}", self.shown(name)))?;
        if metadata.is_file() && metadata.nlink() == 1 {
            return Ok((path, file));
        }
        Err(untrusted(
            &self.shown(name),
            "it is no pin that smtpflow makes",
        ))
    }

    /// Where the map or link of this name is reached.
    pub fn path(&self, name: &str) -> PathBuf {
        self.reached.join(name)
    }

    /// Where it is, for messages.
    pub fn shown(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// Where the link to this interface is reached.
    pub fn link_path(&self, interface: &str) -> PathBuf {
        self.path(&link_file_name(interface))
    }

    /// Where it is, for messages.
    pub fn shown_link(&self, interface: &str) -> String {
        self.shown(&link_file_name(interface))
    }

    /// The interfaces that have a pinned link.
    pub fn linked_interfaces(&self) -> Result<Vec<String>, Failure> {
        linked_interfaces(&self.reached)
    }

    /// Gives the link to an interface the interface's new name.
    pub fn rename_link(&self, former: &str, interface: &str) -> Result<(), Failure> {
        fs::rename(self.link_path(former), self.link_path(interface))
            .with_context(|| format!("cannot rename the pin {}", self.shown_link(former)))?;
        Ok(())
    }

    /// Ends the link to this interface: its pin is all that holds it.
    pub fn remove_link(&self, interface: &str) -> Result<(), Failure> {
        self.remove(&link_file_name(interface))
    }

    /// Removes the pin of this name, if there is one.
    pub fn remove(&self, name: &str) -> Result<(), Failure> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove the pin {}", self.shown(name)))?
            }
            _ => Ok(()),
        }
    }

    /// Removes the maps and the directories, unless a link is left that uses them.
    pub fn remove_unused(&self) -> Result<(), Failure> {
        remove_unused(&self.root, &self.directory, &self.reached)
    }

    /// Lets the group, if there is one, do what it needs and no more. An agent that goes on attaching as
    /// another user pins and removes links, so it may write to the directory; one that never attaches may
    /// use `needed` maps, and links stay with root, since whoever can open one can end it.
    pub fn share(&self, needed: &[&str]) -> Result<(), Failure> {
        let Some(group) = self.group else {
            return Ok(());
        };
        let whole = self.part == Part::Whole;
        let give = |path: &str, shown: &str, shared: bool, mode: u32| {
            let gid = if shared { group } else { 0 };
            chown(path, Some(0), Some(gid))
                .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
                .with_context(|| format!("cannot give {shown} to group {gid}"))
        };
        for level in [&self.root, &self.directory] {
            let shown = level.display().to_string();
            let (path, _file) = hold(level).with_context(|| format!("cannot open {shown}"))?;
            give(&path, &shown, true, if whole { 0o770 } else { 0o750 })?;
        }
        for name in self.names()? {
            let (path, _file) = self.held(&name)?;
            let shared = if whole {
                interface_of(&name).is_some()
            } else {
                needed.contains(&name.as_str())
            };
            let mode = if shared { 0o660 } else { 0o600 };
            give(&path, &self.shown(&name), shared, mode)?;
        }
        Ok(())
    }
}

/// Opens what is at this path for its owner and mode alone, whatever it is, and gives how it is reached by
/// that: whoever exchanges it meanwhile gains nothing.
fn hold(path: &Path) -> io::Result<(String, File)> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_PATH | OFlag::O_NOFOLLOW).bits())
        .open(path)?;
    Ok((format!("/proc/self/fd/{}", file.as_raw_fd()), file))
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

/// The same, and waits for it: loaders of several interfaces are started at once.
fn lock_in_turn(directory: &Path) -> anyhow::Result<Option<Flock<File>>> {
    let begun = Instant::now();
    loop {
        let lock = lock(directory)?;
        if lock.is_some() || begun.elapsed() >= TURN {
            return Ok(lock);
        }
        std::thread::sleep(Duration::from_millis(50));
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
        // Held while it is removed, so that nobody begins with it.
        let locks = (lock(root)?, lock(&directory)?);
        if let (Some(_), None) | (None, _) = locks {
            tracing::warn!(
                "a smtpflow agent still runs with {} and counts there no more: stop it, or it \
                 attaches again when it is restarted",
                directory.display()
            );
        } else {
            remove_unused(root, &directory, &directory)?;
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

/// `reached` is how the directory is reached.
fn remove_unused(root: &Path, directory: &Path, reached: &Path) -> Result<(), Failure> {
    if !linked_interfaces(reached)?.is_empty() {
        return Ok(());
    }
    let entries =
        fs::read_dir(reached).with_context(|| format!("cannot list {}", directory.display()))?;
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
        let failure = Pins::open(&directory.path().join("pins"), Part::Whole, None)
            .err()
            .unwrap();
        assert_eq!(failure.kind, Kind::Unavailable);
        assert!(failure.to_string().contains("mount -t bpf"), "{failure}");
    }
}
