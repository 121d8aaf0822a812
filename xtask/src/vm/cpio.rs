//! Archives that the kernel unpacks before it starts PID 1 (Documentation/driver-api/early-userspace/
//! buffer-format.rst of Linux): `newc` without compression, since it is written and read once.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context as _, Result};

/// Types of entries and their modes (inode(7)).
const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
/// A character device; the kernel gives PID 1 no console unless the archive has one.
const DEVICE: u32 = 0o020_600;
const TRAILER: &str = "TRAILER!!!";

/// An archive that is being written.
pub struct Archive<W> {
    out: W,
    written: usize,
    entries: u32,
    folders: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    /// An empty one with `/dev/console` in it.
    pub fn new(out: W) -> io::Result<Self> {
        let mut archive = Self {
            out,
            written: 0,
            entries: 0,
            folders: BTreeSet::new(),
        };
        archive.folder("dev")?;
        archive.entry("dev/console", DEVICE, (5, 1), &[])?;
        Ok(archive)
    }

    /// A folder and those that it is in.
    pub fn folder(&mut self, path: &str) -> io::Result<()> {
        let path = path.trim_start_matches('/');
        let ends = path.match_indices('/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let folder = &path[..end];
            if !folder.is_empty() && self.folders.insert(folder.to_owned()) {
                self.entry(folder, FOLDER, (0, 0), &[])?;
            }
        }
        Ok(())
    }

    /// A file of this machine at this place; everything is executable, as nothing minds.
    pub fn file(&mut self, path: &str, from: &Path) -> Result<()> {
        let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.bytes(path, &bytes)
            .with_context(|| format!("cannot write {path} into the archive"))
    }

    /// A file of these bytes.
    pub fn bytes(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.parent(path)?;
        self.entry(path, PROGRAM, (0, 0), bytes)
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<()> {
        self.entry(TRAILER, 0, (0, 0), &[])?;
        self.out.flush()
    }

    fn parent(&mut self, path: &str) -> io::Result<()> {
        match path.rsplit_once('/') {
            Some((folder, _)) => self.folder(folder),
            None => Ok(()),
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), data: &[u8]) -> io::Result<()> {
        let name = path.trim_start_matches('/');
        let too_large = |_| io::Error::other(format!("{path} is too large for the archive"));
        let size = u32::try_from(data.len()).map_err(too_large)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_large)?;
        self.entries += 1;
        // Magic, inode, mode, owner, group, links, time, size, device of the file system (2), device
        // (2), length of the name, checksum.
        let mut header = b"070701".to_vec();
        let (major, minor) = device;
        for field in [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            major,
            minor,
            name_size,
            0,
        ] {
            header.extend(format!("{field:08X}").bytes());
        }
        header.extend(name.bytes());
        header.push(0);
        self.write(&header)?;
        self.write(data)
    }

    /// Writes it, and zeroes up to the next multiple of four.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = (self.written + bytes.len()).next_multiple_of(4);
        self.out.write_all(bytes)?;
        self.out
            .write_all(&[0; 3][..end - self.written - bytes.len()])?;
        self.written = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpio_reads_what_is_written() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes).expect("memory");
        archive.bytes("a/b/c", b"12345").expect("memory");
        archive.bytes("/a/b/d", b"").expect("memory");
        archive.finish().expect("memory");
        assert_eq!(bytes.len() % 4, 0);

        // By hand, as a reader would: headers of 110 characters, names and data padded to four.
        let (mut at, mut found) = (0, Vec::new());
        loop {
            assert_eq!(&bytes[at..at + 6], b"070701", "at {at}");
            let field = |index: usize| {
                let start = at + 6 + index * 8;
                let text = std::str::from_utf8(&bytes[start..start + 8]).expect("hexadecimal");
                usize::from_str_radix(text, 16).expect("hexadecimal")
            };
            let (mode, size, name) = (field(1), field(6), field(11));
            let text = String::from_utf8_lossy(&bytes[at + 110..at + 110 + name - 1]).into_owned();
            let data = (at + 110 + name).next_multiple_of(4);
            if text == TRAILER {
                break;
            }
            found.push((text, mode, bytes[data..data + size].to_vec()));
            at = (data + size).next_multiple_of(4);
        }
        let names: Vec<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["dev", "dev/console", "a", "a/b", "a/b/c", "a/b/d"]);
        assert_eq!(found[4].1, PROGRAM as usize);
        assert_eq!(found[4].2, b"12345");
    }
}
