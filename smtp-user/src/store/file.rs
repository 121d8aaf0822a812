//! Where the file is, and who may have it.
//!
//! Contract: whoever holds a [`Place`] is the only agent with this file. The folder is made with mode
//! 0700 if it is not there, the file and what SQLite puts beside it have mode 0600 and belong to the
//! agent's user or to root, and a symbolic link is refused, since whoever may make one could choose
//! what is written to.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use rusqlite::{Connection, OpenFlags};

use crate::failure::{Failure, Kind};

/// How long a commit waits for somebody else who reads or writes the file by hand.
const BUSY: Duration = Duration::from_secs(1);

/// A file of which this process is the only agent.
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// Locked as long as it is open. It is a file of its own, because the ledger may be set aside.
    _lock: File,
}

impl Place {
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
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| failure("make the folder of the store", &error))?;
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
        Ok(Self { path, _lock: lock })
    }

    /// Opens the file with SQLite.
    pub(super) fn connect(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(
            &self.path,
            OpenFlags::SQLITE_OPEN_READ_WRITE
                | OpenFlags::SQLITE_OPEN_NOFOLLOW
                | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(BUSY)?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = NORMAL;
             PRAGMA wal_autocheckpoint = 0;
             PRAGMA journal_size_limit = 4194304;
             PRAGMA temp_store = MEMORY;
             PRAGMA trusted_schema = OFF;",
        )?;
        Ok(connection)
    }

    /// How long the write-ahead log is.
    pub(super) fn wal_bytes(&self) -> u64 {
        fs::metadata(beside(&self.path, "-wal")).map_or(0, |metadata| metadata.len())
    }

    /// Renames the file, with its write-ahead log, and makes an empty one. Gives the new name.
    pub(super) fn set_aside(&self, now: SystemTime) -> Result<PathBuf, Failure> {
        let time = Timestamp::try_from(now).map_or_else(
            |_| "unknown".to_owned(),
            |time| time.strftime("%Y%m%dT%H%M%SZ").to_string(),
        );
        let aside = (0..)
            .map(|number| match number {
                0 => beside(&self.path, &format!(".corrupt-{time}")),
                number => beside(&self.path, &format!(".corrupt-{time}-{number}")),
            })
            .find(|aside| fs::symlink_metadata(aside).is_err())
            .unwrap_or_else(|| beside(&self.path, ".corrupt"));
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

/// The path with something behind its last name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
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
