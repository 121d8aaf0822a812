//! Hooks against a real HTTP server on loopback and real commands, good ones and such as hang or never stop
//! talking; and the whole process, once. The server of `https` has the certificate of the relays of other tests, which
//! is for 127.0.0.1.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;
use tokio::task::JoinSet;

use super::super::hook::Hooks;
use super::super::{Looks, run};
use super::*;
use crate::client;
use crate::config::HttpUrl;
use crate::model::notice::{Hook, HookCall};
use crate::notice::Settings;
use crate::tls::Trust;

/// Makes the calls that are due; gives how many, and how long it took.
fn call(settings: &Settings, ledger: &Arc<NoticeLedger>) -> (usize, Duration) {
    let hooks = Arc::new(Hooks::new(settings).expect("hooks"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let begun = Instant::now();
    let made = runtime.block_on(hooks.pass(ledger, &mut JoinSet::new()));
    let took = begun.elapsed();
    runtime.shutdown_background();
    (made.expect("read"), took)
}

/// An office in which a notice waits, and what is due a minute later.
struct Waiting {
    office: Office,
    ledger: Arc<NoticeLedger>,
}

impl Waiting {
    fn new() -> Self {
        let office = Office::new();
        let ledger = Arc::new(office.ledger());
        office.look(&ledger, now());
        Self { office, ledger }
    }

    fn command(&self, script: &str) -> Settings {
        let path = self.office.path("hook");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("a command");
        Settings {
            command: vec![path.display().to_string(), "--new".to_owned()],
            hook_timeout_seconds: 60,
            ..Settings::default()
        }
    }

    fn due(&self, hook: Hook) -> Vec<HookCall> {
        self.ledger.calls(hook, now() + 61_000).expect("read")
    }
}

/// A server that gives each who comes one of these answers, and then what they have said.
fn server(answers: &'static [&'static [u8]]) -> (HttpUrl, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let url = HttpUrl::parse(&format!("http://{address}/notices"), "").expect("an address");
    let server = thread::spawn(move || {
        let mut said = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = Vec::new();
            let mut buffer = vec![0; 1 << 16];
            while !is_whole(&request) {
                let read = stream.read(&mut buffer).expect("a request");
                request.extend_from_slice(&buffer[..read]);
            }
            let _ = stream.write_all(answer);
            said.push(String::from_utf8(request).expect("text"));
        }
        said
    });
    (url, server)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .expect("a length");
    body.len() >= length.parse::<usize>().expect("a number")
}

#[test]
fn a_server_is_told_of_a_notice_that_waits_until_it_has_taken_it() {
    let waiting = Waiting::new();
    let (url, server) = server(&[
        b"HTTP/1.1 503 Busy\r\n\r\nlater",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ]);
    let settings = Settings {
        webhook: Some(url),
        hook_timeout_seconds: 60,
        ..Settings::default()
    };
    assert_eq!(call(&settings, &waiting.ledger).0, 1);
    // It is tried again in a minute, not before.
    assert_eq!(call(&settings, &waiting.ledger).0, 0);
    let due = waiting.due(Hook::Webhook);
    assert_eq!((due.len(), due[0].attempts), (1, 1));
    waiting
        .ledger
        .write_call(Hook::Webhook, &due[0], Some(now()))
        .expect("noted");
    assert_eq!(call(&settings, &waiting.ledger).0, 1);
    assert!(waiting.due(Hook::Webhook).is_empty());
    let said = server.join().expect("it ends");
    assert!(
        said[0].starts_with("POST /notices HTTP/1.1\r\n"),
        "{said:?}"
    );
    let json = |text: &str| -> serde_json::Value {
        let body = text.split_once("\r\n\r\n").expect("a body").1;
        serde_json::from_str(body).expect("JSON")
    };
    let (first, second) = (json(&said[0]), json(&said[1]));
    assert_eq!(
        (&first["event"], &first["attempt"]),
        (&json!("waiting"), &json!(1))
    );
    // Whoever has taken the first one after all knows it again.
    assert_eq!(first["event_id"], second["event_id"]);
    assert_eq!(
        second["notice"]["recipients"][0]["mail"],
        "it@physics.example"
    );
    assert_eq!(second["notice"]["id"], 1);
    assert!(
        second["text"]
            .as_str()
            .is_some_and(|text| text.contains(BOT))
    );
}

