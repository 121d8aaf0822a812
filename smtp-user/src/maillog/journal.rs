//! Reads the journal of systemd by `journalctl`: once and to its end here, and without an end in [`follow`].
//!
//! Contract: entries of the facility mail are handed over once and in order. A line of `journalctl` has at most
//! `LIMIT` octets, and a longer one is dropped and counted. A message that
//! is no UTF-8 is taken as the octets that it is; one of more than [`LINE_LIMIT`] octets, or one that journalctl does
//! not show, being too large, is counted and not handed over.
//! `journalctl` is ended with the reader.
#![forbid(unsafe_code)]

mod cursor;
pub mod follow;

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use self::cursor::Cursor;
use super::line::LINE_LIMIT;
use crate::failure::{Failure, Kind};

/// Longest line in JSON: a message of [`LINE_LIMIT`] octets, each escaped in six, with its other fields.
const LIMIT: usize = 64 * 1024;
/// The facility mail (syslog(3)) as the journal has it.
const FACILITY: &str = "SYSLOG_FACILITY=2";
/// What is asked for, however it is read.
const WORDS: [&str; 6] = [
    "--output=json",
    "--all",
    "--quiet",
    "--no-pager",
    // Beside what every entry has.
    "--output-fields=MESSAGE,SYSLOG_IDENTIFIER,_HOSTNAME",
    FACILITY,
];

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When the journal took it, in seconds since 1970.
    pub time: i64,
    /// The host.
    pub host: String,
    /// The program's name for itself, such as `postfix/smtpd`.
    pub program: String,
    /// What it says.
    pub message: Vec<u8>,
}

/// An entry as journalctl writes it (systemd's JOURNAL_EXPORT_FORMATS, "Journal JSON Format").
#[derive(Deserialize)]
struct Written {
    #[serde(rename = "__CURSOR", default)]
    cursor: Option<String>,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    time: String,
    #[serde(rename = "_HOSTNAME", default)]
    host: Option<Text>,
    #[serde(rename = "SYSLOG_IDENTIFIER", default)]
    program: Option<Text>,
    #[serde(rename = "MESSAGE", default)]
    message: Option<Text>,
}

/// A field: text; octets, if it is no UTF-8 or has control characters; several, if it was given more than once.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Octets(Vec<u8>),
    Several(#[expect(dead_code, reason = "which of them was meant, nobody knows")] Vec<String>),
}

impl Text {
    fn into_octets(self) -> Option<Vec<u8>> {
        match self {
            Self::Plain(text) => Some(text.into_bytes()),
            Self::Octets(octets) => Some(octets),
            // Which of them the server meant, nobody knows.
            Self::Several(_) => None,
        }
    }

    fn into_string(self) -> Option<String> {
        self.into_octets()
            .and_then(|text| String::from_utf8(text).ok())
    }
}

/// What a line of journalctl is.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Entry(Entry),
    /// An entry that says nothing that could be read.
    Hidden,
}

/// What a line says, and where in the journal that stands; `None` if it is none of journalctl's.
fn parse(line: &[u8]) -> Option<(Line, Option<Cursor>)> {
    let written: Written = serde_json::from_slice(line).ok()?;
    let microseconds: i64 = written.time.parse().ok()?;
    let cursor = written.cursor.as_deref().and_then(Cursor::parse);
    let message = written.message.and_then(Text::into_octets);
    let (Some(message), Some(program)) = (message, written.program.and_then(Text::into_string))
    else {
        return Some((Line::Hidden, cursor));
    };
    if message.len() > LINE_LIMIT {
        return Some((Line::Hidden, cursor));
    }
    let entry = Entry {
        time: microseconds.div_euclid(1_000_000),
        host: written.host.and_then(Text::into_string).unwrap_or_default(),
        program,
        message,
    };
    Some((Line::Entry(entry), cursor))
}

/// The place that a text says, for tests elsewhere.
#[cfg(test)]
pub(super) fn cursor(text: &str) -> Option<Cursor> {
    Cursor::parse(text)
}

/// What became of journalctl's lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct JournalCounts {
    /// Entries that were handed over.
    pub entries: u64,
    /// Entries whose message is too large, or given more than once.
    pub hidden: u64,
    /// Lines that are too long, or no entry.
    pub unread: u64,
}

fn not_started(error: &io::Error) -> Failure {
    Failure::new(
        Kind::Unavailable,
        format!(
            "cannot start journalctl to read the journal: {error}; without systemd name the log's files instead"
        ),
    )
}

/// See the module.
#[derive(Debug)]
pub struct Journal {
    child: Child,
    output: BufReader<ChildStdout>,
    line: Vec<u8>,
    counts: JournalCounts,
}

impl Journal {
    /// Starts `journalctl` with the entries that are there.
    pub fn start() -> Result<Self, Failure> {
        Self::start_with(Command::new("journalctl"))
    }

