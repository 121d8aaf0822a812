//! Where an entry stands in the journal, as journalctl writes it (`__CURSOR`).
//!
//! Contract: what is no cursor is none, so that nothing else becomes a word of a command line. An entry that journald
//! has copied into another file (from /run to /var at the start of a machine) is the same entry.
#![forbid(unsafe_code)]

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest cursor: six fields of up to 33 characters each are known.
const LONGEST: usize = 512;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor(String);

impl Cursor {
    /// As `s=5a1b;i=2f;b=77c0;m=1f4;t=63f2;x=9e`: fields of a letter and a number in hexadecimal.
    pub fn parse(text: &str) -> Option<Self> {
        let is_field = |field: &str| {
            field.split_once('=').is_some_and(|(name, value)| {
                name.len() == 1
                    && name.bytes().all(|octet| octet.is_ascii_lowercase())
                    && !value.is_empty()
                    && value.bytes().all(|octet| octet.is_ascii_hexdigit())
            })
        };
        let good = text.len() <= LONGEST && text.split(';').all(is_field);
        good.then(|| Self(text.to_owned()))
    }

    /// Whether both stand at the same entry. Its number, and the series that it is a number of, are those of the file:
    /// a copy has others, but is of the same boot and time, and has the same checksum.
    pub fn is_at(&self, other: &Self) -> bool {
        let (one, two) = (self.of_entry(), other.of_entry());
        self == other || (one.clone().count() == 4 && one.eq(two))
    }

    fn of_entry(&self) -> impl Iterator<Item = &str> + Clone {
        let is_of_entry =
            |field: &&str| matches!(field.as_bytes(), [b'b' | b'm' | b't' | b'x', ..]);
        self.0.split(';').filter(is_of_entry)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        cursor.0
    }
}

impl TryFrom<String> for Cursor {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is no cursor of the journal"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As systemd 252 writes it.
    const CURSOR: &str = "s=3a7f6d0a7a5e4c7fb5c1f6c0a1b2c3d4;i=2f1;b=77c0f6d0a7a5e4c7fb5c1f6c0a1b2c3d;m=1f4a2b;t=63f2a1b2c3d4e;x=9e1f2a3b4c5d6e7f";

    fn cursor(text: &str) -> Cursor {
        Cursor::parse(text).unwrap_or_else(|| panic!("{text} is one"))
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        assert_eq!(cursor(CURSOR).to_string(), CURSOR);
        let long = format!("s={}", "a".repeat(LONGEST));
        for text in [
            "",
            "s",
            "s=",
            "=1",
            "s=1;",
            "s=1;i=2 --file=/etc/passwd",
            "s=1\n",
            "s=xyz",
            "sb=1",
            &long,
        ] {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
        let json = serde_json::to_string(&cursor(CURSOR)).expect("JSON");
        let back: Cursor = serde_json::from_str(&json).expect("a cursor");
        assert_eq!(back, cursor(CURSOR));
        serde_json::from_str::<Cursor>("\"--all\"").expect_err("no cursor");
    }

    #[test]
    fn a_copy_of_an_entry_is_the_same_entry() {
        let here = cursor(CURSOR);
        let copied = cursor(&CURSOR.replace("s=3a7f", "s=ffff").replace("i=2f1", "i=3"));
        assert!(here.is_at(&here) && here.is_at(&copied) && copied.is_at(&here));
        for (field, other) in [
            ("b=77c0", "b=77c1"),
            ("m=1f4a", "m=1f4b"),
            ("t=63f2", "t=63f3"),
            ("x=9e1f", "x=9e1e"),
        ] {
            assert!(
                !here.is_at(&cursor(&CURSOR.replace(field, other))),
                "{field}"
            );
        }
        // With less in it nothing is known of the entry.
        let (one, two) = (cursor("s=1;i=1;t=9"), cursor("s=1;i=2;t=9"));
        assert!(one.is_at(&one) && !one.is_at(&two));
    }
}
