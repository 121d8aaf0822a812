//! What stands in front of a message: time, host, program.
//!
//! Contract: anchored at the first octet of the line; what a message holds cannot be taken for a head, since
//! nothing is searched for. The time is not looked at here, so that lines of other programs cost little.
#![forbid(unsafe_code)]

use super::time::Stamp;

/// Longest name of a program that is looked at: RFC 5424 has 48 octets.
const PROGRAM_LIMIT: usize = 64;
/// Longest name of a host (RFC 5424, section 6).
const HOST_LIMIT: usize = 255;

/// A line as syslog or Exim wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// When.
    pub stamp: Stamp<'a>,
    /// Which host wrote it; empty in Exim's own log.
    pub host: &'a [u8],
    /// Which program, such as `postfix/smtpd`, without its process number.
    pub program: &'a [u8],
    /// What it says.
    pub message: &'a [u8],
}

/// The head of a line: as in RFC 3164 and RFC 5424, the traditional form with the times of RFC 5424 (rsyslog's
/// own), or as in Exim's own log.
pub fn parse(line: &[u8]) -> Option<Head<'_>> {
    let line = priority(line);
    if let Some(rest) = line.strip_prefix(b"1 ") {
        return rfc5424(rest);
    }
    if let Some((stamp, rest)) = line.split_first_chunk::<15>()
        && stamp[0].is_ascii_uppercase()
        && stamp[3] == b' '
        && stamp[6] == b' '
    {
        return traditional(Stamp::Bsd(stamp), rest.strip_prefix(b" ")?);
    }
    match *line.get(10)? {
        b'T' if line[4] == b'-' => {
            let (stamp, rest) = word(line)?;
            traditional(Stamp::Iso(stamp), rest)
        }
        b' ' if line[4] == b'-' => exim(line),
        _ => None,
    }
}

/// The tag of a program as syslog's callers know it: `NAME[PID]: `.
pub fn tag(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text
        .iter()
        .take(PROGRAM_LIMIT + 1)
        .position(|octet| matches!(octet, b'[' | b':' | b' '))?;
    let (program, mut rest) = text.split_at(end);
    if let Some(pid) = rest.strip_prefix(b"[") {
        let digits = pid
            .iter()
            .take_while(|octet| octet.is_ascii_digit())
            .count();
        rest = pid[digits..].strip_prefix(b"]")?;
    }
    let message = rest.strip_prefix(b":")?;
    (!program.is_empty()).then_some((program, message.strip_prefix(b" ").unwrap_or(message)))
}

/// Takes off `<22>`.
fn priority(line: &[u8]) -> &[u8] {
    let Some(rest) = line.strip_prefix(b"<") else {
        return line;
    };
    let digits = rest
        .iter()
        .take_while(|octet| octet.is_ascii_digit())
        .count();
    match rest[digits..].strip_prefix(b">") {
        Some(rest) if (1..=3).contains(&digits) => rest,
        _ => line,
    }
}

/// Up to the next space, and what is behind it.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text
        .iter()
        .take(HOST_LIMIT + 1)
        .position(|octet| *octet == b' ')?;
    (end > 0).then(|| (&text[..end], &text[end + 1..]))
}

fn traditional<'a>(stamp: Stamp<'a>, rest: &'a [u8]) -> Option<Head<'a>> {
    let (host, rest) = word(rest)?;
    let (program, message) = tag(rest)?;
    Some(Head {
        stamp,
        host,
        program,
        message,
    })
}

/// `TIMESTAMP HOSTNAME APP-NAME PROCID MSGID SD MSG`.
fn rfc5424(rest: &[u8]) -> Option<Head<'_>> {
    let (stamp, rest) = word(rest)?;
    let (host, rest) = word(rest)?;
    let (program, rest) = word(rest)?;
    let (_pid, rest) = word(rest)?;
    let (_id, rest) = word(rest)?;
    let rest = structured_data(rest)?;
    // A byte order mark says that the message is UTF-8; here it is octets.
    let message = rest.strip_prefix(b"\xef\xbb\xbf").unwrap_or(rest);
    Some(Head {
        stamp: Stamp::Iso(stamp),
        host,
        program,
        message,
    })
}

