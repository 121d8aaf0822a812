//! Lines of Postfix (postfix.org: `smtpd(8)`, `cleanup(8)`, `qmgr(8)`, the delivery agents).
//!
//! Contract: a client's address is taken from `client=` at the front, from behind `VERB from ` of a refusal by
//! smtpd or postscreen, and from nowhere else; cleanup's refusals quote headers before they name the client, so
//! there the queue id says who it was. Names that Postfix puts in front of an address come out of its check for
//! host names and cannot hold a bracket. `from=` of qmgr is read from the end of the line, where the numbers
//! are Postfix's own. Before version 3.5 quotes are not written, so a recipient may pretend what became of
//! his own message; nothing of the figures of a client hangs on that.
#![forbid(unsafe_code)]

use super::event::{Client, Event, Parsed, QueueId, Reason, Status};
use super::field::{Fields, find, find_last, number};
use super::reason;

/// The daemon of a tag such as `postfix/smtpd` or `postfix-in/submission/smtpd`, if it is Postfix.
pub fn daemon(program: &[u8]) -> Option<&[u8]> {
    let rest = program.strip_prefix(b"postfix")?;
    let first = rest.iter().position(|octet| *octet == b'/')?;
    if !(first == 0 || rest[0] == b'-') {
        return None;
    }
    let last = rest.iter().rposition(|octet| *octet == b'/')?;
    Some(&rest[last + 1..])
}

/// What a daemon says.
pub fn parse<'a>(daemon: &[u8], message: &'a [u8]) -> Parsed<'a> {
    let Some((id, rest)) = queue_id(message) else {
        return Parsed::Other;
    };
    match daemon {
        b"smtpd" | b"postscreen" => from_client(id, rest),
        b"cleanup" => from_cleanup(id, rest),
        b"qmgr" | b"oqmgr" | b"nqmgr" => from_queue(id, rest),
        b"pickup" | b"bounce" | b"anvil" | b"trivial-rewrite" | b"verify" => Parsed::Other,
        _ => from_delivery(id, rest),
    }
}

/// `QUEUEID: ` or `NOQUEUE: `, and what is behind it.
fn queue_id(message: &[u8]) -> Option<(Option<QueueId>, &[u8])> {
    let end = message.iter().take(24).position(|octet| *octet == b':')?;
    let rest = message[end + 1..].strip_prefix(b" ")?;
    let text = &message[..end];
    if text == b"NOQUEUE" {
        return Some((None, rest));
    }
    // Short ones are hexadecimal; long ones have no vowels, so that they are never words.
    let short = |octet: &u8| octet.is_ascii_digit() || (b'A'..=b'F').contains(octet);
    let long = |octet: &u8| octet.is_ascii_alphanumeric() && !b"AEIOUaeiou".contains(octet);
    let valid =
        (text.len() >= 5 && text.iter().all(short)) || (text.len() >= 10 && text.iter().all(long));
    valid
        .then(|| QueueId::new(text))
        .flatten()
        .map(|id| (Some(id), rest))
}

/// `NAME[ADDRESS]`, with a port if Postfix logs it.
fn client(fields: &mut Fields<'_>) -> Option<Option<Client>> {
    fields.host_name();
    let address = fields.bracketed()?;
    Some(address.map(|address| Client {
        address,
        // Postfix writes `unknown` for such a name, and for none at all.
        forged: false,
    }))
}

fn from_client(id: Option<QueueId>, rest: &[u8]) -> Parsed<'_> {
    let mut fields = Fields(rest);
    if fields.text(b"client=").is_some() {
        let mut begin = || {
            let client = client(&mut fields)?;
            let ended = fields.0.is_empty() || fields.0.starts_with(b", ");
            Some((id?, ended.then_some(client)?))
        };
        return match begin() {
            Some((id, Some(client))) => Parsed::Event(Event::Begin { id, client }),
            // A client without an address is none of the Internet.
            Some((_, None)) => Parsed::Other,
            None => Parsed::Unclear,
        };
    }
    let refused = [&b"reject: "[..], b"milter-reject: ", b"proxy-reject: "];
    if !refused.iter().any(|text| fields.text(text).is_some()) {
        return Parsed::Other;
    }
    match refusal(&mut fields) {
        Some((Some(client), reason)) => Parsed::Event(Event::Reject {
            id,
            client: Some(client),
            reason,
        }),
        Some((None, _)) => Parsed::Other,
        None => Parsed::Unclear,
    }
}

