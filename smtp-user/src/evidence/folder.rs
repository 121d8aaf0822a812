//! A folder that is there whole or not at all, with the sums of its files.
//!
//! Contract: files are written to a folder beside the one that is asked for, whose name takes its place at the end;
//! what fails before leaves nothing, and what is killed before a hidden folder. Nobody but its owner can read either.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::SUMS;
use crate::failure::{Failure, Kind};

/// A file of the folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Sum {
    /// Its name.
    pub(super) name: &'static str,
    /// Its length.
    pub(super) octets: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub(super) sha256: String,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Folder {
    /// Where it will be.
    output: PathBuf,
    /// Where it is made.
    partial: PathBuf,
    names: Vec<&'static str>,
    is_done: bool,
}

impl Folder {
    /// A folder that is to be at `output`.
    pub(super) fn begin(output: &Path) -> Result<Self, Failure> {
        let name = output.file_name().ok_or_else(|| {
            Failure::new(
                Kind::Usage,
                format!(
                    "{} is no name of a folder: name one that is to be made",
                    output.display()
                ),
            )
        })?;
        if fs::symlink_metadata(output).is_ok() {
            return Err(Failure::new(
                Kind::Failed,
                format!(
                    "{} is there already, and evidence is never written over: name a folder that is to be made",
                    output.display()
                ),
            ));
        }
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}", std::process::id()));
        let partial = output.with_file_name(hidden);
        DirBuilder::new()
            .mode(0o700)
            .create(&partial)
            .map_err(|error| failed("cannot make the folder", &partial, &error))?;
        Ok(Self {
            output: output.to_owned(),
            partial,
            names: Vec::new(),
            is_done: false,
        })
    }

    /// Where a file is until the end.
    pub(super) fn path(&self, name: &'static str) -> PathBuf {
        self.partial.join(name)
    }

    /// A new file.
    pub(super) fn create(&mut self, name: &'static str) -> Result<File, Failure> {
        let path = self.path(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| failed("cannot make", &path, &error))?;
        self.names.push(name);
        Ok(file)
    }

    /// A new file with this in it.
    pub(super) fn write(&mut self, name: &'static str, octets: &[u8]) -> Result<(), Failure> {
        let mut file = self.create(name)?;
        file.write_all(octets)
            .and_then(|()| file.sync_all())
            .map_err(|error| failed("cannot write", &self.path(name), &error))
    }

    /// Writes the sums, and gives the folder its name.
    pub(super) fn finish(mut self) -> Result<Vec<Sum>, Failure> {
        let mut names = self.names.clone();
        names.sort_unstable();
        let sums: Vec<Sum> = names
            .into_iter()
            .map(|name| {
                let path = self.path(name);
                sum(name, &path).map_err(|error| failed("cannot read back", &path, &error))
            })
            .collect::<Result<_, _>>()?;
        let list: String = sums
            .iter()
            .map(|sum| format!("{}  {}\n", sum.sha256, sum.name))
            .collect();
        self.write(SUMS, list.as_bytes())?;
        fs::rename(&self.partial, &self.output)
            .map_err(|error| failed("cannot give its name to the folder", &self.output, &error))?;
        self.is_done = true;
        Ok(sums)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.is_done {
            // Nothing can be done about what cannot be removed; it is hidden and for its owner alone.
            let _ = fs::remove_dir_all(&self.partial);
        }
    }
}

fn sum(name: &'static str, path: &Path) -> io::Result<Sum> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 64 << 10];
    let mut octets = 0;
    loop {
        let length = match file.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            length => length?,
        };
        if length == 0 {
            break;
        }
        octets += length as u64;
        hash.update(chunk.get(..length).unwrap_or_default());
    }
    Ok(Sum {
        name,
        octets,
        sha256: hash
            .finalize()
            .iter()
            .map(|octet| format!("{octet:02x}"))
            .collect(),
    })
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Failure {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Kind::NoPermission,
        _ => Kind::Failed,
    };
    Failure::new(
        kind,
        format!(
            "{what} {}: {error}; name a place that you may write to (--output)",
            path.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_is_whole_and_for_its_owner_alone() {
        let place = tempfile::tempdir().expect("a folder");
        let output = place.path().join("pack");
        let mut folder = Folder::begin(&output).unwrap_or_else(|failure| panic!("{failure}"));
        folder
            .write("b", b"abc")
            .unwrap_or_else(|failure| panic!("{failure}"));
        folder
            .write("a", b"")
            .unwrap_or_else(|failure| panic!("{failure}"));
        assert!(!output.exists());
        let sums = folder
            .finish()
            .unwrap_or_else(|failure| panic!("{failure}"));
        // FIPS 180-4, and its examples.
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(
            (sums[0].name, sums[0].octets, sums[0].sha256.as_str()),
            ("a", 0, empty)
        );
        assert_eq!(
            (sums[1].octets, sums[1].sha256.as_str()),
            (3, abc),
            "{sums:?}"
        );
        let list = fs::read_to_string(output.join(SUMS)).expect("the list");
        assert_eq!(list, format!("{empty}  a\n{abc}  b\n"));
        for (path, mode) in [(output.clone(), 0o700), (output.join("b"), 0o600)] {
            let found = fs::metadata(&path).expect("there").permissions().mode();
            assert_eq!(found & 0o7777, mode, "{}", path.display());
        }
        assert_eq!(fs::read_dir(place.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn nothing_is_written_over_and_nothing_is_left() {
        let place = tempfile::tempdir().expect("a folder");
        let output = place.path().join("pack");
        let mut folder = Folder::begin(&output).unwrap_or_else(|failure| panic!("{failure}"));
        folder
            .write("a", b"x")
            .unwrap_or_else(|failure| panic!("{failure}"));
        drop(folder);
        assert_eq!(fs::read_dir(place.path()).expect("a folder").count(), 0);
        fs::create_dir(&output).expect("a folder");
        let failure = Folder::begin(&output).expect_err("it is there");
        assert!(
            failure.to_string().contains("never written over"),
            "{failure}"
        );
        let failure = Folder::begin(Path::new("/")).expect_err("no name");
        assert_eq!(failure.kind, Kind::Usage);
        let failure = Folder::begin(&place.path().join("no/pack")).expect_err("no parent");
        assert!(failure.to_string().contains("--output"), "{failure}");
    }
}
