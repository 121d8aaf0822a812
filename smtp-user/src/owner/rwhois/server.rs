//! An RWhois server (RFC 2167) for the operator's own prefixes.
//!
//! Contract: it reads and says nothing else: no registration, no transfer, no schema. It answers for what
//! lies in the operator's own prefixes, with network, name, addresses and telephone of a contact, and never
//! with its note, a next hop or a route. Bounded: connections in all and of one address, time, questions
//! and length of a question; who has more than that is told and let go.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ipnet::IpNet;

use super::super::wire::{Connection, Deadline};
use crate::model::owner::Contact;

/// The longest that a connection may last.
const TIME: Duration = Duration::from_secs(60);
/// Most connections at a time.
const CONNECTIONS: usize = 32;
/// Most connections of one address at a time.
const OF_ONE: usize = 4;
/// Most questions over one connection.
const QUESTIONS: u32 = 50;
/// The longest question, in bytes.
const LINE: usize = 512;
/// How long to wait when the system gives no connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Errors of RFC 2167, appendix C.
mod error {
    pub(super) const NO_OBJECTS: &str = "230 No Objects Found";
    pub(super) const DIRECTIVE_SYNTAX: &str = "338 Invalid Directive Syntax";
    pub(super) const CLASS: &str = "341 Invalid Class";
    pub(super) const QUERY_SYNTAX: &str = "350 Invalid Query Syntax";
    pub(super) const NO_DIRECTIVE: &str = "400 Directive Not Available";
    pub(super) const NOT_AVAILABLE: &str = "501 Service Not Available";
    pub(super) const IDLE: &str = "503 Idle Time Exceeded";
}

/// A network, and who answers for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Registered {
    /// The network.
    pub(in super::super) prefix: IpNet,
    /// Who.
    pub(in super::super) contact: Contact,
}

/// Where the server looks: the smallest registered network that has all of this one in it.
pub(in super::super) trait Register: Send + Sync + 'static {
    /// See the trait; `None` also for what is not the operator's.
    fn of(&self, network: IpNet) -> Option<Registered>;
}

/// Answers over a listener, for as long as the program runs.
pub(in super::super) fn serve(listener: &TcpListener, register: Arc<dyn Register>, name: &str) {
    let open: Arc<Mutex<HashMap<IpAddr, usize>>> = Arc::default();
    let banner: Arc<str> = format!("%rwhois V-1.5:000000:00 {name} (smtpflow)\r\n").into();
    for stream in listener.incoming() {
        let accepted = stream.and_then(|stream| Ok((stream.peer_addr()?.ip(), stream)));
        let (peer, stream) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!("no connection: {error}");
                thread::sleep(PAUSE);
                continue;
            }
        };
        let Some(place) = Place::take(&open, peer) else {
            refuse(stream, &banner);
            continue;
        };
        let (register, banner) = (Arc::clone(&register), Arc::clone(&banner));
        let started = thread::Builder::new()
            .name("rwhois".to_owned())
            .spawn(move || {
                let _place = place;
                let connection = Connection::accepted(stream, peer, Deadline::after(TIME));
                if let Err(error) = converse(connection, &*register, &banner) {
                    tracing::debug!("a connection from {peer}: {error}");
                }
            });
        if let Err(error) = started {
            tracing::warn!("cannot start a thread for a connection: {error}");
            thread::sleep(PAUSE);
        }
    }
}

/// A place among the connections, until it is dropped.
struct Place {
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
    peer: IpAddr,
}

impl Place {
    fn take(open: &Arc<Mutex<HashMap<IpAddr, usize>>>, peer: IpAddr) -> Option<Self> {
        let mut counts = open.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = counts.values().sum();
        let of_peer = counts.get(&peer).copied().unwrap_or(0);
        if all >= CONNECTIONS || of_peer >= OF_ONE {
            return None;
        }
        counts.insert(peer, of_peer + 1);
        Some(Self {
            open: Arc::clone(open),
            peer,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let left = counts
            .get(&self.peer)
            .map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            counts.remove(&self.peer);
        } else {
            counts.insert(self.peer, left);
        }
    }
}

/// Tells somebody that there is no place.
fn refuse(mut stream: TcpStream, banner: &str) {
    // A short text into an empty buffer: who does not read does not keep us.
    let _ = stream.set_nonblocking(true);
    let _ = std::io::Write::write(
        &mut stream,
        format!("{banner}%error {}\r\n", error::NOT_AVAILABLE).as_bytes(),
    );
}

fn converse(
    mut connection: Connection,
    register: &dyn Register,
    banner: &str,
) -> Result<(), String> {
    connection.send(banner.as_bytes())?;
    let mut lines = Lines::default();
    let mut hold = false;
    for _ in 0..QUESTIONS {
        let line = match lines.next(&mut connection) {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(()),
            Err(Unread::Long) => {
                return connection.send(format!("%error {}\r\n", error::QUERY_SYNTAX).as_bytes());
            }
            Err(Unread::Slow) => {
                return connection.send(format!("%error {}\r\n", error::IDLE).as_bytes());
            }
        };
        let reply = answer(&line, register, banner);
        connection.send(reply.text.as_bytes())?;
        match reply.then {
            Then::Hold(on) => hold = on,
            Then::Close => return Ok(()),
            Then::CloseUnlessHeld if !hold => return Ok(()),
            Then::CloseUnlessHeld | Then::Stay => {}
        }
    }
    Ok(())
}

/// Why there is no line.
enum Unread {
    Long,
    Slow,
}

/// Lines of a connection.
#[derive(Default)]
struct Lines {
    read: Vec<u8>,
}

impl Lines {
    /// The next one without its end; `None` if there is none any more.
    fn next(&mut self, connection: &mut Connection) -> Result<Option<String>, Unread> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                if line.len() > LINE {
                    return Err(Unread::Long);
                }
                return Ok(Some(String::from_utf8_lossy(&line).trim().to_owned()));
            }
            if self.read.len() > LINE {
                return Err(Unread::Long);
            }
            let mut buffer = [0; LINE];
            match connection.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(read) => self.read.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Unread::Slow),
            }
        }
    }
}

