//! Messages as others read them: by a parser of MIME and one of feedback reports that are not ours.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mailparse::{DispositionType, MailHeaderMap as _, ParsedMail, parse_mail};
use serde_json::Value;

use super::super::plan::Draft;
use super::super::template::SHIPPED;
use super::*;
use crate::model::mail::KeptAddresses;
use crate::model::notice::{Case, LogFacts, MAX_HOSTS};
use crate::model::sample::{KeptHeader, Sample};

fn case(sequence: u32) -> Case {
    Case {
        id: 12,
        owner: "it@dep.example".to_owned(),
        addressee: owner("it@dep.example").expect("an owner"),
        opened_at: NOW,
        closed_at: None,
        sequence,
        pressed: 0,
        last_message_id: (sequence > 1).then(|| "smtpflow.1.12.1@example.org".to_owned()),
        hosts: Vec::new(),
    }
}

fn draft(kind: NoticeKind, hosts: &[&str]) -> Draft {
    Draft {
        id: 31,
        kind,
        case: (kind != NoticeKind::Digest)
            .then(|| case(if kind == NoticeKind::First { 1 } else { 2 })),
        name: "Department of Physics".to_owned(),
        recipients: vec!["it@dep.example".to_owned(), "head@dep.example".to_owned()],
        hosts: hosts.iter().map(|host| facts(host, NOW)).collect(),
        samples: Vec::new(),
        waiting: vec![(
            5,
            "a@x.example".to_owned(),
            "[case 3] 192.0.2.3: ...".to_owned(),
        )],
        at: NOW + 1234,
    }
}

fn compose(draft: &Draft) -> Vec<u8> {
    Composer::new(&settings())
        .expect("texts")
        .compose(draft)
        .message
}

fn header(mail: &ParsedMail<'_>, name: &str) -> String {
    let values = mail.headers.get_all_values(name);
    assert_eq!(values.len(), 1, "{name}: {values:?}");
    values[0].clone()
}

/// What any relay takes: seven bits, no line longer than a relay must take (RFC 5321, section 4.5.3.1.6), each one
/// ended as it should be.
fn check_form(message: &[u8]) {
    let text = std::str::from_utf8(message).expect("ASCII");
    assert!(text.is_ascii());
    assert!(
        !text.replace("\r\n", "").contains(['\r', '\n']),
        "a bare end of a line"
    );
    for line in text.split("\r\n") {
        assert!(line.len() <= 998, "{line}");
    }
    assert!(text.ends_with("\r\n"));
}

