//! Files in which the operator has written who answers for which hosts: by prefix, or by the next hop that
//! leads to them.
//!
//! Contract: a file that is not whole and good is not used at all, and the error says in which line it is
//! wrong. Files, lines and texts are bounded. TOML:
//!
//! ```toml
//! [[contact]]
//! prefix = "192.0.2.0/24"            # or: next_hop = "198.51.100.7"
//! name = "Department of Physics"
//! mail = ["abuse@physics.example"]
//! phone = "+49 30 1234"              # may be left out, as may the note
//! note = "no mail at night"
//! ```
//!
//! CSV (RFC 4180) has the same names in its first record, in any order; several mail addresses stand in one
//! field with spaces between them, and a line that begins with `#` is a remark.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ipnet::IpNet;
use nix::fcntl::OFlag;

use super::prefixes::{Drafts, PrefixTable};
use crate::failure::{Failure, Kind};
use crate::model::owner::{Contact, MAX_MAILS, check_mail, check_text};
use crate::model::prefix;

mod csv;
mod toml;

/// The longest file, in bytes.
const MAX_FILE: u64 = 8 << 20;
/// Most contacts in all files.
const MAX_CONTACTS: usize = 100_000;

/// What a contact answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Prefix(IpNet),
    NextHop(IpAddr),
}

/// An entry as it was written.
#[derive(Debug)]
struct Entry {
    key: Key,
    contact: Contact,
    line: usize,
}

/// An error in a file: its line, and what is wrong there.
type Wrong = (usize, String);

/// A contact, and where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written<'a> {
    /// Who.
    pub(super) contact: &'a Contact,
    /// For what prefix, if it is not written for a next hop.
    pub(super) prefix: Option<IpNet>,
    /// The file.
    pub(super) file: &'a Path,
    /// Its line.
    pub(super) line: usize,
    /// When it was changed last.
    pub(super) changed: SystemTime,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Contacts {
    files: Vec<(PathBuf, SystemTime)>,
    /// With the number of its file.
    entries: Vec<(usize, Entry)>,
    by_prefix: PrefixTable,
    by_next_hop: HashMap<IpAddr, usize>,
}

impl Contacts {
    /// Reads files, each of which says by its name what it is.
    pub(super) fn load(paths: &[PathBuf]) -> Result<Self, Failure> {
        let mut contacts = Self::default();
        let mut keys: HashMap<Key, usize> = HashMap::new();
        let mut drafts = Drafts::default();
        for path in paths {
            let (text, changed) = read(path)?;
            let read = match path.extension().and_then(|end| end.to_str()) {
                Some("toml") => toml::read(&text),
                Some("csv") => csv::read(&text),
                _ => {
                    return Err(bad(format!(
                        "{}: the name of a file with contacts ends in .toml or .csv",
                        path.display()
                    )));
                }
            };
            let wrong = |(line, what): Wrong| bad(format!("{}:{line}: {what}", path.display()));
            let file = contacts.files.len();
            contacts.files.push((path.clone(), changed));
            for entry in read.map_err(wrong)? {
                let number = contacts.entries.len();
                if number == MAX_CONTACTS {
                    return Err(wrong((
                        entry.line,
                        format!(
                            "there are more than {MAX_CONTACTS} contacts; name larger prefixes"
                        ),
                    )));
                }
                if let Some(other) = keys.insert(entry.key, number) {
                    let (file, other) = &contacts.entries[other];
                    let file = contacts.files[*file].0.display();
                    return Err(wrong((
                        entry.line,
                        format!(
                            "{} has a contact in {file}:{} already; keep one of them",
                            entry.key, other.line
                        ),
                    )));
                }
                match entry.key {
                    // 100,000 fit into any number.
                    Key::Prefix(prefix) => drafts.add(prefix, 0, number as u32),
                    Key::NextHop(hop) => {
                        contacts.by_next_hop.insert(hop, number);
                    }
                }
                contacts.entries.push((file, entry));
            }
        }
        contacts.by_prefix = drafts.finish();
        Ok(contacts)
    }

