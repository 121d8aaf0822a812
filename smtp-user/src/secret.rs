//! Tokens and other secrets, from files that nobody else can read or from the service manager.
//!
//! Contract: a secret comes from a file, never from an argument, a variable of the environment or the
//! configuration itself, and no message, log or `Debug` form has it. A file is closed to everybody but its
//! owner, who is root or the agent's user. `credential:NAME` means the credential of that name that systemd
//! provides (LoadCredential=, LoadCredentialEncrypted=, SetCredential=): a file in $CREDENTIALS_DIRECTORY,
//! which only the service's user can enter; it belongs to root and lets that user in by an access list,
//! which its mode shows as the right of a group.
#![forbid(unsafe_code)]

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::ops::RangeInclusive;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use subtle::ConstantTimeEq as _;

use crate::failure::{Failure, Kind};

/// Where the service manager puts credentials: systemd.exec(5).
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
/// What a name of a credential begins with, where a path to a file could stand.
const CREDENTIAL: &str = "credential:";

/// The shortest token, in bytes: shorter ones can be guessed.
const MIN_TOKEN: usize = 16;
/// The longest token, in bytes: it has to fit into a request head.
const MAX_TOKEN: usize = 4096;

/// A token: the one that reads, or the one that changes as well.
#[derive(Clone)]
pub struct Token(Box<[u8]>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// Reads the token from a file that nobody else can read or write, or from a credential.
    pub fn load(name: &Path) -> Result<Self, Failure> {
        // One byte more than allowed, to see that there is more.
        load(name, "token file", MAX_TOKEN + 1, Self::new)
    }

    pub(crate) fn new(token: &[u8]) -> anyhow::Result<Self> {
        anyhow::ensure!(
            (MIN_TOKEN..=MAX_TOKEN).contains(&token.len()),
            "the token has {} bytes, expected {MIN_TOKEN} to {MAX_TOKEN}; make one: openssl rand -hex 32",
            token.len()
        );
        anyhow::ensure!(
            token.iter().all(u8::is_ascii_graphic),
            "the token has bytes that no HTTP header carries; make one: openssl rand -hex 32"
        );
        Ok(Self(token.into()))
    }

    /// As in the header `Authorization`, for who asks another agent.
    pub(crate) fn authorization(&self) -> Vec<u8> {
        [b"Bearer ", &*self.0].concat()
    }

    /// Whether this is the token; takes the same time for every guess of the same length.
    pub(crate) fn is(&self, guess: &[u8]) -> bool {
        guess.ct_eq(&self.0).into()
    }

    /// Whether two tokens are one.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        self.is(&other.0)
    }
}

/// A secret of another kind: an SNMP community, a passphrase.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// Reads a secret of such a length, in bytes, from a file that nobody else can read or write, or from a
    /// credential; `what` is what it is called.
    pub fn load(name: &Path, what: &str, length: RangeInclusive<usize>) -> Result<Self, Failure> {
        load(
            name,
            &format!("file of the {what}"),
            length.end() + 1,
            |text| {
                anyhow::ensure!(
                    length.contains(&text.len()),
                    "the {what} has {} bytes, expected {} to {}",
                    text.len(),
                    length.start(),
                    length.end()
                );
                Ok(Self(text.into()))
            },
        )
    }

    /// The secret itself.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Reads a closed file, or a credential, and makes a secret of it without the space around it; more than
/// `most` bytes are not read.
fn load<T>(
    name: &Path,
    what: &str,
    most: usize,
    make: impl Fn(&[u8]) -> anyhow::Result<T>,
) -> Result<T, Failure> {
    let path = &path(name)?;
    let read = read(path, most).and_then(|text| make(text.trim_ascii()));
    read.map_err(|error| {
        let denied = error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        Failure {
            kind: if denied {
                Kind::NoPermission
            } else {
                Kind::BadConfig
            },
            error: error.context(format!("cannot use the {what} {}", name.display())),
        }
    })
}

fn read(path: &Path, most: usize) -> anyhow::Result<Vec<u8>> {
    let file = File::options()
        .read(true)
        // A named pipe would wait for its writer.
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    // Of the open file, so that it cannot be exchanged after the look.
    let metadata = file.metadata()?;
    let shown = path.display();
    let me = nix::unistd::geteuid().as_raw();
    anyhow::ensure!(metadata.is_file(), "it is not a regular file");
    anyhow::ensure!(
        metadata.uid() == me || metadata.uid() == 0,
        "it belongs to user {}, who could change it; make it yours: chown {me} {shown}",
        metadata.uid()
    );
    anyhow::ensure!(
        metadata.mode() & 0o077 == 0 || is_credential(path, &metadata),
        "others can read it (mode {:04o}); close it: chmod 600 {shown}",
        metadata.mode() & 0o7777
    );
    let mut text = Vec::new();
    // And a newline.
    file.take(most as u64 + 2).read_to_end(&mut text)?;
    Ok(text)
}

