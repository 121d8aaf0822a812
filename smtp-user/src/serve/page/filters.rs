//! How values look on a page: what templates apply with `|`.
//!
//! Contract: whatever is not marked [`Safe`] here is escaped by askama afterwards, by [`Text`]. What is marked so is
//! made of our own words, numbers and addresses, or was escaped.
#![forbid(unsafe_code)]

use std::fmt::{self, Display, Write};
use std::net::IpAddr;

use askama::filters::{Escaper, Html, Safe, escape};
use askama::{Result, Values, filter_fn};
use jiff::Timestamp;

use super::words;
use crate::report::document::printable;

/// How askama writes whatever is not marked [`Safe`]: markup is escaped, and what turns the direction of a
/// line or commands a terminal is shown as a sign, as in CSV and on a terminal.
#[derive(Clone, Copy)]
pub(super) struct Text;

impl Escaper for Text {
    fn write_escaped_str<W: Write>(&self, to: W, text: &str) -> fmt::Result {
        Html.write_escaped_str(to, &printable(text))
    }
}

/// Text that somebody else has written: names, reasons, rules in a store. It has a direction of its own,
/// so that text from right to left turns nothing around it.
#[filter_fn]
pub(super) fn outside(text: impl Display, _: &dyn Values) -> Result<Safe<String>> {
    let Ok(text) = escape(text, Text);
    Ok(Safe(format!("<bdi>{text}</bdi>")))
}

/// 1,234,567
#[filter_fn]
pub(super) fn grouped(number: impl Display, _: &dyn Values) -> Result<String> {
    Ok(words::grouped(number))
}

/// 1.2 MB
#[filter_fn]
pub(super) fn bytes(number: &u64, _: &dyn Values) -> Result<String> {
    Ok(words::bytes(*number))
}

/// 2 h 5 min, of seconds.
#[filter_fn]
pub(super) fn duration(seconds: &u64, _: &dyn Values) -> Result<String> {
    Ok(words::duration(*seconds))
}

/// 2026-11-24 14:47, of milliseconds since 1970.
#[filter_fn]
pub(super) fn minute(milliseconds: &u64, _: &dyn Values) -> Result<Safe<String>> {
    // What a time is without a word: the most of them are.
    Ok(time(*milliseconds, "", "%Y-%m-%d %H:%M"))
}

/// 2026-11-24 14:47:49, likewise.
#[filter_fn]
pub(super) fn second(milliseconds: &u64, _: &dyn Values) -> Result<Safe<String>> {
    Ok(time(
        *milliseconds,
        " data-form=second",
        "%Y-%m-%d %H:%M:%S",
    ))
}

/// 14:47, likewise, where it is clear of which day.
#[filter_fn]
pub(super) fn clock(milliseconds: &u64, _: &dyn Values) -> Result<Safe<String>> {
    Ok(time(*milliseconds, " data-form=clock", "%H:%M"))
}

/// 3 s ago, likewise; the script counts on.
#[filter_fn]
pub(super) fn ago(milliseconds: &u64, _: &dyn Values, now: &u64) -> Result<Safe<String>> {
    let age = now.saturating_sub(*milliseconds) / 1000;
    Ok(Safe(format!(
        "<time datetime=\"{}\" data-form=ago>{} ago</time>",
        rfc3339(*milliseconds),
        words::duration(age)
    )))
}

/// A time as the script finds it again to show it in another zone.
fn time(milliseconds: u64, form: &str, format: &str) -> Safe<String> {
    let text = instant(milliseconds).strftime(format);
    Safe(format!(
        "<time datetime=\"{}\"{form}>{text}</time>",
        rfc3339(milliseconds)
    ))
}

fn instant(milliseconds: u64) -> Timestamp {
    i64::try_from(milliseconds)
        .ok()
        .and_then(|milliseconds| Timestamp::from_millisecond(milliseconds).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

fn rfc3339(milliseconds: u64) -> String {
    format!("{:.0}", instant(milliseconds))
}

/// An address with a link to its page.
#[filter_fn]
pub(super) fn host(address: &IpAddr, _: &dyn Values) -> Result<Safe<String>> {
    Ok(Safe(format!(
        "<a class=\"host\" href=\"/host/{address}\">{address}</a>"
    )))
}

/// The severity of a verdict: notice, warning or critical, by a shape and a word.
#[filter_fn]
pub(super) fn severity(name: impl Display, _: &dyn Values) -> Result<Safe<String>> {
    let (class, symbol) = match name.to_string().as_str() {
        "critical" => ("critical", "\u{25b2}"),
        "warning" => ("warning", "\u{25c6}"),
        "notice" => ("notice", "\u{25cf}"),
        _ => return Ok(Safe(String::new())),
    };
    Ok(badge(class, symbol, class))
}

/// The state of a verdict or of a notice, by a shape and a word.
#[filter_fn]
pub(super) fn state(name: impl Display, _: &dyn Values) -> Result<Safe<String>> {
    let (class, symbol, text) = match name.to_string().as_str() {
        "new" => ("new", "\u{2731}", "new"),
        "acknowledged" => ("acknowledged", "\u{25d0}", "acknowledged"),
        "notified" => ("notified", "\u{2709}", "notified"),
        "resolved" => ("resolved", "\u{2713}", "resolved"),
        "false_positive" => ("false-positive", "\u{2715}", "false positive"),
        "waiting" => ("new", "\u{2731}", "waiting"),
        "approved" => ("acknowledged", "\u{25d0}", "approved"),
        "sent" => ("resolved", "\u{2713}", "sent"),
        "failed" => ("critical", "\u{25b2}", "failed"),
        "expired" => ("plain", "\u{2715}", "expired"),
        "rejected" => ("plain", "\u{2715}", "rejected"),
        "superseded" => ("plain", "\u{2715}", "superseded"),
        _ => return Ok(Safe(String::new())),
    };
    Ok(badge(class, symbol, text))
}

fn badge(class: &str, symbol: &str, text: &str) -> Safe<String> {
    Safe(format!(
        "<span class=\"badge {class}\"><span aria-hidden=true>{symbol}</span> {text}</span>"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_turns_a_line_is_a_sign_and_markup_is_escaped() {
        let written = |text: &str| {
            let Ok(text) = escape(text, Text);
            text.to_string()
        };
        assert_eq!(
            written("<b>&\u{202e}x\u{2069}"),
            "&#60;b&#62;&#38;\u{fffd}x\u{fffd}"
        );
        assert_eq!(written("\u{1b}[2J"), "\u{fffd}[2J");
        let letters = "\u{5e9}\u{5dc}\u{5d5}\u{5dd} 22 (1)";
        assert_eq!(written(letters), letters);
    }
}
