//! Whose host an address is: who is to be told of it, and how that is known.
//!
//! Contract: plain data. The texts of a [`Contact`] are checked where people write them and cleaned where
//! strangers do, so that each stays on its line, has a bounded length and does nothing to a terminal; a
//! mail address is one that can stand in the header of a message as it is.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Most characters of a name, a phone number, a note.
pub const MAX_TEXT: usize = 200;
/// Most mail addresses of a contact.
pub const MAX_MAILS: usize = 8;
/// Most bytes of a mail address (RFC 5321, section 4.5.3.1.3, without its brackets).
const MAX_MAIL: usize = 254;
/// Most bytes before the `@` (RFC 5321, section 4.5.3.1.1).
const MAX_LOCAL_PART: usize = 64;

/// Who answers for hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Contact {
    /// Who it is.
    pub name: String,
    /// Where to write to, the best address first.
    pub mail: Vec<String>,
    /// Where to call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// What the operator has written beside it; strangers who ask (`smtpflow serve-rwhois`) are not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Where owners are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnerSource {
    /// The operator's own files, by prefix.
    Contacts,
    /// The routes of this machine, and who the files name for their next hops.
    Kernel,
    /// The routes of other routers, by SNMP.
    Routers,
    /// Servers of RWhois (RFC 2167).
    Rwhois,
    /// Servers of whois (RFC 3912).
    Whois,
    /// Servers of RDAP (RFC 9082).
    Rdap,
}

impl OwnerSource {
    /// As in the configuration and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Contacts => "contacts",
            Self::Kernel => "kernel",
            Self::Routers => "routers",
            Self::Rwhois => "rwhois",
            Self::Whois => "whois",
            Self::Rdap => "rdap",
        }
    }
}

/// A route: what lies behind which neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// What is reached.
    pub destination: IpNet,
    /// By whom; `None` if it is reached directly, or not at all.
    pub next_hop: Option<IpAddr>,
    /// Through which interface, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// How many networks of 256 addresses a destination has, or has a part of; none for IPv6.
pub fn slash_24s(destination: IpNet) -> Option<u32> {
    match destination {
        IpNet::V4(v4) => Some(1 << 24_u8.saturating_sub(v4.prefix_len())),
        IpNet::V6(_) => None,
    }
}

/// What came of asking one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Somebody is named.
    Found {
        /// Who.
        contact: Contact,
        /// For what network, as the source writes it.
        #[serde(skip_serializing_if = "Option::is_none")]
        network: Option<String>,
        /// The route that led there.
        #[serde(skip_serializing_if = "Option::is_none")]
        route: Option<Route>,
    },
    /// The source was asked and names nobody.
    Nobody {
        /// What it says instead.
        reason: String,
        /// The route that led nowhere.
        #[serde(skip_serializing_if = "Option::is_none")]
        route: Option<Route>,
    },
    /// The source could not be asked.
    Failed {
        /// Why, and what to do about it.
        reason: String,
    },
}

/// What one source says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which one.
    pub source: OwnerSource,
    /// Where in it: a file and its line, a router, a server.
    pub provenance: String,
    /// How old that is, in seconds: since the file was changed, the routes were read, the server answered.
    pub age: Option<u64>,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Whose host an address is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// The address that was asked for.
    pub address: IpAddr,
    /// What the sources say, in the operator's order. The first that names somebody is right.
    pub findings: Vec<Finding>,
}

impl Owner {
    /// Who answers for the address, as far as somebody is named.
    pub fn contact(&self) -> Option<&Contact> {
        self.findings
            .iter()
            .find_map(|finding| match &finding.outcome {
                Outcome::Found { contact, .. } => Some(contact),
                Outcome::Nobody { .. } | Outcome::Failed { .. } => None,
            })
    }
}

/// Checks a text of the operator's: one line of a bounded length.
pub fn check_text(text: &str) -> Result<(), String> {
    let length = text.chars().count();
    if text.trim().is_empty() || length > MAX_TEXT || text.contains(is_harmful) {
        return Err(format!(
            "{text:?} is no text of 1 to {MAX_TEXT} characters in one line"
        ));
    }
    Ok(())
}

