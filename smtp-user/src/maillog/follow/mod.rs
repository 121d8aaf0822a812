//! Follows a log file through its rotations.
//!
//! Contract: every line that is whole is handed over once, in the order in which it was written, as long as the file
//! that holds it is in its folder when it is looked for: renamed (`logrotate`'s usual way), copied and emptied
//! (`copytruncate`), any number of times, also while nobody was looking, but not compressed yet (`delaycompress`).
//! Where lines are lost that is counted as a gap. After a rename the former file is read for [`GRACE`] more, since
//! its writer may have it open. A call of [`Follower::poll`] reads at most `MOST` octets and waits for nothing but
//! the disk. What [`Follower::saved`] gives is the position behind all that was handed over: whoever keeps it together
//! with what came of the lines loses and repeats none over a restart.
#![forbid(unsafe_code)]

mod position;
mod siblings;
mod tail;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use self::position::{Position, Saved, replace};
use self::tail::{Step, Tail};

/// Octets of one read.
const CHUNK: usize = 64 * 1024;
/// Octets that one poll reads at most.
const MOST: u64 = 16 * 1024 * 1024;
/// How long a file is read after it was renamed.
pub const GRACE: Duration = Duration::from_secs(60);

/// What happened to the file so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FollowCounts {
    /// It was renamed and another one took its place.
    pub renamed: u64,
    /// It was emptied, or written anew.
    pub truncated: u64,
    /// Lines were lost, as the file that holds them could not be found.
    pub gaps: u64,
    /// Lines that were too long.
    pub dropped: u64,
}

impl FollowCounts {
    /// What happened since these counts.
    pub const fn since(&self, before: &Self) -> Self {
        let Self {
            renamed,
            truncated,
            gaps,
            dropped,
        } = *self;
        Self {
            renamed: renamed - before.renamed,
            truncated: truncated - before.truncated,
            gaps: gaps - before.gaps,
            dropped: dropped - before.dropped,
        }
    }