/// What is said to a line, and what then.
#[derive(Debug, PartialEq, Eq)]
struct Reply {
    text: String,
    then: Then,
}

#[derive(Debug, PartialEq, Eq)]
enum Then {
    Stay,
    Hold(bool),
    CloseUnlessHeld,
    Close,
}

fn failed(error: &str) -> Reply {
    Reply {
        text: format!("%error {error}\r\n"),
        then: Then::CloseUnlessHeld,
    }
}

fn answer(line: &str, register: &dyn Register, banner: &str) -> Reply {
    let Some(directive) = line.strip_prefix('-') else {
        return query(line, register);
    };
    let (name, rest) = directive.split_once(' ').unwrap_or((directive, ""));
    let ok = |then| Reply {
        text: "%ok\r\n".to_owned(),
        then,
    };
    match (&*name.to_ascii_lowercase(), rest.trim()) {
        ("rwhois", _) => Reply {
            text: format!("{banner}%ok\r\n"),
            then: Then::Stay,
        },
        ("holdconnect", "on") => ok(Then::Hold(true)),
        ("holdconnect", "off") => ok(Then::Hold(false)),
        // There is never more than one object.
        ("limit", limit) if limit.parse::<u32>().is_ok_and(|limit| limit > 0) => ok(Then::Stay),
        ("holdconnect" | "limit", _) => failed(error::DIRECTIVE_SYNTAX),
        ("quit", _) => ok(Then::Close),
        _ => failed(error::NO_DIRECTIVE),
    }
}

/// `[CLASS] [ATTRIBUTE=]VALUE`, the value with quotes or without (section 3.2.1, without its `and`).
fn query(line: &str, register: &dyn Register) -> Reply {
    let (class, term) = match line.split_once(' ') {
        Some((class, term)) => (class.to_ascii_lowercase(), term.trim()),
        None => ("network".to_owned(), line),
    };
    let (attribute, value) = match term.split_once('=') {
        Some((attribute, value)) => (attribute.trim().to_ascii_lowercase(), value.trim()),
        None => (String::new(), term),
    };
    let value = value.trim_matches('"').trim_matches('*');
    if value.is_empty() || value.contains([' ', '"']) {
        return failed(error::QUERY_SYNTAX);
    }
    let asked = match (&*class, &*attribute) {
        ("network", "" | "ip-network" | "network-name" | "id") => value,
        ("contact", "" | "id") => value.strip_prefix("C.").unwrap_or(value),
        ("network" | "contact", _) => return failed(error::QUERY_SYNTAX),
        _ => return failed(error::CLASS),
    };
    let network = asked.parse::<IpNet>().or_else(|_| {
        asked
            .parse::<IpAddr>()
            .map(|address| IpNet::from(address.to_canonical()))
    });
    let found = network
        .ok()
        .and_then(|network| register.of(network.trunc()));
    let Some(registered) = found else {
        return failed(error::NO_OBJECTS);
    };
    let mut text = match &*class {
        "contact" => contact(&registered),
        _ => network_object(&registered),
    };
    text.push_str("\r\n%ok\r\n");
    Reply {
        text,
        then: Then::CloseUnlessHeld,
    }
}

fn network_object(registered: &Registered) -> String {
    let Registered { prefix, contact } = registered;
    let mut text = String::new();
    for (attribute, value) in [
        ("Class-Name", "network".to_owned()),
        ("ID", prefix.to_string()),
        ("Auth-Area", prefix.to_string()),
        ("Network-Name", prefix.to_string()),
        ("IP-Network", prefix.to_string()),
        ("Org-Name", contact.name.clone()),
        ("Abuse-Contact;I", format!("C.{prefix}")),
    ] {
        let _ = write!(text, "network:{attribute}:{value}\r\n");
    }
    text
}

