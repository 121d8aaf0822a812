//! A maildir: a folder with a file for each message, in `new` and in `cur`.
//!
//! Contract: files are read in the order of their names, which begin with a time. What is no file is not
//! opened, links are not followed, and nothing in the folder is changed: a message that was read stays
//! where it is, and is known the next time.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::{Intake, MAX_ITEMS, MAX_MESSAGE, source};

/// The folders of messages: `tmp` has those that are not there yet.
const FOLDERS: [&str; 2] = ["new", "cur"];

/// Whether a folder is one.
pub(super) fn is_one(folder: &Path) -> bool {
    FOLDERS.iter().all(|name| folder.join(name).is_dir())
}

/// Reads all messages.
pub(super) fn read(folder: &Path, intake: &mut Intake) -> io::Result<()> {
    let (files, more) = files(folder)?;
    for path in files {
        if intake.is_full() {
            intake.refuse(folder.display().to_string(), source::TOO_MANY);
            return Ok(());
        }
        let place = || path.display().to_string();
        match message(&path) {
            Ok(Some(message)) => intake.take_mail(&place, &message),
            // Somebody has moved it in the meantime.
            Ok(None) => {}
            Err(error) => intake.refuse(place(), &error.to_string()),
        }
    }
    if more {
        intake.refuse(folder.display().to_string(), source::TOO_MANY);
    }
    Ok(())
}

/// The files of messages, and whether there are more than are read.
fn files(folder: &Path) -> io::Result<(Vec<PathBuf>, bool)> {
    let mut files = Vec::new();
    for name in FOLDERS {
        for entry in std::fs::read_dir(folder.join(name))? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if files.len() == MAX_ITEMS {
                return Ok((files, true));
            }
            files.push(entry.path());
        }
    }
    files.sort_unstable_by(|a, b| a.file_name().cmp(&b.file_name()));
    Ok((files, false))
}

/// The first octets of a message; `None` if it is gone.
fn message(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut message = Vec::new();
    file.take(MAX_MESSAGE as u64).read_to_end(&mut message)?;
    Ok(Some(message))
}

/// Opens a file to read. What is none is refused, and not waited for as a pipe without a writer would be.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW).bits())
        .open(path)?;
    if !file.metadata()?.is_file() {
        let text = "it is no regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{BOT, arf, intake};
    use super::*;

    #[test]
    fn messages_of_both_folders_are_read_and_stay_and_nothing_else_is_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        assert!(!is_one(path));
        for name in ["new", "cur", "tmp"] {
            std::fs::create_dir(path.join(name)).expect("a folder");
        }
        assert!(is_one(path));
        let write = |name: &str, text: &str| {
            std::fs::write(path.join(name), text).expect("written");
        };
        write("cur/1764000002.M1P1.mx:2,S", &arf("192.0.2.67"));
        write("new/1764000001.M1P1.mx", &arf(BOT));
        write("new/.hidden", &arf(BOT));
        write("tmp/1764000003.M1P1.mx", &arf(BOT));
        write("secret", &arf("192.0.2.99"));
        std::os::unix::fs::symlink(path.join("secret"), path.join("new/1764000004.link"))
            .expect("a link");
        let pipe = path.join("new/1764000005.pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        std::fs::create_dir(path.join("cur/1764000006.folder")).expect("a folder");
        for _ in 0..2 {
            let mut intake = intake();
            read(path, &mut intake).expect("read");
            let taken = intake.done();
            let addresses: Vec<_> = taken
                .complaints
                .iter()
                .map(|c| c.address.to_string())
                .collect();
            assert_eq!(addresses, [BOT, "192.0.2.67"]);
            assert_eq!(taken.refused, 3, "{:?}", taken.refusals);
            assert!(
                taken.refusals[1].why.contains("no regular file"),
                "{:?}",
                taken.refusals
            );
        }
    }
}
