//! Lines as the servers write them.

use super::*;

const POSTFIX: &str = "\
Nov 27 10:00:00 mx1 postfix/smtpd[3101]: connect from bot.client.example[192.0.2.7]
Nov 27 10:00:00 mx1 postfix/smtpd[3101]: 4ABCD12345: client=bot.client.example[192.0.2.7]
Nov 27 10:00:00 mx1 postfix/cleanup[3105]: 4ABCD12345: message-id=<1@client.example>
Nov 27 10:00:00 mx1 postfix/qmgr[2001]: 4ABCD12345: from=<ann@client.example>, size=2345, nrcpt=2 (queue active)
Nov 27 10:00:01 mx1 postfix/smtp[3106]: 4ABCD12345: to=<bob@other.example>, relay=mx.other.example[198.51.100.4]:25, delay=1.1, delays=0.1/0.01/0.5/0.5, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 9F)
Nov 27 10:00:01 mx1 postfix/smtp[3107]: 4ABCD12345: to=<carl@third.example>, orig_to=<c@third.example>, relay=none, delay=30, delays=0.1/0/30/0, dsn=4.4.1, status=deferred (connect to third.example[198.51.100.9]:25: Connection timed out)
Nov 27 10:00:01 mx1 postfix/smtpd[3101]: disconnect from bot.client.example[192.0.2.7] ehlo=1 mail=1 rcpt=2 data=1 quit=1 commands=6
Nov 27 10:20:01 mx1 postfix/qmgr[2001]: 4ABCD12345: from=<ann@client.example>, size=2345, nrcpt=2 (queue active)
Nov 27 10:20:02 mx1 postfix/smtp[3207]: 4ABCD12345: to=<carl@third.example>, relay=third.example[198.51.100.9]:25, conn_use=2, delay=1201, delays=1200/0/0.5/0.5, dsn=5.1.1, status=bounced (host third.example[198.51.100.9] said: 550 5.1.1 no such user (in reply to RCPT TO command))
Nov 27 10:20:02 mx1 postfix/bounce[3208]: 4ABCD12345: sender non-delivery notification: 5ABCD12345
Nov 27 10:20:02 mx1 postfix/qmgr[2001]: 4ABCD12345: removed
2026-11-27T10:30:00.123456+00:00 mx1 postfix/submission/smtpd[77]: 4Zqkxp3QzSz9rxC: client=unknown[2001:db8::7]:40123, sasl_method=PLAIN, sasl_username=dora
2026-11-27T10:30:00.223456+00:00 mx1 postfix/cleanup[78]: 4Zqkxp3QzSz9rxC: milter-reject: END-OF-MESSAGE from unknown[2001:db8::7]: 5.7.1 virus Eicar-Test-Signature found; from=<dora@client.example> to=<e@other.example> proto=ESMTP helo=<pc>
2026-11-27T10:30:01+00:00 mx1 postfix/smtpd[3111]: NOQUEUE: reject: RCPT from unknown[192.0.2.9]: 554 5.7.1 <x@y.example>: Relay access denied; from=<a@b.example> to=<x@y.example> proto=ESMTP helo=<friend>
2026-11-27T10:30:02+00:00 mx1 postfix/postscreen[3112]: NOQUEUE: reject: RCPT from [192.0.2.9]:53421: 550 5.7.1 Service unavailable; client [192.0.2.9] blocked using zen.example; from=<a@b.example>, to=<x@y.example>, proto=ESMTP, helo=<friend>
2026-11-27T10:30:03+00:00 mx1 postfix/pickup[3113]: 5ABCD12346: uid=0 from=<root>
2026-11-27T10:30:03+00:00 mx1 postfix/qmgr[2001]: 5ABCD12346: from=<root@mx1.example>, size=400, nrcpt=1 (queue active)
2026-11-27T10:30:04+00:00 mx1 sshd[99]: Accepted publickey for root
";

#[test]
fn postfix_is_read_as_it_writes() {
    let reader = read(POSTFIX);
    assert_eq!(
        addresses(&reader),
        ["192.0.2.7", "192.0.2.9", "2001:db8::7"]
    );
    let client = figures(&reader, "192.0.2.7");
    assert_eq!(
        (client.messages, client.recipients, client.bytes),
        (1, 2, 2345)
    );
    assert_eq!((client.sent, client.deferred, client.bounced), (1, 1, 1));
    let message = &client.latest[0];
    assert_eq!(message.queue_id, "4ABCD12345");
    assert_eq!(message.sender.as_deref(), Some("ann@client.example"));
    assert_eq!(
        message.recipients,
        ["bob@other.example", "carl@third.example"]
    );
    assert_eq!(message.relay, Some(IpAddr::from([198, 51, 100, 9])));
    assert_eq!(message.time, NOW - 7200);

    let infected = figures(&reader, "2001:db8::7");
    assert_eq!((infected.messages, infected.rejected()), (0, 1));
    assert_eq!(rejects(infected, Reason::Virus), 1);
    assert_eq!(infected.latest[0].rejected, Some(Reason::Virus));

    let refused = figures(&reader, "192.0.2.9");
    assert_eq!(rejects(refused, Reason::Relay), 1);
    assert_eq!(rejects(refused, Reason::Listed), 1);

    let counts = reader.counts();
    assert_eq!((counts.unclear, counts.headless, counts.foreign), (0, 0, 1));
    // The message of this host itself.
    assert_eq!(reader.joiner().joined().without_client, 1);
}

