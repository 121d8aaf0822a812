//! Messages as reporters send them, and as nobody should.

use proptest::prelude::*;

use super::*;
use crate::model::complaint::tests::NOW;
use crate::model::complaint::{ComplaintForm, ComplaintKind};
use crate::model::mail::KeptAddresses;

pub(super) const BOT: &str = "192.0.2.66";

/// Of a network 192.0.2.0/24, on 2026-11-25.
pub(super) fn intake() -> Intake {
    Intake::new(NOW, &["192.0.2.0/24".parse().expect("a prefix")])
}

/// A report in the form of RFC 5965.
pub(super) fn arf(address: &str) -> String {
    include_str!("tests/arf.eml").replace("@ADDRESS@", address)
}

/// A report of XARF in the envelope of RFC 5965.
pub(super) fn xarf_mail(address: &str) -> String {
    include_str!("tests/xarf.eml").replace("@ADDRESS@", address)
}

/// How headers are kept, with a key that everybody knows.
pub(super) fn keep(addresses: KeptAddresses) -> Keep {
    Keep {
        addresses,
        key: [7; 32],
    }
}

fn read(text: &str) -> Result<Complaint, String> {
    mail::read(text.as_bytes(), None).map(|(complaint, _)| complaint)
}

#[test]
fn a_report_in_mail_is_an_address_a_time_a_kind_and_a_domain() {
    let complaint = read(&arf(BOT)).expect("a report");
    let expected = Complaint {
        address: BOT.parse().expect("an address"),
        // 2026-11-24T14:05:09Z, by the line on top.
        at: 1_795_529_109_000,
        happened_at: Some(1_795_525_200_000),
        kind: ComplaintKind::Spam,
        form: ComplaintForm::Arf,
        reporter: "isp.example".to_owned(),
        reference: "8787KJKJ3K4J3K4J3K4J3.mail@isp.example".to_owned(),
        incidents: 3,
    };
    assert_eq!(complaint, expected);
}

#[test]
fn the_lines_end_as_they_like_and_the_end_may_be_cut_off() {
    let text = arf(BOT);
    let whole = read(&text).expect("a report");
    assert_eq!(read(&text.replace('\n', "\r\n")), Ok(whole.clone()));
    let end = text
        .find("Content-Type: message/rfc822")
        .expect("a third part");
    assert_eq!(read(&text[..end + 40]), Ok(whole));
}

#[test]
fn when_it_came_says_our_own_server_and_only_else_the_sender() {
    let text = arf(BOT);
    let received = text.find("From:").expect("a sender");
    let without = &text[received..];
    assert_eq!(
        read(without).expect("a report").at,
        1_795_529_100_000,
        "Date"
    );
    let undated = without.replace("Date: Tue, 24 Nov 2026 14:05:00 +0000\n", "");
    assert_eq!(
        read(&undated).expect("a report").at,
        1_795_525_200_000,
        "Arrival-Date"
    );
    let never = undated.replace("Arrival-Date", "X-Date");
    assert!(
        read(&never)
            .expect_err("no time")
            .contains("when it was sent")
    );
}

#[test]
fn xarf_in_mail_is_read_before_the_fields_around_it() {
    let complaint = read(&xarf_mail(BOT)).expect("a report");
    assert_eq!(complaint.form, ComplaintForm::Xarf);
    assert_eq!(complaint.kind, ComplaintKind::Spam);
    assert_eq!(complaint.reference, "02eb480f-8172-431a-9276-c28ba90f694a");
    assert_eq!(complaint.reporter, "antispam-service.example");
    assert_eq!(complaint.at, 1_795_529_109_000, "when the mail came");
    // Version 3 in the same envelope is no version 4, and the fields around it have no address.
    let old = xarf_mail(BOT).replace("4.2.0", "3.0.0");
    assert!(read(&old).expect_err("old").contains("version \"3.0.0\""));
}

#[test]
fn a_notice_of_our_own_confirms_nothing() {
    for text in [arf(BOT), xarf_mail(BOT)] {
        let agent = text.replace(
            "User-Agent: SomeGenerator/1.0",
            "User-Agent: smtpflow/0.1.0",
        );
        assert_ne!(agent, text);
        assert!(
            read(&agent)
                .expect_err("our own")
                .contains("smtpflow itself")
        );
    }
}

