//! What the operator says about relay tests.
//!
//! Contract: names and mailboxes are so plain that no command of SMTP and no pattern that is made from them
//! can hold more than one line or another meaning.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where it is noted which hosts were tested, if nothing else is said.
const DEFAULT_STATE: &str = "/var/lib/smtpflow/relay-test";

section! {
    /// Tests of own hosts for open relaying, by `smtpflow relay-test`. Only addresses inside of
    /// `networks.local` are ever connected to.
    pub struct Settings {
        /// Whether they may be made.
        pub enabled: bool = false;
        /// Your own mailbox, which mail is to be relayed to, such as "relay-test@example.org"; it must be
        /// of a domain that none of the tested hosts takes mail for, or they are accused wrongly.
        pub recipient: Option<Mailbox> = None;
        /// The mailbox that the mail is from, where a pattern has no other one. Unset: `recipient`.
        pub sender: Option<Mailbox> = None;
        /// What is said at EHLO, such as "probe.example.org". Unset: the address that is connected from.
        pub helo: Option<HostName> = None;
        /// Whether one message is sent to `recipient` where it is accepted. Only that shows that a
        /// host is an open relay: many accept a recipient and refuse the message.
        pub data: bool = false;
        /// Folder in which it is noted which hosts were tested, so that none is tested twice within 24
        /// hours, and no more than two at once: an absolute path. It is made if need be.
        pub state: PathBuf = PathBuf::from(DEFAULT_STATE);
    }
}

impl Settings {
    /// The first value that is not allowed: its key, and why.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.enabled && self.recipient.is_none() {
            let error = "it is not set, and without it there is nobody to relay to: set it to a mailbox of \
                         your own outside of the tested hosts";
            return Err(("relay_test.recipient", error.to_owned()));
        }
        if !self.state.is_absolute() {
            let error = format!(
                "{} is no absolute path: expected one such as {DEFAULT_STATE}",
                self.state.display()
            );
            return Err(("relay_test.state", error));
        }
        Ok(())
    }
}

/// A host's full name: letters, digits and hyphens in at least two parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    /// From text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_part = |part: &str| {
            (1..=63).contains(&part.len())
                && part
                    .bytes()
                    .all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
                && !part.starts_with('-')
                && !part.ends_with('-')
        };
        // An address looks like a name of four parts, and no top-level domain is a number.
        let last = text.rsplit('.').next().unwrap_or_default();
        if text.len() <= 120
            && text.contains('.')
            && text.split('.').all(is_part)
            && !last.bytes().all(|octet| octet.is_ascii_digit())
        {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "{text:?} is no full name of a host: expected one such as mail.example.org, of at most 120 letters, \
             digits, hyphens and dots"
        ))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is this domain or below it.
    pub fn is_within(&self, domain: &Self) -> bool {
        let (name, domain) = (self.0.to_ascii_lowercase(), domain.0.to_ascii_lowercase());
        name.strip_suffix(&domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

impl TryFrom<String> for HostName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A mailbox without quotes: LOCAL@DOMAIN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mailbox {
    local: String,
    domain: HostName,
}

impl Mailbox {
    /// From text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let of_local = |octet: u8| octet.is_ascii_alphanumeric() || b"._+-=".contains(&octet);
        let mailbox = || {
            let (local, domain) = text.split_once('@')?;
            let is_good = (1..=64).contains(&local.len())
                && local.bytes().all(of_local)
                && local.split('.').all(|part| !part.is_empty());
            let domain = HostName::parse(domain).ok()?;
            is_good.then(|| Self {
                local: local.to_owned(),
                domain,
            })
        };
        mailbox().ok_or_else(|| {
            format!(
                "{text:?} is no mailbox that can be used here: expected one such as \
                 relay-test@example.org, of letters, digits and ._+-="
            )
        })
    }

    /// What is before the `@`.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// What is behind it.
    pub const fn domain(&self) -> &HostName {
        &self.domain
    }
}

impl TryFrom<String> for Mailbox {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Mailbox> for String {
    fn from(mailbox: Mailbox) -> Self {
        mailbox.to_string()
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names() {
        for good in ["mx.example", "a-b.c3.example.org", "1.example"] {
            assert_eq!(HostName::parse(good).expect(good).as_str(), good);
        }
        for bad in [
            "",
            "localhost",
            "mx..example",
            ".example",
            "mx.example.",
            "-a.example",
            "a-.example",
            "192.0.2.1",
            "a b.example",
            "a.example\r\nQUIT",
            "[192.0.2.1]",
            "ex\u{e4}mple.org",
            "a_b.example",
        ] {
            HostName::parse(bad).expect_err(bad);
        }
        HostName::parse(&format!("{}.example", "a.".repeat(70))).expect_err("too long");
    }

    #[test]
    fn mailboxes_are_plain() {
        let mailbox = Mailbox::parse("relay.test+x=1@example.org").expect("a mailbox");
        assert_eq!(mailbox.to_string(), "relay.test+x=1@example.org");
        for bad in [
            "example.org",
            "@example.org",
            "a@",
            "a@b",
            "a@b@example.org",
            "a%b@example.org",
            "a!b@example.org",
            "\"a\"@example.org",
            "a@[192.0.2.1]",
            "a..b@example.org",
            "a>@example.org",
            "a@example.org\r\nDATA",
            ".a@example.org",
            "a b@example.org",
        ] {
            Mailbox::parse(bad).expect_err(bad);
        }
    }

    #[test]
    fn a_name_is_within_a_domain_by_whole_parts() {
        let name = |text| HostName::parse(text).expect(text);
        let domain = name("example.org");
        assert!(name("MX.Example.ORG").is_within(&domain));
        assert!(name("example.org").is_within(&domain));
        assert!(!name("badexample.org").is_within(&domain));
        assert!(!name("example.org.example").is_within(&domain));
    }

    #[test]
    fn who_switches_it_on_says_who_gets_the_mail() {
        let mut settings = Settings::default();
        assert_eq!(settings.check(), Ok(()));
        settings.enabled = true;
        let (key, _) = settings.check().expect_err("nobody to relay to");
        assert_eq!(key, "relay_test.recipient");
        settings.recipient = Some(Mailbox::parse("a@example.org").expect("a mailbox"));
        assert_eq!(settings.check(), Ok(()));
        settings.state = PathBuf::from("relative");
        let (key, _) = settings.check().expect_err("no absolute path");
        assert_eq!(key, "relay_test.state");
    }
}
