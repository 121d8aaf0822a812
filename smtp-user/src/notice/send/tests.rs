//! Notices through relays on loopback: good ones, and such as do all that a relay may and may not do.
//!
//! The certificate of these relays is for 127.0.0.1 and of an authority whose key nobody has any more.

mod command;
mod fake;

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;

use self::fake::{Act, CERTIFICATE, FakeRelay, GOOD, Script};
use super::*;
use crate::model::notice::{NoticeKind, NoticeState, Recipient};
use crate::notice::settings::Tls;
use crate::server::Server;

const AUTHORITY: &str = include_str!("tests/authority.pem");
/// A message with a line that begins with a dot.
const MESSAGE: &[u8] = b"Subject: x\r\n\r\n.hidden\r\nlast\r\n";

fn settings(port: u16) -> Settings {
    Settings {
        from: Some("abuse@example.org".to_owned()),
        relay: Some(Server {
            host: "127.0.0.1".to_owned(),
            port,
        }),
        tls: Tls::Off,
        ..Settings::default()
    }
}

fn notice(recipients: &[&str]) -> Notice {
    Notice {
        id: 1,
        case: None,
        kind: NoticeKind::First,
        state: NoticeState::Approved,
        recipients: recipients
            .iter()
            .map(|mail| Recipient {
                mail: (*mail).to_owned(),
                fate: Fate::Pending,
            })
            .collect(),
        hosts: Vec::new(),
        made_at: 0,
        changed_at: 0,
        expires_at: 0,
        next_at: 0,
        attempts: 0,
        left_at: None,
        message_id: "a@b".to_owned(),
        subject: "x".to_owned(),
        text: String::new(),
        message: MESSAGE.to_vec(),
        last_reply: None,
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future)
}

