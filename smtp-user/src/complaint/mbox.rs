//! An mbox: messages one behind the other, each behind a line `From WHO WHEN` (RFC 4155).
//!
//! Contract: read in one pass; of each message no more than its first octets are held. A line that begins
//! with `From ` inside a message ends it only behind an empty line and with a time in it.

use std::io::{self, BufRead};

use super::{Intake, MAX_MESSAGE};

/// Most octets of a postmark.
const MAX_POSTMARK: usize = 1024;

/// Whether something that begins like this is an mbox.
pub(super) fn is_one(start: &[u8]) -> bool {
    let line = start.split(|b| *b == b'\n').next().unwrap_or_default();
    is_postmark(line)
}

fn is_postmark(line: &[u8]) -> bool {
    let time = |word: &[u8]| {
        let digits = |part: &[u8]| part.len() == 2 && part.iter().all(u8::is_ascii_digit);
        word.split(|b| *b == b':').count() >= 2 && word.split(|b| *b == b':').all(digits)
    };
    line.len() <= MAX_POSTMARK
        && line.starts_with(b"From ")
        && line.split(u8::is_ascii_whitespace).any(time)
}

/// Reads all messages; `name` is that of the file.
pub(super) fn read(name: &str, mut from: impl BufRead, intake: &mut Intake) -> io::Result<()> {
    let mut number = 0_u64;
    let mut message: Option<Vec<u8>> = None;
    let mut line = Vec::new();
    let mut after_empty = true;
    loop {
        let more = next_line(&mut from, &mut line)?;
        if !more || after_empty && is_postmark(&line) {
            if let Some(message) = message.take() {
                number += 1;
                intake.take_mail(&|| format!("{name}, message {number}"), &message);
            }
            if !more {
                return Ok(());
            }
            if intake.is_full() {
                intake.refuse(name.to_owned(), super::source::TOO_MANY);
                return Ok(());
            }
            message = Some(Vec::new());
            after_empty = false;
            continue;
        }
        after_empty = matches!(&line[..], b"\n" | b"\r\n");
        if let Some(message) = &mut message {
            let room = MAX_MESSAGE - message.len();
            message.extend_from_slice(&line[..line.len().min(room)]);
        }
    }
}

/// The next line with its end, or as much of it as a message may have; whether there was one.
fn next_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    loop {
        let buffer = match from.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if buffer.is_empty() {
            return Ok(!line.is_empty());
        }
        let end = buffer.iter().position(|b| *b == b'\n');
        let used = end.map_or(buffer.len(), |end| end + 1);
        let room = MAX_MESSAGE - line.len();
        line.extend_from_slice(&buffer[..used.min(room)]);
        from.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{BOT, arf, intake};
    use super::*;

    fn of(text: &[u8]) -> (Vec<String>, u64) {
        let mut intake = intake();
        // A buffer of few octets meets every border.
        read("box", io::BufReader::with_capacity(7, text), &mut intake).expect("read");
        let taken = intake.done();
        let addresses = taken.complaints.iter();
        (
            addresses.map(|c| c.address.to_string()).collect(),
            taken.refused,
        )
    }

    #[test]
    fn messages_are_told_apart_by_their_postmarks() {
        let mark = "From reports@isp.example Tue Nov 24 14:00:00 2026\n";
        let quoting = format!(
            "{}\nFrom here on 10 of 20 are bad.\n>From there 10:00:00\n\n",
            arf(BOT)
        );
        let text = format!(
            "{mark}{quoting}{mark}Subject: hello\n\nFrom \n\n{mark}{}\n",
            arf("192.0.2.67")
        );
        assert_eq!(
            of(text.as_bytes()),
            (vec![BOT.to_owned(), "192.0.2.67".to_owned()], 1)
        );
        let text = text.replace('\n', "\r\n");
        assert_eq!(of(text.as_bytes()).0.len(), 2);
        // Without the last end of a line, and with no line at all.
        assert_eq!(
            of(format!("{mark}{}", arf(BOT).trim_end()).as_bytes())
                .0
                .len(),
            1
        );
        assert_eq!(of(b""), (Vec::new(), 0));
        assert_eq!(of(mark.as_bytes()), (Vec::new(), 1));
    }

    #[test]
    fn a_line_inside_a_message_is_no_postmark_without_an_empty_line_and_a_time() {
        for (line, expected) in [
            ("From a@b Tue Nov 24 14:00:00 2026", true),
            ("From MAILER-DAEMON Tue Nov 24 14:00 2026", true),
            ("From here to there", false),
            ("From a:b", false),
            ("from a@b Tue Nov 24 14:00:00 2026", false),
            ("From: a@b 14:00:00", false),
            ("", false),
        ] {
            assert_eq!(is_postmark(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn a_giant_message_costs_its_first_octets_and_no_other_message() {
        let mark = b"From reports@isp.example Tue Nov 24 14:00:00 2026\n".as_slice();
        let giant = [
            mark,
            b"Subject: x\n\n",
            &b"x".repeat(3 * MAX_MESSAGE),
            b"\n\n",
        ]
        .concat();
        let text = [&giant[..], mark, arf(BOT).as_bytes()].concat();
        let mut intake = intake();
        read("box", io::BufReader::new(&text[..]), &mut intake).expect("read");
        let taken = intake.done();
        assert_eq!((taken.complaints.len(), taken.refused), (1, 1));
        assert_eq!(taken.refusals[0].place, "box, message 1");
    }
}
