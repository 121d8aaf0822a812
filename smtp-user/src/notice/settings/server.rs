//! The relay of the settings, HOST:PORT.

use std::fmt;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::is_domain;
use crate::written::Written;

/// A relay and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayServer {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl RelayServer {
    /// As `mail.example.org:587`, `192.0.2.1:25` or `[2001:db8::1]:25`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let server = || {
            let (host, port) = text.rsplit_once(':')?;
            let port = port.parse().ok().filter(|port| *port != 0)?;
            let v6 = host
                .strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'));
            let good = match v6 {
                Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
                None => is_domain(host),
            };
            good.then(|| Self {
                host: v6.unwrap_or(host).to_ascii_lowercase(),
                port,
            })
        };
        server().ok_or_else(|| {
            format!("{text:?} is no relay: expected one such as \"mail.example.org:587\"")
        })
    }
}

impl fmt::Display for RelayServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

impl Serialize for RelayServer {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RelayServer {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Written {
            expected: "a relay as text, such as \"mail.example.org:587\"",
            parse: Self::parse,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_read_as_it_is_written() {
        for text in ["mail.example.org:587", "192.0.2.1:25", "[2001:db8::1]:25"] {
            assert_eq!(RelayServer::parse(text).expect(text).to_string(), text);
        }
    }
}
