//! A server of the settings, HOST:PORT.

use std::fmt;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use crate::written::Written;

/// A server: the name or the address of a host, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// A name or an address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl Server {
    /// As `whois.example.net:43` or `[2001:db8::1]:43`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let server = || {
            let (host, port) = text.rsplit_once(':')?;
            let port = port.parse().ok().filter(|port| *port != 0)?;
            let v6 = host
                .strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'));
            let good = match v6 {
                Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
                None => is_host(host),
            };
            good.then(|| Self {
                host: v6.unwrap_or(host).to_ascii_lowercase(),
                port,
            })
        };
        server().ok_or_else(|| {
            format!("{text:?} is no server: expected HOST:PORT, such as \"mail.example.org:587\"")
        })
    }

    /// The same, with this port where none is named.
    pub fn parse_or(text: &str, port: u16) -> Result<Self, String> {
        Self::parse(text).or_else(|error| Self::parse(&format!("{text}:{port}")).map_err(|_| error))
    }
}

/// Whether this can be the name of a host, or an IPv4 address.
fn is_host(text: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    (1..=253).contains(&text.len()) && text.chars().all(is_name)
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

impl Serialize for Server {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Server {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Written {
            expected: "a server as text, HOST:PORT, such as \"mail.example.org:587\"",
            parse: Self::parse,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_read_as_it_is_shown() {
        for text in ["whois.iana.org:43", "[2001:db8::1]:4321", "192.0.2.1:1"] {
            assert_eq!(Server::parse(text).expect(text).to_string(), text);
        }
        for text in [
            "",
            ":43",
            "a:0",
            "a:65536",
            "2001:db8::1:43",
            "[::g]:1",
            "a/b:1",
            "a\r\nb:1",
        ] {
            assert!(Server::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_port_that_is_not_named_is_the_usual_one() {
        for (text, shown) in [
            ("a.example", "a.example:43"),
            ("A.example:4321", "a.example:4321"),
            ("[2001:db8::1]", "[2001:db8::1]:43"),
        ] {
            let server = Server::parse_or(text, 43).expect(text);
            assert_eq!(server.to_string(), shown);
        }
        for text in ["", "a:0", "a:b", "2001:db8::1", "[::1]x"] {
            assert!(Server::parse_or(text, 43).is_err(), "{text:?}");
        }
    }
}
