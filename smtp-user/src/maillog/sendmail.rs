//! Lines of sendmail (`logsender` in its envelope.c, `logdelivery` in deliver.c, `rscheck` in srvrsmtp.c).
//!
//! Contract: of a `from=` line the client is what stands at the very end, which sendmail writes last; a message
//! id in front of it may hold anything. Of `ruleset=` lines the argument is passed over with its quotes, and the
//! client has to stand exactly behind it. Refusals by a milter name nobody: the queue id says who it was.
#![forbid(unsafe_code)]

use super::event::{Client, Event, Parsed, QueueId, Status};
use super::field::{Fields, address, find};
use super::reason;

/// Names under which sendmail logs.
const NAMES: &[&[u8]] = &[b"sendmail", b"sm-mta", b"sm-msp-queue", b"sm-que"];

/// Whether a program is sendmail.
pub fn is(program: &[u8]) -> bool {
    NAMES.contains(&program)
}

/// What it says.
pub fn parse(message: &[u8]) -> Parsed<'_> {
    if let Some(rest) = message.strip_prefix(b"ruleset=") {
        // At the beginning of a connection there is no queue id.
        return ruleset(None, rest);
    }
    let Some((id, rest)) = queue_id(message) else {
        return Parsed::Other;
    };
    if let Some(rest) = rest.strip_prefix(b"from=") {
        return id.map_or(Parsed::Other, |id| Parsed::of(arrival(id, rest)));
    }
    if let Some(rest) = rest.strip_prefix(b"to=") {
        return id.map_or(Parsed::Other, |id| Parsed::of(delivery(id, rest)));
    }
    if let Some(rest) = rest.strip_prefix(b"ruleset=") {
        return ruleset(id, rest);
    }
    if let (Some(id), Some(rest)) = (id, rest.strip_prefix(b"Milter: ")) {
        return milter(id, rest);
    }
    Parsed::Other
}

/// `QUEUEID: ` or `NOQUEUE: `, and what is behind it. A queue id has a digit in it: it ends with a number.
fn queue_id(message: &[u8]) -> Option<(Option<QueueId>, &[u8])> {
    let end = message.iter().take(24).position(|octet| *octet == b':')?;
    let rest = message[end + 1..].strip_prefix(b" ")?;
    let text = &message[..end];
    if text == b"NOQUEUE" {
        return Some((None, rest));
    }
    let valid = text.len() >= 10
        && text.iter().all(u8::is_ascii_alphanumeric)
        && text.iter().any(u8::is_ascii_digit);
    valid
        .then(|| QueueId::new(text))
        .flatten()
        .map(|id| (Some(id), rest))
}

/// `from=<SENDER>, size=N, class=N, nrcpts=N, ..., relay=NAME [ADDRESS] (may be forged)`.
fn arrival(id: QueueId, rest: &[u8]) -> Option<Event<'_>> {
    let mut fields = Fields(rest);
    let sender = mailbox(&mut fields)?;
    let numbers = |fields: &mut Fields<'_>| {
        fields.text(b", size=")?;
        let size = fields.number()?;
        fields.text(b", class=")?;
        fields.while_is(|octet| octet == b'-' || octet.is_ascii_digit());
        if fields.text(b", pri=").is_some() {
            fields.number()?;
        }
        fields.text(b", nrcpts=")?;
        Some((size, u32::try_from(fields.number()?).ok()?))
    };
    let (size, recipients) = numbers(&mut fields)?;
    // Without an address in brackets at the end it came from this host.
    Some(Event::Arrival {
        id,
        client: client_at_end(rest),
        sender,
        size: Some(size),
        recipients: Some(recipients),
    })
}

/// Takes `<ADDRESS>`, or the name of a local user.
fn mailbox<'a>(fields: &mut Fields<'a>) -> Option<&'a [u8]> {
    if fields.0.starts_with(b"<") {
        return fields.path();
    }
    let end = find(fields.0, b", ")?;
    let (name, rest) = fields.0.split_at(end);
    fields.0 = rest;
    Some(name)
}

fn client_at_end(line: &[u8]) -> Option<Client> {
    let plain = line.strip_suffix(b" (may be forged)");
    let forged = plain.is_some();
    let inner = plain.unwrap_or(line).strip_suffix(b"]")?;
    let begin = inner.iter().rposition(|octet| *octet == b'[')?;
    Some(Client {
        address: address(&inner[begin + 1..])?,
        forged,
    })
}

