//! Whois and RWhois: one question, and as many referrals as are allowed.
//!
//! Contract: over at the deadline, at most [`REFERRALS`] servers beyond the first, none of them twice, none
//! that a stranger has no reason to name (see [`Reach`]). The server that is asked last knows best; where it
//! names nobody or does not answer, who was named before stays.

use std::net::IpAddr;

use super::rwhois;
use super::whois;
use super::wire::{Deadline, Reach};
use crate::model::owner::Contact;
use crate::server::Server;

/// Most servers that are asked because others say so.
pub(super) const REFERRALS: usize = 3;
/// The port of whois.
pub(super) const WHOIS_PORT: u16 = 43;
/// The port of RWhois.
pub(super) const RWHOIS_PORT: u16 = 4321;
/// The longest answer of a server.
pub(super) const LIMIT: usize = 64 << 10;

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Protocol {
    Whois,
    Rwhois,
}

/// A server, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    pub(super) protocol: Protocol,
    pub(super) server: Server,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = match self.protocol {
            Protocol::Whois => "whois",
            Protocol::Rwhois => "rwhois",
        };
        write!(f, "{scheme}://{}", self.server)
    }
}

impl Target {
    /// A referral as servers write it: `whois.example.net`, `rwhois://host:4321/auth-area=...`. None, if it
    /// is something else, such as the address of a page.
    pub(super) fn referred(text: &str) -> Option<Self> {
        let (protocol, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("whois") => (Protocol::Whois, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("rwhois") => {
                (Protocol::Rwhois, rest)
            }
            Some(_) => return None,
            None => (Protocol::Whois, text),
        };
        let authority = rest.split('/').next()?.trim();
        let port = match protocol {
            Protocol::Whois => WHOIS_PORT,
            Protocol::Rwhois => RWHOIS_PORT,
        };
        let server = Server::parse_or(authority, port).ok()?;
        Some(Self { protocol, server })
    }
}

/// What one server says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Who is named, with a mail address.
    pub(super) contact: Option<Contact>,
    /// For what network.
    pub(super) network: Option<String>,
    /// Whom to ask instead.
    pub(super) referral: Option<Target>,
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    /// Who is named, and for what network, and by whom.
    pub(super) found: Option<(Contact, Option<String>)>,
    /// The server that named somebody, or was asked last.
    pub(super) by: Target,
    /// Why it went no further than that, if a referral could not be followed.
    pub(super) stopped: Option<String>,
}

/// Asks a server that the operator has named, and those that it refers to.
pub(super) fn ask(first: Target, address: IpAddr, deadline: Deadline) -> Result<Heard, String> {
    let mut asked: Vec<Target> = Vec::new();
    let mut heard: Option<Heard> = None;
    let mut next = first;
    let mut reach = Reach::Anywhere;
    loop {
        let answered = match next.protocol {
            Protocol::Whois => whois::ask(&next.server, address, reach, deadline),
            Protocol::Rwhois => rwhois::ask(&next.server, address, reach, deadline),
        };
        let (said, server) = match answered {
            Ok(answered) => answered,
            // The first server is the operator's; what strangers refer to may be as broken as it likes.
            Err(error) => {
                let error = format!("{next}: {error}");
                return match heard {
                    Some(heard) => Ok(Heard {
                        stopped: Some(error),
                        ..heard
                    }),
                    None => Err(error),
                };
            }
        };
        asked.push(next.clone());
        let found = said.contact.map(|contact| (contact, said.network));
        let better = found.is_some() || heard.as_ref().is_none_or(|heard| heard.found.is_none());
        if better {
            heard = Some(Heard {
                found,
                by: next,
                stopped: None,
            });
        }
        let Some(referral) = said.referral else {
            break;
        };
        let stopped = if asked.contains(&referral) {
            Some(format!(
                "{referral} was asked already: the referrals go in a circle"
            ))
        } else if asked.len() > REFERRALS {
            Some(format!("more than {REFERRALS} referrals"))
        } else {
            None
        };
        if stopped.is_some() {
            if let Some(heard) = &mut heard {
                heard.stopped = stopped;
            }
            break;
        }
        next = referral;
        reach = Reach::From(server);
    }
    heard.ok_or_else(|| "nobody was asked".to_owned())
}

/// The text of an answer; octets that are no UTF-8 are shown as such.
pub(super) fn text(raw: &[u8]) -> String {
    String::from_utf8_lossy(raw).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn referrals_are_read_as_servers_write_them() {
        for (text, shown) in [
            ("whois.ripe.net", Some("whois://whois.ripe.net:43")),
            (
                "whois://whois.apnic.net",
                Some("whois://whois.apnic.net:43"),
            ),
            (
                "RWHOIS://rwhois.example.net:4321/auth-area=192.0.2.0/24",
                Some("rwhois://rwhois.example.net:4321"),
            ),
            (
                "rwhois://rwhois.example.net",
                Some("rwhois://rwhois.example.net:4321"),
            ),
            (
                "rwhois://[2001:db8::1]:99/",
                Some("rwhois://[2001:db8::1]:99"),
            ),
            ("https://whois.example.net", None),
            ("whois.example.net:0", None),
            ("a b", None),
            ("", None),
            ("whois://", None),
        ] {
            let target = Target::referred(text).map(|target| target.to_string());
            assert_eq!(target.as_deref(), shown, "{text}");
        }
    }
}