    fn start_with(mut command: Command) -> Result<Self, Failure> {
        command
            .args(WORDS)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command.spawn().map_err(|error| not_started(&error))?;
        let output = child.stdout.take().ok_or_else(|| {
            Failure::new(Kind::Failed, "journalctl was started without its output")
        })?;
        Ok(Self {
            child,
            output: BufReader::with_capacity(LIMIT, output),
            line: Vec::new(),
            counts: JournalCounts::default(),
        })
    }

    /// Waits for the next entry; `None` when journalctl has ended.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        loop {
            self.line.clear();
            let limit = LIMIT as u64 + 1;
            let count = (&mut self.output)
                .take(limit)
                .read_until(b'\n', &mut self.line)?;
            if count == 0 {
                return Ok(None);
            }
            if self.line.last() != Some(&b'\n') {
                self.counts.unread += 1;
                if !self.skip_line()? {
                    return Ok(None);
                }
                continue;
            }
            match parse(&self.line) {
                Some((Line::Entry(entry), _)) => {
                    self.counts.entries += 1;
                    return Ok(Some(entry));
                }
                Some((Line::Hidden, _)) => self.counts.hidden += 1,
                None => self.counts.unread += 1,
            }
        }
    }

    /// Up to the end of a line that is too long; whether there is one.
    fn skip_line(&mut self) -> io::Result<bool> {
        loop {
            let buffer = self.output.fill_buf()?;
            if buffer.is_empty() {
                return Ok(false);
            }
            let end = buffer.iter().position(|octet| *octet == b'\n');
            let count = end.map_or(buffer.len(), |end| end + 1);
            self.output.consume(count);
            if end.is_some() {
                return Ok(true);
            }
        }
    }

    /// What became of the lines so far.
    pub const fn counts(&self) -> JournalCounts {
        self.counts
    }

    /// How journalctl ended, once [`Journal::next_entry`] has said that it has.
    pub fn end(mut self) -> anyhow::Result<()> {
        let status = self.child.wait().context("cannot wait for journalctl")?;
        ensure!(
            status.success(),
            "journalctl ended with {status}: see above what it says; only root and the group systemd-journal \
             may read all of the journal"
        );
        Ok(())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // It has ended by itself, or it has nobody to write to.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As systemd 257 writes it.
    const ENTRY: &str = r#"{"__CURSOR":"s=5a1b;i=2f;b=77c0;m=1f4;t=63f2;x=9e","__REALTIME_TIMESTAMP":"1795773600123456","__MONOTONIC_TIMESTAMP":"500","_BOOT_ID":"77c0","_HOSTNAME":"mx1","SYSLOG_IDENTIFIER":"postfix/qmgr","MESSAGE":"4ABCDE12345: removed"}"#;

    fn entry(line: &str) -> Entry {
        match parse(line.as_bytes()) {
            Some((Line::Entry(entry), Some(_))) => entry,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn an_entry_is_read_as_journalctl_writes_it() {
        let found = entry(ENTRY);
        assert_eq!(found.time, 1_795_773_600);
        assert_eq!(
            (found.host.as_str(), found.program.as_str()),
            ("mx1", "postfix/qmgr")
        );
        assert_eq!(found.message, b"4ABCDE12345: removed");
    }

    #[test]
    fn a_message_may_be_octets_or_hidden() {
        let octets = ENTRY.replace("\"4ABCDE12345: removed\"", "[65,255,27]");
        assert_eq!(entry(&octets).message, [65, 255, 27]);
        let longest = "x".repeat(LINE_LIMIT);
        let line = ENTRY.replace("4ABCDE12345: removed", &longest);
        assert_eq!(entry(&line).message, longest.as_bytes());
        let longer = format!("\"{longest}x\"");
        for message in ["null", "[\"one\",\"two\"]", &longer] {
            let line = ENTRY.replace("\"4ABCDE12345: removed\"", message);
            assert!(
                matches!(parse(line.as_bytes()), Some((Line::Hidden, Some(_)))),
                "{line}"
            );
        }
        for line in [
            "",
            "{}",
            "[]",
            "x",
            &ENTRY.replace("1795773600123456", "soon"),
        ] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_dropped_and_the_next_one_read() {
        // What is tested is the reading, of another program's output.
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("lines");
        let text = format!(
            "{{\"x\":\"{}\"}}\nnonsense\n{ENTRY}\n{ENTRY}",
            "x".repeat(LIMIT)
        );
        std::fs::write(&file, text).expect("written");
        let mut command = Command::new("sh");
        command.args(["-c", "exec cat \"$0\""]).arg(&file);
        let mut journal = Journal::start_with(command).expect("started");
        journal.next_entry().expect("read").expect("an entry");
        // Without its end it may be half of one.
        assert_eq!(journal.next_entry().expect("read"), None);
        let counts = JournalCounts {
            entries: 1,
            hidden: 0,
            unread: 3,
        };
        assert_eq!(journal.counts(), counts);
        journal.end().expect("a good end");
    }
}
