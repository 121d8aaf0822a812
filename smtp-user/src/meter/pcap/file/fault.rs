//! What can be wrong with a capture file.

use std::fmt;
use std::io;

use super::LinkType;

/// Why reading a capture file ended before its end. The text follows "cannot read FILE: ".
#[derive(Debug)]
pub enum Fault {
    /// The operating system says no.
    Io(io::Error),
    /// There is nothing in it.
    Empty,
    /// It is something else.
    NotACapture {
        /// What it is, if that can be told, and how to make a capture of it.
        found: String,
    },
    /// It ends inside a record.
    Cut {
        /// Where that record starts.
        start: u64,
    },
    /// A record contradicts itself or the format.
    Corrupt {
        /// Where that record starts.
        start: u64,
        /// What is wrong with it.
        why: String,
    },
    /// Packets that begin with a header which is not read.
    LinkType {
        /// The number of the link type.
        number: u32,
        /// Which interface of a pcapng file has it.
        interface: Option<u32>,
    },
}

impl Fault {
    pub(super) fn corrupt(start: u64, why: impl Into<String>) -> Self {
        Self::Corrupt {
            start,
            why: why.into(),
        }
    }

    pub(super) fn not_a_capture(start: &[u8]) -> Self {
        let found = match start {
            [0x1f, 0x8b, ..] => "compressed with gzip: unpack it with `gunzip` first".into(),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => "compressed with zstd: unpack it with `unzstd`".into(),
            [0xfd, b'7', b'z', b'X', b'Z', ..] => {
                "compressed with xz: unpack it with `unxz`".into()
            }
            _ => {
                let octets: Vec<String> = start
                    .iter()
                    .take(4)
                    .map(|octet| format!("{octet:02x}"))
                    .collect();
                format!(
                    "neither pcap nor pcapng (it begins with {}): record one with \
                     `tcpdump -w FILE` or convert it with `editcap`",
                    octets.join(" ")
                )
            }
        };
        Self::NotACapture { found }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) if error.kind() == io::ErrorKind::IsADirectory => {
                write!(f, "it is a directory: name a capture file in it")
            }
            Self::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                write!(f, "there is no such file: check the path")
            }
            Self::Io(error) => write!(f, "{error}"),
            Self::Empty => write!(
                f,
                "the file is empty: record a capture with `tcpdump -w FILE`"
            ),
            Self::NotACapture { found } => write!(f, "it is {found}"),
            Self::Cut { start: 0 } => write!(
                f,
                "it ends inside its own header: it was cut short, or is still being written"
            ),
            Self::Cut { start } => write!(
                f,
                "it ends inside the record at byte {start}: it was cut short, or is still being \
                 written; all before that byte is counted"
            ),
            Self::Corrupt { start, why } => write!(
                f,
                "it is damaged at byte {start}: {why}; all before that byte is counted, and \
                 `editcap` or `pcapfix` may save some of what follows"
            ),
            Self::LinkType { number, interface } => {
                match interface {
                    Some(interface) => write!(f, "packets of interface {interface} are")?,
                    None => write!(f, "its packets are")?,
                }
                write!(
                    f,
                    " of link type {number}, which is not read: capture on an interface whose \
                     packets begin with one of {}",
                    LinkType::READ
                )
            }
        }
    }
}
