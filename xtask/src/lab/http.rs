//! One HTTP/1.1 request over a plain socket: enough to read the agent's API from the demo and the tests
//! without an HTTP library among the tools.
//!
//! The whole answer is read, at most [`LIMIT`] bytes, within [`TIME`] per read. Bodies with a length,
//! in chunks, or up to the end of the connection are understood; compression is never asked for.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

/// The longest answer that is read.
const LIMIT: u64 = 64 << 20;
/// The longest wait for a connection, and for each read.
const TIME: Duration = Duration::from_secs(5);

/// An answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header lines in order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, without chunk marks.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of the first header `name` (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("the body is no JSON: {}", self.text()))
    }
}

/// Sends `GET path` with `headers` to `addr` and reads the answer, whatever its status.
pub fn http_get(addr: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Response> {
    http_request(addr, ("GET", path), headers, None)
}

/// Sends a request, a method and a path, with `headers` and a body to `addr` and reads the answer,
/// whatever its status. The host is the address, where the headers name no other.
pub fn http_request(
    addr: SocketAddr,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Result<Response> {
    let exchange = || -> Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&addr, TIME).context("cannot connect")?;
        stream.set_read_timeout(Some(TIME))?;
        stream.set_write_timeout(Some(TIME))?;
        let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if headers
            .iter()
            .all(|(name, _)| !name.eq_ignore_ascii_case("host"))
        {
            request.push_str(&format!("Host: {addr}\r\n"));
        }
        if let Some(body) = body {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        request.push_str(body.unwrap_or_default());
        stream
            .write_all(request.as_bytes())
            .context("cannot send the request")?;
        let mut answer = Vec::new();
        stream
            .take(LIMIT)
            .read_to_end(&mut answer)
            .context("cannot read the answer")?;
        Ok(answer)
    };
    exchange()
        .and_then(|answer| parse(&answer, method != "HEAD"))
        .with_context(|| format!("{method} http://{addr}{path} failed"))
}

/// Reads an answer; one to `HEAD` may say how long a body is that it does not have.
fn parse(answer: &[u8], has_body: bool) -> Result<Response> {
    let Some(end) = answer.windows(4).position(|w| w == b"\r\n\r\n") else {
        bail!("the answer ends within its header ({} bytes)", answer.len());
    };
    let head = std::str::from_utf8(&answer[..end]).context("the header is no text")?;
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .with_context(|| format!("the first line is no HTTP status: {first:?}"))?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut response = Response {
        status,
        headers,
        body: Vec::new(),
    };
    if !has_body {
        return Ok(response);
    }
    let rest = &answer[end + 4..];
    response.body = if response
        .header("transfer-encoding")
        .is_some_and(|v| v.eq_ignore_ascii_case("chunked"))
    {
        unchunk(rest)?
    } else if let Some(length) = response.header("content-length") {
        let length: usize = length
            .parse()
            .with_context(|| format!("content-length is no number: {length:?}"))?;
        ensure!(
            rest.len() >= length,
            "the body is cut: {} of {length} bytes",
            rest.len()
        );
        rest[..length].to_vec()
    } else {
        rest.to_vec()
    };
    Ok(response)
}

/// The body that `rest` carries in chunks (RFC 9112 section 7.1); trailers are ignored.
fn unchunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let Some(end) = rest.windows(2).position(|w| w == b"\r\n") else {
            bail!("the body is cut within a chunk's length");
        };
        let length = std::str::from_utf8(&rest[..end])
            .ok()
            .and_then(|line| line.split(';').next())
            .and_then(|hex| usize::from_str_radix(hex.trim(), 16).ok())
            .context("a chunk's length is no hexadecimal number")?;
        rest = &rest[end + 2..];
        if length == 0 {
            return Ok(body);
        }
        // The chunk and the CRLF behind it.
        ensure!(
            rest.len().saturating_sub(2) >= length,
            "the body is cut within a chunk"
        );
        body.extend_from_slice(&rest[..length]);
        rest = &rest[length + 2..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_with_a_length_is_read_to_its_length() {
        let response = parse(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nokextra",
            true,
        )
        .expect("a good answer");
        assert_eq!(response.status, 200);
        assert_eq!(response.body, b"ok");
        assert_eq!(response.header("x"), Some("y"));
    }

    #[test]
    fn a_chunked_body_is_put_together() {
        let response = parse(
            b"HTTP/1.1 503 Busy\r\ntransfer-encoding: chunked\r\n\r\n4\r\nwiki\r\n5;a=b\r\npedia\r\n0\r\n\r\n", true)
        .expect("a good answer");
        assert_eq!(
            (response.status, response.text()),
            (503, "wikipedia".into())
        );
    }

    #[test]
    fn a_body_without_a_length_goes_to_the_end() {
        let response =
            parse(b"HTTP/1.0 404 Not Found\r\n\r\nnothing", true).expect("a good answer");
        assert_eq!((response.status, response.text()), (404, "nothing".into()));
    }

    #[test]
    fn cut_and_broken_answers_are_refused() {
        for answer in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"SSH-2.0-server\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nab",
            b"",
        ] {
            assert!(
                parse(answer, true).is_err(),
                "{:?}",
                String::from_utf8_lossy(answer)
            );
        }
    }

    #[test]
    fn json_bodies_are_parsed() {
        let response = parse(
            b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"total\":3}",
            true,
        )
        .expect("good");
        assert_eq!(response.json().expect("JSON")["total"], 3);
    }
}
