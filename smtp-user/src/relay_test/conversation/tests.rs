//! The conversation with servers that are scripts: decent ones, and hostile ones.

use proptest::prelude::*;

use super::*;

const LOCAL: &str = "198.51.100.9";

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).expect(text)
}

fn plan(data: bool) -> Plan {
    Plan {
        target: "192.0.2.7".parse().expect("an address"),
        helo: None,
        sender: mailbox("from@probe.example.net"),
        recipient: mailbox("relay-test@example.org"),
        message: data.then(|| Message {
            token: "0123456789abcdef".to_owned(),
            date: "Fri, 27 Nov 2026 07:00:00 +0000".to_owned(),
        }),
        limits: Limits::default(),
    }
}

/// What a server does with what it is sent; `None` for the greeting.
type Answer<'a> = dyn FnMut(Option<&str>) -> Event<'static> + 'a;

/// Plays a server to the end; each step takes 10 ms.
fn play(plan: Plan, answer: &mut Answer<'_>) -> Findings {
    let (mut conversation, mut wish) = Conversation::begin(plan);
    let mut elapsed = Duration::ZERO;
    for _ in 0..10_000 {
        elapsed += Duration::from_millis(10);
        let event = match &wish {
            Wish::Connect { .. } => Event::Connected(LOCAL.parse().expect("an address")),
            Wish::Send { octets, .. } => {
                let text = std::str::from_utf8(octets).expect("commands are ASCII");
                answer(Some(text.strip_suffix("\r\n").expect("whole lines")))
            }
            Wish::Receive { .. } => answer(None),
            Wish::End => return conversation.into_findings(),
        };
        if event == Event::Nothing {
            elapsed += Duration::from_secs(30);
        }
        wish = conversation.handle(elapsed, event);
    }
    panic!("it does not end");
}

