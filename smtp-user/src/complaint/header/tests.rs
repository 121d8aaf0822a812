//! Headers as spammers and servers write them, and as nobody should.

use proptest::prelude::*;

use super::super::tests::{check_kept, keep};
use super::*;

const HEADER: &str = "Return-Path: <bounce-joe=example.com@list.example>\r\n\
    Received: from laptop (host.campus.example [192.0.2.66])\r\n\
    \t(Authenticated sender: joe.doe (x))\r\n\
    \tby mx.isp.example (Postfix) with ESMTPSA id 4X1a2b3c4d\r\n\
    \tfor <ann@isp.example>; Tue, 24 Nov 2026 13:00:00 +0000\r\n\
    Delivered-To: ann@isp.example\r\n\
    X-Real-Name: Joe Doe\r\n\
    From: \"Joe Doe\" <joe.doe@campus.example>\r\n\
    To: =?utf-8?q?Ann_=40_home?= <ann@isp.example>, \"Bob @ work\" <bob@isp.example>\r\n\
    Cc: undisclosed-recipients:;\r\n\
    Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe_an_ann=40isp.example?=\r\n\
    Date: Tue, 24 Nov 2026 12:59:00 +0000\r\n\
    Message-ID: <4711.abc@laptop>\r\n\
    X-Mailer: Bulk 1.0\r\n\r\n\
    Dear ann@isp.example\r\n";

/// What must not be in what leaves, where only domains are kept.
const PEOPLE: [&str; 5] = ["joe", "ann", "bob", "Joe", "Doe"];

fn kept(addresses: KeptAddresses, header: &str) -> String {
    let kept = keep(addresses)
        .header(header.as_bytes())
        .unwrap_or_default();
    if !kept.is_empty() {
        check_kept(&kept);
    }
    kept
}

fn token(text: &str) -> String {
    keep(KeptAddresses::Domain).token(text)
}

#[test]
fn all_of_it_is_kept_where_addresses_are_kept_in_full() {
    let kept = kept(KeptAddresses::Full, HEADER).replace("\r\n ", " ");
    for part in [
        "Return-Path: <bounce-joe=example.com@list.example>\r\n",
        "(Authenticated sender: joe.doe (x))",
        "X-Real-Name: Joe Doe\r\n",
        "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe_an_ann=40isp.example?=\r\n",
    ] {
        assert!(kept.contains(part), "{part:?}\n{kept}");
    }
    assert!(!kept.contains("Dear"), "{kept}");
}

#[test]
fn where_domains_are_kept_nobody_can_be_told_from_it() {
    let kept = kept(KeptAddresses::Domain, HEADER).replace("\r\n ", " ");
    for person in PEOPLE {
        assert!(!kept.contains(person), "{person}\n{kept}");
    }
    let ann = token("ann");
    assert!(kept.contains(&format!("From: <{}@campus.example>\r\n", token("joe.doe"))));
    // The same one is the same word, and so a report can be held against another (RFC 6590).
    assert!(kept.contains(&format!("for <{ann}@isp.example>")), "{kept}");
    assert!(kept.contains(&format!("<{ann}@isp.example>, ")), "{kept}");
    for part in [
        "[192.0.2.66]",
        "(authenticated)",
        "id 4X1a2b3c4d",
        "Message-ID: <4711.abc@laptop>\r\n",
        "X-Mailer: Bulk 1.0\r\n",
    ] {
        assert!(kept.contains(part), "{part:?}\n{kept}");
    }
    for name in ["Delivered-To", "X-Real-Name", "Cc:"] {
        assert!(!kept.contains(name), "{name}\n{kept}");
    }
    // What it says besides is still there.
    let raw = kept.split("Subject: ").nth(1).expect("a subject");
    let subject = decoded(raw.split("\r\nDate").next().expect("its end").as_bytes());
    assert_eq!(
        subject,
        Some(format!("Gr\u{fc}\u{df}e an {ann}@isp.example"))
    );
}

#[test]
fn where_nothing_is_kept_of_addresses_there_is_not_even_a_domain() {
    let kept = kept(KeptAddresses::None, HEADER).replace("\r\n ", " ");
    for text in [
        "campus.example>",
        "isp.example>",
        "list.example",
        "Subject",
        "Message-ID",
    ] {
        assert!(!kept.contains(text), "{text}\n{kept}");
    }
    for person in PEOPLE {
        assert!(!kept.contains(person), "{person}\n{kept}");
    }
    assert!(kept.contains("@redacted.invalid>"), "{kept}");
    assert!(kept.contains("by mx.isp.example"), "{kept}");
}

