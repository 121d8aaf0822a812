//! One message: the report in it, when it came, and from which domain.
//!
//! Contract: only parts of the message itself are looked at, never those of a message inside: what
//! somebody quotes or returns is no complaint of his. When it came says the line that the operator's own
//! server has written on top (`Received`), and only without one what the sender claims (`Date`).

use std::panic::catch_unwind;

use mail_parser::{
    DateTime, HeaderName, Message, MessageParser, MessagePart, MimeHeaders as _, PartType,
};

use super::header::Keep;
use super::{arf, xarf};
use crate::model::complaint::{Complaint, ComplaintForm};
use crate::model::sample::KeptHeader;

/// Parts with a type that a message may have, with those of messages inside. For each one that should have
/// parts and has none, the library looks through the rest; and messages in messages are dropped with a
/// piece of stack for each level.
const MAX_TYPES: usize = 100;

/// What a message says: the complaint, and as much of the message that it is about as is kept.
pub(super) type Read = (Complaint, Option<KeptHeader>);

/// Reads a message, which may be cut at its end.
pub(super) fn read(message: &[u8], keep: Option<&Keep>) -> Result<Read, String> {
    // One message that the library fails at must not keep a whole mailbox out.
    let parsed = catch_unwind(|| parse(with_few_types(message)))
        .map_err(|_| "it is no mail that can be read")?;
    let message = &parsed.ok_or("it is no mail")?;
    let is_feedback = |part: &&MessagePart<'_>| part.is_content_type("message", "feedback-report");
    // Our own have several.
    for part in message.parts.iter().filter(is_feedback) {
        arf::check_stranger(part.contents())?;
    }
    let feedback = message.parts.iter().find(is_feedback);
    let came = came_at(message);
    let json = message.parts.iter().find(|part| is_xarf(part));
    let no_xarf = match json.map(|part| xarf::read(part.contents(), came)) {
        Some(Ok(complaint)) => return Ok((complaint, None)),
        Some(Err(error)) => Some(error),
        None => None,
    };
    let of_feedback = feedback.map(|part| arf::read(part.contents()));
    match (of_feedback, no_xarf) {
        (Some(Ok(report)), _) => {
            let at = came.or(report.happened_at);
            let header = keep.and_then(|keep| {
                let text = catch_unwind(|| keep.header(reported(message))).ok()??;
                Some(KeptHeader {
                    addresses: keep.addresses,
                    domain: report.domain,
                    text,
                })
            });
            let complaint = Complaint {
                address: report.address,
                at: at.ok_or("it does not say when it was sent")?,
                happened_at: report.happened_at,
                kind: report.kind,
                form: ComplaintForm::Arf,
                reporter: domain(message).ok_or("it does not say who sends it (From)")?,
                reference: message.message_id().unwrap_or_default().to_owned(),
                incidents: report.incidents,
            };
            Ok((complaint, header))
        }
        // The part that is there for programs says best what is wrong with it.
        (_, Some(error)) | (Some(Err(error)), _) => Err(error),
        (None, None) => Err("there is no report in it (ARF or XARF)".to_owned()),
    }
}

/// The message that a report is about, or its header: the third part (RFC 5965, section 2).
fn reported<'a>(message: &'a Message<'_>) -> &'a [u8] {
    let is_it = |part: &&MessagePart<'_>| {
        part.is_content_type("message", "rfc822") || part.is_content_type("text", "rfc822-headers")
    };
    let parts = message.parts.iter();
    let mut behind = parts.skip_while(|part| !part.is_content_type("message", "feedback-report"));
    match behind.find(is_it) {
        // The library takes the first part of such a message for granted.
        Some(part) => match &part.body {
            PartType::Message(inner) if inner.parts.is_empty() => &[],
            _ => part.contents(),
        },
        None => &[],
    }
}

fn is_xarf(part: &MessagePart<'_>) -> bool {
    part.is_content_type("application", "json") || part.is_content_type("application", "xarf+json")
}

/// When it reached the operator, in milliseconds since 1970.
fn came_at(message: &Message<'_>) -> Option<u64> {
    let header = |name: HeaderName<'static>| {
        let headers = message.headers().iter();
        headers.filter(move |header| header.name == name)
    };
    let received = header(HeaderName::Received)
        .next()
        .and_then(|header| header.value.as_received()?.date);
    let sent = || -> Option<DateTime> {
        let date = header(HeaderName::Date).next()?;
        date.value.as_datetime().copied()
    };
    received
        .and_then(arf::time)
        .or_else(|| sent().and_then(arf::time))
}

/// The domain of the first sender.
fn domain(message: &Message<'_>) -> Option<String> {
    let from = message.from()?.first()?.address()?;
    let (_, domain) = from.rsplit_once('@')?;
    let domain = domain.trim().trim_end_matches('.');
    (!domain.is_empty()).then(|| domain.to_owned())
}

/// The message up to its first part that is too many: reports have three, before what they quote.
fn with_few_types(message: &[u8]) -> &[u8] {
    let mut types = 0;
    let mut start = 0;
    for line in message.split_inclusive(|b| *b == b'\n') {
        types += usize::from(is_type(line));
        if types > MAX_TYPES {
            return &message[..start];
        }
        start += line.len();
    }
    message
}

/// Whether a line is a field `Content-Type` as the library reads it: with space anywhere in its name, and
/// with colons before it.
fn is_type(line: &[u8]) -> bool {
    let mut name = line
        .iter()
        .filter(|b| !b.is_ascii_whitespace())
        .skip_while(|b| **b == b':')
        .map(u8::to_ascii_lowercase);
    b"content-type:".iter().all(|b| name.next() == Some(*b))
}

/// The message with those fields of its headers that are looked at.
fn parse(message: &[u8]) -> Option<Message<'_>> {
    MessageParser::new()
        .with_mime_headers()
        .header_address(HeaderName::From)
        .header_date(HeaderName::Date)
        .header_id(HeaderName::MessageId)
        .header_received(HeaderName::Received)
        .default_header_ignore()
        .parse(message)
}
