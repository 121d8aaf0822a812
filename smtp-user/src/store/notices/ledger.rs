//! The end of who makes and sends notices, beside an agent that may be running.
//!
//! Contract: whoever has a [`NoticeLedger`] is the only one who makes and sends notices of this store; the lock
//! is flock's, and ends with the process. The file is opened anew for each step, so that one that the agent has
//! set aside, or has not made yet, is found later. A step that fails has changed nothing. Nothing here waits for
//! the agent longer than [`personal::write`] does, nor does the agent wait for more than a step.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use rusqlite::{OptionalExtension as _, params};

use super::super::file::beside;
use super::super::personal;
use super::super::samples;
use super::{LIMITED, book, parsed, write};
use crate::failure::{Failure, Kind};
use crate::model::notice::{Book, Hook, HookCall, NoticeChange};
use crate::store::{Reader, Unchanged, integer};

/// Most calls that are given at a time.
const MOST_CALLS: usize = 100;

/// See the module.
pub struct NoticeLedger {
    path: PathBuf,
    // Held, not read.
    _lock: File,
}

impl NoticeLedger {
    /// Takes the notices of the store at `path`, which need not be there yet, unlike its folder.
    ///
    /// # Errors
    ///
    /// Another process has them; the folder is not there; the lock cannot be made.
    pub fn take(path: &Path) -> Result<Self, Failure> {
        let lock = lock_file(path).map_err(|error| {
            let kind = match error.kind() {
                io::ErrorKind::PermissionDenied => Kind::NoPermission,
                _ => Kind::Unavailable,
            };
            Failure::new(
                kind,
                format!(
                    "cannot make the lock of notices beside the store {}: {error}; name the file of the agent with \
                     --store (store.path)",
                    path.display()
                ),
            )
        })?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(Failure::new(
                Kind::Unavailable,
                format!(
                    "notices of the store {} are sent by another `smtpflow notice run`; two would send them twice: \
                     end that one (systemctl stop smtpflow-notice)",
                    path.display()
                ),
            )),
            Err(TryLockError::Error(error)) => Err(Failure::new(
                Kind::Failed,
                format!(
                    "cannot lock the notices of the store {}: {error}",
                    path.display()
                ),
            )),
        }
    }

    /// Where the store is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the store.
    pub fn reader(&self) -> Result<Reader, Failure> {
        Reader::open(&self.path)
    }

    /// As [`Reader::notice_book`].
    pub fn book(&self, now: u64) -> Result<Book, Failure> {
        self.reader()?.read(|connection| book(connection, now))
    }

    /// Forgets the headers of messages that were complained about, where their time is over.
    pub fn forget_samples(&self, now: u64) -> Result<(), Failure> {
        if !self
            .reader()?
            .read(|connection| samples::is_untidy(connection, now))?
        {
            return Ok(());
        }
        personal::write(&self.path, "forget headers of messages", |transaction| {
            samples::tidy(transaction, now).map(Ok)
        })
        .map_err(Failure::from)
    }

    /// Notes changes in one transaction. Each can be noted twice, so after an error all are to be given
    /// again; what is not noted has not happened, and nothing may be sent because of it.
    pub fn write(&self, changes: &[NoticeChange]) -> Result<(), Failure> {
        if changes.is_empty() {
            return Ok(());
        }
        personal::write(&self.path, "write notices", |transaction| {
            write(transaction, changes).map(Ok)
        })
        .map_err(Failure::from)
    }

    /// Calls of this hook that are due, the oldest first: of each notice that has begun to wait or was sent within
    /// a day, and which the hook has not taken.
    pub fn calls(&self, hook: Hook, now: u64) -> Result<Vec<HookCall>, Failure> {
        self.reader()?.read(|connection| {
            let mut select = connection.prepare(
                "SELECT event.id, event.notice, event.to_state, coalesce(attempts, 0)
                 FROM notice_event AS event LEFT JOIN notice_call AS call ON call.event = event.id AND call.hook = ?1
                 WHERE to_state IN ('waiting', 'sent') AND event.at > ?2 AND coalesce(done, 0) = 0
                     AND coalesce(call.next_at, 0) <= ?3
                 ORDER BY event.id LIMIT ?4",
            )?;
            let since = integer(now.saturating_sub(LIMITED));
            let values = params![hook.name(), since, integer(now), MOST_CALLS];
            let rows = select.query_map(values, |row| {
                Ok(HookCall {
                    event: row.get(0)?,
                    notice: row.get(1)?,
                    to: parsed(2, row.get::<_, String>(2)?.parse())?,
                    attempts: row.get(3)?,
                })
            })?;
            rows.collect()
        })
    }

    /// Notes a try of a call: `next_at` is when it is tried again, `None` when it is over.
    pub fn write_call(
        &self,
        hook: Hook,
        call: &HookCall,
        next_at: Option<u64>,
    ) -> Result<(), Failure> {
        personal::write(&self.path, "note a call of a hook", |transaction| {
            let event = integer(call.event);
            // Gone with a store that was set aside meanwhile.
            let known: Option<i64> = transaction
                .query_row(
                    "SELECT id FROM notice_event WHERE id = ?1",
                    [event],
                    |row| row.get(0),
                )
                .optional()?;
            if known.is_none() {
                return Ok(Err(Unchanged::Absent(format!(
                    "there is no event {} any more",
                    call.event
                ))));
            }
            transaction.execute(
                "INSERT INTO notice_call VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (event, hook) DO UPDATE SET attempts = ?3, next_at = ?4, done = ?5",
                params![
                    event,
                    hook.name(),
                    call.attempts.saturating_add(1),
                    next_at.map_or(0, integer),
                    next_at.is_none(),
                ],
            )?;
            Ok(Ok(()))
        })
        .map_err(Failure::from)
    }
}

/// Makes or opens the file that is locked; what root makes belongs to the owner of the folder, so that either may
/// be the next one.
fn lock_file(store: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).bits())
        .open(beside(store, ".notice.lock"))?;
    let folder = match store.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if geteuid().is_root() {
        let owner = fs::metadata(folder)?;
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(file)
}
