//! One GET over HTTP/1.1, with or without TLS.
//!
//! Contract: as in [`wire`](super::wire): over at the deadline, and not more than [`LIMIT`] bytes. Redirections
//! are told, not followed. A server of `https` is believed if its certificate comes from the authorities
//! in the operator's file.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;

use super::wire::{Connection, Deadline, Reach, read_all};
use crate::http;
use crate::server::Server;
use crate::tls::Trust;

/// The longest answer, head and body.
pub(super) const LIMIT: usize = 1 << 20;
/// The longest address.
const MAX_URL: usize = 2000;

/// An address of something on a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Url {
    /// Whether it begins with `https`.
    pub(super) tls: bool,
    /// A name or an address, without brackets.
    host: String,
    /// Its port.
    pub(super) port: u16,
    /// Path and query; begins with a slash.
    path: String,
}

impl Url {
    /// `http://HOST`, `https://HOST:PORT/PATH?QUERY`, without a user or a fragment.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Self::read(text).ok_or_else(|| {
            let shown: String = text.chars().take(100).collect();
            format!("{shown:?} is no address of a server: expected one such as https://rdap.example.net/")
        })
    }

    fn read(text: &str) -> Option<Self> {
        // Visible ASCII without what could end a line, a header or a word of the request.
        let plain = |c: char| c.is_ascii_graphic() && !"\"<>\\^`{|}#".contains(c);
        if text.len() > MAX_URL || !text.chars().all(plain) {
            return None;
        }
        let (scheme, rest) = text.split_once("://")?;
        let tls = match &*scheme.to_ascii_lowercase() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let usual = if tls { 443 } else { 80 };
        let Server { host, port } = Server::parse_or(authority, usual).ok()?;
        Some(Self {
            tls,
            host,
            port,
            path: path.to_owned(),
        })
    }

    /// The address of something below this one.
    pub(super) fn below(&self, rest: &str) -> Self {
        let slash = if self.path.ends_with('/') { "" } else { "/" };
        Self {
            path: format!("{}{slash}{rest}", self.path),
            ..self.clone()
        }
    }

    /// Where a redirection from here leads: a whole address, or a path on this server.
    pub(super) fn to(&self, location: &str) -> Result<Self, String> {
        let path = location.starts_with('/') && !location.starts_with("//");
        if path {
            let scheme = if self.tls { "https" } else { "http" };
            return Self::parse(&format!("{scheme}://{}{location}", self.authority()));
        }
        Self::parse(location)
    }

    fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// What a server answers.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Where it sends us instead.
    pub(super) location: Option<String>,
    /// After how many seconds it wants to be asked again.
    pub(super) retry_after: Option<u64>,
    pub(super) body: Vec<u8>,
    /// The address that answered.
    pub(super) server: IpAddr,
}

/// Asks for something; `accept` is the kind of answer that is wanted.
pub(super) fn get(
    url: &Url,
    accept: &str,
    reach: Reach,
    authorities: &Path,
    deadline: Deadline,
) -> Result<Answer, String> {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\nUser-Agent: smtpflow\r\nConnection: close\r\n\r\n",
        url.path,
        url.authority()
    );
    // Before anything is asked of anybody.
    let trust = match url.tls {
        true => Some(Trust::new(authorities, "owner.authorities")?),
        false => None,
    };
    let mut connection = Connection::open(&url.host, url.port, reach, deadline)?;
    let server = connection.server;
    let raw = match trust {
        None => {
            connection.send(request.as_bytes())?;
            read_all(&mut connection, LIMIT, deadline)?
        }
        Some(trust) => {
            let mut stream = trust.over(&url.host, connection)?;
            stream
                .write_all(request.as_bytes())
                .map_err(|error| deadline.explained(&error))?;
            read_all(&mut stream, LIMIT, deadline)?
        }
    };
    let mut answer = parse(&raw)?;
    answer.server = server;
    Ok(answer)
}

