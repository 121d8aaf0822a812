//! Which hosts were tested, and how many tests run: one test per host and day, two at once.
//!
//! Contract: both hold over all processes that use the same folder, however they end. A test is noted before
//! the host is connected to; a note is written whole or not at all. The notes are of one day and at most
//! [`MOST`]. The folder belongs to who tests, or to who is no root and is helped by root.
//!
//! The locks are those of flock(2): the kernel lets go of them with the process.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::geteuid;

use super::reports;
use crate::failure::{Failure, Kind};

/// Tests at once.
const AT_ONCE: u32 = 2;
/// Between two tests of one host, in seconds.
const DAY: u64 = 24 * 60 * 60;
/// Most tests in a day: more is no test of a few suspects any more.
const MOST: usize = 10_000;
/// The longest file that is read: more than [`MOST`] lines of the longest.
const LONGEST: u64 = 1 << 20;
/// The longest wait for another process that writes a note, which takes it milliseconds.
const TURN: Duration = Duration::from_secs(5);

/// Leave for one test; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    // Held, not read.
    _slot: Flock<File>,
}

/// The notes of a folder.
#[derive(Debug)]
pub(super) struct Ledger {
    folder: PathBuf,
    /// Who owns the folder and all in it.
    owner: (u32, u32),
}

