//! The time that a list is of: `period=`.
#![forbid(unsafe_code)]

use std::fmt;

use crate::model::period::Period;
use crate::report::time::Month;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::serve) enum Span {
    /// Since counts add up, from the list in memory.
    All,
    /// The last window, likewise.
    Window,
    /// So many milliseconds up to the end of the newest window.
    Last(u64),
    /// A calendar month, UTC.
    Month(Month),
}

impl Span {
    /// What can be written, for messages and documentation.
    pub(in crate::serve) const ALLOWED: &str = "all, window, a length of time up to the newest window such as 5m, 24h or 30d (at most \
         999999m, 9999h, 730d), or a month such as 2026-11";
    /// Likewise, for what is read from history alone.
    pub(in crate::serve) const KEPT_ALLOWED: &str = "a length of time up to the newest window such as 5m, 24h or 30d (at most 999999m, 9999h, \
         730d), or a month such as 2026-11";
    /// Both as regular expressions.
    const LENGTHS: &str =
        "[1-9][0-9]{0,5}m|[1-9][0-9]{0,3}h|([1-9][0-9]?|[1-6][0-9]{2}|7[0-2][0-9]|730)d";
    const MONTHS: &str = "(19[7-9][0-9]|[2-9][0-9]{3})-(0[1-9]|1[0-2])";

    /// What is understood, as a regular expression; `live` with `all` and `window`.
    pub(in crate::serve) fn pattern(live: bool) -> String {
        let live = if live { "all|window|" } else { "" };
        format!("^({live}{}|{})$", Self::LENGTHS, Self::MONTHS)
    }

    /// A month, likewise.
    pub(in crate::serve) fn month_pattern() -> String {
        format!("^{}$", Self::MONTHS)
    }

    /// Reads one that is kept in history.
    pub(in crate::serve) fn parse_kept(text: &str) -> Option<Self> {
        if let Ok(month) = Month::parse(text) {
            return Some(Self::Month(month));
        }
        let digits = text.get(..text.len().checked_sub(1)?)?;
        if digits.starts_with('0') || !digits.bytes().all(|octet| octet.is_ascii_digit()) {
            return None;
        }
        let (unit, most) = match text.as_bytes().last()? {
            b'm' => (MINUTE, 999_999),
            b'h' => (HOUR, 9_999),
            b'd' => (DAY, 730),
            _ => return None,
        };
        let number: u64 = digits.parse().ok()?;
        (1..=most)
            .contains(&number)
            .then(|| Self::Last(number * unit))
    }

    /// Reads any.
    pub(in crate::serve) fn parse(text: &str) -> Option<Self> {
        match text {
            "all" => Some(Self::All),
            "window" => Some(Self::Window),
            _ => Self::parse_kept(text),
        }
    }

    /// The period in history, given when the newest window ended; `None` for what is in memory.
    pub(in crate::serve) fn period(self, now: u64) -> Option<Period> {
        match self {
            Self::All | Self::Window => None,
            Self::Last(length) => Some(Period {
                from: now.saturating_sub(length),
                to: now,
            }),
            Self::Month(month) => Some(month.period()),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Window => f.write_str("window"),
            Self::Last(length) if length % DAY == 0 && length / DAY <= 730 => {
                write!(f, "{}d", length / DAY)
            }
            Self::Last(length) if length % HOUR == 0 => write!(f, "{}h", length / HOUR),
            Self::Last(length) => write!(f, "{}m", length / MINUTE),
            Self::Month(month) => write!(f, "{month}"),
        }
    }
}
