//! One request over a connection of its own, and the answer, which is not understood yet.
//!
//! Contract: as in the module above.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use crate::tls::Trust;

/// One request.
pub(super) struct Request<'a> {
    pub(super) method: &'static str,
    /// Host and port that are connected to.
    pub(super) endpoint: &'a str,
    /// As in the header `Host`.
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    pub(super) authorization: Option<Vec<u8>>,
    pub(super) json: Option<&'a [u8]>,
    pub(super) most: Most,
    /// Who is believed, and the host that it has to be.
    pub(super) tls: Option<(&'a Trust, &'a str)>,
}

/// How much of an answer is read, in octets.
#[derive(Clone, Copy)]
pub(super) enum Most {
    /// All of it, and more is an error.
    Whole(u64),
    /// So much, and no more.
    Beginning(u64),
}

impl Request<'_> {
    fn bytes(&self) -> Vec<u8> {
        let Self {
            method,
            endpoint: _,
            host,
            path,
            authorization,
            json,
            most: _,
            tls: _,
        } = self;
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        let mut bytes = head.into_bytes();
        if let Some(authorization) = authorization {
            bytes.extend_from_slice(b"Authorization: ");
            bytes.extend_from_slice(authorization);
            bytes.extend_from_slice(b"\r\n");
        }
        if let Some(json) = json {
            let length = json.len();
            let headers = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
            bytes.extend_from_slice(headers.as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(json.unwrap_or_default());
        bytes
    }
}

/// Sends a request and reads to the end of the connection; an error is in words.
pub(super) fn exchange(request: &Request<'_>, time: Duration) -> Result<Vec<u8>, String> {
    try_exchange(request, time).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("no answer within {time:?}")
        }
        _ => error.to_string(),
    })
}

fn try_exchange(request: &Request<'_>, time: Duration) -> io::Result<Vec<u8>> {
    let end = End(Instant::now() + time);
    let stream = Timed {
        stream: connect(request.endpoint, end)?,
        end,
    };
    match request.tls {
        None => talk(request, stream),
        Some((trust, host)) => talk(request, trust.over(host, stream).map_err(io::Error::other)?),
    }
}

fn talk(request: &Request<'_>, mut stream: impl Read + Write) -> io::Result<Vec<u8>> {
    stream.write_all(&request.bytes())?;
    stream.flush()?;
    let mut answer = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(answer),
            read => answer.extend_from_slice(&buffer[..read]),
        }
        match request.most {
            Most::Whole(most) if answer.len() as u64 > most => {
                return Err(io::Error::other(format!(
                    "the answer is longer than {} MiB",
                    most >> 20
                )));
            }
            Most::Beginning(most) if answer.len() as u64 >= most => return Ok(answer),
            _ => {}
        }
    }
}

/// When a request is over.
#[derive(Clone, Copy)]
struct End(Instant);

impl End {
    /// What is left until then.
    fn left(self) -> io::Result<Duration> {
        let left = self.0.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(left)
    }
}

/// A connection, each piece of which gets what is left of the time, so that who reads or writes one byte a second does
/// not keep us.
struct Timed {
    stream: TcpStream,
    end: End,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.end.left()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.end.left()?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn connect(endpoint: &str, end: End) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for address in endpoint.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, end.left()?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