#[test]
fn addresses_are_found_however_they_are_written() {
    for text in [
        "joe@example.org",
        "<joe@example.org>",
        "\"joe doe\"@example.org",
        "x@joe@example.org",
        "joe@[192.0.2.1]",
        "mailto:joe@example.org",
        "joe=example.com@example.org",
        "smtp.mailfrom=joe@example.org",
        "https://example.org/?u=joe%40example.com",
        "=?utf-8?q?joe=40example.com?=",
        "=?utf-8?b?am9lQGV4YW1wbGUuY29t?=",
        "joe\u{ff20}example.org",
        "\"joe@x joe joe",
        "joe@",
        "(joe@example.org)",
        "a\\joe@example.org",
    ] {
        for addresses in [KeptAddresses::Domain, KeptAddresses::None] {
            let redacted = keep(addresses).redacted(text);
            assert!(!redacted.contains("joe"), "{text}: {redacted}");
        }
    }
    let domain = keep(KeptAddresses::Domain);
    assert_eq!(
        domain.redacted("a joe@example.org, b"),
        format!("a {}@example.org, b", token("joe"))
    );
    assert_eq!(
        domain.redacted("from x (y [192.0.2.1])"),
        "from x (y [192.0.2.1])"
    );
    assert_ne!(token("joe"), token("jo"));
    let other = Keep {
        key: [8; 32],
        ..domain
    };
    assert_ne!(
        other.token("joe"),
        token("joe"),
        "nobody else can try names"
    );
    assert!(!format!("{other:?}").contains('8'), "{other:?}");
}

#[test]
fn a_hostile_header_breaks_nothing() {
    let long = "x".repeat(100_000);
    let lines = "X-Spam: yes\r\n".repeat(10_000);
    let words = format!("X-Words: {}\r\n", "word ".repeat(700));
    let wide = format!("X-Wide: {}\r\n", "y".repeat(3000));
    for header in [
        format!("X-Long: {long}\r\nSubject: x\r\n"),
        format!("{long}\r\nSubject: x\r\n"),
        format!("{long}: x\r\nSubject: x\r\n"),
        lines,
        words,
        wide,
        "Subject: a\u{0}b\u{1b}[2J\u{7f}\r\n".to_owned(),
        "Subject: \u{fffd}\u{202e}\u{e9}\r\n".to_owned(),
        "Subject: x\r\n--boundary\r\nContent-Type: text/html\r\n\r\n<b>".to_owned(),
        "Subject: x\r\n --boundary\r\n --boundary--\r\n".to_owned(),
        "Subject: x\rBcc: y\r\n".to_owned(),
        " folded: first\r\nSubject: x\r\n".to_owned(),
        "a b: c\r\n d\r\nSubject: x\r\n".to_owned(),
        ": nobody\r\nSubject:\r\nSubject: \t \r\n".to_owned(),
        "\r\nSubject: body\r\n".to_owned(),
        String::new(),
    ] {
        for addresses in [
            KeptAddresses::Full,
            KeptAddresses::Domain,
            KeptAddresses::None,
        ] {
            let kept = kept(addresses, &header);
            assert!(!kept.lines().any(|line| line.starts_with('-')), "{kept:?}");
        }
    }
    assert_eq!(
        kept(KeptAddresses::Full, "a b: c\r\n d\r\nSubject: x\r\n"),
        "Subject: x\r\n"
    );
    assert_eq!(
        kept(KeptAddresses::Full, "Subject: x\rBcc: y\r\n"),
        "Subject: x Bcc: y\r\n"
    );
    let octets = b"Subject: gr\xfc\xdfe\r\nX-\xff: y\r\n";
    let kept = keep(KeptAddresses::Full).header(octets);
    assert_eq!(kept.as_deref(), Some("Subject: gr??e\r\n"));
}

proptest! {
    /// Whatever it is, it can be kept or is not, and nobody is in it who should not be.
    #[test]
    fn whatever_comes_what_is_kept_can_leave(
        octets in prop::collection::vec(any::<u8>(), 0..3000),
        fields in prop::collection::vec(prop::sample::select(vec![
            "Received: ", "From: ", "Subject: ", "To: ", "Message-ID: ", "X: ", "\r\n", "\n ", " ", "(", ")", "\"",
            "secret@example.org", "<secret@example.org>", "=?utf-8?q?", "?=", "=40", "%40", "@", ",", "\u{e4}", "\u{0}",
        ]), 0..80),
    ) {
        let mut header = fields.concat().into_bytes();
        for addresses in [KeptAddresses::Domain, KeptAddresses::None] {
            if let Some(kept) = keep(addresses).header(&header) {
                check_kept(&kept);
            }
        }
        header.extend(&octets);
        if let Some(kept) = keep(KeptAddresses::Full).header(&header) {
            check_kept(&kept);
        }
    }

    /// An address in a field, between whatever else, is not in what is kept.
    #[test]
    fn nobody_leaves_who_should_not(
        name in prop::sample::select(vec!["Received", "From", "To", "Cc", "Return-Path", "Subject", "X-Mailer"]),
        before in "[ -~]{0,30}", behind in "[ -~]{0,30}",
    ) {
        let header = format!("{name}: {before} <secretperson@example.org> {behind}\r\n");
        for addresses in [KeptAddresses::Domain, KeptAddresses::None] {
            let kept = keep(addresses).header(header.as_bytes()).unwrap_or_default();
            prop_assert!(!kept.replace("\r\n", "").contains("secretperson"), "{kept}");
        }
    }
}
