//! A relay on loopback that does at some point what it is told, and is good otherwise.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

pub(super) const CERTIFICATE: &[u8] = include_bytes!("relay.pem");
const KEY: &[u8] = include_bytes!("relay.key");

/// What a relay does at some point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Say(&'static str),
    /// Ends the connection.
    Cut,
    /// Says nothing any more.
    Hang,
    /// Says 10 MiB in one line.
    Giant,
    /// Says lines of a reply without end, 10 MiB of them.
    Lines,
    /// Says an octet now and then, and never a whole line.
    Drip,
}

/// What a relay has heard.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    pub(super) commands: Vec<String>,
    pub(super) messages: Vec<Vec<u8>>,
    /// Of each command, whether it came through TLS.
    pub(super) encrypted: Vec<bool>,
}

/// A relay that acts at the `nth` time of a word (`greeting`, `EHLO`, ..., and `end` of a message), and is good
/// otherwise.
pub(super) struct FakeRelay {
    pub(super) port: u16,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Clone, Copy)]
pub(super) struct Script {
    pub(super) at: &'static str,
    pub(super) act: Option<Act>,
    /// Whether STARTTLS is offered.
    pub(super) tls: bool,
}

pub(super) const GOOD: Script = Script {
    at: "",
    act: None,
    tls: false,
};

impl FakeRelay {
    pub(super) fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let hears = Arc::clone(&heard);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let hears = Arc::clone(&hears);
                thread::spawn(move || session(stream, script, &hears));
            }
        });
        Self { port, heard }
    }

    pub(super) fn heard(&self) -> Heard {
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// One conversation; errors end it.
fn session(stream: TcpStream, script: Script, heard: &Mutex<Heard>) -> io::Result<()> {
    let plain = stream.try_clone()?;
    match talk(BufReader::new(stream), script, heard, false)? {
        Next::Over => Ok(()),
        Next::Tls => {
            let config = ServerConfig::builder_with_provider(
                rustls::crypto::ring::default_provider().into(),
            )
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(CERTIFICATE).expect("a certificate")],
                PrivateKeyDer::from_pem_slice(KEY).expect("a key"),
            )
            .expect("good");
            let connection = ServerConnection::new(config.into()).map_err(io::Error::other)?;
            let stream = StreamOwned::new(connection, plain);
            talk(BufReader::new(stream), script, heard, true).map(drop)
        }
    }
}

enum Next {
    Over,
    Tls,
}

fn talk<S: Read + Write>(
    mut stream: BufReader<S>,
    script: Script,
    heard: &Mutex<Heard>,
    encrypted: bool,
) -> io::Result<Next> {
    let say = |stream: &mut BufReader<S>, word: &str, good: &str| -> io::Result<bool> {
        let act = match script.act {
            Some(act) if script.at == word => act,
            _ => {
                stream.get_mut().write_all(good.as_bytes())?;
                stream.get_mut().flush()?;
                return Ok(true);
            }
        };
        let to = stream.get_mut();
        match act {
            Act::Say(text) => {
                to.write_all(text.as_bytes())?;
                to.write_all(b"\r\n")?;
                to.flush()?;
                return Ok(true);
            }
            Act::Cut => return Ok(false),
            Act::Hang => {}
            Act::Giant => {
                to.write_all(b"250 ")?;
                for _ in 0..10_240 {
                    to.write_all(&[b'a'; 1024])?;
                }
            }
            Act::Lines => {
                for _ in 0..100_000 {
                    to.write_all(format!("250-{}\r\n", "b".repeat(98)).as_bytes())?;
                }
            }
            Act::Drip => loop {
                to.write_all(b"2")?;
                to.flush()?;
                thread::sleep(Duration::from_millis(20));
            },
        }
        // Until the other side has had enough.
        io::copy(stream, &mut io::sink())?;
        Ok(false)
    };
    if !encrypted && !say(&mut stream, "greeting", "220 relay.test ESMTP\r\n")? {
        return Ok(Next::Over);
    }
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(Next::Over);
        }
        let line = line.trim_end().to_owned();
        let word = line
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase();
        {
            let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.commands.push(line);
            heard.encrypted.push(encrypted);
        }
        let good = match &*word {
            "EHLO" if script.tls && !encrypted => "250-relay.test\r\n250 STARTTLS\r\n",
            "EHLO" => "250-relay.test\r\n250 AUTH PLAIN LOGIN\r\n",
            "STARTTLS" => "220 go\r\n",
            "AUTH" => "235 welcome\r\n",
            "DATA" => "354 go\r\n",
            "QUIT" => "221 bye\r\n",
            _ => "250 good\r\n",
        };
        if !say(&mut stream, &word, good)? {
            return Ok(Next::Over);
        }
        let has_said = |other: &str| match script.act {
            Some(Act::Say(text)) if script.at == word => !text.starts_with(other),
            _ => false,
        };
        match &*word {
            "STARTTLS" if !has_said("220") => return Ok(Next::Tls),
            "DATA" if !has_said("354") => {
                let mut message = Vec::new();
                loop {
                    let mut line = Vec::new();
                    if stream.read_until(b'\n', &mut line)? == 0 {
                        return Ok(Next::Over);
                    }
                    if line == b".\r\n" {
                        break;
                    }
                    message.extend(line.strip_prefix(b".").unwrap_or(&line));
                }
                heard
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .messages
                    .push(message);
                if !say(&mut stream, "end", "250 2.0.0 queued as 42\r\n")? {
                    return Ok(Next::Over);
                }
            }
            "QUIT" => return Ok(Next::Over),
            _ => {}
        }
    }
}