/// The file that is meant.
pub fn path(name: &Path) -> Result<PathBuf, Failure> {
    let credential = name.to_str().and_then(|name| name.strip_prefix(CREDENTIAL));
    let Some(credential) = credential else {
        return Ok(name.to_owned());
    };
    let bad = |what: String| Failure::new(Kind::BadConfig, what);
    // One part of a path.
    if Path::new(credential).file_name() != Some(OsStr::new(credential)) {
        return Err(bad(format!(
            "{CREDENTIAL}{credential} names no credential: expected one such as {CREDENTIAL}act-token"
        )));
    }
    match env::var_os(CREDENTIALS_DIRECTORY) {
        Some(folder) => Ok(Path::new(&folder).join(credential)),
        None => Err(bad(format!(
            "there is no credential {credential}: ${CREDENTIALS_DIRECTORY} is not set; give it to the \
             service (LoadCredential={credential}:/etc/smtpflow/{credential}), or name a file"
        ))),
    }
}

/// Whether this is a file that the service manager has made for this service: see the module.
fn is_credential(path: &Path, metadata: &Metadata) -> bool {
    let folder = path.parent();
    let Some(folder) = folder.filter(|folder| {
        env::var_os(CREDENTIALS_DIRECTORY).is_some_and(|given| Path::new(&given) == *folder)
    }) else {
        return false;
    };
    let me = nix::unistd::geteuid().as_raw();
    metadata.mode() & 0o037 == 0
        && fs::symlink_metadata(folder).is_ok_and(|folder| {
            folder.is_dir() && [0, me].contains(&folder.uid()) && folder.mode() & 0o027 == 0
        })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_path_is_a_path_and_a_credential_is_one_name() {
        let file = Path::new("/etc/smtpflow/token");
        assert_eq!(path(file).expect("a path"), file);
        for wrong in ["", "..", "a/b", "/etc/passwd", "x/"] {
            let name = format!("{CREDENTIAL}{wrong}");
            let failure = path(Path::new(&name)).expect_err("no name");
            assert_eq!(failure.kind, Kind::BadConfig);
            assert!(
                failure.to_string().contains("credential:act-token"),
                "{failure}"
            );
        }
    }

    #[test]
    fn without_a_service_manager_there_is_no_credential() {
        // Set by whoever runs the tests, or not at all: nobody sets it here.
        if env::var_os(CREDENTIALS_DIRECTORY).is_none() {
            let failure = path(Path::new("credential:act-token")).expect_err("none");
            assert!(
                failure.to_string().contains("LoadCredential=act-token"),
                "{failure}"
            );
        }
    }

    #[test]
    fn a_token_file_must_be_closed_to_others_and_of_a_good_length() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let load = |text: &[u8], mode: u32| {
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode");
            Token::load(&path).map_err(|failure| {
                assert_eq!(failure.kind, Kind::BadConfig);
                failure.to_string()
            })
        };
        let good = load(b"  0123456789abcdef\n", 0o600).expect("a good token");
        assert_eq!(&*good.0, b"0123456789abcdef");
        assert_eq!(format!("{good:?}"), "Token(..)");
        assert!(load(&[b'x'; MAX_TOKEN], 0o400).is_ok());
        for (text, mode, expected) in [
            (&b"0123456789abcdef"[..], 0o640, "chmod 600"),
            (b"0123456789abcdef", 0o604, "mode 0604"),
            (b"short\n", 0o600, "5 bytes, expected 16 to 4096"),
            (&[b'x'; MAX_TOKEN + 1], 0o600, "expected 16 to 4096"),
            ("0123456789abcdefé".as_bytes(), 0o600, "no HTTP header"),
        ] {
            let error = load(text, mode).expect_err(expected);
            assert!(error.contains(expected), "{error}");
            assert!(error.contains("token"), "{error}");
            assert!(
                !error.contains("0123456789abcdef"),
                "the token is in {error}"
            );
        }
        for missing in [folder.path(), Path::new("/nonexistent/token")] {
            let failure = Token::load(missing).expect_err("no file");
            assert_eq!(failure.kind, Kind::BadConfig);
            assert!(failure.to_string().contains(&missing.display().to_string()));
        }
    }

    #[test]
    fn a_secret_has_the_length_that_is_asked_for_and_is_never_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("community");
        fs::write(&path, "public\n").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
        let secret = Secret::load(&path, "community", 1..=255).expect("a good one");
        assert_eq!(secret.bytes(), b"public");
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        let failure = Secret::load(&path, "passphrase", 8..=255).expect_err("too short");
        let error = failure.to_string();
        assert!(
            error.contains("the passphrase has 6 bytes, expected 8 to 255"),
            "{error}"
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("mode");
        let failure = Secret::load(&path, "community", 1..=255).expect_err("open to all");
        let error = failure.to_string();
        assert!(
            error.contains("chmod 600") && !error.contains("public"),
            "{error}"
        );
    }
}
