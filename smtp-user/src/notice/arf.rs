//! A report of a message that somebody has complained about (RFC 5965).
//!
//! Contract: a `multipart/report` of exactly its three parts: a text, the fields for programs, and the header of the message
//! (`text/rfc822-headers`, RFC 6522) as it is kept, which says nothing of people that the operator did not choose. Nothing is
//! claimed that the complaint did not say. Whose program it is says `User-Agent`, by which it is known again when it comes
//! back.

use mail_builder::headers::content_type::ContentType;
use mail_builder::headers::date::Date;
use mail_builder::mime::{BodyPart, MimePart};

use crate::model::sample::Sample;

/// The report of a message.
pub(super) fn report<'a>(sample: &Sample) -> MimePart<'a> {
    let text = BodyPart::Text(text(sample).into());
    MimePart::new(
        ContentType::new("multipart/report").attribute("report-type", "feedback-report"),
        vec![
            MimePart::new("text/plain", text),
            MimePart::new("message/feedback-report", fields(sample).into_bytes())
                .transfer_encoding("7bit"),
            MimePart::new(
                "text/rfc822-headers",
                sample.header.text.clone().into_bytes(),
            )
            .transfer_encoding("7bit"),
        ],
    )
}

fn date(milliseconds: u64) -> String {
    let seconds = i64::try_from(milliseconds / 1000).unwrap_or(i64::MAX);
    Date::new(seconds).to_rfc822()
}

/// What people read (RFC 5965, section 2), in the language of the standard.
fn text(sample: &Sample) -> String {
    let when = sample
        .happened_at
        .map(|at| format!(" on {}", date(at)))
        .unwrap_or_default();
    format!(
        "This is an email abuse report for a message received from IP\n{}{when}.\n\n\
         Somebody has complained about it to us. Its header follows, as far as it may\n\
         be handed on: what begins with \"redacted-\" stands for the same address of a\n\
         person wherever it stands (RFC 6590).\n",
        sample.address
    )
}

/// The fields for programs (RFC 5965, section 3).
fn fields(sample: &Sample) -> String {
    let mut text = format!(
        "Feedback-Type: abuse\r\nUser-Agent: smtpflow/{}\r\nVersion: 1\r\nSource-IP: {}\r\n",
        env!("CARGO_PKG_VERSION"),
        sample.address
    );
    if let Some(at) = sample.happened_at {
        text.push_str(&format!("Arrival-Date: {}\r\n", date(at)));
    }
    if let Some(domain) = &sample.header.domain {
        text.push_str(&format!("Reported-Domain: {domain}\r\n"));
    }
    text
}
