//! Other network namespaces.
//!
//! Contract: only the calling thread moves; nothing of a namespace is changed, and none is made.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use super::list;
use crate::failure::{Failure, Kind, ResultExt as _};

/// Where iproute2 keeps the handles of named namespaces: today, and on systems where `/var/run` is
/// a folder of its own.
const NETNS_FOLDERS: [&str; 2] = ["/run/netns", "/var/run/netns"];

/// Looks at something from inside a network namespace (see [`enter_netns`]) or, without one, from
/// where this thread is.
pub fn within<T: Send>(
    netns: Option<&str>,
    look: impl FnOnce() -> Result<T, Failure> + Send,
) -> Result<T, Failure> {
    let Some(netns) = netns else {
        return look();
    };
    // On a thread of its own, for a thread does not come back.
    std::thread::scope(|scope| {
        scope
            .spawn(|| enter_netns(netns).and_then(|()| look()))
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Moves the calling thread into a network namespace: sockets that it opens and interfaces that it
/// sees are those of the namespace from now on. Other threads and the file system stay.
///
/// `name` is a name as `ip netns list` prints it, or an absolute path to a handle.
pub fn enter_netns(name: &str) -> Result<(), Failure> {
    let path = handle(name)?;
    let file = File::open(&path).map_err(|error| {
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied => Kind::NoPermission,
            _ => Kind::Failed,
        };
        Failure::new(
            kind,
            format!(
                "cannot open network namespace {name} at {}: {error}",
                path.display()
            ),
        )
    })?;
    match setns(&file, CloneFlags::CLONE_NEWNET) {
        Ok(()) => Ok(()),
        Err(Errno::EINVAL) => Err(Failure::new(
            Kind::Failed,
            format!(
                "cannot enter network namespace {name}: {} is no handle of one; `ip netns add` \
                 makes them, and /proc/PID/ns/net is the one of a process",
                path.display()
            ),
        )),
        Err(error) => Err(error)
            .with_context(|| {
                format!("cannot enter network namespace {name}: root or CAP_SYS_ADMIN is needed")
            })
            .kind(match error {
                Errno::EPERM => Kind::NoPermission,
                _ => Kind::Failed,
            }),
    }
}

/// The handle of a namespace.
fn handle(name: &str) -> Result<PathBuf, Failure> {
    if Path::new(name).is_absolute() {
        return Ok(PathBuf::from(name));
    }
    // A name is one part of a path; anything else would leave the folder.
    let is_name = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
    NETNS_FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| is_name && path.exists())
        .ok_or_else(|| {
            Failure::new(
                Kind::Failed,
                format!(
                    "cannot enter network namespace {name:?}: there is none of this name \
                     (have: {}); an absolute path such as /proc/PID/ns/net works as well",
                    list(netns_names().into_iter())
                ),
            )
        })
}

/// The named network namespaces of this machine.
fn netns_names() -> Vec<String> {
    let mut names: Vec<String> = NETNS_FOLDERS
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_names_or_absolute_paths() {
        for bad in ["", ".", "..", "../x", "a/b", "surely-there-is-none"] {
            let failure = enter_netns(bad).expect_err(bad);
            assert!(failure.to_string().contains("have: "), "{failure}");
        }
        let failure = enter_netns("/dev/null").expect_err("no namespace");
        assert!(failure.to_string().contains("/dev/null"), "{failure}");
    }
}