/// What comes of a notice to one recipient, within this time.
fn send(settings: &Settings, time: Duration, recipients: &[&str]) -> Attempt {
    let mut sender = Sender::new(settings).expect("a sender");
    sender.timeout = time;
    let begun = Instant::now();
    let mut attempt = run(sender.send(&notice(recipients)));
    // While another test begins a process, that one has the new command open for writing for a moment.
    while attempt.reply.contains("Text file busy") {
        attempt = run(sender.send(&notice(recipients)));
    }
    assert!(
        begun.elapsed() < time + Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    attempt
}

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(1500);

#[test]
fn a_good_relay_gets_the_message_as_it_is() {
    let relay = FakeRelay::start(GOOD);
    let attempt = send(&settings(relay.port), LONG, &["a@x.example", "b@x.example"]);
    let taken = |mail: &str| (mail.to_owned(), Outcome::Taken);
    assert_eq!(
        attempt.outcomes,
        [taken("a@x.example"), taken("b@x.example")]
    );
    assert_eq!(attempt.reply, "250 2.0.0 queued as 42");
    let heard = relay.heard();
    assert_eq!(
        heard.commands,
        [
            "EHLO example.org",
            "MAIL FROM:<abuse@example.org>",
            "RCPT TO:<a@x.example>",
            "RCPT TO:<b@x.example>",
            "DATA",
            "QUIT"
        ]
    );
    assert_eq!(heard.messages.len(), 1);
    assert!(
        heard.messages[0].starts_with(MESSAGE),
        "{:?}",
        heard.messages
    );
    assert_eq!(heard.messages[0].trim_ascii_end(), MESSAGE.trim_ascii_end());
}

#[test]
fn whatever_a_relay_does_it_is_known_what_may_have_become_of_the_message() {
    use Act::{Cut, Drip, Giant, Hang, Lines, Say};
    use Outcome::{Later, Refused, Taken, Unknown};
    for (at, act, expected) in [
        ("greeting", Say("421 busy"), Later),
        ("greeting", Say("554 go away"), Later),
        ("greeting", Say("HTTP/1.1 400 Bad Request"), Later),
        ("greeting", Cut, Later),
        ("greeting", Hang, Later),
        ("greeting", Giant, Later),
        ("greeting", Lines, Later),
        ("greeting", Drip, Later),
        ("EHLO", Say("502 what"), Later),
        ("EHLO", Lines, Later),
        ("MAIL", Say("451 later"), Later),
        ("MAIL", Say("550 who are you"), Later),
        ("MAIL", Say("354 what"), Later),
        ("RCPT", Say("450 greylisted"), Later),
        ("RCPT", Say("550 5.1.1 no such user"), Refused),
        ("RCPT", Cut, Later),
        ("RCPT", Giant, Later),
        ("DATA", Say("451 later"), Later),
        ("DATA", Say("554 no"), Later),
        ("DATA", Say("250 good"), Later),
        ("DATA", Cut, Later),
        ("DATA", Hang, Later),
        ("end", Say("451 later"), Later),
        ("end", Say("552 too large"), Refused),
        ("end", Say("354 go on"), Unknown),
        ("end", Say("no reply"), Unknown),
        ("end", Cut, Unknown),
        ("end", Hang, Unknown),
        ("end", Giant, Unknown),
        ("end", Lines, Unknown),
        ("end", Drip, Unknown),
        ("QUIT", Say("500 what"), Taken),
        ("QUIT", Cut, Taken),
        ("QUIT", Hang, Taken),
    ] {
        let relay = FakeRelay::start(Script {
            at,
            act: Some(act),
            tls: false,
        });
        let time = if matches!(act, Say(_) | Cut) {
            LONG
        } else {
            SHORT
        };
        let attempt = send(&settings(relay.port), time, &["a@x.example"]);
        assert_eq!(
            attempt.outcomes,
            [("a@x.example".to_owned(), expected)],
            "{at} {act:?}: {}",
            attempt.reply
        );
        let is_reached = !matches!(at, "greeting" | "EHLO" | "MAIL")
            && (at, act) != ("RCPT", Cut)
            && (at, act) != ("RCPT", Giant);
        assert_eq!(attempt.reached, is_reached, "{at} {act:?}");
        assert!(attempt.reply.chars().count() <= 500 && !attempt.reply.contains(char::is_control));
        let arrived = relay.heard().messages.len();
        assert_eq!(
            arrived,
            usize::from(matches!(at, "end" | "QUIT")),
            "{at} {act:?}"
        );
    }
}

#[test]
fn nobody_there_is_no_loss() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").port()
    };
    let attempt = send(&settings(port), LONG, &["a@x.example"]);
    assert_eq!(
        attempt.outcomes,
        [("a@x.example".to_owned(), Outcome::Later)]
    );
    assert!(!attempt.reached);
    assert!(
        attempt.reply.contains("refused") && attempt.reply.contains("127.0.0.1"),
        "{}",
        attempt.reply
    );
}

#[test]
fn who_has_it_is_not_given_it_again() {
    let relay = FakeRelay::start(GOOD);
    let mut notice = notice(&["a@x.example", "b@x.example", "c@x.example"]);
    notice.recipients[0].fate = Fate::Taken;
    notice.recipients[2].fate = Fate::Refused;
    let sender = Sender::new(&settings(relay.port)).expect("a sender");
    let attempt = run(sender.send(&notice));
    assert_eq!(
        attempt.outcomes,
        [("b@x.example".to_owned(), Outcome::Taken)]
    );
    let commands = relay.heard().commands;
    assert!(
        commands
            .iter()
            .all(|command| !command.contains("a@x") && !command.contains("c@x"))
    );
}

/// Settings with a password, the authority of these relays, and TLS.
fn secret(folder: &Path, port: u16, authority: &str) -> Settings {
    let (authorities, password) = (folder.join("authorities.pem"), folder.join("password"));
    fs::write(&authorities, authority).expect("written");
    fs::write(&password, "correct horse\n").expect("written");
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).expect("closed");
    Settings {
        tls: Tls::Starttls,
        authorities,
        user: Some("smtpflow".to_owned()),
        password_file: Some(password),
        ..settings(port)
    }
}

