//! The files that a log was before: beside it, with its name and a number or a date behind it.
//!
//! Contract: at most [`MOST`] of them are looked at, the newest ones. What is compressed, or no file, is not.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::SystemTime;

use super::Position;

/// Files that are looked at.
const MOST: usize = 64;

/// The files, the oldest change first.
fn all(log: &Path) -> io::Result<Vec<File>> {
    let (Some(folder), Some(name)) = (log.parent(), log.file_name()) else {
        return Ok(Vec::new());
    };
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found: Vec<(SystemTime, File)> = Vec::new();
    for entry in entries {
        let entry = entry?;
        let file_name = entry.file_name();
        let Some(behind) = file_name.as_bytes().strip_prefix(name.as_bytes()) else {
            continue;
        };
        if !is_rotated(behind) {
            continue;
        }
        // It may be gone by now, or be nothing to read.
        if let Ok(Some(file)) = super::open(&entry.path()) {
            found.push((file.metadata()?.modified()?, file));
            if found.len() > MOST {
                found.sort_by_key(|(changed, _)| *changed);
                found.remove(0);
            }
        }
    }
    found.sort_by_key(|(changed, _)| *changed);
    Ok(found.into_iter().map(|(_, file)| file).collect())
}

/// What stands behind the name: `.1`, `-20261127`, `.2026-11-27`.
fn is_rotated(behind: &[u8]) -> bool {
    matches!(behind, [b'.' | b'-', rest @ ..]
        if !rest.is_empty() && rest.iter().all(|octet| octet.is_ascii_digit() || *octet == b'-'))
}

/// The file that holds a position, the same one by another name or a copy of it, and those that came after it, the
/// oldest first.
pub fn find(log: &Path, position: &Position) -> io::Result<Option<(File, Vec<File>)>> {
    let mut files = all(log)?;
    let mut found = None;
    for (at, file) in files.iter().enumerate() {
        if position.is_in(file)? {
            found = Some(at);
            break;
        }
        // Before the first line every file is a copy.
        if position.offset > 0 && position.matches(file)? {
            found = Some(at);
        }
    }
    let Some(at) = found else {
        return Ok(None);
    };
    let after = files.split_off(at + 1);
    Ok(files.pop().map(|file| (file, after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_and_dates_are_rotations() {
        for behind in [".1", ".10", "-20261127", ".2026-11-27"] {
            assert!(is_rotated(behind.as_bytes()), "{behind}");
        }
        for behind in ["", ".", ".1.gz", ".offset", "1", ".old", "-20261127.xz"] {
            assert!(!is_rotated(behind.as_bytes()), "{behind}");
        }
    }
}