    /// With what happened after these counts.
    pub const fn and(&self, more: &Self) -> Self {
        let Self {
            renamed,
            truncated,
            gaps,
            dropped,
        } = *self;
        Self {
            renamed: renamed + more.renamed,
            truncated: truncated + more.truncated,
            gaps: gaps + more.gaps,
            dropped: dropped + more.dropped,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    current: Option<Tail>,
    /// The file before the last rotation, and when it was found to be that.
    retired: Option<(Tail, Instant)>,
    /// Files that were rotated away while nobody looked, the oldest first: they are read to their ends before the log.
    behind: VecDeque<Tail>,
    counts: FollowCounts,
}

impl Follower {
    /// Goes on where `saved` says, or without that begins at the end of the file: what is in it already is of a time
    /// before anybody asked. The file need not exist yet.
    pub fn open(path: &Path, saved: Option<&Saved>) -> io::Result<Self> {
        let mut follower = Self {
            path: path.to_owned(),
            current: None,
            retired: None,
            behind: VecDeque::new(),
            counts: FollowCounts::default(),
        };
        let Some(saved) = saved else {
            if let Some(file) = open(path)? {
                let size = file.metadata()?.len();
                // A line whose end has not come yet is not wanted.
                let inside = size > 0 && last_octet(&file, size)? != Some(b'\n');
                follower.current = Some(Tail::at(file, size, inside)?);
            }
            return Ok(follower);
        };
        match (&saved.current, &saved.retired) {
            (Some(current), retired) => {
                if let Some(position) = retired
                    && let Some((file, _)) = siblings::find(path, position)?
                {
                    let tail = Tail::at(file, position.offset, position.dropping)?;
                    follower.retired = Some((tail, Instant::now()));
                }
                follower.resume(current)?;
            }
            // There was no log yet after the last rotation; by now it may be one of several.
            (None, Some(retired)) => follower.go_on_in_copy(retired)?,
            (None, None) => follower.current = follower.fresh()?,
        }
        Ok(follower)
    }

    /// The position behind all lines that were handed over.
    pub fn saved(&self) -> Saved {
        // While files are behind, the first of them is where to go on.
        let current = self.behind.front().or(self.current.as_ref());
        let retired = self.retired.as_ref().map(|(tail, _)| tail);
        Saved {
            current: current.map(Tail::position),
            retired: retired.map(Tail::position),
        }
    }

    /// What happened so far.
    pub fn counts(&self) -> FollowCounts {
        let tails = self.behind.iter().chain(&self.current);
        let retired = self.retired.iter().map(|(tail, _)| tail);
        let dropping = tails.chain(retired).map(Tail::dropped);
        FollowCounts {
            dropped: self.counts.dropped + dropping.sum::<u64>(),
            ..self.counts
        }
    }

    /// Reads what there is by now and hands over its lines. Whether there may be more at once.
    pub fn poll(&mut self, line: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        let mut chunk = vec![0; CHUNK];
        let mut left = MOST;
        let mut spend = |count: usize| {
            left = left.saturating_sub(count as u64);
            left > 0
        };
        // What is older comes first.
        if let Some((tail, _)) = &mut self.retired {
            loop {
                match tail.step(&mut chunk, line)? {
                    Step::More(count) if !spend(count) => return Ok(true),
                    Step::More(_) => {}
                    // Nobody empties a file that is out of use.
                    Step::End | Step::Changed => break,
                }
            }
        }
        if self
            .retired
            .as_ref()
            .is_some_and(|(_, since)| since.elapsed() > GRACE)
        {
            self.end_retired(line);
        }
        while let Some(tail) = self.behind.front_mut() {
            match tail.step(&mut chunk, line)? {
                Step::More(count) if !spend(count) => return Ok(true),
                Step::More(_) => {}
                end @ (Step::End | Step::Changed) => {
                    self.counts.gaps += u64::from(matches!(end, Step::Changed));
                    let Some(tail) = self.behind.pop_front() else {
                        break;
                    };
                    // The writer may have the last of them open still.
                    self.end_retired(line);
                    self.retired = Some((tail, Instant::now()));
                }
            }
        }
        if self.current.is_none() {
            self.current = self.fresh()?;
        }
        while let Some(tail) = &mut self.current {
            match tail.step(&mut chunk, line)? {
                Step::More(count) if !spend(count) => return Ok(true),
                Step::More(_) => {}
                Step::Changed => {
                    self.truncated()?;
                    return Ok(true);
                }
                Step::End => return self.look_for_rename(line),
            }
        }
        Ok(false)
    }

    /// Whether another file has taken the name, which is then read.
    fn look_for_rename(&mut self, line: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        // Between a rename and the new file there is none of the name.
        let Some(next) = open(&self.path)? else {
            return Ok(false);
        };
        let next = Tail::at(next, 0, false)?;
        let Some(tail) = self.current.take_if(|tail| !tail.is(&next)) else {
            return Ok(false);
        };
        self.counts.renamed += 1;
        self.end_retired(line);
        // More than one rotation since the last look: files in between are read whole.
        if let Some((_, after)) = siblings::find(&self.path, &tail.position())? {
            self.fall_behind(after, Some(&next))?;
        }
        self.retired = Some((tail, Instant::now()));
        self.current = Some(next);
        Ok(true)
    }

    fn end_retired(&mut self, line: &mut dyn FnMut(&[u8])) {
        if let Some((mut tail, _)) = self.retired.take() {
            tail.finish(line);
            self.counts.dropped += tail.dropped();
        }
    }

    /// The file was emptied or written anew: what was not read of it is in a copy.
    fn truncated(&mut self) -> io::Result<()> {
        self.counts.truncated += 1;
        let Some(tail) = self.current.take() else {
            return Ok(());
        };
        self.counts.dropped += tail.dropped();
        self.go_on_in_copy(&tail.position())
    }

    /// Goes on at a position of an earlier life.
    fn resume(&mut self, position: &Position) -> io::Result<()> {
        if let Some(file) = open(&self.path)?
            && position.is_in(&file)?
        {
            self.current = Some(Tail::at(file, position.offset, position.dropping)?);
            return Ok(());
        }
        self.go_on_in_copy(position)
    }

    /// Reads the rest of the file that holds a position, those that came after it, and then the log from its beginning.
    fn go_on_in_copy(&mut self, position: &Position) -> io::Result<()> {
        // Before its siblings are looked for: rotated in between, it is one of them.
        let current = self.fresh()?;
        match siblings::find(&self.path, position)? {
            Some((file, after)) => {
                let tail = Tail::at(file, position.offset, position.dropping)?;
                self.behind.push_back(tail);
                self.fall_behind(after, current.as_ref())?;
            }
            // Of a file of which nothing was read yet nothing is missed.
            None if position.offset == 0 => {}
            None => self.counts.gaps += 1,
        }
        self.current = current;
        Ok(())
    }

    /// Reads these files first, but for the one that is the log itself.
    fn fall_behind(&mut self, files: Vec<File>, log: Option<&Tail>) -> io::Result<()> {
        for file in files {
            let tail = Tail::at(file, 0, false)?;
            if !log.is_some_and(|log| log.is(&tail)) {
                self.behind.push_back(tail);
            }
        }
        Ok(())
    }

    fn fresh(&self) -> io::Result<Option<Tail>> {
        match open(&self.path)? {
            Some(file) => Tail::at(file, 0, false).map(Some),
            None => Ok(None),
        }
    }
}

/// Opens a file to read. What is none is refused, and not waited for as a pipe without a writer would be.
fn open(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(nix::libc::O_NONBLOCK);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        let text = "it is no regular file, and nothing else can be followed";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(Some(file))
}

fn last_octet(file: &File, size: u64) -> io::Result<Option<u8>> {
    let mut octet = [0];
    let count = file.read_at(&mut octet, size - 1)?;
    Ok((count == 1).then_some(octet[0]))
}