fn said(text: &'static str) -> Event<'static> {
    Event::Received(text.as_bytes())
}

/// A decent server that decides about MAIL, RCPT, DATA and the message by this.
fn decent(
    decide: &mut dyn FnMut(&str) -> &'static str,
) -> impl FnMut(Option<&str>) -> Event<'static> + '_ {
    move |command| {
        let Some(command) = command else {
            return said("220 mx.example ESMTP\r\n");
        };
        let verb = command.split([' ', ':']).next().unwrap_or_default();
        said(match verb {
            "EHLO" => "250-mx.example\r\n250-PIPELINING\r\n250 starttls\r\n",
            "RSET" => "250 2.0.0 Ok\r\n",
            "QUIT" => "221 2.0.0 Bye\r\n",
            _ => decide(command),
        })
    }
}

fn outcomes(findings: &Findings) -> Vec<RelayOutcome> {
    findings
        .patterns
        .iter()
        .map(|tested| tested.finding.outcome)
        .collect()
}

fn only(findings: &Findings, outcome: RelayOutcome) {
    assert_eq!(
        outcomes(findings),
        vec![outcome; PATTERNS.len()],
        "{findings:#?}"
    );
}

#[test]
fn a_closed_relay_rejects_every_pattern() {
    let mut commands = Vec::new();
    let findings = play(
        plan(true),
        &mut decent(&mut |command| {
            commands.push(command.to_owned());
            if command.starts_with("MAIL") {
                "250 2.1.0 Ok\r\n"
            } else {
                "554 5.7.1 Relay access denied\r\n"
            }
        }),
    );
    only(&findings, RelayOutcome::Rejected);
    assert_eq!(findings.patterns[0].finding.code, Some(554));
    assert_eq!(
        findings.patterns[0].finding.detail,
        "RCPT was answered with: 554 5.7.1 Relay access denied"
    );
    assert_eq!(findings.starttls, StartTls::Offered);
    assert_eq!(findings.greeting.as_deref(), Some("mx.example ESMTP"));
    assert_eq!(commands.len(), 2 * PATTERNS.len());
    assert_eq!(commands[1], "RCPT TO:<relay-test@example.org>");
    assert!(
        commands
            .iter()
            .any(|command| command.contains("@mx.example>")),
        "{commands:#?}"
    );
    // Eight patterns to a connection.
    assert_eq!(findings.connections as usize, PATTERNS.len().div_ceil(8));
    let transcript: Vec<&str> = findings
        .transcript
        .iter()
        .map(|line| line.text.as_str())
        .collect();
    assert!(
        transcript.contains(&"EHLO [198.51.100.9]"),
        "{transcript:#?}"
    );
    assert!(!transcript.contains(&"DATA"), "{transcript:#?}");
}

#[test]
fn an_open_relay_takes_one_message_and_no_more() {
    let mut messages = Vec::new();
    let mut decide = |command: &str| {
        if command == "DATA" {
            return "354 go on\r\n";
        }
        if command.starts_with("From:") {
            messages.push(command.to_owned());
        }
        "250 2.0.0 Ok\r\n"
    };
    let findings = play(plan(true), &mut decent(&mut decide));
    let found = outcomes(&findings);
    assert_eq!(found[0], RelayOutcome::Open);
    assert!(
        found[1..]
            .iter()
            .all(|outcome| *outcome == RelayOutcome::AcceptedBut),
        "{found:?}"
    );
    let [message] = &messages[..] else {
        panic!("{messages:#?}");
    };
    assert!(
        message.contains("\r\nX-Smtpflow-Relay-Test: 0123456789abcdef\r\n"),
        "{message}"
    );
    assert!(
        message.contains("\r\nTo: <relay-test@example.org>\r\n") && message.ends_with("\r\n."),
        "{message}"
    );
}

#[test]
fn without_leave_no_message_is_sent() {
    let findings = play(
        plan(false),
        &mut decent(&mut |command| {
            assert!(
                command.starts_with("MAIL") || command.starts_with("RCPT"),
                "{command}"
            );
            "250 Ok\r\n"
        }),
    );
    only(&findings, RelayOutcome::AcceptedBut);
    assert_eq!(findings.patterns[0].finding.code, Some(250));
}

#[test]
fn what_is_refused_at_data_or_behind_it_is_not_open_and_not_tried_for_ever() {
    for (data, text) in [
        ("550 no\r\n", ""),
        ("354 go on\r\n", "554 spam\r\n"),
        ("250 what\r\n", ""),
    ] {
        let mut tries = 0;
        let mut decide = |command: &str| match command {
            "DATA" => {
                tries += 1;
                data
            }
            message if message.starts_with("From:") => text,
            _ => "250 Ok\r\n",
        };
        let findings = play(plan(true), &mut decent(&mut decide));
        only(&findings, RelayOutcome::AcceptedBut);
        assert_eq!(tries, 3, "{data}");
    }
}

#[test]
fn half_open_is_seen_by_its_pattern() {
    let findings = play(
        plan(false),
        &mut decent(&mut |command| {
            if command.starts_with("MAIL") || command.contains('%') {
                "250 Ok\r\n"
            } else {
                "550 no\r\n"
            }
        }),
    );
    for tested in &findings.patterns {
        let is_percent = tested.rcpt.contains('%');
        assert_eq!(
            tested.finding.outcome == RelayOutcome::AcceptedBut,
            is_percent,
            "{tested:?}"
        );
    }
}

#[test]
fn greylisting_is_a_rejection_for_now() {
    let findings = play(
        plan(false),
        &mut decent(&mut |command| {
            if command.starts_with("MAIL") {
                "250 Ok\r\n"
            } else {
                "450 4.2.0 Greylisted\r\n"
            }
        }),
    );
    only(&findings, RelayOutcome::Rejected);
    assert_eq!(findings.patterns[3].finding.code, Some(450));
}

#[test]
fn nobody_there_is_closed() {
    let (mut conversation, wish) = Conversation::begin(plan(false));
    assert!(matches!(wish, Wish::Connect { .. }));
    let event = Event::NotConnected("connection refused".to_owned());
    assert_eq!(
        conversation.handle(Duration::from_millis(1), event),
        Wish::End
    );
    only(&conversation.into_findings(), RelayOutcome::Closed);
}

#[test]
fn another_peer_is_not_spoken_to() {
    let (mut conversation, _) = Conversation::begin(plan(false));
    let event = Event::Stranger("connected to 198.51.100.1".to_owned());
    assert_eq!(
        conversation.handle(Duration::from_millis(1), event),
        Wish::End
    );
    let findings = conversation.into_findings();
    only(&findings, RelayOutcome::Unclear);
    assert_eq!(findings.commands, 0);
}

#[test]
fn who_does_not_want_to_talk_has_refused() {
    for greeting in ["554 no SMTP service here\r\n", "421 too many\r\n"] {
        let findings = play(plan(false), &mut |_| said(greeting));
        only(&findings, RelayOutcome::Refused);
        assert_eq!(findings.commands, 0, "{findings:#?}");
    }
    let findings = play(plan(false), &mut |_| Event::Closed);
    only(&findings, RelayOutcome::Refused);
    let findings = play(plan(false), &mut |command| match command {
        None => said("220 mx.example\r\n"),
        Some(_) => said("550 not you\r\n"),
    });
    only(&findings, RelayOutcome::Refused);
    assert_eq!(findings.commands, 2);
}

#[test]
fn an_old_server_is_told_helo() {
    let findings = play(plan(false), &mut |command| match command {
        None => said("220 old.example Sendmail 8.6\r\n"),
        Some(command) if command.starts_with("EHLO") => said("500 Command unrecognized\r\n"),
        Some(command) if command.starts_with("RCPT") => said("571 we do not relay\r\n"),
        Some(_) => said("250 ok\r\n"),
    });
    only(&findings, RelayOutcome::Rejected);
    assert_eq!(findings.starttls, StartTls::Unknown);
}

#[test]
fn a_server_that_hangs_up_after_each_rejection_is_asked_everything() {
    let mut is_over = false;
    let findings = play(plan(false), &mut |command| {
        let Some(command) = command else {
            is_over = false;
            return said("220 mx.example\r\n");
        };
        if is_over {
            return Event::Closed;
        }
        is_over = command.starts_with("RCPT");
        if is_over {
            said("550 bye\r\n")
        } else {
            said("250 mx.example\r\n")
        }
    });
    only(&findings, RelayOutcome::Rejected);
}

#[test]
fn a_server_that_closes_at_rcpt_is_asked_twice_and_is_unclear() {
    let mut asked = 0;
    let findings = play(plan(false), &mut |command| match command {
        None => said("220 mx.example\r\n"),
        Some(command) if command.starts_with("RCPT") => {
            asked += 1;
            Event::Closed
        }
        Some(_) => said("250 mx.example\r\n"),
    });
    only(&findings, RelayOutcome::Unclear);
    assert_eq!(findings.connections, Limits::default().connections);
    assert_eq!(asked, findings.connections);
}

#[test]
fn the_server_that_says_421_is_left_and_asked_again() {
    let mut left = 2;
    let findings = play(
        plan(false),
        &mut decent(&mut |command| {
            if command.starts_with("MAIL") {
                return "250 Ok\r\n";
            }
            if left > 0 {
                left -= 1;
                return "421 4.7.0 too many errors\r\n";
            }
            "554 no\r\n"
        }),
    );
    assert_eq!(findings.patterns[0].finding.code, Some(421));
    assert_eq!(findings.patterns[1].finding.code, Some(554));
}

#[test]
fn silence_and_nonsense_end_clearly() {
    for (name, greeting) in [
        ("silence", Event::Nothing),
        ("no reply", said("SSH-2.0-OpenSSH_9.2\r\n")),
        ("http", said("HTTP/1.1 400 Bad Request\r\n\r\n")),
        ("two codes", said("220-a\r\n554 b\r\n")),
        ("out of turn", said("220 a\r\n250 b\r\n")),
        ("out of turn, unfinished", said("220 a\r\n25")),
    ] {
        let findings = play(plan(false), &mut |_| greeting.clone());
        only(&findings, RelayOutcome::Unclear);
        assert_eq!(findings.commands, 0, "{name}");
        let detail = &findings.patterns[0].finding.detail;
        assert!(!detail.is_empty(), "{name}");
    }
}

#[test]
fn an_endless_line_and_an_endless_reply_have_an_end() {
    static LONG: [u8; 5000] = [b'x'; 5000];
    let findings = play(plan(false), &mut |_| Event::Received(&LONG));
    only(&findings, RelayOutcome::Unclear);
    assert!(findings.octets <= 2050, "{}", findings.octets);
    let findings = play(plan(false), &mut |_| said("220-more\r\n"));
    only(&findings, RelayOutcome::Unclear);
    // Long answers, within the limits of a reply, but too many of them.
    static REPLY: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
        let mut reply = format!("250-{}\r\n", "x".repeat(1000)).repeat(20);
        reply.push_str("250 mx.example\r\n");
        reply.into_bytes()
    });
    let findings = play(plan(false), &mut |command| match command {
        None => said("220 mx.example\r\n"),
        Some(_) => Event::Received(&REPLY),
    });
    assert_eq!(findings.octets, Limits::default().octets);
    let last = findings.patterns.last().expect("patterns");
    assert!(
        last.finding.detail.contains("the most that is read"),
        "{last:?}"
    );
}

