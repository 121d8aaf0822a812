//! Addresses of HTTP servers.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::server::Server;

/// `http://HOST`, `http://HOST:PORT/PATH`, the same with `https`; without a user, a query or a final
/// slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    /// Whether it begins with `https`.
    pub tls: bool,
    /// Host and port, as in the header `Host`.
    pub authority: String,
    /// Where the server's own paths begin: empty, or as `/alertmanager`.
    pub path: String,
}

impl HttpUrl {
    /// Reads one, with an example for whoever has it wrong.
    pub fn parse(text: &str, example: &str) -> Result<Self, String> {
        Self::read(text).ok_or_else(|| {
            format!("{text:?} is no address of an HTTP server: expected one such as {example}")
        })
    }

    fn read(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let path = path.trim_end_matches('/');
        // Unreserved characters of RFC 3986, section 2.3, without those that climb.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
        let plain = path.chars().all(is_plain) && !path.contains("//") && !path.contains("/.");
        (plain && is_authority(authority)).then(|| Self {
            tls,
            authority: authority.to_owned(),
            path: path.to_owned(),
        })
    }

    /// Host and port as they are connected to.
    pub fn endpoint(&self) -> String {
        let port = if self.tls { 443 } else { 80 };
        if port_of(&self.authority).is_some() {
            self.authority.clone()
        } else {
            format!("{}:{port}", self.authority)
        }
    }
}

impl HttpUrl {
    /// The port that is connected to.
    pub fn port(&self) -> u16 {
        let named = port_of(&self.authority).and_then(|port| port.parse().ok());
        named.unwrap_or(if self.tls { 443 } else { 80 })
    }

    /// Its host, a name or an address, without brackets.
    pub fn host(&self) -> &str {
        let host = match port_of(&self.authority) {
            Some(port) => &self.authority[..self.authority.len() - port.len() - 1],
            None => &self.authority,
        };
        let address = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        address.unwrap_or(host)
    }

    /// Whether its host is an address, and no name that has to be looked up.
    pub fn is_address(&self) -> bool {
        self.host().parse::<std::net::IpAddr>().is_ok()
    }
}

/// What stands behind the last colon that is not one of an IPv6 address.
fn port_of(authority: &str) -> Option<&str> {
    let (host, port) = authority.rsplit_once(':')?;
    (!host.starts_with('[') || host.ends_with(']')).then_some(port)
}

fn is_authority(authority: &str) -> bool {
    Server::parse_or(authority, 80).is_ok()
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tls,
            authority,
            path,
        } = self;
        let scheme = if *tls { "https" } else { "http" };
        write!(f, "{scheme}://{authority}{path}")
    }
}

impl Serialize for HttpUrl {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// The address that a browser finds the page of this agent under.
pub(super) fn public<'de, D: Deserializer<'de>>(from: D) -> Result<Option<HttpUrl>, D::Error> {
    let text = String::deserialize(from)?;
    HttpUrl::parse(&text, "\"https://mail-watch.example.org\"")
        .map(Some)
        .map_err(serde::de::Error::custom)
}

/// The address of an Alertmanager.
pub(super) fn alertmanager<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<HttpUrl>, D::Error> {
    let text = String::deserialize(from)?;
    let url = HttpUrl::parse(&text, "\"http://127.0.0.1:9093\"");
    url.and_then(|url| check_alertmanager(&url).map(|()| Some(url)))
        .map_err(serde::de::Error::custom)
}

pub(super) fn check_alertmanager(url: &HttpUrl) -> Result<(), String> {
    if url.tls {
        return Err(format!(
            "{url} wants TLS, which the agent does not speak, so that no certificate or private key has \
             to be kept where every packet passes: let a proxy on this machine do that (nginx, \
             stunnel) and name its http address, or let Prometheus send the alerts of its rules"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<HttpUrl, String> {
        HttpUrl::parse(text, "http://example.org")
    }

    #[test]
    fn an_address_is_scheme_host_port_and_path() {
        for (text, endpoint, host) in [
            ("http://127.0.0.1:9093", "127.0.0.1:9093", "127.0.0.1"),
            ("https://a.example", "a.example:443", "a.example"),
            ("http://[::1]", "[::1]:80", "::1"),
            ("http://[::1]:9093/alert-manager/x", "[::1]:9093", "::1"),
        ] {
            let url = parse(text).expect(text);
            assert_eq!(url.to_string(), text);
            assert_eq!((&*url.endpoint(), url.host()), (endpoint, host));
            assert_eq!(url.is_address(), host != "a.example");
            assert_eq!(parse(&format!("{text}/")), Ok(url));
        }
        for text in [
            "",
            "127.0.0.1:9093",
            "ftp://a",
            "http://",
            "http://a:0",
            "http://a:65536",
            "http://a:",
            "http://:80",
            "http://[::g]:1",
            "http://a@b:1",
            "http://a/x?y",
            "http://a/x#y",
            "http://a/../x",
            "http://a//x",
            "http://a b",
            "http://a/x y",
            "http://a\r\nX: y",
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains("http://example.org"), "{error}");
        }
    }

    #[test]
    fn an_alertmanager_behind_tls_is_refused_with_the_way_out() {
        let url = parse("https://a.example").expect("an address");
        let error = check_alertmanager(&url).expect_err("refused");
        assert!(error.contains("a proxy on this machine"), "{error}");
    }
}
