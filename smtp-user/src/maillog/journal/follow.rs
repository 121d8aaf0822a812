//! Follows the journal of systemd, by a `journalctl` that was started before the agent gave up its privileges.
//!
//! Contract: every entry of the facility mail that comes after the first start is handed over once and in order, over
//! restarts as well, as long as the journal has it when journalctl comes to it. What is handed over is behind a
//! [`Place`]: whoever keeps that together with what came of the entries loses and repeats none. Where the entry that
//! was read last is not in the journal any more, that is counted as a gap, and reading goes on with the next one that
//! is. journalctl is started once: if it ends that is said once, and what comes then is read after the next start. Its
//! output is a socket, so that it waits while nobody reads, and ends when the reader does, however that ends. A call of
//! [`Follower::poll`] takes about a second at most.
#![forbid(unsafe_code)]

use std::io::{ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::cursor::Cursor;
use super::{Entry, JournalCounts, LIMIT, Line, WORDS, not_started, parse};
use crate::failure::Failure;
use crate::maillog::line::Lines;

/// Octets of one read.
const CHUNK: usize = 64 * 1024;
/// How long output is waited for. While there is some, it comes faster.
const PAUSE: Duration = Duration::from_millis(20);
/// How long one poll goes on while there is output.
const TURN: Duration = Duration::from_secs(1);
/// How long the status of a journalctl is waited for that has closed its output.
const FAREWELL: Duration = Duration::from_millis(200);

/// How far the journal was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Since when it is followed, in microseconds since 1970. Entries before that are of no interest.
    pub since: u64,
    /// The entry that was read last.
    pub cursor: Option<Cursor>,
    /// Since when it is not followed any more, in seconds since 1970: journalctl has ended.
    pub ended: Option<i64>,
}

impl Place {
    /// From this time on.
    pub fn from_now(now: SystemTime) -> Self {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            since: u64::try_from(since.as_micros()).unwrap_or(u64::MAX),
            cursor: None,
            ended: None,
        }
    }

    /// The word by which journalctl begins here. It begins with the entry that was read last, if it is still there,
    /// and not with the next one: so it is seen whether something is missing.
    fn word(&self) -> String {
        match &self.cursor {
            Some(cursor) => format!("--cursor={cursor}"),
            None => format!(
                "--since=@{}.{:06}",
                self.since / 1_000_000,
                self.since % 1_000_000
            ),
        }
    }
}

/// A journalctl that was started.
#[derive(Debug)]
pub struct Started {
    child: Child,
    output: UnixStream,
    place: Place,
}

impl Started {
    /// Starts `journalctl`, which is this program, at a place. It gets nothing of the environment, no input, and a
    /// group of processes of its own, so that a terminal does not end it with the agent's last drain still to come; the
    /// signals that the caller holds back are held back there as well.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start(program: Command, place: Place) -> Result<Self, Failure> {
        let mut command = program;
        let (output, theirs) = UnixStream::pair().context("cannot make a pair of sockets")?;
        output
            .set_read_timeout(Some(PAUSE))
            .context("cannot set how long a socket is waited for")?;
        // journalctl itself would begin with the last ten entries.
        command
            .args(WORDS)
            .args(["--follow", "--no-tail"])
            .arg(place.word())
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(OwnedFd::from(theirs))
            .stderr(Stdio::inherit());
        let child = command.spawn().map_err(|error| not_started(&error))?;
        Ok(Self {
            child,
            output,
            place,
        })
    }
}

/// See the module.
#[derive(Debug)]
pub struct Follower {
    child: Child,
    /// Nothing is read once it is gone.
    output: Option<UnixStream>,
    lines: Lines,
    place: Place,
    /// The entry that was read last in the life before, until it was seen what journalctl begins with.
    last: Option<Cursor>,
    counts: JournalCounts,
    gaps: u64,
}

impl Follower {
    /// Reads what was started.
    pub fn new(started: Started) -> Self {
        let Started {
            child,
            output,
            place,
        } = started;
        Self {
            child,
            output: Some(output),
            lines: Lines::limited(LIMIT),
            last: place.cursor.clone(),
            place: Place {
                ended: None,
                ..place
            },
            counts: JournalCounts::default(),
            gaps: 0,
        }
    }

    /// The place behind all entries that were handed over.
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// What became of journalctl's lines in this life.
    pub const fn counts(&self) -> JournalCounts {
        JournalCounts {
            unread: self.counts.unread + self.lines.dropped(),
            ..self.counts
        }
    }

    /// How often entries were lost in this life, since the journal had them no longer: once at most.
    pub const fn gaps(&self) -> u64 {
        self.gaps
    }

    /// Reads what there is by now and hands over its entries. Whether there may be more at once.
    ///
    /// # Errors
    ///
    /// journalctl has ended: how, and what to do. It is said once, and nothing more is read.
    pub fn poll(&mut self, entry: &mut dyn FnMut(&Entry)) -> Result<bool, String> {
        let mut chunk = vec![0; CHUNK];
        let begun = Instant::now();
        while let Some(output) = &mut self.output {
            let how = match output.read(&mut chunk) {
                Ok(0) => "it has ended".to_owned(),
                Ok(count) => {
                    self.take(&chunk[..count], entry);
                    if begun.elapsed() >= TURN {
                        return Ok(true);
                    }
                    continue;
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Ok(false),
                    ErrorKind::Interrupted => continue,
                    _ => format!("its output cannot be read: {error}"),
                },
            };
            self.output = None;
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            self.place.ended = Some(now.map_or(0, |now| now.as_secs().cast_signed()));
            return Err(format!("{how}{}", self.status()));
        }
        Ok(false)
    }

    fn take(&mut self, octets: &[u8], entry: &mut dyn FnMut(&Entry)) {
        let Self {
            lines,
            place,
            last,
            counts,
            gaps,
            ..
        } = self;
        lines.push(octets, |line| {
            // Without a place nobody could say later whether it was read.
            let Some((line, Some(cursor))) = parse(line) else {
                counts.unread += 1;
                return;
            };
            let before = last.take();
            let is_known = before.as_ref().is_some_and(|last| last.is_at(&cursor));
            *gaps += u64::from(before.is_some() && !is_known);
            place.cursor = Some(cursor);
            match line {
                _ if is_known => {}
                Line::Entry(found) => {
                    counts.entries += 1;
                    entry(&found);
                }
                Line::Hidden => counts.hidden += 1,
            }
        });
    }

    /// How it ended, as far as that is known soon.
    fn status(&mut self) -> String {
        let begun = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return format!(" with {status}"),
                Ok(None) if begun.elapsed() < FAREWELL => thread::sleep(FAREWELL / 20),
                // Whoever takes over the agent's children will have it.
                Ok(None) | Err(_) => return String::new(),
            }
        }
    }
}

#[cfg(test)]
mod tests;