#[test]
fn drops_of_a_reply_do_not_prolong_the_wait() {
    let (mut conversation, mut wish) = Conversation::begin(plan(false));
    let mut elapsed = Duration::ZERO;
    let mut octets = 0;
    while wish != Wish::End {
        elapsed += Duration::from_secs(7);
        let event = match &wish {
            Wish::Connect { .. } => Event::Connected(LOCAL.parse().expect("an address")),
            _ => said("2"),
        };
        octets += 1;
        wish = conversation.handle(elapsed, event);
        assert!(octets < 10, "it waits on");
    }
    assert!(elapsed <= Duration::from_secs(45), "{elapsed:?}");
}

#[test]
fn a_slow_server_is_heard_for_as_long_as_a_test_lasts() {
    let (mut conversation, mut wish) = Conversation::begin(plan(true));
    let mut elapsed = Duration::ZERO;
    while wish != Wish::End {
        elapsed += Duration::from_secs(20);
        let event = match &wish {
            Wish::Connect { .. } => Event::Connected(LOCAL.parse().expect("an address")),
            Wish::Receive { .. } => said("220 mx.example\r\n"),
            Wish::Send { octets, .. } if octets.starts_with(b"DATA") => said("354 go on\r\n"),
            _ => said("250 mx.example\r\n"),
        };
        wish = conversation.handle(elapsed, event);
        assert!(
            elapsed <= Duration::from_secs(120),
            "it goes on for {elapsed:?}"
        );
    }
    let findings = conversation.into_findings();
    let last = findings.patterns.last().expect("patterns");
    assert_eq!(last.finding.outcome, RelayOutcome::Unclear);
    assert!(last.finding.detail.contains("were over"), "{last:?}");
}

