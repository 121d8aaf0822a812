//! Lines of Exim's main log (Exim specification, chapter "Log files").
//!
//! Contract: a client stands behind ` H=` as a name, a greeting in round brackets and an address in square ones,
//! and is read from left to right. Exim refuses greetings with other letters than those of names and addresses
//! unless it is told not to (`helo_accept_junk_hosts`); a line with such a greeting is unclear and gives no
//! figures to anybody, since it can pretend to be another's. So is one in which an address stands behind a
//! bracket once more, wherever that is. Sizes are found only in front of `id=` and `T=`,
//! which hold what the sender wrote.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use super::event::{Client, Event, Parsed, QueueId, Reason, Status};
use super::field::{Fields, find, outside_quotes};
use super::reason;

/// Whether a program is Exim.
pub fn is(program: &[u8]) -> bool {
    matches!(program, b"exim" | b"exim4")
}

/// What it says.
pub fn parse(message: &[u8]) -> Parsed<'_> {
    let mut fields = Fields(message);
    skip_stamps(&mut fields);
    let id = queue_id(&mut fields);
    if let Some(id) = id {
        if fields.text(b"<= ").is_some() {
            return Parsed::of(arrival(id, fields));
        }
        for (flag, status) in FLAGS {
            if fields.text(flag).is_some() {
                return Parsed::of(delivery(id, *status, fields));
            }
        }
        if fields.0 == b"Completed" || fields.0.starts_with(b"Completed QT=") {
            return Parsed::Event(Event::End { id });
        }
    }
    if fields.text(b"H=").is_some() {
        return refusal(id, fields);
    }
    Parsed::Other
}

const FLAGS: &[(&[u8], Status)] = &[
    (b"=> ", Status::Sent),
    (b"-> ", Status::Sent),
    (b">> ", Status::Sent),
    (b"*> ", Status::Sent),
    (b"== ", Status::Deferred),
    (b"** ", Status::Bounced),
];

/// Passes over the time that Exim repeats in syslog, and a process number.
fn skip_stamps(fields: &mut Fields<'_>) {
    if let Some(stamp) = fields.0.get(..20)
        && stamp[4] == b'-'
        && stamp[7] == b'-'
        && stamp[10] == b' '
        && stamp[13] == b':'
        && stamp[..4].iter().all(u8::is_ascii_digit)
    {
        fields.0 = &fields.0[19..];
        if fields.text(b".").is_some() {
            fields.while_is(|octet| octet.is_ascii_digit());
        }
        let _ = fields.text(b" ");
    }
    let before = *fields;
    let pid = fields.text(b"[").and_then(|()| fields.number());
    if pid.is_none() || fields.text(b"] ").is_none() {
        *fields = before;
    }
}

/// `1xAbCd-000123-AB `, or `1xAbCd-00000001234-AbCd ` since Exim 4.97.
fn queue_id(fields: &mut Fields<'_>) -> Option<QueueId> {
    for parts in [[6, 6, 2], [6, 11, 4]] {
        let length = parts.iter().sum::<usize>() + 2;
        let Some((text, rest)) = fields.0.split_at_checked(length) else {
            continue;
        };
        let hyphens = [parts[0], parts[0] + 1 + parts[1]];
        let valid = text.iter().enumerate().all(|(at, octet)| {
            if hyphens.contains(&at) {
                *octet == b'-'
            } else {
                octet.is_ascii_alphanumeric()
            }
        });
        if valid && let Some(rest) = rest.strip_prefix(b" ") {
            fields.0 = rest;
            return QueueId::new(text);
        }
    }
    None
}

/// A mail address up to the next space that is not in quotes.
fn mailbox<'a>(fields: &mut Fields<'a>) -> Option<&'a [u8]> {
    let end = outside_quotes(fields.0, b' ').unwrap_or(fields.0.len());
    let (address, rest) = fields.0.split_at(end);
    fields.0 = rest;
    (!address.is_empty()).then_some(address)
}