fn contact(registered: &Registered) -> String {
    let Registered { prefix, contact } = registered;
    let Contact {
        name,
        mail,
        phone,
        // The operator's own.
        note: _,
    } = contact;
    let mut text = format!(
        "contact:Class-Name:contact\r\ncontact:ID:C.{prefix}\r\ncontact:Auth-Area:{prefix}\r\ncontact:Name:{name}\r\n"
    );
    for mail in mail {
        let _ = write!(text, "contact:Email:{mail}\r\n");
    }
    if let Some(phone) = phone {
        let _ = write!(text, "contact:Phone:{phone}\r\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::super::directory::{Protocol, Target, ask};
    use super::*;
    use crate::server::Server;

    struct One;

    impl Register for One {
        fn of(&self, network: IpNet) -> Option<Registered> {
            let prefix: IpNet = "192.0.2.0/24".parse().expect("a prefix");
            prefix.contains(&network).then(|| Registered {
                prefix,
                contact: Contact {
                    name: "Physics".to_owned(),
                    mail: vec![
                        "abuse@physics.example".to_owned(),
                        "head@physics.example".to_owned(),
                    ],
                    phone: Some("+49 30 1".to_owned()),
                    note: Some("secret".to_owned()),
                },
            })
        }
    }

    fn said(line: &str) -> String {
        answer(line, &One, "%rwhois V-1.5 x\r\n").text
    }

    #[test]
    fn questions_are_taken_in_their_usual_forms() {
        let network = said("192.0.2.7");
        assert!(
            network.contains("network:IP-Network:192.0.2.0/24\r\n"),
            "{network}"
        );
        assert!(network.ends_with("\r\n\r\n%ok\r\n"), "{network}");
        for line in [
            "network 192.0.2.7",
            "network 192.0.2.0/25",
            "Network IP-Network=192.0.2.7",
            "network IP-Network=\"192.0.2.0/24\"",
            "network ::ffff:192.0.2.7",
        ] {
            assert_eq!(said(line), network, "{line}");
        }
        let contact = said("contact ID=C.192.0.2.0/24");
        assert!(
            contact.contains("contact:Email:head@physics.example\r\n"),
            "{contact}"
        );
        assert!(!format!("{network}{contact}").contains("secret"));
        for (line, expected) in [
            ("198.51.100.1", "%error 230"),
            ("192.0.0.0/16", "%error 230"),
            ("example.org", "%error 230"),
            ("domain example.org", "%error 341"),
            ("network Owner=x", "%error 350"),
            ("network 192.0.2.1 and x=y", "%error 350"),
            ("", "%error 350"),
            ("-register on x", "%error 400"),
            ("-xfer 192.0.2.0/24", "%error 400"),
            ("-limit x", "%error 338"),
            ("-limit 5", "%ok"),
            ("-holdconnect on", "%ok"),
            ("-rwhois V-1.5", "%rwhois"),
            ("-quit", "%ok"),
        ] {
            assert!(said(line).starts_with(expected), "{line}: {}", said(line));
        }
    }

    /// A server on a port of its own.
    fn running() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        thread::spawn(move || serve(&listener, Arc::new(One), "test"));
        Server {
            host: "127.0.0.1".to_owned(),
            port,
        }
    }

    #[test]
    fn our_client_understands_our_server() {
        let target = Target {
            protocol: Protocol::Rwhois,
            server: running(),
        };
        let ask = |address: &str| {
            let address = address.parse().expect("an address");
            ask(
                target.clone(),
                address,
                Deadline::after(Duration::from_secs(10)),
            )
            .expect("an answer")
        };
        let (contact, network) = ask("192.0.2.9").found.expect("somebody");
        assert_eq!(contact.name, "Physics");
        assert_eq!(
            contact.mail,
            ["abuse@physics.example", "head@physics.example"]
        );
        assert_eq!(contact.phone.as_deref(), Some("+49 30 1"));
        assert_eq!(
            (contact.note, network.as_deref()),
            (None, Some("192.0.2.0/24"))
        );
        assert_eq!(ask("198.51.100.1").found, None);
    }

    #[test]
    fn who_asks_too_much_is_let_go() {
        let server = running();
        let open = || {
            let stream = TcpStream::connect((&*server.host, server.port)).expect("connected");
            let peer = stream.peer_addr().expect("an address").ip();
            Connection::accepted(stream, peer, Deadline::after(Duration::from_secs(10)))
        };
        let mut long = open();
        let _ = long.send(&[b'x'; 2 * LINE]);
        let mut text = String::new();
        let _ = long.read_to_string(&mut text);
        assert!(text.contains("%error 350"), "{text}");
        // More connections of one address than it may have.
        let held: Vec<Connection> = (0..OF_ONE).map(|_| open()).collect();
        let mut refused = false;
        for _ in 0..50 {
            let mut text = String::new();
            let mut one = open();
            let _ = one.send(b"-quit\r\n");
            let _ = one.read_to_string(&mut text);
            refused |= text.contains("%error 501");
            if refused {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        assert!(refused);
        drop(held);
    }
}