const TLS: Script = Script {
    at: "",
    act: None,
    tls: true,
};

#[test]
fn a_password_goes_through_tls_to_a_relay_that_is_known() {
    let folder = tempfile::tempdir().expect("a folder");
    let relay = FakeRelay::start(TLS);
    let attempt = send(
        &secret(folder.path(), relay.port, AUTHORITY),
        LONG,
        &["a@x.example"],
    );
    assert_eq!(attempt.outcomes[0].1, Outcome::Taken, "{}", attempt.reply);
    let heard = relay.heard();
    let words: Vec<&str> = heard
        .commands
        .iter()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(
        words,
        [
            "EHLO", "STARTTLS", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "QUIT"
        ]
    );
    assert_eq!(
        heard.encrypted,
        [false, false, true, true, true, true, true, true]
    );
    assert_eq!(heard.messages.len(), 1);
    assert!(heard.messages[0].starts_with(MESSAGE));
}

#[test]
fn a_relay_without_tls_or_that_is_not_known_gets_neither_password_nor_message() {
    let folder = tempfile::tempdir().expect("a folder");
    // Another authority: that of nobody, in the place of that of these relays.
    let stranger = String::from_utf8(CERTIFICATE.to_vec()).expect("text");
    for (script, authority) in [
        (GOOD, AUTHORITY),
        (TLS, &*stranger),
        (
            Script {
                at: "STARTTLS",
                act: Some(Act::Say("454 not now")),
                tls: true,
            },
            AUTHORITY,
        ),
        // What somebody has put behind the reply, in the clear, is no reply after it.
        (
            Script {
                at: "STARTTLS",
                act: Some(Act::Say(
                    "220 go\r\n250 AUTH PLAIN\r\n235 welcome\r\n250 a\r\n250 b\r\n354 c\r\n250 d",
                )),
                tls: true,
            },
            AUTHORITY,
        ),
    ] {
        let relay = FakeRelay::start(script);
        let attempt = send(
            &secret(folder.path(), relay.port, authority),
            LONG,
            &["a@x.example"],
        );
        assert_eq!(attempt.outcomes[0].1, Outcome::Later, "{}", attempt.reply);
        let heard = relay.heard();
        for command in &heard.commands {
            assert!(
                !command.starts_with("AUTH") && !command.starts_with("MAIL"),
                "{command}"
            );
        }
        assert!(heard.messages.is_empty());
    }
}

#[test]
fn a_password_that_is_refused_is_no_end_of_the_notice() {
    let folder = tempfile::tempdir().expect("a folder");
    let relay = FakeRelay::start(Script {
        at: "AUTH",
        act: Some(Act::Say("535 5.7.8 no")),
        tls: true,
    });
    let attempt = send(
        &secret(folder.path(), relay.port, AUTHORITY),
        LONG,
        &["a@x.example"],
    );
    assert_eq!(attempt.outcomes[0].1, Outcome::Later);
    assert!(attempt.reply.contains("AUTH failed"), "{}", attempt.reply);
    assert!(!attempt.reply.contains("horse"), "{}", attempt.reply);
}

#[test]
fn what_is_read_of_a_relay_is_bounded() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let flood = thread::spawn(move || {
            let mut stream = TcpStream::connect(address).expect("connected");
            let _ = stream.write_all(&vec![b'x'; 2 * stream::MOST]);
        });
        let (peer, _) = listener.accept().await.expect("somebody");
        let mut bounded = stream::Bounded::new(peer);
        let mut read = Vec::new();
        let error = bounded.read_to_end(&mut read).await.expect_err("too much");
        assert!(error.to_string().contains("more than 256 KiB"), "{error}");
        assert!(read.len() <= stream::MOST, "{}", read.len());
        drop(bounded);
        flood.join().expect("over");
    });
}
