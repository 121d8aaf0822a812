//! Which server of RDAP knows a prefix: the file that IANA publishes (RFC 9224).
//!
//! Contract: a file is used whole or not at all; what is wrong in it is told.

use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Deserialize;

use super::super::prefixes::{Drafts, PrefixTable};
use super::super::web::Url;
use crate::failure::{Failure, Kind};

/// The longest file, in bytes: today's have 30 kB.
const MAX_FILE: u64 = 4 << 20;
/// Most prefixes and servers of all files.
const MAX_ENTRIES: usize = 100_000;

/// The file, as far as it matters.
#[derive(Debug, Deserialize)]
struct Document {
    version: String,
    /// Prefixes, and the addresses of the servers that know them.
    services: Vec<(Vec<String>, Vec<String>)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(in super::super) struct Bootstrap {
    prefixes: PrefixTable,
    servers: Vec<Url>,
}

impl Bootstrap {
    /// Reads files.
    pub(in super::super) fn load(paths: &[PathBuf]) -> Result<Self, Failure> {
        let mut servers = Vec::new();
        let mut drafts = Drafts::default();
        for path in paths {
            let wrong = |what: String| {
                Failure::new(
                    Kind::BadConfig,
                    format!(
                        "{}: {what}; IANA publishes such files (owner.rdap_bootstrap)",
                        path.display()
                    ),
                )
            };
            let bytes = read(path).map_err(&wrong)?;
            add(&bytes, &mut drafts, &mut servers).map_err(&wrong)?;
        }
        Ok(Self {
            prefixes: drafts.finish(),
            servers,
        })
    }

    /// The server that knows the longest prefix that an address is in.
    pub(in super::super) fn server(&self, address: IpAddr) -> Option<&Url> {
        let (_, number) = *self.prefixes.matches(address).first()?;
        self.servers.get(number as usize)
    }

    /// The ports of all servers.
    pub(in super::super) fn ports(&self) -> impl Iterator<Item = u16> {
        self.servers.iter().map(|server| server.port)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot read it: {error}"))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("it is longer than {} MiB", MAX_FILE >> 20));
    }
    Ok(bytes)
}

fn add(bytes: &[u8], drafts: &mut Drafts, servers: &mut Vec<Url>) -> Result<(), String> {
    let document: Document = serde_json::from_slice(bytes)
        .map_err(|error| format!("this is no bootstrap file of RDAP: {error}"))?;
    // Later versions of the form have other numbers (RFC 9224, section 3).
    if document.version != "1.0" {
        return Err(format!("version {:?}: expected 1.0", document.version));
    }
    for (prefixes, urls) in document.services {
        let urls: Vec<Url> = urls
            .iter()
            .map(|url| Url::parse(url))
            .collect::<Result<_, _>>()?;
        // The one that nobody can listen to, if there is one.
        let best = urls.iter().find(|url| url.tls).or(urls.first());
        let best = best.ok_or("a service has no server")?;
        if servers.len() + drafts.len() + prefixes.len() > MAX_ENTRIES {
            return Err(format!("it has more than {MAX_ENTRIES} entries"));
        }
        // 100,000 fit into any number.
        let number = servers.len() as u32;
        servers.push(best.clone());
        for prefix in &prefixes {
            let prefix: IpNet = prefix.parse().map_err(|_| {
                format!("{prefix:?} is no prefix: expected one such as 192.0.2.0/24")
            })?;
            drafts.add(prefix, 0, number);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str) -> Result<Bootstrap, String> {
        let (mut drafts, mut servers) = (Drafts::default(), Vec::new());
        add(text.as_bytes(), &mut drafts, &mut servers)?;
        let prefixes = drafts.finish();
        Ok(Bootstrap { prefixes, servers })
    }

    #[test]
    fn the_longest_prefix_names_the_server_and_https_is_preferred() {
        let text = r#"{"version": "1.0", "publication": "2026-01-01T00:00:00Z", "description": "x", "services": [
            [["192.0.0.0/8", "2001:db8::/32"], ["http://a.example/", "https://a.example/rdap/"]],
            [["192.0.2.0/24"], ["http://b.example"]]]}"#;
        let bootstrap = made(text).expect("good");
        let server = |address: &str| {
            let server = bootstrap.server(address.parse().expect("an address"));
            server.map(ToString::to_string)
        };
        assert_eq!(
            server("192.0.3.1").as_deref(),
            Some("https://a.example/rdap/")
        );
        assert_eq!(
            server("2001:db8::1").as_deref(),
            Some("https://a.example/rdap/")
        );
        assert_eq!(server("192.0.2.1").as_deref(), Some("http://b.example/"));
        assert_eq!(server("198.51.100.1"), None);
    }

    #[test]
    fn a_file_that_is_wrong_is_told() {
        for (text, expected) in [
            ("", "no bootstrap file"),
            ("{}", "missing field"),
            (r#"{"version": "2.0", "services": []}"#, "version \"2.0\""),
            (
                r#"{"version": "1.0", "services": [[["192.0.2.0"], ["https://a/"]]]}"#,
                "no prefix",
            ),
            (
                r#"{"version": "1.0", "services": [[["192.0.2.0/24"], ["ldap://a/"]]]}"#,
                "no address of a server",
            ),
            (
                r#"{"version": "1.0", "services": [[["192.0.2.0/24"], []]]}"#,
                "no server",
            ),
        ] {
            let error = made(text).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
        let failure = Bootstrap::load(&[PathBuf::from("/nonexistent.json")]).expect_err("none");
        assert!(
            failure.to_string().contains("owner.rdap_bootstrap"),
            "{failure}"
        );
    }
}
