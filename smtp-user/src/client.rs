//! Asks a running agent over HTTP, and tells other servers something.
//!
//! Contract: one request over a connection of its own, which is over after the time that it is given,
//! whatever the other side does (but for the look-up of a name, which is the system's), and reads at
//! most [`LIMIT`] bytes, or the beginning where only the status matters. An agent is spoken to by `http` alone, since
//! it speaks no TLS itself; another server by what its address says, and by TLS only where it is said who is believed.

mod exchange;

use std::net::SocketAddr;
use std::time::Duration;

use self::exchange::{Most, Request, exchange};
use crate::config::HttpUrl;
use crate::failure::{Failure, Kind};
use crate::http::split;
use crate::report::document::printable;
use crate::secret::Token;
use crate::server::Server;
use crate::tls::Trust;

/// The longest that a request may take, its answer included.
pub const TIME: Duration = Duration::from_secs(10);
/// The longest answer.
pub const LIMIT: u64 = 16 << 20;
/// What is read of an answer of which only the status matters.
const BEGINNING: u64 = 64 << 10;

/// Where an agent serves: `http://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Host and port, as in the header `Host`.
    authority: String,
}

impl Url {
    /// As `http://127.0.0.1:12525`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = || {
            let rest = text.strip_prefix("http://")?;
            let authority = rest.strip_suffix('/').unwrap_or(rest);
            Server::parse(authority).ok()?;
            Some(Self {
                authority: authority.to_owned(),
            })
        };
        url().ok_or_else(|| {
            format!(
                "{text:?} is no address of an agent: expected one such as http://127.0.0.1:12525"
            )
        })
    }
}