/// What is behind `-` or `[id name="value"]...` and a space (RFC 5424, section 6.3).
fn structured_data(mut text: &[u8]) -> Option<&[u8]> {
    if let Some(rest) = text.strip_prefix(b"- ") {
        return Some(rest);
    }
    while let Some(element) = text.strip_prefix(b"[") {
        let (mut quoted, mut escaped) = (false, false);
        let end = element.iter().position(|octet| {
            let escape = escaped;
            escaped = quoted && !escape && *octet == b'\\';
            if *octet == b'"' && !escape {
                quoted = !quoted;
            }
            *octet == b']' && !quoted
        })?;
        text = &element[end + 1..];
    }
    text.strip_prefix(b" ")
}

/// Exim's own log: the time, the process number if it is asked for, the message.
fn exim(line: &[u8]) -> Option<Head<'_>> {
    let mut end = 19;
    if line.get(end) == Some(&b'.') {
        end += 1 + line[end + 1..]
            .iter()
            .take_while(|octet| octet.is_ascii_digit())
            .count();
    }
    if let Some([b' ', b'+' | b'-', zone @ ..]) = line.get(end..)
        && zone.len() > 4
        && zone[..4].iter().all(u8::is_ascii_digit)
        && zone[4] == b' '
    {
        end += 6;
    }
    let message = line.get(end..)?.strip_prefix(b" ")?;
    Some(Head {
        stamp: Stamp::Exim(&line[..end]),
        host: b"",
        program: b"exim",
        message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> Option<(String, String, String)> {
        let head = parse(line.as_bytes())?;
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        Some((text(head.host), text(head.program), text(head.message)))
    }

    #[test]
    fn every_form_of_a_head_is_read() {
        let expected = ("mx1", "postfix/smtpd", "connect from x[192.0.2.1]");
        let expected = (
            expected.0.to_owned(),
            expected.1.to_owned(),
            expected.2.to_owned(),
        );
        for line in [
            "Nov 27 10:00:00 mx1 postfix/smtpd[12]: connect from x[192.0.2.1]",
            "Nov  7 10:00:00 mx1 postfix/smtpd: connect from x[192.0.2.1]",
            "<22>Nov 27 10:00:00 mx1 postfix/smtpd[12]: connect from x[192.0.2.1]",
            "2026-11-27T10:00:00.123456+01:00 mx1 postfix/smtpd[12]: connect from x[192.0.2.1]",
            "<22>1 2026-11-27T10:00:00Z mx1 postfix/smtpd 12 - - connect from x[192.0.2.1]",
            "1 2026-11-27T10:00:00Z mx1 postfix/smtpd 12 - [a b=\"]\\\"\"][c] \u{feff}connect from x[192.0.2.1]",
        ] {
            assert_eq!(shown(line), Some(expected.clone()), "{line}");
        }
    }

    #[test]
    fn exim_writes_a_log_of_its_own() {
        for line in [
            "2026-11-27 10:00:00 1xAbCd-000123-AB Completed",
            "2026-11-27 10:00:00.123 1xAbCd-000123-AB Completed",
            "2026-11-27 10:00:00 +0100 1xAbCd-000123-AB Completed",
        ] {
            let head = parse(line.as_bytes()).expect(line);
            assert_eq!(head.message, b"1xAbCd-000123-AB Completed", "{line}");
            assert_eq!((head.host, head.program), (&b""[..], &b"exim"[..]));
        }
    }

    #[test]
    fn what_has_no_head_is_no_line_of_ours() {
        for line in [
            "",
            " ",
            "Nov 27 10:00:00",
            "Nov 27 10:00:00 mx1",
            "Nov 27 10:00:00 mx1 postfix/smtpd[12: x",
            "Nov 27 10:00:00 mx1 a program: x",
            "connect Nov 27 10:00:00 mx1 postfix/smtpd[12]: x",
            "client=x[192.0.2.1]",
            "1 2026-11-27T10:00:00Z mx1 postfix/smtpd 12 - [a b=\"c\" x",
            "<2222>Nov 27 10:00:00 mx1 postfix/smtpd[12]: x",
            "2026-11-27",
        ] {
            assert_eq!(shown(line), None, "{line}");
        }
    }
}