/// A text of a stranger's, made harmless and as short as it has to be; `None` if nothing is left.
pub fn clean(text: &str) -> Option<String> {
    let clean: String = text
        .trim()
        .chars()
        .map(|c| if is_harmful(c) { '\u{fffd}' } else { c })
        .take(MAX_TEXT)
        .collect();
    (!clean.is_empty()).then_some(clean)
}

/// Whether a text of at most so many bytes is harmless as it is.
pub fn is_harmless(text: &str, most: usize) -> bool {
    text.len() <= most && !text.contains(is_harmful)
}

/// Checks a mail address: `LOCAL@DOMAIN` as a dot-atom (RFC 5322, section 3.2.3) and a name of a host.
/// Quoted ones, literals and other scripts are refused: nothing of it can end a header or an address.
pub fn check_mail(text: &str) -> Result<(), String> {
    let is_of_local = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let good = text.len() <= MAX_MAIL
        && text.split_once('@').is_some_and(|(local, domain)| {
            (1..=MAX_LOCAL_PART).contains(&local.len())
                && local.chars().all(is_of_local)
                && local.split('.').all(|atom| !atom.is_empty())
                && domain.split('.').all(is_label)
        });
    if good {
        return Ok(());
    }
    Err(format!(
        "{text:?} is no mail address: expected one such as abuse@example.org"
    ))
}

/// Control characters, and those that turn the direction of text (Unicode Standard Annex 9).
fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_address_can_stand_in_a_header_as_it_is() {
        for good in [
            "abuse@example.org",
            "a.b+c@x-y.example",
            "root@localhost",
            "o'brien@a.b",
        ] {
            assert_eq!(check_mail(good), Ok(()), "{good}");
        }
        let long = format!("{}@example.org", "a".repeat(65));
        for bad in [
            "",
            "abuse",
            "@example.org",
            "abuse@",
            "a@b@c",
            "a b@example.org",
            "a@example.org\r\nBcc: x@y.z",
            "a@example.org,b@example.org",
            "<a@example.org>",
            "\"a\"@example.org",
            "a@[192.0.2.1]",
            ".a@example.org",
            "a..b@example.org",
            "a@-x.example",
            "a@exämple.org",
            "a@example..org",
            &long,
        ] {
            assert!(check_mail(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_text_of_a_stranger_is_one_line_and_short() {
        assert_eq!(
            clean(" a\r\nb\u{1b}[2J "),
            Some("a\u{fffd}\u{fffd}b\u{fffd}[2J".to_owned())
        );
        assert_eq!(clean("\u{202e}x").as_deref(), Some("\u{fffd}x"));
        assert_eq!(clean("  \n"), None);
        let long = clean(&"é".repeat(1000)).expect("a text");
        assert_eq!(long.chars().count(), MAX_TEXT);
    }

    #[test]
    fn the_first_who_is_named_is_the_owner() {
        let finding = |source, outcome| Finding {
            source,
            provenance: "x".to_owned(),
            age: Some(1),
            outcome,
        };
        let found = |name: &str| Outcome::Found {
            contact: Contact {
                name: name.to_owned(),
                ..Contact::default()
            },
            network: None,
            route: None,
        };
        let reason = "asleep".to_owned();
        let owner = Owner {
            address: "192.0.2.1".parse().expect("an address"),
            findings: vec![
                finding(OwnerSource::Contacts, Outcome::Failed { reason }),
                finding(OwnerSource::Kernel, found("physics")),
                finding(OwnerSource::Rdap, found("registry")),
            ],
        };
        assert_eq!(
            owner.contact().map(|contact| &*contact.name),
            Some("physics")
        );
        let json = serde_json::to_value(&owner).expect("JSON");
        assert_eq!(json["findings"][0]["outcome"], "failed");
        assert_eq!(json["findings"][1]["source"], "kernel");
        assert_eq!(json["findings"][1]["contact"]["name"], "physics");
    }
}
