//! Where the file is, and who may have it.
//!
//! Contract: whoever holds a [`Place`] is the only agent with this file. The folder is made with mode
//! 0700 if it is not there, the file and what SQLite puts beside it have mode 0600 and belong to the
//! agent's user or to root, and a symbolic link is refused, since whoever may make one could choose
//! what is written to.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, lchown,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use rusqlite::{Connection, OpenFlags};

use crate::failure::{Failure, Kind};

/// How long a commit waits for somebody else who reads or writes the file by hand.
const BUSY: Duration = Duration::from_secs(1);
/// Follows the name of a file that was set aside; its time comes behind it.
const ASIDE: &str = ".corrupt";

/// A file of which this process is the only agent, or a place in memory.
pub(super) struct Place {
    /// Of one in memory, the name by which SQLite finds it.
    pub(super) path: PathBuf,
    /// Locked as long as it is open. It is a file of its own, because the ledger may be set aside.
    /// `None` in memory.
    lock: Option<File>,
}

impl Place {
    /// A place in memory, which lasts as long as a connection to it does.
    pub(super) fn memory() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self {
            path: format!("file:/smtpflow-{number}?vfs=memdb").into(),
            lock: None,
        }
    }

    pub(super) const fn is_memory(&self) -> bool {
        self.lock.is_none()
    }

    /// How SQLite is to open it, but for whether it is written to.
    pub(super) fn flags(&self) -> OpenFlags {
        if self.is_memory() {
            OpenFlags::SQLITE_OPEN_URI
        } else {
            OpenFlags::SQLITE_OPEN_NOFOLLOW
        }
    }

    /// How long the file is.
    pub(super) fn bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    pub(super) fn take(path: &Path) -> Result<Self, Failure> {
        let failure = |what: &str, error: &io::Error| {
            let kind = match error.kind() {
                io::ErrorKind::PermissionDenied => Kind::NoPermission,
                _ => Kind::Failed,
            };
            Failure::new(
                kind,
                format!(
                    "cannot {what} {}: {error}; name another file with --store (store.path), or run \
                     with --no-store",
                    path.display()
                ),
            )
        };
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            let error = io::Error::from(io::ErrorKind::IsADirectory);
            return Err(failure("use the store", &error));
        };
        make_folder(folder).map_err(|error| failure("make the folder of the store", &error))?;
        // Links on the way to the folder are the operator's; only the file itself must be none.
        let path = folder
            .canonicalize()
            .map_err(|error| failure("find the folder of the store", &error))?
            .join(name);

        let lock = own_file(&beside(&path, ".lock"))
            .map_err(|error| failure("make the lock of the store", &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::new(
                    Kind::Unavailable,
                    format!(
                        "the store {} is in use by another smtpflow; two agents cannot share one: \
                         end that one, or name another file with --store (store.path)",
                        path.display()
                    ),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(failure("lock the store", &error)),
        }
        own_file(&path).map_err(|error| failure("open the store", &error))?;
        Ok(Self {
            path,
            lock: Some(lock),
        })
    }

    /// Opens the file with SQLite.
    ///
    /// - `journal_mode = WAL`: whoever reads does not hold up the writer, nor the other way round.
    /// - `synchronous = NORMAL`: no commit waits for the disk, see the contract of the store.
    /// - `wal_autocheckpoint = 0`: the log is moved into the file by `Store::tidy`, not by a commit,
    ///   for which the kernel's half waits; `journal_size_limit` gives the room of a log that was long
    ///   back to the disk.
    /// - `temp_store = MEMORY`: nothing is written anywhere but to the store.
    /// - `cache_size = -65536`: up to 64 MiB of pages until [`super::Store::set_cache`] says otherwise, so that
    ///   the sources of a flood, which are all over their table, are not read from the file again with each
    ///   window.
    /// - `trusted_schema = OFF`: the file may have been written by somebody else.
    ///
    /// The size of a page is 4,096 octets, as chunks are made for it. There is no `auto_vacuum`: pages
    /// that retention gives up are used again.
    pub(super) fn connect(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(
            &self.path,
            OpenFlags::SQLITE_OPEN_READ_WRITE
                | OpenFlags::SQLITE_OPEN_NO_MUTEX
                | if self.is_memory() {
                    OpenFlags::SQLITE_OPEN_CREATE
                } else {
                    OpenFlags::empty()
                }
                | self.flags(),
        )?;
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(64);
        if self.is_memory() {
            connection.execute_batch("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF;")?;
        } else {
            connection.execute_batch(
                "PRAGMA journal_mode = WAL;
                 PRAGMA synchronous = NORMAL;
                 PRAGMA wal_autocheckpoint = 0;
                 PRAGMA journal_size_limit = 4194304;",
            )?;
        }
        connection.execute_batch(
            "PRAGMA temp_store = MEMORY;
             PRAGMA cache_size = -65536;
             PRAGMA trusted_schema = OFF;",
        )?;
        Ok(connection)
    }

    /// How long the write-ahead log is.
    pub(super) fn wal_bytes(&self) -> u64 {
        fs::metadata(beside(&self.path, "-wal")).map_or(0, |metadata| metadata.len())
    }

    /// How many files were set aside and are still there.
    pub(super) fn count_set_aside(&self) -> u64 {
        let (Some(folder), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return 0;
        };
        let begin = format!("{}{ASIDE}", name.to_string_lossy());
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let files = names.filter(|name| name.starts_with(&begin) && !name.ends_with("-wal"));
        files.count() as u64
    }

    /// Renames the file, with its write-ahead log, and makes an empty one. Gives the new name.
    pub(super) fn set_aside(&self, now: SystemTime) -> Result<PathBuf, Failure> {
        let time = Timestamp::try_from(now).map_or_else(
            |_| "unknown".to_owned(),
            |time| time.strftime("%Y%m%dT%H%M%SZ").to_string(),
        );
        let aside = (0..)
            .map(|number| match number {
                0 => beside(&self.path, &format!("{ASIDE}-{time}")),
                number => beside(&self.path, &format!("{ASIDE}-{time}-{number}")),
            })
            .find(|aside| fs::symlink_metadata(aside).is_err())
            .unwrap_or_else(|| beside(&self.path, ASIDE));
        let moved = fs::rename(&self.path, &aside)
            .and_then(|()| {
                // SQLite finds the log of a file by its name.
                match fs::rename(beside(&self.path, "-wal"), beside(&aside, "-wal")) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                }
            })
            .and_then(|()| match fs::remove_file(beside(&self.path, "-shm")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            })
            .and_then(|()| own_file(&self.path));
        moved.map(|_| aside).map_err(|error| {
            Failure::new(
                Kind::Failed,
                format!(
                    "the store {} is damaged and cannot be set aside: {error}; move it away, or name \
                     another file with --store (store.path)",
                    self.path.display()
                ),
            )
        })
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Makes the folder of a store for the user that the agent will be, while it is still root. One that is
/// there must be that user's: what somebody else has put into it is not given away.
pub(super) fn provide_folder(path: &Path, owner: Option<(u32, u32)>) -> Result<(), Failure> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    let is_missing = |folder: &&Path| !folder.exists();
    let missing: Vec<&Path> = folder.ancestors().take_while(is_missing).collect();
    let Some((uid, gid)) = owner else {
        // Whether it could be made is told when the store is opened.
        let _ = make_folder(folder);
        return Ok(());
    };
    let made = make_folder(folder).and_then(|()| {
        for made in missing {
            lchown(made, Some(uid), Some(gid))?;
        }
        fs::metadata(folder)
    });
    let has = made
        .map_err(|error| {
            Failure::new(
                Kind::Failed,
                format!(
                    "cannot make the folder of the store {}: {error}; name another file with --store \
                     (store.path), or run with --no-store",
                    path.display()
                ),
            )
        })?
        .uid();
    if has == uid {
        return Ok(());
    }
    Err(Failure::new(
        Kind::NoPermission,
        format!(
            "the folder of the store {} belongs to user {has}, and the agent will be user {uid} \
             (agent.user): give it to that one (chown -R {uid}:{gid} {}), or name another file with \
             --store (store.path)",
            path.display(),
            folder.display()
        ),
    ))
}

/// The path with something behind its last name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Opens or makes a file that only its owner can read, and refuses what is none of ours.
fn own_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).bits())
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            // ELOOP, in the words of this place.
            Some(code) if code == nix::errno::Errno::ELOOP as i32 => {
                io::Error::other(format!("{} is a symbolic link", path.display()))
            }
            _ => error,
        })?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other(format!("{} is no file", path.display())));
    }
    if metadata.uid() != geteuid().as_raw() && metadata.uid() != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{} belongs to user {}, neither to root nor to the agent's user",
                path.display(),
                metadata.uid()
            ),
        ));
    }
    if metadata.mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}
