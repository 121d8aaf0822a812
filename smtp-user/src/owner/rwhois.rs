//! RWhois (RFC 2167): asking a server.
//!
//! Contract: two questions at most, one for the network and one for the contact that it names by a number;
//! answers of at most [`LIMIT`] bytes. [`server`] answers such questions itself.

use std::net::IpAddr;

use super::directory::{LIMIT, Said, Target, text};
use super::whois::add;
use super::wire::{Connection, Deadline, Reach, read_all};
use crate::model::owner::{Contact, check_mail, clean};
use crate::server::Server;

pub(super) mod server;

/// Attributes with whom to write to, the best first: an address, or the number of a contact.
const CONTACTS: &[&str] = &[
    "abuse-contact",
    "abuse-email",
    "tech-contact",
    "admin-contact",
];
/// Attributes with the name of whose network it is, the best first.
const NAMES: &[&str] = &[
    "org-name",
    "organization",
    "organization-name",
    "network-name",
];
/// Longest number of a contact that is asked for.
const MAX_ID: usize = 100;

/// Asks a server; gives as well which address it answered from.
pub(super) fn ask(
    server: &Server,
    address: IpAddr,
    reach: Reach,
    deadline: Deadline,
) -> Result<(Said, IpAddr), String> {
    let (answer, from) = exchange(server, &format!("network {address}"), reach, deadline)?;
    let network = parse(&answer)?;
    let mut said = Said {
        contact: None,
        network: network
            .value(&["ip-network", "ip-network-block"])
            .and_then(clean),
        referral: network.referral.clone(),
    };
    let Some(named) = network.value(CONTACTS) else {
        return Ok((said, from));
    };
    let name = network.value(NAMES).and_then(clean);
    let mut contact = Contact::default();
    if check_mail(named).is_ok() {
        add(&mut contact.mail, named);
    } else if is_id(named) {
        let (answer, _) = exchange(server, &format!("contact ID={named}"), reach, deadline)?;
        let object = parse(&answer)?;
        for mail in object.values("email") {
            add(&mut contact.mail, mail);
        }
        contact.phone = object.value(&["phone", "phone-number"]).and_then(clean);
        contact.name = object.value(&["name"]).and_then(clean).unwrap_or_default();
    }
    if let Some(mail) = contact.mail.first() {
        if let Some(name) = name {
            contact.name = name;
        } else if contact.name.is_empty() {
            contact.name.clone_from(mail);
        }
        said.contact = Some(contact);
    }
    Ok((said, from))
}

/// One question, and the answer up to the end of the connection.
fn exchange(
    server: &Server,
    question: &str,
    reach: Reach,
    deadline: Deadline,
) -> Result<(String, IpAddr), String> {
    let mut connection = Connection::open(&server.host, server.port, reach, deadline)?;
    // Without -holdconnect, the server closes behind its answer (section 3.3.8).
    connection.send(format!("{question}\r\n").as_bytes())?;
    let raw = read_all(&mut connection, LIMIT, deadline)?;
    Ok((text(&raw), connection.server))
}

/// Whether this can stand in a question as it is.
fn is_id(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-._/:".contains(c))
}

/// What an answer has.
#[derive(Debug, Default, PartialEq, Eq)]
struct Object<'a> {
    /// Attributes in small letters, and their values.
    attributes: Vec<(String, &'a str)>,
    referral: Option<Target>,
}

impl Object<'_> {
    /// The value of the first of these attributes that has one.
    fn value(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.values(name).next())
    }

    fn values<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s str> {
        self.attributes
            .iter()
            .filter(move |(other, value)| other == name && !value.is_empty())
            .map(|(_, value)| *value)
    }
}

/// The first object of an answer, and the first referral.
fn parse(answer: &str) -> Result<Object<'_>, String> {
    let mut lines = answer.lines().map(str::trim_end);
    if !lines
        .next()
        .is_some_and(|line| line.starts_with("%rwhois "))
    {
        return Err("this is not RWhois: it does not begin with %rwhois".to_owned());
    }
    let mut object = Object::default();
    let mut first = true;
    for line in lines {
        if line == "%ok" {
            return Ok(object);
        }
        if let Some(error) = line.strip_prefix("%error ") {
            // No Objects Found: that is an answer.
            if error.starts_with("230") {
                return Ok(object);
            }
            let error = clean(error).unwrap_or_default();
            return Err(format!("it answers with the error {error}"));
        }
        if let Some(referral) = line.strip_prefix("%referral ") {
            object.referral = object
                .referral
                .or_else(|| Target::referred(referral.trim()));
        } else if line.starts_with('%') {
            // Something that was not asked for, such as %info.
        } else if line.is_empty() {
            // Behind an object stands an empty line.
            first &= object.attributes.is_empty();
        } else if first {
            // CLASS:ATTRIBUTE[;TYPE]:VALUE (section 3.3.1).
            let mut parts = line.splitn(3, ':');
            if let (Some(_), Some(attribute), Some(value)) =
                (parts.next(), parts.next(), parts.next())
            {
                let attribute = attribute.split(';').next().unwrap_or_default();
                object
                    .attributes
                    .push((attribute.trim().to_ascii_lowercase(), value.trim()));
            }
        }
    }
    Err("the answer breaks off before its %ok".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_up_to_its_end() {
        let answer = "%rwhois V-1.5:00010c:00 rwhois.example.net\r\nnetwork:Class-Name:network\r\n\
            network:IP-Network:192.0.2.0/24\r\nnetwork:Tech-Contact;I:C1.example\r\nnetwork:Org-Name:A: B\r\n\r\n\
            network:IP-Network:192.0.0.0/16\r\n\r\n%referral rwhois://other.example.net:99/auth-area=192.0.2.0/24\r\n%ok\r\n";
        let object = parse(answer).expect("an object");
        assert_eq!(object.value(CONTACTS), Some("C1.example"));
        assert_eq!(object.value(NAMES), Some("A: B"));
        assert_eq!(
            object.values("ip-network").collect::<Vec<_>>(),
            ["192.0.2.0/24"]
        );
        let referral = object.referral.map(|to| to.to_string());
        assert_eq!(referral.as_deref(), Some("rwhois://other.example.net:99"));
        assert_eq!(
            parse("%rwhois V-1.5 x\n%error 230 No Objects Found\n"),
            Ok(Object::default())
        );
    }

    #[test]
    fn what_is_no_answer_is_told() {
        for (answer, expected) in [
            ("", "not RWhois"),
            ("220 mail.example ESMTP\r\n", "not RWhois"),
            ("%rwhois V-1.5 x\r\nnetwork:ID:1\r\n", "breaks off"),
            (
                "%rwhois V-1.5 x\r\n%error 402 Unidentified\u{7} Error\r\n",
                "the error 402 Unidentified\u{fffd} Error",
            ),
        ] {
            let error = parse(answer).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_number_of_a_contact_cannot_ask_something_else() {
        assert!(is_id("C1.192.0.2.0/24"));
        for bad in ["", "a b", "a\r\n-quit", "a=b", &"x".repeat(101)] {
            assert!(!is_id(bad), "{bad:?}");
        }
    }
}
