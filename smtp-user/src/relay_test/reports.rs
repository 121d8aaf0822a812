//! The report of the last test of each host, kept beside the notes: a host is tested once in a day, and its report
//! is evidence for longer than a screen shows it.
//!
//! Contract: at most [`MOST`] reports of at most [`LARGEST`] octets; the oldest gives way. A report is there whole or
//! not at all. What cannot be kept costs nobody the report itself: that is for the caller.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::OFlag;

/// Most reports.
const MOST: usize = 500;
/// The largest report. All that a server may say, each octet of it escaped and every fourth one an end of a line, is
/// less.
const LARGEST: u64 = 4 << 20;

/// The folder of the reports below that of the notes.
pub(super) fn folder(state: &Path) -> PathBuf {
    state.join("reports")
}

fn file(folder: &Path, host: IpAddr) -> PathBuf {
    folder.join(format!("{}.json", host.to_canonical()))
}

/// Keeps a report in the place of the one before; `give` makes a file that of the folder's owner.
pub(super) fn keep(
    state: &Path,
    host: IpAddr,
    json: &[u8],
    give: impl Fn(&File) -> io::Result<()>,
) -> io::Result<()> {
    let folder = folder(state);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)?;
    give(&File::open(&folder)?)?;
    let path = file(&folder, host);
    let new = path.with_extension("new");
    // What a killed process has left.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    give(&written)?;
    written.write_all(json)?;
    written.sync_all()?;
    fs::rename(&new, &path)?;
    make_room(&folder)
}

/// Removes the oldest ones beyond [`MOST`].
fn make_room(folder: &Path) -> io::Result<()> {
    let mut kept: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // It may be gone: another test made room, too.
        if let Ok(metadata) = entry.metadata() {
            kept.push((metadata.modified()?, entry.path()));
        }
    }
    kept.sort();
    for (_, path) in kept.iter().take(kept.len().saturating_sub(MOST)) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The last report about a host, if there is one.
pub(super) fn last(state: &Path, host: IpAddr) -> io::Result<Option<Vec<u8>>> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(file(&folder(state), host));
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut json = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut json)?;
    if json.len() as u64 > LARGEST {
        return Err(io::Error::other(format!(
            "it is larger than {LARGEST} octets"
        )));
    }
    Ok(Some(json))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn host(number: u16) -> IpAddr {
        let [high, low] = number.to_be_bytes();
        IpAddr::from([198, 18, high, low])
    }

    fn kept(state: &Path, number: u16, json: &str) {
        keep(state, host(number), json.as_bytes(), |_| Ok(())).expect("kept");
    }

    #[test]
    fn the_last_report_is_read_and_the_one_before_is_gone() {
        let state = tempfile::tempdir().expect("a folder");
        assert_eq!(last(state.path(), host(1)).expect("read"), None);
        kept(state.path(), 1, "one");
        kept(state.path(), 2, "other");
        // What a killed process has left.
        let left = folder(state.path()).join(format!("{}.new", host(1)));
        fs::write(left, "half").expect("written");
        kept(state.path(), 1, "two");
        let mapped = "::ffff:198.18.0.1".parse().expect("an address");
        for address in [host(1), mapped] {
            let json = last(state.path(), address).expect("read");
            assert_eq!(json.as_deref(), Some(&b"two"[..]));
        }
        assert_eq!(
            fs::read_dir(folder(state.path()))
                .expect("a folder")
                .count(),
            2
        );
    }

    #[test]
    fn the_oldest_gives_way() {
        let state = tempfile::tempdir().expect("a folder");
        for number in 0..=MOST as u16 {
            kept(state.path(), number, "x");
            let path = file(&folder(state.path()), host(number));
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + u64::from(number));
            if number != MOST as u16 {
                let file = File::options().write(true).open(path).expect("a file");
                file.set_modified(at).expect("a time");
            }
        }
        assert_eq!(last(state.path(), host(0)).expect("read"), None);
        for number in [1, MOST as u16] {
            assert!(last(state.path(), host(number)).expect("read").is_some());
        }
    }

    #[test]
    fn a_giant_and_a_link_are_not_read() {
        let state = tempfile::tempdir().expect("a folder");
        kept(state.path(), 1, &"x".repeat(LARGEST as usize + 1));
        last(state.path(), host(1)).expect_err("too large");
        let link = file(&folder(state.path()), host(2));
        std::os::unix::fs::symlink("/etc/hostname", link).expect("a link");
        last(state.path(), host(2)).expect_err("a link");
    }
}
