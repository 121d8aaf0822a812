//! The folder, and files in it that are whole or not there.
//!
//! Contract: what is not this user's or root's own, or can be written to by others, is not used. Files are reached
//! through the folder as it was opened, and links are not followed, so that whoever owns a folder around it leads
//! nobody elsewhere. Root writes in the folder of another user as that user: what it makes there is that user's. A file
//! begins with what it is and ends with a checksum. One process writes at a time, and others do not wait for it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::geteuid;

/// How a file begins, with the version of its form.
const BEGIN: &[u8] = b"smtpflow owner 1\n";
/// Octets of the checksum behind it.
const SUM: usize = 4;
/// The largest file: the routes of the largest table, all of IPv6, are less.
const LARGEST: u64 = 64 << 20;
/// Most files of a kind: as many as there may be routers.
const MOST: usize = 64;
/// Whoever has locked this one writes.
const LOCK: &str = "lock";

/// See the module.
#[derive(Debug)]
pub(super) struct Folder {
    file: File,
    owner: (u32, u32),
}

impl Folder {
    /// Opens one, or says why not and what to do.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
            .open(path)
            .map_err(|error| match error.kind() {
                ErrorKind::NotFound => {
                    "there is no such folder; make it, for nobody but the agent's user (install -d -m 700 -o USER)".to_owned()
                }
                ErrorKind::PermissionDenied => {
                    format!("{error}; ask as the agent's user or as root, or name a folder of your own")
                }
                _ => format!("{error}; name a folder that is no link"),
            })?;
        let metadata = file.metadata().map_err(|error| error.to_string())?;
        let (me, owner) = (geteuid().as_raw(), metadata.uid());
        if me != 0 && ![me, 0].contains(&owner) {
            return Err("it is another user's; name a folder of your own".to_owned());
        }
        if metadata.mode() & 0o022 != 0 {
            return Err("others may write to it; close it to them (chmod 700)".to_owned());
        }
        Ok(Self {
            file,
            owner: (owner, metadata.gid()),
        })
    }

    /// A file in it.
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.file.as_raw_fd()))
    }

    /// What a file holds, if there is one; or why it cannot be used.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(self.path(name));
        let file = match opened {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|error| error.to_string())?,
        };
        let metadata = file.metadata().map_err(|error| error.to_string())?;
        if !metadata.is_file() {
            return Err("it is no file".to_owned());
        }
        if ![self.owner.0, 0].contains(&metadata.uid()) {
            return Err("it is another user's".to_owned());
        }
        if metadata.len() > LARGEST {
            return Err(format!("it has more than {LARGEST} octets"));
        }
        let mut octets = Vec::new();
        file.take(LARGEST)
            .read_to_end(&mut octets)
            .map_err(|error| error.to_string())?;
        if !octets.starts_with(BEGIN) {
            return Err("it is of another kind or version".to_owned());
        }
        let sum = octets.split_off(octets.len().saturating_sub(SUM).max(BEGIN.len()));
        if sum != crc32fast::hash(&octets).to_le_bytes() {
            return Err("it is damaged".to_owned());
        }
        octets.drain(..BEGIN.len());
        Ok(Some(octets))
    }

    /// Puts a file in the place of the one before, unless another process does so with one of its own.
    pub(super) fn write(&self, name: &str, body: &[u8]) -> Result<(), String> {
        self.try_write(name, body)
            .map_err(|error| match error.kind() {
                ErrorKind::PermissionDenied => {
                    format!("{error}; ask as the agent's user or as root")
                }
                _ => error.to_string(),
            })
    }

    fn try_write(&self, name: &str, body: &[u8]) -> io::Result<()> {
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(self.path(LOCK))?;
        self.give(&lock)?;
        let Ok(_lock) = Flock::lock(lock, FlockArg::LockExclusiveNonblock) else {
            return Ok(());
        };
        let (path, new) = (self.path(name), self.path(&format!("{name}.new")));
        // What a killed process has left.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        self.give(&file)?;
        let mut sum = crc32fast::Hasher::new();
        for part in [BEGIN, body] {
            sum.update(part);
            file.write_all(part)?;
        }
        file.write_all(&sum.finalize().to_le_bytes())?;
        // It is not flushed: what a loss of power leaves is seen by its checksum, and asked for again.
        fs::rename(&new, &path)
    }

    fn give(&self, file: &File) -> io::Result<()> {
        let (uid, gid) = self.owner;
        match geteuid().is_root() && uid != 0 {
            true => fchown(file, Some(uid), Some(gid)),
            false => Ok(()),
        }
    }

    /// Removes files with such names that are older than they may be used, and the oldest of too many.
    pub(super) fn tidy(&self, is_of_kind: fn(&str) -> bool, keep: Duration) {
        let Ok(entries) = fs::read_dir(self.path("")) else {
            return;
        };
        let mut kept: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .filter(|entry| entry.file_name().to_str().is_some_and(is_of_kind))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        kept.sort();
        let too_many = kept.len().saturating_sub(MOST);
        for (i, (changed, path)) in kept.iter().enumerate() {
            if i < too_many || changed.elapsed().is_ok_and(|age| age > keep) {
                // Another process may have done so.
                let _ = fs::remove_file(path);
            }
        }
    }
}
