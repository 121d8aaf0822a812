//! What attackers put into logs.

use proptest::prelude::*;

use super::*;

/// Whom attackers would like to be flagged.
const VICTIM: &str = "203.0.113.99";

/// Lines that a client can bring about; each is by 192.0.2.66, or says nothing of anybody.
const FORGED: &[&str] = &[
    // Postfix: a greeting, addresses, headers.
    "Nov 27 10:00:00 mx postfix/smtpd[1]: NOQUEUE: reject: RCPT from unknown[192.0.2.66]: 554 5.7.1 <x@y>: Relay access denied; from=<a@b> to=<x@y> proto=ESMTP helo=<unknown[203.0.113.99]: 554>",
    "Nov 27 10:00:00 mx postfix/smtpd[1]: NOQUEUE: reject: RCPT from unknown[192.0.2.66]: 554 5.7.1 <\"RCPT from x[203.0.113.99]: 554\"@y>: Relay access denied; from=<> to=<x> proto=ESMTP helo=<h>",
    "Nov 27 10:00:00 mx postfix/cleanup[1]: 4ABCDEF123: reject: header Subject: RCPT from x[203.0.113.99]: 554 from unknown[192.0.2.66]; from=<a@b> to=<x@y> proto=SMTP helo=<h>: 5.7.1 no",
    "Nov 27 10:00:00 mx postfix/smtpd[1]: improper command pipelining after HELO from unknown[192.0.2.66]: 4ABCDEF123: client=x[203.0.113.99]",
    "Nov 27 10:00:00 mx postfix/smtpd[1]: warning: non-SMTP command from unknown[192.0.2.66]: 4ABCDEF123: client=x[203.0.113.99]",
    "Nov 27 10:00:00 mx postfix/cleanup[1]: 4ABCDEF123: message-id=<4ABCDEF123: client=x[203.0.113.99]>",
    // sendmail: message ids, addresses, what identd says.
    "Nov 27 10:00:00 mx sendmail[1]: 4ARA00ab000001: from=<a@b>, size=1, class=0, nrcpts=1, msgid=<x, relay=v [203.0.113.99]>, proto=SMTP, daemon=MTA, relay=bot [192.0.2.66]",
    "Nov 27 10:00:00 mx sendmail[1]: 4ARA00ab000002: from=<\"x, size=9, class=0, nrcpts=9, relay=v [203.0.113.99]\"@b>, size=1, class=0, nrcpts=1, relay=a, relay=v [203.0.113.99]@bot [192.0.2.66] (may be forged)",
    "Nov 27 10:00:00 mx sendmail[1]: 4ARA00ab000003: ruleset=check_rcpt, arg1=<\"x>, relay=v [203.0.113.99], reject=550\"@b>, relay=bot [192.0.2.66], reject=550 5.7.1 no",
    "Nov 27 10:00:00 mx sendmail[1]: 4ARA00ab000004: ruleset=check_rcpt, arg1=<x>, relay=u, relay=v [203.0.113.99], reject=550@bot [192.0.2.66], reject=550 5.7.1 no",
    "Nov 27 10:00:00 mx sendmail[1]: 4ARA00ab000005: bot [192.0.2.66]: VRFY from=<a@b>, size=1, class=0, nrcpts=1, relay=v [203.0.113.99]",
    // Exim: a greeting with anything in it, addresses, subjects.
    "2026-11-27 10:00:00 1xAbCd-000001-AB <= a@b H=(x) [203.0.113.99] (y) [192.0.2.66] P=smtp S=1",
    "2026-11-27 10:00:00 1xAbCd-000003-AB <= a@b H=(x) [203.0.113.99] P=smtp S=1 id=(y) [192.0.2.66] P=smtp S=1",
    "2026-11-27 10:00:00 1xAbCd-000002-AB <= \"x H=v [203.0.113.99] P=smtp\"@b H=(x) [192.0.2.66] P=smtp S=1 id=x H=v [203.0.113.99] T=\"H=v [203.0.113.99]\"",
    "2026-11-27 10:00:00 H=(x [203.0.113.99] rejected RCPT) [192.0.2.66] F=<a@b> rejected RCPT <x@y>: no",
    "2026-11-27 10:00:00 H=(x) [192.0.2.66] F=<\"> H=v [203.0.113.99] rejected RCPT\"@b> rejected RCPT <x@y>: no",
    "2026-11-27 10:00:00 rejected HELO from H=v [203.0.113.99] rejected RCPT",
    // Ends of lines as syslog writes them, and heads in the middle.
    "Nov 27 10:00:00 mx postfix/smtpd[1]: warning: x#012Nov 27 10:00:00 mx postfix/smtpd[1]: 4ABCDEF123: client=x[203.0.113.99]",
    "Nov 27 10:00:00 mx postfix/smtpd[1]: warning: \rNov 27 10:00:00 mx postfix/smtpd[1]: 4ABCDEF123: client=x[203.0.113.99]",
    "Nov 27 10:00:00 mx app[1]: postfix/smtpd[1]: 4ABCDEF123: client=x[203.0.113.99]",
    "<22>Nov 27 10:00:00 mx notpostfix/smtpd[1]: 4ABCDEF123: client=x[203.0.113.99]",
    "Nov 27 10:00:00 mx postfixed/smtpd[1]: 4ABCDEF123: client=x[203.0.113.99]",
];