/// An answer with a length, in chunks, or up to the end of the connection (RFC 9112).
fn parse(raw: &[u8]) -> Result<Answer, String> {
    let (status, lines, body) = http::split(raw)?;
    let mut answer = Answer {
        status,
        location: None,
        retry_after: None,
        body: Vec::new(),
        server: IpAddr::from([0, 0, 0, 0]),
    };
    let mut chunked = false;
    let mut length = None;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        match &*name.to_ascii_lowercase() {
            "location" => answer.location = Some(value.to_owned()),
            "retry-after" => answer.retry_after = value.parse().ok(),
            "transfer-encoding" => {
                if !value.eq_ignore_ascii_case("chunked") {
                    return Err("the answer is encoded in a way that was not asked for".to_owned());
                }
                chunked = true;
            }
            "content-length" => {
                length = Some(value.parse::<usize>().map_err(|_| "this is not HTTP")?);
            }
            _ => {}
        }
    }
    answer.body = match (chunked, length) {
        (true, _) => chunks(body).ok_or("the answer breaks off in its chunks")?,
        (false, Some(length)) => body.get(..length).ok_or("the answer breaks off")?.to_vec(),
        (false, None) => body.to_vec(),
    };
    Ok(answer)
}

/// The chunks of a body in one piece.
fn chunks(mut raw: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = raw.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&raw[..end]).ok()?;
        let size = size.split(';').next()?.trim();
        // A sign would be taken for a number.
        let hexadecimal = size.chars().all(|c| c.is_ascii_hexdigit());
        let size = usize::from_str_radix(size, 16)
            .ok()
            .filter(|_| hexadecimal)?;
        if size == 0 {
            return Some(body);
        }
        raw = &raw[end + 2..];
        body.extend_from_slice(raw.get(..size)?);
        raw = raw.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_shown() {
        for (text, shown) in [
            ("https://rdap.example.net/", "https://rdap.example.net/"),
            ("HTTP://Rdap.Example", "http://rdap.example/"),
            ("http://[::1]:8080/a?b=c", "http://[::1]:8080/a?b=c"),
            ("https://[2001:db8::1]/x", "https://[2001:db8::1]/x"),
            ("https://a:443/x", "https://a/x"),
        ] {
            let url = Url::parse(text).expect(text);
            assert_eq!(url.to_string(), shown);
            assert_eq!(Url::parse(shown), Ok(url));
        }
        let long = format!("http://a/{}", "x".repeat(MAX_URL));
        for text in [
            "",
            "rdap.example",
            "ftp://a/",
            "http://",
            "http:///x",
            "http://u@h/",
            "http://a:0/",
            "http://a:x/",
            "http://a/\r\nX: y",
            "http://a/ b",
            "http://[::g]/",
            "http://[::1]x/",
            "http://a/#f",
            "http://é/",
            &long,
        ] {
            assert!(Url::parse(text).is_err(), "{text:?}");
        }
        let base = Url::parse("https://a/rdap").expect("an address");
        assert_eq!(
            base.below("ip/192.0.2.1").to_string(),
            "https://a/rdap/ip/192.0.2.1"
        );
        let to = |location: &str| base.to(location).map(|url| url.to_string());
        assert_eq!(to("/x"), Ok("https://a/x".to_owned()));
        assert_eq!(to("http://b/y"), Ok("http://b/y".to_owned()));
        assert!(to("//b/y").is_err() && to("y").is_err());
    }

    #[test]
    fn an_answer_is_read_whole_or_not_at_all() {
        let body = |raw: &[u8]| parse(raw).map(|answer| (answer.status, answer.body));
        let ok = |text: &str| Ok((200, text.as_bytes().to_vec()));
        assert_eq!(
            body(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokmore"),
            ok("ok")
        );
        assert_eq!(body(b"HTTP/1.0 200 OK\r\n\r\nall"), ok("all"));
        assert_eq!(
            body(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
            ok("abc")
        );
        for broken in [
            &b""[..],
            b"SSH-2.0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
            b"HTTP/1.1 x OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\nab\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nab\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        ] {
            assert!(
                parse(broken).is_err(),
                "{:?}",
                String::from_utf8_lossy(broken)
            );
        }
        let moved = parse(b"HTTP/1.1 302 x\r\nLocation: http://a/\r\nRetry-After: 7\r\n\r\n")
            .expect("an answer");
        assert_eq!(
            (moved.location.as_deref(), moved.retry_after),
            (Some("http://a/"), Some(7))
        );
    }
}