const AUTHORITY: &[u8] = include_bytes!("../../notice/send/tests/authority.pem");
const CERTIFICATE: &[u8] = include_bytes!("../../notice/send/tests/relay.pem");
const KEY: &[u8] = include_bytes!("../../notice/send/tests/relay.key");

/// A server of TLS that takes what so many clients post; what each has said, nothing where no conversation came about.
fn tls_server(clients: usize) -> (u16, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let config =
        ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(CERTIFICATE).expect("a certificate")],
                PrivateKeyDer::from_pem_slice(KEY).expect("a key"),
            )
            .expect("good");
    let config = Arc::new(config);
    let serve = move |stream: TcpStream| -> io::Result<String> {
        let session = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, stream);
        let mut request = Vec::new();
        let mut buffer = vec![0; 1 << 14];
        while !is_whole(&request) {
            match stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => request.extend_from_slice(&buffer[..read]),
            }
        }
        // It hangs up without the goodbye of TLS, as many do.
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        stream.flush()?;
        Ok(String::from_utf8(request).expect("text"))
    };
    let server = thread::spawn(move || {
        let accept = |_| serve(listener.accept().expect("a client").0).unwrap_or_default();
        (0..clients).map(accept).collect()
    });
    (port, server)
}

#[test]
fn a_server_of_https_is_told_if_an_authority_vouches_for_it() {
    let waiting = Waiting::new();
    let (port, server) = tls_server(4);
    let settings = |host: &str, authorities: &[u8]| {
        let file = waiting.office.path("authorities.pem");
        fs::write(&file, authorities).expect("written");
        Settings {
            webhook: HttpUrl::parse(&format!("https://{host}:{port}/notices"), "").ok(),
            authorities: file,
            hook_timeout_seconds: 60,
            ..Settings::default()
        }
    };
    // A name that its certificate is not for, and a certificate that is of nobody who is believed.
    for (host, authorities, cause) in [
        ("localhost", AUTHORITY, "invalid peer certificate"),
        ("127.0.0.1", CERTIFICATE, "invalid peer certificate"),
    ] {
        let settings = settings(host, authorities);
        let url = settings.webhook.as_ref().expect("an address");
        let trust = Trust::new(&settings.authorities, "notice.authorities").expect("a file");
        let error = client::post(url, "", b"{}", Duration::from_secs(60), Some(&trust))
            .expect_err("refused");
        for part in [cause, "authorities.pem", "(notice.authorities)"] {
            assert!(error.contains(part), "{host}: {error}");
        }
    }
    let refused = settings("127.0.0.1", CERTIFICATE);
    assert_eq!(call(&refused, &waiting.ledger).0, 1);
    let due = waiting.due(Hook::Webhook);
    assert_eq!((due.len(), due[0].attempts), (1, 1));
    waiting
        .ledger
        .write_call(Hook::Webhook, &due[0], Some(now()))
        .expect("noted");
    assert_eq!(
        call(&settings("127.0.0.1", AUTHORITY), &waiting.ledger).0,
        1
    );
    assert!(waiting.due(Hook::Webhook).is_empty());
    let said = server.join().expect("it ends");
    assert_eq!(said[..3], ["", "", ""], "who is not believed hears nothing");
    assert!(
        said[3].starts_with(&format!(
            "POST /notices HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        )),
        "{said:?}"
    );
    let failure = Hooks::new(&settings("127.0.0.1", b"nothing")).expect_err("no authority");
    assert_eq!(failure.kind, Kind::BadConfig);
    assert!(
        failure.to_string().starts_with("notice.webhook: "),
        "{failure}"
    );
}

#[test]
fn a_server_that_hangs_is_left_and_one_that_never_ends_has_answered() {
    let waiting = Waiting::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let settings = |time| Settings {
        webhook: Some(HttpUrl::parse(&format!("http://{address}"), "").expect("an address")),
        hook_timeout_seconds: time,
        ..Settings::default()
    };
    let (made, took) = call(&settings(1), &waiting.ledger);
    assert!(made == 1 && took < Duration::from_secs(10), "{took:?}");
    let due = waiting.due(Hook::Webhook);
    assert_eq!(due[0].attempts, 1);
    waiting
        .ledger
        .write_call(Hook::Webhook, &due[0], Some(now()))
        .expect("noted");
    // Whoever hung is still in the queue of the listener.
    drop(listener.accept());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut written = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while written.is_ok() {
            written = stream.write_all(&[b' '; 1 << 16]);
        }
    });
    let (_, took) = call(&settings(60), &waiting.ledger);
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert!(waiting.due(Hook::Webhook).is_empty(), "it said 200");
    server.join().expect("it ends");
}