#[test]
fn a_notice_is_a_report_with_text_feedback_and_xarf() {
    let message = compose(&draft(NoticeKind::First, &["192.0.2.7/32"]));
    check_form(&message);
    let mail = parse_mail(&message).expect("a message");
    assert_eq!(
        header(&mail, "From"),
        "\"Example University\" <abuse@example.org>"
    );
    assert_eq!(header(&mail, "To"), "<it@dep.example>, <head@dep.example>");
    assert_eq!(header(&mail, "Auto-Submitted"), "auto-generated");
    assert_eq!(
        header(&mail, "Subject"),
        "[case 12] 192.0.2.7: mail connections like a spam sender's, 2026-11-26 00:00 UTC - 2026-11-27 00:00 UTC"
    );
    assert_eq!(
        header(&mail, "Message-ID"),
        format!("<smtpflow.{NOW}.12.1@example.org>")
    );
    assert_eq!(
        header(&mail, "References"),
        format!("<smtpflow.{NOW}.12@example.org>")
    );
    let date = mailparse::dateparse(&header(&mail, "Date")).expect("a date");
    assert_eq!(date.unsigned_abs(), NOW / 1000 + 1);
    assert_eq!(mail.ctype.mimetype, "multipart/report");
    assert_eq!(mail.ctype.params["report-type"], "feedback-report");
    let [text, feedback, xarf] = &mail.subparts[..] else {
        panic!("{} parts", mail.subparts.len());
    };
    assert_eq!(text.ctype.mimetype, "text/plain");
    let text = text.get_body().expect("text");
    for expected in [
        "Department of Physics",
        "192.0.2.7\r\n  more than 100 connections in the hour: 412\r\n",
        "connections             412 (servers: 97)",
        "answered with data      300 (a message taken: 120, refused: 80)",
        "(150 bytes a packet)",
        "tcpdump -n 'tcp dst port 25 and src host 192.0.2.7'",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert!(!text.contains('{'), "{text}");
    assert_eq!(feedback.ctype.mimetype, "message/feedback-report");
    let report = mailrs_arf::parse(&message).expect("a feedback report");
    assert_eq!(report.feedback_type, "xarf");
    assert_eq!(report.version.as_deref(), Some("1"));
    assert_eq!(report.source_ip.as_deref(), Some("192.0.2.7"));
    assert!(
        report
            .user_agent
            .is_some_and(|agent| agent.starts_with("smtpflow/"))
    );
    assert_eq!(xarf.ctype.mimetype, "application/json");
    let disposition = xarf.get_content_disposition();
    assert_eq!(disposition.disposition, DispositionType::Attachment);
    assert_eq!(disposition.params["filename"], "xarf.json");
    check_xarf(xarf, "192.0.2.7");
}

/// What the schemas ask for; the integration tests hold it against the schemas themselves.
fn check_xarf(part: &ParsedMail<'_>, host: &str) -> Value {
    let json: Value = serde_json::from_slice(&part.get_body_raw().expect("bytes")).expect("JSON");
    assert_eq!(json["source_identifier"], host);
    assert_eq!(
        (&json["category"], &json["type"]),
        (&"connection".into(), &"infected_host".into())
    );
    assert_eq!(json["evidence_source"], "flow_analysis");
    assert_eq!(
        (&json["protocol"], &json["bot_type"]),
        (&"tcp".into(), &"unknown".into())
    );
    assert_eq!(json["first_seen"], "2026-11-26T22:00:00.000Z");
    assert_eq!(json["last_seen"], "2026-11-27T00:00:00.000Z");
    assert_eq!(json["total_requests"], 412);
    assert_eq!(json["reporter"]["domain"], "example.org");
    let evidence = json["evidence"][0]["payload"].as_str().expect("a payload");
    let evidence = STANDARD.decode(evidence).expect("base64");
    assert_eq!(json["evidence"][0]["size"], evidence.len());
    assert!(String::from_utf8(evidence).expect("text").starts_with(host));
    assert!(
        json["description"]
            .as_str()
            .is_some_and(|text| text.len() <= 1000)
    );
    json
}

#[test]
fn several_hosts_are_as_many_reports_in_the_third_part() {
    let hosts = ["192.0.2.7/32", "192.0.2.8/32", "2001:db8:0:7::/64"];
    let message = compose(&draft(NoticeKind::More, &hosts));
    check_form(&message);
    let mail = parse_mail(&message).expect("a message");
    assert!(header(&mail, "Subject").starts_with("Re: [case 12] 192.0.2.7 (+2): "));
    assert_eq!(
        header(&mail, "In-Reply-To"),
        "<smtpflow.1.12.1@example.org>"
    );
    let references = header(&mail, "References");
    assert_eq!(
        references.split_whitespace().collect::<Vec<_>>(),
        [
            &*format!("<smtpflow.{NOW}.12@example.org>"),
            "<smtpflow.1.12.1@example.org>"
        ]
    );
    assert_eq!(mail.subparts.len(), 3);
    assert_eq!(
        mailrs_arf::parse(&message).expect("a report").source_ip,
        None
    );
    let reports = &mail.subparts[2];
    assert_eq!(reports.ctype.mimetype, "multipart/mixed");
    let ids: Vec<Value> = reports
        .subparts
        .iter()
        .zip(["192.0.2.7", "192.0.2.8", "2001:db8:0:7::/64"])
        .map(|(part, host)| check_xarf(part, host)["report_id"].clone())
        .collect();
    assert_eq!(ids.len(), 3);
    assert!(ids[0] != ids[1] && ids[1] != ids[2]);
    let text = mail.subparts[0].get_body().expect("text");
    assert!(
        text.contains("(src host 192.0.2.7 or src host 192.0.2.8 or src net 2001:db8:0:7::/64)")
    );
}

#[test]
fn the_same_notice_is_the_same_message_but_for_its_boundary() {
    let draft = draft(NoticeKind::First, &["192.0.2.7/32"]);
    let parts = |message: &[u8]| {
        let mail = parse_mail(message).expect("a message");
        let bodies: Vec<_> = mail
            .subparts
            .iter()
            .map(|part| part.get_body_raw().expect("bytes"))
            .collect();
        (header(&mail, "Message-ID"), header(&mail, "Date"), bodies)
    };
    assert_eq!(parts(&compose(&draft)), parts(&compose(&draft)));
}

#[test]
fn what_accuses_nobody_is_plain_text() {
    for kind in [
        NoticeKind::Solved,
        NoticeKind::Withdrawn,
        NoticeKind::Digest,
    ] {
        let message = compose(&draft(kind, &["192.0.2.7/32", "192.0.2.8/32"]));
        check_form(&message);
        let mail = parse_mail(&message).expect("a message");
        assert_eq!(mail.ctype.mimetype, "text/plain", "{kind:?}");
        let text = mail.get_body().expect("text");
        let expected = match kind {
            NoticeKind::Digest => "5  to a@x.example: [case 3] 192.0.2.3: ...\r\n",
            _ => "192.0.2.7\r\n192.0.2.8\r\n",
        };
        assert!(text.contains(expected), "{text}");
        assert_eq!(header(&mail, "Auto-Submitted"), "auto-generated");
    }
}

#[test]
fn every_language_can_be_read_and_several_are_one_behind_the_other() {
    let mut settings = settings();
    settings.languages = SHIPPED.iter().map(|(name, _)| (*name).to_owned()).collect();
    let composer = Composer::new(&settings).expect("texts");
    for kind in NoticeKind::ALL {
        let mut draft = draft(kind, &["192.0.2.7/32"]);
        draft.hosts[0].log = Some(LogFacts {
            since: draft.at,
            messages: 41,
            recipients: 4100,
            rejects: 7,
        });
        draft.samples = vec![sample("192.0.2.7")];
        let rendered = composer.compose(&draft);
        check_form(&rendered.message);
        let mail = parse_mail(&rendered.message).expect("a message");
        let report = mail.subparts.first().unwrap_or(&mail);
        let part = report.subparts.first().unwrap_or(report);
        let text = part.get_body().expect("text").replace("\r\n", "\n");
        assert_eq!(text, rendered.text);
        assert_eq!(header(&mail, "Subject"), rendered.subject);
        assert_eq!(text.matches("\n* * *\n").count(), 3, "{text}");
        if kind.accuses() {
            for words in [
                "antworten Sie",
                "destinataires : 4100",
                "4100 位收件人",
                "messages: 41, recipients: 4100",
                "als ARF bei",
                "joint en ARF",
                "以 ARF 格式",
                "attached as ARF",
            ] {
                assert!(text.contains(words), "{words}\n{text}");
            }
        }
    }
    // The subject is in the first one.
    settings.languages = vec!["zh_tw".to_owned()];
    let composer = Composer::new(&settings).expect("texts");
    let rendered = composer.compose(&draft(NoticeKind::Solved, &["192.0.2.7/32"]));
    check_form(&rendered.message);
    let mail = parse_mail(&rendered.message).expect("a message");
    assert_eq!(header(&mail, "Subject"), "Re: [案件 12] 192.0.2.7：已解決");
}

#[test]
fn no_text_of_anybody_becomes_a_header_a_part_or_another_recipient() {
    let corpus = [
        "x\r\nBcc: victim@y.example",
        "x\nBcc: victim@y.example\n\nbody",
        "x\r\n\r\n--boundary\r\nContent-Type: text/html",
        "x\u{2028}Bcc: victim@y.example",
        "=?utf-8?q?=0d=0aBcc:_victim=40y.example?=",
        "\"><script>, victim@y.example",
        "x\u{0}\u{1b}[2J\u{202e}",
        "{name} {evidence} {nobody}",
        "Ünïcödé, 大學 <victim@y.example>",
        ".\r\nMAIL FROM:<a@b.example>",
        &"long ".repeat(300),
    ];
    for text in corpus {
        let mut settings = settings();
        settings.organisation = Some(text.to_owned());
        let composer = Composer::new(&settings).expect("texts");
        let mut draft = draft(NoticeKind::First, &["192.0.2.7/32"]);
        draft.name = text.to_owned();
        draft.hosts[0].rules = vec![text.to_owned(); 100];
        let message = composer.compose(&draft).message;
        check_form(&message);
        let mail = parse_mail(&message).expect("a message");
        let names: Vec<String> = mail
            .headers
            .iter()
            .map(mailparse::MailHeader::get_key)
            .collect();
        assert_eq!(
            names,
            [
                "From",
                "To",
                "Subject",
                "Date",
                "Message-ID",
                "Auto-Submitted",
                "X-Auto-Response-Suppress",
                "References",
                "MIME-Version",
                "Content-Type"
            ],
            "{text:?}"
        );
        assert_eq!(mail.subparts.len(), 3, "{text:?}");
        let from =
            mailparse::addrparse_header(mail.headers.get_first_header("From").expect("From"));
        let from = from.expect("addresses");
        assert_eq!(from.len(), 1, "{text:?}: {from:?}");
        assert_eq!(
            from.extract_single_info().expect("one").addr,
            "abuse@example.org"
        );
        let to = mailparse::addrparse_header(mail.headers.get_first_header("To").expect("To"));
        assert_eq!(to.expect("addresses").len(), 2);
    }
}

#[test]
fn the_largest_notice_is_of_a_size_that_relays_take() {
    let hosts: Vec<String> = (0..MAX_HOSTS)
        .map(|number| format!("2001:db8:0:{number:x}::/64"))
        .collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let mut settings = settings();
    settings.languages = SHIPPED.iter().map(|(name, _)| (*name).to_owned()).collect();
    let composer = Composer::new(&settings).expect("texts");
    let mut draft = draft(NoticeKind::Escalation, &hosts);
    for facts in &mut draft.hosts {
        facts.rules = vec!["rule ".repeat(40); 8];
    }
    let message = composer.compose(&draft).message;
    assert!(message.len() < 1 << 20, "{} bytes", message.len());
}

pub(super) fn sample(address: &str) -> Sample {
    Sample {
        address: address.parse().expect(address),
        // 2026-11-26T23:00:00Z.
        happened_at: Some(NOW - HOUR),
        header: KeptHeader {
            addresses: KeptAddresses::Domain,
            domain: Some("shop.example".to_owned()),
            text: "Received: from x ([192.0.2.7])\r\n by mx.isp.example\r\n\
                   From: <redacted-0123456789abcdef@shop.example>\r\nSubject: Earn money\r\n"
                .to_owned(),
        },
    }
}

#[test]
fn what_somebody_has_complained_about_is_a_report_of_its_own() {
    let mut draft = draft(NoticeKind::First, &["192.0.2.7/32", "192.0.2.8/32"]);
    draft.samples = vec![sample("192.0.2.7"), sample("192.0.2.8")];
    draft.samples[1].happened_at = None;
    draft.samples[1].header.domain = None;
    let message = compose(&draft);
    check_form(&message);
    let mail = parse_mail(&message).expect("a message");
    assert_eq!(mail.ctype.mimetype, "multipart/mixed");
    let [xarf, first, second] = &mail.subparts[..] else {
        panic!("{} parts", mail.subparts.len());
    };
    // As it is without.
    assert_eq!(xarf.ctype.mimetype, "multipart/report");
    assert_eq!(xarf.subparts.len(), 3);
    check_xarf(&xarf.subparts[2].subparts[0], "192.0.2.7");
    let text = xarf.subparts[0].get_body().expect("text");
    for host in ["192.0.2.7", "192.0.2.8"] {
        let said = format!(
            "  complained about        mail from {host}; its header is attached as ARF\r\n"
        );
        assert!(text.contains(&said), "{text}");
    }
    for (part, address, date, domain) in [
        (
            first,
            "192.0.2.7",
            Some("Thu, 26 Nov 2026 23:00:00 +0000"),
            Some("shop.example"),
        ),
        (second, "192.0.2.8", None, None),
    ] {
        assert_eq!(part.ctype.mimetype, "multipart/report");
        assert_eq!(part.ctype.params["report-type"], "feedback-report");
        let kinds: Vec<&str> = part
            .subparts
            .iter()
            .map(|part| &*part.ctype.mimetype)
            .collect();
        assert_eq!(
            kinds,
            [
                "text/plain",
                "message/feedback-report",
                "text/rfc822-headers"
            ]
        );
        let report = mailrs_arf::parse(part.raw_bytes).expect("a report");
        assert_eq!(report.feedback_type, "abuse");
        assert_eq!(report.version.as_deref(), Some("1"));
        assert_eq!(report.source_ip.as_deref(), Some(address));
        assert_eq!(report.arrival_date.as_deref(), date);
        assert_eq!(report.reported_domain.as_deref(), domain);
        assert_eq!(report.original_rcpt_to, None);
        let header = part.subparts[2].get_body_raw().expect("bytes");
        let (fields, _) = mailparse::parse_headers(&header).expect("a header");
        assert_eq!(
            fields.get_first_value("Subject").as_deref(),
            Some("Earn money")
        );
        let text = part.subparts[0].get_body().expect("text");
        assert!(text.contains(address), "{text}");
    }
    // Nothing is brought where nobody is accused.
    for kind in [NoticeKind::Solved, NoticeKind::Digest] {
        let calm = Draft {
            kind,
            ..draft.clone()
        };
        let message = compose(&calm);
        let mail = parse_mail(&message).expect("a message");
        assert_eq!(mail.ctype.mimetype, "text/plain");
    }
}

#[test]
fn a_notice_brings_a_message_of_each_host_and_a_few_in_all() {
    let mut desk = Desk::new(automatic());
    let hosts = [
        "192.0.2.4",
        "192.0.2.5",
        "192.0.2.6",
        "192.0.2.7",
        "192.0.2.8",
    ];
    let subjects: Vec<Subject> = hosts
        .iter()
        .map(|host| Subject {
            // One has none.
            sample: (*host != "192.0.2.4").then(|| sample(host)),
            ..subject(&format!("{host}/32"), owner("it@dep.example"))
        })
        .collect();
    desk.look(&subjects);
    assert_eq!(desk.all.len(), 1);
    let mail = parse_mail(&desk.all[0].message).expect("a message");
    let addresses: Vec<_> = mail.subparts[1..]
        .iter()
        .map(|part| mailrs_arf::parse(part.raw_bytes).and_then(|report| report.source_ip))
        .collect();
    let expected = ["192.0.2.5", "192.0.2.6", "192.0.2.7"].map(|host| Some(host.to_owned()));
    assert_eq!(addresses, expected);
}

#[test]
fn who_writes_has_to_be_said() {
    let mut settings = settings();
    settings.organisation = None;
    let failure = Composer::new(&settings).expect_err("nobody writes");
    assert!(
        failure.to_string().contains("notice.organisation"),
        "{failure}"
    );
}