/// `NAME [ADDRESS]` or `[ADDRESS]`, perhaps with what identd says in front, and `(may be forged)`.
fn client(fields: &mut Fields<'_>) -> Option<Client> {
    fields.while_is(|octet| octet.is_ascii_alphanumeric() || b".-_@".contains(&octet));
    let _ = fields.text(b" ");
    let address = fields.bracketed()??;
    Some(Client {
        address,
        forged: fields.text(b" (may be forged)").is_some(),
    })
}

/// `to=<A>,<B>, ctladdr=<C> (N/N), delay=..., xdelay=..., mailer=..., pri=N, relay=NAME [ADDRESS], dsn=N.N.N, stat=TEXT`.
fn delivery(id: QueueId, rest: &[u8]) -> Option<Event<'_>> {
    let mut fields = Fields(rest);
    loop {
        if fields.0.starts_with(b"<") {
            fields.path()?;
        } else {
            fields.while_is(|octet| octet != b',');
        }
        // Behind a recipient comes the next one, or a space and the next field.
        if !fields.0.starts_with(b",") || fields.0.starts_with(b", ") {
            break;
        }
        fields.text(b",")?;
    }
    let recipients = &rest[..rest.len() - fields.0.len()];
    let mut relay = None;
    loop {
        fields.text(b", ")?;
        let key = fields.while_is(|octet| octet.is_ascii_lowercase());
        fields.text(b"=")?;
        match key {
            b"stat" => break,
            b"ctladdr" => {
                mailbox(&mut fields)?;
                if fields.text(b" (").is_some() {
                    fields.until(b")")?;
                }
            }
            b"relay" => {
                fields.while_is(|octet| octet.is_ascii_alphanumeric() || b".-_".contains(&octet));
                let _ = fields.text(b" ");
                relay = fields.bracketed().flatten();
                fields.while_is(|octet| octet != b',');
            }
            b"delay" | b"xdelay" | b"mailer" | b"pri" | b"dsn" | b"quarantine" => {
                fields.while_is(|octet| octet != b',');
            }
            _ => return None,
        }
    }
    let status = match fields.0 {
        stat if stat.starts_with(b"Sent") => Status::Sent,
        stat if stat.starts_with(b"Deferred") || stat.starts_with(b"queued") => Status::Deferred,
        _ => Status::Bounced,
    };
    Some(Event::Delivery {
        id,
        recipients,
        status,
        relay,
    })
}

/// `ruleset=NAME, arg1=..., arg2=..., relay=NAME [ADDRESS], reject=TEXT`.
fn ruleset(id: Option<QueueId>, rest: &[u8]) -> Parsed<'_> {
    let mut fields = Fields(rest);
    let mut reject = || {
        fields.while_is(|octet| octet.is_ascii_alphanumeric() || octet == b'_');
        for argument in [&b", arg1="[..], b", arg2="] {
            if fields.text(argument).is_some() {
                mailbox(&mut fields)?;
            }
        }
        fields.text(b", relay=")?;
        let client = client(&mut fields)?;
        if fields.text(b", reject=").is_none() {
            // Quarantined or discarded.
            return Some(None);
        }
        Some(Some(Event::Reject {
            id,
            client: Some(client),
            reason: reason::of(fields.0),
        }))
    };
    match reject() {
        Some(Some(event)) => Parsed::Event(event),
        Some(None) => Parsed::Other,
        None => Parsed::Unclear,
    }
}

/// `Milter: data, reject=TEXT`, `Milter: from=<A>, reject=TEXT`, `Milter: to=<A>, reject=TEXT`.
fn milter(id: QueueId, rest: &[u8]) -> Parsed<'_> {
    let mut fields = Fields(rest);
    if fields.text(b"data").is_none() {
        if fields.text(b"from=").is_none() && fields.text(b"to=").is_none() {
            return Parsed::Other;
        }
        if mailbox(&mut fields).is_none() {
            return Parsed::Unclear;
        }
    }
    if fields.text(b", reject=").is_none() {
        return Parsed::Other;
    }
    Parsed::Event(Event::Reject {
        id: Some(id),
        client: None,
        reason: reason::of(fields.0),
    })
}