    /// Who is written for the longest prefix that an address is in.
    pub(super) fn of(&self, address: IpAddr) -> Option<Written<'_>> {
        let (_, number) = *self.by_prefix.matches(address).first()?;
        self.written(number as usize)
    }

    /// Who is written for a next hop.
    pub(super) fn behind(&self, next_hop: IpAddr) -> Option<Written<'_>> {
        self.written(*self.by_next_hop.get(&next_hop.to_canonical())?)
    }

    fn written(&self, number: usize) -> Option<Written<'_>> {
        let (file, entry) = self.entries.get(number)?;
        let (file, changed) = self.files.get(*file)?;
        Some(Written {
            contact: &entry.contact,
            prefix: match entry.key {
                Key::Prefix(prefix) => Some(prefix),
                Key::NextHop(_) => None,
            },
            file,
            line: entry.line,
            changed: *changed,
        })
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Prefix(prefix) => write!(f, "{prefix}"),
            Self::NextHop(hop) => write!(f, "the next hop {hop}"),
        }
    }
}

fn bad(text: String) -> Failure {
    Failure::new(Kind::BadConfig, text)
}

/// The text of a file, and when it was changed.
fn read(path: &Path) -> Result<(String, SystemTime), Failure> {
    let name = path.display();
    let unreadable = |error: std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::PermissionDenied => Kind::NoPermission,
            _ => Kind::BadConfig,
        };
        Failure::new(
            kind,
            format!("cannot read the contacts in {name}: {error}; see owner.contacts"),
        )
    };
    let file = File::options()
        .read(true)
        // A named pipe would wait for its writer.
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(bad(format!("{name}: this is not a regular file")));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(bad(format!(
            "{name}: the file is longer than {} MiB; name larger prefixes",
            MAX_FILE >> 20
        )));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        bad(format!("{name}:{line}: this is no text in UTF-8"))
    })?;
    Ok((text, metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)))
}

/// The fields of an entry, as text.
#[derive(Debug, Default)]
struct Fields {
    prefix: Option<String>,
    next_hop: Option<String>,
    name: Option<String>,
    mail: Vec<String>,
    phone: Option<String>,
    note: Option<String>,
}