#[test]
fn a_command_gets_the_notice_on_its_standard_input() {
    let waiting = Waiting::new();
    let settings = waiting.command("cat > \"$0.got\"; echo \"$@\" > \"$0.words\"");
    assert_eq!(call(&settings, &waiting.ledger).0, 1);
    assert!(waiting.due(Hook::Command).is_empty());
    let got = fs::read(waiting.office.path("hook.got")).expect("what it got");
    let json: serde_json::Value = serde_json::from_slice(&got).expect("JSON");
    assert_eq!(json["event"], "waiting");
    let words = fs::read_to_string(waiting.office.path("hook.words")).expect("its words");
    assert_eq!(words, "--new\n");
}

#[test]
fn a_command_that_fails_is_tried_again_and_given_up_in_the_end() {
    let waiting = Waiting::new();
    // It does not even read.
    let settings = waiting.command("echo no such queue >&2; exit 3");
    assert_eq!(call(&settings, &waiting.ledger).0, 1);
    let mut due = waiting.due(Hook::Command);
    assert_eq!((due.len(), due[0].attempts), (1, 1));
    due[0].attempts = 6;
    waiting
        .ledger
        .write_call(Hook::Command, &due[0], Some(now()))
        .expect("noted");
    assert_eq!(call(&settings, &waiting.ledger).0, 1);
    assert!(waiting.due(Hook::Command).is_empty(), "eight times");
}

#[test]
fn a_command_that_hangs_is_killed_with_all_that_it_has_started() {
    let waiting = Waiting::new();
    let mut settings = waiting.command("sleep 1000 & echo $! > \"$0.pid\"; sleep 1001");
    settings.hook_timeout_seconds = 5;
    let (made, took) = call(&settings, &waiting.ledger);
    assert!(made == 1 && took < Duration::from_secs(15), "{took:?}");
    let pid = fs::read_to_string(waiting.office.path("hook.pid")).expect("a number");
    let state = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    };
    let begun = Instant::now();
    // A zombie until somebody has taken it in.
    while state().is_some_and(|state| state != 'Z') {
        assert!(begun.elapsed() < Duration::from_secs(5), "it lives on");
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(waiting.due(Hook::Command)[0].attempts, 1);
}

#[test]
fn a_command_that_does_not_stop_talking_is_killed() {
    let waiting = Waiting::new();
    let settings = waiting.command("exec yes");
    let (made, took) = call(&settings, &waiting.ledger);
    assert!(made == 1 && took < Duration::from_secs(30), "{took:?}");
    assert_eq!(waiting.due(Hook::Command)[0].attempts, 1);
}

#[test]
fn the_process_looks_sends_and_calls_once_and_ends() {
    let office = Office::new();
    let mut config = office.place.config.clone();
    let hook = office.path("hook");
    fs::write(&hook, "#!/bin/sh\ncat >> \"$0.got\"; echo >> \"$0.got\"\n").expect("written");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o700)).expect("a command");
    config.notice.command = vec![hook.display().to_string()];
    let once = |json| run(|| Ok(config.clone()), Looks::Once { json }).expect("done");
    assert_eq!(
        once(false),
        "notice 1 (first) to it@physics.example about 1 host: made, waits for somebody to approve it (smtpflow \
         notice approve 1)\nmade: 1; waiting: 1; sent: 0; failed: 0\n"
    );
    assert_eq!(office.arrived(), 0, "nobody has approved it");
    office.decide(NoticeState::Approved).expect("approved");
    let said: serde_json::Value = serde_json::from_str(&once(true)).expect("JSON");
    assert_eq!(said["sent"][0]["id"], 1, "{said}");
    for name in ["made", "waiting", "failed"] {
        assert_eq!(said[name], json!([]), "{said}");
    }
    assert_eq!(once(false), "made: 0; waiting: 0; sent: 0; failed: 0\n");
    assert_eq!(office.arrived(), 1);
    let got = fs::read_to_string(office.path("hook.got")).expect("what it got");
    let events: Vec<String> = got
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .map(|json| json["event"].to_string())
        .collect();
    assert_eq!(events, ["\"waiting\"", "\"sent\""]);
    config.notice.enabled = false;
    let failure =
        run(|| Ok(config.clone()), Looks::Once { json: false }).expect_err("switched off");
    assert_eq!(failure.kind, Kind::BadConfig);
}
