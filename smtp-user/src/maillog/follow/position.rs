//! How far a log file was read, kept over restarts.
//!
//! Contract: a position is the file (device and inode), an offset at the beginning of a line, and a checksum of what
//! stands before it, so that another file of the same number, or the same file written anew, is not
//! taken for it. A file of positions is written beside its place, flushed and renamed, and so is whole or
//! as it was.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

/// Octets before the offset that the checksum is of.
pub const CHECKED: u64 = 1024;
/// Version of the form of the file.
const VERSION: u32 = 1;
/// A file of positions is not larger.
const LIMIT: u64 = 64 * 1024;

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
    /// CRC-32 of up to [`CHECKED`] octets before the offset.
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

/// What is in the file: the positions in the log itself, and in the file that it was before the last rotation while
/// somebody may still write to that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    version: u32,
    /// In the log.
    pub current: Option<Position>,
    /// In the one before.
    pub retired: Option<Position>,
}

impl Saved {
    /// With these positions.
    pub const fn new(current: Option<Position>, retired: Option<Position>) -> Self {
        Self {
            version: VERSION,
            current,
            retired,
        }
    }

    /// Reads the file; `None` if there is none.
    pub fn load(path: &Path) -> anyhow::Result<Option<Self>> {
        let what = || format!("cannot read the position in {}", path.display());
        let way_out = "remove it, and the log is read from its end on";
        let metadata = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata.with_context(what)?,
        };
        ensure!(
            metadata.len() <= LIMIT,
            "{}: {} bytes are no position; {way_out}",
            path.display(),
            metadata.len()
        );
        let text = fs::read(path).with_context(what)?;
        let saved: Self = serde_json::from_slice(&text)
            .with_context(|| format!("{} holds no position; {way_out}", path.display()))?;
        if saved.version != VERSION {
            bail!(
                "{} is of version {}, and this is {VERSION}; {way_out}",
                path.display(),
                saved.version
            );
        }
        Ok(Some(saved))
    }

    /// Writes the file.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_vec(self).context("a position has no form in JSON")?;
        replace(path, &text)
            .with_context(|| format!("cannot keep the position in {}", path.display()))
    }
}

/// Where the positions in a log are kept in the state directory: its path with what cannot stand in a name escaped.
pub fn place(folder: &Path, log: &Path) -> PathBuf {
    let mut name = String::from("position");
    for octet in log.as_os_str().as_bytes() {
        match octet {
            b'/' => name.push('-'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' => name.push(char::from(*octet)),
            octet => {
                let _ = write!(name, "%{octet:02x}");
            }
        }
    }
    // Names have at most 255 octets; of a longer one the end tells most, and a checksum the rest.
    if name.len() > 200 {
        let sum = crc32fast::hash(name.as_bytes());
        name = format!("position-{sum:08x}-{}", &name[name.len() - 150..]);
    }
    folder.join(name + ".json")
}

/// Makes the state directory for nobody but the agent.
pub fn make_folder(folder: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| {
            format!(
                "cannot make the folder {} for positions in mail logs",
                folder.display()
            )
        })
}

/// Puts a file in the place of another, whole or not at all.
pub fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let mut file = File::create(&beside)?;
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
    fn every_log_has_a_place_of_its_own() {
        let name = |log: &str| {
            let place = place(Path::new("/s"), Path::new(log));
            place.to_str().expect("text").to_owned()
        };
        assert_eq!(
            name("/var/log/mail.log"),
            "/s/position-var-log-mail.log.json"
        );
        assert_eq!(name("/var/log-mail"), "/s/position-var-log%2dmail.json");
        let long = name(&format!("/{}", "\u{e4}".repeat(200)));
        assert!(long.len() < 220 && long.ends_with("%c3%a4.json"), "{long}");
    }

    #[test]
    fn what_is_saved_is_found_again_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("position.json");
        assert_eq!(Saved::load(&path).expect("none"), None);
        let position = Position {
            device: 1,
            inode: 2,
            offset: 3,
            checksum: 4,
            dropping: true,
        };
        let saved = Saved::new(Some(position), None);
        saved.save(&path).expect("saved");
        saved.save(&path).expect("saved again");
        assert_eq!(Saved::load(&path).expect("read"), Some(saved));
        for text in [
            "",
            "{}x",
            "{\"version\":2,\"current\":null,\"retired\":null}",
        ] {
            fs::write(&path, text).expect("written");
            let error = Saved::load(&path).expect_err(text);
            assert!(format!("{error:#}").contains("remove it"), "{error:#}");
        }
    }
}
