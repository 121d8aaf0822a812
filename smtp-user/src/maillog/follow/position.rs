//! How far a log file was read.
//!
//! Contract: a position is the file (device and inode), an offset at the beginning of a line, and a checksum of what
//! stands before it, so that another file of the same number, or the same file written anew, is not
//! taken for it.
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Octets before the offset that the checksum is of.
pub const CHECKED: u64 = 1024;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The device of the file.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// Octets that are done with.
    pub offset: u64,
    /// CRC-32 of up to `CHECKED` octets before the offset.
    pub checksum: u32,
    /// Whether the offset is inside of a line that is too long, whose rest is not wanted.
    pub dropping: bool,
}

impl Position {
    /// Whether what stands before the offset in this file is what stood there, whatever its number.
    pub fn matches(&self, file: &File) -> io::Result<bool> {
        Ok(checksum(file, self.offset)? == Some(self.checksum))
    }

    /// Whether it is a position in this file.
    pub fn is_in(&self, file: &File) -> io::Result<bool> {
        let metadata = file.metadata()?;
        Ok((metadata.dev(), metadata.ino()) == (self.device, self.inode) && self.matches(file)?)
    }
}

/// The checksum before an offset, or `None` if the file ends before it.
fn checksum(file: &File, offset: u64) -> io::Result<Option<u32>> {
    let begin = offset.saturating_sub(CHECKED);
    let mut octets = [0; CHECKED as usize];
    let octets = &mut octets[..(offset - begin) as usize];
    match file.read_exact_at(octets, begin) {
        Ok(()) => Ok(Some(crc32fast::hash(octets))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where to go on after a restart: in the log itself, and in the file that it was before the last rotation while
/// somebody may still write to that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// In the log.
    pub current: Option<Position>,
    /// In the one before.
    pub retired: Option<Position>,
}

/// Puts a file that nobody else may read in the place of another, whole or not at all: it is written beside it,
/// flushed and renamed.
pub fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&beside)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    // The name as well has to outlive a loss of power.
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::tail::Tail;
    use super::*;

    fn position(path: &Path, offset: u64) -> Position {
        let file = File::open(path).expect("open");
        Tail::at(file, offset, false)
            .expect("a position")
            .position()
    }

    #[test]
    fn a_position_is_of_one_file_and_of_what_stood_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        fs::write(&path, "one\ntwo\n").expect("written");
        let file = File::open(&path).expect("open");
        let position = position(&path, 4);
        assert!(position.is_in(&file).expect("read"));
        // The same file, written anew and longer.
        fs::write(&path, "ONE\ntwo\nthree\n").expect("written");
        assert!(!position.is_in(&file).expect("read"));
        fs::write(&path, "on").expect("written");
        assert!(!position.is_in(&file).expect("read"));
        // Another file with the same octets.
        let copy = folder.path().join("log.1");
        fs::write(&copy, "one\ntwo\n").expect("written");
        let copy = File::open(&copy).expect("open");
        assert!(!position.is_in(&copy).expect("read"));
        assert!(position.matches(&copy).expect("read"));
    }

    #[test]
    fn a_file_is_replaced_whole_and_for_nobody_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("books.json");
        for text in ["one", "another"] {
            replace(&path, text.as_bytes()).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("read"), text);
            assert_eq!(fs::metadata(&path).expect("a file").mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
        replace(&folder.path().join("none/books.json"), b"").expect_err("no folder");
    }
}