#[test]
fn a_message_without_an_answer_may_have_been_accepted_and_is_the_only_one() {
    let mut messages = 0;
    let findings = play(plan(true), &mut |command| match command {
        None => said("220 mx.example\r\n"),
        Some("DATA") => said("354 go on\r\n"),
        Some(message) if message.starts_with("From:") => {
            messages += 1;
            Event::Closed
        }
        Some(_) => said("250 mx.example\r\n"),
    });
    assert_eq!(messages, 1);
    only(&findings, RelayOutcome::AcceptedBut);
}

#[test]
fn what_the_server_calls_itself_goes_nowhere_but_into_mailboxes() {
    for (greeting, host) in [
        ("220 MX.Example.org ESMTP\r\n", "MX.Example.org"),
        ("220 [203.0.113.9] ESMTP\r\n", "[192.0.2.7]"),
        ("220 203.0.113.9 ESMTP\r\n", "[192.0.2.7]"),
        ("220 a>b@c.example\r\n", "[192.0.2.7]"),
        ("220\r\n", "[192.0.2.7]"),
        ("220 \x1b]0;x\x07.example\r\n", "[192.0.2.7]"),
    ] {
        let findings = play(plan(false), &mut |command| match command {
            None => said(greeting),
            Some(command) if command.starts_with("EHLO") => said("250 hello\r\n"),
            Some(_) => said("551 try <somebody@elsewhere.example>\r\n"),
        });
        only(&findings, RelayOutcome::Rejected);
        let percent = findings
            .patterns
            .iter()
            .find(|tested| tested.name == "percent_at_host");
        let expected = format!("RCPT TO:<relay-test%example.org@{host}>");
        assert_eq!(percent.expect("the pattern").rcpt, expected, "{greeting:?}");
    }
}