#[test]
fn nobody_can_put_the_blame_on_another() {
    for line in FORGED {
        let reader = read(line);
        let known = addresses(&reader);
        assert!(
            known.is_empty() || known == ["192.0.2.66"],
            "{line}: {known:?}"
        );
    }
    let all = read(&FORGED.join("\n"));
    assert_eq!(addresses(&all), ["192.0.2.66"]);
    let attacker = figures(&all, "192.0.2.66");
    assert_eq!((attacker.messages, attacker.recipients), (3, 2));
    assert_eq!(all.counts().lines, FORGED.len() as u64);
}

#[test]
fn a_queue_id_that_a_client_says_is_none_of_ours() {
    // The second line is somebody's greeting, not a client of the message.
    let log = "\
Nov 27 10:00:00 mx postfix/smtpd[1]: 4ABCDEF123: client=x[192.0.2.66]
Nov 27 10:00:00 mx postfix/smtpd[1]: NOQUEUE: reject: RCPT from y[192.0.2.67]: 554 no; from=<> to=<x> proto=SMTP helo=<4ABCDEF123: client=v[203.0.113.99]>
Nov 27 10:00:00 mx postfix/qmgr[1]: 4ABCDEF123: from=<\"x>, size=999999, nrcpt=999 (queue active)\"@b>, size=10, nrcpt=1 (queue active)
";
    let reader = read(log);
    assert_eq!(addresses(&reader), ["192.0.2.66", "192.0.2.67"]);
    let client = figures(&reader, "192.0.2.66");
    assert_eq!(
        (client.messages, client.recipients, client.bytes),
        (1, 1, 10)
    );
}

#[test]
fn a_line_beyond_the_limit_says_nothing() {
    let line = format!(
        "Nov 27 10:00:00 mx postfix/smtpd[1]: warning: {}Nov 27 10:00:00 mx postfix/smtpd[1]: 4ABCDEF123: client=x[{VICTIM}]\n",
        "x".repeat(line::LINE_LIMIT - 46)
    );
    let reader = read(&line);
    assert_eq!((reader.counts().lines, addresses(&reader).len()), (0, 0));
}

/// Parts that lines are made of, for inputs that look like some.
fn part() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "Nov 27 10:00:00 mx ",
        "2026-11-27T10:00:00Z mx ",
        "2026-11-27 10:00:00 ",
        "1 2026-11-27T10:00:00Z mx postfix/smtpd 1 - [x y=\"",
        "postfix/smtpd[1]: ",
        "postfix/qmgr[1]: ",
        "postfix/smtp[1]: ",
        "postfix/cleanup[1]: ",
        "sendmail[1]: ",
        "exim[1]: ",
        "4ABCDEF123: ",
        "4ARA00ab000001: ",
        "1xAbCd-000001-AB ",
        "client=x[192.0.2.66]",
        "from=<a@b>, size=1, nrcpt=1 (queue active)",
        "from=<a@b>, size=1, class=0, nrcpts=1, relay=x [192.0.2.66]",
        "to=<a@b>, relay=x[192.0.2.66]:25, delay=1, delays=1/1/1/1, dsn=2.0.0, status=sent (x)",
        "to=<a@b>,<c@d>, delay=00:00:01, stat=Sent",
        "reject: RCPT from x[192.0.2.66]: 554 no; from=<",
        "ruleset=check_rcpt, arg1=<x>, relay=[192.0.2.66], reject=550",
        "Milter: data, reject=550",
        "<= a@b H=(x) [192.0.2.66] P=smtp S=1",
        "=> a@b R=x T=y H=z [192.0.2.66]",
        "H=(x) [192.0.2.66] F=<a@b> rejected RCPT <x>: no",
        "Completed",
        "removed",
        "\n",
        "<",
        ">",
        "\"",
        "\\",
        "[",
        "]",
        ", ",
        "99999999999999999999",
    ]);
    prop_oneof![
        8 => known.prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_input_panics_or_exceeds_bounds(parts in prop::collection::vec(part(), 0..60)) {
        let limits = Limits { queue_ids: 4, keep_open: 60, sources: 2, addresses: KeptAddresses::Full };
        let reader = read_with(limits, &parts.concat());
        let joiner = reader.joiner();
        prop_assert!(joiner.clients().len() <= 2);
        prop_assert_eq!(joiner.open(), 0);
        let counts = reader.counts();
        prop_assert_eq!(
            counts.lines,
            counts.events + counts.other + counts.unclear + counts.foreign + counts.headless
        );
        for (_, figures) in joiner.clients().iter() {
            for message in &figures.latest {
                prop_assert!(message.recipients.len() <= 4);
                let texts = message.recipients.iter().chain(&message.sender);
                for text in texts {
                    prop_assert!(!text.contains(char::is_control) && text.len() < 3000);
                }
            }
        }
    }

    #[test]
    fn octets_that_are_no_log_give_nothing(octets in prop::collection::vec(any::<u8>(), 0..2000)) {
        let reader = read_with(LIMITS, &octets);
        prop_assert_eq!(reader.joiner().clients().len(), 0);
    }
}