/// `NAME (GREETING) [ADDRESS]:PORT`, behind `H=`.
fn client(fields: &mut Fields<'_>) -> Option<Client> {
    let name = fields.host_name();
    if !name.is_empty() {
        fields.text(b" ")?;
    }
    let greeting = fields.text(b"(").is_some();
    if greeting {
        fields.while_is(|octet| octet.is_ascii_alphanumeric() || b".-_:[]".contains(&octet));
        fields.text(b") ")?;
    }
    let address = fields.bracketed()??;
    // A greeting with a bracket in it ends later than it seems to, and another address stands behind it.
    if greeting && names_another(fields.0, address) {
        return None;
    }
    Some(Client {
        address,
        forged: false,
    })
}

/// Whether `) [ADDRESS]` stands in a text, with another address than this one.
fn names_another(text: &[u8], address: IpAddr) -> bool {
    let mut rest = text;
    while let Some(at) = find(rest, b") [") {
        rest = &rest[at + 2..];
        if Fields(rest)
            .bracketed()
            .flatten()
            .is_some_and(|other| other != address)
        {
            return true;
        }
    }
    false
}

/// `SENDER H=... P=esmtp S=1234 id=...`; of a local message `SENDER U=user P=local S=1234`.
fn arrival<'a>(id: QueueId, mut fields: Fields<'a>) -> Option<Event<'a>> {
    let sender = match mailbox(&mut fields)? {
        b"<>" => &b""[..],
        sender => sender,
    };
    if fields.text(b" R=").is_some() {
        // A bounce of this message.
        fields.while_is(|octet| octet != b' ');
    }
    let client = match fields.text(b" H=") {
        Some(()) => Some(client(&mut fields)?),
        None => None,
    };
    let mut size = None;
    while fields.text(b" ").is_some() {
        if fields.text(b"S=").is_some() {
            size = Some(fields.number()?);
            break;
        }
        if fields.0.starts_with(b"id=") || fields.0.starts_with(b"T=") {
            break;
        }
        // DN="..." and SNI="..." may hold spaces.
        mailbox(&mut fields)?;
    }
    Some(Event::Arrival {
        id,
        client,
        sender,
        size,
        recipients: None,
    })
}

/// `RECIPIENT <ORIGINAL> F=<...> R=router T=transport H=NAME [ADDRESS] ...`.
fn delivery<'a>(id: QueueId, status: Status, mut fields: Fields<'a>) -> Option<Event<'a>> {
    let recipients = mailbox(&mut fields)?;
    let mut relay = None;
    while fields.text(b" ").is_some() {
        if fields.text(b"H=").is_some() {
            fields.host_name();
            let _ = fields.text(b" ");
            relay = fields.bracketed().flatten();
            break;
        }
        if fields.0.starts_with(b"<") || fields.0.starts_with(b"F=<") {
            let _ = fields.text(b"F=");
            fields.path()?;
            continue;
        }
        let of_exim = [&b"R="[..], b"T=", b"P=", b"S=", b"("];
        if !of_exim.iter().any(|text| fields.0.starts_with(text)) {
            break;
        }
        fields.while_is(|octet| octet != b' ');
    }
    Some(Event::Delivery {
        id,
        recipients,
        status,
        relay,
    })
}

/// `H=... F=<SENDER> rejected RCPT <RECIPIENT>: TEXT`; other lines begin with H= as well.
fn refusal<'a>(id: Option<QueueId>, mut fields: Fields<'a>) -> Parsed<'a> {
    let Some(client) = client(&mut fields) else {
        return Parsed::Unclear;
    };
    while fields.text(b" ").is_some() {
        if fields.text(b"rejected ").is_some() || fields.text(b"temporarily rejected ").is_some() {
            // Behind that stands the greeting, without brackets.
            let reason = match fields.0.starts_with(b"EHLO or HELO ") {
                true => Reason::Name,
                false => reason::of(fields.0),
            };
            return Parsed::Event(Event::Reject {
                id,
                client: Some(client),
                reason,
            });
        }
        if fields.text(b"F=").is_some() {
            if fields.path().is_none() {
                return Parsed::Unclear;
            }
            continue;
        }
        let of_exim = [&b"I="[..], b"U=", b"X=", b"CV=", b"A=", b"P=", b"L"];
        if !of_exim.iter().any(|text| fields.0.starts_with(text)) {
            return Parsed::Other;
        }
        fields.while_is(|octet| octet != b' ');
    }
    Parsed::Other
}
