//! From a complaint in a mailbox to the message of a notice, and back.

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use mailparse::{MailHeaderMap as _, parse_mail};

use super::*;
use crate::model::mail::KeptAddresses;
use crate::reading::complaints::{Import, import};

/// A report of spam (RFC 5965) that has come just now.
fn complaint() -> String {
    let date = rfc2822::DateTimePrinter::new()
        .timestamp_to_string(&Timestamp::now())
        .expect("a date");
    format!(
        "From: fbl@isp.example\nDate: {date}\nMessage-ID: <fbl-1@isp.example>\nMIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type=feedback-report; boundary=part\n\n\
         --part\nContent-Type: text/plain\n\nSpam.\n\n\
         --part\nContent-Type: message/feedback-report\n\n\
         Feedback-Type: abuse\nUser-Agent: Feedback/1.0\nVersion: 1\nSource-IP: {BOT}\n\
         Arrival-Date: {date}\nReported-Domain: shop.example\nOriginal-Rcpt-To: <ann@isp.example>\n\n\
         --part\nContent-Type: message/rfc822\n\n\
         Received: from x ([{BOT}]) by mx.isp.example for <ann@isp.example>\n\
         From: Joe <joe@shop.example>\nSubject: for ann@isp.example\n\nDear Ann\n\n--part--\n"
    )
}

/// The message of what is made, once the complaint has come in with the first choice and is used with the second.
fn made(
    at_import: (KeptMessages, KeptAddresses),
    at_look: (KeptMessages, KeptAddresses),
) -> Vec<u8> {
    let mut office = Office::new();
    let file = office.path("complaint.eml");
    fs::write(&file, complaint()).expect("written");
    let choose = |office: &mut Office, (keep, addresses)| {
        office.place.config.complaint.keep = keep;
        office.place.config.maillog.addresses = addresses;
    };
    choose(&mut office, at_import);
    let new = Import {
        files: vec![file],
        who: "ada".to_owned(),
    };
    let said = import(&office.place, &new, false).expect("noted");
    assert!(said.starts_with("noted 1 complaint;"), "{said}");
    choose(&mut office, at_look);
    let ledger = office.ledger();
    office.look(&ledger, now());
    let (notice, _) = ledger
        .reader()
        .expect("a reader")
        .notice(1)
        .expect("read")
        .expect("there");
    // Whatever it brings, it is no complaint when it comes back.
    let back = office.path("notice.eml");
    fs::write(&back, &notice.message).expect("written");
    let returned = Import {
        files: vec![back],
        who: "ada".to_owned(),
    };
    let failure = import(&office.place, &returned, false).expect_err("our own");
    assert!(failure.to_string().contains("smtpflow itself"), "{failure}");
    notice.message
}

#[test]
fn what_was_complained_about_leaves_with_what_the_operator_chose_of_it() {
    use KeptAddresses::{Domain, Full, None as Nothing};
    use KeptMessages::{Headers, None as NoMessages};
    for addresses in [Domain, Full, Nothing] {
        let message = made((Headers, addresses), (Headers, addresses));
        let mail = parse_mail(&message).expect("a message");
        assert_eq!(mail.ctype.mimetype, "multipart/mixed");
        assert_eq!(mail.subparts.len(), 2);
        let report = mailrs_arf::parse(mail.subparts[1].raw_bytes).expect("a report");
        assert_eq!(report.source_ip.as_deref(), Some(BOT));
        assert_eq!(report.reported_domain.as_deref(), Some("shop.example"));
        assert!(report.arrival_date.is_some());
        assert_eq!(report.original_rcpt_to, None);
        let header = mail.subparts[1].subparts[2].get_body_raw().expect("bytes");
        let (fields, _) = mailparse::parse_headers(&header).expect("a header");
        let received = fields
            .get_first_value("Received")
            .expect("where it came from");
        assert!(received.contains(BOT), "{received}");
        let text = String::from_utf8_lossy(&header);
        let people = text.contains("ann@") || text.contains("joe") || text.contains("Joe");
        assert_eq!(people, addresses == Full, "{text}");
        let domains = text.contains("@shop.example");
        assert_eq!(domains, addresses != Nothing, "{text}");
        assert!(!String::from_utf8_lossy(&message).contains("Dear Ann"));
    }
    // It is off, it was off, it is off again, or less is to leave than was kept.
    for (at_import, at_look) in [
        ((NoMessages, Full), (NoMessages, Full)),
        ((NoMessages, Full), (Headers, Full)),
        ((Headers, Full), (NoMessages, Full)),
        ((Headers, Full), (Headers, Domain)),
        ((Headers, Domain), (Headers, Nothing)),
    ] {
        let message = made(at_import, at_look);
        let mail = parse_mail(&message).expect("a message");
        assert_eq!(
            mail.ctype.mimetype, "multipart/report",
            "{at_import:?} {at_look:?}"
        );
    }
}