const SENDMAIL: &str = "\
Nov 27 10:00:00 mx2 sm-mta[6641]: 4ARA00ab006641: from=<ann@client.example>, size=1234, class=0, nrcpts=2, msgid=<2@client.example>, proto=ESMTP, daemon=MTA, relay=bot.client.example [192.0.2.7] (may be forged)
Nov 27 10:00:01 mx2 sm-mta[6643]: 4ARA00ab006641: to=<bob@other.example>,<carl@other.example>, delay=00:00:01, xdelay=00:00:01, mailer=esmtp, pri=151234, relay=mx.other.example. [198.51.100.4], dsn=2.0.0, stat=Sent (4ARA01xy000001 Message accepted for delivery)
Nov 27 10:01:00 mx2 sendmail[3161]: g8U2LVi03161: ruleset=check_rcpt, arg1=<x@y.example>, relay=moon.client.example [192.0.2.8], reject=550 5.7.1 <x@y.example>... Relaying denied
Nov 27 10:01:01 mx2 sm-mta[6645]: 4ARA01ab006645: ruleset=check_mail, arg1=<a@b.example>, relay=[IPv6:2001:db8::8], reject=451 4.1.8 Domain of sender address a@b.example does not resolve
Nov 27 10:01:02 mx2 sm-mta[6646]: ruleset=check_relay, arg1=x.example, arg2=192.0.2.8, relay=x.example [192.0.2.8] (may be forged), reject=550 5.7.1 Access denied
Nov 27 10:02:00 mx2 sm-mta[6650]: 4ARA02ab006650: Milter: data, reject=550 5.7.1 virus Eicar-Test-Signature detected
Nov 27 10:02:00 mx2 sm-mta[6650]: 4ARA02ab006650: from=<v@client.example>, size=900, class=0, nrcpts=1, msgid=<3@client.example>, proto=SMTP, daemon=MTA, relay=[192.0.2.8]
Nov 27 10:02:00 mx2 sm-mta[6650]: 4ARA02ab006650: to=<bob@other.example>, delay=00:00:00, pri=30900, stat=virus Eicar-Test-Signature detected
Nov 27 10:03:00 mx2 sendmail[4693]: 4ARA03ab004693: from=doron, size=84, class=0, nrcpts=1, msgid=<4@mx2.example>, relay=doron@localhost
Nov 27 10:03:00 mx2 sendmail[4693]: 4ARA03ab004693: to=root, ctladdr=doron (1000/1000), delay=00:00:00, xdelay=00:00:00, mailer=relay, pri=30084, relay=[127.0.0.1] [127.0.0.1], dsn=5.1.8, stat=User unknown
Nov 27 10:04:00 mx2 sm-mta[6700]: NOQUEUE: connect from [192.0.2.8]
Nov 27 10:04:01 mx2 sm-mta[6701]: 4ARA04ab006701: lost input channel from [192.0.2.8] to MTA after rcpt
";

#[test]
fn sendmail_is_read_as_it_writes() {
    let reader = read(SENDMAIL);
    assert_eq!(
        addresses(&reader),
        ["192.0.2.7", "192.0.2.8", "2001:db8::8"]
    );
    let client = figures(&reader, "192.0.2.7");
    assert_eq!((client.messages, client.recipients, client.sent), (1, 2, 2));
    assert_eq!((client.forged, client.rejected()), (1, 0));
    let message = &client.latest[0];
    assert_eq!(message.size, Some(1234));
    assert_eq!(
        message.recipients,
        ["bob@other.example", "carl@other.example"]
    );
    assert_eq!(message.relay, Some(IpAddr::from([198, 51, 100, 4])));

    let other = figures(&reader, "192.0.2.8");
    assert_eq!(rejects(other, Reason::Relay), 1);
    assert_eq!(rejects(other, Reason::Virus), 1);
    assert_eq!((other.messages, other.bounced), (1, 1));
    assert_eq!(rejects(figures(&reader, "2001:db8::8"), Reason::Name), 1);
    // A refusal at the connection has no queue id in front.
    assert_eq!((other.rejected(), other.forged), (3, 1));
    assert_eq!(reader.counts().unclear, 0);
}

