//! Known relays: own hosts that send mail for others.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::de::{Deserializer, Error as _};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::value::Written;

/// How an entry is written, as comments in a configuration without one.
pub const EXAMPLE: &str = "\
# Known relays: hosts that send mail for others. They stay counted and visible, but are never
# judged, and whoever asks why is told the entry. The longest prefix counts.
# [[relay]]
# prefix = \"192.0.2.25/32\"
# reason = \"the mail relay of the staff\"
# owner = \"postmaster@example.org\"
# The last day, in UTC, on which the entry excuses anybody; unset: it has no end.
# expires = \"2027-06-30\"
# If set, more connections than this in a UTC hour are a warning, and no other rule is applied.
# connections = 5000
";

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

/// Checks what one entry alone does not show: that no two are of the same prefix.
pub fn check_relays(relays: &[Relay]) -> Result<(), (&'static str, String)> {
    for (i, relay) in relays.iter().enumerate() {
        if relays[..i].iter().any(|other| other.prefix == relay.prefix) {
            let error = format!("{} has two entries; give it one", relay.prefix);
            return Err(("relay.prefix", error));
        }
    }
    Ok(())
}

/// Known relays, those with the longest prefix first.
#[derive(Clone, Debug)]
pub(super) struct Relays(Vec<Relay>);

impl Relays {
    pub(super) fn new(mut relays: Vec<Relay>) -> Self {
        relays.sort_by_key(|relay| std::cmp::Reverse(relay.prefix.prefix_len()));
        Self(relays)
    }

    /// The length of the longest prefix with this address, of expired ones as well, so that it stays
    /// the same subject.
    pub(super) fn length(&self, address: IpAddr) -> Option<u8> {
        self.0
            .iter()
            .find(|relay| relay.prefix.contains(&address))
            .map(|relay| relay.prefix.prefix_len())
    }

    /// The entry that counts for this subject now.
    pub(super) fn of(&self, subject: &IpNet, now: u64) -> Option<&Relay> {
        self.0
            .iter()
            .find(|relay| relay.prefix.contains(subject) && !relay.is_expired(now))
    }

    /// Entries that excuse nobody any more.
    pub(super) fn expired(&self, now: u64) -> impl Iterator<Item = &Relay> {
        self.0.iter().filter(move |relay| relay.is_expired(now))
    }
}

fn prefix<'de, D: Deserializer<'de>>(from: D) -> Result<IpNet, D::Error> {
    from.deserialize_str(Written {
        expected: "a prefix as text, such as \"192.0.2.25/32\"",
        parse: crate::model::prefix::parse,
    })
}

/// Longer ones do not fit a report.
const MAX_TEXT: usize = 200;

fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    let length = text.chars().count();
    if text.trim().is_empty() || length > MAX_TEXT || text.contains(char::is_control) {
        return Err(D::Error::custom(format!(
            "{text:?} is no text of 1 to {MAX_TEXT} characters in one line"
        )));
    }
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
        let parse = |text: &str| {
            text.parse::<Date>()
                .map_err(|_| format!("{text:?} is no date: expected one such as \"2027-06-30\""))
        };
        let expected = "a date as text, such as \"2027-06-30\"";
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
    fn the_longest_prefix_that_has_not_expired_counts() {
        let mut wide = relay("2030-01-01");
        wide.prefix = "192.0.2.0/24".parse().expect("a prefix");
        let relays = Relays::new(vec![wide.clone(), relay("2026-11-24")]);
        let host = "192.0.2.25/32".parse().expect("a prefix");
        assert_eq!(relays.of(&host, 0).map(|r| r.prefix), Some(host));
        assert_eq!(relays.of(&host, 1_795_564_800_000), Some(&wide));
        assert_eq!(relays.expired(1_795_564_800_000).count(), 1);
    }
}