impl Fields {
    /// The entry that they are.
    fn entry(self, line: usize) -> Result<Entry, Wrong> {
        let wrong = |field: &str, what: String| (line, format!("{field}: {what}"));
        let key = match (self.prefix, self.next_hop) {
            (Some(text), None) => prefix::parse(&text)
                .map(Key::Prefix)
                .map_err(|error| wrong("prefix", error))?,
            (None, Some(text)) => text
                .parse::<IpAddr>()
                .map(|hop| Key::NextHop(hop.to_canonical()))
                .map_err(|_| {
                    let example = "expected one such as 198.51.100.7";
                    wrong("next_hop", format!("{text:?} is no address: {example}"))
                })?,
            (Some(_), Some(_)) => {
                let what = "a contact has a prefix or a next_hop, not both; write it twice";
                return Err((line, what.to_owned()));
            }
            (None, None) => {
                let what = "a contact needs a prefix such as \"192.0.2.0/24\", or a next_hop";
                return Err((line, what.to_owned()));
            }
        };
        let name = self
            .name
            .ok_or((line, "a contact needs a name".to_owned()))?;
        check_text(&name).map_err(|error| wrong("name", error))?;
        if self.mail.len() > MAX_MAILS {
            let what = format!(
                "{} addresses: expected at most {MAX_MAILS}",
                self.mail.len()
            );
            return Err(wrong("mail", what));
        }
        for mail in &self.mail {
            check_mail(mail).map_err(|error| wrong("mail", error))?;
        }
        for (field, text) in [("phone", &self.phone), ("note", &self.note)] {
            if let Some(text) = text {
                check_text(text).map_err(|error| wrong(field, error))?;
            }
        }
        Ok(Entry {
            key,
            contact: Contact {
                name,
                mail: self.mail,
                phone: self.phone,
                note: self.note,
            },
            line,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Contacts of files with these names and texts, in a folder of their own.
    fn loaded(files: &[(&str, &[u8])]) -> Result<Contacts, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut paths = Vec::new();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("written");
            paths.push(path);
        }
        Contacts::load(&paths).map_err(|failure| {
            assert_eq!(failure.kind, Kind::BadConfig, "{failure}");
            let text = failure.to_string();
            let folder = format!("{}/", folder.path().display());
            text.replace(&folder, "")
        })
    }

    fn named(contacts: &Contacts, address: &str) -> Option<(String, usize)> {
        let written = contacts.of(address.parse().expect("an address"))?;
        Some((written.contact.name.clone(), written.line))
    }

    const TOML: &str = "# whom we serve\n[[contact]]\nprefix = \"192.0.2.0/24\"\nname = \"Physics\"\n\
        mail = [\"abuse@physics.example\", \"head@physics.example\"]\nphone = \"+49 30 1\"\nnote = \"by day\"\n\n\
        [[contact]]\nprefix = \"192.0.2.128/25\"\nname = \"Optics\"\nmail = \"optics@physics.example\"\n\n\
        [[contact]]\nnext_hop = \"198.51.100.7\"\nname = \"Dormitory\"\n";

    #[test]
    fn both_forms_are_read_and_the_longest_prefix_is_right() {
        let csv = "name,prefix,next_hop,mail\r\n# a remark\r\n\"Law, \"\"new\"\"\",2001:db8::/32,,a@law.example b@law.example\r\n\
            Router,,2001:db8::1,\r\n";
        let contacts =
            loaded(&[("a.toml", TOML.as_bytes()), ("b.csv", csv.as_bytes())]).expect("good");
        assert_eq!(
            named(&contacts, "192.0.2.1"),
            Some(("Physics".to_owned(), 2))
        );
        assert_eq!(
            named(&contacts, "192.0.2.200"),
            Some(("Optics".to_owned(), 9))
        );
        assert_eq!(
            named(&contacts, "2001:db8::9"),
            Some(("Law, \"new\"".to_owned(), 3))
        );
        assert_eq!(named(&contacts, "203.0.113.1"), None);
        let behind = |hop: &str| {
            let written = contacts.behind(hop.parse().expect("an address"))?;
            Some(written.contact.name.clone())
        };
        assert_eq!(behind("::ffff:198.51.100.7").as_deref(), Some("Dormitory"));
        assert_eq!(behind("2001:db8::1").as_deref(), Some("Router"));
        assert_eq!(behind("198.51.100.8"), None);
        let law = contacts
            .of("2001:db8::9".parse().expect("an address"))
            .expect("law");
        assert_eq!(law.contact.mail, ["a@law.example", "b@law.example"]);
        assert!(law.file.ends_with("b.csv"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let deep = format!("x = {}", "[".repeat(100_000));
        let many = format!(
            "[[contact]]\nprefix = \"192.0.2.0/24\"\nname = \"a\"\nmail = [{}]\n",
            "\"a@b.c\",".repeat(9)
        );
        for (name, text, expected) in [
            (
                "a.toml",
                "[[contact]]\nprefix = \"192.0.2.1/24\"\nname = \"a\"\n",
                "a.toml:1: prefix: 192.0.2.1/24 has bits",
            ),
            (
                "a.toml",
                "[[contact]]\nname = \"a\"\n",
                "a.toml:1: a contact needs a prefix",
            ),
            (
                "a.toml",
                "\n[[contact]]\nprefix = \"192.0.2.0/24\"\n",
                "a.toml:2: a contact needs a name",
            ),
            (
                "a.toml",
                "\n\n[[contact]]\nprefx = 1\n",
                "a.toml:4: unknown field `prefx`",
            ),
            ("a.toml", "[[contact]]\nprefix = 7\n", "a.toml:2: "),
            ("a.toml", "[contact\n", "a.toml:1: "),
            ("a.toml", &deep, "a.toml:1: "),
            (
                "a.toml",
                "[[contact]]\nprefix = \"192.0.2.0/24\"\nname = \"a\\r\\nBcc: x\"\n",
                "a.toml:1: name: ",
            ),
            (
                "a.toml",
                "[[contact]]\nnext_hop = \"router\"\nname = \"a\"\n",
                "a.toml:1: next_hop: \"router\" is no address",
            ),
            (
                "a.toml",
                &many,
                "a.toml:1: mail: 9 addresses: expected at most 8",
            ),
            ("a.csv", "", "a.csv:1: the first record names the fields"),
            (
                "a.csv",
                "name,prefix\nPhysics,192.0.2.0/24\nLaw\n",
                "a.csv:3: 1 fields, but the first record names 2",
            ),
            (
                "a.csv",
                "name,prefix\nPhysics,192.0.2.0/33\n",
                "a.csv:2: prefix: ",
            ),
            (
                "a.csv",
                "name,prefix,mail\n\nPhysics,192.0.2.0/24,a@b.c\"\n",
                "a.csv:3: a quote",
            ),
            (
                "a.csv",
                "name,prefix\n\"Physics,192.0.2.0/24\n",
                "a.csv:2: a quoted field does not end",
            ),
            (
                "a.csv",
                "name,colour\n",
                "a.csv:1: there is no field \"colour\"",
            ),
            (
                "a.csv",
                "name,prefix,name\n",
                "a.csv:1: the field name is named twice",
            ),
            (
                "a.csv",
                "name,prefix\n\"a\nb\",192.0.2.0/24\n",
                "a.csv:2: name: ",
            ),
            (
                "a.csv",
                "name,prefix,mail\nx,192.0.2.0/24,a@b.c\\r\n",
                "a.csv:2: mail: ",
            ),
            (
                "a.csv",
                "name,prefix\na,192.0.2.0/24\nb,192.0.2.0/24\n",
                "a.csv:3: 192.0.2.0/24 has a contact in a.csv:2 already",
            ),
            (
                "a.txt",
                "",
                "a.txt: the name of a file with contacts ends in",
            ),
        ] {
            let error = loaded(&[(name, text.as_bytes())]).expect_err(expected);
            assert!(error.starts_with(expected), "{error:?} for {expected:?}");
            assert!(!error.contains('\n'), "{error:?}");
        }
        let error =
            loaded(&[("a.csv", b"name,prefix\n\xff,192.0.2.0/24\n")]).expect_err("no UTF-8");
        assert_eq!(error, "a.csv:2: this is no text in UTF-8");
    }

    #[test]
    fn two_files_may_not_name_the_same() {
        let error = loaded(&[
            ("a.toml", TOML.as_bytes()),
            ("b.csv", b"prefix,name\n192.0.2.0/24,x\n"),
        ]);
        let error = error.expect_err("twice");
        assert!(
            error.starts_with("b.csv:2: 192.0.2.0/24 has a contact in a.toml:2"),
            "{error}"
        );
    }

    #[test]
    fn a_file_of_hostile_length_or_kind_is_refused() {
        let long = vec![b'\n'; MAX_FILE as usize + 1];
        let error = loaded(&[("a.csv", &long)]).expect_err("too long");
        assert!(error.contains("longer than 8 MiB"), "{error}");
        let field = format!("name,prefix\n{},192.0.2.0/24\n", "x".repeat(1 << 20));
        let error = loaded(&[("a.csv", field.as_bytes())]).expect_err("a long field");
        assert!(
            error.starts_with("a.csv:2: a field is longer"),
            "{error:.100}"
        );
        let failure = Contacts::load(&[PathBuf::from("/nonexistent/a.csv")]).expect_err("none");
        assert!(failure.to_string().contains("owner.contacts"), "{failure}");
        let failure = Contacts::load(&[PathBuf::from("/dev")]).expect_err("a folder");
        assert!(failure.to_string().contains("regular file"), "{failure}");
    }
}
