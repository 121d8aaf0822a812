//! An open file that is read on.
//!
//! Contract: what was read is handed over only if what stood before it is still there afterwards, since a file that was
//! emptied and filled anew in between would be taken for its continuation. Its position is known from memory
//! alone, so that it can be told of a file that is not there any more.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use super::position::{CHECKED, Position};
use crate::maillog::line::{LINE_LIMIT, Lines};

/// Octets before the last one that was read which are remembered: a position may be a line before it.
const REMEMBERED: usize = CHECKED as usize + LINE_LIMIT;

/// How a read ended.
pub enum Step {
    /// So many octets were read; there may be more.
    More(usize),
    /// There is nothing more by now.
    End,
    /// It is not the file that it was.
    Changed,
}

/// See the module.
#[derive(Debug)]
pub struct Tail {
    file: File,
    device: u64,
    inode: u64,
    /// Octets that were read.
    read: u64,
    lines: Lines,
    /// The last of them.
    before: Vec<u8>,
}

impl Tail {
    /// At an offset that the file has.
    pub fn at(file: File, offset: u64, dropping: bool) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let mut before = vec![0; offset.min(CHECKED) as usize];
        let begin = offset - before.len() as u64;
        file.read_exact_at(&mut before, begin)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            file,
            read: offset,
            lines: Lines::new(dropping),
            before,
        })
    }

    /// Reads what fits into `chunk`.
    pub fn step(&mut self, chunk: &mut [u8], line: &mut dyn FnMut(&[u8])) -> io::Result<Step> {
        let count = self.file.read_at(chunk, self.read)?;
        if count == 0 {
            let size = self.file.metadata()?.len();
            return Ok(match size < self.read {
                true => Step::Changed,
                false => Step::End,
            });
        }
        if !self.position_before(0).matches(&self.file)? {
            return Ok(Step::Changed);
        }
        let chunk = &chunk[..count];
        self.read += count as u64;
        self.lines.push(chunk, line);
        self.before
            .extend_from_slice(&chunk[count.saturating_sub(REMEMBERED)..]);
        let surplus = self.before.len().saturating_sub(REMEMBERED);
        self.before.drain(..surplus);
        Ok(Step::More(count))
    }

    /// Behind the last line that was handed over.
    pub fn position(&self) -> Position {
        self.position_before(self.lines.pending())
    }

    /// So many octets before the last that was read.
    fn position_before(&self, octets: usize) -> Position {
        let end = self.before.len() - octets;
        let begin = end.saturating_sub(CHECKED as usize);
        Position {
            device: self.device,
            inode: self.inode,
            offset: self.read - octets as u64,
            checksum: crc32fast::hash(&self.before[begin..end]),
            dropping: self.lines.dropping(),
        }
    }

    /// Whether it is the same file.
    pub const fn is(&self, other: &Self) -> bool {
        self.device == other.device && self.inode == other.inode
    }

    /// Hands over what has no end.
    pub fn finish(&mut self, line: &mut dyn FnMut(&[u8])) {
        self.lines.finish(line);
    }

    /// Lines that were too long.
    pub const fn dropped(&self) -> u64 {
        self.lines.dropped()
    }
}
