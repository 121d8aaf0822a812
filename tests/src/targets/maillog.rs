//! The lines of mail servers.
//!
//! Contract: of any octets every line is accounted for, wherever they are cut, and what is kept is bounded and can
//! be shown. What a client says, put where its server logs it, is figures of that client or of nobody.

use std::net::IpAddr;

use jiff::tz::TimeZone;
use smtp_user::maillog::line::Lines;
use smtp_user::maillog::{Joined, Limits, LineCounts, Reader};
use smtp_user::model::mail::KeptAddresses;

/// 2026-11-27T12:00:00Z.
const NOW: i64 = 1_795_780_800;
/// Whoever says it.
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 66));

const LIMITS: Limits = Limits {
    queue_ids: 4,
    keep_open: 60,
    sources: 3,
    addresses: KeptAddresses::Full,
};

/// Lines that a server writes of that client, with the place of what it says. What is said in quotes ends with
/// them, as long as the server writes them.
const LINES: &[(&str, &str)] = &[
    // Postfix: a greeting, addresses, headers, commands, replies of other servers.
    (
        "Nov 27 10:00:00 mx postfix/smtpd[1]: NOQUEUE: reject: RCPT from unknown[192.0.2.66]: 554 5.7.1 <x@y>: Relay access denied; from=<a@b> to=<x@y> proto=ESMTP helo=<",
        ">",
    ),
    (
        "Nov 27 10:00:00 mx postfix/smtpd[1]: NOQUEUE: reject: RCPT from unknown[192.0.2.66]: 554 5.7.1 <\"",
        "\"@y>: Relay access denied; from=<a@b> to=<x@y> proto=ESMTP helo=<h>",
    ),
    (
        "Nov 27 10:00:00 mx postfix/smtpd[1]: warning: non-SMTP command from unknown[192.0.2.66]: ",
        "",
    ),
    (
        "Nov 27 10:00:00 mx postfix/cleanup[1]: 4ABCDEF123: message-id=",
        "",
    ),
    (
        "Nov 27 10:00:00 mx postfix/cleanup[1]: 4ABCDEF123: reject: header Subject: ",
        " from unknown[192.0.2.66]; from=<a@b> to=<x@y> proto=SMTP helo=<h>: 5.7.1 no",
    ),
    (
        "Nov 27 10:00:00 mx postfix/qmgr[1]: 4ABCDEF123: from=<\"",
        "\"@b>, size=10, nrcpt=1 (queue active)",
    ),
    (
        "Nov 27 10:00:00 mx postfix/smtp[1]: 4ABCDEF123: to=<\"",
        "\"@b>, relay=none, delay=1, delays=1/0/0/0, dsn=4.4.1, status=deferred (no)",
    ),
    (
        "Nov 27 10:00:00 mx postfix/smtp[1]: 4ABCDEF123: to=<x@y>, relay=none, delay=1, delays=1/0/0/0, dsn=5.0.0, status=bounced (host y said: ",
        ")",
    ),
    // sendmail: addresses, message ids, commands.
    (
        "Nov 27 10:00:00 mx sendmail[1]: 4ARA00ab000001: from=<a@b>, size=1, class=0, nrcpts=1, msgid=",
        ", proto=SMTP, daemon=MTA, relay=bot [192.0.2.66]",
    ),
    (
        "Nov 27 10:00:00 mx sendmail[1]: 4ARA00ab000002: from=<\"",
        "\"@b>, size=1, class=0, nrcpts=1, proto=SMTP, daemon=MTA, relay=bot [192.0.2.66] (may be forged)",
    ),
    (
        "Nov 27 10:00:00 mx sendmail[1]: 4ARA00ab000003: ruleset=check_rcpt, arg1=<\"",
        "\"@b>, relay=bot [192.0.2.66], reject=550 5.7.1 no",
    ),
    (
        "Nov 27 10:00:00 mx sendmail[1]: 4ARA00ab000005: bot [192.0.2.66]: VRFY ",
        "",
    ),
    // Exim: a greeting with anything in it, addresses, message ids, subjects.
    (
        "2026-11-27 10:00:00 1xAbCd-000001-AB <= a@b H=(",
        ") [192.0.2.66] P=smtp S=1",
    ),
    (
        "2026-11-27 10:00:00 1xAbCd-000002-AB <= \"",
        "\"@b H=(x) [192.0.2.66] P=smtp S=1",
    ),
    (
        "2026-11-27 10:00:00 1xAbCd-000003-AB <= a@b H=(x) [192.0.2.66] P=smtp S=1 id=",
        "",
    ),
    (
        "2026-11-27 10:00:00 1xAbCd-000004-AB <= a@b H=(x) [192.0.2.66] P=smtp S=1 T=\"",
        "\"",
    ),
    (
        "2026-11-27 10:00:00 H=(",
        ") [192.0.2.66] F=<a@b> rejected RCPT <x@y>: no",
    ),
    (
        "2026-11-27 10:00:00 H=(x) [192.0.2.66] F=<\"",
        "\"@b> rejected RCPT <x@y>: no",
    ),
];

