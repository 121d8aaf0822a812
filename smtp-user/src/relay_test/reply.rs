//! Replies of a server (RFC 5321, section 4.2), from the octets that it sends.
//!
//! Contract: whatever comes in, memory stays below [`LINE`] octets and [`LINES`] lines for each reply, and
//! what is no reply is told as [`Malformed`]. A line ends with LF; a CR before it is no part of it.

use std::fmt;

/// The longest line, without its end. RFC 5321 (section 4.5.3.1.5) has 512.
pub(super) const LINE: usize = 2048;
/// Most lines of one reply: servers with many extensions answer EHLO with about twenty.
pub(super) const LINES: usize = 64;

/// Why something is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// Longer than [`LINE`].
    LongLine,
    /// More than [`LINES`].
    ManyLines,
    /// No three digits with a space or a hyphen behind them.
    NoCode,
    /// Lines of one reply with different codes.
    TwoCodes,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LongLine => write!(f, "a line of more than {LINE} octets"),
            Self::ManyLines => write!(f, "a reply of more than {LINES} lines"),
            Self::NoCode => f.write_str("a line without a code of SMTP"),
            Self::TwoCodes => f.write_str("a reply with two codes"),
        }
    }
}

/// A whole reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// 200 to 599.
    pub(super) code: u16,
    /// What stands behind the code in each line; at least one.
    pub(super) lines: Vec<Vec<u8>>,
}

impl Reply {
    /// 2: done; 3: go on; 4: not now; 5: no.
    pub(super) const fn class(&self) -> u16 {
        self.code / 100
    }

    /// The first line's text.
    pub(super) fn text(&self) -> &[u8] {
        self.lines.first().map_or(&[], Vec::as_slice)
    }
}

/// Cuts octets into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
}

impl Lines {
    /// Takes one octet; gives the line that it ends.
    pub(super) fn push(&mut self, octet: u8) -> Result<Option<Vec<u8>>, Malformed> {
        if octet == b'\n' {
            let mut line = std::mem::take(&mut self.line);
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return Ok(Some(line));
        }
        // One more for the CR of a line that is as long as it may be.
        if self.line.len() > LINE || (self.line.len() == LINE && octet != b'\r') {
            return Err(Malformed::LongLine);
        }
        self.line.push(octet);
        Ok(None)
    }

    /// What has come of a line that is not over.
    pub(super) fn begun(&self) -> &[u8] {
        &self.line
    }
}

/// Puts lines together to replies.
#[derive(Debug, Default)]
pub(super) struct Replies {
    begun: Option<Reply>,
}

impl Replies {
    /// Takes one line; gives the reply that it ends.
    pub(super) fn push(&mut self, line: &[u8]) -> Result<Option<Reply>, Malformed> {
        let (code, is_last, text) = split(line).ok_or(Malformed::NoCode)?;
        let mut reply = self.begun.take().unwrap_or(Reply {
            code,
            lines: Vec::new(),
        });
        if reply.code != code {
            return Err(Malformed::TwoCodes);
        }
        if reply.lines.len() == LINES {
            return Err(Malformed::ManyLines);
        }
        reply.lines.push(text.to_vec());
        if is_last {
            return Ok(Some(reply));
        }
        self.begun = Some(reply);
        Ok(None)
    }
}

/// Code, whether it is the last line, and text. A code alone is a last line without text: section 4.2 wants
/// clients to take that.
fn split(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    let [
        first @ b'2'..=b'5',
        second @ b'0'..=b'9',
        third @ b'0'..=b'9',
    ] = digits
    else {
        return None;
    };
    let value = |digit: &u8| u16::from(digit - b'0');
    let code = value(first) * 100 + value(second) * 10 + value(third);
    match rest {
        [] => Some((code, true, rest)),
        [b' ', text @ ..] => Some((code, true, text)),
        [b'-', text @ ..] => Some((code, false, text)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(octets: &[u8]) -> Result<Vec<Reply>, Malformed> {
        let (mut lines, mut replies) = (Lines::default(), Replies::default());
        let mut found = Vec::new();
        for octet in octets {
            if let Some(line) = lines.push(*octet)? {
                found.extend(replies.push(&line)?);
            }
        }
        Ok(found)
    }

    #[test]
    fn a_reply_of_one_line_and_one_of_many() {
        let replies = read(b"220 mx.example ESMTP\r\n250-mx.example\r\n250-SIZE\n250 STARTTLS\r\n");
        let replies = replies.expect("good replies");
        assert_eq!((replies[0].code, replies[0].class()), (220, 2));
        assert_eq!(replies[0].text(), b"mx.example ESMTP");
        assert_eq!(replies[1].lines, [&b"mx.example"[..], b"SIZE", b"STARTTLS"]);
    }

    #[test]
    fn a_code_alone_is_a_reply_and_text_may_be_anything() {
        assert_eq!(read(b"250\r\n").expect("a reply")[0].text(), b"");
        let reply = &read(b"554 \x1b[2J\0\rx\r\n").expect("a reply")[0];
        assert_eq!(reply.text(), b"\x1b[2J\0\rx");
    }

    #[test]
    fn what_is_no_reply_is_told_apart() {
        let no_codes: [&[u8]; 8] = [
            b"\r\n",
            b"25\r\n",
            b"hello there\r\n",
            b"150 x\r\n",
            b"600 x\r\n",
            b"25O x\r\n",
            b"250x\r\n",
            b" 250 x\r\n",
        ];
        for line in no_codes {
            assert_eq!(read(line), Err(Malformed::NoCode), "{line:?}");
        }
        assert_eq!(read(b"250-a\r\n550 b\r\n"), Err(Malformed::TwoCodes));
    }

    #[test]
    fn a_line_and_a_reply_have_an_end() {
        let line = |length: usize| {
            let mut line = b"250 ".to_vec();
            line.resize(length, b'x');
            line.extend(b"\r\n");
            line
        };
        assert_eq!(read(&line(LINE)).expect("as long as it may be").len(), 1);
        assert_eq!(read(&line(LINE + 1)), Err(Malformed::LongLine));
        let many = |count: usize| {
            let mut text = b"250-x\r\n".repeat(count - 1);
            text.extend(b"250 x\r\n");
            text
        };
        assert_eq!(
            read(&many(LINES)).expect("as many as there may be").len(),
            1
        );
        assert_eq!(read(&many(LINES + 1)), Err(Malformed::ManyLines));
    }

    proptest! {
        #[test]
        fn no_octets_panic_or_leave_the_bounds(octets in prop::collection::vec(any::<u8>(), 0..5000)) {
            let (mut lines, mut replies) = (Lines::default(), Replies::default());
            for octet in octets {
                let Ok(line) = lines.push(octet) else { break };
                prop_assert!(lines.begun().len() <= LINE + 1);
                if let Some(line) = line {
                    prop_assert!(line.len() <= LINE + 1);
                    match replies.push(&line) {
                        Ok(Some(reply)) => prop_assert!((200..600).contains(&reply.code)),
                        Ok(None) => {}
                        Err(_) => break,
                    }
                }
            }
        }
    }
}
