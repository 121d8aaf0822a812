//! How many lines of a mail log are read in a second on one core, of each server: medians of one run.
//!
//! `cargo bench -p smtpflow-tests --bench maillog`. The goal is 200,000 lines a second.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use smtp_user::maillog::line::Lines;
use smtp_user::maillog::{Limits, Reader};
use smtp_user::model::mail::KeptAddresses;
use smtpflow_tests::cost::{measure, median, resident_mib};

const ROUNDS: usize = 7;
/// Messages of a log, over a day.
const MESSAGES: u32 = 100_000;
/// 2026-11-28T00:00:00Z.
const NOW: i64 = 1_795_824_000;

const LIMITS: Limits = Limits {
    queue_ids: 100_000,
    keep_open: 86_400,
    sources: 16_384,
    addresses: KeptAddresses::Full,
};

/// The time of a message, as syslog writes it.
fn stamp(i: u32) -> String {
    let second = u64::from(i) * 86_400 / u64::from(MESSAGES);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{hour:02}:{minute:02}:{second:02}")
}

/// One of 5,000 clients.
fn client(i: u32) -> String {
    let client = i.wrapping_mul(0x9e37_79b1) % 5000;
    format!("192.0.{}.{}", client / 250, 1 + client % 250)
}

fn postfix(i: u32, log: &mut String) {
    let (time, client, size) = (stamp(i), client(i), 1000 + i % 5000);
    let id = format!("4{i:09X}");
    let head = |daemon: &str| format!("Nov 27 {time} mx1 postfix/{daemon}[{}]: ", 3000 + i % 100);
    let (smtpd, cleanup, qmgr, smtp) = (head("smtpd"), head("cleanup"), head("qmgr"), head("smtp"));
    let _ = write!(
        log,
        "{smtpd}connect from host{i}.client.example[{client}]
{smtpd}{id}: client=host{i}.client.example[{client}]
{cleanup}{id}: message-id=<{i}.1795824000@host{i}.client.example>
{qmgr}{id}: from=<user{i}@client.example>, size={size}, nrcpt=1 (queue active)
{smtpd}disconnect from host{i}.client.example[{client}] ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5
{smtp}{id}: to=<friend{i}@other.example>, relay=mx.other.example[198.51.100.4]:25, delay=1.1, delays=0.1/0.01/0.5/0.5, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 9F{i})
{qmgr}{id}: removed
{smtpd}NOQUEUE: reject: RCPT from unknown[{client}]: 554 5.7.1 <x{i}@y.example>: Relay access denied; from=<a@b.example> to=<x{i}@y.example> proto=ESMTP helo=<friend>
"
    );
}

fn sendmail(i: u32, log: &mut String) {
    let (time, client, size) = (stamp(i), client(i), 1000 + i % 5000);
    let head = format!(
        "Nov 27 {time} mx2 sm-mta[{}]: 4ARA{i:010}: ",
        3000 + i % 100
    );
    let _ = write!(
        log,
        "{head}from=<user{i}@client.example>, size={size}, class=0, nrcpts=1, msgid=<{i}@client.example>, proto=ESMTP, daemon=MTA, relay=host{i}.client.example [{client}] (may be forged)
{head}to=<friend{i}@other.example>, delay=00:00:01, xdelay=00:00:01, mailer=esmtp, pri=121234, relay=mx.other.example. [198.51.100.4], dsn=2.0.0, stat=Sent (Message accepted for delivery)
{head}ruleset=check_rcpt, arg1=<x{i}@y.example>, relay=host{i}.client.example [{client}], reject=550 5.7.1 <x{i}@y.example>... Relaying denied
"
    );
}

fn exim(i: u32, log: &mut String) {
    let (time, client, size) = (stamp(i), client(i), 1000 + i % 5000);
    let head = format!("2026-11-27 {time} ");
    let id = format!("1{:05}-{:06}-AB", i / 1_000_000, i % 1_000_000);
    let _ = write!(
        log,
        "{head}{id} <= user{i}@client.example H=host{i}.client.example (pc) [{client}]:40312 P=esmtps X=TLS1.3:TLS_AES_256_GCM_SHA384:256 CV=no S={size} id={i}@client.example
{head}{id} => friend{i}@other.example R=dnslookup T=remote_smtp H=mx.other.example [198.51.100.4] X=TLS1.3 CV=yes C=\"250 OK id=1\"
{head}{id} Completed
{head}H=(friend) [{client}] F=<a@b.example> rejected RCPT <x{i}@y.example>: relay not permitted
"
    );
}

fn foreign(i: u32, log: &mut String) {
    let time = stamp(i);
    for _ in 0..4 {
        let _ = writeln!(
            log,
            "Nov 27 {time} mx1 dovecot[{i}]: imap-login: Login: user=<user{i}>, method=PLAIN, rip=192.0.2.1, lip=203.0.113.10, mpid={i}, TLS, session=<abcdefgh>"
        );
    }
}

fn read(log: &[u8]) -> Reader {
    let mut reader = Reader::new(TimeZone::UTC, NOW, LIMITS);
    let mut lines = Lines::default();
    for chunk in log.chunks(256 * 1024) {
        lines.push(chunk, |line| reader.line(line));
    }
    reader.finish();
    reader
}

/// Writes what a program logs of the message of this number.
type Form = fn(u32, &mut String);

fn main() {
    // In passing: `cargo test --benches`.
    let quick = std::env::args().any(|word| word == "--quick" || word == "--test");
    let messages = if quick { MESSAGES / 100 } else { MESSAGES };
    let forms: [(&str, Form); 4] = [
        ("postfix", postfix),
        ("sendmail", sendmail),
        ("exim", exim),
        ("other programs", foreign),
    ];
    for (name, form) in forms {
        let mut log = String::new();
        for i in 0..messages {
            form(i, &mut log);
        }
        let before = resident_mib();
        let mut costs = Vec::new();
        let mut reader = None;
        for _ in 0..if quick { 1 } else { ROUNDS } {
            drop(reader.take());
            let (read, cost) = measure(|| read(log.as_bytes()));
            costs.push(cost);
            reader = Some(read);
        }
        let reader = reader.expect("a round");
        let counts = reader.counts();
        assert_eq!(
            (counts.unclear, counts.headless),
            (0, 0),
            "{name}: {counts:?}"
        );
        if name != "other programs" {
            assert_eq!(
                reader.joiner().joined().messages,
                u64::from(messages),
                "{name}"
            );
        }
        let cost = median(&costs);
        println!(
            "{name}: {:.0} lines a second ({} lines of {} octets: {cost}), {:.1} MiB of figures of {} clients",
            counts.lines as f64 / cost.time.as_secs_f64(),
            counts.lines,
            log.len() as u64 / counts.lines,
            resident_mib() - before,
            reader.joiner().clients().len()
        );
    }
}