/// As a notice has it that brings what somebody else has complained about.
#[test]
fn a_notice_of_our_own_is_none_whatever_it_brings() {
    let of = |agent: &str| {
        format!(
            "--a\nContent-Type: multipart/report; report-type=feedback-report; boundary={agent}\n\n\
             --{agent}\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\n\
             User-Agent: {agent}/0.1.0\nVersion: 1\nSource-IP: {BOT}\n\n--{agent}--\n"
        )
    };
    let head = "From: a@isp.example\nDate: Tue, 24 Nov 2026 14:05:00 +0000\nMIME-Version: 1.0\n\
                Content-Type: multipart/mixed; boundary=a\n\n";
    let (ours, theirs) = (of("smtpflow"), of("others"));
    assert!(read(&format!("{head}{theirs}--a--\n")).is_ok());
    for parts in [format!("{ours}{theirs}"), format!("{theirs}{ours}")] {
        let error = read(&format!("{head}{parts}--a--\n")).expect_err("our own");
        assert!(error.contains("smtpflow itself"), "{error}");
    }
}

#[test]
fn the_header_of_what_is_complained_about_is_kept_only_if_that_was_chosen() {
    let mail = arf(BOT);
    let mut without = intake();
    without.take_mail(&|| "here".to_owned(), mail.as_bytes());
    assert!(without.done().headers.is_empty());
    for third in ["message/rfc822", "text/rfc822-headers"] {
        let mail = mail
            .replace("message/rfc822", third)
            .replace("Incidents: 3", "Reported-Domain: Example.NET");
        let mut with = intake().keeping(Some(keep(KeptAddresses::Full)));
        for mail in [&*mail, "Subject: no report\n\n", &*xarf_mail(BOT), &*mail] {
            with.take_mail(&|| "here".to_owned(), mail.as_bytes());
        }
        let taken = with.done();
        assert_eq!(taken.complaints.len(), 3, "{taken:?}");
        let places: Vec<usize> = taken.headers.keys().copied().collect();
        assert_eq!(places, [0, 2], "{third}");
        let header = &taken.headers[&0];
        assert_eq!(header.domain.as_deref(), Some("example.net"));
        assert!(
            header.text.starts_with(
                "From: <somespammer@example.net>\r\nReceived: from mailserver.example.net"
            ),
            "{}",
            header.text
        );
        assert!(!header.text.contains("Spam Spam"), "{}", header.text);
    }
    // What is too old to be told of, and what is about no mail, is not kept.
    let mut old = Intake::new(NOW + SAMPLE_AGE, &[]).keeping(Some(keep(KeptAddresses::Full)));
    old.take_mail(&|| "here".to_owned(), mail.as_bytes());
    let mut other = intake().keeping(Some(keep(KeptAddresses::Full)));
    let kind = mail.replace("Feedback-Type: abuse", "Feedback-Type: other");
    other.take_mail(&|| "here".to_owned(), kind.as_bytes());
    for taken in [old.done(), other.done()] {
        assert_eq!((taken.complaints.len(), taken.headers.len()), (1, 0));
    }
}

#[test]
fn what_is_quoted_or_returned_is_no_complaint() {
    let inner = arf(BOT);
    for kind in ["message/rfc822", "message/global"] {
        let outer = format!(
            "From: mailer-daemon@isp.example\nDate: Tue, 24 Nov 2026 14:05:00 +0000\nMIME-Version: 1.0\n\
             Content-Type: multipart/mixed; boundary=\"outer\"\n\n--outer\nContent-Type: text/plain\n\n\
             Your mail:\n--outer\nContent-Type: {kind}\n\n{inner}\n--outer--\n"
        );
        assert!(
            read(&outer).expect_err(kind).contains("no report in it"),
            "{kind}"
        );
    }
}