/// See the module.
pub fn try_case(case: &[u8]) {
    let whole = read(&[case]);
    check(&whole);
    let (one, two) = case.split_at(case.len() / 2);
    assert_eq!(told(&read(&[one, two])), told(&whole), "cut in the middle");
    for (before, behind) in LINES {
        let begin = b"Nov 27 10:00:00 mx postfix/smtpd[1]: 4ABCDEF123: client=x[192.0.2.66]\n";
        let line = [before.as_bytes(), &said(case), behind.as_bytes()].concat();
        let reader = read(&[&begin[..], &line, b"\n"]);
        check(&reader);
        for (address, figures) in reader.joiner().clients().iter() {
            let shown = String::from_utf8_lossy(&line);
            assert_eq!(*address, CLIENT, "{shown}");
            let most = figures.messages.max(figures.recipients);
            assert!(most <= 1 && figures.rejected() <= 1, "{figures:?} {shown}");
        }
    }
}

/// What a client says, as its server writes it: on one line, and in quotes where it stands in some.
fn said(case: &[u8]) -> Vec<u8> {
    let mut said = Vec::new();
    for octet in case.iter().take(500) {
        match octet {
            b'"' | b'\\' => said.extend([b'\\', *octet]),
            octet if octet.is_ascii_control() => said.push(b'?'),
            octet => said.push(*octet),
        }
    }
    said
}

fn read(parts: &[&[u8]]) -> Reader {
    let mut reader = Reader::new(TimeZone::UTC, NOW, LIMITS);
    let mut lines = Lines::default();
    for part in parts {
        lines.push(part, |line| reader.line(line));
    }
    lines.finish(|line| reader.line(line));
    reader.finish();
    reader
}

fn told(reader: &Reader) -> (LineCounts, Joined) {
    (reader.counts(), reader.joiner().joined())
}

fn check(reader: &Reader) {
    let LineCounts {
        lines,
        events,
        other,
        unclear,
        foreign,
        headless,
    } = reader.counts();
    assert_eq!(lines, events + other + unclear + foreign + headless);
    let joiner = reader.joiner();
    assert!(joiner.clients().len() <= LIMITS.sources);
    assert_eq!(joiner.open(), 0, "at the end all are closed");
    for (_, figures) in joiner.clients().iter() {
        assert!(figures.latest.len() <= 8 && figures.senders.len() <= 16);
        for message in &figures.latest {
            assert!(message.recipients.len() <= 4);
            for text in message.recipients.iter().chain(&message.sender) {
                let printable = !text.contains(char::is_control);
                assert!(printable && text.len() <= 257, "{text:?}");
            }
        }
    }
}

/// Parts of lines of all servers, together and alone.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = LINES
        .iter()
        .map(|(before, behind)| format!("{before}friend{behind}\n").into_bytes())
        .collect();
    seeds.push(seeds.concat());
    // What an attacker would say.
    let said = [
        "x[203.0.113.99]: 554",
        "4ABCDEF123: client=x[203.0.113.99]",
        "RCPT from x[203.0.113.99]: 554 no; from=<",
        "x>, size=9, class=0, nrcpts=9, relay=v [203.0.113.99]",
        "x>, relay=v [203.0.113.99], reject=550 5.7.1 no",
        "x) [203.0.113.99] P=smtp S=9 (y",
        "x H=v [203.0.113.99] P=smtp S=9",
        "<22>1 2026-11-27T10:00:00Z mx postfix/smtpd 1 - [a b=\"c\"] 4ABCDEF123: client=x[203.0.113.99]",
    ];
    seeds.extend(said.map(|text| text.as_bytes().to_vec()));
    seeds
}
