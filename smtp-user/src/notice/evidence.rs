//! What may be told at all.
//!
//! Contract: no clock, no I/O. Nothing is told about a host outside of the own prefixes, nor because of what
//! somebody else could have sent in its name. A SYN with any address of a source in it costs nothing, and the
//! answer to it makes an innocent host send a reset; only on a connection on which the server has sent data has
//! the host itself answered. Recipients come from the operator's own files, or are of domains that he names.

use std::fmt;

use ipnet::IpNet;
use jiff::tz::TimeZone;

use super::quiet;
use super::settings::{Settings, domain_of};
use crate::failure::{Failure, Kind};
use crate::model::notice::{Addressee, Subject};
use crate::model::owner::{MAX_MAILS, OwnerSource, check_mail};
use crate::model::prefix::show;
use crate::model::verdict::Severity;

/// What decides about what may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The operator's own prefixes.
    pub local: Vec<IpNet>,
    /// What else he says.
    pub settings: Settings,
    /// The time zone of the quiet hours.
    pub zone: TimeZone,
}

impl Policy {
    /// Of these settings.
    ///
    /// # Errors
    ///
    /// The machine does not know the time zone (any more).
    pub fn new(settings: Settings, local: Vec<IpNet>) -> Result<Self, Failure> {
        let zone = match &settings.time_zone {
            Some(name) => quiet::time_zone(name).map_err(|error| {
                Failure::new(Kind::BadConfig, format!("notice.time_zone: {error}"))
            })?,
            None => TimeZone::system(),
        };
        Ok(Self {
            local,
            settings,
            zone,
        })
    }
}

/// Why nothing is told about a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Silence {
    /// It is outside of the own prefixes.
    Foreign,
    /// No verdict is bad enough.
    Mild(Severity),
    /// Somebody else could have sent what was counted.
    Spoofable {
        /// Connections on which a server has sent data.
        conversations: u64,
        /// How many of them are needed.
        needed: u64,
    },
    /// Nobody is named as its owner, or nobody with a mail address.
    Ownerless,
    /// A stranger's server names the address, and the operator does not know its domain.
    Unknown(String),
    /// Its owner is the address that notices are from: an answer to oneself.
    Ourselves(String),
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str(
                "it is outside of your own prefixes, and nobody is ever told about such a host (networks.local)",
            ),
            Self::Mild(severity) => write!(
                f,
                "its worst verdict is a {}, milder than what owners are told of (notice.severity)",
                severity.name()
            ),
            Self::Spoofable {
                conversations,
                needed,
            } => write!(
                f,
                "a server has sent data on {conversations} of its connections, and {needed} are needed: anybody can \
                 forge the rest in its name (notice.conversations)"
            ),
            Self::Ownerless => f.write_str(
                "nobody with a mail address is named as its owner: add it to a contact file (owner.contacts)",
            ),
            Self::Unknown(mail) => write!(
                f,
                "its owner's address {mail} comes from a stranger's server: if it is right, name its domain \
                 (notice.domains) or add it to a contact file (owner.contacts)"
            ),
            Self::Ourselves(mail) => write!(
                f,
                "its owner's address {mail} is the one that notices are from (notice.from)"
            ),
        }
    }
}

/// Whom to tell about a host, and the evidence is such that it may be told.
///
/// # Errors
///
/// It may not.
pub fn addressee(policy: &Policy, subject: &Subject) -> Result<Addressee, Silence> {
    let facts = &subject.facts;
    let settings = &policy.settings;
    if !is_own(policy, facts.host) {
        return Err(Silence::Foreign);
    }
    if facts.severity < settings.severity {
        return Err(Silence::Mild(facts.severity));
    }
    let needed = u64::from(settings.conversations.max(1));
    if facts.conversations < needed {
        return Err(Silence::Spoofable {
            conversations: facts.conversations,
            needed,
        });
    }
    recipients(settings, subject.owner.as_ref())
}

/// Whether a host, all of it where it is a prefix, is inside of the own prefixes.
pub(super) fn is_own(policy: &Policy, host: IpNet) -> bool {
    policy.local.iter().any(|prefix| prefix.contains(&host))
}

