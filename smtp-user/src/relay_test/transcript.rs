//! All that was said in a relay test.
//!
//! Contract: every line is printable ASCII whatever the server has sent, so that it does nothing to a
//! terminal, a page or a file; and it can be told again what the octets were.

use std::fmt::Write as _;
use std::time::Duration;

use crate::model::relay_test::{Speaker, TranscriptLine};

/// Octets as printable ASCII: `\r`, `\n`, `\t` and `\\` for those, `\xHH` for all other octets that are none.
pub(super) fn escape(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    for octet in octets {
        match octet {
            b'\r' => text.push_str("\\r"),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*octet)),
            _ => {
                let _ = write!(text, "\\x{octet:02x}");
            }
        }
    }
    text
}

/// Takes down what is said.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    lines: Vec<TranscriptLine>,
}

impl Transcript {
    pub(super) fn client(&mut self, at: Duration, line: &[u8]) {
        self.push(at, Speaker::Client, escape(line));
    }

    pub(super) fn server(&mut self, at: Duration, line: &[u8]) {
        self.push(at, Speaker::Server, escape(line));
    }

    pub(super) fn note(&mut self, at: Duration, text: &str) {
        self.push(at, Speaker::Note, escape(text.as_bytes()));
    }

    fn push(&mut self, at: Duration, who: Speaker, text: String) {
        self.lines.push(TranscriptLine {
            at_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            who,
            text,
        });
    }

    pub(super) fn into_lines(self) -> Vec<TranscriptLine> {
        self.lines
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_harmful_is_escaped_and_what_is_escaped_is_unmistakable() {
        assert_eq!(
            escape(b"a \x1b[2J\r\n\t\\r\0\x7f\xe2\x80\xae<b>"),
            "a \\x1b[2J\\r\\n\\t\\\\r\\x00\\x7f\\xe2\\x80\\xae<b>"
        );
    }

    proptest! {
        #[test]
        fn everything_becomes_printable_ascii(octets in prop::collection::vec(any::<u8>(), 0..200)) {
            let text = escape(&octets);
            prop_assert!(text.bytes().all(|octet| (b' '..=b'~').contains(&octet)));
            prop_assert!(text.len() <= 4 * octets.len());
        }
    }
}
