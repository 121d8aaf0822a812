//! Hours of the day in which nothing leaves.
//!
//! Contract: by the clock on the wall of a time zone, so that they hold through changes of it; the hour that a
//! change of the clock leaves out or doubles is quiet if its times are.

use std::fmt;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use crate::written::Written;

/// From a minute of the day up to another, which may be of the next day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuietHours {
    /// The first minute, from midnight.
    from: u16,
    /// The first one after them.
    to: u16,
}

impl QuietHours {
    /// As `22:00-07:00`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let minute = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let number = |text: &str, most: u16| {
                let good = text.len() == 2 && text.bytes().all(|octet| octet.is_ascii_digit());
                let number: Option<u16> = text.parse().ok();
                number.filter(|number| good && *number <= most)
            };
            Some(number(hour, 23)? * 60 + number(minute, 59)?)
        };
        let hours = || {
            let (from, to) = text.split_once('-')?;
            let (from, to) = (minute(from)?, minute(to)?);
            (from != to).then_some(Self { from, to })
        };
        hours().ok_or_else(|| {
            format!("{text:?} are no quiet hours: expected FROM-TO, such as \"22:00-07:00\"")
        })
    }

    /// Whether this minute of the day is one of them.
    const fn has(self, minute: u16) -> bool {
        if self.from < self.to {
            self.from <= minute && minute < self.to
        } else {
            minute >= self.from || minute < self.to
        }
    }

    /// When they end, if `now` is one of them; both in milliseconds since 1970.
    pub fn until(self, now: u64, zone: &TimeZone) -> Option<u64> {
        let time = i64::try_from(now)
            .ok()
            .and_then(|now| Timestamp::from_millisecond(now).ok())?
            .to_zoned_datetime(zone.clone());
        let number = |number: i8| u16::from(number.unsigned_abs());
        let minute = |time: Time| number(time.hour()) * 60 + number(time.minute());
        if !self.has(minute(time.time())) {
            return None;
        }
        let ends = Time::new((self.to / 60) as i8, (self.to % 60) as i8, 0, 0).ok()?;
        // Today, or if that is over, tomorrow.
        let today = time.with().time(ends).build().ok()?;
        let end = if today > time {
            today
        } else {
            let tomorrow = time.checked_add(Span::new().days(1)).ok()?;
            tomorrow.with().time(ends).build().ok()?
        };
        u64::try_from(end.timestamp().as_millisecond()).ok()
    }
}

impl fmt::Display for QuietHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(
            f,
            "{:02}:{:02}-{:02}:{:02}",
            from / 60,
            from % 60,
            to / 60,
            to % 60
        )
    }
}

impl Serialize for QuietHours {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for QuietHours {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Written {
            expected: "quiet hours as text, such as \"22:00-07:00\"",
            parse: Self::parse,
        })
    }
}

/// A time zone by its name in the database of the machine (tzdata).
pub(super) fn time_zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| {
        format!(
            "{name:?} is no time zone of this machine: name one of `timedatectl list-timezones`, such as \
             Europe/Berlin or UTC (Debian's package tzdata has them)"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(text: &str) -> u64 {
        let time: Timestamp = text.parse().expect(text);
        time.as_millisecond().unsigned_abs()
    }

    #[test]
    fn hours_are_read_as_they_are_written() {
        for text in ["22:00-07:00", "00:00-23:59", "12:30-13:30"] {
            assert_eq!(QuietHours::parse(text).expect(text).to_string(), text);
        }
        for text in [
            "",
            "22-7",
            "22:00",
            "24:00-07:00",
            "22:60-07:00",
            "1:00-2:00",
            "07:00-07:00",
            "+1:00-02:00",
        ] {
            QuietHours::parse(text).expect_err(text);
        }
    }

    #[test]
    fn they_end_by_the_clock_on_the_wall() {
        let zone = |name| TimeZone::get(name).expect(name);
        for (hours, name, now, until) in [
            ("22:00-07:00", "UTC", "2026-11-27T21:59:59.999Z", None),
            (
                "22:00-07:00",
                "UTC",
                "2026-11-27T22:00:00Z",
                Some("2026-11-28T07:00:00Z"),
            ),
            (
                "22:00-07:00",
                "UTC",
                "2026-11-28T06:59:59Z",
                Some("2026-11-28T07:00:00Z"),
            ),
            ("22:00-07:00", "UTC", "2026-11-28T07:00:00Z", None),
            (
                "12:00-13:00",
                "UTC",
                "2026-11-28T12:30:00Z",
                Some("2026-11-28T13:00:00Z"),
            ),
            // CET is an hour ahead.
            (
                "22:00-07:00",
                "Europe/Berlin",
                "2026-11-27T21:30:00Z",
                Some("2026-11-28T06:00:00Z"),
            ),
            // The night in which the clock goes forward is an hour shorter, the other one longer.
            (
                "22:00-07:00",
                "Europe/Berlin",
                "2026-03-28T22:00:00Z",
                Some("2026-03-29T05:00:00Z"),
            ),
            (
                "22:00-07:00",
                "Europe/Berlin",
                "2026-10-24T21:00:00Z",
                Some("2026-10-25T06:00:00Z"),
            ),
            // 02:30 is left out that night: its end is an hour later.
            (
                "01:00-02:30",
                "Europe/Berlin",
                "2026-03-29T00:30:00Z",
                Some("2026-03-29T01:30:00Z"),
            ),
        ] {
            let hours = QuietHours::parse(hours).expect(hours);
            let found = hours.until(milliseconds(now), &zone(name));
            assert_eq!(found, until.map(milliseconds), "{hours} {name} {now}");
        }
    }
}
