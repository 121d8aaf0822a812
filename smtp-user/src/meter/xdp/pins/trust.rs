//! Whose a directory of pins is.
//!
//! Contract: what these functions let through was made by root or by this user, in a BPF file system, and
//! nobody else can change it but one group.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use anyhow::Context as _;
use nix::sys::statfs::{FsType, statfs};

use crate::failure::{Failure, Kind, ResultExt as _};

/// `BPF_FS_MAGIC` of include/uapi/linux/magic.h.
const BPF_FS_MAGIC: FsType = FsType(0xcafe_4a11);

/// Fails unless the directory lies, or would lie, in a BPF file system.
pub(super) fn require_bpffs(root: &Path) -> Result<(), Failure> {
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

/// Makes a directory, unless something is there.
pub(super) fn make(directory: &Path) -> Result<(), Failure> {
    let shown = directory.display();
    match fs::DirBuilder::new().mode(0o750).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error)
            .with_context(|| format!("cannot make {shown}: run as root"))
            .kind(Kind::NoPermission),
        result => Ok(result.with_context(|| format!("cannot make the directory {shown}"))?),
    }
}

/// Fails unless what is in the directory can be trusted.
pub(super) fn check(directory: &Path, group: Option<u32>) -> Result<(), Failure> {
    let shown = directory.display();
    // Not followed: a link that somebody put here would lead elsewhere.
    let metadata = match fs::symlink_metadata(directory) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(error)
                .with_context(|| {
                    format!(
                        "cannot look at {shown}: its BPF file system is closed to this user; in a \
                         unit, show the directory at another place (BindPaths={shown}:/run/smtpflow/\
                         pins) and name that with --pins, or start as root with agent.user"
                    )
                })
                .kind(Kind::NoPermission);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::new(
                Kind::Unavailable,
                format!("nothing is attached: there is no {shown}; run smtpflow attach as root"),
            ));
        }
        Err(error) => Err(error).with_context(|| format!("cannot look at {shown}"))?,
    };
    match distrust(&metadata, group) {
        Some(problem) => Err(untrusted(&shown.to_string(), &problem)),
        None => Ok(()),
    }
}

/// Why nothing in a directory of pins can be trusted, if that is so.
pub fn distrust(metadata: &fs::Metadata, group: Option<u32>) -> Option<String> {
    let me = nix::unistd::geteuid().as_raw();
    let mode = metadata.mode() & 0o7777;
    if !metadata.is_dir() {
        Some("it is not a directory".to_owned())
    } else if ![0, me].contains(&metadata.uid()) {
        Some(format!(
            "it belongs to user {}, not to user {me}",
            metadata.uid()
        ))
    } else if mode & 0o007 != 0 || mode & 0o020 != 0 && group != Some(metadata.gid()) {
        Some(format!("its mode {mode:04o} lets others in"))
    } else {
        None
    }
}

pub(super) fn untrusted(shown: &str, problem: &str) -> Failure {
    Failure::new(
        Kind::NoPermission,
        format!(
            "{shown} cannot be trusted: {problem}; find out who made it, remove it, and start again"
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_directory_that_others_may_enter_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pins");
        make(&path).unwrap();
        make(&path).expect("a second time is fine");
        check(&path, None).expect("ours");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        let failure = check(&path, None).unwrap_err();
        assert_eq!(failure.kind, Kind::NoPermission);
        assert!(failure.to_string().contains("0755"), "{failure}");
    }

    #[test]
    fn only_the_agents_group_may_write_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pins");
        make(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o770)).unwrap();
        let group = fs::metadata(&path).unwrap().gid();
        check(&path, Some(group)).expect("its own group");
        for other in [None, Some(group + 1)] {
            let failure = check(&path, other).unwrap_err();
            assert!(failure.to_string().contains("0770"), "{failure}");
        }
    }

    #[test]
    fn a_symbolic_link_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pins");
        std::os::unix::fs::symlink(directory.path(), &path).unwrap();
        make(&path).expect("something is there");
        let failure = check(&path, None).unwrap_err();
        assert!(failure.to_string().contains("not a directory"), "{failure}");
    }
}