#[test]
fn mail_without_a_report_is_refused() {
    for (text, expected) in [
        ("", "no mail"),
        (
            "Subject: help\n\n192.0.2.66 sends spam\n",
            "no report in it",
        ),
        ("\0\0\0\0", "no"),
    ] {
        let error = read(text).expect_err(text);
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    let nobody = arf(BOT).replace("From: <abusedesk@isp.example>\n", "");
    assert!(read(&nobody).expect_err("nobody").contains("From"));
}

#[test]
fn only_hosts_of_our_own_are_complained_about() {
    let mut all = Intake::new(NOW, &[]);
    let mut own = intake();
    for address in [BOT, "198.51.100.9", "::ffff:192.0.2.67", "127.0.0.1"] {
        for intake in [&mut all, &mut own] {
            intake.take(&|| "here".to_owned(), read(&arf(address)));
        }
    }
    let (all, own) = (all.done(), own.done());
    assert_eq!((all.complaints.len(), all.refused), (3, 1));
    assert_eq!((own.complaints.len(), own.refused), (2, 2));
    assert_eq!(own.complaints[1].address.to_string(), "192.0.2.67");
}

#[test]
fn refusals_are_told_up_to_a_number_and_counted_beyond() {
    let mut intake = intake();
    for number in 0..1000 {
        intake.take(&|| format!("{number}"), Err("x".repeat(1000)));
    }
    let taken = intake.done();
    assert_eq!((taken.refused, taken.refusals.len()), (1000, MAX_REFUSALS));
    assert!(
        taken
            .refusals
            .iter()
            .all(|refusal| refusal.why.len() == MAX_WHY)
    );
}

/// Found by the target `complaints`: a part that is there twice, which an assertion of the library denies.
#[test]
fn a_message_that_begins_inside_another_is_read() {
    let text = arf(BOT);
    let third = text
        .find("Content-Type: message/rfc822")
        .expect("a third part");
    let border = "\n--part1_13d.2e68ed54_boundary\n";
    let kind = "Content-Type: message/rfc822\nidents: 3\n";
    let twice = format!("{}{kind}{border}{}", &text[..third], &text[third..]);
    assert_eq!(read(&twice), read(&text));
}

#[test]
fn a_report_before_parts_without_end_is_read() {
    let tail = "Content-Type: multipart/mixed; boundary=c\n\n--b\n".repeat(1000);
    let complaint = read(&format!("{}{tail}", arf(BOT)));
    assert_eq!(complaint, read(&arf(BOT)));
    assert!(complaint.is_ok());
    let before = format!(
        "Content-Type: multipart/mixed; boundary=b\n\n{tail}{}",
        arf(BOT)
    );
    assert!(read(&before).is_err());
}

/// What is kept can stand in a message as it is.
pub(super) fn check_kept(header: &str) {
    assert!(header.len() <= 8 << 10, "{} octets", header.len());
    assert!(header.ends_with("\r\n"), "{header:?}");
    for line in header.split_terminator("\r\n") {
        let plain = |c: char| c == ' ' || c.is_ascii_graphic();
        assert!(line.chars().all(plain) && line.len() <= 998, "{line:?}");
        let name = line.split_once(':').map_or("", |(name, _)| name);
        assert!(
            line.starts_with(' ') || (!name.is_empty() && !name.contains(' ')),
            "{line:?}"
        );
        assert!(!line.trim().is_empty(), "{header:?}");
    }
}

/// Of these octets and no others, as often as a message has room for them.
fn filled(octets: &str) -> Vec<u8> {
    octets.as_bytes().repeat(MAX_MESSAGE / octets.len())
}

/// What costs a parser most: levels, parts and borders without end. Seen before the bounds were there:
/// the first one ends the process, for want of stack, when all levels are dropped at once; one with
/// borders that never come takes a minute.
#[test]
fn hostile_structure_ends_in_time_and_with_the_stack_that_there_is() {
    let nested = filled("Content-Type: message/rfc822\n\n");
    let digest = filled("Content-Type: multipart/digest; boundary=a\n\n--a\n\n");
    let borders = filled("Content-Type: multipart/mixed; boundary=a\n\n--a\n");
    let lost = filled("Content-Type: multipart/mixed; boundary=b\n\n--a\n");
    let mut head = b"Content-Type: multipart/mixed; boundary=a\n\n".to_vec();
    let parts = [head.clone(), filled("--a\n\nx\n")].concat();
    let encoded = filled("Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n");
    head.extend(filled(
        "--a\nContent-Type: multipart/mixed; boundary=c\n\n--b\n",
    ));
    let mut hidden = b"Content-Type: multipart/mixed; boundary=a\n\n".to_vec();
    hidden.extend(filled(
        "--a\n: : CON\tTENT-TY PE : multipart/mixed; boundary=c\n\n--b\n",
    ));
    let fields = filled("From: a <");
    let comments = [b"From: ".to_vec(), filled("(")].concat();
    let words = [b"Content-Type: a/b; ".to_vec(), filled("a*0=\"")].concat();
    let received = [b"Received: ".to_vec(), filled("from (")].concat();
    for (name, message) in [
        ("nested", nested),
        ("digest", digest),
        ("borders", borders),
        ("lost", lost),
        ("parts", parts),
        ("encoded", encoded),
        ("inner borders", head),
        ("hidden borders", hidden),
        ("fields", fields),
        ("comments", comments),
        ("words", words),
        ("received", received),
    ] {
        let message = &message[..message.len().min(MAX_MESSAGE)];
        // As little stack as a thread of a library may have.
        let took = std::thread::scope(|scope| {
            let run = || {
                let start = std::time::Instant::now();
                let _ = mail::read(message, Some(&keep(KeptAddresses::Domain)));
                start.elapsed()
            };
            let thread = std::thread::Builder::new().stack_size(256 << 10);
            let running = thread.spawn_scoped(scope, run).expect("a thread");
            running.join().expect(name)
        });
        eprintln!("{name}: {took:?}");
        assert!(took.as_secs() < 10, "{name}: {took:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is done to a report, it is a good complaint or none.
    #[test]
    fn a_damaged_report_is_refused_or_a_good_complaint(
        xarf: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..20),
    ) {
        let mut text = if xarf { xarf_mail(BOT) } else { arf(BOT) }.into_bytes();
        for (place, octet, how) in changes {
            let place = place.index(text.len());
            match how {
                0 => text[place] = octet,
                1 => text.insert(place, octet),
                _ => { text.truncate(place.max(1)); }
            }
        }
        let mut intake = intake().keeping(Some(keep(KeptAddresses::Domain)));
        let _ = stream("x", &text[..], &mut intake);
        let taken = intake.done();
        prop_assert!(taken.complaints.len() <= 1);
        for header in taken.headers.values() {
            check_kept(&header.text);
        }
        for complaint in taken.complaints {
            prop_assert_eq!(complaint.clone().checked(NOW), Ok(complaint));
        }
    }

    /// Nor do octets that mean nothing do any harm, in any form.
    #[test]
    fn noise_is_refused(
        start in prop::sample::select(vec!["", "From a@b Tue Nov 24 14:00:00 2026\n", "{", "address,time,kind\n", "X: "]),
        noise in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        let text = [start.as_bytes(), &noise].concat();
        let mut intake = intake();
        let _ = stream("x", &text[..], &mut intake);
        prop_assert!(intake.done().complaints.is_empty());
    }

    /// Words of mail in any order.
    #[test]
    fn structure_in_disorder_is_refused_or_a_good_complaint(
        lines in prop::collection::vec(prop::sample::select(vec![
            "From: a@isp.example", "Date: Tue, 24 Nov 2026 14:05:00 +0000", "", "--b", "--b--",
            "Content-Type: multipart/report; boundary=b", "Content-Type: message/feedback-report",
            "Content-Type: message/rfc822", "Content-Type: application/json",
            "Content-Transfer-Encoding: base64", "Content-Transfer-Encoding: quoted-printable",
            "Feedback-Type: abuse", "Source-IP: 192.0.2.66", "Received: by x; Tue, 24 Nov 2026 14:05:00 +0000",
            " folded", "{\"xarf_version\":\"4.0.0\"}",
        ]), 0..60),
    ) {
        let text = lines.join("\n");
        let mut intake = intake();
        let _ = stream("x", text.as_bytes(), &mut intake);
        for complaint in intake.done().complaints {
            prop_assert_eq!(complaint.address.to_string(), BOT);
        }
    }
}