impl From<SocketAddr> for Url {
    fn from(listen: SocketAddr) -> Self {
        // Who listens everywhere is reached here.
        let mut reached = listen;
        if listen.ip().is_unspecified() {
            reached.set_ip(match listen {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        Self {
            authority: reached.to_string(),
        }
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

/// An agent, and what opens its door.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Where it serves.
    pub url: Url,
    /// What it is shown.
    pub token: Option<Token>,
    /// The longest that a request may take.
    pub time: Duration,
}

/// Status and body of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status of HTTP.
    pub status: u16,
    /// What is in it.
    pub body: serde_json::Value,
}

impl Agent {
    /// Asks for a path; gives the answer with these statuses, all others are errors.
    ///
    /// # Errors
    ///
    /// The agent is not there, does not answer in time, or what it says is no answer.
    pub fn get(&self, path: &str, statuses: &[u16]) -> Result<Answer, Failure> {
        let unavailable = |error: String| {
            Failure::new(
                Kind::Unavailable,
                format!(
                    "cannot ask the agent at {}: {error}; is it running (smtpflow run), and does it \
                     serve there (serve.listen, --url)?",
                    self.url
                ),
            )
        };
        let request = Request {
            method: "GET",
            endpoint: &self.url.authority,
            host: &self.url.authority,
            path,
            authorization: self.token.as_ref().map(Token::authorization),
            json: None,
            most: Most::Whole(LIMIT),
            tls: None,
        };
        let raw = exchange(&request, self.time).map_err(unavailable)?;
        let (status, body) = parse(&raw).map_err(|error| unavailable(error.to_owned()))?;
        if status == 401 || status == 403 {
            return Err(Failure::new(
                Kind::NoPermission,
                format!(
                    "the agent at {} wants a token: name the file with it (serve.token_file, \
                     --token-file)",
                    self.url
                ),
            ));
        }
        let json = serde_json::from_slice(body);
        match json {
            Ok(body) if statuses.contains(&status) => Ok(Answer { status, body }),
            Ok(body) => {
                let said = body["error"].as_str().unwrap_or("nothing more");
                Err(Failure::new(
                    Kind::Failed,
                    format!(
                        "the agent at {} answered {path} with status {status}: {}",
                        self.url,
                        printable(said)
                    ),
                ))
            }
            Err(error) => Err(unavailable(format!("the answer is no JSON ({error})"))),
        }
    }
}

/// Sends JSON to a path of a server; what it answers matters only if it is no success. `trust` is who is believed
/// by a server of `https`.
///
/// # Errors
///
/// The server is not there, does not answer in time, is not who it should be, or refuses: in words.
pub(crate) fn post(
    url: &HttpUrl,
    path: &str,
    json: &[u8],
    time: Duration,
    trust: Option<&Trust>,
) -> Result<(), String> {
    let tls = match (url.tls, trust) {
        (false, _) => None,
        (true, Some(trust)) => Some((trust, url.host())),
        (true, None) => return Err("it wants TLS, and nobody is believed".to_owned()),
    };
    let request = Request {
        method: "POST",
        endpoint: &url.endpoint(),
        host: &url.authority,
        path: &format!("{}{path}", url.path),
        authorization: None,
        json: Some(json),
        most: Most::Beginning(BEGINNING),
        tls,
    };
    let answer = exchange(&request, time)?;
    let (status, _, said) = split(&answer)?;
    if (200..300).contains(&status) {
        return Ok(());
    }
    let said: String = String::from_utf8_lossy(said).chars().take(200).collect();
    Err(format!("status {status}: {}", printable(said.trim())))
}

/// Status and body of an answer with a length or up to the end of the connection, which is all that an
/// agent sends to whom it shall close the connection for.
fn parse(answer: &[u8]) -> Result<(u16, &[u8]), &'static str> {
    let (status, lines, body) = split(answer)?;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("the answer comes in chunks, which no agent sends");
        }
        if name.eq_ignore_ascii_case("content-length") {
            let length: usize = value.trim().parse().map_err(|_| "this is not HTTP")?;
            let body = body.get(..length).ok_or("the answer breaks off")?;
            return Ok((status, body));
        }
    }
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn an_address_is_host_and_port() {
        for text in [
            "http://127.0.0.1:12525",
            "http://gateway.example:80/",
            "http://[::1]:12525",
        ] {
            let url = Url::parse(text).expect(text);
            assert_eq!(url.to_string(), text.trim_end_matches('/'));
        }
        for text in [
            "",
            "127.0.0.1:12525",
            "https://a:1",
            "http://a",
            "http://a:0",
            "http://a:65536",
            "http://:80",
            "http://a:1/x",
            "http://a b:1",
            "http://a\r\nX: y:1",
            "http://[::g]:1",
            "http://user@host:1",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
        let anywhere = Url::from("0.0.0.0:99".parse::<SocketAddr>().expect("an address"));
        assert_eq!(anywhere.to_string(), "http://127.0.0.1:99");
    }

    #[test]
    fn an_answer_is_read_to_its_length() {
        assert_eq!(
            parse(b"HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\nokmore"),
            Ok((503, &b"ok"[..]))
        );
        assert_eq!(parse(b"HTTP/1.0 200 OK\r\n\r\nall"), Ok((200, &b"all"[..])));
        for broken in [
            &b""[..],
            b"SSH-2.0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",
            b"HTTP/1.1 x OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        ] {
            assert!(
                parse(broken).is_err(),
                "{:?}",
                String::from_utf8_lossy(broken)
            );
        }
    }

    /// What asking a server says that sends this and then keeps the connection open.
    fn asked(sends: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = Url::from(listener.local_addr().expect("an address"));
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(sends);
            // Until the client has given up.
            let _ = wait.recv();
        });
        let agent = Agent {
            url,
            token: None,
            time: Duration::from_millis(300),
        };
        let failure = agent.get("/x", &[200]).expect_err("no answer");
        drop(done);
        server.join().expect("it ends");
        failure.to_string()
    }

    #[test]
    fn who_says_nothing_or_never_ends_is_left() {
        for sends in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n{",
        ] {
            let error = asked(sends);
            assert!(error.contains("no answer within 300ms"), "{error}");
        }
    }

    #[test]
    fn what_is_posted_arrives_whole_and_a_refusal_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let url = HttpUrl::parse(&format!("http://{address}/base"), "").expect("an address");
        let json = vec![b' '; 3 << 20];
        let length = json.len();
        let server = thread::spawn(move || {
            for status in ["200 OK", "400 Bad"] {
                let (mut stream, _) = listener.accept().expect("a client");
                let mut request = Vec::new();
                let mut buffer = vec![0; 1 << 16];
                while !request.ends_with(&[b' '; 100]) || request.len() < length {
                    let read = stream.read(&mut buffer).expect("a request");
                    request.extend_from_slice(&buffer[..read]);
                }
                let head = String::from_utf8_lossy(&request[..request.len() - length]);
                assert_eq!(
                    head,
                    format!(
                        "POST /base/x HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
                         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
                    )
                );
                let answer = format!("HTTP/1.1 {status}\r\n\r\nit is\u{1b} wrong\n");
                stream.write_all(answer.as_bytes()).expect("sent");
            }
        });
        assert_eq!(post(&url, "/x", &json, TIME, None), Ok(()));
        let refused = post(&url, "/x", &json, TIME, None);
        assert_eq!(refused, Err("status 400: it is\u{fffd} wrong".to_owned()));
        server.join().expect("it ends");
        let away = post(&url, "/x", &json, TIME, None).expect_err("nobody is there");
        assert!(away.contains("refused"), "{away}");
    }

    #[test]
    fn the_token_is_shown_and_who_wants_another_one_is_told_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "0123456789abcdef\n").expect("written");
        let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&file, closed).expect("mode set");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let agent = Agent {
            url: Url::from(listener.local_addr().expect("an address")),
            token: Some(Token::load(&file).expect("a token")),
            time: TIME,
        };
        let server = thread::spawn(move || {
            let mut requests = Vec::new();
            for status in ["200 OK", "401 Unauthorized", "404 Not Found"] {
                let (mut stream, _) = listener.accept().expect("a client");
                let mut request = [0; 4096];
                let read = stream.read(&mut request).expect("a request");
                requests.push(String::from_utf8_lossy(&request[..read]).into_owned());
                let body = r#"{"error":"it is not here"}"#;
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}", body.len());
                let answer = format!("{head}\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).expect("sent");
            }
            requests
        });
        let answer = agent.get("/x", &[200]).expect("an answer");
        assert_eq!(answer.status, 200);
        let denied = agent.get("/x", &[200]).expect_err("denied");
        assert_eq!(denied.kind, Kind::NoPermission);
        assert!(denied.to_string().contains("--token-file"), "{denied}");
        let missing = agent.get("/x", &[200]).expect_err("missing");
        assert!(
            missing.to_string().contains("404: it is not here"),
            "{missing}"
        );
        for request in server.join().expect("it ends") {
            assert!(request.starts_with("GET /x HTTP/1.1\r\n"), "{request}");
            let shown = "\r\nAuthorization: Bearer 0123456789abcdef\r\n";
            assert!(request.contains(shown), "{request}");
        }
    }
}