const EXIM: &str = "\
2026-11-27 10:00:00 1xAbCd-000123-AB <= ann@client.example H=bot.client.example (pc) [192.0.2.7]:40312 P=esmtps X=TLS1.3:ECDHE_X25519__RSA_PSS_RSAE_SHA256__AES_256_GCM:256 CV=no SNI=\"mx 3\" S=2345 id=5@client.example T=\"S=9 hello\"
2026-11-27 10:00:01 1xAbCd-000123-AB => bob@other.example R=dnslookup T=remote_smtp H=mx.other.example [198.51.100.4] X=TLS1.3 CV=yes C=\"250 OK id=1\"
2026-11-27 10:00:01 1xAbCd-000123-AB -> carl@other.example R=dnslookup T=remote_smtp H=mx.other.example [198.51.100.4]
2026-11-27 10:00:02 1xAbCd-000123-AB == dora@third.example R=dnslookup T=remote_smtp defer (110): Connection timed out
2026-11-27 10:30:02 1xAbCd-000123-AB ** dora@third.example <d@third.example> F=<ann@client.example> R=dnslookup T=remote_smtp: retry timeout exceeded
2026-11-27 10:30:02 1xAbCd-000123-AB Completed
2026-11-27 10:31:00 +0000 1xAbCe-00000000123-ABCD <= <> R=1xAbCd-000123-AB U=Debian-exim P=local S=3000
2026-11-27 10:32:00.123 [4711] H=(friend) [192.0.2.9] F=<a@b.example> rejected RCPT <x@y.example>: relay not permitted
2026-11-27 10:32:01 1xAbCf-000124-AB H=psdn.example ([192.168.1.5]) [2001:db8::9]:4038 I=[203.0.113.10]:25 F=<m@client.example> rejected after DATA: This message contains a virus (Eicar-Test-Signature).
2026-11-27 10:32:02 H=[192.0.2.9] temporarily rejected EHLO or HELO virus: no
2026-11-27 10:32:03 H=host.example [192.0.2.9] SMTP connection lost after MAIL
2026-11-27 10:32:04 SMTP command timeout on connection from [192.0.2.9]
Nov 27 10:33:00 mx3 exim[4712]: 2026-11-27 10:33:00 1xAbCg-000125-AB <= \"a b\"@client.example H=(pc) [192.0.2.10] P=smtp S=100
Nov 27 10:33:01 mx3 exim4[4712]: 1xAbCg-000125-AB => local <local@mx3.example> R=local_user T=maildir_home
";

#[test]
fn exim_is_read_as_it_writes() {
    let reader = read(EXIM);
    assert_eq!(
        addresses(&reader),
        ["192.0.2.7", "192.0.2.9", "192.0.2.10", "2001:db8::9"]
    );
    let client = figures(&reader, "192.0.2.7");
    assert_eq!(
        (client.messages, client.recipients, client.bytes),
        (1, 3, 2345)
    );
    assert_eq!((client.sent, client.deferred, client.bounced), (2, 1, 1));
    assert_eq!(
        client.latest[0].relay,
        Some(IpAddr::from([198, 51, 100, 4]))
    );
    assert_eq!(client.latest[0].recipient_count, 3);
    let refused = figures(&reader, "192.0.2.9");
    assert_eq!(rejects(refused, Reason::Relay), 1);
    assert_eq!(rejects(refused, Reason::Name), 1);
    assert_eq!(rejects(figures(&reader, "2001:db8::9"), Reason::Virus), 1);
    let quoted = figures(&reader, "192.0.2.10");
    assert_eq!((quoted.messages, quoted.sent), (1, 1));
    assert_eq!(
        quoted.latest[0].sender.as_deref(),
        Some("\"a b\"@client.example")
    );
    assert_eq!(reader.counts().unclear, 0);
}

#[test]
fn what_is_kept_of_mail_addresses_is_the_operators_choice() {
    for (choice, sender, recipients) in [
        (KeptAddresses::None, None, &[][..]),
        (
            KeptAddresses::Domain,
            Some("client.example"),
            &["other.example", "third.example"][..],
        ),
        (
            KeptAddresses::Full,
            Some("ann@client.example"),
            &["bob@other.example", "carl@third.example"][..],
        ),
    ] {
        let limits = Limits {
            addresses: choice,
            ..LIMITS
        };
        let reader = read_with(limits, POSTFIX.as_bytes());
        let client = figures(&reader, "192.0.2.7");
        let message = &client.latest[0];
        assert_eq!(message.sender.as_deref(), sender);
        assert_eq!(message.recipients, recipients);
        assert_eq!(client.senders.keys().next().map(String::as_str), sender);
        let json = serde_json::to_string(message).expect("JSON");
        assert_eq!(json.contains('@'), choice == KeptAddresses::Full, "{json}");
    }
}