/// `VERB from NAME[ADDRESS]: TEXT; from=<...>`.
fn refusal(fields: &mut Fields<'_>) -> Option<(Option<Client>, Reason)> {
    let verb = fields.while_is(|octet| octet.is_ascii_uppercase() || octet == b'-');
    if !(3..=20).contains(&verb.len()) {
        return None;
    }
    fields.text(b" from ")?;
    let client = client(fields)?;
    fields.text(b": ")?;
    // Behind the text is what the client said.
    let end = find(fields.0, b"; from=<").unwrap_or(fields.0.len());
    Some((client, reason::of(&fields.0[..end])))
}

fn from_cleanup(id: Option<QueueId>, rest: &[u8]) -> Parsed<'_> {
    let Some(id) = id else {
        return Parsed::Other;
    };
    let mut fields = Fields(rest);
    let reason = if fields.text(b"reject: ").is_some() {
        // Checks of header_checks(5). Their text stands behind what was in the message.
        Reason::Other
    } else if fields.text(b"milter-reject: ").is_some() {
        match refusal(&mut fields) {
            Some((_, reason)) => reason,
            None => return Parsed::Unclear,
        }
    } else {
        return Parsed::Other;
    };
    Parsed::Event(Event::Reject {
        id: Some(id),
        client: None,
        reason,
    })
}

fn from_queue(id: Option<QueueId>, rest: &[u8]) -> Parsed<'_> {
    let Some(id) = id else {
        return Parsed::Other;
    };
    if rest == b"removed" {
        return Parsed::Event(Event::End { id });
    }
    let Some(sender) = rest.strip_prefix(b"from=<") else {
        return Parsed::Other;
    };
    let Some(numbers) = sender.strip_suffix(b" (queue active)") else {
        // `status=expired, returned to sender` and the like.
        return Parsed::Other;
    };
    let arrival = || {
        let recipients_at = find_last(numbers, b", nrcpt=")?;
        let recipients = number(&numbers[recipients_at + b", nrcpt=".len()..])?;
        let size_at = find_last(&numbers[..recipients_at], b">, size=")?;
        let size = number(&numbers[size_at + b">, size=".len()..recipients_at])?;
        Some(Event::Arrival {
            id,
            client: None,
            sender: &numbers[..size_at],
            size: Some(size),
            recipients: Some(u32::try_from(recipients).ok()?),
        })
    };
    Parsed::of(arrival())
}

fn from_delivery(id: Option<QueueId>, rest: &[u8]) -> Parsed<'_> {
    let Some(id) = id else {
        return Parsed::Other;
    };
    let mut fields = Fields(rest);
    if fields.text(b"to=").is_none() {
        return Parsed::Other;
    }
    let mut delivery = || {
        let before = fields.0;
        fields.path()?;
        let recipients = &before[..before.len() - fields.0.len()];
        if fields.text(b", orig_to=").is_some() {
            fields.path()?;
        }
        fields.text(b", relay=")?;
        fields.host_name();
        let relay = fields.bracketed().flatten();
        // relay=private/dovecot-lmtp, relay=/var/run/x.sock and the like.
        fields.while_is(|octet| octet.is_ascii_graphic() && octet != b',');
        if fields.text(b", conn_use=").is_some() {
            fields.number()?;
        }
        fields.text(b", delay=")?;
        fields.while_is(is_decimal);
        if fields.text(b", delays=").is_some() {
            fields.while_is(|octet| is_decimal(octet) || octet == b'/');
        }
        if fields.text(b", tls=").is_some() {
            fields.while_is(|octet| octet.is_ascii_graphic() && octet != b',');
        }
        fields.text(b", dsn=")?;
        fields.while_is(is_decimal);
        fields.text(b", status=")?;
        let status = match fields.while_is(|octet| octet.is_ascii_lowercase()) {
            b"sent" => Status::Sent,
            b"deferred" => Status::Deferred,
            b"bounced" | b"expired" => Status::Bounced,
            // What address verification found out is no delivery.
            _ => return Some(None),
        };
        Some(Some(Event::Delivery {
            id,
            recipients,
            status,
            relay,
        }))
    };
    match delivery() {
        Some(Some(event)) => Parsed::Event(event),
        Some(None) => Parsed::Other,
        None => Parsed::Unclear,
    }
}

const fn is_decimal(octet: u8) -> bool {
    octet.is_ascii_digit() || octet == b'.'
}