/// An event from what a generator gives.
fn event(kind: u8, octets: &[u8]) -> Event<'_> {
    match kind % 8 {
        0 => Event::Connected(LOCAL.parse().expect("an address")),
        1 => Event::NotConnected(String::from_utf8_lossy(octets).into_owned()),
        2 => Event::Stranger(String::from_utf8_lossy(octets).into_owned()),
        3 => Event::Closed,
        4 => Event::Nothing,
        _ => Event::Received(octets),
    }
}

/// Octets that get somewhere more often than random ones.
fn octets() -> impl Strategy<Value = Vec<u8>> {
    let reply = |text: &'static str| Just(text.as_bytes().to_vec());
    prop_oneof![
        4 => reply("220 mx.example ESMTP\r\n"),
        8 => reply("250 mx.example\r\n"),
        2 => reply("250-mx.example\r\n"),
        2 => reply("354 go on\r\n"),
        2 => reply("421 bye\r\n"),
        2 => reply("550 no\r\n"),
        1 => reply("450 not now\r\n"),
        1 => reply("551 <x@y.example>\r\n250 x\r\n"),
        2 => prop::collection::vec(any::<u8>(), 0..300),
        1 => prop::collection::vec(any::<u8>(), 2000..6000),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_events_panic_or_leave_the_bounds(
        data in any::<bool>(),
        events in prop::collection::vec((any::<u8>(), 0_u64..9_000, octets()), 1..400),
        follows in any::<bool>(),
    ) {
        let limits = Limits::default();
        let (mut conversation, mut wish) = Conversation::begin(plan(data));
        let mut elapsed = 0;
        let (mut sent, mut messages, mut connects) = (0_u32, 0, 1);
        for (kind, milliseconds, octets) in &events {
            // Mostly what a socket could do, and now and then what it could not.
            let kind = match &wish {
                Wish::Connect { .. } if follows => 0,
                Wish::End => 7,
                _ if follows => 7,
                _ => *kind,
            };
            elapsed += milliseconds / 20;
            let was_over = wish == Wish::End;
            wish = conversation.handle(Duration::from_millis(elapsed), event(kind, octets));
            prop_assert!(!was_over || wish == Wish::End, "it was over");
            match &wish {
                Wish::Send { octets, within } => {
                    prop_assert!(octets.ends_with(b"\r\n"));
                    prop_assert!(*within <= limits.reply);
                    if octets.starts_with(b"From:") { messages += 1 } else { sent += 1 }
                    let is_ascii = octets.iter().all(|octet| matches!(octet, b' '..=b'~' | b'\r' | b'\n'));
                    prop_assert!(is_ascii);
                }
                Wish::Connect { within } => {
                    connects += 1;
                    prop_assert!(*within <= limits.reply);
                }
                Wish::Receive { within } => prop_assert!(*within <= limits.reply),
                Wish::End => {}
            }
        }
        let findings = conversation.into_findings();
        prop_assert_eq!(findings.patterns.len(), PATTERNS.len());
        prop_assert!(findings.octets <= limits.octets);
        prop_assert!(findings.commands <= limits.commands && sent <= limits.commands);
        prop_assert!(findings.connections <= limits.connections && connects <= limits.connections);
        prop_assert!(messages <= limits.messages && (data || messages == 0));
        let open = findings.patterns.iter().filter(|tested| tested.finding.outcome == RelayOutcome::Open);
        prop_assert!(open.count() <= 1);
        for line in &findings.transcript {
            prop_assert!(line.text.bytes().all(|octet| (b' '..=b'~').contains(&octet)));
        }
        for tested in &findings.patterns {
            let detail = &tested.finding.detail;
            prop_assert!(detail.bytes().all(|octet| (b' '..=b'~').contains(&octet)), "{}", detail);
        }
    }
}
