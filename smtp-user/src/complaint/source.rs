//! What a file is: a maildir, an mbox, a message, XARF or CSV.
//!
//! Contract: told by how it begins, never by its name. A file of none of these forms is refused whole.

use std::fs::OpenOptions;
use std::io::{self, BufReader, Cursor, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::OFlag;

use super::{Intake, MAX_MESSAGE, csv, maildir, mbox, xarf};
use crate::failure::{Failure, Kind};

/// The name of a file that stands for standard input.
pub const STANDARD_INPUT: &str = "-";
/// Most octets of a file with many complaints.
const MAX_FILE: u64 = 1 << 30;
/// Octets by which it is told what a file is.
const START: u64 = 4096;

/// Why an import ends before its end.
pub(super) const TOO_MANY: &str =
    "there are more than 100000 messages or records: import it in parts, or a part at a time";

/// Reads a file or a folder into `intake`.
///
/// # Errors
///
/// It cannot be opened or read; what it is cannot be told; it is CSV without the names of its fields.
pub fn read(path: &Path, intake: &mut Intake) -> Result<(), Failure> {
    let name = path.display().to_string();
    let fail = |error: &io::Error| {
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied => Kind::NoPermission,
            _ => Kind::Failed,
        };
        Failure::new(kind, format!("cannot read complaints from {name}: {error}"))
    };
    if path.as_os_str() == STANDARD_INPUT {
        let name = "standard input";
        return stream(name, io::stdin().lock(), intake).map_err(|error| fail(&error));
    }
    if path.is_dir() {
        if !maildir::is_one(path) {
            return Err(Failure::new(
                Kind::Usage,
                format!(
                    "{name} is a folder and no maildir: there are no folders new and cur in it"
                ),
            ));
        }
        return maildir::read(path, intake).map_err(|error| fail(&error));
    }
    // A pipe without a writer is not waited for.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .and_then(|file| match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is no regular file; give what comes from elsewhere on standard input (-)",
            )),
        })
        .map_err(|error| fail(&error))?;
    stream(&name, file, intake).map_err(|error| fail(&error))
}

/// Reads what a file of this name holds.
///
/// # Errors
///
/// It cannot be read; what it is cannot be told; it is CSV without the names of its fields.
pub fn stream(name: &str, mut from: impl Read, intake: &mut Intake) -> io::Result<()> {
    let mut start = Vec::new();
    from.by_ref().take(START).read_to_end(&mut start)?;
    let form = Form::of(&start).ok_or_else(|| {
        let what = "it is no mail, no mbox, no XARF and no CSV with the names of its fields \
                    (address, time, kind)";
        io::Error::new(io::ErrorKind::InvalidData, what)
    })?;
    let rest = BufReader::with_capacity(1 << 16, from.take(MAX_FILE));
    let mut whole = Cursor::new(start).chain(rest);
    let place = || name.to_owned();
    match form {
        Form::Mbox => mbox::read(name, &mut whole, intake)?,
        Form::Csv => csv::read(name, &mut whole, intake)
            .map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?,
        Form::Mail | Form::Xarf => {
            let mut one = Vec::new();
            whole
                .by_ref()
                .take(MAX_MESSAGE as u64)
                .read_to_end(&mut one)?;
            match form {
                Form::Mail => intake.take_mail(&place, &one),
                _ => intake.take(&place, xarf::read(&one, None)),
            }
            return Ok(());
        }
    }
    let (_, rest) = whole.into_inner();
    if rest.into_inner().limit() == 0 {
        intake.refuse(
            place(),
            "it is longer than 1 GiB: what is behind that was not read",
        );
    }
    Ok(())
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Mbox,
    Mail,
    Xarf,
    Csv,
}

impl Form {
    fn of(start: &[u8]) -> Option<Self> {
        let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
        if mbox::is_one(start) {
            return Some(Self::Mbox);
        }
        if start.trim_ascii_start().starts_with(b"{") {
            return Some(Self::Xarf);
        }
        if csv::is_one(start) {
            return Some(Self::Csv);
        }
        is_field(start).then_some(Self::Mail)
    }
}

/// Whether it begins with a field of a header (RFC 5322, section 2.2).
fn is_field(start: &[u8]) -> bool {
    let colon = start.iter().position(|b| *b == b':');
    colon.is_some_and(|colon| colon != 0 && start[..colon].iter().all(u8::is_ascii_graphic))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{BOT, arf, intake, xarf_mail};
    use super::*;

    #[test]
    fn a_file_is_what_it_begins_like() {
        for (text, expected) in [
            (
                "From a@b Tue Nov 24 14:00:00 2026\nSubject: x\n",
                Some(Form::Mbox),
            ),
            ("Received: from x\n", Some(Form::Mail)),
            ("address: x\n", Some(Form::Mail)),
            ("\u{feff} \n{\"xarf_version\":", Some(Form::Xarf)),
            ("\u{feff}time,address,kind\n", Some(Form::Csv)),
            ("# remark\n\n\"address\",\"time\"\n", Some(Form::Csv)),
            ("address\n", Some(Form::Csv)),
            ("", None),
            (": x", None),
            ("hello world: x", None),
            ("PK\u{3}\u{4}", None),
            ("192.0.2.66,2026-11-24,spam\n", None),
        ] {
            assert_eq!(Form::of(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn every_form_comes_in_by_the_same_door() {
        let folder = tempfile::tempdir().expect("a folder");
        let mail = arf(BOT);
        let csv = "address,time,kind\n192.0.2.66,2026-11-24,spam\n";
        let mbox = format!(
            "From a@b Tue Nov 24 14:00:00 2026\n{mail}\nFrom a@b Tue Nov 24 14:00:00 2026\n{}",
            xarf_mail(BOT)
        );
        for (text, expected) in [(&*mail, 1), (csv, 1), (&*mbox, 2), (&*xarf_mail(BOT), 1)] {
            let path = folder.path().join("file");
            std::fs::write(&path, text).expect("written");
            let mut intake = intake();
            read(&path, &mut intake).expect(text);
            let taken = intake.done();
            assert_eq!(
                (taken.complaints.len(), taken.refused),
                (expected, 0),
                "{taken:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_with_the_cause() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        let pipe = path.join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        std::fs::write(path.join("zip"), "PK\u{3}\u{4}").expect("written");
        std::fs::write(path.join("csv"), "address,time\n").expect("written");
        for (name, expected) in [
            ("nowhere", "No such file"),
            (
                "pipe",
                "no regular file; give what comes from elsewhere on standard input (-)",
            ),
            ("zip", "no mail, no mbox"),
            ("csv", "no field kind"),
            ("", "no maildir"),
        ] {
            let mut intake = intake();
            let error = read(&path.join(name), &mut intake)
                .expect_err(name)
                .to_string();
            assert!(
                error.contains(expected) && error.contains(&*path.to_string_lossy()),
                "{error}"
            );
        }
    }
}