/// The addresses of an owner that may be written to.
fn recipients(settings: &Settings, owner: Option<&Addressee>) -> Result<Addressee, Silence> {
    let owner = owner.ok_or(Silence::Ownerless)?;
    let strange = matches!(
        owner.source,
        OwnerSource::Rwhois | OwnerSource::Whois | OwnerSource::Rdap
    );
    let mut silence = Silence::Ownerless;
    let mut mail: Vec<String> = Vec::new();
    for address in owner.mail.iter().take(MAX_MAILS) {
        let known = |domain: &String| {
            let (of, domain) = (
                domain_of(address).to_ascii_lowercase(),
                domain.to_ascii_lowercase(),
            );
            of.strip_suffix(&domain)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if check_mail(address).is_err() {
            continue;
        }
        if settings
            .from
            .as_ref()
            .is_some_and(|from| from.eq_ignore_ascii_case(address))
        {
            silence = Silence::Ourselves(address.clone());
        } else if strange && !settings.domains.iter().any(known) {
            silence = Silence::Unknown(address.clone());
        } else if !mail.iter().any(|known| known.eq_ignore_ascii_case(address)) {
            mail.push(address.clone());
        }
    }
    if mail.is_empty() {
        return Err(silence);
    }
    Ok(Addressee {
        mail,
        ..owner.clone()
    })
}

/// A host as people read it.
pub(super) fn shown(host: IpNet) -> String {
    show(&host)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{owner, policy, subject};
    use super::*;

    #[test]
    fn a_host_of_ones_own_with_conversations_is_told_about() {
        let told = addressee(&policy(), &subject("192.0.2.7/32", owner("it@dep.example")));
        assert_eq!(told.expect("told").mail, ["it@dep.example"]);
    }

    #[test]
    fn what_may_not_be_told_says_why() {
        let base = || subject("192.0.2.7/32", owner("it@dep.example"));
        let of = |host: &str| subject(host, owner("it@dep.example"));
        let with = |change: &dyn Fn(&mut Subject)| {
            let mut subject = base();
            change(&mut subject);
            subject
        };
        for (subject, expected) in [
            (of("198.51.100.1/32"), Silence::Foreign),
            // A part of it is somebody else's.
            (of("192.0.2.0/23"), Silence::Foreign),
            (of("2001:db8:1::/64"), Silence::Foreign),
            (
                with(&|subject| subject.facts.severity = Severity::Notice),
                Silence::Mild(Severity::Notice),
            ),
            (
                with(&|subject| {
                    subject.facts.connections = 1_000_000;
                    subject.facts.packets = 3_000_000;
                    subject.facts.conversations = 0;
                }),
                Silence::Spoofable {
                    conversations: 0,
                    needed: 20,
                },
            ),
            (
                with(&|subject| subject.facts.conversations = 19),
                Silence::Spoofable {
                    conversations: 19,
                    needed: 20,
                },
            ),
            (with(&|subject| subject.owner = None), Silence::Ownerless),
            (
                with(&|subject| subject.owner = owner("it@dep.example\r\nBcc: x@y.example")),
                Silence::Ownerless,
            ),
            (
                with(&|subject| subject.owner = owner("Abuse@example.org")),
                Silence::Ourselves("Abuse@example.org".to_owned()),
            ),
            (
                with(&|subject| {
                    subject.owner = Some(Addressee {
                        name: "somebody".to_owned(),
                        mail: vec![
                            "abuse@elsewhere.example".to_owned(),
                            "a@badcustomer.example".to_owned(),
                        ],
                        source: OwnerSource::Rdap,
                    });
                }),
                Silence::Unknown("a@badcustomer.example".to_owned()),
            ),
        ] {
            assert_eq!(addressee(&policy(), &subject), Err(expected), "{subject:?}");
        }
    }

    #[test]
    fn a_strangers_server_may_name_an_address_of_a_known_domain() {
        let mut subject = subject("192.0.2.7/32", None);
        subject.owner = Some(Addressee {
            name: "a customer".to_owned(),
            mail: vec![
                "x@elsewhere.example".to_owned(),
                "abuse@noc.Customer.example".to_owned(),
            ],
            source: OwnerSource::Rdap,
        });
        let told = addressee(&policy(), &subject).expect("told");
        assert_eq!(told.mail, ["abuse@noc.Customer.example"]);
    }

    #[test]
    fn without_own_prefixes_nobody_is_told() {
        let mut policy = policy();
        policy.local.clear();
        let silence = addressee(&policy, &subject("192.0.2.7/32", owner("it@dep.example")));
        assert_eq!(silence, Err(Silence::Foreign));
    }
}
