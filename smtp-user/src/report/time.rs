//! Periods that people ask for, and times as they are shown: all in UTC.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

pub use crate::model::period::parse_time;
use crate::model::period::{Period, Tier};

/// A calendar month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month(Date);

impl Month {
    /// As `2026-11`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let month = || -> Option<Self> {
            let (year, month) = text.split_once('-')?;
            if year.len() != 4 || month.len() != 2 {
                return None;
            }
            let date = Date::new(year.parse().ok()?, month.parse().ok()?, 1).ok()?;
            (date.year() >= 1970).then_some(Self(date))
        };
        month().ok_or_else(|| format!("{text:?} is no month: expected one such as 2026-11"))
    }

    /// The month that this time is in, in milliseconds since 1970.
    pub fn of(time: u64) -> Self {
        Self(civil(time).date().first_of_month())
    }

    /// So many months later, or earlier where it is less than none.
    pub fn plus(self, months: i32) -> Self {
        Self(self.0.checked_add(months.months()).unwrap_or(self.0))
    }

    /// Its first millisecond.
    pub fn start(self) -> u64 {
        start_of(self.0)
    }

    /// From its first millisecond to the first one after it.
    pub fn period(self) -> Period {
        let next = self.0.checked_add(1.month()).unwrap_or(self.0);
        Period {
            from: start_of(self.0),
            to: start_of(next),
        }
    }
}

impl std::fmt::Display for Month {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}", self.0.year(), self.0.month())
    }
}

/// What period is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// So many milliseconds up to the newest window.
    Since(u64),
    /// A calendar month.
    Month(Month),
    /// From a time to another or to the newest window.
    Between(u64, Option<u64>),
}

impl Asked {
    /// The period, given when the newest window ended.
    pub fn period(self, now: u64) -> Period {
        match self {
            Self::Since(length) => Period {
                from: now.saturating_sub(length),
                to: now,
            },
            Self::Month(month) => month.period(),
            Self::Between(from, to) => Period {
                from,
                to: to.unwrap_or(now),
            },
        }
    }
}

/// A length of time such as `90m`, `24h` or `30d`, in milliseconds.
pub fn parse_span(text: &str) -> Result<u64, String> {
    let span = || {
        let number = text.get(..text.len().checked_sub(1)?)?;
        let length = match text.as_bytes().last()? {
            b'm' => 60_000,
            b'h' => 3_600_000,
            b'd' => 86_400_000,
            b'w' => 7 * 86_400_000,
            _ => return None,
        };
        let number: u64 = number.parse().ok()?;
        number.checked_mul(length).filter(|span| *span != 0)
    };
    span().ok_or_else(|| {
        format!("{text:?} is no length of time: expected one such as 90m, 24h, 30d or 4w")
    })
}

fn start_of(date: Date) -> u64 {
    let start = TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0));
    start.map_or(0, |start| {
        u64::try_from(start.as_millisecond()).unwrap_or(0)
    })
}

fn civil(time: u64) -> DateTime {
    let time = i64::try_from(time)
        .ok()
        .and_then(|time| Timestamp::from_millisecond(time).ok());
    TimeZone::UTC.to_datetime(time.unwrap_or(Timestamp::UNIX_EPOCH))
}

/// To the second, as `2026-11-24 14:47:49`.
pub fn seconds(time: u64) -> String {
    civil(time).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// To the minute, as `2026-11-24 14:47`.
pub fn minutes(time: u64) -> String {
    civil(time).strftime("%Y-%m-%d %H:%M").to_string()
}

/// The UTC day as people call it, as `Tue 24 Nov`.
pub fn weekday(time: u64) -> String {
    civil(time).strftime("%a %d %b").to_string()
}

/// The UTC day, as a number.
pub const fn day(time: u64) -> u64 {
    Tier::Day.start_of(time) / 86_400_000
}

/// A period as text.
pub fn period(period: &Period) -> String {
    format!("{} to {} UTC", seconds(period.from), seconds(period.to))
}

/// A length of time in words, as `3d 4h` or `12m 5s`; a part that is 0 is left out.
pub fn span(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let parts: Vec<_> = parts
        .into_iter()
        .skip_while(|(number, _)| *number == 0)
        .take(2)
        .filter(|(number, _)| *number != 0)
        .map(|(number, unit)| format!("{number}{unit}"))
        .collect();
    if parts.is_empty() {
        "0s".to_owned()
    } else {
        parts.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::period::rfc3339;

    #[test]
    fn a_month_is_from_midnight_to_midnight_in_utc() {
        let month = Month::parse("2026-11").expect("a month");
        let Period { from, to } = month.period();
        assert_eq!(rfc3339(from), "2026-11-01T00:00:00.000Z");
        assert_eq!(rfc3339(to), "2026-12-01T00:00:00.000Z");
        assert_eq!(month.to_string(), "2026-11");
        assert_eq!(Month::of(from), month);
        assert_eq!(Month::of(to - 1), month);
        assert_ne!(Month::of(to), month);
        let december = Month::parse("2026-12").expect("a month").period();
        assert_eq!(rfc3339(december.to), "2027-01-01T00:00:00.000Z");
    }

    #[test]
    fn what_is_no_month_is_refused() {
        for text in [
            "",
            "2026",
            "2026-13",
            "2026-00",
            "2026-1",
            "26-11",
            "2026-11-01",
            "1969-12",
            "-026-11",
        ] {
            let error = Month::parse(text).expect_err(text);
            assert!(error.contains("such as 2026-11"), "{error}");
        }
    }

    #[test]
    fn lengths_and_times_are_read() {
        assert_eq!(parse_span("90m"), Ok(5_400_000));
        assert_eq!(parse_span("30d"), Ok(30 * 86_400_000));
        for text in [
            "",
            "d",
            "0h",
            "5",
            "5s",
            "-1d",
            "1.5h",
            "99999999999999999d",
            "5\u{e9}",
        ] {
            assert!(parse_span(text).is_err(), "{text}");
        }
        for text in [
            "2026-11-24T14:00:00Z",
            "2026-11-24T14:00",
            "2026-11-24T15:00:00+01:00",
        ] {
            assert_eq!(parse_time(text), Ok(1_795_528_800_000), "{text}");
        }
        assert_eq!(parse_time("2026-11-24"), Ok(1_795_478_400_000));
        for text in ["", "yesterday", "2026-11-31", "1960-01-01"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lengths_are_told_by_their_two_largest_parts() {
        for (milliseconds, expected) in [
            (0, "0s"),
            (59_999, "59s"),
            (725_000, "12m 5s"),
            (3_600_000, "1h"),
            (273_600_000, "3d 4h"),
        ] {
            assert_eq!(span(milliseconds), expected);
        }
    }
}
