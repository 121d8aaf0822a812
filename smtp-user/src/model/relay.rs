//! Known relays: own hosts that send mail for others.
//!
//! Contract: an entry is of the configuration, or was added by a person and is in the store with who did
//! it and when. An entry of the store is never deleted: it is ended, by whom, when and why.

use ipnet::IpNet;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::de::{Deserializer, Error as _};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::prefix;
use crate::written::Written;

/// Most characters of a reason and of an owner: longer ones do not fit a report.
pub const MAX_TEXT: usize = 200;

/// How the reason begins for which a verdict is resolved when its host becomes a known relay: that says
/// nothing of whether the verdict was right.
pub const RESOLVED_AS_RELAY: &str = "known relay ";

/// A known relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relay {
    /// Whom it excuses.
    #[serde(deserialize_with = "prefix")]
    pub prefix: IpNet,
    /// Why it is known.
    #[serde(deserialize_with = "text")]
    pub reason: String,
    /// Who answers for it.
    #[serde(deserialize_with = "text")]
    pub owner: String,
    /// The last day, in UTC, on which it excuses anybody.
    #[serde(default, with = "date", skip_serializing_if = "Option::is_none")]
    pub expires: Option<Date>,
    /// More connections than this in an hour are a warning; no other rule is applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
}

impl Relay {
    /// Whether its last day is over, in milliseconds since 1970.
    pub fn is_expired(&self, now: u64) -> bool {
        let Some(last) = self.expires else {
            return false;
        };
        let end = last
            .tomorrow()
            .and_then(|end| TimeZone::UTC.to_timestamp(end.at(0, 0, 0, 0)))
            .map(|end| u64::try_from(end.as_millisecond()).unwrap_or(0));
        // The last day of the calendar does not end.
        end.is_ok_and(|end| end <= now)
    }
}

/// Where an entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// From the configuration, `[[relay]]`.
    Config,
    /// From the store.
    Store,
}

impl Origin {
    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Store => "store",
        }
    }

    /// As in a sentence.
    pub const fn place(self) -> &'static str {
        match self {
            Self::Config => "the configuration",
            Self::Store => "the store",
        }
    }
}

/// An entry of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRelay {
    /// Its number, never given again.
    pub id: u64,
    /// The entry.
    pub relay: Relay,
    /// When it was added, in milliseconds since 1970.
    pub added_at: u64,
    /// Who added it.
    pub added_by: String,
    /// How it was ended, if it was.
    pub ended: Option<Ended>,
}

/// That an entry was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// By whom.
    pub by: String,
    /// Why.
    pub why: String,
}

/// Checks a reason or an owner.
pub fn check_text(text: &str) -> Result<(), String> {
    let length = text.chars().count();
    if text.trim().is_empty() || length > MAX_TEXT || text.contains(char::is_control) {
        return Err(format!(
            "{text:?} is no text of 1 to {MAX_TEXT} characters in one line"
        ));
    }
    Ok(())
}

/// Reads the last day of an entry.
pub fn parse_day(text: &str) -> Result<Date, String> {
    // Nothing but a day, of all that the library reads.
    let day = text.parse::<Date>().ok();
    day.filter(|day| day.to_string() == text)
        .ok_or_else(|| format!("{text:?} is no date: expected one such as \"2027-06-30\""))
}

fn prefix<'de, D: Deserializer<'de>>(from: D) -> Result<IpNet, D::Error> {
    from.deserialize_str(Written {
        expected: "a prefix as text, such as \"192.0.2.25/32\"",
        parse: prefix::parse,
    })
}

fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    check_text(&text).map_err(D::Error::custom)?;
    Ok(text)
}

mod date {
    use super::*;

    pub(super) fn serialize<S: Serializer>(date: &Option<Date>, to: S) -> Result<S::Ok, S::Error> {
        match date {
            Some(date) => to.collect_str(date),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Date>, D::Error> {
        let expected = "a date as text, such as \"2027-06-30\"";
        let parse = parse_day;
        from.deserialize_str(Written { expected, parse }).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(expires: &str) -> Relay {
        Relay {
            prefix: "192.0.2.25/32".parse().expect("a prefix"),
            reason: "relay".to_owned(),
            owner: "postmaster".to_owned(),
            expires: Some(expires.parse().expect("a date")),
            connections: None,
        }
    }

    #[test]
    fn an_entry_holds_through_its_last_day() {
        // 2026-11-25T00:00:00Z
        let midnight = 1_795_564_800_000;
        assert!(!relay("2026-11-24").is_expired(midnight - 1));
        assert!(relay("2026-11-24").is_expired(midnight));
        assert!(!relay("9999-12-31").is_expired(u64::MAX));
    }

    #[test]
    fn a_day_is_written_in_one_way() {
        assert!(parse_day("2027-06-30").is_ok());
        for text in [
            "2027-06-31",
            "20270630",
            "2027-6-30",
            "2027-06-30T00:00",
            "",
            "soon",
        ] {
            assert!(parse_day(text).is_err(), "{text:?}");
        }
    }
}