impl Ledger {
    /// The notes in this folder, which is made if need be.
    pub(super) fn open(folder: &Path) -> Result<Self, Failure> {
        let shown = folder.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| failed(&format!("cannot make the folder {shown}"), &error))?;
        let metadata = fs::symlink_metadata(folder)
            .map_err(|error| failed(&format!("cannot look at the folder {shown}"), &error))?;
        let me = geteuid();
        let problem = if !metadata.is_dir() {
            Some("is no folder".to_owned())
        } else if !me.is_root() && metadata.uid() != me.as_raw() {
            Some(format!(
                "belongs to user {}, and this is user {me}",
                metadata.uid()
            ))
        } else if metadata.mode() & 0o022 != 0 {
            Some(format!(
                "can be written to by others (mode {:o})",
                metadata.mode() & 0o7777
            ))
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(Failure::new(
                Kind::NoPermission,
                format!(
                    "{shown} (relay_test.state) {problem}, so that it cannot be trusted to say who was \
                     tested; name a folder that belongs to you alone (chmod 700)"
                ),
            ));
        }
        Ok(Self {
            folder: folder.to_owned(),
            owner: (metadata.uid(), metadata.gid()),
        })
    }

    /// Notes a test of `host` that begins `now`, in seconds since 1970. There is none if the host was tested
    /// within a day, or as many tests run as may.
    pub(super) fn begin(&self, host: IpAddr, now: u64) -> Result<Permit, Failure> {
        // First, so that a test that has to wait is not noted.
        let slot = self.slot()?;
        self.note(host, now)?;
        Ok(Permit { _slot: slot })
    }

    /// Keeps the report of a test in the place of the host's one before.
    pub(super) fn keep(&self, host: IpAddr, json: &[u8]) -> io::Result<()> {
        reports::keep(&self.folder, host, json, |file| self.give(file))
    }

    fn slot(&self) -> Result<Flock<File>, Failure> {
        for slot in 0..AT_ONCE {
            if let Some(slot) = self.lock(&format!("slot-{slot}"))? {
                return Ok(slot);
            }
        }
        Err(Failure::new(
            Kind::Unavailable,
            format!(
                "{AT_ONCE} relay tests run already, the most that may at once; wait for one to end ({})",
                self.folder.display()
            ),
        ))
    }

    fn note(&self, host: IpAddr, now: u64) -> Result<(), Failure> {
        let _lock = self.lock_in_turn("lock")?;
        let mut notes = self.read(now)?;
        if let Some((_, at)) = notes.iter().find(|(tested, _)| *tested == host) {
            let left = DAY.saturating_sub(now - at).div_ceil(60);
            return Err(Failure::new(
                Kind::Unavailable,
                format!(
                    "{host} was tested within the last 24 hours; it may be tested again in {} h {} min",
                    left / 60,
                    left % 60
                ),
            ));
        }
        if notes.len() >= MOST {
            return Err(Failure::new(
                Kind::Unavailable,
                format!(
                    "{MOST} hosts were tested within the last 24 hours, the most that may; wait a while"
                ),
            ));
        }
        notes.push((host, now));
        self.write(&notes).map_err(|error| {
            failed(
                &format!("cannot note the test in {}", self.path("tests").display()),
                &error,
            )
        })
    }

    /// What was noted within a day. A note of the future, as after a step of the clock, is one of now: it
    /// neither ends the day at once nor keeps a host for years.
    fn read(&self, now: u64) -> Result<Vec<(IpAddr, u64)>, Failure> {
        let path = self.path("tests");
        let shown = path.display();
        let mut text = String::new();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&path);
        match file {
            Ok(file) => file
                .take(LONGEST)
                .read_to_string(&mut text)
                .map_err(|error| failed(&format!("cannot read {shown}"), &error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(&format!("cannot read {shown}"), &error)),
        };
        let mut notes = Vec::new();
        for line in text.lines() {
            let note = line.split_once(' ').and_then(|(host, at)| {
                Some((host.parse::<IpAddr>().ok()?, at.parse::<u64>().ok()?))
            });
            // Nobody but us writes there, and a whole file replaces the one before: this is no cut line.
            let Some((host, at)) = note else {
                return Err(Failure::new(
                    Kind::Failed,
                    format!(
                        "{shown} holds something that is no note of a test ({line:?}); remove the file if no \
                         test was made within the last 24 hours"
                    ),
                ));
            };
            let at = at.min(now);
            if now - at < DAY {
                notes.push((host, at));
            }
        }
        Ok(notes)
    }

    fn write(&self, notes: &[(IpAddr, u64)]) -> io::Result<()> {
        let (path, new) = (self.path("tests"), self.path("tests.new"));
        // What a killed process has left.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        self.give(&file)?;
        let text: String = notes
            .iter()
            .map(|(host, at)| format!("{host} {at}\n"))
            .collect();
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(&self.folder)?.sync_all()
    }

    /// Takes a lock; `None` if another process, or another test of this one, has it.
    fn lock(&self, name: &str) -> Result<Option<Flock<File>>, Failure> {
        let path = self.path(name);
        let shown = path.display();
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&path)
            .map_err(|error| failed(&format!("cannot open {shown}"), &error))?;
        self.give(&file).map_err(|error| {
            failed(
                &format!("cannot give {shown} to the owner of its folder"),
                &error,
            )
        })?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno).with_context(|| format!("cannot lock {shown}"))?,
        }
    }

    fn lock_in_turn(&self, name: &str) -> Result<Flock<File>, Failure> {
        let begun = Instant::now();
        loop {
            if let Some(lock) = self.lock(name)? {
                return Ok(lock);
            }
            if begun.elapsed() >= TURN {
                return Err(Failure::new(
                    Kind::Unavailable,
                    format!(
                        "another process has had the notes in {} for {} s; end it, or try again",
                        self.folder.display(),
                        TURN.as_secs()
                    ),
                ));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Root's help does not lock the folder's owner out.
    fn give(&self, file: &File) -> io::Result<()> {
        let (uid, gid) = self.owner;
        if geteuid().is_root() && file.metadata()?.uid() != uid {
            fchown(file, Some(uid), Some(gid))?;
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// A failure of the file system, with the code that fits.
fn failed(what: &str, error: &io::Error) -> Failure {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Kind::NoPermission,
        _ => Kind::Failed,
    };
    Failure::new(
        kind,
        format!("{what}: {error}; tests are noted in a folder of your own (relay_test.state)"),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Barrier;

    use super::*;

    const NOW: u64 = 1_795_000_000;

    fn host(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    fn ledger(folder: &Path) -> Ledger {
        Ledger::open(folder).unwrap_or_else(|failure| panic!("{failure}"))
    }

    fn allowed(ledger: &Ledger, host: IpAddr, now: u64) {
        let permit = ledger.begin(host, now);
        permit.unwrap_or_else(|failure| panic!("{host} at {now}: {failure}"));
    }

    fn refused(ledger: &Ledger, host: IpAddr, now: u64) -> String {
        let failure = ledger.begin(host, now).expect_err("no leave");
        assert_eq!(failure.kind, Kind::Unavailable, "{failure}");
        failure.to_string()
    }

    #[test]
    fn a_host_is_tested_once_in_a_day() {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = ledger(&folder.path().join("a/b"));
        allowed(&ledger, host(1), NOW);
        let text = refused(&ledger, host(1), NOW + 60);
        assert!(text.contains("again in 23 h 59 min"), "{text}");
        allowed(&ledger, host(2), NOW + 60);
        refused(&ledger, host(1), NOW + DAY - 1);
        allowed(&ledger, host(1), NOW + DAY);
        refused(&ledger, host(1), NOW + DAY + 1);
    }

    #[test]
    fn a_clock_that_is_set_back_frees_and_keeps_nobody_for_ever() {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = ledger(folder.path().join("state").as_path());
        allowed(&ledger, host(1), NOW);
        let year_ago = NOW - 365 * DAY;
        refused(&ledger, host(1), year_ago);
        allowed(&ledger, host(2), year_ago);
        // Taken down as of then when the second test was noted.
        allowed(&ledger, host(1), year_ago + DAY);
    }

    #[test]
    fn two_run_at_once_and_a_third_one_is_not_noted() {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = ledger(folder.path().join("state").as_path());
        let first = ledger.begin(host(1), NOW).expect("leave");
        let second = ledger.begin(host(2), NOW).expect("leave");
        let text = refused(&ledger, host(3), NOW);
        assert!(text.contains("run already"), "{text}");
        drop(first);
        allowed(&ledger, host(3), NOW);
        drop(second);
    }

    #[test]
    fn of_many_at_the_same_moment_one_gets_the_host() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state");
        for round in 0..20 {
            let barrier = Barrier::new(8);
            let permits: Vec<_> = thread::scope(|scope| {
                let threads: Vec<_> = (0..8)
                    .map(|_| {
                        scope.spawn(|| {
                            // As another process would.
                            let ledger = ledger(&state);
                            barrier.wait();
                            ledger.begin(host(round), NOW).ok()
                        })
                    })
                    .collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().expect("a thread"))
                    .collect()
            });
            assert_eq!(permits.iter().flatten().count(), 1, "round {round}");
        }
    }

    #[test]
    fn a_folder_of_others_is_not_trusted() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state");
        fs::create_dir(&state).expect("a folder");
        fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).expect("a mode");
        let failure = Ledger::open(&state).expect_err("writable for all");
        assert_eq!(failure.kind, Kind::NoPermission);
        assert!(failure.to_string().contains("chmod 700"), "{failure}");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&state, &link).expect("a link");
        Ledger::open(&link).expect_err("a link");
    }

    #[test]
    fn what_is_no_note_is_told_and_what_was_left_half_written_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state");
        let ledger = ledger(&state);
        fs::write(state.join("tests.new"), "192.0.2.1 17").expect("written");
        allowed(&ledger, host(1), NOW);
        fs::write(state.join("tests"), "nonsense\n").expect("written");
        let failure = ledger.begin(host(2), NOW).expect_err("no notes");
        assert!(failure.to_string().contains("nonsense"), "{failure}");
    }

    #[test]
    fn a_day_has_an_end_of_tests() {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = ledger(folder.path().join("state").as_path());
        let many: Vec<_> = (0..MOST as u32)
            .map(|i| (IpAddr::from((10 << 24 | i).to_be_bytes()), NOW))
            .collect();
        ledger.write(&many).expect("written");
        let text = refused(&ledger, host(1), NOW);
        assert!(text.contains("10000 hosts"), "{text}");
        allowed(&ledger, host(1), NOW + DAY);
    }
}
