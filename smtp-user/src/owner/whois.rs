//! Whois (RFC 3912), which has no form: who is named is read from what the registries write.
//!
//! Contract: one question, one answer of at most [`LIMIT`] bytes. A mail address is taken only from a line
//! that says it is for abuse; that of a person who once registered something is not one to complain to.

use std::net::IpAddr;

use super::directory::{LIMIT, Said, Target, text};
use super::wire::{Connection, Deadline, Reach, read_all};
use crate::model::owner::{Contact, MAX_MAILS, check_mail, clean};
use crate::server::Server;

/// Names of lines with an address for abuse: RIPE, AFRINIC, APNIC; ARIN; LACNIC and others.
const ABUSE: &[&str] = &[
    "abuse-mailbox",
    "orgabuseemail",
    "abuse-email",
    "abuse-contact",
    "rabuseemail",
];
/// Names of lines with a telephone for abuse.
const PHONE: &[&str] = &["orgabusephone", "abuse-phone", "rabusephone"];
/// Names of lines with the name of whose network it is, the best first.
const NAME: &[&str] = &[
    "org-name",
    "orgname",
    "organization",
    "organisation",
    "owner",
    "custname",
    "descr",
    "netname",
];
/// Names of lines with the network.
const NETWORK: &[&str] = &["inetnum", "inet6num", "cidr", "netrange"];
/// Names of lines with whom to ask instead.
const REFERRAL: &[&str] = &["refer", "referralserver", "whois"];

/// Asks a server; gives as well which address it answered from.
pub(super) fn ask(
    server: &Server,
    address: IpAddr,
    reach: Reach,
    deadline: Deadline,
) -> Result<(Said, IpAddr), String> {
    let mut connection = Connection::open(&server.host, server.port, reach, deadline)?;
    connection.send(format!("{address}\r\n").as_bytes())?;
    let raw = read_all(&mut connection, LIMIT, deadline)?;
    Ok((parse(&text(&raw)), connection.server))
}

/// What an answer says.
fn parse(answer: &str) -> Said {
    let mut mail = Vec::new();
    let mut phone = None;
    let mut name: Option<(usize, String)> = None;
    let mut network = None;
    let mut referral = None;
    for line in answer.lines() {
        if let Some(address) = announced(line) {
            add(&mut mail, address);
            continue;
        }
        if line.starts_with(['%', '#']) {
            continue;
        }
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let key = key.trim().to_ascii_lowercase();
        let is = |keys: &[&str]| keys.contains(&&*key);
        if is(ABUSE) {
            add(&mut mail, value.trim());
        } else if is(PHONE) {
            phone = phone.or_else(|| clean(value));
        } else if is(NETWORK) {
            // A more specific one comes later.
            network = clean(value).or(network);
        } else if is(REFERRAL) {
            referral = referral.or_else(|| Target::referred(value.trim()));
        } else if let Some(rank) = NAME.iter().position(|name| *name == key)
            && name.as_ref().is_none_or(|(best, _)| rank < *best)
        {
            name = clean(value).map(|text| (rank, text)).or(name);
        }
    }
    let contact = (!mail.is_empty()).then(|| Contact {
        name: name.map_or_else(|| mail[0].clone(), |(_, name)| name),
        mail,
        phone,
        note: None,
    });
    Said {
        contact,
        network,
        referral,
    }
}

/// `% Abuse contact for '192.0.2.0 - 192.0.2.255' is 'abuse@example.net'`, as RIPE and APNIC write.
fn announced(line: &str) -> Option<&str> {
    let (_, address) = line
        .strip_prefix("% Abuse contact for '")?
        .split_once("' is '")?;
    address.strip_suffix('\'')
}

/// Takes an address, if it is one and is not there yet.
pub(super) fn add(mails: &mut Vec<String>, address: &str) {
    let known = mails.iter().any(|mail| mail.eq_ignore_ascii_case(address));
    if mails.len() < MAX_MAILS && !known && check_mail(address).is_ok() {
        mails.push(address.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_registries_write_is_read() {
        let ripe = "% This is a comment\n\n% Abuse contact for '192.0.2.0 - 192.0.2.255' is 'abuse@example.net'\n\n\
            inetnum:        192.0.2.0 - 192.0.2.255\nnetname:        EXAMPLE-NET\ndescr:          A street\n\
            e-mail:         person@example.net\nabuse-mailbox:  abuse@example.net\norg-name:  Example \u{1b}[1m Ltd\n";
        let said = parse(ripe);
        let contact = said.contact.expect("somebody");
        assert_eq!(contact.name, "Example \u{fffd}[1m Ltd");
        assert_eq!(contact.mail, ["abuse@example.net"]);
        assert_eq!(said.network.as_deref(), Some("192.0.2.0 - 192.0.2.255"));
        assert_eq!(said.referral, None);

        let arin = "#\n# comment\n#\r\nNetRange:       192.0.2.0 - 192.0.2.255\r\nCIDR:           192.0.2.0/24\r\n\
            OrgName:        Example Inc.\r\nReferralServer:  rwhois://rwhois.example.com:4321\r\n\
            OrgAbusePhone:  +1-555-0100\r\nOrgAbuseEmail:  abuse@example.com\r\n";
        let said = parse(arin);
        let contact = said.contact.expect("somebody");
        assert_eq!(
            (&*contact.name, contact.phone.as_deref()),
            ("Example Inc.", Some("+1-555-0100"))
        );
        assert_eq!(said.network.as_deref(), Some("192.0.2.0/24"));
        assert_eq!(
            said.referral.map(|to| to.to_string()).as_deref(),
            Some("rwhois://rwhois.example.com:4321")
        );

        let iana = "refer:        whois.ripe.net\n\ninetnum:      193.0.0.0 - 193.255.255.255\norganisation: RIPE NCC\n\
            whois:        whois.ripe.net\n";
        let said = parse(iana);
        assert_eq!(said.contact, None);
        assert_eq!(
            said.referral.map(|to| to.to_string()).as_deref(),
            Some("whois://whois.ripe.net:43")
        );
    }

    #[test]
    fn hostile_answers_name_nobody() {
        for answer in [
            "",
            "No match found",
            "abuse-mailbox: x@y.z, b@c.d\n",
            "abuse-mailbox: a@b.c\u{0}\n",
            "abuse-mailbox: \"Bcc: a\"@b.c",
            "% Abuse contact for 'x' is 'a@b.c\n",
            "refer: file:///etc/passwd",
            ":::::",
        ] {
            let said = parse(answer);
            assert_eq!((said.contact, said.referral), (None, None), "{answer:?}");
        }
        let many: String = (0..100)
            .map(|i| format!("abuse-mailbox: a{i}@b.c\n"))
            .collect();
        assert_eq!(
            parse(&many).contact.expect("somebody").mail.len(),
            MAX_MAILS
        );
    }
}
